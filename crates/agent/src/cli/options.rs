//! The table of options.

use std::fmt::Write;

/// Which option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Id {
    Config,
    Method,
    Path,
    Logfile,
    Pidfile,
    Hook,
    Statedir,
    Verbose,
    Version,
    Daemonize,
    Block,
    Allow,
    Dump,
    Retry,
    ReplyLimit,
    /// Sets the key that is called like the option.
    Fsfreeze(&'static str),
    Help,
    Service,
}

/// What comes after an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing.
    Switch,
    /// A value, called so in the help.
    Value(&'static str),
    /// Perhaps a value, which is attached: `-F/path`, `--fsfreeze-hook=/path`.
    Attached(&'static str),
}

/// An option.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opt {
    pub(super) id: Id,
    /// None for the options that the C agent does not have.
    short: Option<char>,
    /// None for the one that has no long name and is not in the help.
    long: Option<&'static str>,
    pub(super) kind: Kind,
    /// Lines of at most 56 characters.
    help: &'static str,
}

const fn opt(id: Id, short: char, long: &'static str, kind: Kind, help: &'static str) -> Opt {
    Opt { id, short: Some(short), long: Some(long), kind, help }
}

/// An option of ours about freezing, which is called like its key.
const fn fsfreeze(name: &'static str, value: &'static str, help: &'static str) -> Opt {
    Opt { id: Id::Fsfreeze(name), short: None, long: Some(name), kind: Kind::Value(value), help }
}

const OPTIONS: [Opt; 25] = [
    opt(
        Id::Config,
        'c',
        "config",
        Kind::Value("FILE"),
        "read this configuration file (default: the one that\n\
         QGA_CONF names, or else /etc/qemu/qemu-ga.conf)",
    ),
    opt(
        Id::Method,
        'm',
        "method",
        Kind::Value("NAME"),
        "how the host reaches the agent: virtio-serial (default),\n\
         isa-serial, unix-listen or vsock-listen",
    ),
    opt(
        Id::Path,
        'p',
        "path",
        Kind::Value("PATH"),
        "device or socket; <cid>:<port> for vsock-listen\n\
         (default for virtio-serial:\n\
         /dev/virtio-ports/org.qemu.guest_agent.0,\n\
         for isa-serial: /dev/ttyS0)",
    ),
    opt(Id::Logfile, 'l', "logfile", Kind::Value("FILE"), "append the log to this file (default: standard error)"),
    opt(
        Id::Pidfile,
        'f',
        "pidfile",
        Kind::Value("FILE"),
        "where --daemonize writes the process id\n(default: /var/run/qemu-ga.pid)",
    ),
    opt(
        Id::Hook,
        'F',
        "fsfreeze-hook",
        Kind::Attached("FILE"),
        "run this program before a freeze and after a thaw\n\
         (default: /etc/qemu/fsfreeze-hook); no blank before\n\
         FILE: -F/path",
    ),
    opt(
        Id::Statedir,
        't',
        "statedir",
        Kind::Value("DIR"),
        "keep small state files here (default: /var/run); best\non a file system that is never frozen",
    ),
    opt(Id::Verbose, 'v', "verbose", Kind::Switch, "log everything"),
    opt(Id::Version, 'V', "version", Kind::Switch, "print the version and exit"),
    opt(Id::Daemonize, 'd', "daemonize", Kind::Switch, "go into the background"),
    opt(
        Id::Block,
        'b',
        "block-rpcs",
        Kind::Value("LIST"),
        "refuse these commands, separated by commas\n(\"help\" lists them)",
    ),
    opt(Id::Allow, 'a', "allow-rpcs", Kind::Value("LIST"), "refuse all commands but these (\"help\" lists them)"),
    opt(Id::Dump, 'D', "dump-conf", Kind::Switch, "print the configuration in effect, as a file, and exit"),
    opt(
        Id::Retry,
        'r',
        "retry-path",
        Kind::Switch,
        "wait for a device that is not there, and open it again\nafter it was lost",
    ),
    Opt {
        id: Id::ReplyLimit,
        short: None,
        long: Some("reply-limit"),
        kind: Kind::Value("BYTES"),
        help: "largest reply; 0 is none (default: 8388608 on serial\n\
               ports, where libvirt drops an agent that sends more\n\
               than 10 MiB, and 0 on sockets)",
    },
    fsfreeze(
        "fsfreeze-timeout",
        "SECONDS",
        "thaw by ourselves when the host has not done so by then\n(default: 600); 0 is never",
    ),
    fsfreeze(
        "fsfreeze-limit",
        "SECONDS",
        "give up a freeze when one file system takes longer\n(default: 60); 0 is never",
    ),
    fsfreeze(
        "fsfreeze-mode",
        "MODE",
        "strict (default): a file system that cannot be opened or\nfrozen fails the freeze; best-effort: it is passed over",
    ),
    fsfreeze("fsfreeze-exclude-types", "LIST", "do not freeze file systems of these types"),
    fsfreeze(
        "fsfreeze-exclude-paths",
        "LIST",
        "do not freeze file systems whose first mount point fits\none of these patterns (* and ?)",
    ),
    fsfreeze(
        "fsfreeze-hook-dir",
        "DIR",
        "run the programs of this directory as hooks, too, in the\norder of their names",
    ),
    fsfreeze("fsfreeze-hook-limit", "SECONDS", "kill a hook that runs longer (default: 60); 0 is never"),
    fsfreeze("fsfreeze-hooks-limit", "SECONDS", "what all hooks together may take (default: 120)"),
    opt(Id::Help, 'h', "help", Kind::Switch, "print this and exit"),
    // The C agent's service option, which has a meaning on Windows only.
    Opt { id: Id::Service, short: Some('s'), long: None, kind: Kind::Value("NAME"), help: "" },
];

