//! Chance that can be repeated: numbers from a seed that is printed and may be given.

use std::str::FromStr;

/// SplitMix64 (Steele, Lea and Flood, 2014): enough to choose by, and the same on every machine.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// By `ROOST_TEST_SEED`, else by chance; says which, so that a failure can be looked at again.
    pub fn thrown(what: &str) -> Self {
        let seed = seed();
        println!("{what}: ROOST_TEST_SEED={seed}");
        Self(seed)
    }

    /// By this seed.
    pub const fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// Dice of somebody else's, whose throws change nothing here.
    pub fn split(&mut self) -> Self {
        Self(self.next())
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number under `bound`, which is over 0.
    pub const fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True once in `times`.
    pub const fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    pub fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// What `ROOST_TEST_SEED` says, or anything.
pub fn seed() -> u64 {
    variable("ROOST_TEST_SEED", uuid::Uuid::new_v4().as_u64_pair().1)
}

/// What a variable says, or this where it is not set.
pub fn variable<T: FromStr>(name: &str, otherwise: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not understood")),
        Err(_) => otherwise,
    }
}
