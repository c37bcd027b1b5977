//! Which states a power loss may leave: as a table written from the sources (`allowed.txt`), computed by brute force from the
//! same rules (`oracle.rs`), visited by the enumerator and drawn by seeds. A state too many is a false alarm for users; one
//! too few is a bug that they will not find.

mod machine;
mod oracle;
mod program;

use machine::Machine;
use program::{Call, Given, Program};
use sim_disk::Profile;
use std::collections::BTreeSet;

/// What is in one set and not in the other.
fn differences(found: &BTreeSet<String>, allowed: &BTreeSet<String>) -> Result<(), String> {
    let extra: Vec<&String> = found.difference(allowed).take(6).collect();
    let missing: Vec<&String> = allowed.difference(found).take(6).collect();
    match extra.is_empty() && missing.is_empty() {
        true => Ok(()),
        false => Err(format!("not allowed: {extra:?}; missing: {missing:?}")),
    }
}

fn after(profile: Profile, program: &Program) -> Machine {
    let mut machine = Machine::new(profile, &program.given);
    for call in &program.does {
        machine.run(call).unwrap_or_else(|error| panic!("{program}: {call:?} is {error}"));
    }
    machine
}

/// Compares, for each program of the table and each profile, what `found` finds with what is allowed.
fn compare(found: impl Fn(Profile, &Program) -> BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for program in program::allowed() {
        for (profile, allowed) in [(Profile::Linux, &program.linux), (Profile::Strict, &program.strict)] {
            let found = found(profile, &program);
            wrong.extend(differences(&found, allowed).err().map(|d| format!("{program} under {profile:?}: {d}")));
        }
    }
    wrong
}

fn assert_none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "{} programs:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_table_and_the_oracle_agree() {
    assert_none(compare(|profile, program| oracle::states(profile, &program.given, &program.does)));
}

#[test]
fn the_enumerator_visits_exactly_what_is_allowed() {
    assert_none(compare(|profile, program| after(profile, program).crash_states()));
}

#[test]
fn the_first_state_lost_nothing_and_a_second_power_loss_takes_nothing_more() {
    for program in program::allowed() {
        for profile in [Profile::Linux, Profile::Strict] {
            let mut machine = after(profile, &program);
            let mut states = machine.each_crash();
            assert_eq!(states.next().expect("there is one").state(), machine.state(), "{program}");
            for mut left in states {
                let found = left.state();
                assert_eq!(left.crash_states(), [found].into(), "{program}");
            }
        }
    }
}

#[test]
fn seeds_leave_exactly_what_is_allowed() {
    assert_none(compare(|profile, program| {
        let machine = after(profile, program);
        (0..3000).map(|seed| machine.crashed(seed)).collect()
    }));
}

/// The canary: a state too many and a state too few, planted in any of the sets, are both found.
#[test]
fn a_planted_state_and_a_missing_one_are_found() {
    let programs = program::allowed();
    assert!(programs.len() >= 60, "{}", programs.len());
    for program in &programs {
        for (profile, allowed) in [(Profile::Linux, &program.linux), (Profile::Strict, &program.strict)] {
            let found = after(profile, program).crash_states();
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

/// The canary for the rules: a model that took the one profile for the other is found, in both directions.
#[test]
fn a_model_with_the_rules_of_the_other_profile_is_found() {
    let other = |profile| if profile == Profile::Linux { Profile::Strict } else { Profile::Linux };
    let wrong = compare(|profile, program| after(other(profile), program).crash_states());
    assert!(wrong.iter().filter(|w| w.contains("under Linux") && !w.contains("not allowed: []")).count() > 10);
    assert!(wrong.iter().filter(|w| w.contains("under Strict") && !w.contains("missing: []")).count() > 10);
}

/// What the enumerated programs are made of. Contents are small, so that all mixtures of all versions can be listed.
const CALLS: [&str; 25] = [
    "write f 100 c600",
    "write f 4090 d20",
    "write g 3 x2",
    "write h 0 z2",
    "set_len f 1",
    "set_len f 0",
    "set_len f 4096",
    "set_len g 4097",
    "sync f",
    "datasync f",
    "sync h",
    "sync /",
    "sync d",
    "create h",
    "create d/h",
    "rename g f",
    "rename f h",
    "rename f d/f",
    "rename d e",
    "exchange f g",
    "link f h",
    "unlink f",
    "unlink h",
    "create f",
    "rmdir d",
];

/// Bounded black-box testing of the model itself: every program of up to three of these calls.
#[test]
fn every_program_of_up_to_three_calls_leaves_what_the_oracle_allows() {
    let given = ["f a4100", "g b3", "d/"].map(Given::parse);
    let calls = CALLS.map(Call::parse);
    let (mut programs, mut states) = (0, 0);
    let mut wrong = Vec::new();
    for profile in [Profile::Linux, Profile::Strict] {
        let mut todo = vec![(Machine::new(profile, &given), Vec::new())];
        while let Some((machine, does)) = todo.pop()
            && wrong.len() < 20
        {
            let found = machine.crash_states();
            let allowed = oracle::states(profile, &given, &does);
            (programs, states) = (programs + 1, states + found.len());
            wrong.extend(differences(&found, &allowed).err().map(|d| format!("{does:?} under {profile:?}: {d}")));
            if does.len() == 3 {
                continue;
            }
            let syncs = |call: &&Call| matches!(call, Call::Sync(_) | Call::DataSync(_));
            for call in calls.iter().filter(|call| !(does.is_empty() && syncs(call))) {
                let mut next = machine.clone();
                if next.run(call).is_ok() {
                    todo.push((next, [&does[..], std::slice::from_ref(call)].concat()));
                }
            }
        }
    }
    assert_none(wrong);
    println!("{programs} programs, {states} states");
    assert!(programs > 10_000 && states > 100_000, "{programs} programs, {states} states");
}
