//! Stopping the machine, through whatever init system it has.
//!
//! There is no one way that works everywhere, so the ways are tried in the order that suits the system until one
//! says that it worked:
//!
//! | system | first | then |
//! |---|---|---|
//! | systemd (`/run/systemd/system`) | `shutdown`, whose message reaches the journal | `systemctl`, the plain tool |
//! | SysV init (`/run/initctl`, `/dev/initctl`) | `shutdown`: a plain `halt` may switch the power off there | the plain tool |
//! | others: busybox, OpenRC, runit, s6, dinit | `poweroff`, `halt` or `reboot` without arguments | `shutdown`, `openrc-shutdown`, busybox' own |

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::Duration;

use qga_proto::error::{Error, Result};

use super::child::{self, Command};
use super::root::Root;

/// Where the tools are. `PATH` is not asked: it is whatever the daemon was started with.
const DIRS: [&str; 5] = ["/sbin", "/usr/sbin", "/bin", "/usr/bin", "/usr/local/sbin"];

/// What `shutdown` tells the users and the journal; operators look for it there.
const MESSAGE: &str = "hypervisor initiated shutdown";

/// How long one tool may take. They only tell the init system, which takes a moment; the shutdown itself is not
/// part of it.
const DEADLINE: Duration = Duration::from_secs(30);

/// What the machine shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Switch the power off.
    Powerdown,
    /// Stop, with the power on.
    Halt,
    /// Start again.
    Reboot,
}

impl Mode {
    /// The plain tool, which is also the verb of `systemctl` and the applet of busybox.
    fn tool(self) -> &'static str {
        match self {
            Mode::Powerdown => "poweroff",
            Mode::Halt => "halt",
            Mode::Reboot => "reboot",
        }
    }

    /// For `shutdown` as SysV init and systemd have it. SysV init takes `-P` and `-H` as modifiers of `-h`.
    fn shutdown_args(self) -> &'static [&'static str] {
        match self {
            Mode::Powerdown => &["-h", "-P", "+0", MESSAGE],
            Mode::Halt => &["-h", "-H", "+0", MESSAGE],
            Mode::Reboot => &["-r", "+0", MESSAGE],
        }
    }

    fn openrc_args(self) -> &'static [&'static str] {
        match self {
            Mode::Powerdown => &["--poweroff", "now"],
            Mode::Halt => &["--halt", "now"],
            Mode::Reboot => &["--reboot", "now"],
        }
    }
}

/// Stops the machine. Returns as soon as the init system has been told.
///
/// # Errors
///
/// Every tool that is there failed (then what the first of them said), or there is none.
pub fn shut_down(root: &Root, mode: Mode) -> Result<()> {
    shut_down_within(root, mode, DEADLINE)
}

fn shut_down_within(root: &Root, mode: Mode, deadline: Duration) -> Result<()> {
    let mut first_failure = None;
    for (name, args) in ways(root, mode) {
        let Some(program) = child::find_program(root, DIRS, name) else { continue };
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        let command = Command { program: &program, args: &args, input: None, deadline, action: "shutdown" };
        match command.run() {
            Ok(()) => return Ok(()),
            Err(error) => {
                log::warn!("{}: {error}", program.display());
                first_failure.get_or_insert(error);
            }
        }
    }
    Err(first_failure.unwrap_or_else(|| {
        // The C agent's words for it.
        let absent = "failed to exec '/sbin/shutdown': No such file or directory\n";
        Error::generic(format!("child process has failed to shutdown: {absent}"))
    }))
}

/// Programs and their arguments, in the order in which they are tried.
fn ways(root: &Root, mode: Mode) -> Vec<(&'static str, Vec<&'static str>)> {
    let plain = (mode.tool(), Vec::new());
    let shutdown = ("shutdown", mode.shutdown_args().to_vec());
    if root.path("/run/systemd/system").is_dir() {
        return vec![shutdown, ("systemctl", vec![mode.tool()]), plain];
    }
    if ["/run/initctl", "/dev/initctl"].iter().any(|fifo| root.path(fifo).exists()) {
        return vec![shutdown, plain];
    }
    let mut ways = vec![plain, shutdown, ("openrc-shutdown", mode.openrc_args().to_vec())];
    // It signals process 1, in a way that other inits take for something else.
    if fs::read_link(root.path("/proc/1/exe")).is_ok_and(|exe| exe.file_name() == Path::new("busybox").file_name()) {
        ways.push(("busybox", vec![mode.tool()]));
    }
    ways
}

#[cfg(test)]
mod tests;
