//! The databases of a target: a file, a folder, a glob, or a template with `{tenant}`.
//!
//! A folder is looked at itself, not what lies below it, and symbolic links in it are passed over; what is no
//! database there is skipped and said so. Of a glob or a template each match must be a database: one that is none
//! fails by itself at the backup, so nothing that was asked for goes missing in silence. A file that cannot be looked
//! into counts as a database for the same reason.

use super::header::Content;
use super::open::Sniffer;
use super::safety_names::SafetyNames;
use super::{failure, marks};
use crate::engine::{Enumeration, Skipped};
use flow::{Context, DatabaseName, DatabaseRef, Previous, SourceError, SourceErrorKind, TargetRef};
use globset::{GlobBuilder, GlobMatcher};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

const TENANT: &str = "{tenant}";
const DATABASE_ENDINGS: [&str; 4] = [".db", ".db3", ".sqlite", ".sqlite3"];

/// Which of the files in a folder are looked into, to tell whether they are databases. Each look is an open and a read;
/// of thousands of files that is most of a backup that finds nothing changed.
pub(super) enum Look<'a> {
    /// All.
    Each,
    /// Those that do not show themselves as their previous backup left them.
    Changed(&'a BTreeMap<DatabaseName, Previous>),
    /// The one of that name; the others are passed by.
    One(&'a DatabaseName),
}

impl Look<'_> {
    /// Tells whether a file is known to be a database without a look into it.
    fn knows(&self, name: &str, path: &Path) -> bool {
        let Look::Changed(previous) = self else { return false };
        let known = DatabaseName::new(name).ok().and_then(|name| previous.get(&name));
        known.is_some_and(|known| marks::take(path).is_ok_and(|now| marks::unchanged(&known.marks, &now)))
    }

    /// Tells whether it was backed up as a database: then it is one that is broken, however it looks.
    fn was_backed_up(&self, name: &str) -> bool {
        let Look::Changed(previous) = self else { return false };
        DatabaseName::new(name).is_ok_and(|name| previous.contains_key(&name))
    }

    fn passes_by(&self, name: &str) -> bool {
        matches!(self, Look::One(one) if one.as_str() != name)
    }
}

/// Finds the databases of a target.
pub(super) fn databases(
    target: &TargetRef,
    look: &Look<'_>,
    safety: &SafetyNames,
    context: &Context,
) -> Result<Enumeration, SourceError> {
    let connection = target.connection.as_str();
    if connection.is_empty() {
        return Err(invalid(connection, "the connection is empty", "name a file, a folder or a glob"));
    }
    let path = Path::new(connection);
    let mut found = Found::of(safety);
    if connection.contains(TENANT) {
        template(connection, &mut found)?;
    } else if path.is_dir() {
        folder(path, look, &mut found, context)?;
    } else if connection.contains(['*', '?', '[', '{']) && !path.exists() {
        glob(connection, &mut found, context)?;
    } else {
        let canonical = path.canonicalize().map_err(|error| failure::io(path, error))?;
        let name = text(canonical.file_name().map_or(Path::new(""), Path::new))?;
        found.add(name, canonical)?;
    }
    found.into_enumeration(target)
}

/// What was found so far: paths by name.
struct Found<'a> {
    safety: &'a SafetyNames,
    databases: BTreeMap<String, PathBuf>,
    paths: BTreeSet<PathBuf>,
    skipped: Vec<Skipped>,
}

impl<'a> Found<'a> {
    fn of(safety: &'a SafetyNames) -> Self {
        Self { safety, databases: BTreeMap::new(), paths: BTreeSet::new(), skipped: Vec::new() }
    }

    fn add(&mut self, name: String, path: PathBuf) -> Result<(), SourceError> {
        if !self.paths.insert(path.clone()) {
            self.skip(&path, "is the same file as another one of this target");
        } else if let Some(other) = self.databases.insert(name.clone(), path.clone()) {
            let problem = format!("two databases would be named {name}: this one and {}", other.display());
            return Err(invalid(&text(&path)?, &problem, "name them by two targets"));
        }
        Ok(())
    }

    fn skip(&mut self, path: &Path, reason: &str) {
        self.skipped.push(Skipped { object: path.display().to_string(), reason: reason.to_owned() });
    }

    /// Passes over what belongs to another file; tells whether it did.
    fn skip_companion(&mut self, path: &Path) -> bool {
        let reason = path.file_name().and_then(|name| name.to_str());
        let reason = reason.and_then(|name| companion(name, self.safety));
        if let Some(reason) = reason {
            self.skip(path, reason);
        }
        reason.is_some()
    }

