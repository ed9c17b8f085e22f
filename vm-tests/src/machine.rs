//! One QEMU machine: booted, watched, and gone when dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use qga_testkit::{Host, wait};
use serde_json::json;
use tempfile::TempDir;

use crate::disks::Disk;
use crate::hardware;
use crate::image::Image;
use crate::process::Kept;
use crate::qmp::Qmp;
use crate::shell::Shell;

/// The limit for a guest to come up. On an idle host it takes about four seconds.
pub const BOOT: Duration = Duration::from_secs(300);

/// The network card's address.
pub const MAC: &str = "52:54:00:0a:0b:0c";

/// The name of the agent's port.
pub const PORT: &str = "org.qemu.guest_agent.0";

/// The name of the port that is plugged in by [`Machine::plug_port`].
pub const PLUGGED_PORT: &str = "org.test.plugged.0";

/// The copy of the disk with the root file system, if there is one.
const ROOT: &str = "root.img";

/// The lines of the console that are shown when a test fails.
const TAIL: usize = 40;

/// What a machine has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spec {
    /// ext4 on virtio-blk (/mnt/ext4), xfs on virtio-scsi with discard (/mnt/xfs), and a swap disk.
    pub disks: bool,
    /// Disks on every other bus that this kernel and this machine have, and room for more memory: see
    /// [`hardware`].
    pub hardware: bool,
    /// The agent is not started.
    pub no_agent: bool,
}

/// The data disks of a machine.
#[derive(Debug)]
pub struct Disks {
    /// /mnt/ext4, /dev/vda.
    pub ext4: Disk,
    /// /dev/vdb.
    pub swap: Disk,
    /// /mnt/xfs, /dev/sda.
    pub xfs: Disk,
}

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    // Declared first: QEMU ends before its directory goes.
    qemu: Kept,
    // Ends by itself with QEMU.
    virtiofs: Option<Kept>,
    /// QEMU's control socket.
    pub qmp: Qmp,
    /// The root shell in the guest.
    pub shell: Shell,
    /// The data disks, when [`Spec::disks`] asked for them.
    pub disks: Option<Disks>,
    spec: Spec,
    image: Rc<Image>,
    directory: TempDir,
}

impl Machine {
    /// Boots a machine and waits for its shell.
    ///
    /// # Panics
    /// When it does not come up, with the end of its console.
    pub fn boot(image: &Rc<Image>, spec: Spec) -> Self {
        let directory = tempfile::Builder::new().prefix("vm-").tempdir().expect("a temporary directory");
        let path = directory.path();
        if let Some(root) = &image.root {
            Disk { path: root.clone() }.copy_to(&path.join(ROOT));
        }
        let disks = spec.disks.then(|| Disks { ext4: Disk::ext4(path), swap: Disk::swap(path), xfs: Disk::xfs(path) });
        let Started { qemu, virtiofs, qmp, shell } = start(path, image, spec, disks.as_ref());
        Self { qemu, virtiofs, qmp, shell, disks, spec, image: Rc::clone(image), directory }
    }

