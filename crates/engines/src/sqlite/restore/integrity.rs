//! SQLite's own checks of the image, before it takes anybody's place.
//!
//! The image's blocks are those of the backup, so what `integrity_check` finds was so in the source: the restore
//! stops, for somebody must decide. A violated foreign key is content, which SQLite lets anybody write: a warning. The
//! image is read only and changed by none of it; nothing is left beside it. The parts of the check run side by side, and
//! where the quick ways ([`walk`](crate::sqlite::walk), [`indexes`], [`references`]) find no fault there is none; where they
//! have a doubt, SQLite's own checks decide.

use crate::restore::RestoreError;
use crate::sqlite::restore::indexes::{self, Indexed, Inventory, Sum};
use crate::sqlite::restore::job::Job;
use crate::sqlite::restore::opening::open;
use crate::sqlite::restore::references::{self, References};
use crate::sqlite::schema::quoted;
use crate::sqlite::walk::Verdict;
use flow::{Severity, SourceError, SourceErrorKind};
use rusqlite::{Connection, ErrorCode};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// How many of the problems are told in full.
const PROBLEMS_MAX: usize = 5;
/// How many violations of foreign keys are counted.
const VIOLATIONS_MAX: usize = 1000;

/// How many parts of the check run at once; they share the memory.
const THREADS: usize = 2;

/// Checks a database file that nobody uses. `walked` says what its pages told already, where all of them were in order.
pub(super) fn check(job: &Job, path: &Path, walked: Option<Verdict>) -> Result<(), RestoreError> {
    job.phase("checking", None);
    let doubts = doubts(job, path, walked);
    if doubts.none() {
        return Ok(());
    }
    job.check_cancel()?;
    let connection = open(path, 1).map_err(|error| damaged(path, &error))?;
    let interrupt = connection.get_interrupt_handle();
    let _guard = job.context.cancel.on_cancel(move || interrupt.interrupt());
    if doubts.content {
        check_content(job, path, &connection)?;
    }
    if doubts.references {
        check_references(job, path, &connection)?;
    }
    Ok(())
}

fn check_content(job: &Job, path: &Path, connection: &Connection) -> Result<(), RestoreError> {
    let problems = match problems_by(connection, "integrity_check") {
        Err(error) if is_about_the_program(&error) => {
            // Its indexes use collations or functions that only its program has; the structure can be checked still.
            remark(job, path, "integrity_check", &error);
            problems_by(connection, "quick_check")
        }
        result => result,
    };
    match problems {
        Ok(problems) if problems.is_empty() => {}
        Ok(problems) => return Err(found(path, &problems).into()),
        Err(error) if is_about_the_program(&error) => remark(job, path, "quick_check", &error),
        Err(error) => return Err(failure(job, path, error).into()),
    }
    Ok(())
}

fn check_references(job: &Job, path: &Path, connection: &Connection) -> Result<(), RestoreError> {
    match violations(connection, "PRAGMA foreign_key_check") {
        Ok((0, _)) => {}
        Ok((count, table)) => {
            let count = if count >= VIOLATIONS_MAX { format!("at least {count}") } else { count.to_string() };
            let message =
                format!("{count} rows, the first of table {table}, refer to rows that do not exist");
            let hint = "they were so when the backup was taken; list them with `PRAGMA foreign_key_check`";
            job.tell(Severity::Warning, job.target(), message, Some(hint.to_owned()));
        }
        Err(error) if is_about_the_program(&error) => remark(job, path, "foreign_key_check", &error),
        Err(error) => return Err(failure(job, path, error).into()),
    }
    Ok(())
}

/// One part of the check.
enum Part {
    /// Everything but what indexes hold.
    Quick,
    /// The same of one table.
    QuickTable(String),
    /// How many values refer to rows that do not exist.
    References(String),
    /// The foreign keys of this table, by `foreign_key_check`.
    ForeignKeys(String),
    /// This table and its indexes, by `integrity_check`.
    Table(String),
    /// What the rows say that the indexes of the table with this place hold.
    Rows(usize),
    /// What the index with this place of that table holds.
    Index(usize, usize),
}

