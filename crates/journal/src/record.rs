//! What the journal records, and how it is written and read.

use crate::{Journal, JournalError};
use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Older runs are dropped when a new one begins, so that the file stays small.
const RUNS_KEPT: i64 = 1000;
const STEPS_KEPT: i64 = 10_000;

/// A run in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub i64);

/// How a run or a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All of it is done.
    Done,
    /// Some databases failed.
    Incomplete,
    /// It failed.
    Failed,
    /// It was interrupted.
    Interrupted,
}

impl Outcome {
    /// Returns the word that the journal and reports use.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Incomplete => "incomplete",
            Outcome::Failed => "failed",
            Outcome::Interrupted => "interrupted",
        }
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        [Outcome::Done, Outcome::Incomplete, Outcome::Failed, Outcome::Interrupted]
            .into_iter()
            .find(|outcome| outcome.as_str() == word)
            .ok_or_else(|| format!("{word:?} is no outcome"))
    }
}

/// A run that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunStart {
    /// The verb: `backup`, `restore`, `verify`, …
    pub command: String,
    /// The target, where there is one.
    pub target: Option<String>,
    /// When it began.
    pub started: Timestamp,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunEnd {
    /// When it ended.
    pub finished: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// Its report, as `--json` prints it.
    pub report: serde_json::Value,
}

/// A run as it is recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// What was begun.
    pub start: RunStart,
    /// Its end; `None` while it runs, and for good where it was killed.
    pub end: Option<RunEnd>,
}

/// A step of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which restore: the same text for all its steps.
    pub restore: String,
    /// The database that is restored.
    pub target: String,
    /// The step's name.
    pub step: String,
    /// When it began.
    pub started: Timestamp,
    /// When it ended; `None` where it is only begun.
    pub finished: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

impl Journal {
    /// Records that a run began.
    pub fn begin_run(&self, start: &RunStart) -> Result<RunId, JournalError> {
        let connection = self.connection();
        let insert = || {
            connection.execute(
                "INSERT INTO run (command, target, started) VALUES (?1, ?2, ?3)",
                params![start.command, start.target, start.started.to_string()],
            )?;
            let id = connection.last_insert_rowid();
            connection.execute("DELETE FROM run WHERE id <= ?1", [id - RUNS_KEPT])?;
            Ok(RunId(id))
        };
        insert().map_err(self.fail("cannot be written"))
    }

    /// Records how a run ended. A run that is not there (any more) is not an error.
    pub fn finish_run(&self, id: RunId, end: &RunEnd) -> Result<(), JournalError> {
        let report = end.report.to_string();
        self.connection()
            .execute(
                "UPDATE run SET finished = ?2, outcome = ?3, report = ?4 WHERE id = ?1",
                params![id.0, end.finished.to_string(), end.outcome.as_str(), report],
            )
            .map(drop)
            .map_err(self.fail("cannot be written"))
    }

    /// Records a step of a restore, whole.
    pub fn restore_step(&self, step: &Step) -> Result<(), JournalError> {
        let connection = self.connection();
        let insert = || {
            connection.execute(
                "INSERT INTO restore_step (restore, target, step, started, finished, outcome)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    step.restore,
                    step.target,
                    step.step,
                    step.started.to_string(),
                    step.finished.map(|time| time.to_string()),
                    step.outcome.map(Outcome::as_str),
                ],
            )?;
            let id = connection.last_insert_rowid();
            connection.execute("DELETE FROM restore_step WHERE id <= ?1", [id - STEPS_KEPT])?;
            Ok(())
        };
        insert().map_err(self.fail("cannot be written"))
    }

    /// Returns the newest runs, newest first, at most `count`.
    pub fn recent(&self, count: usize) -> Result<Vec<Run>, JournalError> {
        let sql = "SELECT id, command, target, started, finished, outcome, report
                   FROM run ORDER BY id DESC LIMIT ?1";
        self.rows(sql, &i64::try_from(count).unwrap_or(i64::MAX), run)
    }

    /// Returns the newest run of a command that ended with that outcome.
    pub fn last(&self, command: &str, outcome: Outcome) -> Result<Option<Run>, JournalError> {
        let sql = "SELECT id, command, target, started, finished, outcome, report
                   FROM run WHERE command = ?1 AND outcome = ?2 ORDER BY id DESC LIMIT 1";
        self.connection()
            .query_row(sql, params![command, outcome.as_str()], run)
            .optional()
            .map_err(self.fail("cannot be read"))
    }

    /// Returns the runs of a command that ended with that outcome, newest first.
    pub fn ended(&self, command: &str, outcome: Outcome) -> Result<Vec<Run>, JournalError> {
        let sql = "SELECT id, command, target, started, finished, outcome, report
                   FROM run WHERE command = ?1 AND outcome = ?2 ORDER BY id DESC";
        let connection = self.connection();
        let all = || -> rusqlite::Result<Vec<Run>> {
            connection.prepare(sql)?.query_map(params![command, outcome.as_str()], run)?.collect()
        };
        all().map_err(self.fail("cannot be read"))
    }

    /// Returns the steps of a restore in the order in which they were recorded.
    pub fn steps(&self, restore: &str) -> Result<Vec<Step>, JournalError> {
        let sql = "SELECT restore, target, step, started, finished, outcome
                   FROM restore_step WHERE restore = ?1 ORDER BY id";
        self.rows(sql, &restore, |row| {
            Ok(Step {
                restore: row.get(0)?,
                target: row.get(1)?,
                step: row.get(2)?,
                started: parsed(row, 3)?,
                finished: parsed_if_any(row, 4)?,
                outcome: parsed_if_any(row, 5)?,
            })
        })
    }

    fn rows<T>(
        &self,
        sql: &str,
        argument: &dyn rusqlite::ToSql,
        read: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, JournalError> {
        let connection = self.connection();
        let all = || -> rusqlite::Result<Vec<T>> {
            connection.prepare(sql)?.query_map([argument], read)?.collect()
        };
        all().map_err(self.fail("cannot be read"))
    }
}

fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    let start = RunStart { command: row.get(1)?, target: row.get(2)?, started: parsed(row, 3)? };
    let end = match (parsed_if_any(row, 4)?, parsed_if_any(row, 5)?) {
        (Some(finished), Some(outcome)) => {
            let report = parsed_if_any(row, 6)?.unwrap_or_default();
            Some(RunEnd { finished, outcome, report })
        }
        _ => None,
    };
    Ok(Run { id: RunId(row.get(0)?), start, end })
}

fn parsed<T: FromStr<Err: ToString>>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error: T::Err| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.to_string().into())
    })
}

fn parsed_if_any<T: FromStr<Err: ToString>>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    if row.get_ref(column)?.data_type() == Type::Null { Ok(None) } else { parsed(row, column).map(Some) }
}
