//! Which packs a check reads that reads a part of them: those behind the last one that the check before read, in the
//! order of their ids, round and round. Ids are hashes, so that each such part is spread over the whole repository, and
//! as many checks as there are parts read all of it.

use crate::crypto::random;
use crate::error::ResticError;
use crate::id::Id;
use std::collections::HashSet;

/// A part of the packs, by their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// How much: hundredths of a percent, 10,000 for all.
    pub hundredths: u32,
    /// The last pack that the check before read; `None`: begin anywhere.
    pub after: Option<Id>,
}

impl Share {
    /// Chooses of packs with their sizes. Returns them with the last one; none where there are none.
    pub(crate) fn choose(&self, mut packs: Vec<(Id, u64)>) -> Result<(HashSet<Id>, Option<Id>), ResticError> {
        packs.sort_unstable();
        let after = match self.after {
            Some(after) => after,
            None => {
                let mut anywhere = [0; 32];
                random(&mut anywhere)?;
                Id(anywhere)
            }
        };
        let all: u128 = packs.iter().map(|(_, bytes)| u128::from(*bytes)).sum();
        let wanted = (all * u128::from(self.hundredths)).div_ceil(10_000);
        let first = packs.partition_point(|(id, _)| *id <= after);
        packs.rotate_left(first);
        let (mut chosen, mut last, mut bytes) = (HashSet::new(), None, 0);
        for (id, size_bytes) in packs {
            if bytes >= wanted {
                break;
            }
            bytes += u128::from(size_bytes);
            chosen.insert(id);
            last = Some(id);
        }
        Ok((chosen, last))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn packs(count: u8) -> Vec<(Id, u64)> {
        (0..count).map(|number| (Id([number.wrapping_mul(37); 32]), 100 + u64::from(number))).collect()
    }

    #[test]
    fn as_many_checks_as_there_are_shares_read_everything() {
        for (hundredths, runs) in [(500, 20), (1000, 10), (3333, 4), (10_000, 1), (1, 50)] {
            let (mut seen, mut after) = (HashSet::new(), None);
            for _ in 0..runs {
                let (chosen, last) = Share { hundredths, after }.choose(packs(50)).unwrap();
                let bytes: u64 = packs(50).iter().filter(|(id, _)| chosen.contains(id)).map(|(_, b)| b).sum();
                let all: u64 = packs(50).iter().map(|(_, bytes)| bytes).sum();
                assert!(bytes * 10_000 >= all * u64::from(hundredths), "{hundredths}: {bytes} of {all}");
                assert!(
                    bytes.saturating_sub(150) * 10_000 < all * u64::from(hundredths),
                    "{hundredths}: {bytes}"
                );
                seen.extend(chosen);
                after = last;
            }
            assert_eq!(seen.len(), 50, "{hundredths}");
        }
    }

    #[test]
    fn an_empty_repository_has_nothing_to_choose() {
        let (chosen, last) = Share { hundredths: 500, after: None }.choose(vec![]).unwrap();
        assert!(chosen.is_empty() && last.is_none());
    }
}
