//! Disks that are full or cannot be written to, among them the agent's own.

use qga_testkit::{Host, wait};
use serde_json::json;
use vm_tests::Machine;

use super::{BOUNDED, Health, LINE, answers, close, end, everything_works, open, refused, restore};
use crate::Guest;

/// Starts an agent in the background whose state, log and pid file all lie in `directory`.
fn start_in(machine: &mut Machine, directory: &str) -> Host {
    machine.shell.run(&format!(
        "qemu-ga {LINE} -d -t {directory} -l {directory}/log -f {directory}/pidfile && pidof qemu-ga >/run/qga/pid"
    ));
    machine.agent()
}

/// What needs no room on that disk.
#[track_caller]
fn the_rest_works(agent: &mut Host) {
    let started = agent.call("guest-exec", json!({ "path": "echo", "arg": ["out"], "capture-output": true })).unwrap();
    let status = wait::until("the end of a program", BOUNDED, || {
        let status = agent.call("guest-exec-status", started.clone()).unwrap();
        (status["exited"] == true).then_some(status)
    });
    assert_eq!(status["out-data"], "b3V0Cg==");
    agent.call("guest-get-fsinfo", json!({})).unwrap();
    assert_eq!(agent.call_within("guest-fsfreeze-freeze", json!({}), BOUNDED), Ok(json!(2)));
    assert_eq!(agent.call_within("guest-fsfreeze-thaw", json!({}), BOUNDED), Ok(json!(2)));
    answers(agent);
}

pub(crate) fn a_full_disk_costs_what_needs_room_on_it_and_no_more(guest: &mut Guest) {
    let machine = &mut guest.machine;
    end(machine);
    machine.shell.run("mount -t tmpfs -o size=256k none /mnt/other; ! dd if=/dev/zero of=/mnt/other/fill bs=4k");
    // Nothing of its own can be written from the beginning.
    let mut agent = start_in(machine, "/mnt/other");
    let state = "failed to commit persistent state to disk: /mnt/other/qga.state: No space left on device";
    for (path, mode) in [("/etc/passwd", "r"), ("/run/new", "w")] {
        assert_eq!(refused(&mut agent, "guest-file-open", json!({ "path": path, "mode": mode })), state);
    }
    machine.shell.run("[ ! -e /run/new ]");
    the_rest_works(&mut agent);
    machine.shell.run("rm /mnt/other/fill");
    everything_works(&mut agent, machine, "/mnt/other/file");
    let before = Health::of(machine, "qga");

    // And a file of the host's, in the middle of it.
    let handle = open(&mut agent, "/mnt/other/new", "w");
    machine.shell.run("! dd if=/dev/zero of=/mnt/other/fill bs=4k");
    let desc = refused(&mut agent, "guest-file-write", json!({ "handle": handle, "buf-b64": "bmV3" }));
    assert_eq!(desc, "failed to write to file: No space left on device");
    the_rest_works(&mut agent);
    machine.shell.run("rm /mnt/other/fill");
    let written = agent.call("guest-file-write", json!({ "handle": handle, "buf-b64": "bmV3" })).unwrap();
    assert_eq!(written["count"], 3);
    close(&mut agent, &handle);
    everything_works(&mut agent, machine, "/mnt/other/file");
    machine.shell.run("grep -Eq 'lines? of the log (was|were) lost' /mnt/other/log");
    before.wait_again(machine, "qga");
    drop(agent);
    restore(machine);
    machine.shell.run("umount /mnt/other");
}

pub(crate) fn on_a_root_that_is_read_only_the_agent_starts_and_does_what_it_can(guest: &mut Guest) {
    let machine = &mut guest.machine;
    end(machine);
    machine.shell.run("mkdir -p /var/lib/qga; mount -o remount,ro /; ! touch /etc/new 2>/dev/null");
    let mut agent = start_in(machine, "/var/lib/qga");
    let desc = refused(&mut agent, "guest-file-open", json!({ "path": "/etc/passwd" }));
    assert_eq!(desc, "failed to commit persistent state to disk: /var/lib/qga/qga.state: Read-only file system");
    let desc = refused(&mut agent, "guest-file-open", json!({ "path": "/etc/new", "mode": "w" }));
    assert_eq!(desc, "failed to open file '/etc/new' (mode: 'w'): Read-only file system");
    let password = json!({ "username": "root", "password": "c2VjcmV0", "crypted": false });
    let desc = refused(&mut agent, "guest-set-user-password", password);
    assert!(desc.starts_with("child process has failed to set user password: "), "{desc}");
    let keys = json!({ "username": "root", "keys": ["ssh-ed25519 AAAA test"] });
    let desc = refused(&mut agent, "guest-ssh-add-authorized-keys", keys);
    assert!(desc.ends_with("Read-only file system"), "{desc}");
    the_rest_works(&mut agent);
    let before = Health::of(machine, "qga");

    machine.shell.run("mount -o remount,rw /");
    everything_works(&mut agent, machine, "/etc/file");
    before.wait_again(machine, "qga");
    machine.shell.run("kill -HUP $(cat /run/qga/pid)");
    wait::until("a log file", BOUNDED, || {
        agent.call("guest-exec", json!({ "path": "true" })).unwrap();
        machine.shell.succeeds("grep -q 'guest-exec called' /var/lib/qga/log").then_some(())
    });
    drop(agent);
    restore(machine);
    machine.shell.run("rm -r /var/lib/qga");
}
