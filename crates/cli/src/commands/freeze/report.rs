//! What became of the guests, and how it is told.

use std::io::{self, Write};
use std::time::Duration;

use qga_client::freeze::Thawed;
use qga_client::printable;
use serde_json::{Value, json};

use super::guest::maybe_frozen;
use super::{End, Event};
use crate::cli::Options;
use crate::exit::Failure;
use crate::fleet::common_code;
use crate::json::compact;
use crate::output::Printer;
use crate::target::Target;

/// All guests and the command.
#[derive(Debug)]
pub(super) struct Report {
    guests: Vec<Guest>,
    command: Option<Command>,
    end: Option<End>,
}

#[derive(Debug)]
struct Guest {
    name: String,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing is heard yet.
    Freezing,
    Frozen(u64),
    /// It is not frozen, or nobody knows.
    Failed(Failure),
    Thawed {
        frozen: u64,
        how: Thawed,
        stood: Duration,
    },
}

#[derive(Debug)]
struct Command {
    code: u8,
    /// Why it could not be started.
    complaint: Option<String>,
}

/// One line for whoever waits.
pub(super) fn say(options: &Options, text: &str) {
    if !options.json {
        let _ = writeln!(io::stderr().lock(), "qga: {text}");
    }
}

impl Report {
    pub(super) fn new(targets: &[Target]) -> Self {
        let guest = |target: &Target| Guest { name: target.name().to_owned(), state: State::Freezing };
        Report { guests: targets.iter().map(guest).collect(), command: None, end: None }
    }

    /// Takes what a guest's thread told.
    pub(super) fn take(&mut self, number: usize, event: Event) {
        let Some(guest) = self.guests.get_mut(number) else { return };
        let before = match guest.state {
            State::Frozen(count) => count,
            _ => 0,
        };
        guest.state = match event {
            Event::Frozen(count) => State::Frozen(count),
            Event::Failed(failure) => State::Failed(failure),
            Event::Thawed(Ok(how), stood) => State::Thawed { frozen: before, how, stood },
            Event::Thawed(Err(error), _) => State::Failed(maybe_frozen(format!("it could not be thawed: {error}"))),
        };
    }

    /// No more will be heard of those that are not thawed.
    pub(super) fn give_up(&mut self) {
        for guest in &mut self.guests {
            if matches!(guest.state, State::Freezing | State::Frozen(_)) {
                guest.state = State::Failed(maybe_frozen("qga has lost sight of it".into()));
            }
        }
    }

    pub(super) fn all_frozen(&self) -> bool {
        self.guests.iter().all(|guest| matches!(guest.state, State::Frozen(_)))
    }

    pub(super) fn has_failed(&self) -> bool {
        self.guests.iter().any(|guest| matches!(guest.state, State::Failed(_)))
    }

    /// Whether nothing more will be heard.
    pub(super) fn is_complete(&self) -> bool {
        self.guests.iter().all(|guest| matches!(guest.state, State::Failed(_) | State::Thawed { .. }))
    }

    /// How many file systems are frozen.
    pub(super) fn frozen(&self) -> u64 {
        self.guests.iter().map(|guest| if let State::Frozen(count) = guest.state { count } else { 0 }).sum()
    }

    /// The same in words.
    pub(super) fn file_systems(&self) -> String {
        file_systems(self.frozen())
    }

    /// The command could not be started.
    pub(super) fn fail_command(&mut self, code: u8, complaint: String) {
        self.command = Some(Command { code, complaint: Some(complaint) });
    }

    /// The command has ended.
    pub(super) fn end_command(&mut self, code: u8) {
        self.command = Some(Command { code, complaint: None });
    }

