//! Retention: which backups of a database may go, and why.
//!
//! A pure function of what is listed, the rules and a moment: [`plan`]. It reads and removes nothing, so a dry run and
//! the real thing cannot differ, and a crash finds nothing half done here. The rules are those of stock restic's
//! `forget` with the same names; what is suspect, damaged or not proven never costs a good backup its place, and what was
//! imported costs none that a run made its own.

mod bucket;
mod candidate;
mod decide;
mod plan;
mod reason;
mod rules;
mod scope;
mod size;
mod span;

pub use candidate::{Candidate, Origin, Verdict};
pub use plan::{Decision, plan};
pub use reason::{Period, Reason};
pub use rules::Rules;
pub use scope::{PruneScope, PruneSelector};
pub use size::{SizeError, parse_size};
pub use span::{Span, SpanError};
