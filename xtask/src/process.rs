//! Runs other programs, showing what is run.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;

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

/// Runs commands at the same time, each with its name before every line it prints, and wants all to succeed. One that
/// fails does not end the others.
pub(crate) fn run_together(commands: Vec<(&str, Command)>) -> Result {
    let failed: Vec<String> = thread::scope(|scope| {
        let lanes: Vec<_> =
            commands.into_iter().map(|(name, command)| scope.spawn(move || run_named(name, command))).collect();
        lanes.into_iter().filter_map(|lane| lane.join().unwrap_or_else(|_| Err("it panicked".into())).err()).collect()
    });
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

fn run_named(name: &str, mut command: Command) -> Result {
    let shown = show(&command);
    println!("\n$ {shown}");
    let complain = |error: std::io::Error| format!("{shown}: {error}");
    let (reader, writer) = std::io::pipe().map_err(complain)?;
    command.stdin(Stdio::null()).stderr(writer.try_clone().map_err(complain)?).stdout(writer);
    let mut child = command.spawn().map_err(complain)?;
    // Its own ends of the pipe are in there: with them the output would never end.
    drop(command);
    for line in BufReader::new(reader).split(b'\n') {
        println!("{name:8} | {}", String::from_utf8_lossy(&line.map_err(complain)?));
    }
    let status = child.wait().map_err(complain)?;
    if status.success() { Ok(()) } else { Err(format!("{shown}: {status}")) }
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
    fn commands_that_run_together_all_end_and_each_that_fails_is_named() {
        let directory = tempfile::tempdir().unwrap();
        // Each waits for the other: one after the other they would never end.
        let lane = |own: &str, other: &str, code: u8| {
            let script = format!("touch {own}; until [ -e {other} ]; do sleep 0.01; done; echo done; exit {code}");
            let mut command = program("sh", ["-c", &script]);
            command.current_dir(directory.path());
            command
        };
        assert_eq!(run_together(vec![("first", lane("a", "b", 0)), ("second", lane("b", "a", 0))]), Ok(()));
        let error = run_together(vec![("first", lane("a", "b", 3)), ("second", lane("b", "a", 4))]).unwrap_err();
        assert!(error.contains("exit status: 3; ") && error.ends_with("exit status: 4"), "{error}");
    }

    #[test]
    fn a_command_that_fails_is_named() {
        let error = run(&mut program("sh", ["-c", "exit 3"])).unwrap_err();
        assert_eq!(error, "sh -c 'exit 3': exit status: 3");
    }
}
