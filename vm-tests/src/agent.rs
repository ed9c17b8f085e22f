//! The agent that goes into the guest: ours, or another one named by `QGA_UNDER_TEST`.

use std::env;
use std::path::{Path, PathBuf};

use crate::process;

const TARGET: &str = "x86_64-unknown-linux-gnu";

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

/// The shared libraries a program needs, the loader among them; none for a static one.
pub fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = process::output(process::command("ldd").arg(program));
    String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
        .map(PathBuf::from)
        .collect()
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
        std::process::Command::new(cargo)
            .args(["build", "--release", "--package", "qemu-ga", "--target", TARGET])
            .current_dir(workspace())
            .env("CARGO_TARGET_DIR", &directory)
            .env("RUSTFLAGS", "-C target-feature=+crt-static"),
    );
    assert!(output.status.success(), "the static agent cannot be built:\n{}", process::text(&output));
    directory.join(TARGET).join("release/qemu-ga")
}
