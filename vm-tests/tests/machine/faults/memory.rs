//! No more memory: the kernel ends a process of the agent's control group.

use qga_testkit::wait;
use serde_json::json;

use super::{BOUNDED, Health, STATE, answers, everything_works, in_group, restart, restore};
use crate::Guest;

/// Enough for the agent and its guardian, and none of it in swap space.
const LIMITS: &[(&str, &str)] = &[("memory.max", "8M"), ("memory.swap.max", "0")];

pub(crate) fn when_memory_runs_out_a_program_of_the_host_is_ended_and_not_the_agent(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let group = in_group(machine, "small", LIMITS);
    let mut agent = restart(machine, &group, STATE);
    // As a service manager may do it. What the agent starts is not spared with it.
    machine.shell.run("echo -900 >/proc/$(cat /run/qga/pid)/oom_score_adj");
    everything_works(&mut agent, machine, "/mnt/ext4/file");
    let before = Health::of(machine, "qga");
    for (program, expected) in [
        (json!({ "path": "cat", "arg": ["/proc/self/oom_score_adj"], "capture-output": true }), json!("MAo=")),
        (json!({ "path": "dd", "arg": ["if=/dev/zero", "of=/dev/null", "bs=64M"] }), json!(9)),
    ] {
        let started = agent.call("guest-exec", program).unwrap();
        let status = wait::until("the end of a program", BOUNDED, || {
            let status = agent.call("guest-exec-status", started.clone()).unwrap();
            (status["exited"] == true).then_some(status)
        });
        assert!(status["out-data"] == expected || status["signal"] == expected, "{status}");
    }
    answers(&mut agent);
    everything_works(&mut agent, machine, "/mnt/ext4/file");
    before.wait_again(machine, "qga");
    drop(agent);
    restore(machine);
    machine.shell.run("rmdir /sys/fs/cgroup/small");
}

pub(crate) fn an_agent_ended_for_its_memory_while_frozen_is_followed_by_one_that_thaws(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let group = in_group(machine, "tight", LIMITS);
    let mut agent = restart(machine, &group, STATE);
    assert_eq!(agent.call_within("guest-fsfreeze-freeze", json!({}), BOUNDED), Ok(json!(2)));
    // As a service manager does.
    machine.shell.run(
        "(while [ -d /proc/$(cat /run/qga/pid) ]; do usleep 20000; done; start-agent; echo >/run/again) >/dev/null 2>&1 &",
    );
    // A request that is too big for this machine. The guardian is the last that the kernel would take.
    agent.send_raw(b"{\"execute\": \"guest-ping\", \"id\": \"").unwrap();
    let piece = vec![b'x'; 256 << 10];
    let ended = (0..48).any(|_| {
        let _ = agent.send_raw_within(&piece, BOUNDED);
        machine.shell.succeeds("[ -e /run/again ]")
    });
    assert!(ended, "an agent with 8 MiB of memory takes 12");
    drop(agent);
    machine.shell.run("grep -q 'oom_kill 1' /sys/fs/cgroup/tight/memory.events; rm /run/again");
    let mut agent = machine.agent();
    assert_eq!(agent.call("guest-fsfreeze-status", json!({})), Ok(json!("frozen")));
    assert_eq!(agent.call_within("guest-fsfreeze-thaw", json!({}), BOUNDED), Ok(json!(2)));
    everything_works(&mut agent, machine, "/mnt/ext4/file");
    wait::until("the end of the guardian", BOUNDED, || {
        machine.shell.succeeds("rmdir /sys/fs/cgroup/tight").then_some(())
    });
}
