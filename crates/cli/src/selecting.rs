//! The options that say which part of a database is backed up.

use crate::errors::Failure;
use clap::Args;
use flow::{Content, EngineKind, Selection};

/// Which part of a PostgreSQL database is backed up.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Selecting {
    /// Only definitions, no rows (PostgreSQL)
    #[arg(long, conflicts_with = "data_only")]
    schema_only: bool,

    /// Only rows, no definitions (PostgreSQL)
    #[arg(long)]
    data_only: bool,

    /// Only the tables that fit, as pg_dump has patterns (PostgreSQL; may be repeated)
    #[arg(long, value_name = "PATTERN")]
    table: Vec<String>,

    /// Only the schemas that fit (PostgreSQL; may be repeated)
    #[arg(long, value_name = "PATTERN")]
    schema: Vec<String>,

    /// No rows of the tables that fit (PostgreSQL; may be repeated)
    #[arg(long, value_name = "PATTERN")]
    exclude_table_data: Vec<String>,
}

impl Selecting {
    /// Returns the part that is asked for; `None` where nothing is said.
    pub(crate) fn selection(&self) -> Result<Option<Selection>, Failure> {
        let content = match (self.schema_only, self.data_only) {
            (true, _) => Content::Schema,
            (_, true) => Content::Data,
            _ => Content::All,
        };
        let selection = Selection {
            content,
            tables: self.table.clone(),
            schemas: self.schema.clone(),
            exclude_table_data: self.exclude_table_data.clone(),
        };
        let selection = selection.normal();
        match selection.as_ref().and_then(Selection::problem) {
            Some(problem) => Err(Failure::usage(problem, "name each part in one way")),
            None => Ok(selection),
        }
    }
}

/// Refuses a part of a database whose system has none.
pub(crate) fn refuse_where_there_are_none(
    text: &str,
    engine: EngineKind,
    selection: Option<&Selection>,
) -> Result<(), Failure> {
    match selection {
        Some(selection) if engine != EngineKind::Postgres => Err(Failure::usage(
            format!("{text}: a part of a SQLite database cannot be backed up ({selection})"),
            "its image is the whole of it: take the option out; `backup --out FILE.sql` writes SQL text",
        )),
        _ => Ok(()),
    }
}
