//! What would refuse a restore, as the plan and the preflight say it.

use flow::SourceErrorKind;
use std::collections::BTreeSet;

/// How many missing things of a kind are named.
const NAMED_MAX: usize = 20;

/// Something that would refuse a restore, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) kind: SourceErrorKind,
    pub(super) message: String,
    pub(super) hint: String,
}

/// Makes one of the usual kind.
pub(super) fn problem(message: impl Into<String>, hint: impl Into<String>) -> Problem {
    Problem { kind: SourceErrorKind::Unwritable, message: message.into(), hint: hint.into() }
}

/// Returns names for a sentence; of many the first ones, then how many more there are.
pub(super) fn listed(names: &BTreeSet<String>) -> String {
    let mut listed: Vec<String> = names.iter().take(NAMED_MAX).cloned().collect();
    if names.len() > NAMED_MAX {
        listed.push(format!("{} more", names.len() - NAMED_MAX));
    }
    listed.join(", ")
}