    fn into_enumeration(mut self, target: &TargetRef) -> Result<Enumeration, SourceError> {
        self.skipped.sort_by(|a, b| a.object.cmp(&b.object));
        let mut databases = Vec::new();
        for (name, path) in self.databases {
            let connection = text(&path)?;
            let name = DatabaseName::new(name)
                .map_err(|error| invalid(&connection, &error.to_string(), "rename the file"))?;
            databases.push(DatabaseRef { target: target.name.clone(), name, connection });
        }
        if databases.is_empty() {
            let message = match self.skipped.len() {
                0 => "there is no SQLite database".to_owned(),
                count => format!("there is no SQLite database, but {count} other files"),
            };
            return Err(SourceError::new(SourceErrorKind::Missing, target.connection.clone(), message)
                .with_hint("check the path; quote a glob so that the shell leaves it alone"));
        }
        Ok(Enumeration { databases, skipped: self.skipped })
    }
}

/// Tells what a file beside a database is by its name; `None` where it may be a database itself.
fn companion(name: &str, safety: &SafetyNames) -> Option<&'static str> {
    if name.ends_with("-wal") || name.ends_with("-shm") || name.ends_with("-journal") {
        return Some("belongs to the database beside it");
    }
    if name.contains(".backstay-") {
        return Some("belongs to a restore");
    }
    safety.is_one(name).then_some("is a safety copy that a restore kept")
}

fn folder(path: &Path, look: &Look<'_>, found: &mut Found<'_>, context: &Context) -> Result<(), SourceError> {
    let path = path.canonicalize().map_err(|error| failure::io(path, error))?;
    let sniffer = Sniffer::new();
    for entry in std::fs::read_dir(&path).map_err(|error| failure::io(&path, error))? {
        context.cancel.check().map_err(|_| SourceError::cancelled(path.display().to_string()))?;
        let entry = entry.map_err(|error| failure::io(&path, error))?;
        let kind = entry.file_type().map_err(|error| failure::io(&entry.path(), error))?;
        let member = entry.path();
        if kind.is_dir() {
            continue;
        }
        if kind.is_symlink() {
            found.skip(&member, "is a symbolic link");
        } else if !kind.is_file() {
            found.skip(&member, "is no regular file");
        } else if !found.skip_companion(&member) {
            one_file(member, entry.file_name().to_str(), look, &sniffer, found)?;
        }
    }
    Ok(())
}

fn one_file(
    member: PathBuf,
    name: Option<&str>,
    look: &Look<'_>,
    sniffer: &Sniffer,
    found: &mut Found<'_>,
) -> Result<(), SourceError> {
    if name.is_some_and(|name| look.passes_by(name)) {
        return Ok(());
    }
    if let Some(name) = name.filter(|name| look.knows(name, &member)) {
        return found.add(name.to_owned(), member);
    }
    let was_backed_up = name.is_some_and(|name| look.was_backed_up(name));
    match sniffer.sniff(&member) {
        Ok(Content::Other { reason, .. }) if !was_backed_up => found.skip(&member, reason),
        Ok(Content::Empty) if !was_backed_up && !has_database_ending(&member) => {
            found.skip(&member, "is empty")
        }
        Err(error) if error.kind == SourceErrorKind::Missing => {}
        Ok(_) | Err(_) => {
            let name = text(member.file_name().map_or(Path::new(""), Path::new))?;
            found.add(name, member)?;
        }
    }
    Ok(())
}

fn has_database_ending(path: &Path) -> bool {
    path.to_str().is_some_and(|path| DATABASE_ENDINGS.iter().any(|ending| path.ends_with(ending)))
}

fn glob(pattern: &str, found: &mut Found<'_>, context: &Context) -> Result<(), SourceError> {
    let matcher = GlobBuilder::new(pattern)
        .literal_separator(true)
        .build()
        .map_err(|error| invalid(pattern, &error.to_string(), "check the brackets of the glob"))?
        .compile_matcher();
    let is_literal = |component: &Component<'_>| {
        !component.as_os_str().to_string_lossy().contains(['*', '?', '[', '{', '\\'])
    };
    let components: Vec<_> = Path::new(pattern).components().collect();
    let literal = components.iter().take_while(|component| is_literal(component)).count();
    let base: PathBuf = components[..literal.min(components.len() - 1)].iter().collect();
    let depth = if pattern.contains("**") { usize::MAX } else { components.len() - literal };
    let start = if base.as_os_str().is_empty() { Path::new(".") } else { &base };
    let mut search = Search { matcher, base: base.clone(), found, context };
    search.walk(start, &base, depth)
}

