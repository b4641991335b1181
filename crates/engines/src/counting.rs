//! Numbers as a detail of a report says them.
//!
//! Pure functions.

/// Returns a number with its noun, as a detail says it.
pub(crate) fn counted(number: u64, singular: &str, plural: &str) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{text} {}", if number == 1 { singular } else { plural })
}