/// The option with this short name.
pub(super) fn short(name: char) -> Option<&'static Opt> {
    OPTIONS.iter().find(|o| o.short == Some(name))
}

/// The option with this long name, or the only one whose long name begins so. What was unique among the options of the
/// C agent is not made ambiguous by one of ours.
///
/// # Errors
/// There is none, or there are several; a text for people.
pub(super) fn long(name: &str) -> Result<&'static Opt, String> {
    if let Some(exact) = OPTIONS.iter().find(|o| o.long == Some(name)) {
        return Ok(exact);
    }
    let begins = |o: &&Opt| !name.is_empty() && o.long.is_some_and(|l| l.starts_with(name));
    let mut matching: Vec<&Opt> = OPTIONS.iter().filter(begins).collect();
    if matching.iter().any(|o| o.short.is_some()) {
        matching.retain(|o| o.short.is_some());
    }
    match matching.as_slice() {
        [one] => Ok(one),
        [] => Err(format!("unrecognized option '--{name}'")),
        several => {
            let names: String = several.iter().filter_map(|o| o.long).map(|l| format!(" '--{l}'")).collect();
            Err(format!("option '--{name}' is ambiguous; possibilities:{names}"))
        }
    }
}

/// The list of options for people.
pub(super) fn help() -> String {
    const COLUMN: usize = 28;
    let mut out = String::new();
    for option in &OPTIONS {
        let Some(long) = option.long else { continue };
        let value = match option.kind {
            Kind::Switch => String::new(),
            Kind::Value(name) => format!(" {name}"),
            Kind::Attached(name) => format!("[={name}]"),
        };
        let mut head = match option.short {
            Some(short) => format!("  -{short}, --{long}{value}"),
            None => format!("      --{long}{value}"),
        };
        // A long one has a line of its own.
        if head.len() > COLUMN {
            let _ = writeln!(out, "{head}");
            head.clear();
        }
        for line in option.help.lines() {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{head:COLUMN$} {line}");
            head.clear();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_found_by_its_names_which_are_its_own() {
        for option in &OPTIONS {
            if let Some(name) = option.short {
                assert_eq!(short(name).unwrap().id, option.id);
            }
            if let Some(name) = option.long {
                assert_eq!(long(name).unwrap().id, option.id);
            }
        }
    }

    #[test]
    fn a_long_name_may_be_shortened_while_it_is_unique() {
        let table = [
            ("verb", Ok(Id::Verbose)),
            ("vers", Ok(Id::Version)),
            ("daemon", Ok(Id::Daemonize)),
            ("da", Ok(Id::Daemonize)),
            ("fs", Ok(Id::Hook)),
            ("re", Ok(Id::Retry)),
            ("rep", Ok(Id::ReplyLimit)),
            ("v", Err("option '--v' is ambiguous; possibilities: '--verbose' '--version'")),
            ("d", Err("option '--d' is ambiguous; possibilities: '--daemonize' '--dump-conf'")),
            ("bogus", Err("unrecognized option '--bogus'")),
            ("verbosex", Err("unrecognized option '--verbosex'")),
            ("", Err("unrecognized option '--'")),
        ];
        for (name, expected) in table {
            assert_eq!(long(name).map(|o| o.id), expected.map_err(str::to_owned), "{name}");
        }
    }

    #[test]
    fn the_help_fits_a_terminal_and_names_every_option() {
        let help = help();
        for option in OPTIONS.iter().filter_map(|o| o.long) {
            assert!(help.contains(&format!("--{option}")), "{option}");
        }
        for line in help.lines() {
            assert!(line.len() <= 90, "{line}");
            let is_head = line.starts_with("      --") && line.split_whitespace().count() <= 2;
            assert!(line.starts_with("  ") && (is_head || line.get(28..29) == Some(" ")), "{line}");
        }
    }
}
