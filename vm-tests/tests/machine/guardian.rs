//! Frozen file systems whose agent or host does not come back.

use std::time::Duration;

use qga_testkit::wait;
use serde_json::json;
use vm_tests::Machine;

use crate::Guest;

/// Both file systems of the machine.
const FILE_SYSTEMS: u64 = 2;

/// The agent's own line, as `start-agent` has it.
const LINE: &str = "-m virtio-serial -p /dev/virtio-ports/org.qemu.guest_agent.0 --retry-path";

/// Ends the agent of the machine and starts one with other options. QEMU lets in one host at a time, and nobody is
/// connected now.
pub(crate) fn restart(machine: &mut Machine, options: &str) {
    end_agent(machine);
    machine.shell.run(&format!("start-agent qga {LINE} {options}"));
}

/// Ends the agent of the machine.
pub(crate) fn end_agent(machine: &mut Machine) {
    machine.shell.run("kill $(cat /run/qga/pid)");
    wait_gone(machine);
}

/// Waits for the end of the agent.
fn wait_gone(machine: &mut Machine) {
    machine.shell.run("while [ -d /proc/$(cat /run/qga/pid) ]; do usleep 50000; done");
}

/// Has a program in the guest write to both, which waits while they are frozen.
pub(crate) fn write_late(machine: &mut Machine) {
    machine.shell.run("rm -f /run/late-*");
    for name in ["ext4", "xfs"] {
        machine.shell.run(&format!("(echo late >/mnt/{name}/late; touch /run/late-{name}) >/dev/null 2>&1 &"));
    }
}

pub(crate) fn wait_written(machine: &mut Machine) {
    wait::until("the writes that waited", Duration::from_secs(60), || {
        machine.shell.succeeds("[ -e /run/late-ext4 ] && [ -e /run/late-xfs ]").then_some(())
    });
    machine.shell.run("rm -f /run/late-* /mnt/ext4/late /mnt/xfs/late");
}

pub(crate) fn wait_no_guardian(machine: &mut Machine) {
    wait::until("the end of the guardian", Duration::from_secs(30), || {
        machine.shell.succeeds("! grep -q guardian /proc/[0-9]*/comm").then_some(())
    });
}

pub(crate) fn an_agent_killed_while_frozen_and_not_started_again_leaves_nothing_frozen(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let mut agent = machine.agent();
    assert_eq!(agent.call("guest-fsfreeze-freeze", json!({})), Ok(json!(FILE_SYSTEMS)));
    write_late(machine);
    assert!(machine.shell.succeeds("grep -q guardian /proc/[0-9]*/comm"));
    machine.shell.run("kill -9 $(cat /run/qga/pid)");
    wait_gone(machine);
    assert!(!machine.shell.succeeds("[ -e /run/late-ext4 ] || [ -e /run/late-xfs ]"), "another agent may come");
    wait_written(machine);
    wait_no_guardian(machine);
    drop(agent);

    machine.shell.run("start-agent");
    let mut agent = machine.agent();
    assert_eq!(agent.call("guest-fsfreeze-status", json!({})), Ok(json!("thawed")));
    let error = agent.call("guest-fsfreeze-thaw", json!({})).unwrap_err();
    assert_eq!(error.desc, "the agent ended while file systems were frozen, and they were thawed then");
    assert_eq!(agent.call("guest-fsfreeze-freeze", json!({})), Ok(json!(FILE_SYSTEMS)));
    assert_eq!(agent.call("guest-fsfreeze-thaw", json!({})), Ok(json!(FILE_SYSTEMS)));
}

/// After the end of an agent that nobody starts again: waits for the thaw, and sees that the next agent tells of it.
fn is_thawed_without_agent(machine: &mut Machine) {
    wait_written(machine);
    wait_no_guardian(machine);
    machine.shell.run("start-agent");
    let mut agent = machine.agent();
    let error = agent.call("guest-fsfreeze-thaw", json!({})).unwrap_err();
    assert_eq!(error.desc, "the agent ended while file systems were frozen, and they were thawed then");
    assert_eq!(agent.call("guest-fsfreeze-thaw", json!({})), Ok(json!(0)));
}

pub(crate) fn an_agent_that_aborts_or_crashes_while_frozen_leaves_nothing_frozen(guest: &mut Guest) {
    let machine = &mut guest.machine;
    // What a panic that cannot be caught ends with, and an instruction that must not be reached. (A SEGV that no fault
    // has caused is taken by Rust's own handler, once.)
    for signal in ["ABRT", "ILL"] {
        let mut agent = machine.agent();
        assert_eq!(agent.call("guest-fsfreeze-freeze", json!({})), Ok(json!(FILE_SYSTEMS)));
        write_late(machine);
        machine.shell.run(&format!("kill -{signal} $(cat /run/qga/pid)"));
        wait_gone(machine);
        drop(agent);
        is_thawed_without_agent(machine);
    }
}

