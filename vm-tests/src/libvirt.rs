//! A libvirtd of our own, one transient machine in it, and the real virsh.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::rc::Rc;
use std::time::Duration;

use qga_testkit::wait;
use tempfile::TempDir;

use crate::disks::Disk;
use crate::image::Image;
use crate::machine::{BOOT, KERNEL_LINE, MAC, PORT, tail};
use crate::process::{self, Kept};
use crate::shell::Shell;

/// The name of the machine.
pub const DOMAIN: &str = "guest";

/// Runs in the daemon's own namespaces before it starts.
const SETUP: &str = include_str!("libvirtd.sh");

/// No authentication, since nobody else sees the socket.
const DAEMON_CONF: &str = "auth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\n";

/// Everything as root and without helpers: no virtlogd, no security driver, no cgroups.
const QEMU_CONF: &str = r#"user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
stdio_handler = "file"
cgroup_controllers = []
namespaces = []
"#;

/// A running libvirtd with the tests' machine in it.
#[derive(Debug)]
pub struct Libvirt {
    // Declared first: the daemon, and with it the machine, ends before the directory goes.
    daemon: Kept,
    /// The root shell in the guest.
    pub shell: Shell,
    /// ext4 on /dev/vda, /mnt/ext4.
    pub ext4: Disk,
    /// xfs on /dev/sda, /mnt/xfs.
    pub xfs: Disk,
    directory: TempDir,
}

impl Libvirt {
    /// Starts the daemon and the machine, and waits until libvirt sees the agent.
    ///
    /// # Panics
    /// When one of them does not come up.
    pub fn start(image: &Rc<Image>) -> Self {
        let directory = tempfile::Builder::new().prefix("vm-libvirt-").tempdir().expect("a temporary directory");
        let path = directory.path();
        let mut daemon = start_daemon(path);
        let up = wait::poll(Duration::from_secs(60), || {
            let up = virsh(path, &["version"]).status.success();
            (up || !daemon.is_running()).then_some(up)
        });
        assert_eq!(up, Some(true), "libvirtd does not come up: {}", read(path, "libvirtd.log"));

        let [ext4, xfs] = create(path, path, image, DOMAIN);
        let libvirt = Self { daemon, shell: shell(path), ext4, xfs, directory };
        libvirt.wait_agent("connected");
        libvirt
    }

