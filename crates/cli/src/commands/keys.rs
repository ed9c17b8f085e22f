//! `qga keys`

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use qga_client::printable;
use qga_proto::types::ssh::{
    GuestSshAddAuthorizedKeys, GuestSshGetAuthorizedKeys, GuestSshRemoveAuthorizedKeys, SshAddAuthorizedKeysArgs,
    SshGetAuthorizedKeysArgs, SshRemoveAuthorizedKeysArgs,
};
use serde_json::json;

use super::PerTarget;
use crate::cli::Options;
use crate::exit::Failure;
use crate::output::Output;
use crate::session::Session;

/// Show, add or remove the SSH keys that a user of the guest lets in
#[derive(Debug, Args)]
pub(crate) struct Keys {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show the keys in a user's authorized_keys
    List {
        /// Name of the user
        user: String,
    },
    /// Add keys that are not there yet
    Add {
        #[command(flatten)]
        named: Named,

        /// Take away all others
        #[arg(long)]
        reset: bool,
    },
    /// Take keys away
    Remove {
        #[command(flatten)]
        named: Named,
    },
}

/// A user and keys.
#[derive(Debug, Args)]
struct Named {
    /// Name of the user
    user: String,

    /// Public keys, each as one argument such as 'ssh-ed25519 AAAA... ann@host'
    #[arg(value_name = "KEY", required_unless_present = "files")]
    keys: Vec<String>,

    /// Files with a public key on each line, such as ~/.ssh/id_ed25519.pub; '-' is standard input
    #[arg(short, long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl PerTarget for Keys {
    const NAME: &'static str = "keys";

    fn prepare(&mut self, _options: &Options) -> Result<(), Failure> {
        match &mut self.verb {
            Verb::List { .. } => Ok(()),
            Verb::Add { named, .. } | Verb::Remove { named } => named.read_files(),
        }
    }

    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure> {
        match &self.verb {
            Verb::List { user } => {
                let args = SshGetAuthorizedKeysArgs { username: user.as_str().into() };
                return session.show::<GuestSshGetAuthorizedKeys>(args, |found| {
                    found.keys.iter().map(|key| printable(key) + "\n").collect()
                });
            }
            Verb::Add { named, reset } => {
                let args = SshAddAuthorizedKeysArgs {
                    username: named.user.as_str().into(),
                    keys: named.keys.iter().map(|key| key.as_str().into()).collect(),
                    reset: reset.then_some(true),
                };
                session.agent()?.call::<GuestSshAddAuthorizedKeys>(args)?;
            }
            Verb::Remove { named } => {
                let args = SshRemoveAuthorizedKeysArgs {
                    username: named.user.as_str().into(),
                    keys: named.keys.iter().map(|key| key.as_str().into()).collect(),
                };
                session.agent()?.call::<GuestSshRemoveAuthorizedKeys>(args)?;
            }
        }
        Ok(if session.is_json() { Output::json(json!({})) } else { Output::text("done") })
    }
}

impl Named {
    /// Adds the keys in the files to those on the command line.
    fn read_files(&mut self) -> Result<(), Failure> {
        for file in &self.files {
            let text = read(file).map_err(|error| Failure::Host(format!("{}: {}", file.display(), error.kind())))?;
            if text.contains("PRIVATE KEY-----") {
                return Err(Failure::Usage(format!(
                    "{} has a private key; the public one ends in .pub",
                    file.display()
                )));
            }
            self.keys.extend(keys_in(&text).map(str::to_owned));
        }
        if self.keys.is_empty() { Err(Failure::Usage("there is no key in these files".into())) } else { Ok(()) }
    }
}

fn read(file: &Path) -> io::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text)?;
        return Ok(text);
    }
    std::fs::read_to_string(file)
}

/// The lines that are neither empty nor a comment.
fn keys_in(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_empty_lines_are_no_keys() {
        let text = "# mine\n\n  ssh-ed25519 AAAA ann \nssh-rsa BBBB\n";
        assert_eq!(keys_in(text).collect::<Vec<_>>(), ["ssh-ed25519 AAAA ann", "ssh-rsa BBBB"]);
    }
}
