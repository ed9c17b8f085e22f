//! A place where freezing is safe: a mount namespace of its own, with image files mounted below a directory, and a
//! mount table in which nothing else stands.
//!
//! The code under test sees the system through a root prefix. Its `proc/self/mountinfo` is the real table cut down
//! to what is below the prefix, so it cannot know of any other file system of this machine. Whatever happens to the
//! test, a watchdog process thaws every file system of the stage after a minute.

use std::env;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use qemu_ga::platform::linux::ffi;
use qemu_ga::platform::linux::mountinfo::Device;
use qemu_ga::platform::linux::root::Root;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

/// Set in the process that runs inside the namespace.
const INSIDE: &str = "QGA_TEST_FREEZE_STAGE";

/// How long one test may take; also when the watchdog thaws.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs the test called `name` on a stage, in a process of its own.
pub(crate) fn on_stage(name: &str, test: impl FnOnce(&mut Stage)) {
    if env::var_os(INSIDE).is_some_and(|inside| inside == name) {
        test(&mut Stage::new());
        return;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED {name}: it needs root, loop devices and a mount namespace");
        return;
    }
    let mut child = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, name)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let since = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        // The watchdog comes first, and lets it end by itself.
        if since.elapsed() > 2 * LIMIT {
            child.kill().unwrap();
            panic!("{name} did not end");
        }
        thread::sleep(Duration::from_millis(10));
    };
    assert!(status.success(), "{name}: {status}");
}

/// The directory, what is mounted below it, and the watchdog.
pub(crate) struct Stage {
    top: PathBuf,
    /// Open directories of the file systems, by which they can be thawed even when they are covered.
    held: Vec<OwnedFd>,
    watchdog: Option<Child>,
}

impl Stage {
    fn new() -> Self {
        let top = env::temp_dir().join(format!("qga-stage-{}", std::process::id()));
        fs::create_dir(&top).unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=1g", "none", top.to_str().unwrap()]);
        for dir in ["images", "root/proc/self", "root/mnt"] {
            fs::create_dir_all(top.join(dir)).unwrap();
        }
        for dir in ["sys", "dev"] {
            std::os::unix::fs::symlink(Path::new("/").join(dir), top.join("root").join(dir)).unwrap();
        }
        Stage { top, held: Vec::new(), watchdog: None }
    }

