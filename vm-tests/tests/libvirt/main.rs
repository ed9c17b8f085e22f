//! The agent under a real libvirt, driven with virsh.

mod accounts;
mod ansible;
mod client;
mod clock;
mod exec;
mod information;
mod processors;
mod qga;
mod restart;
mod watching;

use std::process::ExitCode;
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use qga_testkit::wait;
use serde_json::{Value, json};
use vm_tests::harness::{self, Fixture};
use vm_tests::libvirt::{DOMAIN, Libvirt};
use vm_tests::machine::{BOOT, MAC};
use vm_tests::{Image, cases, process};

const MIB: u64 = 1 << 20;

/// The machine in libvirt that the cases share.
#[derive(Debug)]
struct Guest {
    libvirt: Libvirt,
    is_spent: bool,
}

thread_local! {
    static IMAGE: Rc<Image> = Rc::new(Image::build());
}

impl Fixture for Guest {
    fn start() -> Self {
        Self { libvirt: Libvirt::start(&IMAGE.with(Rc::clone)), is_spent: false }
    }

    fn is_usable(&mut self) -> bool {
        !self.is_spent
    }

    fn report(&mut self) -> String {
        self.libvirt.report()
    }
}

fn main() -> ExitCode {
    if process::run("id", &["-u"]).trim() != "0" {
        println!("SKIPPED: the libvirt tests need root, for namespaces of their own");
        return ExitCode::SUCCESS;
    }
    harness::run::<Guest>(cases![
        qemu_agent_command_gets_the_answer,
        guest_sync_takes_every_signed_number_and_nothing_else,
        domifaddr_shows_the_address_of_the_network_card,
        information::domfsinfo_shows_each_mounted_disk_with_its_target,
        information::domhostname_is_the_guests,
        information::guestinfo_os_is_os_release_and_uname,
        information::guestinfo_timezone_is_that_of_etc_localtime,
        information::guestinfo_user_is_who_is_logged_in,
        information::guestinfo_filesystem_has_the_sizes_that_df_has,
        information::guestinfo_disk_finds_each_disk_of_the_definition,
        information::guestinfo_interface_has_the_addresses_that_ip_has,
        information::guestinfo_without_a_selector_passes_over_blocked_commands,
        exec::qga_runs_a_program_and_shows_each_line_while_it_runs,
        exec::a_program_goes_on_while_the_guest_is_frozen_for_a_backup,
        processors::guestvcpus_takes_a_processor_away_and_gives_it_back,
        processors::setvcpus_changes_what_vcpucount_counts,
        accounts::set_user_password_is_the_hash_in_etc_shadow,
        accounts::the_ssh_keys_of_a_user_are_set_listed_removed_and_replaced,
        clock::domtime_reads_the_clock,
        clock::domtime_sets_the_clock_and_the_hardware_clock,
        domfsfreeze_stops_writes_and_domfsthaw_lets_them_go_on,
        domfstrim_gives_blocks_back_on_the_host,
        qga::two_domains_are_frozen_for_one_command_and_thawed_whatever_becomes_of_qga,
        qga::the_doctor_tells_the_layers_of_libvirt_apart,
        a_stopped_agent_times_out_and_answers_again_later,
        libvirt_sees_the_agent_go_and_come,
        client::the_client_library_reaches_the_agent_through_virsh,
        client::the_client_library_tells_an_agent_that_hangs_one_that_is_gone_and_no_machine_apart,
        watching::all_machines_of_libvirt_are_watched_and_an_agent_that_is_gone_is_down,
        restart::a_libvirtd_that_is_started_again_finds_the_same_agent_at_once,
        ansible::ansible_runs_commands_and_copies_files,
        dompmsuspend_and_dompmwakeup,
        shutdown_in_agent_mode_turns_the_machine_off,
    ])
}

/// Sends a raw command with `virsh qemu-agent-command`.
#[track_caller]
fn agent(libvirt: &Libvirt, command: &Value) -> Value {
    let reply = libvirt.virsh(&["qemu-agent-command", DOMAIN, &command.to_string()]);
    serde_json::from_str(&reply).unwrap_or_else(|error| panic!("{error}: {reply}"))
}

