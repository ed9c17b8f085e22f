//! Installs the Debian packages that are missing, by name, and says so.

use std::path::Path;
use std::process::Command;

use crate::process::{Result, output, program, run};

/// What the tests outside of machines need: the C agent to compare with, makers of file systems, and
/// a place for clients in Python.
pub(crate) const FOR_TESTS: &[&str] =
    &["qemu-guest-agent", "btrfs-progs", "dmsetup", "e2fsprogs", "python3-venv", "util-linux", "xfsprogs"];

/// Installs those packages that are not there. On a system without dpkg it only says what is wanted.
pub(crate) fn install(wanted: &[&str]) -> Result {
    if !has_dpkg() {
        println!("This is no Debian system; install by hand what is missing of: {}", wanted.join(" "));
        return Ok(());
    }
    let mut missing: Vec<&str> = wanted.iter().copied().filter(|name| !is_installed(name)).collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    println!("Missing Debian packages, to be installed now: {}", missing.join(" "));
    update()?;
    let mut command = as_root("apt-get");
    command.args(["install", "-y", "-q", "--no-install-recommends"]);
    command.args(["-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]);
    run(command.args(&missing))
}

/// Brings apt's lists up to date, which a fresh container has none of.
pub(crate) fn update() -> Result {
    run(as_root("apt-get").args(["update", "-q", "-o", "Acquire::Retries=3"]))
}

/// Whether packages can be looked for at all.
pub(crate) fn has_dpkg() -> bool {
    Path::new("/usr/bin/dpkg-query").exists()
}

fn is_installed(name: &str) -> bool {
    let query = ["-W", "-f=${db:Status-Status}", name];
    output(&mut program("dpkg-query", query)).is_ok_and(|status| status == "installed")
}

/// A command with the rights of root; sudo may ask for a password.
fn as_root(name: &str) -> Command {
    let is_root = output(&mut program("id", ["-u"])).is_ok_and(|id| id.trim() == "0");
    let mut command = if is_root {
        program("env", ["DEBIAN_FRONTEND=noninteractive"])
    } else {
        program("sudo", ["DEBIAN_FRONTEND=noninteractive"])
    };
    command.arg(name);
    command
}
