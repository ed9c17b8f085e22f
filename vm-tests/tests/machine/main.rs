//! The agent in a real machine, watched from outside.

use std::process::ExitCode;
use std::rc::Rc;

use vm_tests::harness::{self, Fixture};
use vm_tests::{Image, Machine, Spec, cases};

mod accounts;
mod connection;
mod copy;
mod devices;
mod exec;
mod faults;
mod file;
mod freeze;
mod guardian;
mod host_faults;
mod network;
mod ports;
mod power;
mod qga;
mod silence;
mod soak;
mod stacks;
mod stuck;
mod time;
mod trim;

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
    harness::run::<Guest>(cases![
        file::a_file_written_by_the_host_has_its_sha256_in_the_guest,
        file::a_file_of_the_guest_has_its_sha256_at_the_host,
        copy::a_copy_killed_half_way_is_resumed_and_has_the_same_hash_at_both_ends,
        network::the_interfaces_are_those_of_qemus_command_line,
        accounts::a_password_set_by_the_host_is_the_hash_in_etc_shadow,
        accounts::a_hash_set_by_the_host_is_stored_as_it_is,
        accounts::keys_are_the_users_and_the_agent_keeps_nothing_of_him,
        accounts::a_guest_without_anything_tells_what_the_kernel_knows,
        time::the_host_sets_the_clock_and_the_hardware_clock,
        time::the_clock_is_set_from_the_hardware_clock,
        time::a_guest_without_a_hardware_clock_has_its_clock_set,
        exec::a_program_is_run_in_each_capture_mode,
        exec::input_arrives_whole_and_output_comes_back_whole,
        exec::a_reply_with_output_stays_below_what_the_port_carries,
        exec::a_service_started_in_the_background_runs_on_and_no_zombie_stays,
        exec::qga_shows_each_line_of_a_program_while_it_runs,
        exec::qga_passes_on_streams_and_signals_and_leaves_nothing,
        devices::processors_go_offline_and_come_back,
        devices::the_default_route_is_the_user_mode_networks,
        freeze::freeze_stalls_a_writer_and_thaw_lets_it_go_on_with_nothing_lost,
        freeze::an_agent_killed_while_frozen_and_started_again_thaws,
        guardian::an_agent_killed_while_frozen_and_not_started_again_leaves_nothing_frozen,
        guardian::a_host_that_does_not_come_back_in_time_finds_all_thawed,
        guardian::an_agent_told_to_end_while_frozen_thaws_runs_the_hooks_and_exits_with_0,
        guardian::an_agent_that_aborts_or_crashes_while_frozen_leaves_nothing_frozen,
        guardian::an_agent_killed_for_want_of_memory_while_frozen_leaves_nothing_frozen,
        guardian::a_machine_that_boots_from_the_disks_of_a_frozen_one_is_not_frozen,
        guardian::nothing_of_the_agent_waits_for_a_frozen_file_system,
        qga::a_qga_freeze_that_is_killed_leaves_the_guest_thawed,
        qga::a_qga_freeze_that_is_interrupted_or_whose_time_is_over_leaves_the_guest_thawed,
        qga::a_qga_freeze_that_loses_its_connection_finds_another_and_thaws,
        qga::a_qga_freeze_that_outlasts_the_agents_own_limit_says_so,
        qga::a_guest_is_reached_over_vsock,
        qga::wait_and_doctor_tell_a_frozen_a_blocked_and_an_absent_agent_apart,
        soak::freezing_under_load_over_and_over_loses_nothing_and_leaves_nothing_behind,
        soak::killing_the_agent_while_frozen_over_and_over_loses_nothing,
        stacks::what_lies_on_device_mapper_md_and_an_overlay_is_frozen_before_what_is_below,
        stacks::a_disk_that_fails_fails_the_freeze_and_is_passed_over_in_mode_best_effort,
        stacks::a_suspended_device_fails_the_freeze_in_time_and_is_named,
        stacks::a_guardian_thaws_although_the_disk_of_its_own_program_does_not_answer,
        trim::fstrim_gives_the_blocks_of_a_removed_file_back_on_the_host,
        trim::fstrim_shrinks_the_map_of_a_simulated_disk_back_to_metadata,
        faults::disk::a_disk_that_fails_every_access_is_answered_with_errors_and_works_again_afterwards,
        faults::disk::a_disk_that_does_not_answer_holds_only_the_commands_that_need_it,
        faults::space::a_full_disk_costs_what_needs_room_on_it_and_no_more,
        faults::space::on_a_root_that_is_read_only_the_agent_starts_and_does_what_it_can,
        faults::proc::without_proc_each_command_answers_or_says_what_it_misses,
        faults::limits::without_descriptors_left_commands_say_so_until_files_are_closed,
        faults::limits::clients_that_cannot_be_accepted_cost_no_time_and_are_served_when_others_leave,
        faults::limits::without_processes_left_commands_say_so_and_what_is_frozen_is_thawed,
        faults::memory::when_memory_runs_out_a_program_of_the_host_is_ended_and_not_the_agent,
        faults::memory::an_agent_ended_for_its_memory_while_frozen_is_followed_by_one_that_thaws,
        faults::clock::when_the_clock_jumps_nothing_comes_early_or_late,
        stuck::a_suspended_disk_holds_up_a_freeze_and_a_trim_and_nothing_else,
        connection::a_host_that_goes_in_the_middle_of_a_request_hurts_no_later_one,
        connection::a_host_that_goes_before_its_reply_leaves_none_behind,
        connection::a_host_that_does_not_read_costs_little_and_gets_every_reply_later,
        connection::proxmox_connects_for_each_command_two_hundred_times,
        connection::an_agent_without_a_host_is_never_woken,
        connection::an_agent_with_a_silent_host_is_never_woken,
        silence::a_host_that_asks_and_does_not_read_costs_nothing_and_is_answered_at_once_afterwards,
        silence::a_host_that_fills_the_port_and_does_not_read_is_answered_before_all_is_carried_out,
        host_faults::a_machine_that_is_stopped_and_goes_on_answers_all_it_was_sent,
        host_faults::a_port_that_is_unplugged_and_plugged_in_again_has_the_same_agent_at_once,
        ports::an_isa_serial_line_carries_everything,
        ports::vsock_serves_two_clients_side_by_side,
        ports::without_retry_path_a_missing_port_is_one_clear_error,
        ports::a_port_may_come_late_go_and_come_back,
        power::suspend_ram_sleeps_until_the_host_wakes_it,
        power::suspend_hybrid_writes_an_image_and_sleeps_until_the_host_wakes_it,
        power::suspend_disk_ends_the_machine_and_the_next_one_goes_on,
        power::shutdown_mode_reboot_resets_the_machine,
        stuck::a_machine_whose_hook_hangs_is_rebooted,
        // The first and the last leave no machine behind; the one between has one of its own, without disks.
        power::shutdown_mode_powerdown_turns_the_machine_off,
        host_faults::a_machine_that_is_set_back_to_a_snapshot_has_the_same_agent_at_once,
        power::shutdown_mode_halt_stops_the_processors,
    ])
}
