//! The live view: a terminal that is taken over, and given back on every way out.

use std::io::{self, Write};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, poll, read};
use crossterm::style::Print;
use crossterm::terminal::{
    BeginSynchronizedUpdate, Clear, ClearType, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
    disable_raw_mode, enable_raw_mode, size,
};
use crossterm::{execute, queue};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::chart::{Line, Tone};
use super::many::{self, Order};
use super::{rows, signs, view};
use crate::exit::Failure;
use crate::fleet::common_code;
use crate::monitor::{Guest, Standing, State};
use crate::output::has_colours;

/// How long keys, signals and new samples may wait to be looked at.
const PATIENCE: Duration = Duration::from_millis(200);

/// The terminal, taken over until this is dropped.
#[derive(Debug)]
pub(crate) struct Screen {
    end: Arc<AtomicBool>,
    has_colours: bool,
}

impl Screen {
    /// Takes the terminal over.
    pub(crate) fn open() -> Result<Self, Failure> {
        let end = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            flag::register(signal, Arc::clone(&end)).map_err(Failure::Output)?;
        }
        // The words of a panic would go under with the view, and the shell would be left in raw mode. A thread of a guest
        // takes only that guest along.
        let (hook, ours) = (panic::take_hook(), thread::current().id());
        panic::set_hook(Box::new(move |what| {
            if thread::current().id() == ours {
                give_back();
            }
            hook(what);
        }));
        enable_raw_mode().map_err(Failure::Output)?;
        let screen = Screen { end, has_colours: has_colours() };
        execute!(io::stdout(), EnterAlternateScreen, Hide).map_err(Failure::Output)?;
        Ok(screen)
    }

    /// Shows the guests until a key or a signal ends it, or so many results were shown; 0 for no end.
    pub(crate) fn run(
        &self,
        guests: &[Arc<Guest>],
        interval: Duration,
        order: Order,
        count: u64,
    ) -> Result<u8, Failure> {
        let start = Instant::now();
        let (mut order, mut offset, mut shown) = (order, 0usize, Vec::new());
        while !self.end.load(Ordering::Relaxed) {
            let states: Vec<State> = guests.iter().map(|guest| guest.state()).collect();
            let (width, height) = size().map_err(Failure::Output)?;
            let (width, height) = (usize::from(width), usize::from(height));
            let mut rows = rows(guests, &states);
            many::sort(&mut rows, order);
            let lines = view(&rows, width, signs());
            offset = offset.min(lines.len().saturating_sub(height.saturating_sub(1)));
            let lines = page(lines, offset, height, guests.len() > 1);
            let lines: Vec<String> = lines.iter().map(|line| line.styled(width, self.has_colours)).collect();
            if lines != shown {
                draw(&lines).map_err(Failure::Output)?;
                shown = lines;
            }
            // As many results as there were intervals; the first look alone has no rates.
            if count > 0
                && start.elapsed() >= interval.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)) + interval / 2
            {
                break;
            }
            match key().map_err(Failure::Output)? {
                None => {}
                Some(Key::Quit) => break,
                Some(Key::Order(wanted)) => order = wanted,
                Some(Key::Up(lines)) => offset = offset.saturating_sub(lines),
                Some(Key::Down(lines)) => offset = offset.saturating_add(lines),
                Some(Key::Redraw) => shown.clear(),
            }
        }
        let codes = guests.iter().map(|guest| {
            let state = guest.state();
            match (guest.standing(&state), &state.failure) {
                (Standing::Silent(_), Some(failure)) => failure.code(),
                _ => 0,
            }
        });
        Ok(common_code(&codes.collect::<Vec<u8>>()))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Leaves the terminal as it was. There is nowhere to complain about a terminal that is gone.
fn give_back() {
    let _ = execute!(io::stdout(), EndSynchronizedUpdate, Show, LeaveAlternateScreen);
    let _ = disable_raw_mode();
}

/// The lines that fit below the first, from an offset on, and a last one with the keys.
fn page(lines: Vec<Line>, offset: usize, height: usize, is_many: bool) -> Vec<Line> {
    let keys =
        if is_many { "q quit   sort by: n name  c processors  m memory  l load  d disks  w network" } else { "q quit" };
    let mut lines = lines.into_iter();
    let first = lines.next();
    let room = height.saturating_sub(2);
    let rest: Vec<Line> = lines.skip(offset).take(room).collect();
    let filler = room - rest.len();
    let mut page: Vec<Line> = first.into_iter().chain(rest).collect();
    page.extend(std::iter::repeat_n(Line::default(), filler));
    page.push(Line::new(keys, Tone::Dim));
    page.truncate(height);
    page
}

fn draw(lines: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    queue!(out, BeginSynchronizedUpdate)?;
    for (row, line) in (0u16..).zip(lines) {
        queue!(out, MoveTo(0, row), Print(line), Clear(ClearType::UntilNewLine))?;
    }
    queue!(out, Clear(ClearType::FromCursorDown), EndSynchronizedUpdate)?;
    out.flush()
}

/// What the user wants.
enum Key {
    Quit,
    Order(Order),
    Up(usize),
    Down(usize),
    Redraw,
}

/// Waits a little for a key.
fn key() -> io::Result<Option<Key>> {
    let is_there = match poll(PATIENCE) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => false,
        result => result?,
    };
    if !is_there {
        return Ok(None);
    }
    let key = match read()? {
        Event::Key(key) if key.kind != KeyEventKind::Release => key,
        Event::Resize(..) => return Ok(Some(Key::Redraw)),
        _ => return Ok(None),
    };
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    Ok(match key.code {
        KeyCode::Char('c') if is_control => Some(Key::Quit),
        KeyCode::Char('l') if is_control => Some(Key::Redraw),
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
        KeyCode::Char('n') => Some(Key::Order(Order::Name)),
        KeyCode::Char('c') => Some(Key::Order(Order::Cpu)),
        KeyCode::Char('m') => Some(Key::Order(Order::Memory)),
        KeyCode::Char('l') => Some(Key::Order(Order::Load)),
        KeyCode::Char('d') => Some(Key::Order(Order::Disk)),
        KeyCode::Char('w') => Some(Key::Order(Order::Network)),
        KeyCode::Up | KeyCode::Char('k') => Some(Key::Up(1)),
        KeyCode::Down | KeyCode::Char('j') => Some(Key::Down(1)),
        KeyCode::PageUp => Some(Key::Up(10)),
        KeyCode::PageDown => Some(Key::Down(10)),
        _ => None,
    })
}
