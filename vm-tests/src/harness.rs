//! Runs cases one after the other on a machine that they share: a boot costs seconds, and only one machine runs at a
//! time. Takes the place of the standard test harness and understands the options of it that people use.

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::Instant;

/// What cases share.
pub trait Fixture: Sized {
    /// Makes one ready for use.
    fn start() -> Self;
    /// Whether the next case can use it too. The last case may have turned it off.
    fn is_usable(&mut self) -> bool;
    /// What helps to understand a failure.
    fn report(&mut self) -> String;
}

/// One case.
#[derive(Debug)]
pub struct Case<F> {
    /// A sentence.
    pub name: &'static str,
    /// Panics when the sentence is not true.
    pub run: fn(&mut F),
}

/// Makes a [`Case`] named as its function.
#[macro_export]
macro_rules! cases {
    ($($path:path),+ $(,)?) => {
        &[$($crate::harness::Case {
            name: stringify!($path),
            run: $path,
        }),+]
    };
}

/// What the command line asks for.
#[derive(Debug, Default)]
struct Options {
    list: bool,
    exact: bool,
    ignored: bool,
    filters: Vec<String>,
    skip: Vec<String>,
}

impl Options {
    fn from_environment() -> Self {
        let mut options = Self::default();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--list" => options.list = true,
                "--exact" => options.exact = true,
                "--ignored" => options.ignored = true,
                "--skip" => options.skip.extend(words.next()),
                "--test-threads" | "--format" | "--color" => drop(words.next()),
                word if word.starts_with('-') => (),
                _ => options.filters.push(word),
            }
        }
        options
    }

    fn wants(&self, name: &str) -> bool {
        let matches = |filter: &String| if self.exact { name == filter } else { name.contains(filter.as_str()) };
        // No case is ignored, so a run of the ignored ones has none.
        !self.ignored && (self.filters.is_empty() || self.filters.iter().any(matches)) && !self.skip.iter().any(matches)
    }
}

/// Runs all cases that the command line asks for, in this order.
pub fn run<F: Fixture>(cases: &[Case<F>]) -> ExitCode {
    let options = Options::from_environment();
    let wanted: Vec<_> = cases.iter().filter(|case| options.wants(case.name)).collect();
    if options.list {
        wanted.iter().for_each(|case| println!("{}: test", case.name));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests on a machine", wanted.len());
    let start = Instant::now();
    let mut fixture: Option<F> = None;
    let mut failed = Vec::new();
    for case in &wanted {
        let begin = Instant::now();
        if fixture.is_none() {
            match panic::catch_unwind(F::start) {
                Ok(started) => fixture = Some(started),
                Err(_) => {
                    // It would take as long to fail for every other case.
                    println!("no machine comes up: {} and all after it are not run", case.name);
                    return ExitCode::FAILURE;
                }
            }
            println!("     a machine is up ({:.1} s)", begin.elapsed().as_secs_f32());
        }
        let Some(shared) = fixture.as_mut() else { break };
        let begin = Instant::now();
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| (case.run)(shared)));
        let seconds = begin.elapsed().as_secs_f32();
        if outcome.is_ok() {
            println!("test {} ... ok ({seconds:.1} s)", case.name);
        } else {
            // The reason is on standard error already, with the place.
            println!("test {} ... FAILED ({seconds:.1} s)\n{}", case.name, shared.report());
            failed.push(case.name);
        }
        // A failed case may have left anything behind; one that turned the machine off says so.
        if outcome.is_err() || !shared.is_usable() {
            fixture = None;
        }
    }
    drop(fixture);
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {} passed; {} failed; finished in {:.1} s",
        wanted.len() - failed.len(),
        failed.len(),
        start.elapsed().as_secs_f32()
    );
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    failed.iter().for_each(|name| println!("    failed: {name}"));
    ExitCode::FAILURE
}
