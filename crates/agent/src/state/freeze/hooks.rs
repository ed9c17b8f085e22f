//! The administrator's programs that are run around a freeze: one, and those of a directory.
//!
//! Before the freeze they are run with `freeze`, the one first and then the directory's in the order of their names;
//! after the thaw with `thaw`, the other way round. Each one that was run with `freeze` is run with `thaw`, whatever
//! became of it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use qga_proto::Error;
use qga_proto::error::Result;

use crate::platform::linux::child;
use crate::platform::linux::errno::ErrnoText;

/// What every hook has to thaw in, however long those before it took.
const LEAST: Duration = Duration::from_secs(5);

/// Endings of names that package managers and editors leave behind.
const LEFTOVERS: [&str; 16] = [
    "~",
    ".rpmsave",
    ".rpmnew",
    ".rpmorig",
    ".dpkg-old",
    ".dpkg-new",
    ".dpkg-dist",
    ".dpkg-bak",
    ".dpkg-tmp",
    ".dpkg-remove",
    ".dpkg-backup",
    ".ucf-old",
    ".ucf-new",
    ".ucf-dist",
    ".pacnew",
    ".pacsave",
];
/// More of them, from people.
const REMAINS: [&str; 7] = [".bak", ".orig", ".rej", ".swp", ".tmp", ".disabled", ".sample"];

/// What a hook is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookPhase {
    /// File systems are about to be frozen.
    Freeze,
    /// They are thawed, or were not frozen after all.
    Thaw,
}

impl HookPhase {
    fn name(self) -> &'static str {
        match self {
            HookPhase::Freeze => "freeze",
            HookPhase::Thaw => "thaw",
        }
    }
}

/// How long hooks may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One of them.
    pub each: Duration,
    /// All of them together, in one phase.
    pub all: Duration,
}

/// Where hooks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// One that has to be there.
    pub program: Option<PathBuf>,
    /// A directory with more.
    pub dir: Option<PathBuf>,
    /// How long they may run.
    pub limits: Limits,
}

impl Hooks {
    /// All of them, in the order of `freeze`. What in the directory is none is said in the log.
    pub fn list(&self) -> Vec<PathBuf> {
        let mut list: Vec<PathBuf> = self.program.iter().cloned().collect();
        let Some(dir) = &self.dir else { return list };
        match trusted(dir) {
            Ok(()) => {}
            Err(why) => {
                log::warn!("hooks in {} are not run: {why}", dir.display());
                return list;
            }
        }
        let mut names: Vec<PathBuf> = match std::fs::read_dir(dir) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(e) => {
                log::warn!("hooks in {} are not run: {}", dir.display(), e.errno_text());
                return list;
            }
        };
        names.sort();
        for path in names {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if name.starts_with('.') || LEFTOVERS.iter().chain(&REMAINS).any(|end| name.ends_with(end)) {
                continue;
            }
            match runnable(&path) {
                Ok(()) => list.push(path),
                Err(why) => log::warn!("the hook {} is not run: {why}", path.display()),
            }
        }
        list
    }

    /// Runs all with `freeze`. Each is given to `begin` before, which may say that it must not run, and what it wrote
    /// to `said` after. One that runs when `give_up` says so is killed.
    ///
    /// # Errors
    /// The first one's failure, or that the time for all is over; the rest are not run.
    pub fn freeze(
        &self,
        mut begin: impl FnMut(&Path) -> Result<()>,
        mut said: impl FnMut(String),
        give_up: &dyn Fn() -> bool,
    ) -> Result<()> {
        let since = Instant::now();
        let hooks = self.list();
        for hook in &hooks {
            let left = self.limits.all.saturating_sub(since.elapsed());
            if left.is_zero() {
                return Err(Error::generic(format!(
                    "the fsfreeze hooks took longer than {} seconds; '{}' was not run",
                    self.limits.all.as_secs_f64(),
                    hook.display()
                )));
            }
            begin(hook)?;
            let action = action(hook, hooks.len() == 1);
            said(run(hook, HookPhase::Freeze, self.limits.each.min(left), &action, give_up)?);
        }
        Ok(())
    }
}

/// Runs hooks with `thaw`, the last one first, all of them whatever happens. `done` hears of each that has ended.
///
/// # Errors
/// What failed, joined by `; `.
pub fn thaw(hooks: &[PathBuf], limits: Limits, mut done: impl FnMut(&Path)) -> Result<()> {
    let since = Instant::now();
    let mut failed = Vec::new();
    for hook in hooks.iter().rev() {
        let left = limits.all.saturating_sub(since.elapsed()).max(LEAST);
        match run(hook, HookPhase::Thaw, limits.each.min(left), &action(hook, hooks.len() == 1), &|| false) {
            Ok(said) => tell(&said),
            Err(e) => failed.push(e.desc.into_owned()),
        }
        done(hook);
    }
    if failed.is_empty() { Ok(()) } else { Err(Error::generic(failed.join("; "))) }
}

/// Logs what a hook wrote.
pub fn tell(said: &str) {
    if !said.is_empty() {
        log::info!(target: "audit", "{said}");
    }
}

/// The one hook has the C agent's words; of several it is said which.
fn action(hook: &Path, only: bool) -> String {
    match hook.file_name() {
        Some(name) if !only => format!("execute fsfreeze hook {}", name.to_string_lossy()),
        _ => "execute fsfreeze hook".to_owned(),
    }
}

fn run(program: &Path, phase: HookPhase, limit: Duration, action: &str, give_up: &dyn Fn() -> bool) -> Result<String> {
    let phase = phase.name();
    // "executing fsfreeze hook with arg 'freeze'", as the C agent has it.
    log::info!(target: "audit", "{} with arg '{phase}'", action.replacen("execute", "executing", 1));
    let command = child::Command { program, args: &[phase.as_ref()], input: None, deadline: limit, action };
    let outcome = command.outcome_unless(give_up)?;
    outcome.check(action)?;
    let said = outcome.text();
    Ok(match said.trim_end() {
        "" => String::new(),
        said => format!("fsfreeze hook {} said at {phase}: {said}", program.display()),
    })
}

/// Whether nobody but root (and we ourselves) can change what is there.
fn trusted(path: &Path) -> std::result::Result<(), String> {
    let meta = std::fs::metadata(path).map_err(|e| e.errno_text())?;
    if meta.uid() != 0 && meta.uid() != rustix::process::geteuid().as_raw() {
        return Err("it does not belong to root".into());
    }
    if meta.mode() & 0o022 != 0 {
        return Err("others can write to it".into());
    }
    Ok(())
}

fn runnable(path: &Path) -> std::result::Result<(), String> {
    let meta = std::fs::metadata(path).map_err(|e| e.errno_text())?;
    if !meta.is_file() {
        return Err("it is no file".into());
    }
    trusted(path)?;
    if meta.mode() & 0o111 == 0 {
        return Err("it is not executable".into());
    }
    Ok(())
}

#[cfg(test)]
#[path = "hooks/tests.rs"]
mod tests;
