//! What `qga` can do, one file each, and the table of all of it.
//!
//! The command line, its help, completion and manual pages come from [`COMMANDS`].

mod call;
mod completion;
mod cp;
mod cpus;
mod df;
mod disks;
mod doctor;
mod exec;
mod exporter;
mod freeze;
mod info;
mod ip;
mod keys;
mod load;
mod man;
mod mem;
mod net;
mod os;
mod passwd;
mod ping;
mod reboot;
mod routes;
mod shell;
mod shutdown;
mod suspend;
mod thaw;
mod time;
mod top;
mod trim;
mod users;
mod wait;

use std::fmt;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::cli::Options;
use crate::exit::Failure;
use crate::fleet;
use crate::output::{Output, Printer};
use crate::session::Session;

/// All commands, in the order in which the help shows them.
pub(crate) const COMMANDS: &[Entry] = &[
    Entry::each::<ping::Ping>(),
    Entry::each::<wait::Wait>(),
    Entry::each::<doctor::Doctor>(),
    Entry::each::<info::Info>(),
    Entry::each::<ip::Ip>(),
    Entry::each::<os::Os>(),
    Entry::each::<df::Df>(),
    Entry::each::<disks::Disks>(),
    Entry::each::<net::Net>(),
    Entry::each::<routes::Routes>(),
    Entry::each::<cpus::Cpus>(),
    Entry::each::<mem::Mem>(),
    Entry::each::<load::Load>(),
    Entry::each::<users::Users>(),
    Entry::each::<time::Time>(),
    Entry::each::<exec::Exec>(),
    Entry::whole::<shell::Shell>(),
    Entry::each::<trim::Trim>(),
    Entry::whole::<freeze::Freeze>(),
    Entry::each::<thaw::Thaw>(),
    Entry::each::<shutdown::Shutdown>(),
    Entry::each::<reboot::Reboot>(),
    Entry::each::<suspend::Suspend>(),
    Entry::each::<passwd::Passwd>(),
    Entry::each::<keys::Keys>(),
    Entry::each::<cp::Cp>(),
    Entry::each::<call::Call>(),
    Entry::whole::<top::Top>(),
    Entry::whole::<exporter::Exporter>(),
    Entry::whole::<completion::Completion>(),
    Entry::whole::<man::Man>(),
];

/// A command that is carried out on each target by itself.
///
/// The documentation of the type is the command's help.
pub(crate) trait PerTarget: Args + fmt::Debug + Sync {
    /// Its name on the command line.
    const NAME: &'static str;

    /// Does what is to be done once, before the first target: reading standard input, asking for a password.
    fn prepare(&mut self, _options: &Options) -> Result<(), Failure> {
        Ok(())
    }

    /// Carries it out on one target.
    fn run(&self, session: &mut Session<'_>) -> Result<Output, Failure>;
}

/// A command that is carried out once, whatever targets there are.
pub(crate) trait Whole: Args + fmt::Debug {
    /// Its name on the command line.
    const NAME: &'static str;

    /// Carries it out and returns the exit code.
    fn run(&self, options: &Options) -> Result<u8, Failure>;
}

/// A row of the table.
pub(crate) struct Entry {
    name: &'static str,
    augment: fn(Command) -> Command,
    run: fn(&ArgMatches, &Options) -> Result<u8, Failure>,
}

impl Entry {
    const fn each<V: PerTarget>() -> Self {
        Entry { name: V::NAME, augment: V::augment_args, run: run_each::<V> }
    }

    const fn whole<V: Whole>() -> Self {
        Entry { name: V::NAME, augment: V::augment_args, run: run_whole::<V> }
    }

    /// Its part of the command line.
    pub(crate) fn command(&self) -> Command {
        (self.augment)(Command::new(self.name))
    }
}

fn run_each<V: PerTarget>(matches: &ArgMatches, options: &Options) -> Result<u8, Failure> {
    Ok(fleet::run(&mut V::from_arg_matches(matches).unwrap_or_else(|error| error.exit()), options))
}

fn run_whole<V: Whole>(matches: &ArgMatches, options: &Options) -> Result<u8, Failure> {
    V::from_arg_matches(matches).unwrap_or_else(|error| error.exit()).run(options)
}

/// Carries out what the command line says and returns the exit code.
pub(crate) fn run(matches: &ArgMatches) -> u8 {
    let options = Options::from_arg_matches(matches).unwrap_or_else(|error| error.exit());
    let found = matches.subcommand().and_then(|(name, matches)| {
        COMMANDS.iter().find(|entry| entry.name == name).map(|entry| (entry.run)(matches, &options))
    });
    match found {
        Some(Ok(code)) => code,
        Some(Err(failure)) => {
            Printer::new(options.json, false).complain(None, &failure);
            failure.code()
        }
        // The parser knows no other names than those of the table.
        None => Failure::GENERAL,
    }
}
