//! A little randomness, so that many agents do not do the same thing at the same moment.

use std::hash::{BuildHasher, RandomState};

/// A number in 0..=1 that differs between processes and calls: the hasher of the standard library is seeded at random,
/// and no better randomness is needed here.
pub(crate) fn fraction() -> f64 {
    f64::from(u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}
