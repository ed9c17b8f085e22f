//! `cargo xtask fuzz`: runs fuzz targets. `cargo xtask test` does so too, for a few seconds each.

mod seeds;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::process::Command;

use clap::Args;

use crate::process::{self, Result, cargo, output, program};
use crate::{target, workspace};

/// Arguments of `cargo xtask fuzz`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Seconds that each target runs
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    seconds: u32,
    /// Targets to run; all if none is named
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// Runs the targets that are asked for.
pub(crate) fn run(options: &Options) -> Result {
    if let Some(reason) = missing_toolchain() {
        return Err(reason);
    }
    prepare()?;
    let all = targets()?;
    if let Some(unknown) = options.targets.iter().find(|name| !all.contains(name)) {
        return Err(format!("there is no target {unknown}; there are {}", all.join(", ")));
    }
    let chosen = if options.targets.is_empty() { &all } else { &options.targets };
    run_each(chosen, options.seconds)
}

/// Why nothing can be built here; `None` where it can.
pub(crate) fn missing_toolchain() -> Option<String> {
    let found = output(&mut nightly(&["--version"])).is_ok();
    (!found).then(|| "cargo-fuzz needs a nightly toolchain: rustup toolchain install nightly".to_owned())
}

/// Installs `cargo-fuzz` where it is not there.
pub(crate) fn prepare() -> Result {
    let tools = target().join("tools");
    if output(&mut program("cargo-fuzz", ["--version"])).is_ok() || tools.join("bin/cargo-fuzz").exists() {
        return Ok(());
    }
    let mut command = cargo(&["install", "--locked", "--quiet", "cargo-fuzz", "--root"]);
    process::run(command.arg(&tools).env_remove("CARGO_TARGET_DIR"))
}

/// The names of the targets.
pub(crate) fn targets() -> Result<Vec<String>> {
    let directory = workspace().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .collect();
    names.sort();
    if names.is_empty() { Err(format!("no fuzz targets in {}", directory.display())) } else { Ok(names) }
}

/// Builds all targets and runs these, so many seconds each. The first input that breaks something ends it.
pub(crate) fn run_each(targets: &[String], seconds: u32) -> Result {
    process::run(&mut nightly(&["fuzz", "build"]))?;
    for name in targets {
        // New inputs go to a directory that is not under version control; the kept ones are only read.
        let found = target().join("fuzz-corpus").join(name);
        fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
        let mut command = nightly(&["fuzz", "run", name]);
        command.arg(&found);
        let seeds = target().join("fuzz-seeds").join(name);
        for kept in [workspace().join("fuzz/corpus").join(name), seeds::write(name, &seeds)?] {
            if kept.is_dir() {
                command.arg(kept);
            }
        }
        let limit = format!("-max_total_time={seconds}");
        process::run(command.args(["--", &limit, "-print_final_stats=1", "-verbosity=0", "-print_funcs=0"]))?;
    }
    Ok(())
}

/// The cargo of the nightly toolchain, with our tools.
fn nightly(args: &[&str]) -> Command {
    let mut command = program("rustup", ["run", "nightly", "cargo"]);
    // Set by the cargo that started us: for its own toolchain, not for this one.
    for variable in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO_TARGET_DIR"] {
        command.env_remove(variable);
    }
    command.args(args).env("PATH", path());
    command
}

fn path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_default();
    let tools = target().join("tools/bin");
    env::join_paths([tools].into_iter().chain(env::split_paths(&path))).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_built_and_described_and_has_a_row_in_the_documentation() {
        let manifest = fs::read_to_string(workspace().join("fuzz/Cargo.toml")).unwrap();
        let readme = fs::read_to_string(workspace().join("fuzz/README.md")).unwrap();
        let testing = fs::read_to_string(workspace().join("docs/testing.md")).unwrap();
        let targets = targets().unwrap();
        for name in &targets {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
            assert!(readme.contains(&format!("| `{name}` |")), "{name}");
            assert!(testing.contains(&format!("| `{name}` |")), "{name}");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), targets.len());
    }
}
