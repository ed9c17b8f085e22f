//! Programs on the host: found, run to their end, or kept as children that never outlive the test.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use qga_testkit::wait;

/// Where programs are looked for: root's directories too, whoever runs the tests.
const DIRECTORIES: &[&str] = &["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The full path of a program of the host.
pub fn find(program: &str) -> Option<PathBuf> {
    DIRECTORIES.iter().map(|directory| Path::new(directory).join(program)).find(|path| path.is_file())
}

/// A command with a full path, so that it is found whatever `PATH` says.
///
/// # Panics
/// When the host has no such program.
pub fn command(program: &str) -> Command {
    match find(program) {
        Some(path) => Command::new(path),
        None => panic!("{program} is not installed on this host"),
    }
}

/// Runs a program to its end and gives its standard output.
///
/// # Panics
/// When it fails; what it printed is part of the message.
#[track_caller]
pub fn run<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> String {
    let output = output(command(program).args(arguments));
    assert!(output.status.success(), "{program} failed ({}): {}", output.status, text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command to its end without input.
///
/// # Panics
/// When it cannot be started.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => panic!("{} does not start: {error}", command.get_program().to_string_lossy()),
    }
}

/// Everything a program printed.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A long-running child: killed when dropped, and by the kernel when the test itself is killed.
#[derive(Debug)]
pub struct Kept(Child);

impl Kept {
    /// Starts `program` under setpriv(1), which asks for a SIGKILL at the end of its parent and becomes the program.
    /// `configure` adds arguments and redirections.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(program: &str, configure: impl FnOnce(&mut Command)) -> Self {
        let path = find(program).unwrap_or_else(|| panic!("{program} is not installed on this host"));
        let mut command = command("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(path).stdin(Stdio::null());
        configure(&mut command);
        match command.spawn() {
            Ok(child) => Self(child),
            Err(error) => panic!("{program} does not start: {error}"),
        }
    }

    /// The process number.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends it a signal, named without SIG.
    ///
    /// # Panics
    /// When it has ended.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        run("sh", &["-c".to_owned(), format!("kill -{name} {}", self.id())]);
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it is still there after the limit.
    #[track_caller]
    pub fn wait(&mut self, within: Duration) {
        wait::until("the end of a child process", within, || (!self.is_running()).then_some(()));
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Already gone is fine; there is nobody to tell about anything else.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
