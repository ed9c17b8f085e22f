//! libvirtd ends and is started again while the machine runs on.

use std::time::Duration;

use qga_testkit::wait;
use serde_json::json;
use vm_tests::libvirt::{DOMAIN, Libvirt};
use vm_tests::process::Kept;
use vm_tests::rounds::{self, Pace};

use crate::{Guest, agent};

/// The number and the start of the agent's process.
fn identity(libvirt: &mut Libvirt) -> String {
    libvirt.shell.run("pid=$(cat /run/qga/pid); set -- $(cat /proc/$pid/stat); echo $pid ${22}")
}

pub(crate) fn a_libvirtd_that_is_started_again_finds_the_same_agent_at_once(guest: &mut Guest) {
    let libvirt = &mut guest.libvirt;
    let opened = json!({ "execute": "guest-file-open", "arguments": { "path": "/mnt/ext4/slow", "mode": "w" } });
    let handle = agent(libvirt, &opened)["return"].clone();
    let write = json!({ "execute": "guest-file-write", "arguments": { "handle": handle, "buf-b64": "b25jZQo=" } });
    let flush = json!({ "execute": "guest-file-flush", "arguments": { "handle": handle } });
    let ping = json!({ "execute": "guest-ping" }).to_string();
    let before = identity(libvirt);
    let mut pace = Pace::new("a restart of libvirtd");
    let mut written = 0;
    for round in 0..rounds::count() {
        // It is told to end, killed, and killed in the middle of a command that hangs: the file system is frozen, and
        // not by the agent.
        let (signal, is_busy) = [("TERM", false), ("KILL", false), ("KILL", true)][round % 3];
        let _virsh = is_busy.then(|| {
            libvirt.shell.run("sync; fsfreeze --freeze /mnt/ext4");
            let uri = libvirt.uri();
            let virsh = Kept::start("virsh", |command| {
                command.args(["-c", &uri, "qemu-agent-command", DOMAIN, "--block", &write.to_string()]);
                command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            });
            written += 1;
            wait::until("a command that hangs", Duration::from_secs(60), || {
                libvirt.shell.succeeds("grep -q State:.D /proc/$(cat /run/qga/pid)/task/*/status").then_some(())
            });
            virsh
        });
        libvirt.restart_daemon(signal);
        pace.answered(|| {
            // It may call the agent disconnected for a moment.
            wait::until("an answer through the new libvirtd", Duration::from_secs(60), || {
                libvirt.try_virsh(&["qemu-agent-command", DOMAIN, &ping]).status.success().then_some(())
            });
        });
        if is_busy {
            libvirt.shell.run("fsfreeze --unfreeze /mnt/ext4");
        }
        assert_eq!(identity(libvirt), before, "round {round}: another agent");
    }
    pace.finish();
    // What was asked for was carried out once, although nobody heard of it.
    assert_eq!(agent(libvirt, &flush), json!({ "return": {} }));
    assert_eq!(libvirt.shell.number("grep -c once /mnt/ext4/slow || true"), written);
    agent(libvirt, &json!({ "execute": "guest-file-close", "arguments": { "handle": handle } }));
    libvirt.shell.run("rm /mnt/ext4/slow");
}
