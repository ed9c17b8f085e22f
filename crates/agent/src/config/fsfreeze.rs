//! Keys and options about freezing that the C agent does not have. An option is called like its key.

use std::path::PathBuf;

use super::lists;

/// How to freeze. Times are in seconds, 0 is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fsfreeze {
    /// How long file systems may stay frozen.
    pub timeout: u64,
    /// How long freezing one file system may take.
    pub limit: u64,
    /// How long one hook may run.
    pub hook_limit: u64,
    /// How long all hooks together may run, with `freeze` or with `thaw`.
    pub hooks_limit: u64,
    /// A directory of hooks.
    pub hook_dir: Option<PathBuf>,
    /// What cannot be opened or frozen is passed over instead of failing the freeze.
    pub best_effort: bool,
    /// Types of file systems that are not frozen.
    pub exclude_types: Vec<String>,
    /// Patterns of mount points that are not frozen.
    pub exclude_paths: Vec<String>,
}

impl Default for Fsfreeze {
    fn default() -> Self {
        Fsfreeze {
            timeout: 600,
            limit: 60,
            hook_limit: 60,
            hooks_limit: 120,
            hook_dir: None,
            best_effort: false,
            exclude_types: Vec::new(),
            exclude_paths: Vec::new(),
        }
    }
}

impl Fsfreeze {
    /// The names of the keys.
    pub const KEYS: [&'static str; 8] = [
        "fsfreeze-timeout",
        "fsfreeze-limit",
        "fsfreeze-hook-limit",
        "fsfreeze-hooks-limit",
        "fsfreeze-hook-dir",
        "fsfreeze-mode",
        "fsfreeze-exclude-types",
        "fsfreeze-exclude-paths",
    ];

    /// Sets what a key names. A list is added to.
    ///
    /// # Errors
    /// What the value should have been: `a number of seconds`.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), &'static str> {
        // More than that is for ever, and would overflow somewhere.
        let seconds = || value.parse().map(|n: u64| n.min(u64::from(u32::MAX))).map_err(|_| "a number of seconds");
        match key {
            "fsfreeze-timeout" => self.timeout = seconds()?,
            "fsfreeze-limit" => self.limit = seconds()?,
            "fsfreeze-hook-limit" => self.hook_limit = seconds()?,
            "fsfreeze-hooks-limit" => self.hooks_limit = seconds()?,
            "fsfreeze-hook-dir" => self.hook_dir = Some(value.into()).filter(|_| !value.is_empty()),
            "fsfreeze-mode" => {
                self.best_effort = match value {
                    "strict" => false,
                    "best-effort" => true,
                    _ => return Err("'strict' or 'best-effort'"),
                }
            }
            "fsfreeze-exclude-types" => lists::extend(&mut self.exclude_types, value),
            "fsfreeze-exclude-paths" => lists::extend(&mut self.exclude_paths, value),
            _ => return Err("a key that is known"),
        }
        Ok(())
    }

    /// The keys that are not as they are by default, with their values.
    pub(super) fn changed(&self) -> Vec<(&'static str, String)> {
        let default = Fsfreeze::default();
        let mode = |best_effort| if best_effort { "best-effort" } else { "strict" }.to_owned();
        let dir = |settings: &Fsfreeze| {
            settings.hook_dir.as_ref().map_or(String::new(), |dir| dir.to_string_lossy().into_owned())
        };
        let all = |settings: &Fsfreeze| {
            [
                settings.timeout.to_string(),
                settings.limit.to_string(),
                settings.hook_limit.to_string(),
                settings.hooks_limit.to_string(),
                dir(settings),
                mode(settings.best_effort),
                settings.exclude_types.join(","),
                settings.exclude_paths.join(","),
            ]
        };
        let pairs = Fsfreeze::KEYS.into_iter().zip(all(self)).zip(all(&default));
        pairs.filter(|((_, value), default)| value != default).map(|(pair, _)| pair).collect()
    }
}
