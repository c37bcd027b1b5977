//! Which states a power loss may leave: committed as a table (`allowed.txt`), computed by brute force (`oracle.rs`).

mod oracle;
mod program;

use sim_disk::Profile;
use std::collections::BTreeSet;

/// What is in one set and not in the other.
fn differences(found: &BTreeSet<String>, allowed: &BTreeSet<String>) -> Result<(), String> {
    let extra: Vec<&String> = found.difference(allowed).collect();
    let missing: Vec<&String> = allowed.difference(found).collect();
    match extra.is_empty() && missing.is_empty() {
        true => Ok(()),
        false => Err(format!("not allowed: {extra:?}; missing: {missing:?}")),
    }
}

#[test]
fn table_and_oracle_agree() {
    let mut wrong = Vec::new();
    for program in program::allowed() {
        for (profile, allowed) in [(Profile::Linux, &program.linux), (Profile::Strict, &program.strict)] {
            let found = oracle::states(profile, &program.given, &program.does);
            wrong.extend(differences(&found, allowed).err().map(|d| format!("{program} under {profile:?}: {d}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The canary: a state too many and a state too few, planted in any of the sets, are both found.
#[test]
fn a_planted_state_and_a_missing_one_are_found() {
    let programs = program::allowed();
    assert!(programs.len() >= 60, "{}", programs.len());
    for program in &programs {
        for (profile, allowed) in [(Profile::Linux, &program.linux), (Profile::Strict, &program.strict)] {
            let found = oracle::states(profile, &program.given, &program.does);
            for state in allowed {
                let mut fewer = allowed.clone();
                fewer.remove(state);
                assert_eq!(differences(&found, &fewer), Err(format!("not allowed: [{state:?}]; missing: []")));
            }
            let mut more = allowed.clone();
            more.insert("planted=x1".to_owned());
            assert_eq!(differences(&found, &more), Err("not allowed: []; missing: [\"planted=x1\"]".to_owned()));
        }
    }
}
