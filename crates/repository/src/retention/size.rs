//! Sizes as rules spell them: `10GB`, `512 MiB`, `1.5 TB`.

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no size; write a number with B, kB, MB, GB, TB or KiB, MiB, GiB, TiB, as in 10GB")]
pub struct SizeError {
    text: String,
}

const UNITS: [(&str, u64); 9] = [
    ("tib", 1 << 40),
    ("gib", 1 << 30),
    ("mib", 1 << 20),
    ("kib", 1 << 10),
    ("tb", 1_000_000_000_000),
    ("gb", 1_000_000_000),
    ("mb", 1_000_000),
    ("kb", 1000),
    ("b", 1),
];

/// Returns the bytes that a text says. `GB` is 10⁹ bytes, `GiB` 2³⁰. A number needs a unit, and 0 is no size.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let refuse = || SizeError { text: text.to_owned() };
    let lower = text.trim().to_ascii_lowercase();
    let found = UNITS.iter().find_map(|(unit, bytes)| Some((lower.strip_suffix(unit)?.trim_end(), *bytes)));
    let (number, unit) = found.ok_or_else(refuse)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |part: &str| !part.is_empty() && part.len() <= 9 && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(refuse());
    }
    let whole: u64 = whole.parse().map_err(|_| refuse())?;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| refuse())?);
    let part: u128 = fraction.parse().map_err(|_| refuse())?;
    let bytes = u128::from(whole) * u128::from(unit) + part * u128::from(unit) / scale;
    u64::try_from(bytes).ok().filter(|bytes| *bytes > 0).ok_or_else(refuse)
}

/// Returns a size in the largest unit that shows it exactly.
pub(super) fn describe(bytes: u64) -> String {
    const SHOWN: [(&str, u64); 8] = [
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("kB", 1000),
        ("KiB", 1 << 10),
    ];
    let exact = SHOWN.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    exact.map_or_else(|| format!("{bytes} bytes"), |(name, unit)| format!("{} {name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let sizes = ["10GB", "1.5 kB", "512 MiB", "7b", "2tib"].map(parse_size);
        assert_eq!(sizes, [Ok(10_000_000_000), Ok(1500), Ok(512 << 20), Ok(7), Ok(2 << 40)]);
        for bad in ["", "10", "GB", "0GB", "-1GB", "1..5GB", "1,5GB", "1e3GB", "10GBx", "9999999999GB", ".GB"]
        {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_size("999999999TiB"), Err(SizeError { text: "999999999TiB".to_owned() }));
        assert_eq!(
            [10_000_000_000, 50 << 30, 1234, 5000].map(describe),
            ["10 GB", "50 GiB", "1234 bytes", "5 kB"]
        );
    }
}
