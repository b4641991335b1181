//! The statements of a text, one after the other, by one session; `INSERT`s many at a time.
//!
//! Owners, rights and roles are given as they are asked for; what a text does to its own database and settings of its own
//! connection is left out.

use super::failing::{self, Failing, Told};
use crate::postgres::restore::names::quoted;
use crate::postgres::restore::owners::{self, Lent};
use crate::postgres::script::{Broken, Meaning, meaning, session_role, setting};
use crate::postgres::session::Session;
use crate::postgres::statements::{owner, roles, with_roles};
use crate::restore::Ownership;
use flow::{Manifest, Severity, SourceError, SourceErrorKind};
use std::collections::BTreeSet;
use std::ops::Range;

/// How much of `INSERT`s is sent at once.
const BATCH_BYTES: usize = 256 << 10;

/// A text that is being loaded.
pub(in crate::postgres::restore) struct Loading<'a> {
    pub(in crate::postgres::restore) session: &'a mut Session,
    /// What errors call the database, and its name at the server.
    pub(in crate::postgres::restore) target: &'a str,
    database: &'a str,
    /// Whether it is one that is there already, within a transaction of ours.
    pub(super) is_live: bool,
    /// What errors call the text.
    pub(in crate::postgres::restore) object: &'a str,
    /// The encoding of the text from here on, in capitals.
    pub(super) encoding: String,
    ownership: &'a Ownership,
    missing: &'a BTreeSet<String>,
    /// Roles that need rights for a time, so that objects can be given to them.
    others: BTreeSet<String>,
    lent: Vec<Lent>,
    /// The role as which the text acts, where that is another one than ours.
    acting: Option<String>,
    /// Whether rights were given already.
    gave_rights: bool,
    /// Whether a transaction of the text's own is open.
    in_transaction: bool,
    batch: Batch,
    left_out: u64,
    told: Vec<(Severity, String)>,
}

/// `INSERT`s that wait to be sent.
#[derive(Default)]
struct Batch {
    sql: String,
    /// Where each is, and the line in which it begins.
    parts: Vec<(u64, Range<usize>)>,
}

impl<'a> Loading<'a> {
    pub(in crate::postgres::restore) fn new(
        session: &'a mut Session,
        (target, database): (&'a str, &'a str),
        manifest: &'a Manifest,
        ownership: &'a Ownership,
        missing: &'a BTreeSet<String>,
        others: BTreeSet<String>,
    ) -> Self {
        Self {
            session,
            target,
            database,
            is_live: false,
            object: &manifest.connection,
            encoding: "UTF8".to_owned(),
            ownership,
            missing,
            others,
            lent: Vec::new(),
            acting: None,
            gave_rights: false,
            in_transaction: false,
            batch: Batch::default(),
            left_out: 0,
            told: Vec::new(),
        }
    }

    /// Takes it as one for a database that is there already, within the transaction that is open.
    pub(in crate::postgres::restore) fn into_live(self) -> Self {
        Self { is_live: true, in_transaction: true, ..self }
    }

    /// Returns what is to be said once all of it was loaded.
    pub(super) fn told(&mut self) -> Vec<(Severity, String)> {
        let mut told = std::mem::take(&mut self.told);
        if self.left_out > 0 {
            let roles: Vec<&str> = self.missing.iter().map(String::as_str).collect();
            let message = format!(
                "{} rights were left out, of roles that are not there: {}",
                self.left_out,
                roles.join(", ")
            );
            told.push((Severity::Warning, message));
        }
        told
    }

    /// Makes the error of a text that cannot be read on.
    pub(in crate::postgres::restore) fn unread(&self, broken: Broken) -> SourceError {
        match broken {
            Broken::Io(error) => {
                SourceError::new(SourceErrorKind::Unreadable, self.object, "cannot be read once more")
                    .with_source(error)
            }
            Broken::Damaged(problem) => SourceError::new(SourceErrorKind::Damaged, self.object, problem),
        }
    }

    /// Tells whether the text needs no conversion to our own encoding.
    pub(super) fn is_ours(&self) -> bool {
        ["UTF8", "UTF-8", "UNICODE", "SQL_ASCII", "DEFAULT"].contains(&self.encoding.as_str())
    }