fn qemu_agent_command_gets_the_answer(guest: &mut Guest) {
    assert_eq!(agent(&guest.libvirt, &json!({ "execute": "guest-ping" })), json!({ "return": {} }));
    let empty = json!({ "execute": "guest-fsfreeze-status", "arguments": {} });
    assert_eq!(agent(&guest.libvirt, &empty), json!({ "return": "thawed" }));
    let info = agent(&guest.libvirt, &json!({ "execute": "guest-info" }));
    let commands = info["return"]["supported_commands"].as_array().unwrap();
    assert!(commands.iter().any(|command| command["name"] == "guest-fstrim" && command["enabled"] == true), "{info}");

    let command = json!({ "execute": "guest-nothing" }).to_string();
    let output = guest.libvirt.try_virsh(&["qemu-agent-command", DOMAIN, &command]);
    assert!(!output.status.success());
    assert!(
        process::text(&output).contains("The command guest-nothing has not been found"),
        "{}",
        process::text(&output)
    );
}

fn guest_sync_takes_every_signed_number_and_nothing_else(guest: &mut Guest) {
    for number in [123_456, 0, -1, i64::MAX, i64::MIN] {
        let reply = agent(&guest.libvirt, &json!({ "execute": "guest-sync", "arguments": { "id": number } }));
        assert_eq!(reply, json!({ "return": number }));
    }
    let refused = [
        r#"{"execute":"guest-sync","arguments":{"id":9223372036854775808}}"#,
        r#"{"execute":"guest-sync","arguments":{"id":-9223372036854775809}}"#,
        r#"{"execute":"guest-sync","arguments":{"id":1.1}}"#,
        r#"{"execute":"guest-sync","arguments":{"id":"1"}}"#,
        r#"{"execute":"guest-sync","arguments":{}}"#,
        r#"{"execute":"guest-sync"}"#,
        r#"{"execute":"guest-sync","argument":{"id":1}}"#,
    ];
    for command in refused {
        let output = guest.libvirt.try_virsh(&["qemu-agent-command", DOMAIN, command]);
        assert!(!output.status.success(), "{command} is answered: {}", process::text(&output));
        // The refusal is the agent's, and libvirt still talks to it.
        assert!(process::text(&output).contains("unable to execute QEMU agent command"), "{}", process::text(&output));
    }
    assert_eq!(agent(&guest.libvirt, &json!({ "execute": "guest-ping" })), json!({ "return": {} }));
}

fn domifaddr_shows_the_address_of_the_network_card(guest: &mut Guest) {
    let table = guest.libvirt.virsh(&["domifaddr", DOMAIN, "--source", "agent", "--full"]);
    let has =
        |words: &[&str]| table.lines().any(|line| words.iter().all(|word| line.split_whitespace().any(|w| w == *word)));
    assert!(has(&[MAC, "ipv4", "10.0.2.15/24"]), "{table}");
    assert!(has(&["lo", "ipv4", "127.0.0.1/8"]), "{table}");
}

fn domfsfreeze_stops_writes_and_domfsthaw_lets_them_go_on(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    assert_eq!(libvirt.virsh(&["domfsfreeze", DOMAIN]), "Froze 2 filesystem(s)");
    libvirt.shell.run("(echo late >/mnt/ext4/late; sync; touch /run/late) >/dev/null 2>&1 &");
    sleep(Duration::from_secs(2));
    assert!(!libvirt.shell.succeeds("[ -e /run/late ]"), "ext4 is written while frozen");
    assert_eq!(agent(libvirt, &json!({ "execute": "guest-fsfreeze-status" })), json!({ "return": "frozen" }));

    assert_eq!(libvirt.virsh(&["domfsthaw", DOMAIN]), "Thawed 2 filesystem(s)");
    wait::until("the late write", Duration::from_secs(60), || libvirt.shell.succeeds("[ -e /run/late ]").then_some(()));
    assert_eq!(libvirt.ext4.ext4_file("late"), b"late\n");
    assert_eq!(libvirt.virsh(&["domfsthaw", DOMAIN]), "Thawed 0 filesystem(s)");
}

