//! The host stops the machine, sets it back, or takes the port away: afterwards the same agent is there, at once.

use std::thread::sleep;
use std::time::Duration;

use qga_testkit::host::{PATIENCE, request};
use qga_testkit::{Host, wait};
use serde_json::{Value, json};
use vm_tests::rounds::{self, Pace};
use vm_tests::shell::Shell;
use vm_tests::{Machine, Spec, snapshots};

use crate::connection::sync_like_libvirt;
use crate::{Guest, IMAGE};

/// The agent's process, by number and start, and its descriptors.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    identity: String,
    descriptors: u64,
}

impl Process {
    fn of_agent(shell: &mut Shell) -> Self {
        let script =
            "pid=$(cat /run/qga/pid); set -- $(cat /proc/$pid/stat); echo $pid ${22}; ls /proc/$pid/fd | wc -l";
        let text = shell.run(script);
        let (identity, descriptors) = text.split_once('\n').unwrap_or_else(|| panic!("no agent: {text}"));
        Process { identity: identity.to_owned(), descriptors: descriptors.trim().parse().unwrap() }
    }

    /// Panics when the agent is another one, or holds on to something.
    #[track_caller]
    fn is_still_there(&self, shell: &mut Shell) {
        // What was left behind may still be on its way out.
        let now = wait::poll(PATIENCE, || {
            let now = Process::of_agent(shell);
            (now == *self || now.identity != self.identity).then_some(())
        });
        assert_eq!((now, Process::of_agent(shell).identity.as_str()), (Some(()), self.identity.as_str()), "{self:?}");
    }
}

/// What the host and the agent are about when something happens to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    /// Nothing.
    Quiet,
    /// Half a request is sent.
    HalfARequest,
    /// A command hangs: it writes to a file system that is frozen, and not by the agent.
    Running,
    /// Large replies are asked for and not read.
    Unread,
    /// There is no host, and a new one comes afterwards.
    Alone,
    /// The host leaves in the middle of it, and another comes.
    Replaced,
}

use Scene::{Alone, HalfARequest, Quiet, Replaced, Running, Unread};

const SCENES: [Scene; 6] = [Quiet, HalfARequest, Running, Unread, Alone, Replaced];

impl Scene {
    fn set(self, machine: &mut Machine, files: &Files, round: usize) -> Option<Host> {
        if self == Alone {
            return None;
        }
        let mut host = machine.agent();
        match self {
            HalfARequest => {
                // Cut at another byte each time.
                let whole = request("guest-exec", &json!({ "path": "/nonexistent", "arg": ["a", "b"] }));
                host.send_raw(&whole[..1 + round * 7 % (whole.len() - 2)]).unwrap();
            }
            Running => {
                machine.shell.run("fsfreeze --freeze /mnt/other");
                host.send("guest-file-write", &json!({ "handle": files.hanging, "buf-b64": "bmV2ZXIK" })).unwrap();
            }
            Unread => {
                for _ in 0..8 {
                    host.send("guest-file-read", &json!({ "handle": files.zeros, "count": 100_000 })).unwrap();
                }
            }
            Quiet | Alone | Replaced => (),
        }
        // Now and then the bytes are still on their way.
        sleep(Duration::from_millis(if round.is_multiple_of(3) { 0 } else { 100 }));
        Some(host)
    }

    /// Synchronises and pings.
    fn recover(self, host: Option<Host>, machine: &Machine, round: usize) -> Host {
        let mut host = host.unwrap_or_else(|| machine.connect_agent());
        // libvirt's way works where no reply was torn; that is what libvirt cannot bear.
        if self != Unread && round % 2 == 1 {
            sync_like_libvirt(&mut host, 1000 + i64::try_from(round).unwrap());
        } else {
            host.sync(PATIENCE).unwrap_or_else(|error| panic!("round {round}, {self:?}: {error}"));
        }
        assert_eq!(host.call("guest-ping", json!({})), Ok(json!({})), "round {round}, {self:?}");
        host
    }

    /// Lets go what was left behind.
    fn clear(self, machine: &mut Machine, files: &Files, host: &mut Host) {
        if self == Running {
            machine.shell.run("fsfreeze --unfreeze /mnt/other");
        }
        if self == Unread {
            host.call("guest-file-seek", json!({ "handle": files.zeros, "offset": 0, "whence": 0 })).unwrap();
        }
    }
}

/// Files that the agent has open.
struct Files {
    /// Large enough for many replies.
    zeros: Value,
    /// On the file system that a scene freezes.
    hanging: Value,
}

