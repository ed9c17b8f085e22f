//! Clients of agents that are written in Python, for the tests: installed from the package index into an environment
//! of their own below the target directory, once for each list of them.

use std::fs;
use std::path::Path;

use crate::process::{Result, program, run};
use crate::{target, workspace};

/// The system's interpreter: libvirt's bindings come with it, from a Debian package.
const SYSTEM: &str = "/usr/bin/python3";

/// The index has Ansible's collections only all together, and one of them is needed.
const COLLECTIONS: &str = "ansible==11.13.0";

/// Makes the environment unless it is there.
///
/// # Errors
/// What failed: most likely the package index cannot be reached.
pub(crate) fn prepare() -> Result {
    let directory = target().join("python");
    let sources = workspace().join("crates/testkit/python");
    let list = sources.join("requirements.txt");
    let wanted = fs::read_to_string(&list).map_err(|error| format!("{}: {error}", list.display()))? + COLLECTIONS;
    let done = directory.join("installed");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    // Of another list, or not finished.
    let _ = fs::remove_dir_all(&directory);
    let result = install(&directory, &sources);
    if result.is_err() {
        // Half of it would be taken for the whole.
        let _ = fs::remove_dir_all(&directory);
    }
    result?;
    fs::write(&done, wanted).map_err(|error| format!("{}: {error}", done.display()))
}

fn install(directory: &Path, sources: &Path) -> Result {
    run(program(SYSTEM, ["-m", "venv", "--system-site-packages"]).arg(directory))?;
    let python = directory.join("bin/python3");
    let pip = |arguments: &[&str]| {
        let mut command = program(&python.to_string_lossy(), ["-m", "pip", "--quiet", "--retries=2"]);
        command.args(arguments);
        command
    };
    run(pip(&["install", "--no-compile", "--requirement"]).arg(sources.join("requirements.txt")))?;
    let download = directory.join("download");
    run(pip(&["download", "--no-deps", COLLECTIONS, "--dest"]).arg(&download))?;
    let unpack = [&sources.join("unpack.py"), &download, &directory.join("collections")];
    run(&mut program(&python.to_string_lossy(), unpack))?;
    fs::remove_dir_all(&download).map_err(|error| format!("{}: {error}", download.display()))
}
