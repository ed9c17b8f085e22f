//! `cargo xtask dist`: the static programs and what a distribution needs, packed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::{self, Result, cargo, output, program};
use crate::{man, shipped, target, workspace};

/// Builds programs, linked statically with the C library of the host, and returns the directory they are in.
pub(crate) fn static_build(packages: &[&str]) -> Result<PathBuf> {
    let triple = host_triple()?;
    let directory = target().join("static");
    // Naming the target keeps the flags away from build scripts and macros, which cannot be static.
    let mut command = cargo(&["build", "--release", "--target", &triple, "--target-dir"]);
    command.arg(&directory).env("RUSTFLAGS", "-C target-feature=+crt-static");
    for package in packages {
        command.args(["--package", package]);
    }
    process::run(&mut command)?;
    Ok(directory.join(triple).join("release"))
}

/// Makes the archive.
pub(crate) fn run() -> Result {
    let programs = [("qemu-ga", shipped::agent()?), ("qga", static_build(&["qga"])?.join("qga"))];
    let machine = host_triple()?.split('-').next().unwrap_or("unknown").to_owned();
    let name = format!("qemu-ga-{}-{machine}-linux", env!("CARGO_PKG_VERSION"));
    let dist = target().join("dist");
    let tree = dist.join(&name);
    let _ = fs::remove_dir_all(&tree); // left from the last time, or not there
    let io = |error: std::io::Error| format!("{}: {error}", tree.display());

    fs::create_dir_all(&tree).map_err(io)?;
    for (name, file) in &programs {
        fs::copy(file, tree.join(name)).map_err(io)?;
    }
    for file in ["README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        fs::copy(workspace().join(file), tree.join(file)).map_err(|error| format!("{file}: {error}"))?;
    }
    copy_tree(&workspace().join("packaging"), &tree.join("packaging")).map_err(io)?;

    man::write(&tree.join("qga"), &tree.join("man"))?;

    let archive = format!("{name}.tar.gz");
    // Sorted, owned by nobody in particular, of no particular time: the same input gives the same archive.
    let fixed = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "--mode=u+w,go-w"];
    let script = format!(
        "tar {} -cf - {name} | gzip -9n > {archive} && sha256sum {archive} > {archive}.sha256",
        fixed.join(" ")
    );
    process::run(program("sh", ["-ec", &script]).current_dir(&dist))?;
    let sum = fs::read_to_string(dist.join(format!("{archive}.sha256"))).map_err(io)?;

    println!();
    for file in ["qemu-ga", "qga"] {
        println!("{:>9} bytes  {file}, static", size(&tree.join(file)));
    }
    println!("{:>9} bytes  {}", size(&dist.join(&archive)), dist.join(&archive).display());
    println!("   sha256  {}", sum.split_whitespace().next().unwrap_or_default());
    Ok(())
}

fn size(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |metadata| metadata.len())
}

/// Copies a directory of files and directories.
fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The kind of machine this is, in cargo's words.
pub(crate) fn host_triple() -> Result<String> {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let text = output(&mut program(&rustc, ["-vV"]))?;
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).ok_or_else(|| "rustc does not say what machine this is".to_owned())
}