    /// Ends this QEMU and starts another with the same command line and disks, as after hibernation.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_again(&mut self) {
        // SIGTERM would do as well; the guest is down.
        let _ = self.qmp.try_execute("quit", json!({}));
        self.qemu.wait(Duration::from_secs(30));
        let Started { qemu, virtiofs, qmp, shell } =
            start(self.directory.path(), &self.image, self.spec, self.disks.as_ref());
        (self.qemu, self.virtiofs, self.qmp, self.shell) = (qemu, virtiofs, qmp, shell);
    }

    /// Whether it has a directory of the host as virtiofs: [`Spec::hardware`] asked for it and the host can serve it.
    pub fn has_virtiofs(&self) -> bool {
        self.virtiofs.is_some()
    }

    /// What it was booted with.
    pub fn spec(&self) -> Spec {
        self.spec
    }

    /// The agent under test.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The disk with the root file system, where there is one.
    pub fn root(&self) -> Option<Disk> {
        self.image.root.is_some().then(|| Disk { path: self.directory.path().join(ROOT) })
    }

    /// Where everything of this machine is on the host.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Stops QEMU with all that it is doing, as a host does that is out of memory or about to sleep.
    ///
    /// # Panics
    /// When it has ended.
    #[track_caller]
    pub fn stop(&self) {
        self.qemu.signal("STOP");
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it has ended.
    #[track_caller]
    pub fn go_on(&self) {
        self.qemu.signal("CONT");
    }

    /// The host's end of the agent's port, for a client of one's own. It serves one client at a time.
    pub fn agent_socket(&self) -> PathBuf {
        self.directory.path().join("agent")
    }

    /// Connects to the agent's port and waits until the agent answers.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn agent(&self) -> Host {
        self.agent_at("agent")
    }

    /// Like [`Machine::agent`] for the third serial line.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn serial_agent(&self) -> Host {
        self.agent_at("serial")
    }

    /// Like [`Machine::agent`] for the port that is plugged in by hand.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn plugged_agent(&self) -> Host {
        self.agent_at("plugged")
    }

    /// Connects to the agent's port without asking whether anybody is there.
    ///
    /// # Panics
    /// When QEMU does not listen.
    #[track_caller]
    pub fn connect_agent(&self) -> Host {
        self.connect("agent")
    }

    /// Plugs in a second port, [`PLUGGED_PORT`].
    ///
    /// # Panics
    /// When QEMU refuses.
    #[track_caller]
    pub fn plug_port(&mut self) {
        self.qmp.execute(
            "device_add",
            json!({ "driver": "virtserialport", "id": "plugged-port", "bus": "ports.0", "nr": 5,
                    "chardev": "plugged", "name": PLUGGED_PORT }),
        );
    }

    /// Takes the second port out again.
    ///
    /// # Panics
    /// When QEMU refuses.
    #[track_caller]
    pub fn unplug_port(&mut self) {
        self.qmp.execute("device_del", json!({ "id": "plugged-port" }));
    }

    /// Takes the agent's own port out.
    ///
    /// # Panics
    /// When QEMU refuses.
    #[track_caller]
    pub fn unplug_agent_port(&mut self) {
        self.qmp.execute("device_del", json!({ "id": "agent-port" }));
    }

    /// Puts the agent's own port back, as soon as QEMU has let go of the one before.
    ///
    /// # Panics
    /// When QEMU refuses.
    #[track_caller]
    pub fn plug_agent_port(&mut self) {
        let port = json!({ "driver": "virtserialport", "id": "agent-port", "bus": "ports.0", "nr": 1,
                           "chardev": "agent", "name": PORT });
        wait::until("a port plugged in", Duration::from_secs(30), || {
            match self.qmp.try_execute("device_add", port.clone()) {
                Ok(Ok(_)) => Some(()),
                // It is gone for the guest before it is gone.
                Ok(Err(refusal)) if refusal.desc.contains("in use") || refusal.desc.contains("Duplicate") => None,
                Ok(Err(refusal)) => panic!("QEMU refuses device_add: {refusal}"),
                Err(error) => panic!("QEMU does not answer device_add: {error}"),
            }
        });
    }

    /// The end of the console, and what the agent printed when the guest still tells.
    pub fn report(&mut self) -> String {
        let mut report = format!("--- end of the guest's console ---\n{}", tail(&self.console()));
        if self.qemu.is_running() {
            let script = "tail -n 20 /run/qga/output /run/qga/log 2>/dev/null; pidof qemu-ga || echo 'no agent runs'
                ! type journalctl >/dev/null || journalctl --no-pager --boot --lines=40 --unit=qemu-guest-agent";
            if let Ok(outcome) = self.shell.try_run(script, Duration::from_secs(5)) {
                report.push_str(&format!("--- from the agent ---\n{}\n", outcome.text));
            }
        }
        report
    }

    /// Everything on the console so far.
    pub fn console(&self) -> String {
        let bytes = fs::read(self.directory.path().join("console")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[track_caller]
    fn agent_at(&self, name: &str) -> Host {
        let mut host = self.connect(name);
        // A serial line loses what comes before the agent has opened it: ask again.
        let what = format!("an answer to guest-sync-delimited on the channel {name}");
        wait::until(&what, BOOT, || host.sync(Duration::from_secs(5)).ok());
        host
    }

    #[track_caller]
    fn connect(&self, name: &str) -> Host {
        match Host::connect_retry(self.directory.path().join(name), Duration::from_secs(20)) {
            Ok(host) => host,
            Err(error) => panic!("QEMU does not listen on the channel {name}: {error}"),
        }
    }
}

/// What [`start`] gives.
struct Started {
    qemu: Kept,
    virtiofs: Option<Kept>,
    qmp: Qmp,
    shell: Shell,
}

/// Starts QEMU and waits for the guest's shell.
fn start(directory: &Path, image: &Image, spec: Spec, disks: Option<&Disks>) -> Started {
    let virtiofs = if spec.hardware { hardware::serve(directory) } else { None };
    let arguments = arguments(directory, image, spec, disks, virtiofs.is_some());
    let log = File::create(directory.join("qemu.log")).expect("QEMU's log");
    let mut qemu = Kept::start("qemu-system-x86_64", |command| {
        command.args(&arguments).stdout(log.try_clone().expect("a second handle"));
        command.stderr(log);
    });
    let started = Qmp::connect(&directory.join("qmp"), Duration::from_secs(30)).and_then(|qmp| {
        let mut shell = Shell::connect(&directory.join("shell"), Duration::from_secs(30))?;
        shell.wait_ready(BOOT)?;
        Ok((qmp, shell))
    });
    match started {
        Ok((qmp, shell)) => Started { qemu, virtiofs, qmp, shell },
        Err(error) => {
            let state = if qemu.is_running() { "still runs" } else { "ended" };
            let read = |name: &str| fs::read(directory.join(name)).unwrap_or_default();
            let (log, console) = (read("qemu.log"), read("console"));
            panic!(
                "the machine does not come up: {error}; QEMU {state}: {}\n{}",
                String::from_utf8_lossy(&log),
                tail(&String::from_utf8_lossy(&console))
            );
        }
    }
}

/// QEMU's command line. The same for the same machine: a hibernated guest needs to find everything where it was.
fn arguments(directory: &Path, image: &Image, spec: Spec, disks: Option<&Disks>, has_virtiofs: bool) -> Vec<String> {
    let file = |name: &str| directory.join(name).display().to_string();
    let socket = |id: &str| format!("socket,id={id},path={},server=on,wait=off", file(id));
    let mut kernel_line = KERNEL_LINE.to_owned();
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(|&word| word.to_owned()));
    add(&["-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc", "-accel", "tcg", "-cpu", "max"]);
    add(&["-smp", "2", "-m", if spec.hardware { hardware::MEMORY } else { "512M" }]);
    add(&["-global", "PIIX4_PM.disable_s3=0", "-global", "PIIX4_PM.disable_s4=0"]);
    // A guest that turns itself off is paused instead of ending QEMU: its event is never lost in the end of the process.
    add(&["-no-shutdown"]);
    add(&["-chardev", &socket("qmp"), "-mon", "chardev=qmp,mode=control"]);
    add(&["-chardev", &format!("file,id=console,path={},append=on", file("console"))]);
    add(&["-serial", "chardev:console"]);
    add(&["-chardev", &socket("shell"), "-serial", "chardev:shell"]);
    add(&["-chardev", &socket("serial"), "-serial", "chardev:serial"]);
    add(&["-device", "virtio-serial-pci,id=ports,addr=0x5"]);
    add(&["-chardev", &socket("agent"), "-device"]);
    add(&[&format!("virtserialport,id=agent-port,bus=ports.0,nr=1,chardev=agent,name={PORT}")]);
    add(&["-chardev", &socket("plugged")]);
    add(&["-netdev", "user,id=net,restrict=on", "-device"]);
    add(&[&format!("virtio-net-pci,netdev=net,mac={MAC},addr=0x6,romfile=")]);
    if let Some(disks) = disks {
        // What the guest flushes is safe from its own end, which is all that a test looks at; to force it to the host's
        // disk would only take time.
        let drive = |disk: &Disk| format!("if=none,format=raw,cache=unsafe,file={}", disk.path.display());
        add(&["-drive", &format!("{},id=ext4", drive(&disks.ext4))]);
        add(&["-device", "virtio-blk-pci,drive=ext4,addr=0x7,serial=ext4"]);
        add(&["-drive", &format!("{},id=swap", drive(&disks.swap))]);
        add(&["-device", "virtio-blk-pci,drive=swap,addr=0x8,serial=swap"]);
        add(&["-drive", &format!("{},id=xfs,discard=unmap", drive(&disks.xfs))]);
        add(&[
            "-device",
            "virtio-scsi-pci,id=scsi,addr=0x9",
            "-device",
            "scsi-hd,bus=scsi.0,scsi-id=1,lun=2,drive=xfs",
        ]);
        kernel_line.push_str(" vm_ext4=/dev/vda vm_swap=/dev/vdb vm_xfs=/dev/sda");
    }
    if image.root.is_some() {
        add(&["-drive", &format!("if=none,format=raw,file={},id=root,discard=unmap", file(ROOT))]);
        add(&["-device", "virtio-blk-pci,drive=root,addr=0x10,serial=root"]);
        // udev has something to do for each.
        kernel_line.push_str(" 8250.nr_uarts=3");
    }
    if spec.hardware {
        add(&hardware::arguments(directory, has_virtiofs).iter().map(String::as_str).collect::<Vec<_>>());
        kernel_line.push(' ');
        kernel_line.push_str(hardware::KERNEL_LINE);
    }
    if spec.no_agent {
        kernel_line.push_str(" vm_agent=none");
    }
    let path = |path: &PathBuf| path.display().to_string();
    add(&["-kernel", &path(&image.kernel), "-initrd", &path(&image.initrd), "-append", &kernel_line]);
    arguments
}

/// What every guest's kernel is told. Mitigations only cost time under emulation; and on a host with much to do the timer
/// looks broken to a kernel that tests it, which is then the end of it.
pub const KERNEL_LINE: &str =
    "console=ttyS0 loglevel=5 mitigations=off no_timer_check no_console_suspend random.trust_cpu=on";

/// The last lines of a text.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].iter().fold(String::new(), |tail, line| tail + line + "\n")
}
