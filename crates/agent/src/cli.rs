//! The command line: the C agent's options, one table of them for parsing and for `--help`.
//!
//! The line is read twice. First only the configuration file is looked for, since what the file says comes before
//! what the line says; then everything is read in order, and an option that prints something ends it.

mod options;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};

use lexopt::{Arg, Parser};

use self::options::{Id, Kind};
use crate::config::{self, Config, lists};
use crate::daemon::ListenFamily;

/// The release of QEMU whose agent this one stands in for, as `guest-info` reports it.
pub const QEMU_VERSION: &str = "11.1.3";

/// What decides what to do.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The arguments, program name first.
    pub args: &'a [OsString],
    /// The environment variable `QGA_CONF`.
    pub qga_conf: Option<&'a OsStr>,
    /// The socket that the service manager handed over; it decides method and path.
    pub activated: Option<ListenFamily>,
    /// The names of all commands, in the order in which `-b help` lists them.
    pub commands: &'a [&'a str],
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Be an agent.
    Run(Box<Config>),
    /// Print this and end with 0.
    Print(String),
    /// Say this on standard error and end with 1. One line, without program name and line end.
    Fail(String),
}

/// The command line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// What to do.
    pub action: Action,
    /// What was written and has no effect; a line each. To be logged as warnings.
    pub warnings: Vec<String>,
}

impl CommandLine {
    /// Prints what is to be printed, and tells what is wrong. Either there is something to run (and warnings to be
    /// logged), or the exit status.
    pub fn settle(self, mut stdout: impl Write, mut tell: impl FnMut(&str)) -> Result<(Config, Vec<String>), u8> {
        // What cannot be written, nobody wants to read; but a dump that got lost is a failure.
        let text = match self.action {
            Action::Run(config) => return Ok((*config, self.warnings)),
            Action::Fail(message) => {
                tell(&message);
                return Err(1);
            }
            Action::Print(text) => text,
        };
        for warning in self.warnings {
            tell(&format!("warning: {warning}"));
        }
        let printed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        Err(u8::from(printed.is_err()))
    }
}

/// Reads the command line and the configuration file.
pub fn parse(inputs: &Inputs<'_>) -> CommandLine {
    let mut warnings = Vec::new();
    let action = read(inputs, &mut warnings).unwrap_or_else(Action::Fail);
    CommandLine { action, warnings }
}

fn read(inputs: &Inputs<'_>, warnings: &mut Vec<String>) -> Result<Action, String> {
    let mut config = Config::default();
    load_file(&mut config, inputs, warnings)?;
    let mut dump = false;
    let mut args = Arguments::new(inputs.args);
    while let Some(item) = args.next()? {
        let (id, value) = match item {
            Item::Option(id, value) => (id, value),
            Item::Operand(operand) => {
                let hint = match args.last {
                    Some(Id::Hook) => "; a path for --fsfreeze-hook has to be attached, as in -F/path",
                    _ => "",
                };
                warnings.push(format!("argument '{}' is ignored{hint}", operand.to_string_lossy()));
                continue;
            }
        };
        match id {
            // Read before.
            Id::Config => {}
            Id::Method => config.method = text(value),
            Id::Path => config.path = Some(value.into()),
            Id::Logfile => config.logfile = Some(value.into()),
            Id::Pidfile => config.pidfile = value.into(),
            Id::Hook if value.is_empty() => config.fsfreeze_hook = Some(config::DEFAULT_HOOK.into()),
            Id::Hook => config.fsfreeze_hook = Some(value.into()),
            Id::Statedir => config.statedir = value.into(),
            Id::Verbose => config.verbose = true,
            Id::Daemonize => config.daemonize = true,
            Id::Retry => config.retry_path = true,
            Id::ReplyLimit => {
                let value = text(value);
                config.reply_limit =
                    Some(value.parse().map_err(|_| {
                        format!("'{value}' is no number of bytes for --reply-limit; try 'qemu-ga --help'")
                    })?);
            }
            Id::Fsfreeze(key) => {
                let value = text(value);
                let set = config.fsfreeze.set(key, &value);
                set.map_err(|wanted| format!("'{value}' is not {wanted}, as --{key} needs; try 'qemu-ga --help'"))?;
            }
            Id::Dump => dump = true,
            Id::Service => {}
            Id::Block | Id::Allow if value == "help" || value == "?" => {
                return Ok(Action::Print(inputs.commands.iter().map(|name| format!("{name}\n")).collect()));
            }
            Id::Block => lists::extend(&mut config.block_rpcs, &text(value)),
            Id::Allow => lists::extend(&mut config.allow_rpcs, &text(value)),
            Id::Version => return Ok(Action::Print(version())),
            Id::Help => return Ok(Action::Print(help(inputs))),
        }
    }
    warnings.extend(lists::complaints(&config.block_rpcs, "block", inputs.commands));
    warnings.extend(lists::complaints(&config.allow_rpcs, "allow", inputs.commands));
    finish(config, inputs, dump)
}

