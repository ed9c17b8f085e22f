//! The loop: owns every descriptor and all protocol state, and never makes a call that can block. Commands run
//! elsewhere; here are only the channel, the clients, signals and deadlines.

mod connection;
mod manager;
mod poller;
mod port;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use qga_proto::error::{Error, Result};
use rustix::fd::OwnedFd;
use rustix::io::Errno;

use crate::channel::{self, Channel, Listener, PortKind};
use crate::daemon::{Signal, Signals};
use crate::executor::{Answer, Executor};
use crate::notify::Notifier;
use crate::platform::linux::errno::{Context, ErrnoText};
use crate::session::{Environment, Session};
use crate::state::State;
use crate::state::freeze::Standing;
use connection::{Connection, Fate, Peer};
use manager::{Condition, Manager};
use poller::{Poller, Ready, Token};
use port::PortWatch;

/// Most clients of a listening socket at one time; more wait in the kernel's queue.
const CLIENTS_MAX: usize = 64;

/// Most conversations of hosts that have left and whose requests are still to be carried out.
const ORPHANS_MAX: usize = 8;

/// How long commands that run may go on when the agent is about to end.
const LAST_COMMANDS: Duration = Duration::from_secs(1);

/// How long the last replies may take to leave after that.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// When accepting is tried again after it has failed: nothing tells when descriptors are to be had again.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);

/// How often is looked for what no event tells of.
const STEP: Duration = Duration::from_millis(10);

const SIGNALS: Token = Token(0);
const RESULTS: Token = Token(1);
const LISTENER: Token = Token(2);
const UEVENTS: Token = Token(3);
const FIRST_CONNECTION: u64 = 16;

/// The jobs of no conversation.
const OWN_JOBS: u64 = 0;

/// The agent at work.
#[derive(Debug)]
pub struct Reactor {
    poller: Poller,
    state: Arc<State>,
    executor: Executor,
    signals: Signals,
    manager: Manager,
    source: Source,
    reply_limit: Option<usize>,
    connections: BTreeMap<u64, Connection>,
    /// Conversations of hosts that have left.
    orphans: Vec<Session>,
    next: u64,
    /// Clients may be waiting that could not be accepted: when to try again.
    accept_again: Option<Instant>,
    /// Since when the agent is about to end.
    ending: Option<Instant>,
    /// The last thaw is going on.
    thawing: bool,
    /// Why it ends, if nobody has told it to.
    outcome: Result<()>,
    lists: Lists,
}

/// Memory of a turn for the next one.
#[derive(Debug, Default)]
struct Lists {
    events: Vec<Ready>,
    /// Connections that go on.
    turn: Vec<u64>,
}

#[derive(Debug)]
enum Source {
    Listener(Listener),
    Port(PortWatch),
}

impl Reactor {
    /// Opens the channel as far as it is not open. An error is the reason why the agent cannot start.
    pub fn new(state: Arc<State>, channel: Channel, signals: Signals, notifier: Notifier) -> Result<Self> {
        let failed = || "cannot set up the event loop".to_owned();
        let poller = Poller::new().context(failed)?;
        let executor = Executor::new().context(failed)?;
        poller.watch_input(&signals, SIGNALS).context(failed)?;
        poller.watch_input(executor.wake_fd(), RESULTS).context(failed)?;
        if notifier.is_heard() {
            // What is told of a freeze is told in time also when no request ended it.
            state.freeze.ring_on_change(executor.wake_fd().try_clone_to_owned().context(failed)?);
        }
        let reply_limit = channel::reply_limit(&state.config, &channel);
        let channel_name = state.config.path.as_ref().map_or_else(String::new, |path| path.display().to_string());
        let source = match channel {
            Channel::Listener(listener) => {
                poller.watch_input(&listener, LISTENER).context(failed)?;
                Source::Listener(listener)
            }
            Channel::Port(port) => Source::Port(PortWatch::new(port, state.config.retry_path)),
        };
        let mut reactor = Reactor {
            poller,
            state,
            executor,
            signals,
            manager: Manager::new(notifier, channel_name),
            source,
            reply_limit,
            connections: BTreeMap::new(),
            orphans: Vec::new(),
            next: FIRST_CONNECTION,
            accept_again: None,
            ending: None,
            thawing: false,
            outcome: Ok(()),
            lists: Lists::default(),
        };
        reactor.open_port()?;
        Ok(reactor)
    }

    /// Works until a signal says to end, or until the port is lost for good. Nothing is left frozen.
    pub fn run(&mut self) -> Result<()> {
        self.manager.ready(self.condition());
        loop {
            if let Err(error) = self.turn() {
                if self.ending.is_some() {
                    // Without events, what has ended is looked for by the clock.
                    std::thread::sleep(STEP);
                    let _ = self.take_results();
                }
                if self.outcome.is_ok() {
                    self.outcome = Err(error);
                }
                self.begin_to_end();
            }
            if self.may_end() {
                self.flush();
                return std::mem::replace(&mut self.outcome, Ok(()));
            }
        }
    }

