//! Which commands may be called: the allow list, the block list, and the frozen state that overrides both.

use std::collections::HashSet;

use crate::commands::Entry;

/// The lists of the configuration.
#[derive(Debug, Default)]
pub struct Policy {
    blocked: HashSet<String>,
    /// `None` when there is no allow list: then everything is allowed that is not blocked.
    allowed: Option<HashSet<String>>,
}

impl Policy {
    /// A policy from the two lists. An empty allow list is the same as none; one that holds nothing but empty names
    /// (`,`) is a slip of the pen that must not open everything, and allows nothing.
    pub fn new(block: &[String], allow: &[String]) -> Self {
        let set = |names: &[String]| names.iter().cloned().collect::<HashSet<_>>();
        Policy { blocked: set(block), allowed: (!allow.is_empty()).then(|| set(allow)) }
    }

    /// Whether the command may be called now. While file systems are frozen the lists do not count: thaw must
    /// work even where it is blocked, and nothing else may touch a disk.
    pub fn permits(&self, entry: &Entry, frozen: bool) -> bool {
        if frozen {
            return entry.while_frozen;
        }
        !self.blocked.contains(entry.name) && self.allowed.as_ref().is_none_or(|allowed| allowed.contains(entry.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{COMMANDS, find};

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_block_list_wins_over_the_allow_list() {
        let policy = Policy::new(&names(&["guest-ping"]), &names(&["guest-ping", "guest-info"]));
        assert!(!policy.permits(find("guest-ping").unwrap(), false));
        assert!(policy.permits(find("guest-info").unwrap(), false));
        assert!(!policy.permits(find("guest-file-open").unwrap(), false));
    }

    #[test]
    fn empty_lists_allow_everything() {
        let policy = Policy::new(&[], &[]);
        assert!(COMMANDS.iter().all(|entry| policy.permits(entry, false)));
        let policy = Policy::new(&names(&[""]), &[]);
        assert!(COMMANDS.iter().all(|entry| policy.permits(entry, false)));
    }

    #[test]
    fn an_allow_list_without_a_name_allows_nothing() {
        for list in [&[""][..], &["", ""]] {
            let policy = Policy::new(&[], &names(list));
            assert!(!COMMANDS.iter().any(|entry| policy.permits(entry, false)), "{list:?}");
        }
    }

    #[test]
    fn the_frozen_state_overrides_both_lists_in_both_directions() {
        let policy = Policy::new(&names(&["guest-fsfreeze-thaw"]), &names(&["guest-file-open"]));
        assert!(policy.permits(find("guest-fsfreeze-thaw").unwrap(), true));
        assert!(!policy.permits(find("guest-file-open").unwrap(), true));
        let while_frozen: Vec<_> =
            COMMANDS.iter().filter(|entry| policy.permits(entry, true)).map(|entry| entry.name).collect();
        assert_eq!(
            while_frozen,
            [
                "guest-sync-delimited",
                "guest-sync",
                "guest-ping",
                "guest-info",
                "guest-fsfreeze-status",
                "guest-fsfreeze-thaw"
            ]
        );
    }
}
