//! `cargo xtask test`: installs what is missing and runs every layer of tests.

use std::env;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::process::{self, Result, cargo, output, program};
use crate::{dist, packages, python, target, workspace};

/// The C agent, where Debian puts it.
pub(crate) const C_AGENT: &str = "/usr/sbin/qemu-ga";

/// Seconds each fuzz target runs.
const FUZZ_SECONDS: u32 = 10;

/// Arguments of `cargo xtask test`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Run only these layers
    #[arg(long, value_name = "LAYER", value_delimiter = ',')]
    only: Vec<Layer>,
}

/// One kind of tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Layer {
    /// Everything in the workspace that needs no machine: unit, property, conformance on ours, stuck, budget
    Workspace,
    /// The conformance cases against the C agent
    Conformance,
    /// Real machines with the agent inside
    Machine,
    /// Each fuzz target for a few seconds
    Fuzz,
}

/// How a layer ended.
enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
}

impl Layer {
    const ALL: [Layer; 4] = [Layer::Workspace, Layer::Conformance, Layer::Machine, Layer::Fuzz];

    fn name(self) -> &'static str {
        match self {
            Layer::Workspace => "workspace",
            Layer::Conformance => "conformance",
            Layer::Machine => "machine",
            Layer::Fuzz => "fuzz",
        }
    }

    /// The Debian packages it needs.
    fn packages(self) -> &'static [&'static str] {
        match self {
            Layer::Workspace => packages::FOR_TESTS,
            Layer::Conformance => &["qemu-guest-agent"],
            Layer::Machine => vm_tests::PACKAGES,
            Layer::Fuzz => &[],
        }
    }

    /// Whether it has tests with clients in Python.
    fn has_python(self) -> bool {
        matches!(self, Layer::Workspace | Layer::Machine)
    }

    fn run(self) -> Outcome {
        match self {
            Layer::Workspace => passed_if(workspace_tests()),
            Layer::Conformance => conformance(),
            Layer::Machine => passed_if(machines()),
            Layer::Fuzz => fuzz(),
        }
    }
}

/// Runs the layers and closes with a summary; one that fails does not keep the others from running.
pub(crate) fn run(options: &Options) -> Result {
    let layers: Vec<Layer> =
        Layer::ALL.into_iter().filter(|layer| options.only.is_empty() || options.only.contains(layer)).collect();
    let wanted: Vec<&str> = layers.iter().flat_map(|layer| layer.packages()).copied().collect();
    packages::install(&wanted)?;
    if layers.iter().any(|layer| layer.has_python())
        && let Err(reason) = python::prepare()
    {
        // The tests that need them say so too, and fail where CI=true.
        println!("\nSKIPPED: tests with clients in Python, which cannot be installed: {reason}");
    }

    let mut results = Vec::new();
    for layer in layers {
        println!("\n==== {} ====", layer.name());
        let start = Instant::now();
        results.push((layer, layer.run(), start.elapsed()));
    }
    summarize(&results)
}

