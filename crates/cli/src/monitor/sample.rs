//! What one guest says of itself at one moment.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use qga_client::{Client, Deadline, Error, GuestFile};
use qga_proto::Command;
use qga_proto::command::Empty;
use qga_proto::types::core::{GuestInfo, GuestPing};
use qga_proto::types::cpu::GuestGetVcpus;
use qga_proto::types::file::{GuestFileClose, GuestFileOpen, GuestFileRead};
use qga_proto::types::fsfreeze::{FsfreezeStatus, GuestFsfreezeStatus};
use qga_proto::types::memory::{GuestGetMemoryBlockInfo, GuestGetMemoryBlocks};
use qga_proto::types::network::{GuestNetworkGetInterfaces, GuestNetworkInterface};
use qga_proto::types::stats::{
    GuestCpuStats, GuestDiskStatsInfo, GuestGetCpustats, GuestGetDiskstats, GuestGetLoad, GuestLoadAverage,
};
use qga_proto::types::storage::{GuestFilesystemInfo, GuestGetFsinfo};

use super::proc::{self, Memory};
use crate::target::Target;

/// Most bytes that are read of a file under `/proc`.
const FILE_MAX: usize = 64 << 10;

/// What one guest says of itself at one moment. What it does not tell, or must not, is `None`.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// When it was complete.
    pub(crate) at: Instant,
    /// The same, on the clock of this host.
    pub(crate) time: SystemTime,
    /// How long all of it took, connecting included.
    pub(crate) took: Duration,
    /// How long the agent took for a question that costs it nothing.
    pub(crate) latency: Duration,
    /// The version of the agent.
    pub(crate) version: String,
    /// Whether its file systems are frozen; a frozen agent answers next to nothing else.
    pub(crate) is_frozen: Option<bool>,
    pub(crate) load: Option<GuestLoadAverage>,
    pub(crate) cpus: Option<Vec<GuestCpuStats>>,
    /// How many processors are online, and how many there are.
    pub(crate) processors: Option<(usize, usize)>,
    pub(crate) memory: Option<Memory>,
    pub(crate) blocks: Option<Blocks>,
    pub(crate) disks: Option<Vec<GuestDiskStatsInfo>>,
    pub(crate) interfaces: Option<Vec<GuestNetworkInterface>>,
    pub(crate) filesystems: Option<Vec<GuestFilesystemInfo>>,
    /// The commands that the agent has and that failed, each with the reason.
    pub(crate) failures: Vec<(&'static str, String)>,
}

/// The blocks of memory that can be switched on and off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub(crate) online: u64,
    pub(crate) offline: u64,
    /// Bytes in a block.
    pub(crate) size: Option<u64>,
}

/// Takes samples of one guest.
#[derive(Debug)]
pub(crate) struct Probe {
    target: Target,
    limit: Duration,
    reads_files: bool,
    agent: Option<Client>,
}

impl Probe {
    /// For a target, with the time that a sample may take. Files are read only where that is wanted: each time leaves
    /// lines in the log of the guest.
    pub(crate) fn new(target: Target, limit: Duration, reads_files: bool) -> Self {
        Probe { target, limit, reads_files, agent: None }
    }

    /// Asks for everything the agent can tell.
    ///
    /// # Errors
    /// When no agent answers; a single command that fails is one of the sample's failures.
    pub(crate) fn take(&mut self) -> Result<Sample, Error> {
        let deadline = Deadline::after(self.limit);
        let sample = match &mut self.agent {
            Some(agent) => sample(agent, deadline, self.reads_files),
            slot => sample(slot.insert(self.target.connect(self.limit)?), deadline, self.reads_files),
        };
        // What serves one program at a time is left free for others in between.
        if sample.is_err() || !self.target.is_shared() {
            self.agent = None;
        }
        sample
    }
}

