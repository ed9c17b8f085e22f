//! What is known to be wrong in releases of the C agent.
//!
//! Only what tells releases apart: this project's agent answers as release 11.1.3 does, so nothing may stand here that
//! is true of the C agent of that release as well.

use qga_proto::Command;
use qga_proto::types::ssh::GuestSshAddAuthorizedKeys;

/// One of them.
#[derive(Debug)]
pub(super) struct Defect {
    /// What happens.
    pub(super) what: &'static str,
    /// What to do about it.
    pub(super) advice: &'static str,
    /// The first release that has it, and the last.
    releases: [Release; 2],
    /// The command that it needs.
    command: Option<&'static str>,
}

/// Major, minor, micro.
type Release = [u32; 3];

const KNOWN: &[Defect] = &[
    Defect {
        what: "CVE-2026-12080: a user of the guest may become root when the host adds ssh keys for him",
        advice: "Update the agent, unless the distribution has mended this in its own, or block guest-ssh-add-authorized-keys.",
        releases: [[5, 2, 0], [11, 0, 3]],
        command: Some(GuestSshAddAuthorizedKeys::NAME),
    },
    Defect {
        what: "with --retry-path an agent that has opened its port again waits 5 s more, and one that could not is deaf for good",
        advice: "Update the agent, or do without --retry-path and have the service started again.",
        releases: [[10, 0, 13], [10, 0, 13]],
        command: None,
    },
];

/// Those of a release, as far as they are possible with the commands that are switched on.
pub(super) fn of(version: &str, is_enabled: impl Fn(&str) -> bool) -> Vec<&'static Defect> {
    let Some(release) = parse(version) else {
        return Vec::new();
    };
    let is_known = |defect: &&Defect| {
        let [first, last] = defect.releases;
        (first..=last).contains(&release) && defect.command.is_none_or(&is_enabled)
    };
    KNOWN.iter().filter(is_known).collect()
}

/// The numbers in front of what distributions add.
fn parse(version: &str) -> Option<Release> {
    let mut numbers = version.split(['.', '-', '+', ' ', '~']).map(str::parse);
    let major = numbers.next()?.ok()?;
    let minor = numbers.next()?.ok()?;
    let micro = numbers.next().and_then(Result::ok).unwrap_or(0);
    Some([major, minor, micro])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_their_numbers() {
        assert_eq!(parse("7.2.22 (Debian 1:7.2+dfsg-7)"), Some([7, 2, 22]));
        assert_eq!(parse("8.0-rc1"), Some([8, 0, 0]));
        assert_eq!(parse("unknown"), None);
        let count = |version| of(version, |_| true).len();
        assert_eq!(
            [count("5.1.0"), count("7.2.22"), count("10.0.13"), count("11.0.3"), count("11.1.3")],
            [0, 1, 2, 1, 0]
        );
        assert!(of("7.2.22", |_| false).is_empty());
    }
}
