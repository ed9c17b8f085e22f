//! The agent that goes into the guest: ours, or another one named by `QGA_UNDER_TEST`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The loader of shared libraries, in the root of a system.
const LOADER: &str = "lib64/ld-linux-x86-64.so.2";

/// The directory of shared libraries below `lib` and `usr/lib`.
const LIBRARIES: &str = "x86_64-linux-gnu";

/// An agent binary of the host.
#[derive(Clone, Debug)]
pub struct Agent {
    /// The program.
    pub path: PathBuf,
    /// Whether it is the C agent, which finds its port only through udev's link and asks `/sbin/shutdown`.
    pub is_c: bool,
}

impl Agent {
    /// `QGA_UNDER_TEST` when set (the C agent, or any other), else the static build of ours named by `QEMU_GA`, else one
    /// that is built now.
    ///
    /// # Panics
    /// When the named file is missing or the build fails.
    pub fn under_test() -> Self {
        let named = |variable: &str| env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
        let path = named("QGA_UNDER_TEST").or_else(|| named("QEMU_GA")).unwrap_or_else(build);
        assert!(path.is_file(), "there is no agent at {}", path.display());
        let is_c = libraries(&path).iter().any(|library| library.to_string_lossy().contains("libglib"));
        Self { path, is_c }
    }
}

/// The shared libraries a program needs, the loader among them; none for a static one. A program in the tree of another
/// system, as `DIR/usr/sbin/qemu-ga`, needs those of that tree.
pub fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = match tree(program) {
        None => process::output(process::command("ldd").arg(program)),
        Some(tree) => {
            let paths = ["lib", "usr/lib"].map(|path| tree.join(path).join(LIBRARIES).display().to_string());
            let mut loader = Command::new(tree.join(LOADER));
            process::output(loader.args(["--library-path", &paths.join(":"), "--list"]).arg(program))
        }
    };
    let tree = tree(program).unwrap_or_else(|| "/".into());
    String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
        .map(PathBuf::from)
        .filter(|library| library.starts_with(&tree))
        .collect()
}

/// Where a library goes in the guest. One of the program's own tree takes the place of the host's.
pub(crate) fn place(program: &Path, library: &Path) -> PathBuf {
    match tree(program).and_then(|tree| library.strip_prefix(tree).ok().map(Path::to_owned)) {
        // What is found below /usr/lib there is below /lib here.
        Some(path) => path.strip_prefix("usr").unwrap_or(&path).to_owned(),
        None => library.strip_prefix("/").unwrap_or(library).to_owned(),
    }
}

/// The tree of another system that a program is in, if it is in one.
fn tree(program: &Path) -> Option<PathBuf> {
    let mut directories = program.ancestors().skip(1);
    let is_tree = |directory: &&Path| {
        directory.parent().is_some() && !directory.ends_with("usr") && directory.join(LOADER).exists()
    };
    directories.find(is_tree).map(Path::to_owned)
}

/// The cargo target directory: for the static build, and for what is fetched once and kept.
pub fn target_directory() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => PathBuf::from(directory),
        None => workspace().join("target"),
    }
}

pub(crate) fn workspace() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}

/// Builds our agent as it is shipped: one static file.
fn build() -> PathBuf {
    let directory = target_directory().join("static");
    eprintln!("building the static agent in {}", directory.display());
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = process::output(
        Command::new(cargo)
            .args(["build", "--release", "--package", "qemu-ga", "--target", TARGET])
            .current_dir(workspace())
            .env("CARGO_TARGET_DIR", &directory)
            .env("RUSTFLAGS", "-C target-feature=+crt-static"),
    );
    assert!(output.status.success(), "the static agent cannot be built:\n{}", process::text(&output));
    directory.join(TARGET).join("release/qemu-ga")
}