pub(crate) fn an_agent_killed_for_want_of_memory_while_frozen_leaves_nothing_frozen(guest: &mut Guest) {
    let machine = &mut guest.machine;
    end_agent(machine);
    // A control group in which all are killed when one wants too much, as with systemd's OOMPolicy=kill.
    machine.shell.run(
        "mkdir -p /run/groups; mount -t cgroup2 none /run/groups; echo +memory >/run/groups/cgroup.subtree_control
         mkdir /run/groups/agent; cd /run/groups/agent; echo 64M >memory.max; echo 0 >memory.swap.max
         echo 1 >memory.oom.group; cd /
         sh -c 'echo $$ >/run/groups/agent/cgroup.procs; exec start-agent'",
    );
    let mut agent = machine.agent();
    assert_eq!(agent.call("guest-fsfreeze-freeze", json!({})), Ok(json!(FILE_SYSTEMS)));
    write_late(machine);
    let members = "for pid in $(cat /run/groups/agent/cgroup.procs); do cat /proc/$pid/comm; done";
    let names = machine.shell.run(members);
    assert!(names.contains("qemu-ga") && names.contains("qga-guardian"), "{names}");
    machine
        .shell
        .run("sh -c 'echo $$ >/run/groups/agent/cgroup.procs; exec dd if=/dev/zero of=/dev/null bs=256M count=1' || :");
    wait_gone(machine);
    assert_eq!(machine.shell.run(members), "qga-guardian", "all but the guardian are killed");
    assert!(machine.shell.number("sed -n 's/^oom_kill //p' /run/groups/agent/memory.events") >= 2);
    drop(agent);
    is_thawed_without_agent(machine);
    machine.shell.run("rmdir /run/groups/agent; umount /run/groups");
}

pub(crate) fn a_host_that_does_not_come_back_in_time_finds_all_thawed(guest: &mut Guest) {
    let machine = &mut guest.machine;
    restart(machine, "-l /run/qga/log --fsfreeze-timeout 3");
    let mut agent = machine.agent();
    assert_eq!(agent.call("guest-fsfreeze-freeze", json!({})), Ok(json!(FILE_SYSTEMS)));
    write_late(machine);
    wait_written(machine);
    wait_no_guardian(machine);
    assert_eq!(agent.call("guest-fsfreeze-status", json!({})), Ok(json!("thawed")));
    // All commands are back, and the log says what happened.
    let text = "file systems were thawed before this request, after 3 s: no freeze may last longer";
    assert!(machine.shell.succeeds(&format!("grep -q '{text}' /run/qga/log")));
    let handle = agent.call("guest-file-open", json!({ "path": "/run/qga/log" })).unwrap();
    agent.call("guest-file-close", json!({ "handle": handle })).unwrap();
    assert_eq!(agent.call("guest-fsfreeze-thaw", json!({})).unwrap_err().desc, text);
    assert_eq!(agent.call("guest-fsfreeze-thaw", json!({})), Ok(json!(0)));
    drop(agent);
    restart(machine, "-l /run/qga/log");
    machine.agent();
}

pub(crate) fn an_agent_told_to_end_while_frozen_thaws_runs_the_hooks_and_exits_with_0(guest: &mut Guest) {
    let machine = &mut guest.machine;
    machine.shell.run(
        "printf '#!/bin/sh\\necho hook $1 >>/run/hooks\\n' >/run/hook; chmod 755 /run/hook; rm -f /run/hooks\n\
         mkdir -p /run/hook.d; printf '#!/bin/sh\\necho dir $1 >>/run/hooks\\n' >/run/hook.d/10; chmod 755 /run/hook.d/10",
    );
    for signal in ["TERM", "INT"] {
        end_agent(machine);
        machine.shell.run(&format!(
            "rm -f /run/status /run/hooks; (setsid sh -c 'echo $$ >/run/qga/pid; exec qemu-ga {LINE} -t /run/qga -F/run/hook \
             --fsfreeze-hook-dir /run/hook.d' </dev/null >/run/qga/output 2>&1; echo $? >/run/status) >/dev/null 2>&1 &"
        ));
        let mut agent = machine.agent();
        assert_eq!(agent.call("guest-fsfreeze-freeze", json!({})), Ok(json!(FILE_SYSTEMS)));
        write_late(machine);
        machine.shell.run(&format!("kill -{signal} $(cat /run/qga/pid)"));
        wait::until("the end of the agent", Duration::from_secs(60), || {
            machine.shell.succeeds("[ -s /run/status ]").then_some(())
        });
        assert_eq!(machine.shell.number("cat /run/status"), 0);
        wait_written(machine);
        wait_no_guardian(machine);
        let hooks = machine.shell.run("tr '\\n' ',' </run/hooks");
        assert_eq!(hooks.trim(), "hook freeze,dir freeze,dir thaw,hook thaw,");
        drop(agent);
        machine.shell.run("start-agent");
        let mut agent = machine.agent();
        assert_eq!(agent.call("guest-fsfreeze-thaw", json!({})), Ok(json!(0)), "nothing was exceeded");
    }
}

