//! Random numbers that come again with the same seed.

use std::time::{SystemTime, UNIX_EPOCH};

/// A small generator.
#[derive(Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// The same numbers for the same seed; seeds close to each other have nothing in common.
    pub fn new(seed: u64) -> Self {
        let mixed = (seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        // The state must not be zero.
        Numbers((mixed ^ (mixed >> 31)) | 1)
    }

    /// A number below `below`, which is not 0.
    pub fn below(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % below
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of these, of which there is one at least.
    pub fn one_of<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// At least one and at most `most` bytes of any value.
    pub fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..=self.below(most)).map(|_| self.below(256) as u8).collect()
    }
}

/// The number that an environment variable has, if it is set.
///
/// # Panics
/// When it is set to something else.
pub fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// A seed that is another one each time.
///
/// # Panics
/// When the clock is before 1970.
pub fn any_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    now.as_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_another_one_others() {
        let first = |seed| Numbers::new(seed).bytes(100);
        assert_eq!(first(7), first(7));
        assert_ne!(first(7), first(8));
        let mut numbers = Numbers::new(0);
        assert!((0..1000).all(|_| numbers.below(3) < 3));
        assert!((0..1000).any(|_| numbers.once_in(3)));
    }
}
