//! Whether the system of a guest has finished starting.

use std::time::Duration;

use qga_client::{Blocker, Client, Error, Exec, GuestFile, printable};
use serde_json::Value;

/// Time for a program of the guest that only asks.
const PROGRAM: Duration = Duration::from_secs(10);

/// How much of a file is read.
const FILE_MAX: usize = 64 << 10;

/// How far a guest has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Boot {
    /// It has started, and who says so.
    Finished(String),
    /// It is still starting, and who says so.
    Going(String),
}

/// Asks the service manager if it is systemd and programs may be run, looks at the marks of system start otherwise, and
/// in any case waits for cloud-init where that is at work. A guest with none of these has started when its agent has.
///
/// # Errors
/// Any [`Error`]; [`Error::Blocked`] where neither programs nor files are allowed.
pub(crate) fn state(agent: &mut Client) -> Result<Boot, Error> {
    let mut judges = Vec::new();
    let manager = systemd(agent)?;
    match manager.as_deref() {
        // With services that failed, which is up to the one who asks.
        Some(word @ ("running" | "degraded")) => judges.push(format!("systemd is {word}")),
        Some(word @ ("initializing" | "starting" | "stopping" | "maintenance")) => {
            return Ok(Boot::Going(format!("systemd is {word}")));
        }
        // "offline" and "unknown" are the words of a systemctl without a systemd.
        _ => match marks(agent) {
            Ok(Some(Boot::Finished(judge))) => judges.push(judge),
            Ok(Some(going)) => return Ok(going),
            Ok(None) => {}
            Err(error) => return Err(error),
        },
    }
    match cloud_init(agent) {
        Ok(Some(Boot::Finished(judge))) => judges.push(judge),
        Ok(Some(going)) => return Ok(going),
        Ok(None) => {}
        // systemd has said enough.
        Err(Error::Blocked { by: Blocker::List, .. } | Error::NotFound { .. }) if !judges.is_empty() => {}
        Err(error) => return Err(error),
    }
    if judges.is_empty() {
        judges.push("its agent answers, and nothing tells more".into());
    }
    Ok(Boot::Finished(judges.join(", ")))
}

/// What systemd calls the state of the system; `None` where it cannot be asked.
fn systemd(agent: &mut Client) -> Result<Option<String>, Error> {
    match Exec::new("systemctl").arg("is-system-running").run(agent, PROGRAM) {
        Ok(finished) => {
            let text = String::from_utf8_lossy(&finished.out);
            Ok(text.split_whitespace().next().map(str::to_owned))
        }
        Err(Error::Failed { .. } | Error::NotFound { .. } | Error::Blocked { by: Blocker::List, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is left of system start in files: systemd keeps people from logging in until it is over, OpenRC says which
/// runlevel it has reached.
fn marks(agent: &mut Client) -> Result<Option<Boot>, Error> {
    if let Some(runlevel) = read(agent, "/run/openrc/softlevel")? {
        let runlevel = printable(runlevel.trim());
        let is_going =
            matches!(runlevel.as_str(), "" | "sysinit" | "boot") || exists(agent, "/run/openrc/rc.starting")?;
        let judge = format!("OpenRC is in runlevel {runlevel}");
        return Ok(Some(if is_going { Boot::Going(judge) } else { Boot::Finished(judge) }));
    }
    Ok(exists(agent, "/run/nologin")?.then(|| Boot::Going("/run/nologin is there".into())))
}

/// What cloud-init says; `None` where it is not at work.
fn cloud_init(agent: &mut Client) -> Result<Option<Boot>, Error> {
    let Some(result) = read(agent, "/run/cloud-init/result.json")? else {
        // Its first stage writes this.
        let is_at_work = exists(agent, "/run/cloud-init/status.json")?;
        return Ok(is_at_work.then(|| Boot::Going("cloud-init is at work".into())));
    };
    let result: Value = serde_json::from_str(&result).unwrap_or_default();
    let errors = result["v1"]["errors"].as_array().map_or(0, Vec::len);
    Ok(Some(Boot::Finished(match errors {
        0 => "cloud-init is done".into(),
        _ => format!("cloud-init is done with {errors} errors"),
    })))
}

/// The text of a file; `None` where there is none.
fn read(agent: &mut Client, path: &str) -> Result<Option<String>, Error> {
    let file = match GuestFile::open(agent, path, "r") {
        Ok(file) => file,
        Err(Error::Failed { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let bytes = file.read_to_end(agent, FILE_MAX);
    file.close(agent)?;
    Ok(Some(String::from_utf8_lossy(&bytes?).into_owned()))
}

fn exists(agent: &mut Client, path: &str) -> Result<bool, Error> {
    match GuestFile::open(agent, path, "r") {
        Ok(file) => file.close(agent).map(|_| true),
        Err(Error::Failed { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qga_testkit::fake::Agent;

    const NO_FILE: &str =
        r#"{"error": {"class": "GenericError", "desc": "failed to open file: No such file or directory"}}"#;
    const NO_PROGRAM: &str = r#"{"error": {"class": "GenericError", "desc": "Failed to execute child process"}}"#;
    const BLOCKED: &str =
        r#"{"error": {"class": "CommandNotFound", "desc": "Command guest-exec has been disabled for this instance"}}"#;

    fn seen(results: &[(&str, &str)]) -> Boot {
        let guest = Agent::start(results);
        let mut agent = Client::unix(guest.path(), Duration::from_secs(30)).unwrap();
        state(&mut agent).unwrap()
    }

    #[test]
    fn systemd_is_believed() {
        // "running", "starting"
        for (word, is_finished) in [("cnVubmluZwo=", true), ("c3RhcnRpbmcK", false)] {
            let ended = format!(r#"{{"exited": true, "exitcode": 0, "out-data": "{word}"}}"#);
            let boot =
                seen(&[("guest-exec", r#"{"pid": 5}"#), ("guest-exec-status", &ended), ("guest-file-open", NO_FILE)]);
            assert_eq!(matches!(boot, Boot::Finished(_)), is_finished, "{boot:?}");
        }
    }

    #[test]
    fn without_systemd_or_programs_the_marks_of_system_start_are_looked_at() {
        for refusal in [NO_PROGRAM, BLOCKED] {
            let nothing = seen(&[("guest-exec", refusal), ("guest-file-open", NO_FILE)]);
            assert_eq!(nothing, Boot::Finished("its agent answers, and nothing tells more".into()));
            let no_login = seen(&[
                ("guest-exec", refusal),
                ("guest-file-open", NO_FILE),
                ("guest-file-open", "1000"),
                ("guest-file-close", "{}"),
            ]);
            assert_eq!(no_login, Boot::Going("/run/nologin is there".into()));
        }
    }

    #[test]
    fn cloud_init_is_waited_for() {
        let open = ("guest-file-open", NO_FILE);
        let boot = seen(&[
            ("guest-exec", NO_PROGRAM),
            open,
            open,
            open,
            ("guest-file-open", "1000"),
            ("guest-file-close", "{}"),
        ]);
        assert_eq!(boot, Boot::Going("cloud-init is at work".into()));
    }
}
