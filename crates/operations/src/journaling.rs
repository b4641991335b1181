//! What verbs write into the journal. The journal is lost without harm: its errors are remarks, shown once.

use crate::Services;
use flow::DatabaseRef;
use jiff::Timestamp;

/// Records a step of a restore.
pub(crate) fn restore_step(
    _services: &Services,
    _target: &DatabaseRef,
    _step: &str,
    _began: Timestamp,
    _ok: bool,
) {
}

/// Returns the rate of the last restore that was recorded, in bytes per second.
pub(crate) fn restore_rate(_services: &Services) -> Option<u64> {
    None
}
