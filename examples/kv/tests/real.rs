//! The built program on real sockets and files: what a user does by hand first.

use std::process::{Command, Output};

fn kv(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kv")).args(arguments).output().expect("the binary was built")
}

#[test]
fn the_demonstration_passes_its_own_checks() {
    let output = kv(&["demo", "--seconds", "1"]);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.contains("every check passed"), "{printed}");
}

#[test]
fn misuse_is_named_and_ends_with_status_2() {
    let check = |arguments: &[&str], expected: &str| {
        let output = kv(arguments);
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {printed}");
        assert!(printed.contains(expected), "{arguments:?}: {printed}");
    };
    check(&[], "Usage: kv");
    check(&["get"], "<KEY>");
    check(&["get", "a/b"], "contains '/'");
    check(&["put", "k", "v", "--servers", "nowhere"], "\"nowhere\" is not an address");
    check(&["serve", "--index", "3", "--peers", "a:1,b:1,c:1", "--data", "/tmp"], "index 3");
    check(&["serve", "--index", "0", "--peers", "a:1,b:1", "--data", "/tmp"], "not 2");
}
