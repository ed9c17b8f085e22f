//! Installs the Debian packages that are missing, by name, and says so.

use std::path::Path;
use std::process::Command;

use crate::process::{Result, output, program, run};

/// What the tests outside of machines need: the C agent to compare with, makers of file systems, the servers for which
/// there are hooks, a Prometheus that scrapes, and a place for clients in Python. Of MariaDB only the programs: nothing that is started or set up.
pub(crate) const FOR_TESTS: &[&str] = &[
    "qemu-guest-agent",
    "btrfs-progs",
    "dmsetup",
    "e2fsprogs",
    "iproute2",
    "mariadb-client-core",
    "mariadb-server-core",
    "postgresql",
    "prometheus",
    "python3-venv",
    "strace",
    "util-linux",
    "valgrind",
    "xfsprogs",
];

/// What Debian's packages ask before they start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

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
    let policy = NoServices::begin()?;
    let installed = run(command.args(&missing));
    drop(policy);
    installed
}

/// As long as it lives, no package that is installed starts a service. What the administrator has there stays.
struct NoServices {
    is_ours: bool,
}

impl NoServices {
    fn begin() -> Result<Self> {
        let is_ours = !Path::new(POLICY).exists();
        if is_ours {
            let script = format!("printf '#!/bin/sh\\nexit 101\\n' >{POLICY} && chmod 755 {POLICY}");
            run(as_root("sh").args(["-c", &script]))?;
        }
        Ok(NoServices { is_ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.is_ours && run(as_root("rm").arg(POLICY)).is_err() {
            println!("{POLICY} is left behind; as long as it is there no package starts a service");
        }
    }
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
