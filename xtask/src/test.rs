//! `cargo xtask test`: installs what is missing and runs every layer of tests.

use std::env;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::process::{self, Result, cargo};
use crate::{fuzz, packages, python, shipped, target};

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

/// All tests that need no machine.
const WORKSPACE: [&str; 6] = ["test", "--workspace", "--exclude", "vm-tests", "--locked", "--no-fail-fast"];

fn workspace_tests() -> Result {
    // What is promised of size and memory is promised of the program as it is shipped. Half of its build is one long
    // step of one thread, and so it goes on while the tests are built.
    let (agent, built) = thread::scope(|scope| {
        let agent = scope.spawn(shipped::agent);
        let built = process::run(cargo(&WORKSPACE).arg("--no-run").env_remove("QGA_UNDER_TEST"));
        (agent.join(), built)
    });
    let agent = agent.map_err(|_| "the build of the agent panicked".to_owned())??;
    built?;
    process::run(cargo(&WORKSPACE).env("QEMU_GA", agent).env_remove("QGA_UNDER_TEST"))
}

fn conformance() -> Outcome {
    if !Path::new(C_AGENT).exists() {
        return missing(format!("there is no C agent at {C_AGENT}"));
    }
    let mut command = cargo(&["test", "--package", "qemu-ga", "--test", "conformance", "--locked", "--no-fail-fast"]);
    passed_if(process::run(command.env("QGA_UNDER_TEST", C_AGENT)))
}

fn machines() -> Result {
    let agent = shipped::agent()?;
    let is_cached = |kernel: &str| target().join("vm-cache").join(kernel).exists();
    if packages::has_dpkg() && !(is_cached("kernel") && is_cached("kernel-full")) {
        // A guest's kernel is about to be downloaded, which needs apt's lists.
        packages::update()?;
    }
    // The host's program comes with the tests that start it: asked for like this, it is the one that the first layer has
    // built, and nothing is built twice with other features.
    process::run(cargo(&WORKSPACE).args(["--no-run", "--test", "command_line"]))?;
    let host = target().join("debug/qga");
    let test = |args: &[&str]| {
        let mut command = cargo(&["test", "--package", "vm-tests", "--locked", "--no-fail-fast"]);
        command.args(args).env("QEMU_GA", &agent).env("QGA", &host).env_remove("QGA_UNDER_TEST");
        command
    };
    process::run(&mut test(&["--no-run"]))?;
    // An emulated machine keeps one processor busy.
    process::run_together(vec![
        ("machine", test(&["--lib", "--test", "machine"])),
        ("others", test(&["--test", "debian", "--test", "hardware", "--test", "libvirt"])),
    ])
}

fn fuzz() -> Outcome {
    if let Some(reason) = fuzz::missing_toolchain() {
        return Outcome::Skipped(reason);
    }
    if let Err(reason) = fuzz::prepare() {
        return missing(reason);
    }
    passed_if(fuzz::targets().and_then(|targets| fuzz::run_each(&targets, FUZZ_SECONDS)))
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
