//! The command line: options for all commands, and the commands of the table.

use std::time::Duration;

use clap::{Args, Command};
use qga_client::{DEFAULT_TIMEOUT, Libvirt};

use crate::commands::COMMANDS;
use crate::exit::Failure;
use crate::target::Target;

const ABOUT: &str = "Talks to the QEMU guest agents of virtual machines";

const LONG_ABOUT: &str = "\
Talks to the QEMU guest agents of virtual machines

Works with every agent that speaks the QEMU guest agent protocol. A TARGET is one of
  unix:PATH             the socket QEMU puts behind the port org.qemu.guest_agent.0
                        (-chardev socket,path=...); a bare PATH means the same
  vsock:CID[:PORT]      an agent started with -m vsock-listen; port 1024 if none is given
  serial:PATH           a serial line or pty of this host (-chardev pty)
  libvirt:[URI/]DOMAIN  a machine of libvirt, of this host or any that a URI leads to, with virsh";

const EXAMPLES: &str = "\
Examples:
  qga -t /run/vm/qga.sock ping
  qga -t libvirt:web1 -t libvirt:web2 df
  qga -t libvirt:qemu+ssh://root@host/system/db os
  qga --all --json net
  export QGA_TARGET=libvirt:web1
  qga info
  qga exec -- journalctl --follow
  qga call guest-file-open '{\"path\": \"/etc/hostname\"}'
  qga --timeout 600 trim
  qga -t libvirt:web1 freeze --for 30s -- lvcreate -s -n snap -L 1G vg/web1
  qga -t libvirt:web1 wait --for boot --timeout 5m
  generate-arguments | qga call guest-file-write -

Exit status:
    0  done
    1  the command failed in the guest, or its answer made no sense
    2  wrong usage
  124  the command did not answer in time
  125  no agent: no such channel, not allowed, in use, nobody there, silence, or no agent
  126  the command is switched off in the agent, or not allowed while the guest is frozen
  127  the agent does not know the command
freeze, wait and doctor have some of their own: 'qga help freeze' and so on.
Of exec and shell: that of the command, with 128 and the number of the signal for one that a signal ended.
Of several targets: that of those that failed, if it is the same for all of them, and otherwise 1.";

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The agent to talk to; may be given several times
    #[arg(short, long = "target", value_name = "TARGET", env = "QGA_TARGET", global = true)]
    targets: Vec<Target>,

    /// Talk to all running machines of libvirt
    #[arg(long, global = true)]
    all: bool,

    /// The libvirt to ask for --all and for targets without a URI, if not the one that virsh prefers
    #[arg(long, value_name = "URI", global = true)]
    connect: Option<String>,

    /// How many targets are asked at the same time
    #[arg(short, long, value_name = "N", default_value = "8", value_parser = jobs, global = true)]
    pub(crate) jobs: usize,

    /// Seconds a command may take, the handshake included; 90s or 2m will do, too [default: 30, for trim 600, for exec and shell none]
    ///
    /// An agent that does not answer the handshake within 5 seconds counts as absent, however long the time.
    #[arg(long, value_name = "SECS", value_parser = seconds, global = true)]
    timeout: Option<Duration>,

    /// Print results and errors as JSON, one object a line
    ///
    /// With several targets each line has "target" and either "result" or "error", in the order in which they come.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl Options {
    /// The time a command has, if it needs no more than others.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(DEFAULT_TIMEOUT)
    }

    /// The time a command has that may take long.
    pub(crate) fn timeout_or(&self, default: Duration) -> Duration {
        self.timeout.unwrap_or(default)
    }

    /// Whether the output has to tell targets apart.
    pub(crate) fn is_many(&self) -> bool {
        self.all || self.targets.len() > 1
    }

    /// Whether the targets are whatever machines are running.
    pub(crate) fn is_all(&self) -> bool {
        self.all
    }

    /// The time that the command line gives, for commands that may take for ever.
    pub(crate) fn limit(&self) -> Option<Duration> {
        self.timeout
    }

    /// All targets, in the order in which they were named.
    pub(crate) fn targets(&self) -> Result<Vec<Target>, Failure> {
        let uri = self.connect.as_deref();
        if self.all {
            let running = Libvirt::running(uri, self.timeout())?;
            return Ok(running.iter().map(|domain| Target::domain(uri, domain)).collect());
        }
        if self.targets.is_empty() {
            let how = "which agent? Name it with -t TARGET or in QGA_TARGET, such as /run/vm/qga.sock or libvirt:NAME";
            return Err(Failure::Usage(how.into()));
        }
        Ok(self.targets.iter().map(|target| target.clone().with_uri(uri)).collect())
    }

    /// The one target of a command that makes no sense for several.
    pub(crate) fn target(&self) -> Result<Target, Failure> {
        let targets = self.targets()?;
        match <[Target; 1]>::try_from(targets) {
            Ok([target]) => Ok(target),
            Err(_) => Err(Failure::Usage("this needs exactly one target".into())),
        }
    }
}

/// The whole command line.
pub(crate) fn command() -> Command {
    let command = Options::augment_args(Command::new("qga"));
    command
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .after_help("'qga --help' has targets, examples and exit codes.")
        .after_long_help(EXAMPLES)
        .max_term_width(100)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(COMMANDS.iter().map(|entry| entry.command()))
}

/// Reads a number of seconds, with decimals if wanted, or a time with its units, such as `90s` or `2m 30s`.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let Ok(seconds) = text.parse::<f64>() else {
        return match humantime::parse_duration(text) {
            Ok(Duration::ZERO) => Err("must be more than zero".into()),
            Ok(time) => Ok(time),
            Err(_) => Err("not a number of seconds, nor a time such as 90s or 2m".into()),
        };
    };
    if seconds.is_nan() || seconds <= 0.0 {
        return Err("must be more than zero".into());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| "too long".into())
}

fn jobs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=1024) => Ok(count),
        _ => Err("not a number from 1 to 1024".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn seconds_may_have_decimals_and_must_make_sense() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(seconds("2m 30s"), Ok(Duration::from_secs(150)));
        for bad in ["0", "0s", "5 apples", "-1", "x", "", "nan", "inf", "1e300"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_command_says_what_it_does() {
        for command in command().get_subcommands() {
            assert!(command.get_about().is_some_and(|about| !about.to_string().is_empty()), "{}", command.get_name());
        }
    }
}
