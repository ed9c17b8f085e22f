//! Who runs where: the agents on the first processor, the one who measures on the last.

use std::num::NonZeroU64;
use std::process::{Child, Command};
use std::sync::OnceLock;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity, set_current_timer_slack};

/// The agents' and the observer's, of those there are for this program. They are the same where there is only one.
fn processors() -> &'static [CpuSet; 2] {
    static PROCESSORS: OnceLock<[CpuSet; 2]> = OnceLock::new();
    PROCESSORS.get_or_init(|| {
        let all = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        let mut there = (0..CpuSet::MAX_CPU).filter(|&processor| all.is_set(processor));
        let first = there.next().unwrap_or_default();
        [first, there.next_back().unwrap_or(first)].map(|processor| {
            let mut set = CpuSet::new();
            set.set(processor);
            set
        })
    })
}

/// Binds the one who measures, and has it sleep no longer than it asks for: the kernel adds 50 us otherwise.
pub(super) fn bind_observer() {
    let _ = set_current_timer_slack(NonZeroU64::new(1));
    let [_, observer] = processors();
    let _ = sched_setaffinity(None, observer);
}

/// Starts a program on the agents' processor: it inherits it, so that no other program has to start it there, whose own
/// start would count as the agent's.
pub(super) fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let [agents, observer] = processors();
    sched_setaffinity(None, agents)?;
    let child = command.spawn();
    sched_setaffinity(None, observer)?;
    child
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;
    use crate::bench::proc::field;

    fn allowed(set: &CpuSet) -> Vec<usize> {
        (0..CpuSet::MAX_CPU).filter(|&processor| set.is_set(processor)).collect()
    }

    #[test]
    fn a_program_starts_on_the_agents_processor_and_who_started_it_stays_on_its_own() {
        let [agents, observer] = processors();
        let mut command = Command::new("grep");
        command.args(["^Cpus_allowed_list:", "/proc/self/status"]).stdout(Stdio::piped());
        let output = spawn(&mut command).unwrap().wait_with_output().unwrap();
        let line = String::from_utf8(output.stdout).unwrap();
        let list = field(&line, "Cpus_allowed_list").unwrap();
        assert_eq!(list.parse(), Ok(allowed(agents)[0]), "{line}");
        assert_eq!(allowed(&sched_getaffinity(None).unwrap()), allowed(observer));
        assert_eq!((allowed(agents).len(), allowed(observer).len()), (1, 1));
    }
}
