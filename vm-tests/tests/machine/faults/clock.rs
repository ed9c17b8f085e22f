//! A clock that jumps while something waits.

use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use qga_testkit::wait;
use serde_json::json;
use vm_tests::Machine;

use super::{BOUNDED, Health, STATE, answers, everything_works, restart, restore};
use crate::Guest;

/// A year ahead, and back to the second of January 1970.
fn jump(machine: &mut Machine) {
    machine.shell.run("date -s @$(($(date +%s) + 31536000)) >/dev/null");
}

fn jump_back(machine: &mut Machine) {
    machine.shell.run("date -s @86400 >/dev/null");
}

pub(crate) fn when_the_clock_jumps_nothing_comes_early_or_late(guest: &mut Guest) {
    let machine = &mut guest.machine;
    machine.shell.run("printf '#!/bin/sh\\n[ $1 = thaw ] || sleep 4\\n' >/run/slow-hook; chmod 755 /run/slow-hook");
    let options = format!("{STATE} -F/run/slow-hook --fsfreeze-timeout 10 --fsfreeze-hook-limit 30");
    let mut agent = restart(machine, ":", &options);
    let before = Health::of(machine, "qga");

    // A program.
    let started = agent.call("guest-exec", json!({ "path": "sleep", "arg": ["2"] })).unwrap();
    let begin = Instant::now();
    jump(machine);
    jump_back(machine);
    wait::until("the end of a program", BOUNDED, || {
        (agent.call("guest-exec-status", started.clone()).unwrap()["exited"] == true).then_some(())
    });
    assert!(begin.elapsed() > Duration::from_secs(1), "a program of two seconds ended after {:?}", begin.elapsed());

    // The grace of a plain sync is a second. The hook, and with it the freeze, takes four.
    agent.send("guest-fsfreeze-freeze", &json!({})).unwrap();
    agent.send("guest-sync", &json!({ "id": 17 })).unwrap();
    let begin = Instant::now();
    jump(machine);
    assert_eq!(agent.read_json(BOUNDED).unwrap(), json!({ "return": 17 }));
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(800) && took < Duration::from_millis(3800), "{took:?}");
    // The freeze is called off; nothing of it is left.
    wait::until("the end of the freeze", BOUNDED, || agent.call("guest-fsfreeze-thaw", json!({})).ok());

    // The hook is not killed, and the file systems stay frozen for ten seconds.
    agent.send("guest-fsfreeze-freeze", &json!({})).unwrap();
    jump_back(machine);
    jump(machine);
    assert_eq!(agent.read_json(BOUNDED).unwrap(), json!({ "return": 2 }));
    let begin = Instant::now();
    jump_back(machine);
    sleep(Duration::from_secs(1));
    assert_eq!(agent.call("guest-fsfreeze-status", json!({})), Ok(json!("frozen")));
    jump(machine);
    sleep(Duration::from_secs(3));
    assert_eq!(agent.call("guest-fsfreeze-status", json!({})), Ok(json!("frozen")));
    jump_back(machine);
    wait::until("the deadline of the freeze", BOUNDED, || {
        (agent.call("guest-fsfreeze-status", json!({})) == Ok(json!("thawed"))).then_some(())
    });
    let took = begin.elapsed();
    assert!(took > Duration::from_secs(7), "thawed after {took:?}");
    let error = agent.call("guest-fsfreeze-thaw", json!({})).unwrap_err();
    assert_eq!(error.desc, "file systems were thawed before this request, after 10 s: no freeze may last longer");
    answers(&mut agent);
    before.wait_again(machine, "qga");

    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    machine.shell.run(&format!("date -s @{now} >/dev/null; rm /run/slow-hook"));
    drop(agent);
    restore(machine);
    let mut agent = machine.agent();
    everything_works(&mut agent, machine, "/mnt/ext4/file");
}