/// What the quick ways could not tell to be in order. They say nothing of what is wrong, or whether anything is.
#[derive(Debug, Clone, Copy)]
struct Doubts {
    /// Pages, rows, indexes.
    content: bool,
    /// Foreign keys.
    references: bool,
}

impl Doubts {
    const ALL: Self = Self { content: true, references: true };
    const NONE: Self = Self { content: false, references: false };

    fn none(self) -> bool {
        !self.content && !self.references
    }
}

/// Lists what is left to be checked.
fn parts(inventory: &mut Inventory, references: References, walked: Option<Verdict>) -> VecDeque<Part> {
    let mut parts = VecDeque::new();
    let has_walked = walked.is_some();
    let walked = walked.unwrap_or_default();
    let is_left = |table: &str| !walked.tables.contains(table);
    inventory.compared.retain(|table| is_left(table.table()));
    if has_walked {
        let compared = inventory.compared.iter().map(|table| table.table().to_owned());
        let plain = inventory.plain.iter().filter(|table| is_left(table)).cloned();
        parts.extend(compared.chain(plain).map(Part::QuickTable));
    } else {
        parts.push_back(Part::Quick);
    }
    let queries =
        references.queries.into_iter().filter(|query| !walked.references.contains(&query.reference));
    parts.extend(queries.map(|query| Part::References(query.sql)));
    parts.extend(references.others.into_iter().map(Part::ForeignKeys));
    parts.extend(inventory.others.iter().filter(|table| is_left(table)).cloned().map(Part::Table));
    for (place, table) in inventory.compared.iter().enumerate() {
        parts.push_back(Part::Rows(place));
        parts.extend((0..table.index_count()).map(|number| Part::Index(place, number)));
    }
    parts
}

/// Runs the quick ways, side by side.
fn doubts(job: &Job, path: &Path, walked: Option<Verdict>) -> Doubts {
    let look =
        |connection: Connection| Ok((indexes::inventory(&connection)?, references::references(&connection)?));
    let Ok((Some(mut inventory), references)) = open(path, THREADS).and_then(look) else {
        return Doubts::ALL;
    };
    let parts = parts(&mut inventory, references, walked);
    if parts.is_empty() {
        return if job.context.cancel.is_cancelled() { Doubts::ALL } else { Doubts::NONE };
    }
    let sides = Mutex::new(Sides::of(&inventory.compared));
    let parts = Mutex::new(parts);
    let found = Mutex::new(Doubts::NONE);
    let worker = || {
        let connection = open(path, THREADS)?;
        let interrupt = connection.get_interrupt_handle();
        let _guard = job.context.cancel.on_cancel(move || interrupt.interrupt());
        loop {
            let part = parts.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(part) = part else { return Ok::<(), rusqlite::Error>(()) };
            let about_references = matches!(part, Part::References(_) | Part::ForeignKeys(_));
            if !is_sound(&connection, &inventory.compared, part, &sides) {
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                found.references |= about_references;
                found.content |= !about_references;
            }
        }
    };
    let finished = std::thread::scope(|scope| {
        let others: Vec<_> = (1..THREADS).map(|_| scope.spawn(worker)).collect();
        let finished = worker().is_ok();
        others.into_iter().fold(finished, |all, other| other.join().is_ok_and(|end| end.is_ok()) && all)
    });
    let agree = sides.into_inner().unwrap_or_else(PoisonError::into_inner).agree();
    if !finished || job.context.cancel.is_cancelled() {
        return Doubts::ALL;
    }
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    Doubts { content: found.content || !agree, ..found }
}

/// What the indexes of each table must hold, and what they do.
struct Sides {
    wanted: Vec<Vec<Option<Sum>>>,
    found: Vec<Vec<Option<Sum>>>,
}

impl Sides {
    fn of(tables: &[Indexed]) -> Self {
        let empty: Vec<Vec<Option<Sum>>> =
            tables.iter().map(|table| vec![None; table.index_count()]).collect();
        Self { wanted: empty.clone(), found: empty }
    }

    fn agree(&self) -> bool {
        self.wanted == self.found && self.wanted.iter().flatten().all(Option::is_some)
    }
}

