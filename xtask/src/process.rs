//! Runs other programs, showing what is run.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// What a step ends in; the error is a sentence for people.
pub(crate) type Result<T = ()> = std::result::Result<T, String>;

/// The cargo that started us, in the workspace.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(crate::workspace());
    command
}

/// A program, in the workspace.
pub(crate) fn program<A: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(name);
    command.args(args).current_dir(crate::workspace());
    command
}

/// Shows a command, runs it without input and wants it to succeed.
pub(crate) fn run(command: &mut Command) -> Result {
    let shown = show(command);
    println!("\n$ {shown}");
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{shown}: {status}")),
        Err(error) => Err(format!("{shown}: {error}")),
    }
}

/// Runs a command silently and returns what it printed, if it succeeded.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    match command.stdin(Stdio::null()).stderr(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => Err(format!("{shown}: {}", output.status)),
        Err(error) => Err(format!("{shown}: {error}")),
    }
}

/// A command as one would type it, near enough.
fn show(command: &Command) -> String {
    let name = command.get_program().to_string_lossy();
    let name = name.rsplit('/').next().unwrap_or(&name).to_owned();
    let variables = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    let variables = variables.map(|(name, value)| format!("{}={}", name.display(), quote(&value.to_string_lossy())));
    let args = command.get_args().map(|arg| quote(&arg.to_string_lossy()));
    variables.chain([name]).chain(args).collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/usr/bin/env");
        command.args(["a b", "it's", "c=d"]).env("X", "1");
        assert_eq!(show(&command), "X=1 env 'a b' 'it'\\''s' c=d");
    }

    #[test]
    fn a_command_that_fails_is_named() {
        let error = run(&mut program("sh", ["-c", "exit 3"])).unwrap_err();
        assert_eq!(error, "sh -c 'exit 3': exit status: 3");
    }
}
