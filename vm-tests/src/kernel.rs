//! The guest's kernel: one of Debian's, downloaded and unpacked into the cache without being installed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::process;

/// Which of Debian's kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// The one for virtual machines: a third of the size, and no drivers for SATA, USB and cards.
    Cloud,
    /// The one with all drivers.
    Full,
}

impl Flavour {
    /// The package that always depends on the newest one.
    fn package(self) -> &'static str {
        match self {
            Self::Cloud => "linux-image-cloud-amd64",
            Self::Full => "linux-image-amd64",
        }
    }

    /// Its directory in the cache.
    fn directory(self) -> &'static str {
        match self {
            Self::Cloud => "kernel",
            Self::Full => "kernel-full",
        }
    }
}

/// A kernel and its modules.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The bootable image.
    pub image: PathBuf,
    /// The release, as `uname -r` says.
    pub release: String,
    /// The directory `lib/modules/RELEASE`.
    pub modules: PathBuf,
}

impl Kernel {
    /// The kernel in `cache`, fetched with apt-get when it is not there yet.
    ///
    /// # Panics
    /// With the reason, when it cannot be fetched.
    pub fn find_or_fetch(cache: &Path, flavour: Flavour) -> Self {
        let root = cache.join(flavour.directory());
        if let Some(kernel) = Self::find(&root) {
            return kernel;
        }
        fetch(cache, &root, flavour);
        Self::find(&root).unwrap_or_else(|| panic!("no kernel in the package unpacked to {}", root.display()))
    }

    fn find(root: &Path) -> Option<Self> {
        for entry in fs::read_dir(root.join("boot")).ok()? {
            let image = entry.ok()?.path();
            let Some(release) = image.file_name()?.to_str()?.strip_prefix("vmlinuz-").map(str::to_owned) else {
                continue;
            };
            // Newer packages have them under usr/lib.
            let modules = ["lib/modules", "usr/lib/modules"]
                .map(|directory| root.join(directory).join(&release))
                .into_iter()
                .find(|directory| directory.join("kernel").is_dir())?;
            return Some(Self { image, release, modules });
        }
        None
    }

    /// The files of these modules and of all they need, relative to [`Kernel::modules`]. Built-in ones have none.
    ///
    /// # Panics
    /// When a name is neither a module nor built in.
    pub fn module_files(&self, names: &[&str]) -> BTreeSet<String> {
        let read = |name: &str| {
            let path = self.modules.join(name);
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let (dependencies, built_in) = (read("modules.dep"), read("modules.builtin"));
        let is = |path: &str, name: &str| {
            let file = path.rsplit('/').next().unwrap_or(path);
            file.split(".ko").next().is_some_and(|stem| stem.replace('-', "_") == name)
        };
        let mut files = BTreeSet::new();
        for name in names {
            let line = dependencies.lines().find(|line| line.split_once(':').is_some_and(|(path, _)| is(path, name)));
            match line {
                Some(line) => files.extend(line.split([':', ' ']).filter(|path| !path.is_empty()).map(str::to_owned)),
                None if built_in.lines().any(|path| is(path, name)) => (),
                None => panic!("the kernel {} has no module {name}", self.release),
            }
        }
        files
    }
}

/// Downloads the newest kernel package and unpacks it to `root`, in one step that is either done or not.
fn fetch(cache: &Path, root: &Path, flavour: Flavour) {
    let meta = flavour.package();
    let package = process::run("apt-cache", &["depends", meta])
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: ").map(str::to_owned))
        .unwrap_or_else(|| panic!("apt knows no {meta}: run apt-get update"));
    let work = cache.join(format!("{}.{}", flavour.directory(), std::process::id()));
    fs::create_dir_all(&work).unwrap_or_else(|error| panic!("{}: {error}", work.display()));
    eprintln!("downloading {package} for the guest");
    let output = process::output(process::command("apt-get").args(["download", &package]).current_dir(&work));
    assert!(
        output.status.success(),
        "the guest's kernel {package} cannot be downloaded (apt-get update may help): {}",
        process::text(&output)
    );
    let archive = fs::read_dir(&work)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .unwrap_or_else(|| panic!("apt-get download left no package in {}", work.display()));
    let tree = work.join("tree");
    process::run("dpkg-deb", &[Path::new("-x"), &archive, &tree]);
    let kernel = Kernel::find(&tree).unwrap_or_else(|| panic!("no kernel in {}", archive.display()));
    let base = kernel.modules.ancestors().nth(3).unwrap_or(&tree);
    process::run("depmod", &[Path::new("-b"), base, Path::new(&kernel.release)]);
    if fs::rename(&tree, root).is_err() {
        // Somebody else was faster, or an older attempt is in the way.
        assert!(Kernel::find(root).is_some(), "{} cannot be put in place", root.display());
    }
    // Only the unpacked tree is needed from here on.
    let _ = fs::remove_dir_all(&work);
}
