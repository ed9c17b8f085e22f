//! `qemu-ga`: puts the parts together, in the order in which errors can still be told to whoever started it.

use std::env;
use std::ffi::OsString;
use std::io;
use std::mem;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use qemu_ga::channel::Channel;
use qemu_ga::cli::{self, Inputs};
use qemu_ga::commands::COMMANDS;
use qemu_ga::config::Config;
use qemu_ga::daemon::{self, Activation, PidFile, Signals};
use qemu_ga::guardian;
use qemu_ga::log::{self, Options};
use qemu_ga::notify::Notifier;
use qemu_ga::persist::{FrozenMarker, Persist};
use qemu_ga::platform::linux::ffi;
use qemu_ga::platform::linux::root::Root;
use qemu_ga::reactor::Reactor;
use qemu_ga::state::State;
use qemu_ga::state::freeze::{Freeze, Settings, System, window};

#[global_allocator]
static HEAP: ffi::Heap = ffi::Heap;

fn main() -> ExitCode {
    if env::args_os().nth(1).is_some_and(|first| first == guardian::ARGUMENT) {
        ffi::exit_now(guardian::process::main());
    }
    daemon::start();
    match prepare() {
        Ok((config, warnings, activation)) => match run(config, &warnings, activation) {
            // A thread that hangs must not keep the process, so nothing is waited for.
            Ok(()) => ffi::exit_now(0),
            Err(message) => fail(&message),
        },
        Err(status) => ExitCode::from(status),
    }
}

fn fail(message: &str) -> ExitCode {
    log::last_word(message);
    ExitCode::FAILURE
}

type Prepared = (Config, Vec<String>, Option<Activation>);

/// Reads command line, configuration and environment. An error is the exit status of a run that is over already.
fn prepare() -> Result<Prepared, u8> {
    let activation = Activation::take().map_err(|message| {
        fail(&message);
        1
    })?;
    let args: Vec<OsString> = env::args_os().collect();
    let names: Vec<&str> = COMMANDS.iter().map(|entry| entry.name).collect();
    let qga_conf = env::var_os("QGA_CONF");
    let inputs = Inputs {
        args: &args,
        qga_conf: qga_conf.as_deref(),
        activated: activation.as_ref().map(|activation| activation.family),
        commands: &names,
    };
    let (config, warnings) = cli::parse(&inputs).settle(io::stdout(), log::last_word)?;
    Ok((config, warnings, activation))
}

fn run(config: Config, warnings: &[String], activation: Option<Activation>) -> Result<(), String> {
    let root = Root::default();
    let marker = FrozenMarker::new(Path::new(&config.statedir), &root)?;
    let freeze = Arc::new(Freeze::default());
    let system = Arc::new(System::new(root.clone(), Settings::of(&config), marker.clone()));
    let notes = window::on_start(&freeze, &system);
    let frozen = freeze.is_frozen();
    log::init(Options { verbose: config.verbose, logfile: config.logfile.clone(), frozen })?;
    for warning in warnings.iter().chain(&notes) {
        ::log::warn!("{warning}");
    }
    let persist = Persist::open(&config.statedir, marker)?;
    let text = |error: qga_proto::Error| error.desc.into_owned();
    let channel = Channel::from_config(&config, activation.map(|activation| activation.socket)).map_err(text)?;
    let signals = Signals::take()?;
    let notifier = Notifier::take();
    let state = Arc::new(State::with_freeze(config, root, persist, freeze, system));
    // From here on there may be two processes; the first of them only waits for the second's word. Before the loop is
    // made: what epoll says about signals is for the process that told it to watch them.
    let background = if state.config.daemonize { Some(daemon::daemonize()?) } else { None };
    let (mut reactor, _pid_file) = match (set_up(&state, channel, (signals, notifier), frozen), background) {
        (Ok(parts), background) => {
            if let Some(background) = background {
                background.ready();
            }
            parts
        }
        (Err(message), Some(background)) => background.failed(&message),
        (Err(message), None) => return Err(message),
    };
    log::never_wait();
    // Files that the host has opened may hang when they are closed; the end does not wait for that.
    mem::forget(Arc::clone(&state));
    ::log::debug!("Guest agent version {} started", env!("CARGO_PKG_VERSION"));
    reactor.run().map_err(text)
}

/// What belongs to the process that stays.
fn set_up(
    state: &Arc<State>,
    channel: Channel,
    (signals, notifier): (Signals, Notifier),
    frozen: bool,
) -> Result<(Reactor, Option<PidFile>), String> {
    let path = &state.config.pidfile;
    // Where file systems are frozen already.
    window::watch(&state.freeze, &state.system).map_err(|error| error.desc.into_owned())?;
    // A pid file may lie on a frozen file system, and writing it would block.
    let wanted = state.config.daemonize && (!frozen || daemon::is_never_frozen(path));
    let pid_file = wanted.then(|| PidFile::create(path)).transpose()?.flatten();
    let reactor =
        Reactor::new(Arc::clone(state), channel, signals, notifier).map_err(|error| error.desc.into_owned())?;
    Ok((reactor, pid_file))
}
