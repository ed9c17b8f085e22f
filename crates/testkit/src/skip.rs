//! Tests that cannot run here say so.

use rustix::process::geteuid;

/// Says on standard error that a test did not run, and why. The line starts with `SKIPPED` so that it is found.
pub fn skipped(test: &str, why: &str) {
    eprintln!("SKIPPED {test}: {why}");
}

/// Whether the user of the tests is root; says so when not.
pub fn is_root(test: &str) -> bool {
    let root = geteuid().is_root();
    if !root {
        skipped(test, "needs root");
    }
    root
}

/// Whether a program can be found; says so when not.
pub fn has(test: &str, program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(program).exists());
    if !found {
        skipped(test, &format!("needs the program '{program}'"));
    }
    found
}
