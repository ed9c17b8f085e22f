//! Suspending the machine: to disk, to memory, or both.
//!
//! Three ways, in this order; one that is not supported or fails is followed by the next:
//!
//! 1. systemd, where it is the init, has the unit and the kernel has the mode;
//! 2. pm-utils, where `pm-is-supported` says yes;
//! 3. the kernel itself, through `/sys/power`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use qga_proto::error::{Error, Result};

use super::child::{self, Command, End};
use super::errno::Context;
use super::root::Root;

const STATE: &str = "/sys/power/state";
const DISK: &str = "/sys/power/disk";

/// Where the helper programs are looked for when the daemon was started without `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long a helper may take to say whether a mode is supported.
const TEST_DEADLINE: Duration = Duration::from_secs(30);

/// How long a helper may take to suspend. Some come back after the machine woke up; the clock that this is measured
/// with stands still while it sleeps, but not while an image of the memory goes to a slow disk.
const ACT_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// How the machine shall sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Memory written to disk, power off (hibernation).
    Disk,
    /// Power for the memory only.
    Ram,
    /// Memory written to disk as well, in case the power goes.
    Hybrid,
}

impl Mode {
    /// The verb of `systemctl`; its unit is `systemd-<verb>`.
    fn systemd(self) -> &'static str {
        match self {
            Mode::Disk => "hibernate",
            Mode::Ram => "suspend",
            Mode::Hybrid => "hybrid-sleep",
        }
    }

    /// The program of pm-utils and its flag for `pm-is-supported`.
    fn pm_utils(self) -> (&'static str, &'static str) {
        match self {
            Mode::Disk => ("pm-hibernate", "--hibernate"),
            Mode::Ram => ("pm-suspend", "--suspend"),
            Mode::Hybrid => ("pm-suspend-hybrid", "--suspend-hybrid"),
        }
    }
}

/// Suspends the machine. Depending on the way this returns when the sleep has been asked for, or after the machine
/// woke up again.
///
/// # Errors
///
/// No way supports the mode, or those that do failed; then all of what they said.
pub fn suspend(root: &Root, mode: Mode) -> Result<()> {
    let path = env::var_os("PATH").filter(|path| !path.is_empty()).unwrap_or_else(|| OsString::from(DEFAULT_PATH));
    let dirs = env::split_paths(&path).filter(|dir| dir.is_absolute()).collect();
    Sleeper { root, dirs }.suspend(mode)
}

/// What can put the machine to sleep, and where it is.
#[derive(Debug)]
struct Sleeper<'a> {
    root: &'a Root,
    dirs: Vec<PathBuf>,
}

