//! A running agent, ours or the C one, with a directory of its own and a unix socket to talk to it.
//!
//! The agent runs on this very machine, as the user of the tests, who is often root. So the commands that could harm
//! it are blocked by name unless a test lets them through, and what they would need of root's powers is taken away
//! from the process as well.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::host::{Host, PATIENCE};
use crate::wait;

/// What is never sent to an agent on the machine of the tests, unless a test says so.
pub const DANGEROUS: &[&str] = &[
    "guest-shutdown",
    "guest-suspend-disk",
    "guest-suspend-ram",
    "guest-suspend-hybrid",
    "guest-set-time",
    "guest-fsfreeze-freeze",
    "guest-fsfreeze-freeze-list",
    "guest-fstrim",
    "guest-set-vcpus",
    "guest-set-memory-blocks",
    "guest-set-user-password",
    "guest-ssh-add-authorized-keys",
    "guest-ssh-remove-authorized-keys",
];

/// Without these nobody freezes a file system, sets the clock, reboots or loads a module.
const POWERS: &str = "-sys_admin,-sys_boot,-sys_time,-sys_module";

/// Whose agent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The one of this project.
    Ours,
    /// The C one, of this major release.
    C(u32),
}

/// An agent's program.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    kind: Kind,
}

impl Program {
    /// The C agent that `QGA_UNDER_TEST` names, or else ours at `ours`.
    ///
    /// # Panics
    /// When the named program does not say which release it is.
    pub fn under_test(ours: impl Into<PathBuf>) -> Self {
        match std::env::var_os("QGA_UNDER_TEST").filter(|path| !path.is_empty()) {
            Some(path) => Self::c(path),
            None => Self::ours(ours),
        }
    }

    /// Every agent that is here: ours, which `QEMU_GA` names or which lies at `built`, and Debian's C agent.
    ///
    /// # Panics
    /// When one is missing where everything has to run (`CI=true`); elsewhere it is told that `test` goes without it.
    pub fn each(test: &str, built: &Path) -> Vec<Self> {
        let named = std::env::var_os("QEMU_GA").filter(|path| !path.is_empty()).map(PathBuf::from);
        let ours = named.unwrap_or_else(|| built.to_owned());
        let mut programs = Vec::new();
        for (path, is_ours) in [(ours.as_path(), true), (Path::new("/usr/sbin/qemu-ga"), false)] {
            if path.is_file() {
                programs.push(if is_ours { Self::ours(path) } else { Self::c(path) });
                continue;
            }
            let hint = if is_ours { "cargo build -p qemu-ga" } else { "apt-get install qemu-guest-agent" };
            let reason = format!("there is no agent at {}: {hint}", path.display());
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{test}: {reason}");
            crate::skip::skipped(test, &reason);
        }
        programs
    }

    /// Our agent at `path`.
    pub fn ours(path: impl Into<PathBuf>) -> Self {
        Program { path: path.into(), kind: Kind::Ours }
    }

    /// The C agent at `path`.
    ///
    /// # Panics
    /// When it does not say which release it is.
    pub fn c(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let said = Command::new(&path).arg("--version").output().expect("the C agent runs").stdout;
        let said = String::from_utf8_lossy(&said).into_owned();
        let major = said.split_whitespace().find_map(|word| word.split('.').next()?.parse().ok());
        let kind = Kind::C(major.unwrap_or_else(|| panic!("no release in '{said}' of {}", path.display())));
        Program { path, kind }
    }

    /// Whose it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether it is ours.
    pub fn is_ours(&self) -> bool {
        self.kind == Kind::Ours
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs it with just these arguments to its end.
    ///
    /// # Panics
    /// When it has not ended after [`PATIENCE`].
    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>, env: &[(&str, &OsStr)]) -> Output {
        let mut command = Command::new(&self.path);
        command.args(args).envs(env.iter().copied());
        finish(command)
    }
}

/// Runs a command to its end, but no longer than [`PATIENCE`].
///
/// # Panics
/// When it has not ended by then.
pub fn finish(mut command: Command) -> Output {
    let dir = TempDir::new().expect("a temporary directory");
    let [out, err] = ["out", "err"].map(|name| dir.path().join(name));
    command.stdin(Stdio::null());
    command.stdout(File::create(&out).expect("a file for the output"));
    command.stderr(File::create(&err).expect("a file for the errors"));
    let mut child = Running(command.spawn().expect("the command starts"));
    let status = wait::poll(PATIENCE, || child.0.try_wait().expect("a child to wait for"));
    let read = |path: &Path| fs::read(path).unwrap_or_default();
    let (stdout, stderr) = (read(&out), read(&err));
    match status {
        Some(status) => Output { status, stdout, stderr },
        None => panic!("{command:?} does not end; it said: {}", String::from_utf8_lossy(&stderr)),
    }
}