    /// Waits for events and deals with them.
    fn turn(&mut self) -> Result<()> {
        let busy = self.connections.values().any(|connection| connection.has_more());
        let deadline = if busy { Some(Instant::now()) } else { self.deadline() };
        let Lists { mut events, mut turn } = std::mem::take(&mut self.lists);
        self.poller.wait(deadline, &mut events).context(|| "cannot wait for events".to_owned())?;
        for event in events.drain(..) {
            self.handle(event)?;
        }
        self.expire();
        turn.extend(self.connections.iter().filter(|(_, c)| c.has_more()).map(|(id, _)| *id));
        for id in turn.drain(..) {
            self.advance(id)?;
        }
        self.lists = Lists { events, turn };
        self.orphans.retain(|orphan| !orphan.is_idle());
        self.tell_manager();
        Ok(())
    }

    fn tell_manager(&mut self) {
        if !self.manager.is_heard() {
            return;
        }
        self.manager.turned(Instant::now());
        if self.ending.is_none() {
            self.manager.tell(self.condition());
        }
    }

    fn condition(&self) -> Condition {
        match (self.state.freeze.standing(), &self.source) {
            (Standing::Thawed, Source::Listener(_)) => Condition::Listening,
            (Standing::Thawed, Source::Port(watch)) if watch.is_open() => Condition::AtPort,
            (Standing::Thawed, Source::Port(_)) => Condition::Waiting,
            (standing, _) => Condition::Files(standing),
        }
    }

