//! By which names safety copies are known: those that restores give now, and those of the usual suffix always.

use flow::SafetySuffix;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// How safety copies are called.
#[derive(Debug, Clone, Default)]
pub(super) struct SafetyNames {
    suffix: SafetySuffix,
    usual: SafetySuffix,
}

/// What the name of a safety copy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SafetyName<'a> {
    /// The name of its database.
    pub(super) database: &'a str,
    /// When the restore began.
    pub(super) time: Timestamp,
    /// Whether the suffix is one that nobody but a restore gives.
    pub(super) is_usual: bool,
}

impl SafetyNames {
    pub(super) fn new(suffix: SafetySuffix) -> Self {
        Self { suffix, usual: SafetySuffix::default() }
    }

    /// Returns the suffix that restores give.
    pub(super) fn suffix(&self) -> &SafetySuffix {
        &self.suffix
    }

    /// Tells whether a file of that name is a safety copy, or belongs to one.
    pub(super) fn is_one(&self, name: &str) -> bool {
        [&self.usual, &self.suffix].into_iter().any(|suffix| suffix.split(name).is_some())
    }

    /// Takes the name of a safety copy apart, to the last letter.
    pub(super) fn read<'a>(&self, name: &'a str) -> Option<SafetyName<'a>> {
        [&self.usual, &self.suffix].into_iter().find_map(|suffix| {
            let (database, rest) = suffix.split(name)?;
            let (stamp, number) = rest.split_at_checked(16)?;
            let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let numbered = number.is_empty() || number.strip_prefix('-').is_some_and(digits);
            if database.is_empty() || !numbered {
                return None;
            }
            let time = DateTime::strptime("%Y%m%dT%H%M%SZ", stamp).ok()?;
            let time = time.to_zoned(TimeZone::UTC).ok()?.timestamp();
            Some(SafetyName { database, time, is_usual: suffix.is_usual() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_that_a_restore_gives_is_one() {
        let time: Timestamp = "2026-11-21T02:00:00Z".parse().unwrap_or_default();
        let names = SafetyNames::new(SafetySuffix::new("_old").unwrap_or_default());
        for (name, database, is_usual) in [
            ("app.db.safety-20261121T020000Z", "app.db", true),
            ("app.db.safety-20261121T020000Z-12", "app.db", true),
            ("a.safety-b.db.safety-20261121T020000Z", "a.safety-b.db", true),
            ("app.db_old-20261121T020000Z-2", "app.db", false),
        ] {
            assert_eq!(names.read(name), Some(SafetyName { database, time, is_usual }), "{name}");
        }
        for name in [
            "app.db",
            ".safety-20261121T020000Z",
            "_old-20261121T020000Z",
            "app.db.safety-20261121T020000",
            "app.db.safety-20261121T020000Z-",
            "app.db.safety-20261121T020000Z-wal",
            "app.db.safety-20261121T020000Z-journal",
            "app.db.safety-20261121T020000Z.bak",
            "app.db.safety-20261321T020000Z",
            "app.db.safety-20261121t020000z",
            "app.db.safety-+0261121T020000Z",
            "app.db.safety-2026112äT02000Z",
            "app.db.backstay-old-20261121T020000Z",
            "app.db.old-20261121T020000Z",
            "app.db_old-20261121T020000",
        ] {
            assert_eq!(names.read(name), None, "{name}");
        }
        assert!(names.is_one("app.db_old-20261121T020000Z-wal"));
        assert_eq!(SafetyNames::default().read("app.db_old-20261121T020000Z"), None);
    }
}
