//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  qga --socket /run/vm/qga.sock ping
  export QGA_SOCKET=/run/vm/qga.sock
  qga info
  qga call guest-network-get-interfaces
  qga call guest-file-open '{\"path\": \"/etc/hostname\"}'
  qga --timeout 600 call guest-fstrim
  generate-arguments | qga call guest-file-write -

Exit status:
    0  done
    1  the command failed in the guest, or its answer made no sense
    2  wrong usage
  124  the command did not answer in time
  125  no agent: no such socket, not allowed, nobody listens, nothing or something else answers
  126  the command is switched off in the agent, or not allowed while the guest is frozen
  127  the agent does not know the command";

/// Talks to the QEMU guest agent of a virtual machine
///
/// Works with every agent that speaks the QEMU guest agent protocol. The socket is the one QEMU puts behind the port
/// org.qemu.guest_agent.0 (-chardev socket,path=...), or the one of an agent started with -m unix-listen.
#[derive(Debug, Parser)]
#[command(name = "qga", version, after_long_help = EXAMPLES, after_help = "'qga --help' has examples and exit codes.")]
#[command(max_term_width = 100)]
pub(crate) struct Cli {
    /// The agent's unix socket on this host
    #[arg(short, long, value_name = "PATH", env = "QGA_SOCKET", global = true)]
    pub(crate) socket: Option<PathBuf>,

    /// Seconds a command may take, the handshake included
    ///
    /// An agent that does not answer the handshake within 5 seconds counts as absent, however long the time.
    #[arg(long, value_name = "SECS", default_value = "30", value_parser = seconds, global = true)]
    pub(crate) timeout: Duration,

    /// Print results and errors as JSON, one object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Ask whether an agent is there, and how long it takes to answer
    Ping,
    /// Show the agent's version and commands
    Info,
    /// Run any command of the agent by its name and print what it returns, as JSON
    Call(Call),
}

/// Arguments of `qga call`.
#[derive(Debug, Args)]
pub(crate) struct Call {
    /// Name of the command, such as guest-get-osinfo
    pub(crate) name: String,

    /// Its arguments, a JSON object; '-' reads them from standard input
    #[arg(value_name = "JSON")]
    pub(crate) arguments: Option<String>,

    /// Print the result on one line
    #[arg(short, long)]
    pub(crate) compact: bool,
}

/// Reads a number of seconds, with decimals if wanted.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    if seconds <= 0.0 {
        return Err("must be more than zero".into());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| "too long".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn seconds_may_have_decimals_and_must_make_sense() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "x", "", "nan", "inf", "1e300"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
