//! A Rust of Debian's that comes with the sources of the standard library, and musl: downloaded and unpacked below the
//! target directory, once, without being installed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::{Result, output, program, run};
use crate::{packages, target};

/// Compiler, its sources, musl, and an unwinder that does not ask for glibc.
const PACKAGES: &[&str] = &["rustc-web", "rust-web-src", "musl-dev", UNWINDER];
const UNWINDER: &str = "libunwind-14-dev";

/// Beginnings of the names of packages that those need and that others do not have.
const WITH_THEM: &[&str] = &["libstd-rust-web", "libllvm", "libz3"];

/// Where it is.
pub(crate) struct DebianRust {
    /// The compiler.
    pub(crate) rustc: PathBuf,
    /// Directory of the libraries that the compiler itself needs.
    pub(crate) own_libraries: PathBuf,
    /// Directories of what goes into a static program.
    pub(crate) libraries: Vec<PathBuf>,
}

/// Downloads it unless it is there.
///
/// # Errors
/// Why it cannot be had.
pub(crate) fn prepare(musl: &str) -> Result<DebianRust> {
    let tree = target().join("debian-rust");
    if !tree.is_dir() {
        fetch(&tree)?;
    }
    let machine = musl.split('-').next().unwrap_or_default();
    let usr = tree.join("usr");
    let unwinder = fs::read_dir(usr.join("lib")).into_iter().flatten().flatten().map(|entry| entry.path().join("lib"));
    let unwinder = unwinder.filter(|directory| directory.join("libunwind.a").exists());
    let compilers = output(&mut program("cc", ["-print-file-name=crtbeginS.o"]))?;
    let mut libraries = vec![usr.join(format!("lib/{machine}-linux-musl"))];
    libraries.extend(Path::new(compilers.trim()).parent().map(Path::to_owned));
    libraries.extend(unwinder);
    Ok(DebianRust {
        rustc: usr.join("bin/rustc"),
        own_libraries: usr.join(format!("lib/{machine}-linux-gnu")),
        libraries,
    })
}

fn fetch(tree: &Path) -> Result {
    if !packages::has_dpkg() {
        return Err("this is no Debian system, which would have the sources of the standard library".into());
    }
    let names = match names() {
        Ok(names) => names,
        Err(_) => {
            // A fresh container has no lists.
            packages::update()?;
            names()?
        }
    };
    let work = tree.with_extension(std::process::id().to_string());
    let io = |error: std::io::Error| format!("{}: {error}", work.display());
    fs::create_dir_all(&work).map_err(io)?;
    let result = download(&names, &work).and_then(|()| {
        let whole = work.join("tree");
        fs::rename(&whole, tree).map_err(io)
    });
    let _ = fs::remove_dir_all(&work);
    result
}

/// Everything that is to be downloaded.
fn names() -> Result<Vec<String>> {
    let mut ask = vec!["depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks"];
    ask.extend(["--no-replaces", "--no-enhances"]);
    ask.extend(PACKAGES);
    let tree = output(&mut program("apt-cache", ask))?;
    let is_wanted = |name: &&str| PACKAGES.contains(name) || WITH_THEM.iter().any(|begin| name.starts_with(begin));
    let mut names: Vec<String> = tree.lines().filter(is_wanted).map(str::to_owned).collect();
    names.sort_unstable();
    names.dedup();
    match PACKAGES.iter().find(|wanted| !names.iter().any(|name| name == *wanted)) {
        Some(missing) => Err(format!("apt knows no {missing}")),
        None => Ok(names),
    }
}

fn download(names: &[String], work: &Path) -> Result {
    let retries = ["download", "-q", "-o", "Acquire::Retries=3"];
    run(program("apt-get", retries).args(names).current_dir(work))?;
    let tree = work.join("tree");
    fs::create_dir_all(&tree).map_err(|error| format!("{}: {error}", tree.display()))?;
    for entry in fs::read_dir(work).map_err(|error| format!("{}: {error}", work.display()))?.flatten() {
        let archive = entry.path();
        if archive.extension().is_none_or(|extension| extension != "deb") {
            continue;
        }
        // Of the sources, which are many, only what is needed.
        let is_sources = entry.file_name().to_string_lossy().starts_with("rust-web-src");
        let only = if is_sources { "--wildcards './usr/lib/rustlib/*' './usr/src/*/library/*'" } else { "" };
        let script = format!("dpkg-deb --fsys-tarfile \"$1\" | tar -C \"$2\" -x {only}");
        run(program("sh", ["-ec", &script, "unpack"]).arg(&archive).arg(&tree))?;
    }
    Ok(())
}
