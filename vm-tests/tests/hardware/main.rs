//! A machine with a disk on every bus and room for more memory: what the agent tells of it is what QEMU was told.

use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use qga_testkit::wait;
use vm_tests::harness::{self, Fixture};
use vm_tests::{Image, Machine, Spec, cases, hardware};

mod buses;
mod memory;

/// The machine that the cases share.
#[derive(Debug)]
struct Guest {
    machine: Machine,
    /// Set by a case that leaves the machine unfit for another.
    is_spent: bool,
}

thread_local! {
    static IMAGE: Rc<Image> = Rc::new(Image::build_for_hardware());
}

impl Fixture for Guest {
    fn start() -> Self {
        let spec = Spec { disks: true, hardware: true, ..Spec::default() };
        let mut machine = Machine::boot(&IMAGE.with(Rc::clone), spec);
        machine.shell.run_within(hardware::DRIVERS, Duration::from_secs(120));
        // Those on USB come last, each in its own time.
        let all = hardware::PLACES.len() + hardware::TWICE.1.len() + 3;
        let count = "ls /sys/block | grep -cE '^(vd|sd|nvme[0-9]+n|mmcblk)'";
        wait::until("all the disks", Duration::from_secs(180), || {
            (machine.shell.number(count) == all as u64).then_some(())
        });
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
    harness::run::<Guest>(cases![
        buses::the_disks_on_each_bus_are_those_of_qemus_command_line,
        buses::what_lies_on_several_disks_has_the_addresses_of_all,
        buses::subvolumes_and_shared_directories_are_listed_and_temporary_ones_are_not,
        memory::blocks_of_a_memory_module_go_online_and_offline,
    ])
}
