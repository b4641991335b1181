//! The text of an argument: which source, or which backup, a person means by it. Tried as a configured name, then as
//! an id, then as a path; `./` forces a path. A last `@` counts only before `latest`, `latest~N` or a time.

use crate::error::did_you_mean;
use crate::settings::{Settings, Target};
use crate::source::{SourceTextError, source};
use flow::{DatabaseName, TargetRef};
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use std::path::Path;

/// An argument that names nothing that could exist.
pub type ArgumentError = SourceTextError;

/// Which of a database's backups is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// So many before the newest; 0 is the newest.
    Latest(u32),
    /// The newest whose consistency point is at or before that time.
    At(Timestamp),
}

/// A source that an argument names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceArgument<'a> {
    /// The text of it.
    pub text: String,
    /// The target.
    pub target: TargetRef,
    /// Its settings, where it is a configured one.
    pub configured: Option<&'a Target>,
    /// The one database of it that is meant, where one was named.
    pub only: Option<DatabaseName>,
    /// A configured name that this path may be a slip of.
    pub near: Option<String>,
}

/// A backup that an argument names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackupArgument<'a> {
    /// `latest` alone: of the repository's only database.
    Only(Which),
    /// The beginning of an id, with the database where one was named.
    Id {
        /// 8 hexadecimal digits or more.
        prefix: String,
        /// The database of that snapshot.
        database: Option<String>,
    },
    /// A backup of a source; without `which`, a source alone was named.
    Of {
        /// The source.
        source: SourceArgument<'a>,
        /// Which of its backups.
        which: Option<Which>,
    },
}

/// What the meaning of an argument depends on.
#[derive(Debug, Clone)]
pub struct Arguments<'a> {
    /// The configured names.
    pub settings: &'a Settings,
    /// From where relative paths are meant; absolute.
    pub working_folder: &'a Path,
    /// The zone of times that name none.
    pub zone: TimeZone,
}

impl<'a> Arguments<'a> {
    /// Returns the source that a text names.
    pub fn source(&self, text: &str) -> Result<SourceArgument<'a>, ArgumentError> {
        if !is_path_by_force(text)
            && let Some(found) = self.configured(text)?
        {
            return Ok(found);
        }
        let near = (!text.contains('/'))
            .then(|| did_you_mean(text, self.settings.targets.keys().map(String::as_str)).map(str::to_owned));
        Ok(SourceArgument {
            text: text.to_owned(),
            target: source(None, text, self.working_folder)?,
            configured: None,
            only: None,
            near: near.flatten(),
        })
    }

    /// Returns the backup that a text names.
    pub fn backup(&self, text: &str) -> Result<BackupArgument<'a>, ArgumentError> {
        if let Some((source, moment)) = text.rsplit_once('@')
            && !source.is_empty()
            && let Some(which) = latest(moment).or_else(|| self.time(moment).map(Which::At))
        {
            return Ok(BackupArgument::Of { source: self.source(source)?, which: Some(which) });
        }
        if !is_path_by_force(text) {
            if let Some(source) = self.configured(text)? {
                return Ok(BackupArgument::Of { source, which: None });
            }
            if let Some((prefix, database)) = id(text) {
                return Ok(BackupArgument::Id { prefix, database });
            }
            if let Some(which) = latest(text) {
                return Ok(BackupArgument::Only(which));
            }
        }
        self.refuse_no_moment(text)?;
        Ok(BackupArgument::Of { source: self.source(text)?, which: None })
    }

    /// Where what stands before the last `@` is there and the whole is not, what stands after it was to be a moment.
    fn refuse_no_moment(&self, text: &str) -> Result<(), ArgumentError> {
        let Some((source, moment)) = text.rsplit_once('@') else { return Ok(()) };
        let there = |name: &str| self.working_folder.join(name).symlink_metadata().is_ok();
        let named = !source.is_empty() && (there(source) || self.configured(source)?.is_some());
        if there(text) || !named {
            return Ok(());
        }
        Err(SourceTextError {
            message: format!("`{moment}` in `{text}` is neither `latest` nor a time"),
            hint: Some(
                "write latest, latest~2, 2026-11-20, 2026-11-20T02:00 or 2026-11-20T02:00+01:00 after the `@`"
                    .to_owned(),
            ),
        })
    }

    fn configured(&self, text: &str) -> Result<Option<SourceArgument<'a>>, ArgumentError> {
        let (name, only) = match text.split_once('/') {
            Some((name, tenant)) if !self.settings.targets.contains_key(text) => (name, Some(tenant)),
            _ => (text, None),
        };
        let Some(target) = self.settings.targets.get(name) else { return Ok(None) };
        let only = only.map(DatabaseName::new).transpose().map_err(|error| SourceTextError {
            message: format!("{text}: {error}"),
            hint: Some(format!("write {name}/TENANT, or {name} for all")),
        })?;
        Ok(Some(SourceArgument {
            text: text.to_owned(),
            target: target.target.clone(),
            configured: Some(target),
            only,
            near: None,
        }))
    }

    /// Returns the moment that a text names: with an offset, in the given zone without one; a date alone is its end,
    /// so that the backups of that day count.
    fn time(&self, text: &str) -> Option<Timestamp> {
        if let Ok(time) = text.parse::<Timestamp>() {
            return Some(time);
        }
        let in_zone = |time: DateTime| time.to_zoned(self.zone.clone()).ok().map(|zoned| zoned.timestamp());
        if is_date(text) {
            let next = text.parse::<Date>().ok()?.tomorrow().ok()?;
            let end = in_zone(next.to_datetime(jiff::civil::Time::midnight()))?;
            return end.checked_sub(1.nanosecond()).ok();
        }
        in_zone(text.parse::<DateTime>().ok()?)
    }
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

