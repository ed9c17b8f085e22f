//! The host's own program, `qga`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::agent::{target_directory, workspace};
use crate::process;

/// `QGA` when set, else the debug build, brought up to date.
///
/// # Panics
/// When the named file is missing or the build fails.
pub fn program() -> PathBuf {
    if let Some(path) = env::var_os("QGA").filter(|value| !value.is_empty()).map(PathBuf::from) {
        assert!(path.is_file(), "there is no qga at {}", path.display());
        return path;
    }
    // Once: what is tested does not change in the middle of a test.
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build).clone()
}

fn build() -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = process::output(Command::new(cargo).args(["build", "--package", "qga"]).current_dir(workspace()));
    assert!(output.status.success(), "qga cannot be built:\n{}", process::text(&output));
    target_directory().join("debug/qga")
}

/// A command that runs it, without targets of the caller's environment.
pub fn command(program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.env_remove("QGA_TARGET").env("LC_ALL", "C").stdin(Stdio::null()).args(args);
    command
}