    fn handle(&mut self, event: Ready) -> Result<()> {
        match event.token {
            SIGNALS => self.take_signals(),
            RESULTS => self.take_results()?,
            LISTENER => self.accept(),
            UEVENTS => self.open_port_again(),
            Token(id) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.note(event);
                }
            }
        }
        Ok(())
    }

    fn take_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            match signal {
                Signal::End => self.begin_to_end(),
                Signal::Reopen => crate::log::reopen(),
            }
        }
    }

    /// File systems that we froze must not stay frozen when we are gone.
    fn begin_to_end(&mut self) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some(Instant::now());
        self.manager.stopping();
        let state = Arc::clone(&self.state);
        let job = Box::new(move || {
            thaw_before_the_end(&state);
            Answer::default()
        });
        match self.executor.start_last(OWN_JOBS, job) {
            Ok(()) => self.thawing = true,
            Err(error) => {
                log::warn!("{error}");
                // The loop has nothing to do any more that would be as important.
                thaw_before_the_end(&self.state);
            }
        }
    }

    fn may_end(&self) -> bool {
        let Some(since) = self.ending else { return false };
        let running =
            self.connections.values().any(Connection::is_running) || self.orphans.iter().any(Session::is_running);
        !self.thawing && (!running || since.elapsed() >= LAST_COMMANDS)
    }

    fn take_results(&mut self) -> Result<()> {
        let now = Instant::now();
        for done in self.executor.collect() {
            if done.session == OWN_JOBS {
                self.thawing = false;
                continue;
            }
            let mut env = Environment { state: &self.state, executor: &mut self.executor };
            let owner = self.connections.iter_mut().find(|(_, connection)| connection.session_id() == done.session);
            if let Some((id, connection)) = owner {
                let id = *id;
                connection.session().finished(&mut env, done, now);
                self.advance(id)?;
            } else if let Some(orphan) = self.orphans.iter_mut().find(|orphan| orphan.id() == done.session) {
                orphan.finished(&mut env, done, now);
            }
        }
        Ok(())
    }

    fn accept(&mut self) {
        let said = self.accept_again.take().is_some();
        while self.connections.len() < CLIENTS_MAX {
            let Source::Listener(listener) = &self.source else { return };
            match listener.accept() {
                Ok(fd) => {
                    if let Err(errno) = self.connect(fd, Peer::Client) {
                        log::error!("cannot watch a client: {}", errno.errno_text());
                    }
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return,
                Err(errno) => {
                    if !said {
                        log::error!("cannot accept a client: {}", errno.errno_text());
                    }
                    self.accept_again = Some(Instant::now() + ACCEPT_RETRY);
                    return;
                }
            }
        }
    }

    fn connect(&mut self, fd: OwnedFd, peer: Peer) -> std::result::Result<(), Errno> {
        let id = self.fresh_id();
        let session = Session::new(self.fresh_id(), self.reply_limit);
        match peer {
            Peer::Client => self.poller.watch_client(&fd, Token(id))?,
            Peer::VirtioPort | Peer::Terminal => self.poller.watch(&fd, Token(id))?,
        }
        self.connections.insert(id, Connection::new(fd, session, peer));
        Ok(())
    }

    fn fresh_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Lets one conversation go on, and deals with its end.
    fn advance(&mut self, id: u64) -> Result<()> {
        let next = self.fresh_id();
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        let mut env = Environment { state: &self.state, executor: &mut self.executor };
        match connection.advance(&mut env, self.ending.is_some()) {
            Fate::Goes => {
                if connection.watch(&self.poller, Token(id)).is_err() {
                    // Of a client of whom nothing would be heard any more nothing can be expected.
                    self.disconnect(id, next);
                }
            }
            Fate::HostLeft => {
                let orphan = connection.session().host_gone(&mut env, next);
                self.adopt(orphan);
            }
            Fate::Over => self.disconnect(id, next),
            Fate::Lost(errno) => {
                self.disconnect(id, next);
                self.port_lost(errno)?;
            }
        }
        Ok(())
    }

    fn disconnect(&mut self, id: u64, next: u64) {
        let was_full = self.connections.len() >= CLIENTS_MAX;
        if let Some(mut connection) = self.connections.remove(&id) {
            let mut env = Environment { state: &self.state, executor: &mut self.executor };
            let orphan = connection.session().host_gone(&mut env, next);
            self.adopt(orphan);
        }
        if was_full {
            // Those who came meanwhile caused their event already.
            self.accept();
        }
    }

    fn adopt(&mut self, orphan: Option<Session>) {
        self.orphans.extend(orphan);
        if self.orphans.len() > ORPHANS_MAX {
            let mut env = Environment { state: &self.state, executor: &mut self.executor };
            self.orphans.remove(0).give_up(&mut env);
        }
    }

    fn open_port(&mut self) -> Result<()> {
        let Source::Port(watch) = &mut self.source else { return Ok(()) };
        let peer = match watch.kind() {
            PortKind::Virtio => Peer::VirtioPort,
            PortKind::Isa => Peer::Terminal,
        };
        if let Some(fd) = watch.try_open(&self.poller, UEVENTS)? {
            // What cannot be watched, such as a file on a disk, is no port.
            if let Err(errno) = self.connect(fd, peer) {
                let Source::Port(watch) = &mut self.source else { return Ok(()) };
                return Err(watch.unusable(errno));
            }
        }
        Ok(())
    }

    /// Whatever is there instead of the port may go again.
    fn open_port_again(&mut self) {
        if let Err(error) = self.open_port() {
            log::error!("{error}");
        }
    }

    fn port_lost(&mut self, errno: Errno) -> Result<()> {
        match &mut self.source {
            Source::Port(watch) => watch.lost(errno),
            // A client's error closes that client and nothing else.
            Source::Listener(_) => Ok(()),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let sessions = self.connections.values().filter_map(Connection::deadline).min();
        let orphans = self.orphans.iter().filter_map(Session::deadline).min();
        let port = match &self.source {
            Source::Port(watch) => watch.deadline(),
            Source::Listener(_) => None,
        };
        // Once it has passed, only the last thaw is waited for, which tells of its end.
        let end = self.ending.map(|since| since + LAST_COMMANDS).filter(|at| *at > Instant::now());
        [sessions, orphans, port, end, self.accept_again, self.manager.deadline()].into_iter().flatten().min()
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let mut env = Environment { state: &self.state, executor: &mut self.executor };
        for connection in self.connections.values_mut() {
            connection.expire(&mut env, now);
        }
        for orphan in &mut self.orphans {
            orphan.expire(&mut env, now);
        }
        if self.accept_again.is_some_and(|at| at <= now) {
            self.accept();
        }
        let due = matches!(&self.source, Source::Port(watch) if watch.deadline().is_some_and(|at| at <= now));
        if due {
            self.open_port_again();
        }
    }

    /// Gives the last replies a moment to leave.
    fn flush(&mut self) {
        let until = Instant::now() + FLUSH_MAX;
        loop {
            self.connections.retain(|_, connection| connection.flush());
            if self.connections.is_empty() || Instant::now() >= until {
                return;
            }
            std::thread::sleep(STEP);
        }
    }
}

fn thaw_before_the_end(state: &State) {
    match state.freeze.thaw_for_exit(&*state.system) {
        Ok(false) => {}
        Ok(true) => log::warn!("about to end while frozen: all file systems are thawed"),
        Err(error) => log::error!("cannot thaw before the end: {error}"),
    }
}

/// The agent cannot go on; the text says why.
pub(crate) fn lost(what: String) -> Error {
    Error::generic(what)
}
