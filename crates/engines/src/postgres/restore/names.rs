//! The names of the databases that a restore makes beside its target, and names and texts in statements.
//!
//! A name has 63 bytes at most; the target's is cut where its ending would not fit. Names are made of the target and of
//! the moment at which the restore began, so that a crash leaves nothing whose meaning has to be guessed.

pub(super) use crate::postgres::statements::quoted;

use jiff::Timestamp;

/// How many bytes a name may have.
const NAME_MAX_BYTES: usize = 63;
const MOMENT: &str = "%Y%m%dt%H%M%Sz";

/// Returns a text for statements, whatever the server thinks of backslashes.
pub(super) fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') {
        format!("E'{}'", doubled.replace('\\', "\\\\"))
    } else {
        format!("'{doubled}'")
    }
}

/// Returns the name of a database beside another: `erp__safety_20261121t020000z`.
pub(super) fn beside(base: &str, what: &str, started: Timestamp) -> String {
    fitted(base, &format!("__{what}_{}", started.strftime(MOMENT)))
}

/// Returns a name with an ending, cut before it where that is needed.
pub(super) fn fitted(base: &str, ending: &str) -> String {
    let mut room = NAME_MAX_BYTES.saturating_sub(ending.len()).min(base.len());
    while !base.is_char_boundary(room) {
        room -= 1;
    }
    format!("{}{ending}", &base[..room])
}

/// Tells whether a name is one that [`beside`] makes of that base, whatever the moment.
pub(super) fn is_beside(name: &str, base: &str, what: &str) -> bool {
    let ending = format!("__{what}_");
    let Some((before, moment)) = name.rsplit_once(&ending) else { return false };
    let moment = moment.split_once('_').map_or(moment, |(moment, _)| moment);
    let shape = moment.bytes().zip("00000000t000000z".bytes());
    let fits = moment.len() == 16
        && shape.into_iter().all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            letter => byte == letter,
        });
    fits && (before == base || (base.starts_with(before) && name.len() >= NAME_MAX_BYTES - 3))
}

/// Tells whether a name that [`beside`] made has that moment in it.
pub(super) fn tells(name: &str, started: Timestamp) -> bool {
    let moment = started.strftime(MOMENT).to_string();
    let Some((_, rest)) = name.rsplit_once("__") else { return false };
    rest.split('_').any(|piece| piece == moment)
}

/// Tells whether a name is one that [`beside`] makes of some base for one of those purposes.
pub(super) fn is_beside_any(name: &str, purposes: &[&str]) -> bool {
    let base_of = |what: &&str| name.rsplit_once(&format!("__{what}_")).map(|(base, _)| base.to_owned());
    purposes.iter().any(|what| base_of(what).is_some_and(|base| is_beside(name, &base, what)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_fit_and_are_known_again() {
        let started: Timestamp = "2026-11-21T02:00:00Z".parse().unwrap();
        assert_eq!(beside("erp", "safety", started), "erp__safety_20261121t020000z");
        let long = "ä".repeat(31);
        let made = beside(&long, "restoring", started);
        assert!(made.len() <= 63 && made.ends_with("__restoring_20261121t020000z"), "{made}");
        assert!(is_beside(&made, &long, "restoring"));
        assert!(is_beside("erp__restoring_20261121t020000z", "erp", "restoring"));
        assert!(is_beside("erp__restoring_20261121t020000z_2", "erp", "restoring"));
        assert!(!is_beside("erp__restoring_20261121t020000z", "er", "restoring"));
        assert!(!is_beside("erp__restoring_yesterday", "erp", "restoring"));
        assert!(!is_beside("erp__safety_20261121t020000z", "erp", "restoring"));
        assert!(is_beside_any("public__safety_20261121t020000z", &["rolled_back", "safety"]));
        assert!(!is_beside_any("public__safety_first", &["rolled_back", "safety"]));
    }

    #[test]
    fn texts_keep_quotes_and_backslashes() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
    }
}