/// Prints the summary; an error when a layer failed.
fn summarize(results: &[(Layer, Outcome, Duration)]) -> Result {
    println!("\n==== summary ====");
    let mut failed = Vec::new();
    for (layer, outcome, time) in results {
        let (word, reason) = match outcome {
            Outcome::Passed => ("passed", ""),
            Outcome::Skipped(reason) => ("SKIPPED", reason.as_str()),
            Outcome::Failed(reason) => {
                failed.push(layer.name());
                ("FAILED", reason.as_str())
            }
        };
        println!("{:12} {word:8} {:5.0} s  {reason}", layer.name(), time.as_secs_f64());
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

fn passed_if(result: Result) -> Outcome {
    match result {
        Ok(()) => Outcome::Passed,
        Err(reason) => Outcome::Failed(reason),
    }
}

fn workspace_tests() -> Result {
    // What is promised of size and memory is promised of the program as it is shipped.
    let agent = dist::static_build(&["qemu-ga"])?.join("qemu-ga");
    let mut command = cargo(&["test", "--workspace", "--exclude", "vm-tests", "--locked", "--no-fail-fast"]);
    process::run(command.env("QEMU_GA", agent).env_remove("QGA_UNDER_TEST"))
}

fn conformance() -> Outcome {
    if !Path::new(C_AGENT).exists() {
        return missing(format!("there is no C agent at {C_AGENT}"));
    }
    let mut command = cargo(&["test", "--package", "qemu-ga", "--test", "conformance", "--locked", "--no-fail-fast"]);
    passed_if(process::run(command.env("QGA_UNDER_TEST", C_AGENT)))
}

fn machines() -> Result {
    let agent = dist::static_build(&["qemu-ga"])?.join("qemu-ga");
    let is_cached = |kernel: &str| target().join("vm-cache").join(kernel).exists();
    if packages::has_dpkg() && !(is_cached("kernel") && is_cached("kernel-full")) {
        // A guest's kernel is about to be downloaded, which needs apt's lists.
        packages::update()?;
    }
    let mut command = cargo(&["test", "--package", "vm-tests", "--locked", "--no-fail-fast"]);
    process::run(command.env("QEMU_GA", agent).env_remove("QGA_UNDER_TEST"))
}

fn fuzz() -> Outcome {
    let nightly = |args: &[&str]| {
        let mut command = program("rustup", ["run", "nightly", "cargo"]);
        // Set by the cargo that started us: for its own toolchain, not for this one.
        for variable in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO_TARGET_DIR"] {
            command.env_remove(variable);
        }
        command.args(args);
        command
    };
    if output(&mut nightly(&["--version"])).is_err() {
        return Outcome::Skipped("cargo-fuzz needs a nightly toolchain: rustup toolchain install nightly".into());
    }
    let tools = target().join("tools");
    if output(&mut program("cargo-fuzz", ["--version"])).is_err() && !tools.join("bin/cargo-fuzz").exists() {
        let mut command = cargo(&["install", "--locked", "--quiet", "cargo-fuzz", "--root"]);
        if let Err(reason) = process::run(command.arg(&tools).env_remove("CARGO_TARGET_DIR")) {
            return missing(reason);
        }
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([tools.join("bin")].into_iter().chain(env::split_paths(&path))).unwrap_or(path);
    passed_if(fuzz_targets().and_then(|targets| {
        process::run(nightly(&["fuzz", "build"]).env("PATH", &path))?;
        for name in targets {
            // New inputs go to a directory that is not under version control; the kept ones are only read.
            let found = target().join("fuzz-corpus").join(&name);
            fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
            let mut command = nightly(&["fuzz", "run", &name]);
            command.arg(&found).env("PATH", &path);
            let kept = workspace().join("fuzz/corpus").join(&name);
            if kept.is_dir() {
                command.arg(kept);
            }
            let limit = format!("-max_total_time={FUZZ_SECONDS}");
            process::run(command.args(["--", &limit, "-print_final_stats=1", "-verbosity=0", "-print_funcs=0"]))?;
        }
        Ok(())
    }))
}

/// The names of the fuzz targets.
fn fuzz_targets() -> Result<Vec<String>> {
    let directory = workspace().join("fuzz/fuzz_targets");
    let entries = fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .collect();
    names.sort();
    if names.is_empty() { Err(format!("no fuzz targets in {}", directory.display())) } else { Ok(names) }
}

/// A layer that cannot run: skipped where a person works, a failure where a machine checks.
fn missing(reason: String) -> Outcome {
    if env::var("CI").is_ok_and(|value| value == "true") { Outcome::Failed(reason) } else { Outcome::Skipped(reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_layer_fails_the_whole_and_a_skipped_one_does_not() {
        let skipped = || (Layer::Fuzz, Outcome::Skipped("no nightly".into()), Duration::ZERO);
        assert_eq!(summarize(&[(Layer::Workspace, Outcome::Passed, Duration::ZERO), skipped()]), Ok(()));
        let failed = (Layer::Machine, Outcome::Failed("why".into()), Duration::ZERO);
        assert_eq!(summarize(&[skipped(), failed]), Err("failed: machine".into()));
    }
}
