//! No more descriptors, no more processes.

use std::thread::sleep;
use std::time::Duration;

use qga_testkit::wait;
use serde_json::json;

use super::{BOUNDED, Health, STATE, answers, close, everything_works, in_group, refused, restart, restore};
use crate::Guest;

pub(crate) fn without_descriptors_left_commands_say_so_until_files_are_closed(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let mut agent = restart(machine, "ulimit -n 20", STATE);
    everything_works(&mut agent, machine, "/mnt/ext4/file");
    let before = Health::of(machine, "qga");
    let mut handles = Vec::new();
    let path = json!({ "path": "/etc/passwd" });
    let error = loop {
        match agent.call("guest-file-open", path.clone()) {
            Ok(handle) => handles.push(handle),
            Err(error) => break error,
        }
        assert!(handles.len() < 20, "more files than descriptors");
    };
    assert_eq!(error.class, "GenericError");
    assert_eq!(error.desc, "failed to open file '/etc/passwd' (mode: 'r'): Too many open files");
    for (command, arguments) in [
        ("guest-exec", json!({ "path": "true" })),
        ("guest-fsfreeze-freeze", json!({})),
        ("guest-get-fsinfo", json!({})),
        ("guest-get-diskstats", json!({})),
        ("guest-network-get-interfaces", json!({})),
        ("guest-fstrim", json!({})),
    ] {
        let desc = refused(&mut agent, command, arguments);
        assert!(desc.contains("Too many open files"), "{command}: {desc}");
    }
    assert_eq!(agent.call("guest-fsfreeze-status", json!({})), Ok(json!("thawed")));
    // Those that are open are of use.
    assert!(agent.call("guest-file-read", json!({ "handle": handles[0] })).unwrap()["count"].as_u64() > Some(0));
    answers(&mut agent);
    for handle in &handles {
        close(&mut agent, handle);
    }
    everything_works(&mut agent, machine, "/mnt/ext4/file");
    before.wait_again(machine, "qga");
    drop(agent);
    restore(machine);
}

pub(crate) fn clients_that_cannot_be_accepted_cost_no_time_and_are_served_when_others_leave(guest: &mut Guest) {
    let machine = &mut guest.machine;
    machine.shell.run("(ulimit -n 16; start-agent many -m unix-listen -p /run/many/socket -l /run/many/log)");
    let ping = "printf '{\"execute\":\"guest-ping\"}\\n'";
    let asks = format!("{ping} | socat -t 20 - UNIX-CONNECT:/run/many/socket");
    wait::until("an agent that listens", BOUNDED, || machine.shell.succeeds("[ -S /run/many/socket ]").then_some(()));
    assert_eq!(machine.shell.run(&asks), "{\"return\": {}}");
    let before = Health::of(machine, "many");
    let lines = |count: u64| format!("[ $(grep -c . /run/many/first) = {count} ]");
    machine.shell.run(&format!(
        "mkfifo /run/many/in; socat - UNIX-CONNECT:/run/many/socket </run/many/in >/run/many/first & \
         exec 3>/run/many/in; {ping} >&3"
    ));
    wait::until("the first client", BOUNDED, || machine.shell.succeeds(&lines(1)).then_some(()));
    machine.shell.run(
        "clients=; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
             socat -u UNIX-CONNECT:/run/many/socket OPEN:/dev/null & clients=\"$clients $!\"
         done",
    );
    wait::until("all descriptors taken", BOUNDED, || {
        machine.shell.succeeds("grep -q 'Too many open files' /run/many/log").then_some(())
    });
    let time = "set -- $(cat /proc/$(cat /run/many/pid)/stat); echo $((${14} + ${15}))";
    let ticks = machine.shell.number(time);
    sleep(Duration::from_secs(3));
    let used = machine.shell.number(time) - ticks;
    assert!(used < 60, "{used} ticks of processor time in three seconds in which nobody could be accepted");
    // Said once.
    assert_eq!(machine.shell.number("grep -c 'cannot accept a client' /run/many/log"), 1);
    // The first one is served nevertheless; then one that waits since it came.
    machine.shell.run(&format!("{ping} >&3"));
    wait::until("an answer for the first client", BOUNDED, || machine.shell.succeeds(&lines(2)).then_some(()));
    machine.shell.run(&format!("({asks} >/run/many/last) & last=$!"));
    sleep(Duration::from_secs(1));
    machine.shell.run("[ ! -s /run/many/last ]; kill $clients");
    wait::until("an answer for the last client", BOUNDED, || {
        machine.shell.succeeds("[ \"$(cat /run/many/last)\" = '{\"return\": {}}' ]").then_some(())
    });
    machine.shell.run("exec 3>&-");
    before.wait_again(machine, "many");
    machine.shell.run("kill $(cat /run/many/pid); rm -rf /run/many");
}

