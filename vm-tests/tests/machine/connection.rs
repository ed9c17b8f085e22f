//! Hosts that come, go, and do not listen.

use std::io::ErrorKind;
use std::thread::sleep;
use std::time::{Duration, Instant};

use qga_testkit::host::{PATIENCE, outcome, request};
use qga_testkit::{Host, Proxmox};
use serde_json::{Value, json};
use vm_tests::shell::Shell;

use crate::Guest;
use crate::file::{hash, noise};

/// Synchronises as libvirt does: guest-sync without a byte 0xFF before it, again after five seconds without an answer.
/// The kernel does not tell the agent of a host that comes back at once, so the first may drown in the remains of the
/// earlier one. An error says so at once.
pub(crate) fn sync_like_libvirt(agent: &mut Host, round: i64) {
    for attempt in 0..4 {
        let number = 1_000_000 + 10 * round + attempt;
        agent.send("guest-sync", &json!({ "id": number })).unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            match agent.read_json(end.saturating_duration_since(Instant::now())) {
                Ok(reply) if reply["return"] == json!(number) => return,
                // A late reply of before.
                Ok(reply) if reply.get("return").is_some() => (),
                Ok(reply) if reply.get("error").is_some() => break,
                Ok(reply) => panic!("neither value nor error: {reply}"),
                Err(error) if error.kind() == ErrorKind::TimedOut => break,
                Err(error) => panic!("round {round}: {error}"),
            }
        }
    }
    panic!("round {round}: guest-sync is not answered");
}

pub(crate) fn a_host_that_goes_in_the_middle_of_a_request_hurts_no_later_one(guest: &mut Guest) {
    let handle = guest.machine.agent().call("guest-file-open", json!({ "path": "/run/qga/kept", "mode": "w" }));
    let handle = handle.unwrap();
    let whole = request("guest-file-write", &json!({ "handle": handle, "buf-b64": "bmV2ZXIK" }));
    for round in 0..20 {
        let mut going = guest.machine.connect_agent();
        // Cut at another byte each time, once before the first.
        going.send_raw(&whole[..round * whole.len() / 20]).unwrap();
        sleep(Duration::from_millis(if round % 2 == 0 { 0 } else { 100 }));
        drop(going);
        let mut next = guest.machine.connect_agent();
        sync_like_libvirt(&mut next, round as i64);
        assert_eq!(next.call("guest-ping", json!({})), Ok(json!({})), "round {round}");
    }
    // The handle lived through it all, and no half request was carried out.
    let mut agent = guest.machine.agent();
    let arguments = json!({ "handle": handle, "buf-b64": "a2VwdAo=" });
    assert_eq!(agent.call("guest-file-write", arguments).unwrap()["count"], 5);
    agent.call("guest-file-close", json!({ "handle": handle })).unwrap();
    assert_eq!(guest.machine.shell.run("cat /run/qga/kept; rm /run/qga/kept"), "kept");
}

pub(crate) fn a_host_that_goes_before_its_reply_leaves_none_behind(guest: &mut Guest) {
    for round in 0..20 {
        let mut going = guest.machine.connect_agent();
        for _ in 0..=round {
            going.send("guest-info", &json!({})).unwrap();
        }
        drop(going);
        let mut next = guest.machine.connect_agent();
        next.sync(PATIENCE).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(next.call("guest-ping", json!({})), Ok(json!({})), "round {round}");
    }
}

