//! The rules by which backups of a database are kept.

use super::span::Span;

/// The rules. What several of them keep is kept; see [`super::plan`] for how they work together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// How many of the newest are kept; 0 is no rule, as for the next five.
    pub last: u32,
    /// Of how many hours that have backups the newest one is kept.
    pub hourly: u32,
    /// Of how many days.
    pub daily: u32,
    /// Of how many weeks, which begin on Monday.
    pub weekly: u32,
    /// Of how many months.
    pub monthly: u32,
    /// Of how many years.
    pub yearly: u32,
    /// All that are so close to the newest are kept.
    pub within: Option<Span>,
    /// Only what is older than this may go.
    pub max_age: Option<Span>,
    /// What all that are kept may have in sum, each as large as when it is restored. Removes the oldest first, also
    /// what another rule keeps.
    pub max_size_bytes: Option<u64>,
    /// How many stay whatever the rules say.
    pub min_keep: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            last: 0,
            hourly: 0,
            daily: 0,
            weekly: 0,
            monthly: 0,
            yearly: 0,
            within: None,
            max_age: None,
            max_size_bytes: None,
            min_keep: 1,
        }
    }
}

impl Rules {
    /// Tells whether there is no rule at all; how many stay at least is none.
    pub fn is_empty(&self) -> bool {
        !self.says_what_to_keep() && self.max_age.is_none() && self.max_size_bytes.is_none()
    }

    /// Tells whether a rule says what to keep; without one everything is, before the others act.
    pub(super) fn says_what_to_keep(&self) -> bool {
        let counts = [self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly];
        self.within.is_some() || counts.iter().any(|count| *count > 0)
    }
}
