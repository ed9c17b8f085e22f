//! One command on many targets at the same time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::cli::Options;
use crate::commands::PerTarget;
use crate::exit::Failure;
use crate::output::Printer;
use crate::session::Session;

/// Carries a command out on every target that the options name, prints each result as it comes, and returns the exit
/// code for the whole.
pub(crate) fn run(verb: &mut impl PerTarget, options: &Options) -> u8 {
    let printer = Printer::new(options.json, options.is_many());
    let prepared = verb.prepare(options).and_then(|()| options.targets());
    let targets = match prepared {
        Ok(targets) => targets,
        Err(failure) => {
            printer.complain(None, &failure);
            return failure.code();
        }
    };
    let verb = &*verb;
    let next = AtomicUsize::new(0);
    let codes = Mutex::new(Vec::new());
    let work = || {
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            if printer.is_closed() {
                return;
            }
            let result = verb.run(&mut Session::new(target, options, &printer));
            let code = printer.finish(target.name(), result);
            if let Ok(mut codes) = codes.lock() {
                codes.push(code);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..options.jobs.min(targets.len()) {
            scope.spawn(work);
        }
        work();
    });
    codes.into_inner().map_or(1, |codes| common_code(&codes))
}

/// The exit code of those that failed, if they have one in common.
pub(crate) fn common_code(codes: &[u8]) -> u8 {
    let mut failed = codes.iter().copied().filter(|code| *code != 0);
    match failed.next() {
        None => 0,
        Some(first) if failed.all(|code| code == first) => first,
        Some(_) => Failure::GENERAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_all_who_failed_or_one() {
        assert_eq!(common_code(&[]), 0);
        assert_eq!(common_code(&[0, 0]), 0);
        assert_eq!(common_code(&[0, 125, 0, 125]), 125);
        assert_eq!(common_code(&[125, 124]), 1);
    }
}
