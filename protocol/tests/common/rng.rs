//! Chance that a seed repeats, on every machine: a failing run is run again by its seed.
#![allow(dead_code)] // each test binary uses its part

/// xorshift64*: small, seeded, the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    /// A place in something of length `len`; 0 if it is empty.
    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(len.max(1) as u64) as usize
    }
}