impl Sleeper<'_> {
    fn suspend(&self, mode: Mode) -> Result<()> {
        let mut failures: Vec<String> = Vec::new();
        for way in [Self::by_systemd, Self::by_pm_utils, Self::by_kernel] {
            match way(self, mode) {
                Some(Ok(())) => return Ok(()),
                Some(Err(error)) => {
                    log::warn!("{error}");
                    failures.push(error.desc.trim_end().to_owned());
                }
                None => {}
            }
        }
        Err(Error::generic(match failures.is_empty() {
            true => "the requested suspend mode is not supported by the guest".to_owned(),
            false => failures.join("; "),
        }))
    }

    /// `None` where systemd cannot.
    fn by_systemd(&self, mode: Mode) -> Option<Result<()>> {
        if !self.root.path("/run/systemd/system").is_dir() || !self.kernel_can_for_systemd(mode) {
            return None;
        }
        // 0 is a unit that is active, 3 one that is known and not active, 1 and 2 odd kinds of the latter; 4 is no
        // such unit.
        let unit = format!("systemd-{}", mode.systemd());
        match self.ask("systemctl", &["status", &unit]) {
            Some(0..=3) => Some(self.act("systemctl", &[mode.systemd()])),
            _ => None,
        }
    }

    /// `None` where pm-utils cannot.
    fn by_pm_utils(&self, mode: Mode) -> Option<Result<()>> {
        let (program, flag) = mode.pm_utils();
        match self.ask("pm-is-supported", &[flag]) {
            Some(0) => Some(self.act(program, &[])),
            _ => None,
        }
    }

    /// `None` where the kernel cannot.
    fn by_kernel(&self, mode: Mode) -> Option<Result<()>> {
        let states = self.choices(STATE);
        let has = |word: &str| states.iter().any(|state| state == word);
        match mode {
            Mode::Ram => has("mem").then(|| self.set(STATE, "mem")),
            Mode::Disk => has("disk").then(|| self.set(STATE, "disk")),
            Mode::Hybrid => {
                let after_image = self.choices(DISK);
                let usual = after_image.iter().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
                let possible = has("disk") && after_image.iter().any(|word| bare(word) == "suspend");
                possible.then(|| {
                    self.set(DISK, "suspend")?;
                    let slept = self.set(STATE, "disk");
                    // Later hibernations shall switch the power off again, however this one went.
                    if let Some(Err(error)) = usual.map(|usual| self.set(DISK, usual)) {
                        log::warn!("{error}");
                    }
                    slept
                })
            }
        }
    }

    /// Whether the kernel has what systemd would use.
    fn kernel_can_for_systemd(&self, mode: Mode) -> bool {
        let states = self.choices(STATE);
        let has = |words: &[&str]| states.iter().any(|state| words.contains(&state.as_str()));
        match mode {
            Mode::Ram => has(&["mem", "standby", "freeze"]),
            Mode::Disk => has(&["disk"]),
            Mode::Hybrid => has(&["disk"]) && self.choices(DISK).iter().any(|word| bare(word) == "suspend"),
        }
    }

    /// The words in a file of `/sys/power`; the chosen one may stand in brackets. None where there is no such file.
    fn choices(&self, file: &str) -> Vec<String> {
        let content = self.root.read(file).unwrap_or_default();
        String::from_utf8_lossy(&content).split_ascii_whitespace().map(str::to_owned).collect()
    }

    fn set(&self, file: &str, word: &str) -> Result<()> {
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).open(self.root.path(file))?;
            file.write_all(word.as_bytes())
        };
        write().context(|| format!("suspend: cannot write to '{file}'"))
    }

    /// The exit status of a helper program; `None` when it is not there or did not get as far as to have one.
    fn ask(&self, name: &str, args: &[&str]) -> Option<i32> {
        match self.outcome(name, args, TEST_DEADLINE)?.ok()?.end {
            End::Exited(status) => Some(status),
            End::Killed(_) => None,
        }
    }

    fn act(&self, name: &str, args: &[&str]) -> Result<()> {
        let shown = [&[name], args].concat().join(" ");
        let outcome = match self.outcome(name, args, ACT_DEADLINE) {
            None => return Err(Error::generic(format!("the helper program '{shown}' was not found"))),
            Some(outcome) => outcome?,
        };
        let end = match outcome.end {
            End::Exited(0) => return Ok(()),
            End::Exited(status) => format!("returned an unexpected exit status code ({status})"),
            End::Killed(signal) => format!("was killed by signal {signal}"),
        };
        let said = match outcome.text().trim() {
            "" => String::new(),
            said => format!(": {said}"),
        };
        Err(Error::generic(format!("the helper program '{shown}' {end}{said}")))
    }

    fn outcome(&self, name: &str, args: &[&str], deadline: Duration) -> Option<Result<child::Outcome>> {
        let program = child::find_program(self.root, &self.dirs, name)?;
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        Some(Command { program: &program, args: &args, input: None, deadline, action: "suspend" }.outcome())
    }
}

fn bare(word: &str) -> &str {
    word.trim_start_matches('[').trim_end_matches(']')
}

#[cfg(test)]
mod tests;
