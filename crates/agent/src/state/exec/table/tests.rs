//! What the tests of the module look at, and the numbers of descriptors.

use super::*;

/// What a table holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(in crate::state::exec) struct Holds {
    pub(in crate::state::exec) results: usize,
    pub(in crate::state::exec) pipes: usize,
    pub(in crate::state::exec) left: usize,
    pub(in crate::state::exec) descriptors: usize,
    pub(in crate::state::exec) kept: usize,
    pub(in crate::state::exec) bytes: usize,
    others: [usize; 6],
}

impl Table {
    pub(in crate::state::exec) fn holds(&self) -> Holds {
        let waiting = [self.unannounced.len(), self.closing.len(), self.starting, self.input];
        let known = [self.pids.len(), self.processes.len()].map(|count| count - self.results.len());
        let [a, b, c, d] = waiting;
        let kept: usize = self.processes.values().map(Process::kept).sum();
        assert_eq!(kept, self.kept);
        let input: usize = self.processes.values().map(|process| process.input.len()).sum();
        assert!(self.starting > 0 || input == self.input, "{input} {}", self.input);
        let streams = self.processes.values().flat_map(|process| [&process.out, &process.err]).flatten();
        Holds {
            results: self.results.len(),
            pipes: self.pipes.len(),
            left: self.left.len(),
            descriptors: self.descriptors,
            kept,
            bytes: streams.map(|stream| stream.bytes.len()).sum(),
            others: [a, b, c, d, known[0], known[1]],
        }
    }

    /// Does what [`Table::insert`] does when program `new` gets the number of an unfetched result, and puts that
    /// result under the number of `new` before.
    pub(in crate::state::exec) fn pretend(&mut self, old: i64, new: i64) {
        let [former, present] = [old, new].map(|pid| self.pids.remove(&pid).unwrap());
        self.processes.get_mut(&former).unwrap().pid = new;
        self.pids.insert(new, former);
        self.own_number(new, present);
    }
}

#[test]
fn every_descriptor_has_a_number_of_its_own() {
    let mut seen = std::collections::BTreeSet::new();
    for serial in [0, 1, 2, 1000, u64::from(u32::MAX)] {
        for role in [Role::Process, Role::Input, Role::Out, Role::Err] {
            let key = Key(serial, role);
            assert_eq!(Key::from_number(key.to_number()), key);
            assert!(seen.insert(key.to_number()));
        }
    }
}
