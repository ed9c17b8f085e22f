//! `cargo xtask man`: manual pages and shell completions of `qga`, from its own command line.

use std::fs;
use std::path::Path;

use crate::process::{self, Result, cargo, output, program};
use crate::target;

/// Shells, and what their files of completions are called.
const SHELLS: [(&str, &str); 3] = [("bash", "qga.bash"), ("zsh", "_qga"), ("fish", "qga.fish")];

/// Builds `qga` and writes both into the target directory.
pub(crate) fn run() -> Result {
    process::run(&mut cargo(&["build", "--package", "qga", "--locked"]))?;
    let directory = target().join("man");
    write(&target().join("debug/qga"), &directory)?;
    println!("{}", directory.display());
    Ok(())
}

/// Writes the pages into `man1`, and the completions into `completions`, of a directory.
pub(crate) fn write(qga: &Path, directory: &Path) -> Result {
    let (pages, completions) = (directory.join("man1"), directory.join("completions"));
    for made in [&pages, &completions] {
        fs::create_dir_all(made).map_err(|error| format!("{}: {error}", made.display()))?;
    }
    let qga = qga.to_string_lossy();
    process::run(&mut program(&qga, ["man", &pages.to_string_lossy()]))?;
    for (shell, name) in SHELLS {
        let script = output(&mut program(&qga, ["completion", shell]))?;
        let file = completions.join(name);
        fs::write(&file, script).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}
