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
use crate::platform::linux::netlink;
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
    /// The interfaces, where there are many.
    pub interfaces: netlink::known::Known,
    /// Who is trimming.
    pub trimming: trimming::Trimming,
    /// What outlives the process.
    pub persist: Persist,
}

impl State {
    /// An agent that has done nothing yet: no file is open, no program started, nothing frozen.
    pub fn new(config: Config, root: Root, persist: Persist) -> Self {
        let settings = freeze::Settings::of(&config);
        let system = freeze::System::new(root.clone(), settings, persist.frozen.clone());
        State::with_freeze(config, root, persist, Arc::default(), Arc::new(system))
    }

    /// The same, where the one before it may have left file systems frozen, and `freeze` knows of that.
    pub fn with_freeze(
        config: Config,
        root: Root,
        persist: Persist,
        freeze: Arc<freeze::Freeze>,
        system: Arc<freeze::System>,
    ) -> Self {
        let policy = policy::Policy::new(&config.block_rpcs, &config.allow_rpcs);
        State {
            config,
            root,
            exec: exec::Exec::default(),
            files: files::FileTable::default(),
            freeze,
            system,
            policy,
            usage: usage::Asker::default(),
            interfaces: netlink::known::Known::default(),
            trimming: trimming::Trimming::default(),
            persist,
        }
    }

    /// An agent whose state directory is `dir`.
    #[cfg(test)]
    pub(crate) fn for_tests(dir: &std::path::Path) -> Self {
        let root = Root::default();
        let persist = Persist::new(dir, &root).unwrap();
        State::new(Config::default(), root, persist)
    }
}
