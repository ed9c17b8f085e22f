//! How full file systems are, without hanging on one that does not answer (a dead disk, a host that has gone).
//!
//! A thread asks one after the other. When it is stuck it is left behind, a new one goes on behind that file system,
//! and nobody asks it again until the stuck thread has come back: so there is at most one such thread for each.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};

use super::errno::ErrnoText;
use super::fsfreeze;
use super::mountinfo::{Device, Mount, Table};
use super::root::Root;

/// No more threads than this are left behind.
const MAX_STUCK: usize = 16;

/// A stack for a few system calls.
const STACK: usize = 256 << 10;

/// A file system to be asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// Device number of the file system.
    pub device: Device,
    /// The mount table.
    pub table: Arc<Table>,
    /// Its mounts: places in the table.
    pub mounts: Vec<usize>,
}

impl Question {
    /// Its mounts.
    pub fn mounts(&self) -> impl Iterator<Item = &Mount> {
        self.mounts.iter().filter_map(|place| self.table.mounts().get(*place))
    }

    /// Those through which it may be asked, with their places in the table: no other mount covers them. They are looked up one
    /// by one, because it is nearly always the first that answers, and a file system may have thousands of mounts.
    fn reachable(&self) -> impl Iterator<Item = (usize, &Mount)> {
        let mounts = self.mounts.iter().filter_map(|place| Some((*place, self.table.mounts().get(*place)?)));
        mounts.filter(|(_, mount)| self.table.is_reachable(mount))
    }

    /// Where it is mounted, as the first that can be reached of its mounts has it; where none can, the first.
    pub fn point(&self) -> &Path {
        let mount = self.reachable().map(|(_, mount)| mount).next().or(self.mounts().next());
        mount.map_or(Path::new(""), |mount| &mount.point)
    }
}

/// What a file system said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Which mount of the table stands for it: the first that is a directory, else the first that leads there at all.
    pub mount: usize,
    /// How full it is; `None` where it does not tell.
    pub space: Option<Space>,
}

/// Sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What is in use.
    pub used: u64,
    /// What is in use and what an ordinary user may still fill.
    pub total: u64,
    /// All there is.
    pub privileged: u64,
}

/// How long to wait.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For one file system.
    pub one: Duration,
    /// For all of them.
    pub all: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { one: Duration::from_secs(1), all: Duration::from_secs(3) }
    }
}

/// Asks file systems; knows which do not answer. One for the whole agent.
#[derive(Debug, Default)]
pub struct Asker {
    /// Those that a thread is stuck on.
    stuck: Arc<Mutex<HashSet<Device>>>,
    patience: Patience,
}

type Ask = Arc<dyn Fn(&Question) -> Option<Answer> + Send + Sync>;

impl Asker {
    /// Asks each; `None` for one that does not answer in time, or cannot be reached.
    pub fn ask(&self, root: &Root, questions: impl Into<Arc<Vec<Question>>>) -> Vec<Option<Answer>> {
        let root = root.clone();
        self.ask_by(questions, &(Arc::new(move |question: &Question| look(&root, question)) as Ask))
    }