impl Files {
    fn open(machine: &mut Machine) -> Self {
        machine.shell.run(
            "modprobe loop; truncate -s 1M /run/qga/zeros; truncate -s 4M /run/qga/other
            /usr/sbin/mke2fs -q -t ext4 /run/qga/other && mount -o loop -t ext4 /run/qga/other /mnt/other",
        );
        let mut agent = machine.agent();
        let mut open = |path, mode| agent.call("guest-file-open", json!({ "path": path, "mode": mode })).unwrap();
        Files { zeros: open("/run/qga/zeros", "r"), hanging: open("/mnt/other/file", "w") }
    }

    fn close(self, machine: &mut Machine) {
        let mut agent = machine.agent();
        for handle in [self.zeros, self.hanging] {
            agent.call("guest-file-close", json!({ "handle": handle })).unwrap();
        }
        machine.shell.run("umount /mnt/other; rm /run/qga/zeros /run/qga/other");
    }
}

/// The agent as it is when nothing happens to it.
fn calm(machine: &mut Machine) -> Process {
    // The threads of earlier commands and what they hold have gone before descriptors are counted.
    sleep(Duration::from_secs(1));
    Process::of_agent(&mut machine.shell)
}

pub(crate) fn a_machine_that_is_stopped_and_goes_on_answers_all_it_was_sent(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let files = Files::open(machine);
    let process = calm(machine);
    let mut pace = Pace::new("SIGSTOP and SIGCONT");
    for round in 0..rounds::count() {
        let scene = SCENES[round % SCENES.len()];
        let mut host = scene.set(machine, &files, round);
        machine.stop();
        match (scene, &mut host) {
            (Replaced, host) => drop(host.replace(machine.connect_agent())),
            (Quiet, Some(host)) => {
                for number in 0..20 {
                    host.send("guest-sync", &json!({ "id": number })).unwrap();
                }
            }
            _ => (),
        }
        sleep(Duration::from_millis(200 * (1 + round as u64 % 5)));
        machine.go_on();
        let mut host = pace.answered(|| {
            if let (Quiet, Some(host)) = (scene, &mut host) {
                for number in 0..20 {
                    assert_eq!(host.read_json(PATIENCE).unwrap(), json!({ "return": number }), "round {round}");
                }
            }
            scene.recover(host, machine, round)
        });
        scene.clear(machine, &files, &mut host);
        process.is_still_there(&mut machine.shell);
    }
    pace.finish();
    files.close(machine);
}

pub(crate) fn a_port_that_is_unplugged_and_plugged_in_again_has_the_same_agent_at_once(guest: &mut Guest) {
    let machine = &mut guest.machine;
    let files = Files::open(machine);
    let process = calm(machine);
    let mut pace = Pace::new("an unplugged port");
    for round in 0..rounds::count() {
        let scene = SCENES[round % SCENES.len()];
        let mut host = scene.set(machine, &files, round);
        machine.unplug_agent_port();
        if scene == Replaced {
            drop(host.replace(machine.connect_agent()));
        }
        sleep(Duration::from_millis(100 * (round as u64 % 4)));
        machine.plug_agent_port();
        let mut host = pace.answered(|| scene.recover(host, machine, round));
        scene.clear(machine, &files, &mut host);
        process.is_still_there(&mut machine.shell);
    }
    pace.finish();
    files.close(machine);
}

pub(crate) fn a_machine_that_is_set_back_to_a_snapshot_has_the_same_agent_at_once(guest: &mut Guest) {
    guest.machine = Machine::boot(&IMAGE.with(std::rc::Rc::clone), Spec::default());
    let machine = &mut guest.machine;
    let directory = machine.directory().to_owned();
    snapshots::prepare(&mut machine.qmp, &directory);
    let files = Files::open(machine);
    let process = calm(machine);
    let mut pace = Pace::new("savevm and loadvm");
    for round in 0..rounds::count() {
        let scene = SCENES[round % SCENES.len()];
        let mut host = scene.set(machine, &files, round);
        snapshots::save(&mut machine.qmp, "then");
        // The life that is forgotten: the host goes on as if nothing were, or leaves.
        let mut host = match scene {
            Replaced => {
                drop(host.take());
                Some(machine.connect_agent())
            }
            Alone => None,
            _ => Some(scene.recover(host, machine, round)),
        };
        machine.shell.run("touch /run/qga/forgotten");
        snapshots::load(&mut machine.qmp, "then");
        let mut host = pace.answered(|| scene.recover(host.take(), machine, round));
        assert!(!machine.shell.succeeds("[ -e /run/qga/forgotten ]"), "round {round}: the machine is not set back");
        scene.clear(machine, &files, &mut host);
        process.is_still_there(&mut machine.shell);
        snapshots::delete(&mut machine.qmp, "then");
    }
    pace.finish();
    files.close(machine);
}
