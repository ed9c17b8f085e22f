//! Boots the tests' machine, runs each argument as a script in its shell, shows what comes out, and turns it off.

use std::rc::Rc;
use std::time::Duration;

use vm_tests::{Image, Machine, Spec};

fn main() {
    let mut machine = Machine::boot(&Rc::new(Image::build()), Spec { disks: true, ..Spec::default() });
    for script in std::env::args().skip(1) {
        match machine.shell.try_run(&script, Duration::from_secs(600)) {
            Ok(outcome) => println!("{}\n(exit status {})", outcome.text, outcome.status),
            Err(error) => println!("{error}\n{}", machine.report()),
        }
    }
}
