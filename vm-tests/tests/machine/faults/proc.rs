//! A `/proc` that is not there, or has next to nothing in it.

use serde_json::{Value, json};

use super::{BOUNDED, Health, LINE, STATE, answers, close, end, everything_works, open, refused, restore};
use crate::Guest;

/// Starts the agent of the machine in a mount namespace of its own, after `script` in it.
fn unshared(script: &str) -> String {
    format!(
        "cat >/run/unshared <<'END'\n{script}\nexec setsid qemu-ga {LINE} {STATE}\nEND\n\
         unshare -m sh /run/unshared </dev/null >/run/qga/output 2>&1 & echo $! >/run/qga/pid"
    )
}

pub(crate) fn without_proc_each_command_answers_or_says_what_it_misses(guest: &mut Guest) {
    let machine = &mut guest.machine;
    end(machine);
    machine.shell.run(&unshared("mount -t tmpfs none /proc"));
    let mut agent = machine.agent();
    let before = Health::of(machine, "qga");
    let no_table = "failed to open mtab file: '/proc/self/mounts': No such file or directory";
    for (command, expected) in [
        ("guest-get-fsinfo", Some(no_table)),
        ("guest-fstrim", Some(no_table)),
        ("guest-fsfreeze-freeze", Some("failed to start the guardian of the freeze: No such file or directory")),
        ("guest-get-diskstats", Some("Could not open '/proc/diskstats': No such file or directory")),
        ("guest-get-cpustats", Some("Could not open '/proc/stat': No such file or directory")),
        ("guest-fsfreeze-status", None),
        ("guest-fsfreeze-thaw", None),
        ("guest-get-disks", None),
        ("guest-get-load", None),
        ("guest-get-host-name", None),
        ("guest-get-memory-block-info", None),
        ("guest-get-memory-blocks", None),
        ("guest-get-osinfo", None),
        ("guest-get-time", None),
        ("guest-get-timezone", None),
        ("guest-get-users", None),
        ("guest-get-vcpus", None),
        ("guest-network-get-interfaces", None),
        ("guest-network-get-route", None),
    ] {
        match expected {
            Some(text) => assert_eq!(refused(&mut agent, command, json!({})), text, "{command}"),
            None => drop(agent.call_within(command, json!({}), BOUNDED).unwrap()),
        }
    }
    let handle = open(&mut agent, "/run/file", "w");
    close(&mut agent, &handle);
    let started = agent.call("guest-exec", json!({ "path": "true" })).unwrap();
    qga_testkit::wait::until("the end of a program", BOUNDED, || {
        (agent.call("guest-exec-status", started.clone()).unwrap()["exited"] == true).then_some(())
    });
    answers(&mut agent);
    before.wait_again(machine, "qga");
    drop(agent);

    // Its own entry alone is enough for everything but the statistics.
    end(machine);
    machine.shell.run(&unshared(
        "mkdir -p /run/other-proc; mount -t proc none /run/other-proc; mount -t tmpfs none /proc; \
         ln -s /run/other-proc/self /proc/self",
    ));
    let mut agent = machine.agent();
    everything_works(&mut agent, machine, "/mnt/ext4/file");
    let before = Health::of(machine, "qga");
    for command in ["guest-get-diskstats", "guest-get-cpustats"] {
        let desc = refused(&mut agent, command, json!({}));
        assert!(desc.ends_with(": No such file or directory"), "{desc}");
    }
    // Those of IPv4 come over netlink.
    let routes = agent.call("guest-network-get-route", json!({})).unwrap();
    let is_v4 = |route: &Value| route["version"] == 4 && route["iface"] == "eth0";
    assert!(routes.as_array().is_some_and(|routes| !routes.is_empty() && routes.iter().all(is_v4)), "{routes}");
    everything_works(&mut agent, machine, "/mnt/ext4/file");
    answers(&mut agent);
    before.wait_again(machine, "qga");
    drop(agent);
    restore(machine);
    machine.shell.run("rm -r /run/unshared /run/other-proc /run/file");
}