pub(crate) fn a_host_that_does_not_read_costs_little_and_gets_every_reply_later(guest: &mut Guest) {
    const READS: u64 = 32;
    const COUNT: u64 = 1 << 20;
    let machine = &mut guest.machine;
    machine.shell.run(&format!("truncate -s {} /run/qga/zeros", READS * COUNT));
    let mut agent = machine.agent();
    let handle = agent.call("guest-file-open", json!({ "path": "/run/qga/zeros" })).unwrap();
    for id in 0..READS {
        let arguments = json!({ "handle": handle, "count": COUNT });
        let message = json!({ "execute": "guest-file-read", "arguments": arguments, "id": id });
        agent.send_raw(format!("{message}\n").as_bytes()).unwrap();
    }
    sleep(Duration::from_secs(2));
    let before = ticks(&mut machine.shell);
    sleep(Duration::from_secs(2));
    let used = ticks(&mut machine.shell) - before;
    // A hundred a second: an agent that spins uses two hundred.
    assert!(used < 50, "{used} ticks of processor time in two seconds of waiting for the host");
    let memory = machine.shell.number("awk '/^VmRSS:/ { print $2 }' /proc/$(cat /run/qga/pid)/status");
    assert!(memory < 32 * 1024, "{memory} KiB while the host does not read");

    for id in 0..READS {
        let reply = agent.read_json(PATIENCE).unwrap();
        assert_eq!(reply["id"], json!(id));
        assert_eq!(outcome(reply).unwrap().unwrap()["count"], json!(COUNT));
    }
    agent.call("guest-file-close", json!({ "handle": handle })).unwrap();
    machine.shell.run("rm /run/qga/zeros");
}

/// Processor time the agent used so far, in hundredths of a second.
pub(crate) fn ticks(shell: &mut Shell) -> u64 {
    shell.number("set -- $(cat /proc/$(cat /run/qga/pid)/stat); echo $((${14} + ${15}))")
}

/// How often the threads of the agent went to sleep so far: the same later means that nothing woke them.
fn wake_ups(shell: &mut Shell) -> Value {
    json!(shell.run("cat /proc/$(cat /run/qga/pid)/task/*/status 2>/dev/null | grep ^voluntary"))
}

pub(crate) fn proxmox_connects_for_each_command_two_hundred_times(guest: &mut Guest) {
    let machine = &mut guest.machine;
    // Another host at this port has said its last word before.
    drop(machine.agent());
    let mut proxmox = Proxmox::new(machine.agent_socket());
    let mut round = 0;
    while proxmox.count() < 200 {
        assert_eq!(proxmox.call("guest-ping", &json!({})), Ok(json!({})), "round {round}");
        let interfaces = proxmox.call("guest-network-get-interfaces", &json!({})).unwrap();
        assert_eq!(interfaces[1]["name"], "eth0", "round {round}");
        let bytes = noise(100 * round);
        proxmox.write_file("/run/qga/written", &bytes);
        let there = machine.shell.run("sha256sum </run/qga/written");
        assert_eq!(there.split(' ').next(), Some(hash(&bytes).as_str()), "round {round}");
        round += 1;
    }
    machine.shell.run("rm /run/qga/written");
}

pub(crate) fn an_agent_without_a_host_is_never_woken(guest: &mut Guest) {
    let machine = &mut guest.machine;
    drop(machine.agent());
    // Workers that were needed before may still end after a while.
    let still = Duration::from_secs(3);
    let calm = (0..10).find(|_| {
        let before = wake_ups(&mut machine.shell);
        sleep(still);
        before == wake_ups(&mut machine.shell)
    });
    assert!(calm.is_some(), "the agent wakes up again and again: {}", wake_ups(&mut machine.shell));
    let before = wake_ups(&mut machine.shell);
    sleep(still);
    assert_eq!(before, wake_ups(&mut machine.shell));
}

pub(crate) fn an_agent_with_a_silent_host_is_never_woken(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let mut agent = machine.agent();
    let still = Duration::from_secs(3);
    let calm = (0..10).find(|_| {
        let before = wake_ups(&mut machine.shell);
        sleep(still);
        before == wake_ups(&mut machine.shell)
    });
    assert!(calm.is_some(), "the agent wakes up again and again: {}", wake_ups(&mut machine.shell));
    assert_eq!(agent.call("guest-ping", json!({})), Ok(json!({})));
}
