//! How to freeze, as the administrator wants it.

use std::path::PathBuf;
use std::time::Duration;

use super::hooks::{Hooks, Limits};
use crate::config::Config;
use crate::platform::linux::mountinfo::{self, FileSystem};

/// The agent's own program, also after a package manager has replaced its file.
const OURSELVES: &str = "/proc/self/exe";

/// How to freeze. No limit where a duration is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The administrator's programs.
    pub hooks: Hooks,
    /// How long file systems may stay frozen.
    pub timeout: Option<Duration>,
    /// How long freezing one file system may take.
    pub limit: Option<Duration>,
    /// What cannot be opened or frozen is passed over.
    pub best_effort: bool,
    /// Types that are not frozen.
    pub exclude_types: Vec<String>,
    /// Patterns of mount points that are not frozen.
    pub exclude_paths: Vec<String>,
    /// The program that becomes the guardian.
    pub guardian: PathBuf,
    /// The state directory.
    pub statedir: PathBuf,
}

impl Settings {
    /// As the agent is configured.
    pub fn of(config: &Config) -> Self {
        let fsfreeze = &config.fsfreeze;
        let seconds = |seconds: u64| Some(Duration::from_secs(seconds)).filter(|limit| !limit.is_zero());
        let always = |limit: u64| seconds(limit).unwrap_or(Duration::from_secs(u64::from(u32::MAX)));
        let limits = Limits { each: always(fsfreeze.hook_limit), all: always(fsfreeze.hooks_limit) };
        Settings {
            hooks: Hooks { program: config.fsfreeze_hook.clone(), dir: fsfreeze.hook_dir.clone(), limits },
            timeout: seconds(fsfreeze.timeout),
            limit: seconds(fsfreeze.limit),
            best_effort: fsfreeze.best_effort,
            exclude_types: fsfreeze.exclude_types.clone(),
            exclude_paths: fsfreeze.exclude_paths.clone(),
            guardian: OURSELVES.into(),
            statedir: config.statedir.clone(),
        }
    }

    /// Whether a file system is to be left alone. Its first mount point is the one that counts: a bind mount that
    /// somebody made later does not take a file system out of the backup.
    pub fn excludes(&self, system: &FileSystem) -> bool {
        let fs_type = system.fs_type().to_string_lossy();
        let point = mountinfo::text(system.point());
        self.exclude_types.iter().any(|excluded| *excluded == fs_type)
            || self.exclude_paths.iter().any(|pattern| matches(pattern.as_bytes(), point.as_bytes()))
    }
}

/// Whether a pattern fits a whole text: `*` stands for any characters, slashes as well, `?` for one.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Where to go on when the last star has to stand for one more.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), text.split_first()) {
            (Some((b'*', rest)), _) => {
                star = Some((rest, text));
                pattern = rest;
            }
            (None, None) => return true,
            (Some((p, p_rest)), Some((t, t_rest))) if *p == b'?' || p == t => (pattern, text) = (p_rest, t_rest),
            _ => match star {
                Some((after, [_, more @ ..])) => {
                    star = Some((after, more));
                    (pattern, text) = (after, more);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::platform::linux::mountinfo::Table;
    use crate::platform::linux::root::Root;

    #[test]
    fn a_pattern_fits_the_whole_mount_point() {
        for (pattern, yes, no) in [
            ("/data", vec!["/data"], vec!["/data/x", "/dat", "", "/"]),
            ("/data/*", vec!["/data/x", "/data/x/y", "/data/"], vec!["/data", "/datax"]),
            ("*/tmp", vec!["/tmp", "/var/tmp"], vec!["/tmp/x", "tmp"]),
            ("/mnt/?", vec!["/mnt/a"], vec!["/mnt/", "/mnt/ab"]),
            ("/a*b*c", vec!["/abc", "/axbxc", "/abbc", "/abcc"], vec!["/ab", "/acb"]),
            ("*", vec!["", "/", "/x"], vec![]),
            ("", vec![""], vec!["/"]),
        ] {
            for text in yes {
                assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
            }
            for text in no {
                assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
            }
        }
    }

    #[test]
    fn the_time_is_ten_minutes_unless_it_is_set_and_zero_is_for_ever() {
        let mut config = Config::default();
        assert_eq!(Settings::of(&config).timeout, Some(Duration::from_secs(600)));
        assert_eq!(Settings::of(&config).limit, Some(Duration::from_secs(60)));
        config.fsfreeze.timeout = 0;
        config.fsfreeze.limit = 0;
        config.fsfreeze.hook_limit = 0;
        let settings = Settings::of(&config);
        assert_eq!((settings.timeout, settings.limit), (None, None));
        assert!(settings.hooks.limits.each > Duration::from_secs(100 * 365 * 86400));
        config.fsfreeze.timeout = 5;
        assert_eq!(Settings::of(&config).timeout, Some(Duration::from_secs(5)));
    }

    #[test]
    fn the_first_mount_point_and_the_type_decide() {
        let table = Table::parse(
            b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:1 / /var/lib/docker/x rw - ext4 /dev/sda1 rw\n\
              3 1 8:2 / /scratch rw - xfs /dev/sda2 rw\n4 1 8:3 / /data rw - fuseblk /dev/sda3 rw\n",
        );
        let systems = table.file_systems(&Root::new(Path::new("/nonexistent")));
        let mut config = Config::default();
        config.fsfreeze.exclude_paths = vec!["/var/lib/docker/*".into(), "/scr*".into()];
        config.fsfreeze.exclude_types = vec!["fuseblk".into()];
        let settings = Settings::of(&config);
        let excluded: Vec<bool> = systems.iter().map(|system| settings.excludes(system)).collect();
        assert_eq!(excluded, [false, true, true]);
    }
}