fn domfstrim_gives_blocks_back_on_the_host(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    libvirt.virsh(&["domfstrim", DOMAIN]);
    let before = libvirt.xfs.allocated();
    libvirt
        .shell
        .run_within("dd if=/dev/zero of=/mnt/xfs/big bs=1M count=32 2>/dev/null; sync", Duration::from_secs(90));
    assert!(libvirt.xfs.allocated() >= before + 30 * MIB);
    libvirt.shell.run("rm /mnt/xfs/big; sync");
    wait::until("the blocks given back", Duration::from_secs(60), || {
        libvirt.virsh(&["domfstrim", DOMAIN, "--minimum", "4096"]);
        (libvirt.xfs.allocated() <= before + 4 * MIB).then_some(())
    });
}

fn a_stopped_agent_times_out_and_answers_again_later(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    libvirt.virsh(&["guest-agent-timeout", DOMAIN, "--timeout", "1"]);
    libvirt.shell.run("kill -STOP $(cat /run/qga/pid)");
    // One that changes nothing, twice: the second meets what the first has left in the port.
    for command in [["domfsthaw", DOMAIN], ["domfsinfo", DOMAIN]] {
        let begin = Instant::now();
        let output = libvirt.try_virsh(&command);
        assert!(!output.status.success(), "{} is answered: {}", command[0], process::text(&output));
        assert!(process::text(&output).contains("Guest agent"), "{}", process::text(&output));
        // A second for the agent, the rest for this machine.
        let took = begin.elapsed();
        assert!((Duration::from_secs(1)..Duration::from_secs(30)).contains(&took), "{} after {took:?}", command[0]);
    }
    libvirt.shell.run("kill -CONT $(cat /run/qga/pid)");
    libvirt.virsh(&["guest-agent-timeout", DOMAIN, "--timeout", "-2"]);
    assert_eq!(agent(libvirt, &json!({ "execute": "guest-ping" })), json!({ "return": {} }));
    assert!(libvirt.virsh(&["domfsinfo", DOMAIN]).contains("/mnt/ext4"));
}

fn libvirt_sees_the_agent_go_and_come(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    libvirt.restart_agent("");
    assert_eq!(agent(libvirt, &json!({ "execute": "guest-ping" })), json!({ "return": {} }));
}

fn dompmsuspend_and_dompmwakeup(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    libvirt.virsh(&["dompmsuspend", DOMAIN, "mem"]);
    wait::until("a suspended machine", BOOT, || (libvirt.state() == "pmsuspended").then_some(()));
    libvirt.virsh(&["dompmwakeup", DOMAIN]);
    wait::until("a running machine", BOOT, || (libvirt.state() == "running").then_some(()));
    libvirt.shell.wait_ready(BOOT).unwrap();
    // The port is set up anew, and libvirt may call the agent disconnected for a moment.
    let ping = json!({ "execute": "guest-ping" }).to_string();
    wait::until("an answer after waking up", BOOT, || {
        libvirt.try_virsh(&["qemu-agent-command", DOMAIN, &ping]).status.success().then_some(())
    });
}

fn shutdown_in_agent_mode_turns_the_machine_off(guest: &mut Guest) {
    guest.is_spent = true;
    let libvirt = &mut guest.libvirt;
    libvirt.shell.run("echo unsaved >/mnt/ext4/unsaved");
    libvirt.virsh(&["shutdown", DOMAIN, "--mode", "agent"]);
    // A transient machine that is off is gone.
    wait::until("the end of the machine", BOOT, || {
        libvirt.virsh(&["list", "--all", "--name"]).is_empty().then_some(())
    });
    assert_eq!(libvirt.ext4.ext4_file("unsaved"), b"unsaved\n");
}
