//! The agent in a real machine, watched from outside.

use std::process::ExitCode;
use std::rc::Rc;

use vm_tests::harness::{self, Fixture};
use vm_tests::{Image, Machine, Spec, cases};

mod file;

/// The machine that the cases share, and the image that the next one boots.
#[derive(Debug)]
struct Guest {
    machine: Machine,
    /// Set by a case that leaves the machine off or unfit for another.
    is_spent: bool,
}

thread_local! {
    static IMAGE: Rc<Image> = Rc::new(Image::build());
}

impl Fixture for Guest {
    fn start() -> Self {
        let machine = Machine::boot(&IMAGE.with(Rc::clone), Spec { disks: true, ..Spec::default() });
        Self { machine, is_spent: false }
    }

    fn is_usable(&mut self) -> bool {
        !self.is_spent
    }

    fn report(&mut self) -> String {
        self.machine.report()
    }
}

fn main() -> ExitCode {
    harness::run::<Guest>(cases![file::a_file_written_by_the_host_has_its_sha256_in_the_guest,])
}