/// A child that does not outlive us.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An agent about to be started.
#[derive(Debug)]
pub struct Setup {
    program: Program,
    dir: TempDir,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    inside: Vec<OsString>,
    blocked: Vec<&'static str>,
    powerless: bool,
    listens: bool,
    stdin: Option<OwnedFd>,
}

impl Setup {
    /// An agent with a socket and a state directory in a fresh temporary directory, harmless.
    ///
    /// # Panics
    /// When there is no place for the directory.
    pub fn new(program: &Program) -> Self {
        let dir = tempfile::Builder::new().prefix("qga-test-").tempdir().expect("a temporary directory");
        fs::create_dir(dir.path().join("state")).expect("a state directory");
        Setup {
            program: program.clone(),
            dir,
            args: Vec::new(),
            envs: Vec::new(),
            inside: Vec::new(),
            blocked: DANGEROUS.to_vec(),
            powerless: true,
            listens: true,
            stdin: None,
        }
    }

    /// The directory of this agent; gone with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// One more variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.envs.push((name.into(), value.into()));
        self
    }

    /// Starts it through a command that ends by executing what its arguments say, such as `unshare -n`.
    #[must_use]
    pub fn inside<A: Into<OsString>>(mut self, command: impl IntoIterator<Item = A>) -> Self {
        self.inside.extend(command.into_iter().map(Into::into));
        self
    }

    /// Lets a dangerous command through. What it would need of root's powers is still missing; see
    /// [`Setup::powerful`].
    #[must_use]
    pub fn allow(mut self, name: &str) -> Self {
        self.blocked.retain(|blocked| *blocked != name);
        self
    }

    /// Lets every dangerous command through, for tests that look at the names only.
    #[must_use]
    pub fn allow_all(mut self) -> Self {
        self.blocked.clear();
        self
    }

    /// Leaves root's powers to it. Only for an agent that cannot reach anything of this machine's: in a mount
    /// namespace of its own with nothing but the test's own file systems in it.
    #[must_use]
    pub fn powerful(mut self) -> Self {
        self.powerless = false;
        self
    }

    /// Gives it no channel options: the test names the channel.
    #[must_use]
    pub fn no_channel(mut self) -> Self {
        self.listens = false;
        self
    }

    /// Gives it a standard input; otherwise it has none.
    #[must_use]
    pub fn stdin(mut self, stdin: impl Into<OwnedFd>) -> Self {
        self.stdin = Some(stdin.into());
        self
    }

    /// The command that starts it.
    pub fn command(&self) -> Command {
        let mut line: Vec<OsString> = self.inside.clone();
        if self.powerless && geteuid().is_root() {
            line.extend(["setpriv".into(), format!("--bounding-set={POWERS}").into(), "--".into()]);
        }
        line.push(self.program.path.clone().into());
        if self.listens {
            line.extend(["-m".into(), "unix-listen".into(), "-p".into(), self.socket().into()]);
        }
        line.extend(["-t".into(), self.state_dir().into()]);
        if !self.blocked.is_empty() {
            line.extend(["-b".into(), self.blocked.join(",").into()]);
        }
        line.extend(self.args.iter().cloned());
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).envs(self.envs.iter().map(|(name, value)| (name, value)));
        // The machine's own configuration has no say.
        if !self.envs.iter().any(|(name, _)| name == "QGA_CONF") {
            command.env("QGA_CONF", self.dir.path().join("no-configuration"));
        }
        command
    }

    /// The path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    /// Starts it and waits for its socket.
    ///
    /// # Panics
    /// When it ends or has no socket after [`PATIENCE`]; with what it said.
    #[track_caller]
    pub fn start(self) -> TestAgent {
        let mut command = self.command();
        self.spawn(&mut command)
    }

    /// Like [`Setup::start`], with the command that [`Setup::command`] gave, changed by the test.
    ///
    /// # Panics
    /// As [`Setup::start`].
    #[track_caller]
    pub fn spawn(self, command: &mut Command) -> TestAgent {
        let socket = self.socket();
        let [out, err] = ["stdout", "stderr"].map(|name| self.dir.path().join(name));
        command.stdin(self.stdin.map_or_else(Stdio::null, Stdio::from));
        command.stdout(File::create(out).expect("a file for the output"));
        command.stderr(File::create(err).expect("a file for the errors"));
        let child = Running(command.spawn().expect("the agent starts"));
        let mut agent = TestAgent { child, dir: self.dir, socket };
        if self.listens {
            let there = wait::poll(PATIENCE, || {
                if let Some(status) = agent.try_wait() {
                    panic!("the agent ended ({status}) and said: {}", agent.stderr());
                }
                agent.socket.exists().then_some(())
            });
            assert!(there.is_some(), "no socket of the agent; it said: {}", agent.stderr());
        }
        agent
    }
}

