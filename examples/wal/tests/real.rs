//! The built program on real files.

use std::path::Path;
use std::process::{Command, Output};

fn wal(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wal")).args(arguments).output().expect("the binary was built")
}

/// What the program prints, and its exit status.
fn check(arguments: &[&str], printed: &str, status: i32) {
    let output = wal(arguments);
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains(printed), "{arguments:?}: {text}");
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
}

#[test]
fn records_are_appended_printed_and_cut() {
    let place = tempfile::tempdir().expect("there is room");
    let dir = place.path().join("journal");
    let dir = dir.to_str().expect("a plain name");
    check(&["print", dir], "No such file or directory", 1);
    assert!(!Path::new(dir).exists(), "printing makes nothing");
    check(&["append", dir, "one", "two"], "1\n2\n", 0);
    check(&["append", dir, "three"], "3\n", 0);
    check(&["print", dir], "1 one\n2 two\n3 three\n", 0);
    check(&["cut", dir, "5"], "cannot cut at record 5; expected 1 to 4", 2);
    check(&["cut", dir, "3"], "", 0);
    check(&["print", dir], "3 three\n", 0);
    check(&["cut", dir, "4"], "", 0);
    check(&["append", dir, "four"], "4\n", 0);
    check(&["print", dir], "4 four\n", 0);
    std::fs::write(Path::new(dir).join("log"), "notes").expect("there is room");
    check(&["append", dir, "five"], "does not begin as a log does", 1);
    check(&["append"], "Usage: wal append", 2);
}
