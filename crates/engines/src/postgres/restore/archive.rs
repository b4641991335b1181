//! The backup's table of contents, as a restore uses it: without rows for the definitions, whole for indexes and
//! constraints, with other roles where that is asked for; and what it needs of the server.

use crate::postgres::archive::{ArchiveError, DataPlace, Entry, TableOfContents};
use crate::postgres::needs::WITH_ROLES;
use crate::postgres::statements::{roles, statements, with_roles};
use crate::restore::{Ownership, RestoreError};
use flow::{BackupReader, EntryName, Manifest, ManifestEntry, ReadError, ReadErrorKind};
use std::collections::BTreeSet;
use std::io::{BufReader, Read};

pub(super) const TOC: &str = "toc.dat";
pub(super) const GLOBALS: &str = "globals.sql";
/// More is no list of roles.
const GLOBALS_MAX_BYTES: u64 = 64 << 20;
/// Returns an entry of the manifest.
pub(super) fn entry<'a>(manifest: &'a Manifest, name: &str) -> Result<&'a ManifestEntry, ReadError> {
    let found = manifest.entries.iter().find(|entry| entry.name.as_str() == name);
    found.ok_or_else(|| ReadError::new(ReadErrorKind::Missing, name, "the backup does not hold it"))
}

/// Reads the table of contents.
pub(super) fn read(backup: &dyn BackupReader) -> Result<TableOfContents, RestoreError> {
    let entry = entry(backup.manifest(), TOC)?;
    let reader = backup.read(&entry.name, 0..entry.size_bytes)?;
    let toc = TableOfContents::read(BufReader::new(reader)).map_err(|error| match error {
        ArchiveError::Io(error) => ReadError::from_io(error, TOC),
        other => ReadError::new(ReadErrorKind::Damaged, TOC, other.to_string()),
    })?;
    Ok(toc)
}

/// Reads roles and tablespaces; nothing where the backup has none.
pub(super) fn globals(backup: &dyn BackupReader) -> Result<String, RestoreError> {
    let Ok(entry) = entry(backup.manifest(), GLOBALS) else { return Ok(String::new()) };
    let mut bytes = Vec::new();
    let reader = backup.read(&entry.name, 0..entry.size_bytes)?;
    reader
        .take(GLOBALS_MAX_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|error| ReadError::from_io(error, GLOBALS))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the large objects of a backup, with their entries.
pub(super) fn large_objects(manifest: &Manifest) -> Vec<(u32, &ManifestEntry)> {
    let oid = |name: &EntryName| name.as_str().strip_prefix("blob_")?.strip_suffix(".dat")?.parse().ok();
    manifest.entries.iter().filter_map(|entry| Some((oid(&entry.name)?, entry))).collect()
}

/// Returns the file of an entry that has rows.
pub(super) fn rows_file(entry: &Entry) -> Option<&str> {
    let DataPlace::File(Some(name)) = &entry.place else { return None };
    std::str::from_utf8(name).ok().filter(|name| entry.is("TABLE DATA") && !name.is_empty())
}

fn text(bytes: Option<&Vec<u8>>) -> Option<&str> {
    std::str::from_utf8(bytes?).ok().filter(|text| !text.is_empty())
}

/// Returns the archive with roles as they are to be on this server: mapped ones by their new names, and, where no
/// owners are wanted, rights without those for roles that are `missing`; nothing where it stays as it is. Beside it how many
/// rights went.
pub(super) fn adapted(
    toc: &TableOfContents,
    ownership: &Ownership,
    missing: &BTreeSet<String>,
) -> (Option<TableOfContents>, u64) {
    let mut left_out = 0;
    if ownership.role_map.is_empty() && (missing.is_empty() || !ownership.no_owner) {
        return (None, 0);
    }
    let mut toc = toc.clone();
    let mapped = |role: &str| ownership.role_map.get(role).cloned();
    for entry in &mut toc.entries {
        if let Some(new) = text(entry.owner.as_ref()).and_then(mapped) {
            entry.owner = Some(new.into_bytes());
        }
        let Some(definition) = text(entry.definition.as_ref()) else { continue };
        if !WITH_ROLES.iter().any(|kind| entry.is(kind)) {
            continue;
        }
        let is_right = entry.is("ACL") || entry.is("DEFAULT ACL");
        let mut kept = String::new();
        for statement in statements(definition) {
            let statement = with_roles(statement, mapped);
            let names_missing = roles(&statement).iter().any(|(_, role)| missing.contains(role));
            if is_right && ownership.no_owner && names_missing {
                left_out += 1;
                continue;
            }
            kept.push_str(&statement);
            kept.push_str(";\n");
        }
        entry.definition = Some(kept.into_bytes());
    }
    (Some(toc), left_out)
}

/// Returns the archive without what is loaded by us: rows and large objects.
pub(super) fn without_data(toc: &TableOfContents) -> TableOfContents {
    let entries = toc.entries.iter().filter(|entry| !entry.had_dumper).cloned().collect();
    TableOfContents { header: toc.header.clone(), entries }
}

/// Returns those of the statements of `globals.sql` that make the named roles, with what belongs to them.
pub(super) fn making(globals: &str, wanted: &BTreeSet<String>) -> Vec<String> {
    let about = |statement: &&str| {
        let named = roles(statement);
        let first = named.first().map(|(_, role)| role.as_str());
        match statement.get(..5) {
            Some("CREAT" | "ALTER") => first.is_some_and(|role| wanted.contains(role)),
            // A membership: `GRANT group TO member`, of which the group is no role by its place.
            Some("GRANT") => first.is_some_and(|role| wanted.contains(role)),
            _ => false,
        }
    };
    statements(globals).into_iter().filter(about).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_wanted_roles_are_made() {
        let globals = "SET x = on;\nCREATE ROLE a;\nALTER ROLE a WITH NOSUPERUSER;\nCREATE ROLE b;\n\
                       ALTER ROLE a SET work_mem TO '1MB';\nGRANT b TO a WITH INHERIT TRUE GRANTED BY postgres;\n\
                       CREATE TABLESPACE t OWNER a LOCATION '/x';\n";
        let wanted = BTreeSet::from(["a".to_owned()]);
        assert_eq!(
            making(globals, &wanted),
            [
                "CREATE ROLE a",
                "ALTER ROLE a WITH NOSUPERUSER",
                "ALTER ROLE a SET work_mem TO '1MB'",
                "GRANT b TO a WITH INHERIT TRUE GRANTED BY postgres"
            ]
        );
    }
}