    /// Returns a statement in our own encoding. The server converts what is in another one.
    pub(in crate::postgres::restore) fn decoded(
        &mut self,
        line: u64,
        statement: Vec<u8>,
    ) -> Result<String, SourceError> {
        if self.is_ours() || statement.is_ascii() {
            return String::from_utf8(statement).map_err(|_| self.undecoded(line));
        }
        self.flush()?;
        let sql = "SELECT pg_catalog.convert_from($1, $2)";
        let row = self.session.query_one(sql, &[&statement, &self.encoding])?;
        self.session.field(&row, 0)
    }

    /// Runs a statement whose texts are in no encoding that is known, byte for byte: the server makes it of bytes, and runs it
    /// from within. A database with an encoding refuses such bytes.
    pub(super) fn raw(&mut self, line: u64, statement: &[u8]) -> Result<(), SourceError> {
        let text = String::from_utf8_lossy(statement);
        let of_roles = [Meaning::Owner, Meaning::Right, Meaning::Session];
        match meaning(&text) {
            Meaning::Limit | Meaning::Database => return Ok(()),
            // What others must understand too, or what only a session of its own may run.
            meaning if of_roles.contains(&meaning) => return Err(self.undecoded(line)),
            Meaning::Copy | Meaning::Encoding | Meaning::Begin | Meaning::End => {
                return Err(self.undecoded(line));
            }
            _ => {}
        }
        self.flush()?;
        let kept = "SELECT pg_catalog.set_config('backstay.statement', pg_catalog.convert_from($1, 'SQL_ASCII'), false)
                    IS NOT NULL";
        let kept = self.session.try_query(kept, &[&statement])?;
        kept.map_err(|error| self.failed(line, &text, &error))?;
        let run =
            "DO $backstay$ BEGIN EXECUTE pg_catalog.current_setting('backstay.statement'); END $backstay$";
        let done = self.session.try_execute(run)?;
        done.map_err(|error| self.failed(line, &text, &error))
    }

    fn undecoded(&self, line: u64) -> SourceError {
        let message = format!("line {line}: the statement is no UTF-8, and the text says no other encoding");
        SourceError::new(SourceErrorKind::Unsupported, self.object, message)
            .with_hint("`psql -X -v ON_ERROR_STOP=1 -f FILE` loads it into a database of encoding SQL_ASCII")
    }

