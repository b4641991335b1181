//! What all conformance suites share: a promise, and what became of it.
//!
//! A suite returns the promises that were broken, so that the same suite proves an implementation (none may be) and
//! is proven itself by mutants (the right one must be).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A promise that an implementation broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The promise, by the name of its check.
    pub promise: &'static str,
    /// What was seen instead.
    pub problem: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.problem)
    }
}

/// The outcome of one check.
pub(crate) type Outcome = Result<(), String>;

/// A promise and what tries it.
pub(crate) type Check<S> = (&'static str, fn(&S) -> Outcome);

/// Runs checks one after the other on a fresh subject each; a panic counts as a broken promise.
pub(crate) fn run<S>(make: &dyn Fn() -> S, checks: &[Check<S>]) -> Vec<Broken> {
    let mut broken = Vec::new();
    for (promise, check) in checks {
        let subject = make();
        let outcome = catch_unwind(AssertUnwindSafe(|| check(&subject)));
        let problem = match outcome {
            Ok(Ok(())) => continue,
            Ok(Err(problem)) => problem,
            Err(_) => "the check panicked".to_owned(),
        };
        broken.push(Broken { promise, problem });
    }
    broken
}

/// Panics with all promises that were broken.
#[track_caller]
pub(crate) fn demand(broken: &[Broken]) {
    let list: Vec<String> = broken.iter().map(Broken::to_string).collect();
    assert!(list.is_empty(), "broken promises:\n  {}", list.join("\n  "));
}

/// Asserts that a mutant was caught: that the suite names that promise as broken.
#[track_caller]
pub fn assert_caught(broken: &[Broken], promise: &str) {
    assert!(
        broken.iter().any(|found| found.promise == promise),
        "the suite does not see that {promise:?} is broken; it found {broken:?}"
    );
}

/// Fails a check unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}
pub(crate) use ensure;

/// Turns any error into the text of a broken promise.
pub(crate) fn text(error: impl fmt::Display) -> String {
    error.to_string()
}

/// A reproducible sequence of numbers (splitmix64): for contents and for faults by chance.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Begins the sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub fn next_number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_number() % bound
    }

    /// Returns that many bytes, which no compressor shrinks.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next_number().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}
