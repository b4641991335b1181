//! What belongs to a database and stands in no dump of its content: owner, rights, settings, limits, comment. Taken from
//! the database that is replaced, where there is one, else from the backup.

use super::keeper::Keeper;
use super::names::{literal, quoted};
use super::tables::decoded;
use crate::postgres::archive::TableOfContents;
use crate::postgres::session::Session;
use crate::postgres::statements::{after_word, for_database, statements, with_roles};
use crate::restore::Ownership;
use flow::SourceError;
use std::collections::BTreeSet;

/// Settings whose value is a list of names, each quoted by itself, as `pg_dump` knows them.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// Statements that give a database what it is to have.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Properties {
    /// In their order; each may be refused for want of rights without harm to the content.
    pub(super) statements: Vec<String>,
    /// The comment as SQL: a text in quotes.
    pub(super) comment: Option<String>,
}

/// Returns those of an existing database, for the name `target`.
pub(super) fn of_old(
    keeper: &mut Keeper,
    oid: u32,
    comment: Option<&str>,
    target: &str,
) -> Result<Properties, SourceError> {
    let name = quoted(target);
    let mut made = Properties { statements: Vec::new(), comment: comment.map(literal) };
    let session = &mut keeper.session;
    let row = session.query_one(
        "SELECT pg_catalog.pg_get_userbyid(datdba)::text, datconnlimit, datistemplate, datallowconn
         FROM pg_catalog.pg_database WHERE oid = $1",
        &[&oid],
    )?;
    let (owner, limit): (String, i32) = (session.field(&row, 0)?, session.field(&row, 1)?);
    let (template, allowed): (bool, bool) = (session.field(&row, 2)?, session.field(&row, 3)?);
    made.statements.push(format!("ALTER DATABASE {name} OWNER TO {}", quoted(&owner)));
    made.statements.push(format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC, {}", quoted(&owner)));
    let rights = session.query(
        "SELECT CASE WHEN x.grantee = 0 THEN NULL ELSE pg_catalog.pg_get_userbyid(x.grantee)::text END,
           x.privilege_type, x.is_grantable
         FROM pg_catalog.pg_database d,
              pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) x WHERE d.oid = $1",
        &[&oid],
    )?;
    for row in rights {
        let grantee: Option<String> = session.field(&row, 0)?;
        let (right, grantable): (String, bool) = (session.field(&row, 1)?, session.field(&row, 2)?);
        let grantee = grantee.map_or_else(|| "PUBLIC".to_owned(), |role| quoted(&role));
        let option = if grantable { " WITH GRANT OPTION" } else { "" };
        made.statements.push(format!("GRANT {right} ON DATABASE {name} TO {grantee}{option}"));
    }
    made.statements.push(format!(
        "ALTER DATABASE {name} WITH CONNECTION LIMIT {} ALLOW_CONNECTIONS {allowed} IS_TEMPLATE {template}",
        limit.max(-1)
    ));
    let settings = session.query(
        "SELECT r.rolname::text, unnest(s.setconfig) FROM pg_catalog.pg_db_role_setting s
         LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
         WHERE s.setdatabase = $1 AND (s.setrole = 0 OR r.oid IS NOT NULL)",
        &[&oid],
    )?;
    for row in settings {
        let (role, setting): (Option<String>, String) = (session.field(&row, 0)?, session.field(&row, 1)?);
        let Some((key, value)) = setting.split_once('=') else { continue };
        let whose = match role {
            None => format!("ALTER DATABASE {name}"),
            Some(role) => format!("ALTER ROLE {} IN DATABASE {name}", quoted(&role)),
        };
        made.statements.push(format!("{whose} SET {} TO {}", key_of(key), value_of(key, value)));
    }
    let labels = session.query(
        "SELECT provider, label FROM pg_catalog.pg_shseclabel
         WHERE classoid = 'pg_catalog.pg_database'::regclass AND objoid = $1",
        &[&oid],
    )?;
    for row in labels {
        let (provider, label): (String, String) = (session.field(&row, 0)?, session.field(&row, 1)?);
        let label = literal(&label);
        made.statements
            .push(format!("SECURITY LABEL FOR {} ON DATABASE {name} IS {label}", quoted(&provider)));
    }
    Ok(made)
}

/// A name of a setting: `work_mem`, `plugin.colour`.
fn key_of(key: &str) -> String {
    key.split('.').map(quoted).collect::<Vec<_>>().join(".")
}

fn value_of(key: &str, value: &str) -> String {
    if !LISTS.contains(&key.to_ascii_lowercase().as_str()) {
        return literal(value);
    }
    let (mut items, mut item, mut inside) = (Vec::new(), String::new(), false);
    let mut letters = value.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if inside && letters.peek() == Some(&'"') => {
                letters.next();
                item.push('"');
            }
            '"' => inside = !inside,
            ',' if !inside => items.push(std::mem::take(&mut item)),
            ' ' if !inside => {}
            letter => item.push(letter),
        }
    }
    items.push(item);
    items.iter().map(|item| literal(item)).collect::<Vec<_>>().join(", ")
}

/// Returns those that the backup has, for the name `target`; rights of roles that are `missing` are left out.
pub(super) fn of_archive(
    session: &mut Session,
    toc: &TableOfContents,
    encoding: &str,
    (ownership, missing): (&Ownership, &BTreeSet<String>),
    target: &str,
) -> Result<Properties, SourceError> {
    let name = quoted(target);
    let mapped = |role: &str| ownership.role_map.get(role).cloned();
    let mut made = Properties::default();
    for entry in &toc.entries {
        let about = entry.tag.as_ref().is_some_and(|tag| tag.starts_with(b"DATABASE "));
        if !about && !entry.is("DATABASE") && !entry.is("DATABASE PROPERTIES") {
            continue;
        }
        let bytes = |text: &Option<Vec<u8>>| text.clone().unwrap_or_default();
        let mut texts = decoded(session, vec![bytes(&entry.definition), bytes(&entry.owner)], encoding)?;
        let owner = texts.pop().unwrap_or_default();
        let definition = texts.pop().unwrap_or_default();
        if entry.is("DATABASE") {
            let owner = mapped(&owner).unwrap_or(owner);
            if !ownership.no_owner && !owner.is_empty() {
                made.statements.insert(0, format!("ALTER DATABASE {name} OWNER TO {}", quoted(&owner)));
            }
            made.statements.push(format!("GRANT CONNECT, TEMPORARY ON DATABASE {name} TO PUBLIC"));
        } else if entry.is("COMMENT") && about {
            made.comment = statements(&definition)
                .first()
                .and_then(|statement| after_word(statement, "IS"))
                .map(str::to_owned);
        } else if entry.is("DATABASE PROPERTIES")
            || (about && (entry.is("ACL") || entry.is("SECURITY LABEL")))
        {
            for statement in statements(&definition) {
                let statement = with_roles(statement, mapped);
                let named = crate::postgres::statements::roles(&statement);
                if named.iter().any(|(_, role)| missing.contains(role)) {
                    continue;
                }
                made.statements.extend(for_database(&statement, target));
            }
        }
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_names_are_quoted_one_by_one() {
        assert_eq!(
            value_of("search_path", "\"$user\", public, \"a, b\"\"c\""),
            "'$user', 'public', 'a, b\"c'"
        );
        assert_eq!(value_of("search_path", "\"\""), "''");
        assert_eq!(value_of("work_mem", "5MB"), "'5MB'");
        assert_eq!(value_of("DateStyle", "ISO, DMY"), "'ISO, DMY'");
        assert_eq!(key_of("plug.Colour"), "\"plug\".\"Colour\"");
    }
}
