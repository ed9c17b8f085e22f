//! The agent as it is shipped: one static file. Made with musl, which halves it; with glibc where musl's standard library
//! cannot be had. Why: `docs/adr/0003-musl.md`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::dist::{host_triple, static_build};
use crate::process::{self, Result, cargo, output, program};
use crate::{debian_rust, target};

/// Builds the agent and returns where it is.
///
/// # Errors
/// What failed. (That it has to be the larger one is told and no error.)
pub(crate) fn agent() -> Result<PathBuf> {
    let host = host_triple()?;
    let Some(triple) = musl(&host) else {
        return with_glibc(&format!("{host} is not known to have musl"));
    };
    if has_standard_library(&triple) {
        // With everything else that it takes: start-up code, C library, unwinder.
        let mut command = build(&triple);
        command.env("RUSTFLAGS", "-C target-feature=+crt-static");
        process::run(&mut command)?;
        return Ok(built(&triple));
    }
    match with_sources(&triple) {
        Ok(agent) => Ok(agent),
        Err(reason) => with_glibc(&reason),
    }
}

/// The kind of machine with musl that a kind of machine is, if it is Linux.
fn musl(host: &str) -> Option<String> {
    let (machine, _) = host.split_once('-')?;
    host.contains("-linux-").then(|| format!("{machine}-unknown-linux-musl"))
}

/// Whether the toolchain that is used has it: `rustup target add` does that.
fn has_standard_library(triple: &str) -> bool {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let directory = output(&mut program(&rustc, ["--print", "target-libdir", "--target", triple]));
    let files = directory.ok().and_then(|directory| std::fs::read_dir(directory.trim()).ok());
    files.into_iter().flatten().flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
}

/// Builds the standard library as well, of a toolchain of Debian's that has its sources.
fn with_sources(triple: &str) -> Result<PathBuf> {
    let rust = debian_rust::prepare(triple)?;
    let flags = [
        "-Ctarget-feature=+crt-static".to_owned(),
        // Start-up code and C library of the directories named, and not the host's.
        "-Clink-self-contained=yes".to_owned(),
        "-Clinker=cc".to_owned(),
        // LLVM's unwinder, compiled for glibc, calls this to print before it aborts.
        "-Clink-arg=-Wl,--defsym=__fprintf_chk=abort".to_owned(),
    ];
    let directories = rust.libraries.iter().map(|directory| format!("-Lnative={}", directory.display()));
    let flags: Vec<String> = flags.into_iter().chain(directories).collect();

    let mut command = build(triple);
    // Without the part that prints backtraces, an eighth of the program: it has no symbols that they could name.
    command.args(["-Zbuild-std=std,panic_unwind", "-Zbuild-std-features="]);
    command.arg("--config").arg(format!("target.{triple}.rustflags={flags:?}"));
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    command.env("RUSTC", &rust.rustc).env("RUSTC_BOOTSTRAP", "1").env("LD_LIBRARY_PATH", &rust.own_libraries);
    process::run(&mut command)?;
    Ok(built(triple))
}

fn with_glibc(reason: &str) -> Result<PathBuf> {
    println!("\nThe agent is built with glibc, which makes it larger than promised: {reason}.");
    println!("`rustup target add` with the musl target of this machine helps.");
    Ok(static_build(&["qemu-ga"])?.join("qemu-ga"))
}

fn directory() -> PathBuf {
    target().join("shipped")
}

fn build(triple: &str) -> Command {
    let mut command = cargo(&["build", "--release", "--locked", "--package", "qemu-ga", "--target", triple]);
    command.arg("--target-dir").arg(directory());
    command
}

fn built(triple: &str) -> PathBuf {
    directory().join(triple).join(Path::new("release/qemu-ga"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_linux_has_its_musl() {
        assert_eq!(musl("x86_64-unknown-linux-gnu").as_deref(), Some("x86_64-unknown-linux-musl"));
        assert_eq!(musl("aarch64-alpine-linux-musl").as_deref(), Some("aarch64-unknown-linux-musl"));
        assert_eq!(musl("aarch64-apple-darwin"), None);
    }
}