struct Search<'a, 'b> {
    matcher: GlobMatcher,
    base: PathBuf,
    found: &'a mut Found<'b>,
    context: &'a Context,
}

impl Search<'_, '_> {
    /// Looks through `folder`, which the pattern calls `shown`.
    fn walk(&mut self, folder: &Path, shown: &Path, depth: usize) -> Result<(), SourceError> {
        self.context.cancel.check().map_err(|_| SourceError::cancelled(folder.display().to_string()))?;
        for entry in std::fs::read_dir(folder).map_err(|error| failure::io(folder, error))? {
            let entry = entry.map_err(|error| failure::io(folder, error))?;
            let shown = shown.join(entry.file_name());
            let is_folder = entry.file_type().map_err(|error| failure::io(&shown, error))?.is_dir();
            if self.matcher.is_match(&shown) {
                if !self.found.skip_companion(&shown) {
                    let name = text(shown.strip_prefix(&self.base).unwrap_or(&shown))?;
                    // A link that leads nowhere is a database that is missing, not one that never was.
                    let path = shown.canonicalize().unwrap_or_else(|_| shown.clone());
                    self.found.add(name, path)?;
                }
            } else if is_folder && depth > 1 {
                self.walk(&entry.path(), &shown, depth.saturating_sub(1))?;
            }
        }
        Ok(())
    }
}

fn template(pattern: &str, found: &mut Found<'_>) -> Result<(), SourceError> {
    if pattern.matches(TENANT).count() > 1 {
        return Err(invalid(pattern, "{tenant} stands in it more than once", "leave one of them"));
    }
    let mut base = PathBuf::new();
    let mut rest = PathBuf::new();
    let mut segment = None;
    for component in Path::new(pattern).components() {
        let part = component.as_os_str().to_string_lossy();
        match (&segment, part.split_once(TENANT)) {
            (None, Some((before, after))) => segment = Some((before.to_owned(), after.to_owned())),
            (None, None) => base.push(component),
            (Some(_), _) => rest.push(component),
        }
    }
    let Some((before, after)) = segment else { return Ok(()) };
    let base = if base.as_os_str().is_empty() { PathBuf::from(".") } else { base };
    for entry in std::fs::read_dir(&base).map_err(|error| failure::io(&base, error))? {
        let entry = entry.map_err(|error| failure::io(&base, error))?;
        let file_name = text(Path::new(&entry.file_name()))?;
        let tenant = file_name.strip_prefix(&before).and_then(|name| name.strip_suffix(&after));
        let Some(tenant) = tenant.filter(|tenant| !tenant.is_empty()) else { continue };
        let mut path = entry.path();
        if rest.as_os_str().is_empty() {
            if found.skip_companion(&path) {
                continue;
            }
        } else {
            path.push(&rest);
            if path.symlink_metadata().is_err() {
                found.skip(&path, "is not there");
                continue;
            }
        }
        let canonical = path.canonicalize().unwrap_or(path);
        found.add(tenant.to_owned(), canonical)?;
    }
    Ok(())
}

/// Returns a path as text; names have to be text to be kept in repositories and reports.
fn text(path: &Path) -> Result<String, SourceError> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| invalid(&path.display().to_string(), "its name is not valid UTF-8", "rename the file"))
}

fn invalid(object: &str, problem: &str, hint: &str) -> SourceError {
    SourceError::new(SourceErrorKind::Invalid, object, problem).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn companions_are_told_by_their_names() {
        let safety = SafetyNames::new(flow::SafetySuffix::new(".old").unwrap_or_default());
        for name in [
            "app.db-wal",
            "app.db-shm",
            "app.db-journal",
            "app.db.backstay-restore",
            "app.db.backstay-image",
            "app.db.safety-20261121T020000Z",
            "app.db.safety-20261121T020000Z-2",
            "app.db.old-20261121T020000Z",
            "app.db.old-20261121T020000Z-wal",
        ] {
            assert!(companion(name, &safety).is_some(), "{name}");
        }
        for name in
            ["app.db", "app.safety-net.db", "safety.db", "app.db.safety-2026", "app.db.bak-20261121T020000Z"]
        {
            assert!(companion(name, &safety).is_none(), "{name}");
        }
    }
}
