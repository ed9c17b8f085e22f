//! What a message costs in instructions, whatever the machine's speed: counted by callgrind in a release build.
//!
//! The program prepares all it needs and then runs one part twice, or nothing: the difference is two passes. (`iai-callgrind` does the same with a runner that has to be installed in the very version of the crate.)

use std::path::PathBuf;
use std::process::Command;

/// A part, how many bytes or members one pass has, and the most instructions for each of these: what was counted, and a
/// little for another compiler.
const LIMITS: &[(&str, u64, f64)] = &[
    ("framer-large", 256 << 10, 5.8),
    ("framer-small", 2_000, 4100.0),
    ("reader-large", 256 << 10, 0.85),
    ("reader-list", 2_000, 4550.0),
    ("bind-list", 2_000, 5000.0),
    ("writer-list", 2_000, 310.0),
    ("base64-encode", 256 << 10, 2.8),
    ("base64-check", 256 << 10, 1.9),
    ("base64-decode", 256 << 10, 2.1),
];

#[test]
fn what_a_message_goes_through_stays_within_its_count_of_instructions() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "valgrind is missing");
        eprintln!("SKIPPED: valgrind is not installed");
        return;
    }
    let program = build();
    let around = count(&program, "framer-large", 0);
    let mut complaints = Vec::new();
    for &(part, size, limit) in LIMITS {
        let counted = (count(&program, part, 2) - around) as f64 / 2.0 / size as f64;
        println!("{part}: {counted:.2} of at most {limit}");
        if counted > limit {
            complaints.push(format!("{part}: {counted:.2} instructions each, {limit} at most"));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// The program that has the parts, built as what is shipped.
fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--package", "qga-proto", "--example", "paths"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(status.success());
    // This test is target/PROFILE/deps/instructions-HASH.
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    target.join("release/examples/paths")
}

fn count(program: &PathBuf, part: &str, times: u32) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([part, &times.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{part}: {text}");
    let counted = text.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    counted.unwrap_or_else(|| panic!("{part}: no count in {text}"))
}
