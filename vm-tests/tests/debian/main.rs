//! The agent in Debian with systemd, installed as the README says.

use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use qga_testkit::wait;
use serde_json::{Value, json};
use vm_tests::harness::{self, Fixture};
use vm_tests::machine::BOOT;
use vm_tests::{Image, Machine, Spec, cases, debian};

mod account;
mod clock;
mod facts;
mod freeze;
mod journal;
mod power;
mod service;
mod watchdog;

/// The limit for something that the guest does by itself, on a busy host.
const SOON: Duration = Duration::from_secs(60);

const UNIT: &str = "qemu-guest-agent.service";

/// The machine that the cases share.
#[derive(Debug)]
struct Guest {
    machine: Machine,
    /// Set by a case that leaves the machine off.
    is_spent: bool,
}

thread_local! {
    static IMAGE: Rc<Image> = Rc::new(debian::image());
}

impl Fixture for Guest {
    fn start() -> Self {
        let machine = Machine::boot(&IMAGE.with(Rc::clone), Spec { disks: true, ..Spec::default() });
        let mut guest = Self { machine, is_spent: false };
        guest.wait_started();
        guest
    }

    fn is_usable(&mut self) -> bool {
        !self.is_spent
    }

    fn report(&mut self) -> String {
        self.machine.report()
    }
}

impl Guest {
    /// Waits until systemd has started everything, and wants nothing to have failed.
    fn wait_started(&mut self) {
        let shell = &mut self.machine.shell;
        let state = shell.run_within("systemctl is-system-running --wait; :", BOOT);
        assert_eq!(state, "running", "{}", shell.run("systemctl --failed --no-legend"));
    }

    /// Waits until the service is as it should be: `active`, `inactive`, `failed`.
    #[track_caller]
    fn wait_service(&mut self, state: &str) {
        wait::until(&format!("the service being {state}"), SOON, || {
            (self.service("ActiveState") == state).then_some(())
        });
    }

    /// A property of the agent's service.
    #[track_caller]
    fn service(&mut self, property: &str) -> String {
        self.machine.shell.run(&format!("systemctl show --value --property={property} {UNIT}"))
    }

    /// Settings of a test's own, in place of those of the unit. The next start has them.
    #[track_caller]
    fn override_unit(&mut self, name: &str, settings: &str) {
        let directory = format!("/run/systemd/system/{UNIT}.d");
        let settings = settings.replace('\n', "\\n");
        let script =
            format!("mkdir -p {directory}; printf '{settings}' >{directory}/{name}.conf; systemctl daemon-reload");
        self.machine.shell.run_within(&script, SOON);
    }

    /// Undoes [`Guest::override_unit`].
    #[track_caller]
    fn keep_unit(&mut self, name: &str) {
        let script = format!("rm -f /run/systemd/system/{UNIT}.d/{name}.conf; systemctl daemon-reload");
        self.machine.shell.run_within(&script, SOON);
    }

    /// Asks the agent on a connection of its own.
    #[track_caller]
    fn call(&mut self, command: &str, arguments: Value) -> Value {
        self.machine.agent().call(command, arguments).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    #[track_caller]
    fn ping(&mut self) {
        assert_eq!(self.call("guest-ping", json!({})), json!({}));
    }
}

fn main() -> ExitCode {
    if !debian::can_be_made() {
        println!("SKIPPED: making a Debian root file system needs root, the first time");
        // A person may go without; a machine that checks must not.
        return if std::env::var("CI").is_ok_and(|value| value == "true") {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        };
    }
    harness::run::<Guest>(cases![
        service::the_udev_rule_starts_the_service,
        facts::the_system_is_the_one_of_os_release,
        facts::the_time_zone_is_the_one_that_date_tells,
        facts::a_user_is_told_from_login_to_logout,
        facts::serial_numbers_are_those_of_udev,
        facts::a_program_has_the_environment_of_a_service,
        account::a_password_set_by_the_host_lets_its_user_in_and_no_other_does,
        account::a_hash_set_by_the_host_lets_its_user_in,
        account::a_key_added_by_the_host_is_the_users_own,
        clock::the_host_sets_the_clocks,
        freeze::with_the_root_and_the_journal_frozen_the_agent_answers_and_nothing_is_lost,
        freeze::a_service_stopped_while_frozen_thaws,
        freeze::an_agent_killed_while_frozen_is_started_again_and_thaws,
        freeze::a_port_unplugged_while_frozen_thaws,
        freeze::fstrim_gives_the_blocks_of_the_root_file_system_back,
        service::a_killed_agent_is_started_again,
        service::the_service_goes_and_comes_with_the_port,
        watchdog::an_agent_whose_port_is_absent_waits_and_is_not_started_again,
        watchdog::an_agent_that_hangs_is_ended_by_the_watchdog_and_started_again,
        watchdog::an_agent_that_hangs_while_frozen_leaves_nothing_frozen,
        watchdog::a_machine_that_stood_still_is_no_reason_to_end_the_agent,
        service::installed_as_the_readme_says_it_starts_at_once,
        service::a_mistake_in_the_configuration_is_told_and_not_tried_for_ever,
        journal::lines_in_the_journal_carry_their_severity,
        power::suspend_ram_goes_through_systemd,
        power::suspend_disk_goes_through_systemd_and_the_next_boot_goes_on,
        journal::the_journal_has_no_complaint_by_or_about_the_agent,
        power::shutdown_mode_reboot_boots_anew_and_the_journal_says_why,
        // These two leave no machine behind.
        power::shutdown_mode_powerdown_ends_in_order_and_the_journal_on_the_disk_says_why,
        power::shutdown_mode_halt_stops_the_processors,
    ])
}