pub(crate) fn a_machine_that_boots_from_the_disks_of_a_frozen_one_is_not_frozen(guest: &mut Guest) {
    let machine = &mut guest.machine;
    // Its state lies on a disk, as where /var/run is no tmpfs.
    let start = format!(
        "mkdir -p /mnt/ext4/state
         setsid qemu-ga {LINE} -l /run/qga/log -t /mnt/ext4/state </dev/null >/run/qga/output 2>&1 &
         echo $! >/run/qga/pid"
    );
    end_agent(machine);
    machine.shell.run(&start);
    let mut agent = machine.agent();
    assert_eq!(agent.call("guest-fsfreeze-freeze", json!({})), Ok(json!(FILE_SYSTEMS)));
    assert!(machine.shell.succeeds("[ -s /mnt/ext4/state/qga.state.isfrozen ]"));
    drop(agent);
    // As a snapshot of these disks, or a clone, does.
    machine.start_again();

    let mut agent = machine.agent();
    assert_eq!(agent.call("guest-fsfreeze-status", json!({})), Ok(json!("thawed")));
    drop(agent);
    assert!(machine.shell.succeeds("[ -s /mnt/ext4/state/qga.state.isfrozen ]"), "the mark came with the disk");
    end_agent(machine);
    machine.shell.run(&start);
    let mut agent = machine.agent();
    assert_eq!(agent.call("guest-fsfreeze-status", json!({})), Ok(json!("thawed")));
    assert!(!machine.shell.succeeds("[ -e /mnt/ext4/state/qga.state.isfrozen ]"));
    assert!(machine.shell.succeeds("grep -q 'is of another boot and means nothing' /run/qga/log"));
    assert_eq!(agent.call("guest-fsfreeze-thaw", json!({})), Ok(json!(0)));
    assert_eq!(agent.call("guest-fsfreeze-freeze", json!({})), Ok(json!(FILE_SYSTEMS)));
    assert_eq!(agent.call("guest-fsfreeze-thaw", json!({})), Ok(json!(FILE_SYSTEMS)));
    drop(agent);
    restart(machine, "-l /run/qga/log");
    machine.shell.run("rm -r /mnt/ext4/state");
    machine.agent();
}

pub(crate) fn nothing_of_the_agent_waits_for_a_frozen_file_system(guest: &mut Guest) {
    let machine = &mut guest.machine;
    // Log, state and pid file lie on what gets frozen: whoever writes there would wait in the kernel for the thaw.
    machine.shell.run("mkdir -p /mnt/ext4/state; kill $(cat /run/qga/pid)");
    machine.shell.run(&format!(
        "while [ -d /proc/$(cat /run/qga/pid) ]; do usleep 50000; done\n\
         setsid qemu-ga {LINE} -v -t /mnt/ext4/state -l /mnt/ext4/state/log </dev/null >/run/qga/output 2>&1 &\n\
         echo $! >/run/qga/pid"
    ));
    let mut agent = machine.agent();
    assert_eq!(agent.call("guest-fsfreeze-freeze", json!({})), Ok(json!(FILE_SYSTEMS)));
    for _ in 0..5 {
        agent.call("guest-ping", json!({})).unwrap();
        agent.call("guest-info", json!({})).unwrap();
        assert!(agent.call("guest-file-open", json!({ "path": "/etc/passwd" })).is_err());
        assert!(agent.call("guest-exec", json!({ "path": "/bin/true" })).is_err());
        assert_eq!(agent.call("guest-fsfreeze-status", json!({})), Ok(json!("frozen")));
    }
    machine.shell.run("kill -HUP $(cat /run/qga/pid)");
    agent.call("guest-ping", json!({})).unwrap();
    // Of the agent and of its guardian.
    let ours = machine.shell.run(
        "for p in $(cat /run/qga/pid) $(grep -ls guardian /proc/[0-9]*/comm | cut -d / -f 3); do cat /proc/$p/task/*/status 2>/dev/null; done | grep State",
    );
    assert!(ours.lines().count() >= 2 && !ours.contains("D ("), "{ours}");
    let snapshot = machine.disks.as_ref().unwrap().ext4.copy("frozen.img");
    let frozen = snapshot.ext4_file("state/log");
    assert_eq!(agent.call("guest-fsfreeze-thaw", json!({})), Ok(json!(FILE_SYSTEMS)));
    machine.shell.run("sync");
    let later = machine.disks.as_ref().unwrap().ext4.copy("thawed.img").ext4_file("state/log");
    let added = String::from_utf8_lossy(later.strip_prefix(&frozen[..]).expect("a log is only added to")).into_owned();
    // Where the disk is slow to take it, a line is given up, and a later one says so.
    let first = added.lines().next().unwrap();
    let says_so = ["logging re-enabled due to filesystem unfreeze", "earlier lines of the log were lost"];
    assert!(says_so.iter().any(|text| first.contains(text)), "{added}");
    drop(agent);
    machine.shell.run("kill $(cat /run/qga/pid); while [ -d /proc/$(cat /run/qga/pid) ]; do usleep 50000; done");
    machine.shell.run("rm -r /mnt/ext4/state; start-agent");
    machine.agent();
}
