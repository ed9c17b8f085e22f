//! `qga doctor`

mod defects;
mod diagnosis;
mod way;

use std::time::{Duration, Instant};

use clap::Args;
use qga_client::freeze::is_frozen;
use qga_client::{Blocker, Client, Error, GuestFile, printable};
use qga_proto::Command;
use qga_proto::command::Empty;
use qga_proto::types::core::{GuestAgentInfo, GuestInfo, GuestPing};
use qga_proto::types::exec::{GuestExec, GuestExecStatus};
use qga_proto::types::file::{GuestFileOpen, GuestFileRead, GuestFileWrite};
use qga_proto::types::time::GuestGetTime;

use super::PerTarget;
use super::time::{ahead, duration};
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::units;
use diagnosis::Diagnosis;

/// Time for each question.
const TIMEOUT: Duration = Duration::from_secs(10);

/// From when on clocks are said to differ.
const CLOCK: Duration = Duration::from_secs(2);

/// Where the agent's configuration usually is.
const CONFIGURATION: &str = "/etc/qemu/qemu-ga.conf";

/// How much of that is read.
const CONFIGURATION_MAX: usize = 64 << 10;

/// Find out which part of the way to a guest's agent is broken, and what to do about it
///
/// Looks at the channel on this host, at what libvirt knows of the machine, at the agent's answers, at what is switched
/// off in it, frozen or known to be wrong in its release, and at the guest's clock. Nothing is changed.
///
/// Exit status: 0 if all is well, 1 if there are warnings, 122 if file systems are frozen, 125 if no agent is to be
/// reached, 126 if commands are switched off.
#[derive(Debug, Args)]
pub(crate) struct Doctor {}

impl PerTarget for Doctor {
    const NAME: &'static str = "doctor";

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        let timeout = session.options.timeout_or(TIMEOUT);
        let mut diagnosis = Diagnosis::default();
        if way::examine(session.target, timeout, &mut diagnosis)
            && let Some(mut agent) = connect(session, timeout, &mut diagnosis)
        {
            examine(&mut agent, &mut diagnosis);
        }
        let output = if session.is_json() { Output::json(diagnosis.to_json()) } else { Output::text(diagnosis.text()) };
        Ok(output.with_code(diagnosis.code()))
    }
}

/// Connects and says hello.
fn connect(session: &Session<'_>, timeout: Duration, diagnosis: &mut Diagnosis) -> Option<Client> {
    let start = Instant::now();
    let hello = session.target.connect(timeout).and_then(|mut agent| match agent.call::<GuestPing>(Empty {}) {
        // Whoever refuses is there.
        Ok(_) | Err(Error::Blocked { .. }) => Ok(agent),
        Err(error) => Err(error),
    });
    match hello {
        Ok(agent) => {
            diagnosis.ok("agent", format!("answers within {:.0} ms", start.elapsed().as_secs_f64() * 1e3));
            Some(agent)
        }
        Err(error) => {
            diagnosis.failed("agent", error);
            None
        }
    }
}

/// Everything that the agent itself can be asked.
fn examine(agent: &mut Client, diagnosis: &mut Diagnosis) {
    let frozen = match is_frozen(agent) {
        Ok(false) => {
            diagnosis.ok("freeze", "no file system is frozen by the agent".into());
            false
        }
        Ok(true) => {
            diagnosis.fail(
                "freeze",
                "the file systems are frozen".into(),
                Some("Is a backup going on? If not, 'qga thaw' ends it.".into()),
                Failure::FROZEN,
            );
            true
        }
        Err(error) => {
            diagnosis.doubted("freeze", error);
            false
        }
    };
    match agent.call::<GuestInfo>(Empty {}) {
        Ok(info) => {
            examine_version(&info, diagnosis);
            examine_commands(agent, &info, frozen, diagnosis);
        }
        Err(error) => diagnosis.doubted("version", error),
    }
    if !frozen {
        examine_clock(agent, diagnosis);
    }
}

