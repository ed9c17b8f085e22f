//! `cargo xtask check`: format, lints, documentation, and the rules for source files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::{self, Result, cargo, program};
use crate::workspace;

/// Lines a file may have.
const LINES_MAX: usize = 500;

/// Lines a file may have with its tests, and a file of tests alone.
const LINES_WITH_TESTS_MAX: usize = 600;

/// Names that tell nothing about what is inside.
const JUNK_NAMES: [&str; 8] = ["util", "utils", "misc", "common", "helper", "helpers", "stuff", "shared"];

/// Scripts for `/bin/sh`.
const SCRIPTS: [&str; 3] = [
    "packaging/fsfreeze-hook.d/20-mariadb.sh",
    "packaging/fsfreeze-hook.d/20-postgresql.sh",
    "packaging/openrc/qemu-guest-agent",
];

/// Runs all checks, quick ones first.
pub(crate) fn run() -> Result {
    let broken = broken_rules(&workspace());
    if !broken.is_empty() {
        return Err(format!("rules for source files:\n  {}", broken.join("\n  ")));
    }
    for script in SCRIPTS {
        process::run(&mut program("sh", ["-n", script]))?;
    }
    process::run(&mut program("bash", ["-n", ".ci/run"]))?;
    process::run(&mut cargo(&["fmt", "--all", "--check"]))?;
    process::run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    process::run(cargo(&["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Every source file that breaks a rule, with the rule.
fn broken_rules(root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    find_sources(root, &mut files);
    files.sort();
    let mut broken = Vec::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
        match fs::read_to_string(&file) {
            Ok(text) => broken.extend(complaints(&name, &text).into_iter().map(|what| format!("{name}: {what}"))),
            Err(error) => broken.push(format!("{name}: {error}")),
        }
    }
    broken
}

/// What is wrong with one file.
fn complaints(name: &str, text: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let lines = text.lines().count();
    let is_test = name.contains("/tests/") || name.ends_with("/tests.rs");
    let code = if is_test { 0 } else { text.lines().take_while(|line| *line != "#[cfg(test)]").count() };
    if code > LINES_MAX {
        broken.push(format!("{code} lines of code, more than {LINES_MAX}"));
    } else if lines > LINES_WITH_TESTS_MAX {
        broken.push(format!("{lines} lines with tests, more than {LINES_WITH_TESTS_MAX}"));
    }
    let stem = Path::new(name).file_stem().unwrap_or_default().to_string_lossy();
    let parent = Path::new(name).parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    if let Some(junk) = JUNK_NAMES.iter().find(|junk| stem == **junk || parent == **junk) {
        broken.push(format!("the name '{junk}' does not say what is inside"));
    }
    let is_edge = name.contains("/platform/") && (name.ends_with("/ffi.rs") || name.contains("/ffi/"));
    if !is_edge {
        broken.extend(
            text.lines().enumerate().filter(|(_, line)| is_unsafe(line)).map(|(at, _)| {
                format!("line {}: unsafe code belongs into platform/*/ffi.rs or platform/*/ffi/", at + 1)
            }),
        );
    }
    broken
}

/// Whether a line has unsafe code, or permits it.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let word = ["un", "safe"].concat(); // in two parts, so that this file keeps its own rule
    let permits = ["allow", "expect", "warn"].iter().any(|level| code.contains(&format!("{level}({word}_code")));
    let starts = ["fn ", "impl ", "trait ", "extern ", "{"].map(|next| format!("{word} {next}"));
    permits || starts.iter().any(|start| code.contains(start)) && !code.contains('"')
}

/// Collects the sources below a directory, without what is built or hidden.
fn find_sources(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if path.is_dir() && !path.is_symlink() {
            if name != "target" && !name.starts_with('.') {
                find_sources(&path, files);
            }
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_are_found_and_tests_have_more_room() {
        let code = "x\n".repeat(501);
        assert_eq!(complaints("crates/a/src/b.rs", &code), ["501 lines of code, more than 500"]);
        assert!(complaints("crates/a/tests/b.rs", &code).is_empty());
        let mixed = format!("{}#[cfg(test)]\n{}", "x\n".repeat(400), "y\n".repeat(150));
        assert!(complaints("crates/a/src/b.rs", &mixed).is_empty());
        let mixed = format!("{mixed}{}", "y\n".repeat(100));
        assert_eq!(complaints("crates/a/src/b.rs", &mixed), ["651 lines with tests, more than 600"]);
    }

    #[test]
    fn names_that_say_nothing_are_found() {
        assert_eq!(complaints("crates/a/src/utils.rs", "").len(), 1);
        assert_eq!(complaints("crates/a/src/common/mod.rs", "").len(), 1);
        assert!(complaints("crates/a/src/utility_frame.rs", "").is_empty());
    }

    #[test]
    fn code_that_is_not_safe_is_found_outside_the_edge() {
        let code = format!("    {}safe {{ call() }}\n#[allow({}safe_code)]\n// {}safe {{\n", "un", "un", "un");
        let found = complaints("crates/agent/src/x.rs", &code);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(complaints("crates/agent/src/platform/linux/ffi.rs", &code).is_empty());
        assert!(complaints("crates/agent/src/platform/linux/ffi/child.rs", &code).is_empty());
    }

    #[test]
    fn this_workspace_keeps_its_rules() {
        assert_eq!(broken_rules(&workspace()), Vec::<String>::new());
    }
}