/// A running agent. It is killed, and its directory removed, when this goes.
#[derive(Debug)]
pub struct TestAgent {
    child: Running,
    dir: TempDir,
    socket: PathBuf,
}

impl TestAgent {
    /// A new connection to it.
    ///
    /// # Panics
    /// When it does not take one within [`PATIENCE`].
    #[track_caller]
    pub fn host(&self) -> Host {
        match Host::connect_retry(&self.socket, PATIENCE) {
            Ok(host) => host,
            Err(error) => panic!("cannot connect to the agent: {error}; it said: {}", self.stderr()),
        }
    }

    /// The directory of this agent.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.path().join("stderr")).unwrap_or_default()).into_owned()
    }

    /// How it ended, if it did.
    ///
    /// # Panics
    /// When the system does not know the child.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.0.try_wait().expect("a child to wait for")
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.try_wait().is_none()
    }

    /// Whether it has ended, even if the kernel cannot let go of it yet.
    pub fn is_dead(&self) -> bool {
        let stat = fs::read_to_string(self.proc("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
    }

    /// Whether it is stopped, as by `SIGSTOP`.
    pub fn is_stopped(&self) -> bool {
        let stat = fs::read_to_string(self.proc("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// Waits for its end; none when it still runs then.
    pub fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        wait::poll(within, || self.try_wait())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// Those of kill(2).
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child.0), signal)?)
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        self.status_number("VmRSS:") * 1024
    }

    /// The most memory in bytes that was resident at any time.
    pub fn peak_rss(&self) -> u64 {
        self.status_number("VmHWM:") * 1024
    }

    /// Number of its threads.
    pub fn threads(&self) -> u64 {
        self.status_number("Threads:")
    }

    /// Number of its open file descriptors.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn fds(&self) -> usize {
        fs::read_dir(self.proc("fd")).expect("the agent's descriptors").count()
    }

    /// Its children: how many run, and how many have ended and were not reaped.
    ///
    /// # Panics
    /// When there is no `/proc`.
    pub fn children(&self) -> (usize, usize) {
        let (mut running, mut dead) = (0, 0);
        let parent = self.pid().to_string();
        for entry in fs::read_dir("/proc").expect("the processes").filter_map(Result::ok) {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
            let mut fields = rest.split(' ');
            let state = fields.next();
            if fields.next() == Some(&parent) {
                if state == Some("Z") { dead += 1 } else { running += 1 }
            }
        }
        (running, dead)
    }

    /// User and system time it has used, in clock ticks (100 a second).
    ///
    /// # Panics
    /// When the process is gone.
    pub fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(self.proc("stat")).expect("the agent's figures");
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        after_name.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum()
    }

    /// How often its threads have gone to sleep and been woken.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn wake_ups(&self) -> u64 {
        let tasks = fs::read_dir(self.proc("task")).expect("the agent's threads");
        let of = |path: PathBuf| number(&fs::read_to_string(path).unwrap_or_default(), "voluntary_ctxt_switches:");
        tasks.filter_map(Result::ok).map(|task| of(task.path().join("status"))).sum()
    }

    fn status_number(&self, name: &str) -> u64 {
        number(&fs::read_to_string(self.proc("status")).expect("the agent's status"), name)
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid()))
    }
}

/// The number behind `name` in a table of `/proc`.
fn number(table: &str, name: &str) -> u64 {
    let line = table.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// How a process ended, for people.
pub fn end_of(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no end".into(),
    }
}