    fn ask_by(&self, questions: impl Into<Arc<Vec<Question>>>, ask: &Ask) -> Vec<Option<Answer>> {
        let end = Instant::now() + self.patience.all;
        let questions = questions.into();
        let mut answers = vec![None; questions.len()];
        let mut next = 0;
        while next < questions.len() && self.stuck().len() < MAX_STUCK && Instant::now() < end {
            let given_up = Arc::new(AtomicBool::new(false));
            let Some(receiver) = self.start(&questions, next, ask, &given_up) else { break };
            loop {
                let wait = self.patience.one.min(end.saturating_duration_since(Instant::now()));
                let told = receiver.recv_timeout(wait).or_else(|error| match error {
                    RecvTimeoutError::Disconnected => Err(error),
                    RecvTimeoutError::Timeout => {
                        // With the lock: the thread has answered by now, or it will find itself given up.
                        let mut stuck = self.stuck();
                        receiver.try_recv().map_err(|_| {
                            given_up.store(true, Ordering::Relaxed);
                            stuck.extend(questions.get(next).map(|question| question.device));
                            error
                        })
                    }
                });
                match told {
                    Ok((at, answer)) => {
                        if let Some(place) = answers.get_mut(at) {
                            *place = answer;
                        }
                        next = at + 1;
                    }
                    Err(RecvTimeoutError::Timeout) => {
                        if let Some(question) = questions.get(next) {
                            log::warn!("the file system at {} does not answer", question.point().display());
                        }
                        next += 1;
                        break;
                    }
                    // It is through, or failed at `next`.
                    Err(RecvTimeoutError::Disconnected) if next >= questions.len() => break,
                    Err(RecvTimeoutError::Disconnected) => {
                        next += 1;
                        break;
                    }
                }
            }
        }
        answers
    }

    /// Starts a thread that asks from `first` on. It ends when nobody waits for it any more.
    fn start(
        &self,
        questions: &Arc<Vec<Question>>,
        first: usize,
        ask: &Ask,
        given_up: &Arc<AtomicBool>,
    ) -> Option<Receiver<Told>> {
        let (sender, receiver) = mpsc::channel();
        let (questions, ask, stuck) = (Arc::clone(questions), Arc::clone(ask), Arc::clone(&self.stuck));
        let given_up = Arc::clone(given_up);
        let work = move || {
            for (at, question) in questions.iter().enumerate().skip(first) {
                let answer = if lock(&stuck).contains(&question.device) { None } else { ask(question) };
                let mut stuck = lock(&stuck);
                if given_up.load(Ordering::Relaxed) {
                    // We were the stuck one, and are no more.
                    stuck.remove(&question.device);
                    break;
                }
                if sender.send((at, answer)).is_err() {
                    break;
                }
            }
        };
        match thread::Builder::new().name("usage".into()).stack_size(STACK).spawn(work) {
            Ok(_) => Some(receiver),
            Err(e) => {
                log::warn!("no thread to ask file systems with: {}", e.errno_text());
                None
            }
        }
    }

    fn stuck(&self) -> MutexGuard<'_, HashSet<Device>> {
        lock(&self.stuck)
    }
}

/// Which question, and the answer.
type Told = (usize, Option<Answer>);

fn lock(stuck: &Mutex<HashSet<Device>>) -> MutexGuard<'_, HashSet<Device>> {
    stuck.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the mounts one after the other, without opening the files themselves, until a directory is found.
fn look(root: &Root, question: &Question) -> Option<Answer> {
    let mut file = None;
    for (place, mount) in question.reachable() {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(fd) = rustix::fs::open(root.path(&mount.point), flags, Mode::empty()) else { continue };
        // Another mount may have come over it since the table was read.
        if fsfreeze::mount_id(root, &fd).is_some_and(|found| found != mount.id) {
            continue;
        }
        let stat = rustix::fs::statx(&fd, c"", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::TYPE);
        let is_directory = match stat {
            Ok(stat) => FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory,
            Err(_) => {
                rustix::fs::fstat(&fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
            }
        };
        if is_directory || file.is_none() {
            let answer = Answer { mount: place, space: space(&fd) };
            if is_directory {
                return Some(answer);
            }
            file = Some(answer);
        }
    }
    file
}

fn space(fd: &rustix::fd::OwnedFd) -> Option<Space> {
    let stat = rustix::fs::fstatvfs(fd).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    let used = stat.f_blocks.saturating_sub(stat.f_bfree);
    Some(Space {
        used: bytes(used),
        total: bytes(used.saturating_add(stat.f_bavail)),
        privileged: bytes(stat.f_blocks),
    })
}

#[cfg(test)]
#[path = "usage/tests.rs"]
mod tests;
