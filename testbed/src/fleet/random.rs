//! Numbers that follow from a seed, the same on every machine and in every version: splitmix64.

use uuid::Builder;

/// A stream of numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed and a purpose, so that one part of a fleet does not depend on how much another drew.
    pub fn new(seed: u64, purpose: &str, index: usize) -> Self {
        let purpose = purpose.bytes().fold(seed, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let mut random = Self(purpose ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        random.number();
        random
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = bound.max(1) as u64;
        usize::try_from(self.number() % bound).unwrap_or_default()
    }

    /// True in so many cases of a thousand.
    pub fn per_mille(&mut self, cases: usize) -> bool {
        self.below(1000) < cases
    }

    /// One of them; the default of none.
    pub fn pick<T: Copy + Default>(&mut self, of: &[T]) -> T {
        of.get(self.below(of.len())).copied().unwrap_or_default()
    }

    /// 64 hexadecimal digits.
    pub fn hex64(&mut self) -> String {
        format!("{:016x}{:016x}{:016x}{:016x}", self.number(), self.number(), self.number(), self.number())
    }

    /// Letters and digits as Kubernetes puts them at the end of names.
    pub fn suffix(&mut self, length: usize) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        (0..length).map(|_| char::from(self.pick(LETTERS))).collect()
    }

    /// A uid of version 4.
    pub fn uid(&mut self) -> String {
        let bytes = (u128::from(self.number()) << 64 | u128::from(self.number())).to_be_bytes();
        Builder::from_random_bytes(bytes).into_uuid().to_string()
    }
}
