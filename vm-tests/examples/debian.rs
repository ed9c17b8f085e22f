//! Boots the tests' Debian machine, runs each argument as a script in its shell, shows what comes out, and turns it off.

use std::rc::Rc;
use std::time::{Duration, Instant};

use vm_tests::{Machine, Spec, debian};

fn main() {
    let image = Rc::new(debian::image());
    let start = Instant::now();
    let mut machine = Machine::boot(&image, Spec { disks: true, ..Spec::default() });
    println!("the shell is there ({:.1} s)", start.elapsed().as_secs_f32());
    drop(machine.agent());
    println!("the agent answers ({:.1} s)", start.elapsed().as_secs_f32());
    for script in std::env::args().skip(1) {
        match machine.shell.try_run(&script, Duration::from_secs(600)) {
            Ok(outcome) => println!("{}\n(exit status {})", outcome.text, outcome.status),
            Err(error) => println!("{error}\n{}", machine.report()),
        }
    }
}
