//! `cargo xtask demo`: a throw-away machine, and the agent at work in it, seen through `qga`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use vm_tests::agent::Agent;
use vm_tests::{Image, Machine, Spec};

use crate::process::{self, Result, cargo};
use crate::{dist, packages, target};

/// Lines of an answer that are shown.
const LINES_SHOWN: usize = 14;

/// Time for what the machine does by itself, such as going down.
const PATIENCE: Duration = Duration::from_secs(60);

/// Builds, installs, boots and shows.
pub(crate) fn run() -> Result {
    packages::install(vm_tests::PACKAGES)?;
    let agent = if std::env::var_os("QGA_UNDER_TEST").is_some() {
        Agent::under_test()
    } else {
        Agent { path: dist::static_build(&["qemu-ga"])?.join("qemu-ga"), is_c: false }
    };
    process::run(&mut cargo(&["build", "--package", "qga"]))?;
    if packages::has_dpkg() && !target().join("vm-cache/kernel").exists() {
        packages::update()?;
    }
    let image = Rc::new(Image::with_agent(agent));

    let start = Instant::now();
    title("A machine is booted in software emulation, with an ext4 and an xfs disk and the agent inside.");
    let machine = Machine::boot(&image, Spec { disks: true, ..Spec::default() });
    drop(machine.agent()); // waits until it answers
    println!("It is up after {:.1} s.", start.elapsed().as_secs_f64());

    let mut tour = Tour { qga: target().join("debug/qga"), socket: machine.agent_socket(), machine };
    tour.who_is_there()?;
    tour.network()?;
    tour.files()?;
    tour.freeze()?;
    tour.trim()?;
    tour.suspend()?;
    tour.shut_down()?;
    println!("\nThat was the tour: {:.0} s.", start.elapsed().as_secs_f64());
    Ok(())
}

/// The machine, and the program that talks to the agent in it.
struct Tour {
    qga: PathBuf,
    socket: PathBuf,
    machine: Machine,
}

impl Tour {
    fn who_is_there(&mut self) -> Result {
        title("Is anybody there?");
        self.qga(&["ping"])?;
        self.qga(&["info"])?;
        Ok(())
    }

    fn network(&mut self) -> Result {
        title("Which addresses does it have?");
        let interfaces = self.call("guest-network-get-interfaces", &Value::Null)?;
        let has_card = interfaces
            .as_array()
            .is_some_and(|all| all.iter().any(|interface| interface["hardware-address"] == vm_tests::machine::MAC));
        expect(has_card, "the card of QEMU's command line is among the interfaces")
    }

    fn files(&mut self) -> Result {
        title("A file is written through the agent, and read again by a shell in the guest.");
        let text = "Written from the host, without any network.\n";
        let handle = self.call("guest-file-open", &json!({"path": "/mnt/ext4/hello", "mode": "w"}))?;
        self.call("guest-file-write", &json!({"handle": handle, "buf-b64": STANDARD.encode(text)}))?;
        self.call("guest-file-close", &json!({"handle": handle}))?;
        let seen = self.in_guest("cat /mnt/ext4/hello");
        expect(seen == text.trim_end(), "the guest sees what the host wrote")?;

        title("And one of the guest's is read.");
        let handle = self.call("guest-file-open", &json!({"path": "/proc/version"}))?;
        let read = self.call("guest-file-read", &json!({"handle": handle}))?;
        self.call("guest-file-close", &json!({"handle": handle}))?;
        let bytes = STANDARD.decode(read["buf-b64"].as_str().unwrap_or_default()).unwrap_or_default();
        let version = String::from_utf8_lossy(&bytes).into_owned();
        println!("decoded: {}", version.trim_end());
        expect(version.starts_with("Linux version "), "this is the guest's kernel")
    }

    fn freeze(&mut self) -> Result {
        title("The file systems are frozen, as for a snapshot. Whoever writes now has to wait.");
        self.call("guest-fsfreeze-freeze", &Value::Null)?;
        self.in_guest("(echo late > /mnt/ext4/late; echo done > /run/late) >/dev/null 2>&1 & sleep 1");
        let waits = !self.machine.shell.succeeds("[ -e /run/late ]");
        self.call("guest-fsfreeze-status", &Value::Null)?;
        self.call("guest-fsfreeze-thaw", &Value::Null)?;
        expect(waits, "a writer was stalled while frozen")?;
        let go_on = wait_until(|| self.machine.shell.succeeds("[ -e /run/late ]"));
        expect(go_on, "and went on after the thaw")
    }

