//! `qga passwd`

use std::fmt;
use std::io::{self, BufRead, IsTerminal};

use clap::Args;
use qga_proto::base64;
use qga_proto::types::account::{GuestSetUserPassword, SetUserPasswordArgs};
use serde_json::json;

use super::PerTarget;
use crate::cli::Options;
use crate::exit::Failure;
use crate::output::Output;
use crate::secret;
use crate::session::Session;

/// Set the password of a user of the guest
///
/// It is asked for without being shown, or read from the first line of standard input if that is no terminal; it never
/// stands on a command line, where every user of this host could see it.
#[derive(Args)]
pub(crate) struct Passwd {
    /// Name of the user
    user: String,

    /// What is read is the hash, in the form of crypt(3), and not the password
    #[arg(long)]
    crypted: bool,

    /// The password, once it is known.
    #[arg(skip)]
    password: String,
}

impl fmt::Debug for Passwd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwd").field("user", &self.user).field("crypted", &self.crypted).finish_non_exhaustive()
    }
}

impl PerTarget for Passwd {
    const NAME: &'static str = "passwd";

    fn prepare(&mut self, options: &Options) -> Result<(), Failure> {
        // Nobody should type a password for nothing.
        options.targets()?;
        self.password = if io::stdin().is_terminal() { ask(&self.user)? } else { read_line()? };
        if self.password.is_empty() { Err(Failure::Usage("the password is empty".into())) } else { Ok(()) }
    }

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        let mut encoded = Vec::new();
        base64::encode_into(&mut encoded, self.password.as_bytes());
        let args = SetUserPasswordArgs {
            username: self.user.as_str().into(),
            password: String::from_utf8_lossy(&encoded),
            crypted: self.crypted,
        };
        session.agent()?.call::<GuestSetUserPassword>(args)?;
        Ok(if session.is_json() { Output::json(json!({})) } else { Output::text("the password is set") })
    }
}

/// Asks twice, as a typing error would lock somebody out.
fn ask(user: &str) -> Result<String, Failure> {
    let ask = |prompt: String| {
        secret::ask(&prompt).map_err(|error| Failure::Host(format!("cannot ask for the password: {}", error.kind())))
    };
    let password = ask(format!("New password for {user}: "))?;
    if ask("Again: ".to_owned())? == password {
        Ok(password)
    } else {
        Err(Failure::Usage("the two passwords differ; nothing was changed".into()))
    }
}

fn read_line() -> Result<String, Failure> {
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(_) => Ok(line.trim_end_matches(['\n', '\r']).to_owned()),
        Err(error) => Err(Failure::Host(format!("cannot read the password from standard input: {}", error.kind()))),
    }
}
