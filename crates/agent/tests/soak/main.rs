//! A great many commands of all harmless kinds, mixed at random, from several hosts at once: every reply is the right
//! one, and nothing of the agent grows.
//!
//! `QGA_SOAK` says how many (10,000 unless it is set), `QGA_SOAK_SEED` which (others each time), and `QEMU_GA` which
//! agent instead of this build.

mod driver;
mod files;
mod mix;
mod programs;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use qga_testkit::numbers;
use qga_testkit::{Program, Setup, TestAgent, wait};

use crate::driver::{Driver, Tally};
use crate::mix::Known;

const COMMANDS: u64 = 10_000;

/// Hosts at one time.
const HOSTS: u64 = 3;

/// What the agent may hold more at the end than after the first tenth.
const GROWTH_MAX: u64 = 1 << 20;

/// For programs and threads to end.
const LONG: Duration = Duration::from_secs(60);

/// What the agent has when nothing is asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holdings {
    descriptors: usize,
    threads: u64,
    /// Running and dead ones.
    children: (usize, usize),
}

fn holdings(agent: &TestAgent) -> Holdings {
    Holdings { descriptors: agent.fds(), threads: agent.threads(), children: agent.children() }
}

/// Waits until all threads that come and go are gone, and gives what is left.
fn at_rest(agent: &TestAgent) -> Holdings {
    wait::until("an idle agent", LONG, || {
        let now = holdings(agent);
        (now.threads == 1 && now.children == (0, 0)).then_some(now)
    })
}

/// Sends this many requests from all hosts together.
fn drive(agent: &TestAgent, known: &[Known], count: u64, seed: u64) -> Tally {
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let start = |number: u64| {
            let dir = agent.dir().join(format!("files-{seed}-{number}"));
            let seed = seed.wrapping_mul(HOSTS).wrapping_add(number);
            scope.spawn(move || Driver::new(agent, known, seed, &dir).run(count / HOSTS))
        };
        let hosts: Vec<_> = (0..HOSTS).map(start).collect();
        for host in hosts {
            tally.add(host.join().expect("a host"));
        }
    });
    tally
}

#[test]
fn after_a_great_many_mixed_commands_the_agent_is_what_it_was() {
    let count = numbers::from_environment("QGA_SOAK").unwrap_or(COMMANDS);
    let seed = numbers::from_environment("QGA_SOAK_SEED").unwrap_or_else(numbers::any_seed);
    let named = std::env::var_os("QEMU_GA").filter(|path| !path.is_empty());
    let program = named.map_or_else(|| env!("CARGO_BIN_EXE_qemu-ga").into(), PathBuf::from);
    println!("{count} commands of {}, QGA_SOAK_SEED={seed}", program.display());

    let mut agent = Setup::new(&Program::ours(program)).start();
    let known = Known::ask(&mut agent.host());
    let begin = Instant::now();
    let mut tally = drive(&agent, &known, count / 10, seed);
    let (before, memory_before) = (at_rest(&agent), agent.rss());
    tally.add(drive(&agent, &known, count - count / 10, seed.wrapping_add(1)));
    let seconds = begin.elapsed().as_secs();
    // (What is not given back shows below.)
    wait::poll(LONG, || (holdings(&agent) == before).then_some(()));
    let (after, memory) = (holdings(&agent), agent.rss());

    println!("{} commands in {seconds} s: {tally:#?}", tally.total());
    println!("resident memory {} KiB after a tenth, {} KiB at the end", memory_before >> 10, memory >> 10);
    println!("{before:?}");
    assert_eq!(after, before);
    assert!(
        memory < memory_before + GROWTH_MAX,
        "grown from {} to {} KiB (QGA_SOAK_SEED={seed})",
        memory_before >> 10,
        memory >> 10
    );
    assert!(agent.runs());
}