    fn trim(&mut self) -> Result {
        title("Unused blocks are given back: the disk image on the host shrinks.");
        self.in_guest("dd if=/dev/zero of=/mnt/xfs/big bs=1M count=128 2>/dev/null; sync; rm /mnt/xfs/big; sync");
        let before = self.image_size();
        self.call("guest-fstrim", &Value::Null)?;
        let after = self.image_size();
        println!("disk image on the host: {} MiB before, {} MiB after", before >> 20, after >> 20);
        expect(after + (64 << 20) < before, "the host got the blocks back")
    }

    fn suspend(&mut self) -> Result {
        title("The guest is put to sleep, and woken up from outside.");
        self.machine.qmp.drop_events();
        self.qga(&["call", "guest-suspend-ram"])?;
        let asleep = self.machine.qmp.event("SUSPEND", PATIENCE).is_some();
        expect(asleep, "QEMU reports SUSPEND")?;
        self.machine.qmp.execute("system_wakeup", json!({}));
        expect(self.machine.qmp.event("WAKEUP", PATIENCE).is_some(), "QEMU reports WAKEUP")?;
        drop(self.machine.agent());
        self.qga(&["ping"])?;
        Ok(())
    }

    fn shut_down(&mut self) -> Result {
        title("And it is shut down.");
        self.machine.qmp.drop_events();
        self.qga(&["call", "guest-shutdown"])?;
        expect(self.machine.qmp.event("SHUTDOWN", PATIENCE).is_some(), "QEMU reports SHUTDOWN")
    }

    /// Runs a command of the agent and returns its result.
    fn call(&self, name: &str, arguments: &Value) -> Result<Value> {
        let arguments = if arguments.is_null() { String::new() } else { arguments.to_string() };
        let mut args = vec!["call", name];
        if !arguments.is_empty() {
            args.push(&arguments);
        }
        let text = self.qga(&args)?;
        serde_json::from_str(&text).map_err(|error| format!("{name}: {error}"))
    }

    /// Runs `qga`, shows what is run and the start of what it prints, and returns all of it.
    fn qga(&self, args: &[&str]) -> Result<String> {
        let shown: Vec<String> = args
            .iter()
            .map(|arg| if arg.contains(['{', ' ']) { format!("'{arg}'") } else { (*arg).to_owned() })
            .collect();
        println!("$ qga {}", shown.join(" "));
        let output = Command::new(&self.qga)
            .args(args)
            .env("QGA_TARGET", &self.socket)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("{}: {error}", self.qga.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        for line in lines.iter().take(LINES_SHOWN) {
            println!("{line}");
        }
        if lines.len() > LINES_SHOWN {
            println!("... and {} lines more", lines.len() - LINES_SHOWN);
        }
        if output.status.success() { Ok(text) } else { Err(format!("qga {}: {}", shown.join(" "), output.status)) }
    }

    /// Runs a script in the guest's own shell, which the agent has no part in.
    fn in_guest(&mut self, script: &str) -> String {
        println!("guest# {script}");
        let text = self.machine.shell.run_within(script, PATIENCE);
        if !text.is_empty() {
            println!("{text}");
        }
        text
    }

    /// Bytes the xfs disk image takes on the host.
    fn image_size(&self) -> u64 {
        self.machine.disks.as_ref().map_or(0, |disks| disks.xfs.allocated())
    }
}

fn title(text: &str) {
    println!("\n== {text}");
}

/// Says that something is as it should be, or ends the tour.
fn expect(is_so: bool, what: &str) -> Result {
    if is_so {
        println!("   ok: {what}");
        Ok(())
    } else {
        Err(format!("it is not so that {what}"))
    }
}

/// Waits, for a limited time, until something is so.
fn wait_until(mut is_so: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > PATIENCE {
            return false;
        }
        sleep(Duration::from_millis(50));
    }
    true
}
