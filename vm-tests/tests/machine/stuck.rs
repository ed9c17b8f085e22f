//! Commands that hang in the kernel of a real machine, and a host at its port.

use std::time::{Duration, Instant};

use qga_testkit::host::PATIENCE;
use qga_testkit::{Host, wait};
use serde_json::{Value, json};
use vm_tests::shell::Shell;

use crate::Guest;

/// The promise is 100 ms; the machine is an emulated one.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Both file systems of the machine.
const FILE_SYSTEMS: u64 = 2;

fn threads(shell: &mut Shell, name: &str) -> u64 {
    shell.number(&format!("cat /proc/$(cat /run/qga/pid)/task/*/comm | grep -c '{name}' || :"))
}

fn resync(agent: &mut Host, what: &str) {
    let begin = Instant::now();
    agent.sync(PATIENCE).unwrap();
    let took = begin.elapsed();
    eprintln!("{what}: resynchronised in {} ms", took.as_millis());
    assert!(took < AT_ONCE, "{took:?}");
}

/// As libvirt does it: without a byte 0xFF. The late reply of before must not come instead.
fn sync(agent: &mut Host, what: &str) {
    let (begin, id) = (Instant::now(), 1_763_812_345_678i64);
    assert_eq!(agent.call("guest-sync", json!({ "id": id })), Ok(json!(id)));
    eprintln!("{what}: guest-sync answered in {} ms", begin.elapsed().as_millis());
}

fn everything_works(agent: &mut Host) {
    assert_eq!(agent.call("guest-ping", json!({})), Ok(json!({})));
    assert!(agent.call("guest-info", json!({})).unwrap()["version"].is_string());
    let handle = agent.call("guest-file-open", json!({ "path": "/run/qga/other", "mode": "w" })).unwrap();
    let written = agent.call("guest-file-write", json!({ "handle": handle, "buf-b64": "ZmluZQ==" })).unwrap();
    assert_eq!(written["count"], 4);
    agent.call("guest-file-close", json!({ "handle": handle })).unwrap();
    let started = agent.call("guest-exec", json!({ "path": "/bin/echo", "capture-output": true })).unwrap();
    wait::until("the end of a program", PATIENCE, || {
        let status = agent.call("guest-exec-status", started.clone()).unwrap();
        (status["exited"] == json!(true)).then_some(())
    });
}

pub(crate) fn a_suspended_disk_holds_up_a_freeze_and_a_trim_and_nothing_else(guest: &mut Guest) {
    let machine = &mut guest.machine;
    machine.shell.run(
        "modprobe dm_mod; umount /mnt/xfs
         /usr/sbin/dmsetup --noudevrules --noudevsync create slow --table \"0 $(cat /sys/class/block/sda/size) linear /dev/sda 0\"
         mount -t xfs /dev/dm-0 /mnt/xfs",
    );
    let mut agent = machine.agent();
    // Workers that were needed before may still end after a while.
    wait::until("an idle agent", PATIENCE, || (threads(&mut machine.shell, ".") == 1).then_some(()));
    let fds = machine.shell.number("ls /proc/$(cat /run/qga/pid)/fd | wc -l");
    let suspend = |shell: &mut Shell| {
        shell.run(
            "echo dirty >/mnt/xfs/dirty; /usr/sbin/dmsetup --noudevrules --noudevsync suspend --noflush --nolockfs slow",
        );
    };
    let resume = "/usr/sbin/dmsetup --noudevrules --noudevsync resume slow";

    suspend(&mut machine.shell);
    agent.send("guest-fsfreeze-freeze", &json!({})).unwrap();
    wait::until("a freeze", PATIENCE, || (threads(&mut machine.shell, "^freeze") == 1).then_some(()));
    resync(&mut agent, "a freeze");
    assert_eq!(agent.call("guest-ping", json!({})), Ok(json!({})));
    assert!(agent.call("guest-info", json!({})).is_ok());
    let status = agent.call("guest-fsfreeze-status", json!({})).unwrap_err();
    assert!(status.desc.starts_with("freezing file systems has been going on for "), "{status}");
    agent.call("guest-fsfreeze-thaw", json!({})).unwrap();
    assert_eq!(agent.call("guest-fsfreeze-status", json!({})), Ok(json!("thawed")));
    assert_eq!(threads(&mut machine.shell, "^freeze"), 1, "the kernel has let go of it");
    everything_works(&mut agent);
    machine.shell.run("echo free >/mnt/ext4/free; rm /mnt/ext4/free");

    // The same disk, a second command.
    for (round, command) in ["guest-fstrim", "guest-fstrim"].into_iter().enumerate() {
        agent.send(command, &json!({})).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        match round {
            0 => sync(&mut agent, "a trim"),
            _ => resync(&mut agent, "a trim"),
        }
        everything_works(&mut agent);
        assert_eq!(agent.call("guest-fsfreeze-thaw", json!({})), Ok(json!(0)));
    }
    machine.shell.run(resume);
    let late = agent.read_until_silence(Duration::from_secs(1)).unwrap();
    assert_eq!(late, b"", "{}", String::from_utf8_lossy(&late));
    wait::until("threads given back", PATIENCE, || (threads(&mut machine.shell, ".") == 1).then_some(()));
    assert_eq!(machine.shell.number("ls /proc/$(cat /run/qga/pid)/fd | wc -l"), fds);
    assert!(machine.shell.succeeds("! grep -q guardian /proc/[0-9]*/comm"));

    assert_eq!(agent.call("guest-fsfreeze-freeze", json!({})), Ok(json!(FILE_SYSTEMS)));
    assert_eq!(agent.call("guest-fsfreeze-thaw", json!({})), Ok(json!(FILE_SYSTEMS)));
    let trimmed = agent.call("guest-fstrim", json!({})).unwrap();
    let of = |path: &str| trimmed["paths"].as_array().unwrap().iter().find(|entry| entry["path"] == path).cloned();
    assert!(of("/mnt/xfs").unwrap_or(Value::Null)["trimmed"].is_u64(), "{trimmed}");
    machine.shell.run(
        "rm -f /mnt/xfs/dirty /run/qga/other; umount /mnt/xfs
         /usr/sbin/dmsetup --noudevrules --noudevsync remove slow; mount -t xfs /dev/sda /mnt/xfs",
    );
}

pub(crate) fn a_machine_whose_hook_hangs_is_rebooted(guest: &mut Guest) {
    let machine = &mut guest.machine;
    machine.shell.run(
        "printf '#!/bin/sh\\necho $1 >>/run/hooked\\n[ $1 = thaw ] || while :; do sleep 1; done\\n' >/run/hook
         chmod 755 /run/hook; kill $(cat /run/qga/pid); while [ -d /proc/$(cat /run/qga/pid) ]; do usleep 50000; done
         start-agent qga -m virtio-serial -p /dev/virtio-ports/org.qemu.guest_agent.0 --retry-path -F/run/hook",
    );
    let mut agent = machine.agent();
    agent.send("guest-fsfreeze-freeze", &json!({})).unwrap();
    wait::until("a hook", PATIENCE, || machine.shell.succeeds("[ -e /run/hooked ]").then_some(()));
    resync(&mut agent, "a hook");
    machine.qmp.drop_events();
    agent.send("guest-shutdown", &json!({ "mode": "reboot" })).unwrap();
    machine.qmp.wait_event("RESET", Duration::from_secs(90));
    // It comes up again as in any other case; nobody has to wait for that here.
    guest.is_spent = true;
}