pub(crate) fn without_processes_left_commands_say_so_and_what_is_frozen_is_thawed(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let group = in_group(machine, "few", &[]);
    let mut agent = restart(machine, &group, STATE);
    everything_works(&mut agent, machine, "/mnt/ext4/file");
    let before = Health::of(machine, "qga");
    // A thread that waits for the next command ends after a while.
    let lonely = |machine: &mut vm_tests::Machine| {
        wait::until("the end of an idle thread", BOUNDED, || (Health::of(machine, "qga").threads == 1).then_some(()));
    };
    lonely(machine);
    let limit = |count: &str| format!("echo {count} >/sys/fs/cgroup/few/pids.max");
    let unavailable = "Resource temporarily unavailable";

    machine.shell.run(&limit("1"));
    for (command, arguments) in [
        ("guest-exec", json!({ "path": "true" })),
        ("guest-file-open", json!({ "path": "/etc/passwd" })),
        ("guest-get-fsinfo", json!({})),
        ("guest-fsfreeze-freeze", json!({})),
    ] {
        let desc = refused(&mut agent, command, arguments);
        assert_eq!(desc, format!("cannot start a thread for the command: {unavailable}"));
    }
    answers(&mut agent);
    // With a few more, which the worker and the log have their part of, each gets as far as its own first one.
    let mut refusals = 0;
    for count in ["2", "3", "4"] {
        machine.shell.run(&limit(count));
        match agent.call_within("guest-exec", json!({ "path": "true" }), BOUNDED) {
            Err(error) => {
                let texts = [
                    format!("cannot start a thread for the command: {unavailable}"),
                    format!("cannot follow the program: {unavailable}"),
                    format!("Failed to fork ({unavailable})"),
                ];
                assert!(texts.contains(&error.desc), "{error}");
                refusals += 1;
            }
            Ok(started) => drop(wait::until("the end of a program", BOUNDED, || {
                let status = agent.call("guest-exec-status", started.clone()).unwrap();
                (status["exited"] == true).then_some(status)
            })),
        }
        match agent.call_within("guest-fsfreeze-freeze", json!({}), BOUNDED) {
            Err(error) => {
                assert!(error.desc.ends_with(unavailable), "{error}");
                refusals += 1;
            }
            Ok(_) => drop(agent.call_within("guest-fsfreeze-thaw", json!({}), BOUNDED).unwrap()),
        }
        assert_eq!(agent.call("guest-fsfreeze-status", json!({})), Ok(json!("thawed")));
        answers(&mut agent);
    }
    assert!(refusals >= 3, "only {refusals} commands were refused");

    // Processes that wait for a frozen disk may use up all there may be: the thaw must not need any.
    machine.shell.run(&limit("max"));
    assert_eq!(agent.call_within("guest-fsfreeze-freeze", json!({}), BOUNDED), Ok(json!(2)));
    machine.shell.run(&limit("1"));
    wait::until("the end of an idle thread", BOUNDED, || {
        // The other one waits for the guardian.
        (Health::of(machine, "qga").threads == 2).then_some(())
    });
    assert_eq!(agent.call_within("guest-fsfreeze-thaw", json!({}), BOUNDED), Ok(json!(2)));
    answers(&mut agent);
    machine.shell.run("echo >/mnt/ext4/thawed; rm /mnt/ext4/thawed; [ ! -e /run/qga/qga.state.isfrozen ]");

    machine.shell.run(&limit("max"));
    everything_works(&mut agent, machine, "/mnt/ext4/file");
    before.wait_again(machine, "qga");
    drop(agent);
    restore(machine);
    machine.shell.run("rmdir /sys/fs/cgroup/few");
}