/// `-c` before `QGA_CONF` before the built-in name; only a file that `-c` names has to exist.
fn load_file(config: &mut Config, inputs: &Inputs<'_>, warnings: &mut Vec<String>) -> Result<(), String> {
    let mut given = None;
    let mut args = Arguments::new(inputs.args);
    // What is wrong with the line is said when it is read the second time.
    while let Ok(Some(item)) = args.next() {
        if let Item::Option(Id::Config, value) = item {
            given = Some(PathBuf::from(value));
        }
    }
    let path = match (&given, inputs.qga_conf) {
        (Some(path), _) => path.as_path(),
        (None, Some(path)) => Path::new(path),
        (None, None) => Path::new(config::DEFAULT_FILE),
    };
    let failed = |reason: &str| format!("error loading configuration from path: {}, {reason}", path.display());
    match config.load(path, warnings) {
        Ok(false) if given.is_some() => Err(failed("No such file or directory")),
        Ok(_) => Ok(()),
        Err(reason) => Err(failed(&reason)),
    }
}

fn finish(mut config: Config, inputs: &Inputs<'_>, dump: bool) -> Result<Action, String> {
    if let Some(family) = inputs.activated {
        config.method = family.method().into();
        config.path = None;
    } else {
        if !dump && !config::METHODS.contains(&config.method.as_str()) {
            let known = config::METHODS.join(", ");
            return Err(format!("unsupported channel method/type: {} (known are {known})", config.method));
        }
        config.default_path()?;
    }
    if dump {
        return Ok(Action::Print(config.dump()));
    }
    if config.daemonize {
        config.make_absolute()?;
    }
    Ok(Action::Run(Box::new(config)))
}

fn text(value: OsString) -> String {
    value.to_string_lossy().into_owned()
}

/// The line that C agent's clients know, and our own.
fn version() -> String {
    format!("QEMU Guest Agent {QEMU_VERSION}\nqemu-ga (Rust) {}\n", env!("CARGO_PKG_VERSION"))
}

fn help(inputs: &Inputs<'_>) -> String {
    let program = inputs.args.first().map_or("qemu-ga".into(), |arg| arg.to_string_lossy());
    format!("Usage: {program} [-m <method> -p <path>] [<options>]\n{}\n{}", version(), options::help())
}

/// The arguments one by one, long names as short as they are unique.
struct Arguments {
    parser: Parser,
    /// The last option.
    last: Option<Id>,
}

enum Item {
    /// An option with its value, which is empty if it takes none.
    Option(Id, OsString),
    Operand(OsString),
}

impl Arguments {
    fn new(args: &[OsString]) -> Self {
        Arguments { parser: Parser::from_args(args.iter().skip(1).cloned()), last: None }
    }

    fn next(&mut self) -> Result<Option<Item>, String> {
        let complain = |what: String| format!("{what}; try 'qemu-ga --help'");
        let (option, shown, long) = match self.parser.next().map_err(|e| complain(e.to_string()))? {
            None => return Ok(None),
            Some(Arg::Value(operand)) => return Ok(Some(Item::Operand(operand))),
            Some(Arg::Short(name)) => {
                let shown = format!("-{name}");
                (options::short(name).ok_or_else(|| complain(format!("invalid option '{shown}'")))?, shown, false)
            }
            Some(Arg::Long(name)) => (options::long(name).map_err(complain)?, format!("--{name}"), true),
        };
        self.last = Some(option.id);
        let value = match option.kind {
            Kind::Value(_) => {
                self.parser.value().map_err(|_| complain(format!("option '{shown}' requires an argument")))?
            }
            Kind::Attached(_) => self.parser.optional_value().unwrap_or_default(),
            // What is attached to a short option are more short options.
            Kind::Switch if long && self.parser.optional_value().is_some() => {
                return Err(complain(format!("option '{shown}' doesn't allow an argument")));
            }
            Kind::Switch => OsString::new(),
        };
        Ok(Some(Item::Option(option.id, value)))
    }
}

#[cfg(test)]
mod tests;
