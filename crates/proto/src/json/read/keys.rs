//! The keys of one object, for finding one that comes twice.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};

use crate::json::Node;

/// A hash table of where the keys stand among the members.
///
/// The keys themselves stay there: a place takes eight bytes, of which four of the hash tell nearly always whether another
/// key is meant, and are all that is needed to make the table larger. Half a million keys are looked up in 8 MiB instead of
/// the 25 that a `HashSet` of them takes, and nothing is read at random but that.
pub(super) struct Keys {
    /// Nobody outside can know which keys have the same hash.
    hasher: RandomState,
    /// Upper half of the hash, and number of the member counted from one; 0 where nothing is. A power of two, of which half
    /// is in use at most.
    places: Vec<(u32, u32)>,
}

impl Keys {
    /// With the keys of these members.
    pub(super) fn new(members: &[(Cow<'_, str>, Node<'_>)]) -> Self {
        let mut keys = Keys { hasher: RandomState::new(), places: vec![(0, 0); 4 * members.len().next_power_of_two()] };
        for (index, (key, _)) in members.iter().enumerate() {
            keys.insert(key, &members[..index]);
        }
        keys
    }

    /// Takes in the key of the member that comes behind `members`. Whether it is none of theirs.
    pub(super) fn insert(&mut self, key: &str, members: &[(Cow<'_, str>, Node<'_>)]) -> bool {
        if members.len() >= self.places.len() / 2 {
            self.grow();
        }
        let tag = (self.hasher.hash_one(key) >> 32) as u32;
        let mut at = self.first(tag);
        loop {
            match self.places[at] {
                (_, 0) => break,
                (other, number) if other == tag && members[number as usize - 1].0 == key => return false,
                _ => at = (at + 1) & (self.places.len() - 1),
            }
        }
        // A message has 2^21 tokens at most.
        self.places[at] = (tag, members.len() as u32 + 1);
        true
    }

    /// Where a key with this part of the hash is looked for first.
    fn first(&self, tag: u32) -> usize {
        tag as usize & (self.places.len() - 1)
    }

    fn grow(&mut self) {
        let larger = vec![(0, 0); 2 * self.places.len()];
        for (tag, number) in std::mem::replace(&mut self.places, larger) {
            if number > 0 {
                let mut at = self.first(tag);
                while self.places[at].1 > 0 {
                    at = (at + 1) & (self.places.len() - 1);
                }
                self.places[at] = (tag, number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_new_once_however_large_the_table_grows() {
        let mut members: Vec<(Cow<'_, str>, Node<'_>)> = Vec::new();
        let mut keys = Keys::new(&members);
        for n in 0..20_000 {
            let key = format!("key{n}");
            assert!(keys.insert(&key, &members), "{key}");
            members.push((key.into(), Node::Null));
            // One that has been there for long, one of the middle and the last one.
            for again in [n / 1_000, n / 2, n] {
                assert!(!keys.insert(&format!("key{again}"), &members), "key{again} after {n}");
            }
        }
        let mut again = Keys::new(&members);
        assert!(members.iter().all(|(key, _)| !again.insert(key, &members)));
        assert!(again.insert("key", &members));
    }

    #[test]
    fn keys_with_the_same_part_of_the_hash_are_told_apart() {
        let members: Vec<(Cow<'_, str>, Node<'_>)> = vec![("a".into(), Node::Null), ("b".into(), Node::Null)];
        let mut keys = Keys::new(&members);
        let tag = (keys.hasher.hash_one("c") >> 32) as u32;
        // As if both had the hash of a third one.
        keys.places.fill((0, 0));
        let at = keys.first(tag);
        let next = (at + 1) % keys.places.len();
        (keys.places[at], keys.places[next]) = ((tag, 1), (tag, 2));
        assert!(keys.insert("c", &members));
    }
}
