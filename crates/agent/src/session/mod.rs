//! One conversation with a host: messages in, replies out, strictly in order, one command at a time.
//!
//! Two things may overtake. A byte 0xFF followed by `guest-sync-delimited` is answered at once: the running
//! command is left behind and what waited before it is dropped. A plain `guest-sync`, or a `guest-sync-delimited` that
//! has no 0xFF before it, waits a grace for the command that runs, so that pipelined replies stay in order, and then
//! does the same.
//!
//! A synchronisation that ended up inside a message that its host never completed is found there after a grace.

pub mod output;
mod stalled;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use qga_proto::envelope;
use qga_proto::error::Error;
use qga_proto::frame::{Document, Frame, Framer, Limits};

use crate::commands::Lane;
use crate::dispatch::{self, Kind};
use crate::executor::{self, Answer, Done, Executor, Need, Ticket, Undo, Worker};
use crate::state::State;
use output::Output;

/// How long a synchronisation without 0xFF waits for the command that runs. Shorter than any client's own limit: the
/// shortest known is 1 s more than this, libvirt's is 5 s.
pub const SYNC_GRACE: Duration = Duration::from_secs(1);

/// While this many bytes of replies wait for the host, no further command is begun.
const OUTPUT_HIGH: usize = 64 << 10;

/// While this many bytes of requests wait for their turn, no further input is read.
const QUEUE_HIGH: usize = 32 << 20;

/// Messages above this size are read by the worker and not on the loop: none of the instant commands is that long.
const ON_LOOP_MAX: usize = 64 << 10;

/// How long the memory of large messages is kept for the next one. A file is copied in many of them, one at once after
/// the other.
const LINGER: Duration = Duration::from_millis(200);

/// What a waiting request weighs besides its bytes.
const QUEUE_OVERHEAD: usize = 64;

/// What a session works with.
#[derive(Debug)]
pub struct Environment<'a> {
    /// The agent.
    pub state: &'a Arc<State>,
    /// Where threads come from.
    pub executor: &'a mut Executor,
}

/// One conversation.
#[derive(Debug)]
pub struct Session {
    id: u64,
    reply_limit: Option<usize>,
    grace: Duration,
    framer: Framer,
    /// A 0xFF was read and nothing after it yet.
    resync: bool,
    /// A message that has begun may have swallowed a synchronisation: its length, and since when nothing came.
    stalled: Option<(usize, Instant)>,
    queue: VecDeque<Waiting>,
    queued: usize,
    running: Option<Running>,
    worker: Option<Worker>,
    output: Output,
    /// Until when memory is kept that nothing is in.
    lingers: Option<Instant>,
    /// The host has left; what it asked for is carried out, and what it would have been told is dropped.
    gone: bool,
}

#[derive(Debug)]
struct Waiting {
    what: Request,
    kind: Kind,
    arrived: Instant,
}

#[derive(Debug)]
enum Request {
    Message(Document),
    Broken(Error),
}

impl Waiting {
    fn weight(&self) -> usize {
        QUEUE_OVERHEAD
            + match &self.what {
                Request::Message(document) => document.as_bytes().len(),
                Request::Broken(_) => 0,
            }
    }
}

#[derive(Debug)]
struct Running {
    ticket: Ticket,
    /// Its name, as soon as the worker has read the message.
    command: Arc<OnceLock<&'static str>>,
    since: Instant,
}

impl Session {
    /// A conversation that has just begun.
    pub fn new(id: u64, reply_limit: Option<usize>) -> Self {
        Session {
            id,
            reply_limit,
            grace: SYNC_GRACE,
            framer: Framer::new(Limits::default()),
            resync: false,
            stalled: None,
            queue: VecDeque::new(),
            queued: 0,
            running: None,
            worker: None,
            output: Output::default(),
            lingers: None,
            gone: false,
        }
    }

    /// Where input is put. Call [`Session::advance`] afterwards.
    pub fn input(&mut self) -> &mut Framer {
        &mut self.framer
    }

    /// Replies for the host.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Whether replies wait for the host.
    pub fn has_output(&self) -> bool {
        self.output.pending() > 0
    }

    /// Whether more input should be read.
    pub fn wants_input(&self) -> bool {
        self.queued < QUEUE_HIGH
    }