fn is_sound(connection: &Connection, tables: &[Indexed], part: Part, sides: &Mutex<Sides>) -> bool {
    let sides = || sides.lock().unwrap_or_else(PoisonError::into_inner);
    match part {
        Part::Quick => problems_by(connection, "quick_check").is_ok_and(|problems| problems.is_empty()),
        Part::QuickTable(name) => {
            table_problems(connection, "quick_check", &name).is_ok_and(|problems| problems.is_empty())
        }
        Part::References(query) => {
            connection.query_row(&query, [], |row| row.get::<_, i64>(0)).is_ok_and(|missing| missing == 0)
        }
        Part::ForeignKeys(table) => {
            let check = format!("PRAGMA foreign_key_check({})", quoted(&table));
            violations(connection, &check).is_ok_and(|(count, _)| count == 0)
        }
        Part::Table(name) => {
            table_problems(connection, "integrity_check", &name).is_ok_and(|problems| problems.is_empty())
        }
        Part::Rows(place) => match tables[place].sum_rows(connection) {
            Ok(sums) => {
                sides().wanted[place] = sums.into_iter().map(Some).collect();
                true
            }
            Err(_) => false,
        },
        Part::Index(place, number) => match tables[place].sum_index(connection, number) {
            Ok(Some(sum)) => {
                sides().found[place][number] = Some(sum);
                true
            }
            _ => false,
        },
    }
}

fn table_problems(connection: &Connection, pragma: &str, table: &str) -> rusqlite::Result<Vec<String>> {
    let check = format!("PRAGMA {pragma}({})", quoted(table));
    let mut statement = connection.prepare(&check)?;
    let problems: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(problems.into_iter().filter(|problem| problem != "ok").collect())
}

fn problems_by(connection: &Connection, pragma: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("PRAGMA {pragma}({})", PROBLEMS_MAX + 1))?;
    let mut rows = statement.query([])?;
    let mut problems = Vec::new();
    while let Some(row) = rows.next()? {
        let problem: String = row.get(0)?;
        if problem != "ok" {
            problems.push(problem);
        }
    }
    Ok(problems)
}

fn violations(connection: &Connection, check: &str) -> rusqlite::Result<(usize, String)> {
    let mut statement = connection.prepare(check)?;
    let mut rows = statement.query([])?;
    let (mut count, mut first) = (0, String::new());
    while let Some(row) = rows.next()? {
        if count == 0 {
            first = row.get(0)?;
        }
        count += 1;
        if count >= VIOLATIONS_MAX {
            break;
        }
    }
    Ok((count, first))
}

/// Tells whether a check could not be run for want of something that only the database's own program has: a
/// collation, a function, a module.
fn is_about_the_program(error: &rusqlite::Error) -> bool {
    let code = match error {
        rusqlite::Error::SqliteFailure(inner, _) => inner.extended_code,
        rusqlite::Error::SqlInputError { error, .. } => error.extended_code,
        _ => return false,
    };
    code & 0xff == rusqlite::ffi::SQLITE_ERROR
}

fn remark(job: &Job, path: &Path, pragma: &str, error: &rusqlite::Error) {
    let message = format!("{pragma} cannot be run on it here: {error}");
    let hint = "run it in the program that the database belongs to, after the restore";
    job.tell(Severity::Warning, path, message, Some(hint.to_owned()));
}

fn found(path: &Path, problems: &[String]) -> SourceError {
    let mut list = problems.iter().take(PROBLEMS_MAX).cloned().collect::<Vec<_>>().join("; ");
    if problems.len() > PROBLEMS_MAX {
        list.push_str("; and more");
    }
    SourceError::new(
        SourceErrorKind::Damaged,
        path.display().to_string(),
        format!("the source was damaged already when it was backed up: {list}"),
    )
    .with_hint("restore an older backup, or this one as it is with `--no-verify`")
}

fn damaged(path: &Path, error: &rusqlite::Error) -> SourceError {
    found(path, &[error.to_string()])
}

fn failure(job: &Job, path: &Path, error: rusqlite::Error) -> SourceError {
    match error.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => SourceError::cancelled(job.object()),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(path, &error),
        _ => SourceError::new(SourceErrorKind::Failed, path.display().to_string(), "cannot be checked")
            .with_hint("look at the cause; `--no-verify` restores without the checks")
            .with_source(error),
    }
}
