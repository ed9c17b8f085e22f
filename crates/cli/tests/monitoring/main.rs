//! `qga top` and `qga exporter` with real agents, a real terminal and a real Prometheus.

mod exporter;
mod prometheus;
mod top;

use std::ffi::OsStr;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use qga_testkit::{Program, Setup, TestAgent};
use tempfile::TempDir;

/// Time for everything that is expected to work.
const ENOUGH: Duration = Duration::from_secs(60);

/// `qga` with these arguments and nothing of this user's settings.
fn qga<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qga"));
    command.args(args).env_remove("QGA_TARGET").env_remove("NO_COLOR").env("LC_ALL", "C.UTF-8");
    command
}

/// Every agent that is there, ours and the C one, each with its name.
fn agents(test: &str) -> Vec<(&'static str, TestAgent)> {
    let built = Path::new(env!("CARGO_BIN_EXE_qga")).with_file_name("qemu-ga");
    let programs = Program::each(test, &built);
    let named = |program: &Program| (if program.is_ours() { "ours" } else { "c" }, Setup::new(program).start());
    programs.iter().map(named).collect()
}

/// Says that a test, or a part of it, did not run; where everything has to run it fails.
fn missing(test: &str, what: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{test} needs {what}");
    qga_testkit::skip::skipped(test, &format!("needs {what}"));
}

/// A guest that is dead: its socket takes connections and nobody answers.
struct Dead {
    dir: TempDir,
    _listener: UnixListener,
}

impl Dead {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let _listener = UnixListener::bind(dir.path().join("sock")).unwrap();
        Dead { dir, _listener }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }
}

/// The options that name these sockets.
fn options<'a>(sockets: impl IntoIterator<Item = &'a Path>) -> Vec<String> {
    sockets.into_iter().flat_map(|socket| ["-t".to_owned(), socket.to_str().unwrap().to_owned()]).collect()
}