fn sample(agent: &mut Client, deadline: Deadline, reads_files: bool) -> Result<Sample, Error> {
    agent.set_timeout(deadline.left());
    let info = agent.call::<GuestInfo>(Empty {})?;
    let start = Instant::now();
    agent.set_timeout(deadline.left());
    agent.call::<GuestPing>(Empty {})?;
    let latency = start.elapsed();
    let enabled = info.supported_commands.into_iter().filter(|command| command.enabled);
    let enabled = enabled.map(|command| command.name.into_owned());
    let mut round = Round { agent, deadline, enabled: enabled.collect(), failures: Vec::new() };

    let is_frozen = round.ask::<GuestFsfreezeStatus>(Empty {})?.map(|status| status == FsfreezeStatus::Frozen);
    let mut load = round.ask::<GuestGetLoad>(Empty {})?;
    if load.is_none() && reads_files {
        load = round.file("/proc/loadavg")?.as_deref().and_then(proc::load);
    }
    let memory = if reads_files { round.file("/proc/meminfo")?.as_deref().and_then(Memory::parse) } else { None };
    let cpus = round.ask::<GuestGetCpustats>(Empty {})?;
    let processors = round.ask::<GuestGetVcpus>(Empty {})?;
    let blocks = match round.ask::<GuestGetMemoryBlocks>(Empty {})? {
        Some(blocks) => {
            let online = blocks.iter().filter(|block| block.online).count();
            let size = round.ask::<GuestGetMemoryBlockInfo>(Empty {})?.map(|info| info.size);
            Some(Blocks { online: online as u64, offline: (blocks.len() - online) as u64, size })
        }
        None => None,
    };
    let disks = round.ask::<GuestGetDiskstats>(Empty {})?;
    let interfaces = round.ask::<GuestNetworkGetInterfaces>(Empty {})?;
    // Last, because a file system that hangs may hold it up.
    let filesystems = round.ask::<GuestGetFsinfo>(Empty {})?;
    Ok(Sample {
        at: Instant::now(),
        time: SystemTime::now(),
        took: deadline.limit() - deadline.left(),
        latency,
        version: info.version,
        is_frozen,
        load,
        cpus,
        processors: processors.map(|all| (all.iter().filter(|processor| processor.online).count(), all.len())),
        memory,
        blocks,
        disks,
        interfaces,
        filesystems,
        failures: round.failures,
    })
}

/// The questions of one sample.
struct Round<'a> {
    agent: &'a mut Client,
    deadline: Deadline,
    enabled: BTreeSet<String>,
    failures: Vec<(&'static str, String)>,
}

impl Round<'_> {
    /// Asks a command that the agent has; `None` when it has not, or when it failed.
    fn ask<C: Command>(&mut self, args: C::Args<'_>) -> Result<Option<C::Ret>, Error> {
        if !self.enabled.contains(C::NAME) {
            return Ok(None);
        }
        if self.deadline.is_over() {
            self.failures.push((C::NAME, "no time was left for it".to_owned()));
            return Ok(None);
        }
        self.agent.set_timeout(self.deadline.left());
        let answer = self.agent.call::<C>(args);
        self.judge(C::NAME, answer)
    }

    /// Reads a small file, if the agent may; what is no text of UTF-8 is taken as far as it is one.
    fn file(&mut self, path: &str) -> Result<Option<String>, Error> {
        let needed = [GuestFileOpen::NAME, GuestFileRead::NAME, GuestFileClose::NAME];
        if self.deadline.is_over() || needed.iter().any(|name| !self.enabled.contains(*name)) {
            return Ok(None);
        }
        self.agent.set_timeout(self.deadline.left());
        let opened = GuestFile::open(self.agent, path, "r");
        let Some(file) = self.judge(GuestFileOpen::NAME, opened)? else { return Ok(None) };
        self.agent.set_timeout(self.deadline.left());
        let read = file.read_to_end(self.agent, FILE_MAX);
        // The agent keeps a file open until it is told, so there is a moment for this in any case.
        self.agent.set_timeout(self.deadline.left().max(Duration::from_millis(200)));
        let closed = file.close(self.agent);
        let bytes = self.judge(GuestFileRead::NAME, read)?;
        self.judge(GuestFileClose::NAME, closed)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Tells what concerns one command from what concerns them all.
    fn judge<T>(&mut self, command: &'static str, answer: Result<T, Error>) -> Result<Option<T>, Error> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(Error::NotFound { .. } | Error::Blocked { .. }) => Ok(None),
            Err(error @ (Error::Failed { .. } | Error::Malformed(_) | Error::TooBig(_) | Error::Timeout { .. })) => {
                self.failures.push((command, error.to_string()));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
