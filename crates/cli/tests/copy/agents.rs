//! The agents, and `qga` run against them.

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use qga_testkit::{Program, Setup, TestAgent};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A running agent and two directories: of the host, and of the guest that it plays.
#[derive(Debug)]
pub(crate) struct Pair {
    program: Program,
    /// The last one is the one to talk to; the directories lie in that of the first.
    agents: RefCell<Vec<TestAgent>>,
    pub(crate) host: PathBuf,
    pub(crate) guest: PathBuf,
}

/// Does something with each agent that there is.
pub(crate) fn with_each_agent(test: impl Fn(&Pair)) {
    each(&[], test);
}

/// The same, with more arguments for the agent.
pub(crate) fn each(args: &[&str], test: impl Fn(&Pair)) {
    let built = Path::new(env!("CARGO_BIN_EXE_qga")).with_file_name("qemu-ga");
    for program in Program::each("qga cp", &built) {
        let setup = args.iter().fold(Setup::new(&program), |setup, arg| setup.arg(*arg));
        let agent = setup.start();
        let [host, guest] = ["host", "guest"].map(|name| agent.dir().join(name));
        fs::create_dir(&host).unwrap();
        fs::create_dir(&guest).unwrap();
        eprintln!("{:?}", program.kind());
        // Its socket is there a moment before it listens.
        drop(agent.host());
        test(&Pair { program, agents: RefCell::new(vec![agent]), host, guest });
    }
}

impl Pair {
    pub(crate) fn socket(&self) -> PathBuf {
        self.agents.borrow().last().unwrap().socket().to_owned()
    }

    /// Starts another agent if this one is gone: the C one ends when a client goes that has not read all its answers.
    pub(crate) fn revive(&self) {
        std::thread::sleep(Duration::from_millis(300));
        let is_gone = |agent: &TestAgent| agent.is_dead() || UnixStream::connect(agent.socket()).is_err();
        if self.program.is_ours() || !is_gone(self.agents.borrow().last().unwrap()) {
            return;
        }
        let agent = Setup::new(&self.program).start();
        drop(agent.host());
        self.agents.borrow_mut().push(agent);
    }

    /// How many programs the agent has started so far. Needs an agent with `-v`.
    pub(crate) fn programs(&self) -> usize {
        let what = if self.program.is_ours() { "guest-exec called:" } else { "\"execute\":\"guest-exec\"," };
        self.agents.borrow().iter().map(|agent| agent.stderr().matches(what).count()).sum()
    }

    /// `qga cp` with these arguments, in which `H/` and `G/` stand for the two directories.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.command_on(&[self.socket().to_str().unwrap()], args)
    }

    /// The same, on these targets.
    pub(crate) fn command_on(&self, targets: &[&str], args: &[&str]) -> Command {
        let place = |arg: &&str| match (arg.strip_prefix("H/"), arg.strip_prefix("G/")) {
            (Some(name), _) => self.host.join(name).into_os_string(),
            (_, Some(name)) => format!(":{}", self.guest.join(name).display()).into(),
            _ => arg.into(),
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_qga"));
        command.env_remove("QGA_TARGET").stdin(Stdio::null());
        for target in targets {
            command.args(["-t", target]);
        }
        command.arg("cp").args(args.iter().map(place));
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Copies, which must succeed, and gives the report.
    #[track_caller]
    pub(crate) fn copy(&self, args: &[&str]) -> Value {
        let output = self.run(&[&["--json"], args].concat());
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Copies, which must fail, and gives the complaint.
    #[track_caller]
    pub(crate) fn refuse(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", stderr(&output));
        stderr(&output)
    }

    /// Nothing is left of a copy but what was copied.
    #[track_caller]
    pub(crate) fn assert_tidy(&self) {
        for directory in [&self.host, &self.guest] {
            for entry in fs::read_dir(directory).unwrap() {
                let name = entry.unwrap().file_name();
                assert!(!name.to_string_lossy().ends_with(".qga-part"), "{} is left", name.to_string_lossy());
            }
        }
    }
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Bytes without a pattern, always the same ones.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Whether two files have the same bytes.
#[track_caller]
pub(crate) fn assert_same(a: &Path, b: &Path) {
    let hash =
        |path: &Path| Sha256::digest(fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
    assert!(hash(a) == hash(b), "{} and {} differ", a.display(), b.display());
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

pub(crate) fn mtime(path: &Path) -> (i64, i64) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.mtime(), found.mtime_nsec())
}
