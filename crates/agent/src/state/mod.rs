//! What the agent knows between two requests, each part behind its own lock. No lock is held across a call that
//! may block, but for a file handle's own.

pub mod exec;
pub mod files;
pub mod freeze;
pub mod policy;
pub mod trimming;

use std::sync::Arc;

use crate::config::Config;
use crate::persist::Persist;
use crate::platform::linux::root::Root;
use crate::platform::linux::usage;

/// Everything the handlers share.
#[derive(Debug)]
pub struct State {
    /// The effective configuration.
    pub config: Config,
    /// Where the system's files are.
    pub root: Root,
    /// Programs that the host has started.
    pub exec: exec::Exec,
    /// Open file handles.
    pub files: files::FileTable,
    /// What is frozen.
    pub freeze: Arc<freeze::Freeze>,
    /// What freezing does to this machine.
    pub system: Arc<freeze::System>,
    /// Which commands may be called.
    pub policy: policy::Policy,
    /// Which file systems do not answer.
    pub usage: usage::Asker,
    /// Who is trimming.
    pub trimming: trimming::Trimming,
    /// What outlives the process.
    pub persist: Persist,
}

#[cfg(test)]
impl State {
    /// An agent whose state directory is `dir`.
    pub(crate) fn for_tests(dir: &std::path::Path) -> Self {
        let root = Root::default();
        let config = Config::default();
        let persist = Persist::new(dir, &root).unwrap();
        State {
            system: Arc::new(freeze::System::new(root.clone(), freeze::Settings::of(&config), persist.frozen.clone())),
            config,
            exec: exec::Exec::default(),
            files: files::FileTable::default(),
            freeze: Arc::default(),
            policy: policy::Policy::default(),
            usage: usage::Asker::default(),
            trimming: trimming::Trimming::default(),
            persist,
            root,
        }
    }
}
