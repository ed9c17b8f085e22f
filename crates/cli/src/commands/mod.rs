//! What `qga` can do, one file each.

pub(crate) mod call;
pub(crate) mod info;
pub(crate) mod ping;

use qga_client::Client;

use crate::cli::Cli;
use crate::exit::Failure;

/// What a command ended in when it did not fail.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// For standard output, with its line end.
    pub(crate) text: String,
    /// For standard error.
    pub(crate) note: Option<&'static str>,
}

impl Outcome {
    fn line(mut text: String) -> Self {
        text.push('\n');
        Outcome { text, note: None }
    }
}

/// Connects to the agent the command line names.
fn connect(cli: &Cli) -> Result<Client, Failure> {
    let Some(socket) = &cli.socket else {
        return Err(Failure::Usage("which agent? Name its socket with --socket PATH or in QGA_SOCKET".into()));
    };
    Ok(Client::unix(socket, cli.timeout)?)
}
