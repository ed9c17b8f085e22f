//! Serial lines, on a pseudo terminal: the settings, and what happens when the line is lost.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use qga_testkit::agent::{Program, Setup, TestAgent, end_of};
use qga_testkit::host::PATIENCE;
use qga_testkit::wait;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{ControlModes, InputModes, LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// A line: the host's end, and the guest's end kept open to look at its settings.
struct Line {
    host: File,
    guest: OwnedFd,
}

impl Line {
    /// A new line that `link` leads to, with settings that are of no use to anybody.
    fn new(link: &Path) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let host = openpt(flags).unwrap();
        rustix::io::ioctl_fionbio(&host, true).unwrap();
        grantpt(&host).unwrap();
        unlockpt(&host).unwrap();
        let name = ptsname(&host, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let guest = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap();
        let mut settings = tcgetattr(&guest).unwrap();
        settings.set_speed(4_000_000).unwrap();
        settings.input_modes |= InputModes::ISTRIP | InputModes::IXON;
        tcsetattr(&guest, OptionalActions::Now, &settings).unwrap();
        let _ = fs::remove_file(link);
        symlink(std::ffi::OsStr::from_bytes(name.to_bytes()), link).unwrap();
        Line { host: host.into(), guest }
    }

    fn settings(&self) -> Termios {
        tcgetattr(&self.guest).unwrap()
    }

    /// Waits until the agent has the line, which it sets to what it needs.
    fn taken(&self) {
        let raw = || !self.settings().local_modes.contains(LocalModes::ICANON);
        wait::until("an agent on the line", PATIENCE, || raw().then_some(()));
    }

    fn ping(&mut self) {
        self.host.write_all(b"{\"execute\": \"guest-ping\", \"id\": 5}\n").unwrap();
        let mut got = Vec::new();
        wait::until("an answer on the line", PATIENCE, || {
            let mut buf = [0; 100];
            if let Ok(count) = self.host.read(&mut buf) {
                got.extend_from_slice(&buf[..count]);
            }
            got.ends_with(b"{\"return\": {}, \"id\": 5}\n").then_some(())
        });
    }
}

fn agent(setup: Setup, method: &str, path: &Path) -> TestAgent {
    setup.no_channel().arg("-m").arg(method).arg("-p").arg(path).start()
}

fn setup() -> Setup {
    Setup::new(&Program::ours(env!("CARGO_BIN_EXE_qemu-ga")))
}

#[test]
fn a_line_gets_the_speed_of_the_c_agent_and_lets_every_byte_through() {
    let setup = setup();
    let path = setup.dir().join("line");
    let mut line = Line::new(&path);
    let _agent = agent(setup, "isa-serial", &path);
    line.taken();
    let settings = line.settings();
    assert_eq!((settings.input_speed(), settings.output_speed()), (38_400, 38_400));
    assert!(settings.control_modes.contains(ControlModes::CS8 | ControlModes::CREAD | ControlModes::CLOCAL));
    assert!(!settings.control_modes.intersects(ControlModes::PARENB | ControlModes::PARODD));
    assert!(!settings.input_modes.intersects(InputModes::ISTRIP | InputModes::IXON | InputModes::ICRNL));
    line.ping();
}

#[test]
fn a_line_that_hangs_up_is_opened_again() {
    let setup = setup();
    let path = setup.dir().join("line");
    let mut line = Line::new(&path);
    let mut agent = agent(setup, "isa-serial", &path);
    line.taken();
    line.ping();
    for _ in 0..2 {
        drop(line);
        std::thread::sleep(Duration::from_millis(100));
        assert!(agent.runs(), "{}", agent.stderr());
        line = Line::new(&path);
        line.taken();
        line.ping();
    }
}

#[test]
fn a_path_that_is_no_device_is_one_clear_error() {
    let setup = setup();
    let path = setup.dir().join("file");
    fs::write(&path, "").unwrap();
    let mut agent = agent(setup, "virtio-serial", &path);
    let status = agent.ended(PATIENCE).expect("an end");
    assert_eq!(end_of(status), "exit status 1");
    let expected = format!("qemu-ga: error opening channel '{}': Operation not permitted\n", path.display());
    assert_eq!(agent.stderr(), expected);
}