fn is_path_by_force(text: &str) -> bool {
    text.starts_with('/') || text.starts_with("./") || text.starts_with("../")
}

fn latest(text: &str) -> Option<Which> {
    let rest = text.strip_prefix("latest")?;
    if rest.is_empty() {
        return Some(Which::Latest(0));
    }
    let steps = rest.strip_prefix('~')?;
    steps.bytes().all(|byte| byte.is_ascii_digit()).then_some(())?;
    steps.parse().ok().map(Which::Latest)
}

fn id(text: &str) -> Option<(String, Option<String>)> {
    let (prefix, database) = match text.split_once(':') {
        Some((prefix, database)) if !database.is_empty() => (prefix, Some(database.to_owned())),
        Some(_) => return None,
        None => (text, None),
    };
    let fits = (8..=64).contains(&prefix.len())
        && prefix.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    fits.then(|| (prefix.to_owned(), database))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn settings() -> Settings {
        let text = "[targets.shops]\nsource = \"/srv/{tenant}.db\"\n[targets.deadbeef]\nsource = \"/x.db\"\n";
        crate::read_text(Path::new("/nowhere/backstay.toml"), text).unwrap()
    }

    fn of(text: &str) -> String {
        let settings = settings();
        let arguments = Arguments {
            settings: &settings,
            working_folder: Path::new("/nowhere"),
            zone: TimeZone::fixed(jiff::tz::offset(2)),
        };
        match arguments.backup(text).unwrap() {
            BackupArgument::Only(which) => format!("only {which:?}"),
            BackupArgument::Id { prefix, database } => format!("id {prefix} {database:?}"),
            BackupArgument::Of { source, which } => {
                let only = source.only.map(String::from).unwrap_or_default();
                let which = match which {
                    None => "-".to_owned(),
                    Some(Which::At(time)) => time.to_string(),
                    Some(which) => format!("{which:?}"),
                };
                format!("{} {only} {which}", source.target.name)
            }
        }
    }

    #[test]
    fn names_come_before_ids_and_ids_before_paths() {
        assert_eq!(of("shops"), "shops  -");
        assert_eq!(of("shops/acme@latest~2"), "shops acme Latest(2)");
        assert_eq!(of("deadbeef"), "deadbeef  -");
        assert_eq!(of("./deadbeef"), "/nowhere/deadbeef  -");
        assert_eq!(of("deadbee0"), "id deadbee0 None");
        assert_eq!(of("deadbee0:a/b"), "id deadbee0 Some(\"a/b\")");
        assert_eq!(of("deadbee"), "/nowhere/deadbee  -");
        assert_eq!(of("latest"), "only Latest(0)");
        assert_eq!(of("./latest"), "/nowhere/latest  -");
    }

    #[test]
    fn an_at_sign_counts_only_before_a_moment() {
        assert_eq!(of("a@b.db"), "/nowhere/a@b.db  -");
        assert_eq!(of("a@b.db@latest"), "/nowhere/a@b.db  Latest(0)");
        assert_eq!(of("x.db@latest~"), "/nowhere/x.db@latest~  -");
        assert_eq!(of("x.db@2026-11-20T02:00"), "/nowhere/x.db  2026-11-20T00:00:00Z");
        assert_eq!(of("x.db@2026-11-20 02:00"), "/nowhere/x.db  2026-11-20T00:00:00Z");
        assert_eq!(of("x.db@2026-11-20T02:00:05Z"), "/nowhere/x.db  2026-11-20T02:00:05Z");
        assert_eq!(of("x.db@2026-11-20T02:00-05:00"), "/nowhere/x.db  2026-11-20T07:00:00Z");
        assert_eq!(of("shops@2026-11-20"), "shops  2026-11-20T21:59:59.999999999Z");
    }

    #[test]
    fn what_was_to_be_a_moment_is_told_so() {
        let settings = settings();
        let working_folder = Path::new("/nowhere");
        let arguments = Arguments { settings: &settings, working_folder, zone: TimeZone::UTC };
        for bad in ["shops@now", "shops@2026-13-41", "/@yesterday"] {
            let error = arguments.backup(bad).unwrap_err();
            assert!(error.message.contains("neither `latest` nor a time"), "{bad}: {}", error.message);
            assert!(error.hint.is_some_and(|hint| hint.contains("latest~2")));
        }
        assert_eq!(of("lost@2026.db"), "/nowhere/lost@2026.db  -", "a lost file may be called so");
    }
}