fn examine_version(info: &GuestAgentInfo, diagnosis: &mut Diagnosis) {
    let version = printable(&info.version);
    let known = defects::of(&info.version, |name| is_enabled(info, name));
    if known.is_empty() {
        diagnosis.ok("version", version.clone());
    }
    for defect in known {
        diagnosis.warn("version", format!("{version}: {}", defect.what), Some(defect.advice.into()), Failure::GENERAL);
    }
}

fn is_enabled(info: &GuestAgentInfo, name: &str) -> bool {
    info.supported_commands.iter().any(|command| command.name == name && command.enabled)
}

fn examine_commands(agent: &mut Client, info: &GuestAgentInfo, frozen: bool, diagnosis: &mut Diagnosis) {
    if frozen {
        return diagnosis.ok("commands", "nearly all are switched off while file systems are frozen".into());
    }
    let off: Vec<String> = info
        .supported_commands
        .iter()
        .filter(|command| !command.enabled)
        .map(|command| printable(&command.name))
        .collect();
    let total = info.supported_commands.len();
    if off.is_empty() {
        diagnosis.ok("commands", format!("all {total} are switched on"));
    } else {
        let hint = match configured_lists(agent, info) {
            Some(lines) => Some(format!("In {CONFIGURATION} of the guest: {lines}")),
            None => Error::Blocked { command: String::new(), by: Blocker::List }.hint().map(str::to_owned),
        };
        let what = format!("{} of {total} are switched off: {}", off.len(), off.join(", "));
        diagnosis.warn("commands", what, hint, Failure::FORBIDDEN);
    }
    let uses: [(&str, &[&str]); 2] = [
        ("exec", &[GuestExec::NAME, GuestExecStatus::NAME]),
        ("files", &[GuestFileOpen::NAME, GuestFileRead::NAME, GuestFileWrite::NAME]),
    ];
    for (check, names) in uses {
        let missing: Vec<&str> = names.iter().filter(|name| !is_enabled(info, name)).copied().collect();
        if missing.is_empty() {
            diagnosis.ok(check, "allowed".into());
        } else {
            let hint = "Commands of qga that need them do not work; allow them in the agent's lists if they should.";
            diagnosis.warn(
                check,
                format!("not allowed: {}", missing.join(", ")),
                Some(hint.into()),
                Failure::FORBIDDEN,
            );
        }
    }
}

/// The lists of the agent's configuration file, where that may be read.
fn configured_lists(agent: &mut Client, info: &GuestAgentInfo) -> Option<String> {
    if ![GuestFileOpen::NAME, GuestFileRead::NAME].iter().all(|name| is_enabled(info, name)) {
        return None;
    }
    let file = GuestFile::open(agent, CONFIGURATION, "r").ok()?;
    let bytes = file.read_to_end(agent, CONFIGURATION_MAX);
    // It was open for reading only: nothing can be lost.
    let _ = file.close(agent);
    let text = String::from_utf8_lossy(&bytes.ok()?).into_owned();
    let is_list = |line: &&str| ["block-rpcs", "allow-rpcs", "blacklist"].iter().any(|key| line.starts_with(key));
    let lines: Vec<String> = text.lines().map(str::trim).filter(is_list).map(printable).collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

fn examine_clock(agent: &mut Client, diagnosis: &mut Diagnosis) {
    let before = units::now();
    match agent.call::<GuestGetTime>(Empty {}) {
        Ok(guest) => {
            let difference = ahead(guest, before, units::now());
            let words = if difference < 0 { "behind" } else { "ahead of" };
            if u128::from(difference.unsigned_abs()) < CLOCK.as_nanos() {
                diagnosis.ok("clock", "as this host's".into());
            } else {
                let hint = "Does the guest keep its time with NTP or chrony? 'qga time --set' sets it once.";
                let what = format!("{} {words} this host's", duration(difference));
                diagnosis.warn("clock", what, Some(hint.into()), Failure::GENERAL);
            }
        }
        Err(error) => diagnosis.doubted("clock", error),
    }
}
