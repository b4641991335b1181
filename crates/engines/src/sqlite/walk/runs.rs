//! Sets of row numbers, as runs of neighbours: what refers and what is referred to is mostly dense.

/// More runs than that are not kept: 8 MiB of memory.
const RUNS_MAX: usize = 512 << 10;

/// A set of numbers that is filled first and asked afterwards.
#[derive(Debug, Clone, Default)]
pub(super) struct Runs {
    runs: Vec<(i64, i64)>,
    gave_up: bool,
}

impl Runs {
    /// Adds a number.
    pub(super) fn add(&mut self, number: i64) {
        match self.runs.last_mut() {
            Some((first, last)) if (*first..=*last).contains(&number) => {}
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            Some((first, _)) if number.checked_add(1) == Some(*first) => *first = number,
            _ => self.runs.push((number, number)),
        }
    }

    /// Makes that it is not known what is in the set.
    pub(super) fn give_up(&mut self) {
        self.gave_up = true;
        self.runs = Vec::new();
    }

    /// Takes in another set.
    pub(super) fn join(&mut self, other: Self) {
        if self.gave_up || other.gave_up {
            return self.give_up();
        }
        self.runs.extend(other.runs);
        if self.runs.len() > RUNS_MAX {
            self.settle();
            if self.runs.len() > RUNS_MAX / 2 {
                self.give_up();
            }
        }
    }

    /// Sorts the runs, and makes one of those that touch.
    fn settle(&mut self) {
        self.runs.sort_unstable();
        let mut settled: Vec<(i64, i64)> = Vec::new();
        for (first, last) in self.runs.drain(..) {
            match settled.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => settled.push((first, last)),
            }
        }
        self.runs = settled;
    }

    /// Tells whether every number of this set is in the other one; `false` where one of them is not known.
    pub(super) fn is_within(&mut self, other: &mut Self) -> bool {
        self.settle();
        other.settle();
        let covers = |run: &(i64, i64)| {
            let at = other.runs.partition_point(|(first, _)| *first <= run.0);
            at.checked_sub(1).and_then(|at| other.runs.get(at)).is_some_and(|(_, last)| *last >= run.1)
        };
        !self.gave_up && !other.gave_up && self.runs.iter().all(covers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(numbers: &[i64]) -> Runs {
        let mut runs = Runs::default();
        numbers.iter().for_each(|number| runs.add(*number));
        runs
    }

    #[test]
    fn what_is_missing_shows() {
        let all = [3, 4, 5, -1, 0, i64::MAX, i64::MIN, 4, 2, 9];
        assert!(set(&all).is_within(&mut set(&all)));
        for without in 0..all.len() {
            let rest: Vec<i64> = all.iter().filter(|number| **number != all[without]).copied().collect();
            assert!(!set(&all).is_within(&mut set(&rest)), "{rest:?}");
            assert!(set(&rest).is_within(&mut set(&all)), "{rest:?}");
        }
        let mut unknown = set(&[]);
        unknown.give_up();
        assert!(!set(&[]).is_within(&mut unknown) && !unknown.is_within(&mut set(&[1])));
    }
}
