//! The database that a restore makes: empty at first, and with a record before anybody can connect to it.
//!
//! A crash between its making and its record leaves one that nobody ever could connect to; the next restore drops it.

use super::job::Job;
use super::names::{beside, literal, quoted};
use super::record;
use super::tables::decoded;
use crate::postgres::archive::TableOfContents;
use crate::postgres::failure;
use crate::postgres::session::Session;
use crate::postgres::statements::{after_word, before_word, name_after, statements};
use flow::{SourceError, SourceErrorKind};

/// Makes the empty database, which nobody can connect to before it has a record.
pub(super) fn make(job: &mut Job, toc: &TableOfContents) -> Result<(), SourceError> {
    let wanted = beside(&job.work.target, record::SCRATCH, job.state.request.started);
    let name = job.keeper.free_name(&wanted)?;
    let old = job.keeper.listed(&job.work.target)?;
    let encoding = encoding_of(toc);
    let definition =
        toc.entries.iter().find(|entry| entry.is("DATABASE")).and_then(|entry| entry.definition.clone());
    let texts = definition.into_iter().collect();
    let definition = decoded(&mut job.keeper.session, texts, &encoding)?.pop().unwrap_or_default();
    let create = statements(&definition).first().copied().unwrap_or_default();
    let mut options = match (after_word(create, "WITH"), &old) {
        (Some(options), _) => before_word(options, "TABLESPACE").to_owned(),
        // SQL text does not say what its database was like.
        (None, Some(old)) if create.is_empty() => like(&mut job.keeper.session, old.oid)?,
        (None, None) if create.is_empty() && encoding != "UTF8" => "TEMPLATE = template0".to_owned(),
        (None, _) => format!("TEMPLATE = template0 ENCODING = {}", literal(&encoding)),
    };
    let own = name_after(create, "TABLESPACE").filter(|_| after_word(create, "TABLESPACE").is_some());
    let tablespace = old.map(|old| old.tablespace).or(own).filter(|name| name != "pg_default");
    if let Some(tablespace) = tablespace {
        options.push_str(&format!(" TABLESPACE = {}", quoted(&tablespace)));
    }
    let sql = format!(
        "CREATE DATABASE {} WITH {options} ALLOW_CONNECTIONS = false CONNECTION LIMIT = 0",
        quoted(&name)
    );
    job.keeper.session.try_execute(&sql)?.map_err(|error| {
        let action = format!("the database {name} cannot be made beside it");
        let made = failure::server(&job.keeper.object, &action, &error);
        let hint = made.hint.clone().unwrap_or_else(|| {
            "the backup's encoding and locale must be there on this server: see `SELECT * FROM pg_collation`".to_owned()
        });
        SourceError { kind: SourceErrorKind::Unwritable, hint: Some(hint), ..made }
    })?;
    let oid = job.keeper.oid(&name)?.ok_or_else(|| job.error(SourceErrorKind::Failed, "was not made"))?;
    (job.work.scratch, job.work.scratch_oid, job.work.loading) = (name, oid, false);
    Ok(())
}

/// Returns the options that make a database with the encoding and the locale of another one.
fn like(session: &mut Session, oid: u32) -> Result<String, SourceError> {
    // Which columns there are differs between versions.
    let sql = "SELECT pg_catalog.pg_encoding_to_char(d.encoding)::text, d.datcollate::text, d.datctype::text,
                 pg_catalog.to_jsonb(d) ->> 'datlocprovider',
                 coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale', pg_catalog.to_jsonb(d) ->> 'daticulocale'),
                 pg_catalog.to_jsonb(d) ->> 'daticurules'
               FROM pg_catalog.pg_database d WHERE d.oid = $1";
    let row = session.query_one(sql, &[&oid])?;
    let mut options = "TEMPLATE = template0".to_owned();
    for (name, at) in [("ENCODING", 0), ("LC_COLLATE", 1), ("LC_CTYPE", 2)] {
        let value: String = session.field(&row, at)?;
        options.push_str(&format!(" {name} = {}", literal(&value)));
    }
    let provider: Option<String> = session.field(&row, 3)?;
    let locale: Option<String> = session.field(&row, 4)?;
    let rules: Option<String> = session.field(&row, 5)?;
    let named = match provider.as_deref() {
        Some("i") => Some(("icu", "ICU_LOCALE")),
        Some("b") => Some(("builtin", "BUILTIN_LOCALE")),
        _ => None,
    };
    if let Some((provider, key)) = named {
        options.push_str(&format!(" LOCALE_PROVIDER = {provider}"));
        options.extend(locale.map(|locale| format!(" {key} = {}", literal(&locale))));
        options.extend(rules.map(|rules| format!(" ICU_RULES = {}", literal(&rules))));
    }
    Ok(options)
}

/// Returns the encoding that an archive says its texts have.
pub(super) fn encoding_of(toc: &TableOfContents) -> String {
    let definition = toc.entries.iter().find(|entry| entry.is("ENCODING")).and_then(|entry| {
        std::str::from_utf8(entry.definition.as_deref()?).ok().and_then(|text| text.split('\'').nth(1))
    });
    definition.unwrap_or("UTF8").to_owned()
}

/// Drops what a restore left that ended between making a database and recording it: nobody ever could connect to it.
pub(super) fn drop_unrecorded(job: &mut Job) -> Result<(), SourceError> {
    let sql = "SELECT oid, datname::text FROM pg_catalog.pg_database
               WHERE NOT datallowconn AND datconnlimit = 0
                 AND pg_catalog.shobj_description(oid, 'pg_database') IS NULL";
    for row in job.keeper.session.query(sql, &[])? {
        let (oid, name): (u32, String) =
            (job.keeper.session.field(&row, 0)?, job.keeper.session.field(&row, 1)?);
        if super::names::is_beside(&name, &job.work.target, record::SCRATCH) {
            job.keeper.drop_database(oid)?;
        }
    }
    Ok(())
}

/// Drops the databases that have this restore's record too: of attempts before a crash.
pub(super) fn drop_earlier(job: &mut Job) -> Result<(), SourceError> {
    for recorded in record::of_target(&mut job.keeper)? {
        let same = recorded.state.request.started == job.state.request.started;
        if same && recorded.oid != job.work.scratch_oid && recorded.name != job.work.target {
            job.keeper.drop_database(recorded.oid)?;
        }
    }
    Ok(())
}