    /// Whether nothing is running, waiting, or to be sent.
    pub fn is_idle(&self) -> bool {
        self.running.is_none() && self.queue.is_empty() && self.output.pending() == 0
    }

    /// Whether a command is running.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// When [`Session::expire`] has to be called.
    pub fn deadline(&self) -> Option<Instant> {
        let stalled = self.stalled.map(|(_, since)| since + self.grace);
        [self.end_of_grace(), stalled, self.lingers].into_iter().flatten().min()
    }

    /// When a synchronisation has waited long enough for what runs.
    fn end_of_grace(&self) -> Option<Instant> {
        let running = self.running.as_ref()?;
        let sync = self.queue.iter().find(|waiting| waiting.kind.is_sync())?;
        Some(sync.arrived.max(running.since) + self.grace)
    }

    /// Goes as far as possible with what has been read.
    pub fn advance(&mut self, env: &mut Environment<'_>, now: Instant) {
        while self.wants_input() {
            let Some(frame) = self.framer.next() else { break };
            let after_0xff = std::mem::take(&mut self.resync);
            match frame {
                Frame::Resync => self.resync = true,
                Frame::Broken(error) => self.enqueue(Request::Broken(error), Kind::Other, now),
                Frame::Document(document) => self.receive(env, document, after_0xff, now),
            }
            self.pump(env, now);
        }
        self.pump(env, now);
        self.look_for_a_swallowed_sync(now);
        if self.lingers.is_none() && (self.framer.has_spare() || self.output.has_spare()) {
            self.lingers = Some(now + LINGER);
        }
    }

    fn look_for_a_swallowed_sync(&mut self, now: Instant) {
        let unfinished = self.framer.unfinished();
        if self.stalled.is_none_or(|(length, _)| length != unfinished.len()) {
            self.stalled = stalled::is_possible(unfinished).then_some((unfinished.len(), now));
        }
    }

    fn receive(&mut self, env: &mut Environment<'_>, document: Document, after_0xff: bool, now: Instant) {
        let mut kind = Kind::Other;
        if document.as_bytes().len() <= ON_LOOP_MAX {
            let prepared = dispatch::prepare(&document);
            kind = prepared.kind();
            if kind == Kind::SyncDelimited && after_0xff {
                self.leave_behind(env);
                self.queue.clear();
                self.queued = 0;
            }
            if self.may_begin() && self.queue.is_empty() && prepared.lane() == Lane::Instant {
                self.reply(prepared.run(env.state, self.reply_limit));
                return;
            }
        }
        self.enqueue(Request::Message(document), kind, now);
    }

    fn enqueue(&mut self, what: Request, kind: Kind, arrived: Instant) {
        let waiting = Waiting { what, kind, arrived };
        self.queued += waiting.weight();
        self.queue.push_back(waiting);
    }

    fn may_begin(&self) -> bool {
        self.running.is_none() && self.output.pending() < OUTPUT_HIGH
    }

    /// Begins what waits, as long as nothing runs and the host takes the replies.
    pub fn pump(&mut self, env: &mut Environment<'_>, now: Instant) {
        while self.may_begin() {
            let Some(waiting) = self.queue.pop_front() else { break };
            self.queued -= waiting.weight();
            match waiting.what {
                Request::Message(document) => self.begin(env, document, now),
                Request::Broken(error) => {
                    let mut reply = Vec::new();
                    envelope::failure(&mut reply, &error, None);
                    self.reply(reply);
                }
            }
        }
    }

