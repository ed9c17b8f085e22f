//! The limits of `benches/instructions.rs`, as a test: what a message costs in instructions, counted by callgrind in a
//! release build.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// The first line of each part's result.
const PARTS: usize = 10;

#[test]
fn what_a_message_goes_through_stays_within_its_count_of_instructions() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        assert!(env::var_os("CI").is_none(), "valgrind is missing");
        eprintln!("SKIPPED: valgrind is not installed");
        return;
    }
    let runner = runner();
    let mut path = vec![runner];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let output = cargo(&["bench", "--package", "qga-proto", "--bench", "instructions"])
        .env("PATH", env::join_paths(path).unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    print!("{text}");
    assert!(output.status.success(), "{text}\n{complaints}");
    let counted = text.lines().filter(|line| line.trim_start().starts_with("Instructions:")).count();
    assert_eq!(counted, PARTS, "{text}\n{complaints}");
}

/// Builds what counts and returns its directory.
fn runner() -> PathBuf {
    let status = cargo(&["build", "--quiet", "--package", "qga-testkit", "--bin", "iai-callgrind-runner"]).status();
    assert!(status.unwrap().success());
    // This test is target/PROFILE/deps/instructions-HASH.
    env::current_exe().unwrap().ancestors().nth(3).unwrap().join("debug")
}

fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).arg("--locked").current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}
