//! Numbers, sizes and times as sentences and tables show them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Returns a size with binary units: `512 B`, `1.2 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or("PiB");
    if value < 99.95 { format!("{value:.1} {name}") } else { format!("{value:.0} {name}") }
}

/// Returns a duration: `12 ms`, `0.4 s`, `41 s`, `3 min 5 s`, `2 h 10 min`.
pub(crate) fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 if milliseconds < 100 => format!("{milliseconds} ms"),
        0..10 => format!("{:.1} s", milliseconds as f64 / 1000.0),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Returns an age: `now`, `5 min`, `3 h`, `12 days`.
pub(crate) fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - since.as_second();
    match seconds {
        i64::MIN..-60 => "in the future".to_owned(),
        -60..60 => "now".to_owned(),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Returns an age in a sentence: `just now`, `3 h ago`.
pub(crate) fn ago(since: Timestamp, now: Timestamp) -> String {
    match age(since, now).as_str() {
        "now" => "just now".to_owned(),
        "in the future" => "in the future".to_owned(),
        age => format!("{age} ago"),
    }
}

/// Returns a moment in the local zone: `2026-11-21 02:00:05`.
pub(crate) fn moment(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Returns a number with its noun: `1 database`, `3 databases`.
pub(crate) fn count(number: u64, singular: &str, plural: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { singular } else { plural })
}

/// Returns a number with commas: `200,000`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a name on one line: what would break it or steer a terminal is written out.
pub(crate) fn printable(name: &str) -> String {
    let shown = |letter: char| match letter.is_control() {
        true => letter.escape_default().to_string(),
        false => letter.to_string(),
    };
    name.chars().map(shown).collect()
}

/// Returns a table of a few rows without frame; the columns of `right` are set to the right.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>, right: &[usize]) -> String {
    let mut table = crate::table::Table::new(header, right);
    rows.iter().flatten().for_each(|cell| table.cell(cell));
    table.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_durations_and_counts_read_well() {
        assert_eq!([0, 1023, 1024, 1_288_490_189].map(size), ["0 B", "1023 B", "1.0 KiB", "1.2 GiB"]);
        assert_eq!(size(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(size(200 << 20), "200 MiB");
        assert_eq!(
            [12, 400, 41_000, 185_000, 7_800_000].map(duration),
            ["12 ms", "0.4 s", "41 s", "3 min 5 s", "2 h 10 min"]
        );
        assert_eq!(count(1, "database", "databases"), "1 database");
        assert_eq!([7, 999, 1000, 1_234_567].map(grouped), ["7", "999", "1,000", "1,234,567"]);
    }
}