    /// Starts another machine like the first, and waits until libvirt sees its agent. It has its root shell, and is there
    /// until [`Second`] goes.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_second(&self, image: &Rc<Image>, name: &str) -> Second {
        let path = self.directory.path().join(name);
        fs::create_dir(&path).expect("a directory for another machine");
        create(self.directory.path(), &path, image, name);
        let second =
            Second { shell: shell(&path), name: name.to_owned(), libvirt: self.directory.path().to_owned(), path };
        self.wait_agent_of(name, "connected");
        second
    }

    /// Waits until libvirt calls the agent's channel `connected` or `disconnected`.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn wait_agent(&self, state: &str) {
        self.wait_agent_of(DOMAIN, state);
    }

    #[track_caller]
    fn wait_agent_of(&self, name: &str, state: &str) {
        let words = format!("name='{PORT}' state='{state}'");
        wait::until(&format!("libvirt calling the agent {state}"), BOOT, || {
            self.virsh(&["dumpxml", name]).contains(&words).then_some(())
        });
    }

    /// Ends the agent and starts another with more options, and waits until libvirt has seen both.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn restart_agent(&mut self, options: &str) {
        self.shell.run("kill $(cat /run/qga/pid)");
        self.wait_agent("disconnected");
        self.shell.run(&format!("more='{options}' start-agent"));
        self.wait_agent("connected");
    }

    /// Ends libvirtd with a signal, named without SIG, and starts another, while the machine runs on. Waits until the new
    /// one answers.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn restart_daemon(&mut self, signal: &str) {
        let path = self.directory.path();
        let before = read(path, "libvirtd.number");
        fs::write(path.join("control"), format!("{signal}\n")).expect("a signal for libvirtd");
        wait::until("another libvirtd", Duration::from_secs(60), || {
            let now = read(path, "libvirtd.number");
            (now.ends_with('\n') && now != before && self.try_virsh(&["version"]).status.success()).then_some(())
        });
    }

    /// Runs a virsh command that must succeed and gives what it prints, without surrounding white space.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn virsh(&self, arguments: &[&str]) -> String {
        let output = self.try_virsh(arguments);
        assert!(output.status.success(), "virsh {}: {}", arguments.join(" "), process::text(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Runs a virsh command.
    pub fn try_virsh(&self, arguments: &[&str]) -> Output {
        virsh(self.directory.path(), arguments)
    }

    /// Where clients find this libvirtd.
    pub fn uri(&self) -> String {
        uri(self.directory.path())
    }

    /// The state that `virsh domstate` gives, empty when the machine is gone.
    pub fn state(&self) -> String {
        let output = self.try_virsh(&["domstate", DOMAIN]);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What helps to understand a failure.
    pub fn report(&mut self) -> String {
        let running = if self.daemon.is_running() { "runs" } else { "ended" };
        let path = self.directory.path();
        let (log, console) = (tail(&read(path, "libvirtd.log")), tail(&read(path, "console")));
        format!("--- libvirtd {running} ---\n{log}--- end of the guest's console ---\n{console}")
    }
}

/// A second machine; it ends with this.
#[derive(Debug)]
pub struct Second {
    /// The root shell in it.
    pub shell: Shell,
    name: String,
    libvirt: PathBuf,
    path: PathBuf,
}

impl Drop for Second {
    fn drop(&mut self) {
        // What goes wrong here ends with libvirtd.
        virsh(&self.libvirt, &["destroy", &self.name]);
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Starts a machine whose files are in a directory, and gives its disks.
fn create(libvirt: &Path, path: &Path, image: &Image, name: &str) -> [Disk; 2] {
    let disks = [Disk::ext4(path), Disk::xfs(path)];
    let definition = path.join("domain.xml");
    fs::write(&definition, domain(name, path, image, &disks)).expect("a domain definition");
    let output = virsh(libvirt, &["create", &definition.to_string_lossy()]);
    assert!(output.status.success(), "virsh create: {}\n{}", process::text(&output), read(libvirt, "libvirtd.log"));
    disks
}

/// The root shell of the machine whose files are in a directory, once it has come up.
fn shell(path: &Path) -> Shell {
    let shell = Shell::connect(&path.join("shell"), Duration::from_secs(30)).and_then(|mut shell| {
        shell.wait_ready(BOOT)?;
        Ok(shell)
    });
    shell.unwrap_or_else(|error| panic!("the guest does not come up: {error}\n{}", read(path, "console")))
}

fn start_daemon(path: &Path) -> Kept {
    for name in ["dev", "etc"] {
        fs::create_dir(path.join(name)).expect("a directory for libvirtd");
    }
    let daemon_conf = format!("{DAEMON_CONF}unix_sock_dir = \"{}\"\n", path.display());
    fs::write(path.join("etc/libvirtd.conf"), daemon_conf).expect("libvirtd.conf");
    fs::write(path.join("etc/qemu.conf"), QEMU_CONF).expect("qemu.conf");
    let log = File::create(path.join("libvirtd.log")).expect("libvirtd's log");
    let libvirtd = process::find("libvirtd").expect("libvirtd was looked for before");
    Kept::start("unshare", |command| {
        command.args(["--mount", "--propagation", "private", "--net"]);
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["sh", "-c", SETUP, "sh"]).arg(path).arg(libvirtd);
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
    })
}

fn uri(path: &Path) -> String {
    format!("qemu:///system?socket={}", path.join("libvirt-sock").display())
}

fn virsh(path: &Path, arguments: &[&str]) -> Output {
    let mut command = process::command("timeout");
    command.arg("180").arg(process::find("virsh").expect("virsh was looked for before"));
    process::output(command.arg("-c").arg(uri(path)).args(arguments).env("LC_ALL", "C"))
}

fn read(path: &Path, name: &str) -> String {
    String::from_utf8_lossy(&fs::read(path.join(name)).unwrap_or_default()).into_owned()
}

/// The machine of [`crate::machine`] as far as libvirt knows such things; without a swap disk.
fn domain(name: &str, path: &Path, image: &Image, [ext4, xfs]: &[Disk; 2]) -> String {
    let (kernel, initrd) = (image.kernel.display(), image.initrd.display());
    let (ext4, xfs) = (ext4.path.display(), xfs.path.display());
    let emulator = process::find("qemu-system-x86_64").expect("QEMU was looked for before");
    let (emulator, path) = (emulator.display(), path.display());
    format!(
        "<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>512</memory>
  <vcpu>2</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>{KERNEL_LINE} vm_ext4=/dev/vda vm_xfs=/dev/sda</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='maximum'/>
  <pm><suspend-to-mem enabled='yes'/><suspend-to-disk enabled='yes'/></pm>
  <on_poweroff>destroy</on_poweroff>
  <devices>
    <emulator>{emulator}</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='{ext4}'/><target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' discard='unmap'/><source file='{xfs}'/><target dev='sda' bus='scsi'/>
    </disk>
    <controller type='scsi' model='virtio-scsi'/>
    <interface type='user'><mac address='{MAC}'/><model type='virtio'/><rom enabled='no'/></interface>
    <serial type='file'><source path='{path}/console'/><target port='0'/></serial>
    <serial type='unix'><source mode='bind' path='{path}/shell'/><target port='1'/></serial>
    <channel type='unix'><target type='virtio' name='{PORT}'/></channel>
    <memballoon model='none'/>
  </devices>
</domain>
"
    )
}