    /// Where a path of the guest is here.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.top.join("root").join(path.trim_start_matches('/'))
    }

    /// A place outside of all file systems that are frozen.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.top.join(name)
    }

    /// Makes a file system in a new image; its name ends in the type: `a.ext4`.
    pub(crate) fn image(&self, name: &str) -> PathBuf {
        let image = self.top.join("images").join(name);
        make(&image);
        image
    }

    /// Mounts an image on a new loop device.
    pub(crate) fn mount(&mut self, image: &Path, point: &str, options: &str) {
        let options = if options.is_empty() { "loop".to_owned() } else { format!("loop,{options}") };
        self.attach(&["-o", &options, image.to_str().unwrap()], point);
    }

    /// Makes and mounts a file system.
    pub(crate) fn new_mount(&mut self, name: &str, point: &str) {
        let image = self.image(name);
        self.mount(&image, point, "");
    }

    /// Mounts a directory or file of the stage at a second place.
    pub(crate) fn bind(&mut self, from: &str, to: &str) {
        let from = self.path(from);
        if !from.is_dir() {
            File::create(self.path(to)).unwrap();
        }
        self.attach(&["--bind", from.to_str().unwrap()], to);
    }

    /// Mounts an empty tmpfs.
    pub(crate) fn tmpfs(&mut self, point: &str) {
        self.attach(&["-t", "tmpfs", "none"], point);
    }

    /// Mounts with these words on mount's command line.
    pub(crate) fn attach(&mut self, args: &[&str], point: &str) {
        let point = self.path(point);
        if !point.exists() {
            fs::create_dir_all(&point).unwrap();
        }
        run("mount", &[args, &[point.to_str().unwrap()]].concat());
        if point.is_dir() {
            // Not closed on exec: the watchdog inherits it.
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
            self.held.push(rustix::fs::open(&point, flags, rustix::fs::Mode::empty()).unwrap());
        }
    }

    /// Takes a mount out of the tree; it lives on while something uses it.
    pub(crate) fn detach(&self, point: &str) {
        run("umount", &["-l", self.path(point).to_str().unwrap()]);
    }

    /// Lets go of one, which has been detached.
    pub(crate) fn forget(&mut self, held: usize) {
        self.held.remove(held);
    }

    /// Writes the mount table anew, and starts the watchdog. To be called when all is mounted.
    pub(crate) fn root(&mut self) -> Root {
        self.root_with(|table| table)
    }

    /// The same with a table that is changed on the way.
    pub(crate) fn root_with(&mut self, change: impl FnOnce(String) -> String) -> Root {
        let prefix = self.top.join("root");
        let mut table = String::new();
        for line in fs::read_to_string("/proc/self/mountinfo").unwrap().lines() {
            let mut fields: Vec<&str> = line.split(' ').collect();
            let Some(point) = fields[4].strip_prefix(prefix.to_str().unwrap()) else { continue };
            let device = Device::parse(fields[2].as_bytes()).unwrap();
            assert!([0, 7].contains(&device.major), "not of this stage: {line}");
            fields[4] = if point.is_empty() { "/" } else { point };
            table.push_str(&fields.join(" "));
            table.push('\n');
        }
        assert!(!table.is_empty());
        fs::write(prefix.join("proc/self/mountinfo"), change(table)).unwrap();
        self.watch();
        Root::new(prefix)
    }

    fn watch(&mut self) {
        self.call_off();
        let fds: Vec<String> = self.held.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
        let script = format!(
            "sleep {}; for i in 1 2 3; do for fd in {}; do fsfreeze -u /proc/self/fd/$fd; done; done",
            LIMIT.as_secs(),
            fds.join(" ")
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.watchdog = Some(command.process_group(0).spawn().unwrap());
    }

    fn call_off(&mut self) {
        if let Some(mut watchdog) = self.watchdog.take() {
            let group = Pid::from_child(&watchdog);
            let _ = kill_process_group(group, Signal::KILL);
            let _ = watchdog.wait();
        }
    }

    /// Which of the held file systems are frozen, in the order of mounting.
    pub(crate) fn frozen(&self) -> Vec<bool> {
        self.held.iter().map(is_frozen).collect()
    }

    /// Freezes one as another program would.
    pub(crate) fn freeze_from_outside(&self, held: usize) {
        ffi::fifreeze(self.held[held].as_fd()).unwrap();
    }

    /// Thaws one if it is frozen.
    pub(crate) fn release(&self, held: usize) {
        let _ = ffi::fithaw(self.held[held].as_fd());
    }

    /// Thaws one as another program would.
    pub(crate) fn thaw_from_outside(&self, held: usize) {
        ffi::fithaw(self.held[held].as_fd()).unwrap();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // More than once: an inner one cannot always be thawed before the outer one.
        for _ in 0..3 {
            for fd in &self.held {
                let _ = ffi::fithaw(fd.as_fd());
            }
        }
        self.call_off();
        self.held.clear();
        // With all that is mounted below, covered or not.
        let _ = Command::new("umount").arg("-l").arg(&self.top).status();
        match fs::remove_dir(&self.top) {
            Err(e) if e.kind() != ErrorKind::NotFound => eprintln!("{}: {e}", self.top.display()),
            _ => {}
        }
    }
}

/// Asks by freezing: only what is frozen cannot be frozen again.
fn is_frozen(fd: &OwnedFd) -> bool {
    match ffi::fifreeze(fd.as_fd()) {
        Ok(()) => {
            ffi::fithaw(fd.as_fd()).unwrap();
            false
        }
        Err(Errno::BUSY) => true,
        // One whose disk fails does not get frozen.
        Err(Errno::OPNOTSUPP | Errno::IO) => false,
        Err(e) => panic!("FIFREEZE: {e}"),
    }
}

/// Makes a file system in a sparse file.
pub(crate) fn make(image: &Path) {
    let kind = image.extension().unwrap().to_str().unwrap();
    let size = if kind == "ext4" { 32 << 20 } else { 320 << 20 };
    File::create(image).unwrap().set_len(size).unwrap();
    run(&format!("mkfs.{kind}"), &["-q", image.to_str().unwrap()]);
}

/// Runs a program that has to succeed and gives what it printed.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
