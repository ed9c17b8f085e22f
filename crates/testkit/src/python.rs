//! Clients of agents that are written in Python: in an environment of their own, which `cargo xtask test` makes.

use std::env;
use std::path::{Path, PathBuf};

use crate::skip;

/// The environment's directory below cargo's target directory.
pub const DIRECTORY: &str = "python";

/// The interpreter that finds those clients; none, and a word about it, where `cargo xtask test` has not run or had no
/// package index.
///
/// # Panics
/// When there is none although `CI` is `true`: there nothing may be left out.
pub fn interpreter(test: &str) -> Option<PathBuf> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(default_target, PathBuf::from);
    let path = target.join(DIRECTORY).join("bin/python3");
    if path.exists() {
        return Some(path);
    }
    let why = format!("needs the clients in Python that cargo xtask test installs; there is no {}", path.display());
    assert!(env::var_os("CI").is_none_or(|value| value != "true"), "{test} {why}");
    skip::skipped(test, &why);
    None
}

/// Where cargo puts what it builds when it is not told otherwise.
fn default_target() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).join("target")
}