    /// The exit code for all that happened. What makes a snapshot worthless comes before what the command says.
    pub(super) fn code(&mut self, end: End, is_without_command: bool) -> u8 {
        self.end = Some(end);
        let failed =
            |guest: &Guest| if let State::Failed(failure) = &guest.state { Some(failure.code()) } else { None };
        let codes: Vec<u8> = self.guests.iter().filter_map(failed).collect();
        if codes.contains(&Failure::MAYBE_FROZEN) {
            return Failure::MAYBE_FROZEN;
        }
        let command = self.command.as_ref().map_or(0, |command| command.code);
        match end {
            // Ctrl-C is the usual way to end it.
            End::Signal(2) if is_without_command && codes.is_empty() => {}
            End::Signal(signal) => return 128 + signal,
            _ if !codes.is_empty() => return common_code(&codes),
            End::Limit if !is_without_command => return Failure::TIME,
            End::Limit | End::Done | End::Failed => {}
        }
        let has = |is: fn(&Thawed) -> bool| {
            self.guests.iter().any(|guest| matches!(&guest.state, State::Thawed { how, .. } if is(how)))
        };
        if command != 0 {
            command
        } else if has(|how| matches!(how, Thawed::Before(_))) {
            Failure::THAWED_EARLY
        } else if has(|how| matches!(how, Thawed::WithComplaint(_))) {
            Failure::GENERAL
        } else {
            0
        }
    }

    /// Tells it on standard error, which leaves standard output to the command.
    pub(super) fn print(&self, options: &Options, code: u8) {
        if options.json {
            let _ = writeln!(io::stderr().lock(), "{}", compact(&self.to_json(code)));
            return;
        }
        let printer = Printer::new(false, options.is_many());
        for guest in &self.guests {
            match &guest.state {
                State::Failed(failure) => printer.complain(Some(&guest.name), failure),
                State::Thawed { frozen, how, stood } => {
                    let name = if options.is_many() { format!("{}: ", printable(&guest.name)) } else { String::new() };
                    say(options, &format!("{name}{}", describe(*frozen, how, *stood)));
                }
                State::Freezing | State::Frozen(_) => {}
            }
        }
        if let Some(complaint) = self.command.as_ref().and_then(|command| command.complaint.as_ref()) {
            say(options, complaint);
        }
        if self.end == Some(End::Limit) && code == Failure::TIME {
            say(options, "the time was over before the command had ended; what it did cannot be relied on");
        }
    }

    fn to_json(&self, code: u8) -> Value {
        let guests: Vec<Value> = self.guests.iter().map(Guest::to_json).collect();
        let seconds = guests.iter().filter_map(|guest| guest["seconds"].as_f64()).fold(0.0, f64::max);
        let end = match self.end {
            Some(End::Done) => "done",
            Some(End::Limit) => "limit",
            Some(End::Signal(_)) => "signal",
            Some(End::Failed) | None => "failed",
        };
        let command =
            self.command.as_ref().map(|command| json!({ "exit": command.code, "complaint": command.complaint }));
        json!({ "targets": guests, "seconds": seconds, "command": command, "end": end, "exit": code })
    }
}

impl Guest {
    fn to_json(&self) -> Value {
        let mut value = json!({ "target": self.name });
        match &self.state {
            State::Freezing | State::Frozen(_) => {}
            State::Failed(failure) => value["error"] = failure.to_json()["error"].take(),
            State::Thawed { frozen, how, stood } => {
                let (count, note) = match how {
                    Thawed::Now(count) => (Some(*count), None),
                    Thawed::Uncounted => (None, None),
                    Thawed::Before(why) | Thawed::WithComplaint(why) => (None, Some(why)),
                };
                value["frozen"] = (*frozen).into();
                value["thawed"] = count.into();
                value["seconds"] = ((stood.as_secs_f64() * 1000.0).round() / 1000.0).into();
                value["thawed-early"] = matches!(how, Thawed::Before(_)).into();
                value["note"] = note.cloned().into();
            }
        }
        value
    }
}

fn describe(frozen: u64, how: &Thawed, stood: Duration) -> String {
    let (what, seconds) = (file_systems(frozen), stood.as_secs_f64());
    match how {
        Thawed::Before(why) => format!(
            "{what} frozen, and not until the end of the {seconds:.3} s: {why}; what was done meanwhile cannot be relied on"
        ),
        Thawed::WithComplaint(why) => format!("{what} frozen for {seconds:.3} s; the agent complains: {why}"),
        Thawed::Now(_) | Thawed::Uncounted => format!("{what} frozen for {seconds:.3} s"),
    }
}

/// So many file systems, in words.
pub(super) fn file_systems(count: u64) -> String {
    if count == 1 { "1 file system".into() } else { format!("{count} file systems") }
}