    fn begin(&mut self, env: &mut Environment<'_>, document: Document, now: Instant) {
        let (mut lane, mut is_urgent) = (Lane::Worker, false);
        if document.as_bytes().len() <= ON_LOOP_MAX {
            let prepared = dispatch::prepare(&document);
            lane = prepared.lane();
            if lane == Lane::Instant {
                self.reply(prepared.run(env.state, self.reply_limit));
                return;
            }
            is_urgent = prepared.kind() == Kind::Thaw && env.state.freeze.is_frozen();
        }
        let document = Arc::new(document);
        let room = self.output.take_spare();
        let need = if lane == Lane::Thaw { Need::Spare } else { Need::Common };
        let command = Arc::new(OnceLock::new());
        let job = Box::new({
            let (state, limit) = (Arc::clone(env.state), self.reply_limit);
            let (document, command) = (Arc::clone(&document), Arc::clone(&command));
            move || {
                let prepared = dispatch::prepare(&document);
                let _ = command.set(prepared.name());
                let undo = prepared.undo();
                let reply = prepared.run_into(room, &state, limit);
                let undo = undo.and_then(|undo| {
                    let value = dispatch::value(&reply)?;
                    Some(Box::new(move || undo(&state, &value)) as Undo)
                });
                // (The loop has let go of it as soon as it had started this.)
                Answer { reply, undo, request: Arc::into_inner(document) }
            }
        });
        match env.executor.start(self.id, &mut self.worker, need, job) {
            Ok(ticket) => self.running = Some(Running { ticket, command, since: now }),
            Err(error) => {
                let prepared = dispatch::prepare(&document);
                let reply = match is_urgent && !env.executor.is_closed() {
                    // Processes pile up on a frozen file system, and there may be no more threads to be had. The loop has
                    // nothing to do that would be as important.
                    true => prepared.run(env.state, self.reply_limit),
                    false => prepared.refuse(&error),
                };
                self.reply(reply);
            }
        }
    }

    /// Takes the result of a job. It is dropped unless it is the one waited for.
    pub fn finished(&mut self, env: &mut Environment<'_>, done: Done, now: Instant) {
        if self.running.as_ref().is_some_and(|running| running.ticket == done.ticket) {
            self.running = None;
            if self.gone {
                executor::undo(done.answer);
            } else {
                if let Some(request) = done.answer.request {
                    self.framer.reuse(request);
                }
                self.lingers = None;
                self.reply(done.answer.reply);
            }
            self.advance(env, now);
        }
    }

    /// To be called at [`Session::deadline`]: the grace of a synchronisation without 0xFF is over, or nothing large has
    /// come for a while.
    pub fn expire(&mut self, env: &mut Environment<'_>, now: Instant) {
        if self.lingers.is_some_and(|until| until <= now) {
            self.lingers = None;
            self.framer.release();
            self.output.release();
        }
        if self.stalled.is_some_and(|(_, since)| now >= since + self.grace) {
            self.stalled = None;
            if let Some(tail) = stalled::find(self.framer.unfinished()) {
                log::info!("half a request is dropped: its host has begun anew in the middle of it");
                self.framer.reset();
                self.framer.push(&tail);
                self.advance(env, now);
            }
        }
        if self.end_of_grace().is_none_or(|deadline| now < deadline) {
            return;
        }
        self.leave_behind(env);
        while self.queue.front().is_some_and(|waiting| !waiting.kind.is_sync()) {
            if let Some(waiting) = self.queue.pop_front() {
                self.queued -= waiting.weight();
            }
        }
        self.advance(env, now);
    }

    fn leave_behind(&mut self, env: &mut Environment<'_>) {
        // A worker that is idle is as good for what comes.
        let Some(running) = self.running.take() else { return };
        if let Some(worker) = self.worker.take() {
            let command = running.command.get().copied().unwrap_or("a request");
            env.executor.abandon(worker, running.ticket, command, running.since);
        }
    }

    fn reply(&mut self, reply: Vec<u8>) {
        if !self.gone {
            self.output.push(reply);
        }
    }

    /// The host has left. Partial input is dropped and so is what it has not read. Returns what is still to be
    /// carried out of what it asked for, as a conversation of its own that nobody listens to; the next host
    /// begins anew and waits for nothing.
    #[must_use]
    pub fn host_gone(&mut self, env: &mut Environment<'_>, next_id: u64) -> Option<Session> {
        let fresh = Session { grace: self.grace, ..Session::new(next_id, self.reply_limit) };
        let mut old = std::mem::replace(self, fresh);
        old.framer.reset();
        old.output.clear();
        old.gone = true;
        if old.queue.is_empty() {
            old.leave_behind(env);
            return None;
        }
        Some(old)
    }

    /// Gives up what the host asked for before it left, because there is too much of that.
    pub fn give_up(mut self, env: &mut Environment<'_>) {
        log::warn!("{} requests of a host that has left are dropped", self.queue.len());
        self.leave_behind(env);
    }

    /// This conversation's number; results of jobs carry it.
    pub fn id(&self) -> u64 {
        self.id
    }
}
