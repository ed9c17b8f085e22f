//! `qga top`

mod chart;
mod json;
mod many;
mod one;
mod screen;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use self::chart::{Line, Signs};
use self::many::{Order, Row};
use self::screen::Screen;
use super::Whole;
use crate::cli::{Options, seconds};
use crate::exit::Failure;
use crate::fleet::common_code;
use crate::monitor::{Guest, Probe, Standing, State};
use crate::output::{Output, Printer};
use crate::target::Target;

/// Time a guest has to answer everything, unless the command line says how much.
const LIMIT: Duration = Duration::from_secs(10);

/// Time beyond two intervals after which it is shown that a guest has not answered.
const GRACE: Duration = Duration::from_secs(2);

/// Columns where there is no terminal.
const WIDTH: usize = 120;

/// Watch load, processors, memory, disks and network of one or many guests
///
/// One guest is shown in detail, many with a line each. On a terminal the view is live: q ends it, and with many guests
/// n, c, m, l, d and w sort by name, processors, memory, load, disks and network. Elsewhere, and with --once or --json,
/// one result is printed, after an interval: rates need two looks. A guest that does not answer delays no other.
///
/// Memory, and the load of agents before QEMU 10.0, are read from files of the guest, which leaves lines in its log;
/// see --no-files.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Seconds between two looks
    #[arg(short, long, value_name = "SECS", default_value = "2", value_parser = interval)]
    interval: Duration,

    /// End after so many results; 0 never [default: 0 on a terminal, otherwise 1]
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,

    /// Print one result as text
    #[arg(long, conflicts_with = "count")]
    once: bool,

    /// What many guests are sorted by
    #[arg(long, value_enum, default_value_t)]
    sort: Order,

    /// Read no files of the guest
    #[arg(long)]
    no_files: bool,
}

impl Whole for Top {
    const NAME: &'static str = "top";

    fn run(&self, options: &Options) -> Result<u8, Failure> {
        let targets = options.targets()?;
        if targets.is_empty() {
            return Err(Failure::Host("libvirt has no running machine".into()));
        }
        let limit = options.timeout_or(LIMIT);
        let watch = |target: &Target| {
            let probe = Probe::new(target.clone(), limit, !self.no_files);
            Guest::watch(target, probe, self.interval, self.interval * 2 + GRACE)
        };
        let guests: Vec<Arc<Guest>> = targets.iter().map(watch).collect();
        let is_live = !options.json && !self.once && io::stdout().is_terminal() && io::stdin().is_terminal();
        if is_live {
            return Screen::open()?.run(&guests, self.interval, self.sort, self.count.unwrap_or(0));
        }
        self.print(&guests, limit, options)
    }
}

impl Top {
    /// Prints results one after the other.
    fn print(&self, guests: &[Arc<Guest>], limit: Duration, options: &Options) -> Result<u8, Failure> {
        let printer = Printer::new(options.json, options.is_many());
        let results = match self.count {
            Some(0) => u64::MAX,
            Some(count) => count,
            None => 1,
        };
        let mut code = 0;
        for result in 1..=results {
            // Rates need two samples. The threads started at the same time, so each waits for the slowest only.
            let deadline = Instant::now() + limit + self.interval + Duration::from_secs(1);
            for guest in guests {
                guest.wait(result.saturating_add(1), deadline.saturating_duration_since(Instant::now()));
            }
            code = self.print_once(guests, &printer)?;
            if printer.is_closed() {
                break;
            }
        }
        Ok(code)
    }

    fn print_once(&self, guests: &[Arc<Guest>], printer: &Printer) -> Result<u8, Failure> {
        let states: Vec<State> = guests.iter().map(|guest| guest.state()).collect();
        let mut rows = rows(guests, &states);
        let mut codes = Vec::new();
        many::sort(&mut rows, self.sort);
        for row in &rows {
            let failure = match (&row.standing, &row.state.failure) {
                (Standing::Fresh, _) => None,
                (_, Some(failure)) => Some(Arc::clone(failure)),
                (_, None) => Some(Arc::new(Failure::Host("it has not answered in time".into()))),
            };
            codes.push(failure.as_ref().map_or(0, |failure| failure.code()));
            match (failure, printer.is_json()) {
                (Some(failure), true) => printer.complain(Some(row.name), &failure),
                (None, true) => {
                    let value = json::value(row);
                    printer.finish(row.name, Ok(Output::json(value)));
                }
                (_, false) => {}
            }
        }
        if !printer.is_json() {
            let lines: Vec<String> = view(&rows, WIDTH, signs()).iter().map(Line::plain).collect();
            Printer::new(false, false).print(None, &lines.join("\n"))?;
        }
        Ok(common_code(&codes))
    }
}

fn rows<'a>(guests: &'a [Arc<Guest>], states: &'a [State]) -> Vec<Row<'a>> {
    let pairs = guests.iter().zip(states);
    pairs.map(|(guest, state)| Row { name: guest.name(), state, standing: guest.standing(state) }).collect()
}

/// One guest in detail, or many in lines.
fn view(rows: &[Row<'_>], width: usize, signs: Signs) -> Vec<Line> {
    match rows {
        [row] => one::lines(row.name, row.state, &row.standing, width, signs),
        rows => many::lines(rows, width, signs),
    }
}

/// What the user's terminal can show.
fn signs() -> Signs {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    Signs { has_blocks: locale.contains("utf-8") || locale.contains("utf8") }
}

/// A time for people, in whole seconds.
fn time(time: Duration) -> String {
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

/// Reads an interval; below a tenth of a second the question would be the load.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = seconds(text)?;
    if interval < Duration::from_millis(100) {
        return Err("must be at least 0.1".into());
    }
    if interval > Duration::from_secs(86_400) {
        return Err("must be at most a day".into());
    }
    Ok(interval)
}