    /// Takes an `INSERT`, which is sent with others.
    pub(in crate::postgres::restore) fn insert(&mut self, line: u64, text: &str) -> Result<(), SourceError> {
        let start = self.batch.sql.len();
        self.batch.sql.push_str(text);
        self.batch.parts.push((line, start..self.batch.sql.len()));
        self.batch.sql.push_str(";\n");
        if self.batch.sql.len() >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Sends the `INSERT`s that wait. Where one fails all of them are taken back, and it is looked for.
    pub(in crate::postgres::restore) fn flush(&mut self) -> Result<(), SourceError> {
        let Batch { sql, parts } = std::mem::take(&mut self.batch);
        if parts.is_empty() {
            return Ok(());
        }
        let done = match self.in_transaction {
            true => self.session.try_apart(&sql)?,
            false => self.session.try_execute(&sql)?,
        };
        let Err(error) = done else { return Ok(()) };
        for (line, part) in &parts {
            let text = &sql[part.clone()];
            let error = match parts.len() {
                1 => Err(&error),
                _ => match self.session.try_execute(text)? {
                    Ok(()) => Ok(()),
                    Err(error) => return Err(self.failed(*line, text, &error)),
                },
            };
            if let Err(error) = error {
                return Err(self.failed(*line, text, error));
            }
        }
        Ok(())
    }

    /// Makes the error of a statement that the server refused.
    pub(in crate::postgres::restore) fn failed(
        &self,
        line: u64,
        text: &str,
        error: &tokio_postgres::Error,
    ) -> SourceError {
        let (object, target, is_live) = (self.object, self.target, self.is_live);
        failing::failed(&Failing { object, target, line, text, is_live }, error)
    }

    /// Runs any other statement, as it is meant here.
    pub(in crate::postgres::restore) fn statement(
        &mut self,
        line: u64,
        text: String,
        meaning: Meaning,
    ) -> Result<(), SourceError> {
        let no_owner = self.ownership.no_owner;
        match meaning {
            Meaning::Limit | Meaning::Database => return Ok(()),
            Meaning::Owner | Meaning::Session if no_owner => return Ok(()),
            Meaning::Encoding => {
                let named = setting(text.as_bytes(), "client_encoding");
                let named = named.or_else(|| text.split_ascii_whitespace().last().map(str::to_owned));
                self.encoding = named.unwrap_or_default().trim_matches('\'').to_uppercase();
                return Ok(());
            }
            Meaning::Right => {
                self.take_back()?;
                let names_missing = roles(&text).iter().any(|(_, role)| self.missing.contains(role));
                if no_owner && names_missing {
                    self.left_out += 1;
                    return Ok(());
                }
            }
            _ => {}
        }
        let text = if self.ownership.role_map.is_empty() { text } else { self.mapped(meaning, text) };
        if meaning == Meaning::Session {
            self.act(session_role(&text))?;
        }
        self.run_one(line, &text, meaning)?;
        match meaning {
            Meaning::Begin => self.in_transaction = true,
            Meaning::End => self.in_transaction = false,
            Meaning::Schema => self.lend()?,
            _ => {}
        }
        Ok(())
    }

    /// Runs a statement. What has nothing to take away in a new database, and what is no part of the content, may fail.
    fn run_one(&mut self, line: u64, text: &str, meaning: Meaning) -> Result<(), SourceError> {
        let may_fail = failing::may_fail(meaning);
        let done = match self.in_transaction && may_fail {
            true => self.session.try_apart(text)?,
            false => self.session.try_execute(text)?,
        };
        let Err(error) = done else { return Ok(()) };
        match failing::passed_over(meaning, text, &error) {
            Told::Fails => Err(self.failed(line, text, &error)),
            Told::Nothing => Ok(()),
            Told::Warning => {
                let error = self.failed(line, text, &error);
                self.told
                    .push((Severity::Warning, format!("{}: passed over: {}", self.object, error.message)));
                Ok(())
            }
        }
    }

    /// Returns a statement with the roles that it is to name here.
    fn mapped(&self, meaning: Meaning, text: String) -> String {
        let new = |role: &str| self.ownership.role_map.get(role).cloned();
        match meaning {
            Meaning::Owner => match owner(&text).and_then(|(span, role)| Some((span, new(&role)?))) {
                Some((span, role)) => {
                    format!("{}{}{}", &text[..span.start], quoted(&role), &text[span.end..])
                }
                None => text,
            },
            Meaning::Session => match session_role(&text).and_then(|role| new(&role)) {
                Some(role) => format!("SET SESSION AUTHORIZATION {}", quoted(&role)),
                None => text,
            },
            Meaning::Right | Meaning::Other => with_roles(&text, new),
            _ => text,
        }
    }

    /// Prepares for what is done in the name of another role, or of ours again.
    fn act(&mut self, role: Option<String>) -> Result<(), SourceError> {
        self.session.execute("RESET SESSION AUTHORIZATION")?;
        self.acting = None;
        if !self.gave_rights {
            self.others.extend(role.clone());
            self.lend()?;
        }
        self.acting = role;
        Ok(())
    }

    /// Lets owners make objects where they may not, for the time until rights are given.
    pub(super) fn lend(&mut self) -> Result<(), SourceError> {
        if !self.others.is_empty() && self.acting.is_none() {
            let lent = owners::lend(self.session, &self.others, self.database)?;
            self.lent.push(lent);
        }
        Ok(())
    }

    /// Takes it back: what the text gives from here on stays.
    pub(super) fn take_back(&mut self) -> Result<(), SourceError> {
        self.gave_rights = true;
        self.others.clear();
        let lent = std::mem::take(&mut self.lent);
        if lent.is_empty() {
            return Ok(());
        }
        if self.acting.is_some() {
            self.session.execute("RESET SESSION AUTHORIZATION")?;
        }
        for lent in lent {
            lent.take_back(self.session)?;
        }
        match &self.acting {
            Some(role) => self.session.execute(&format!("SET SESSION AUTHORIZATION {}", quoted(role))),
            None => Ok(()),
        }
    }
}
