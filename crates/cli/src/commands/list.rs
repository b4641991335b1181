//! `list`: the backups of a repository as a table, oldest first.

use crate::errors::Failure;
use crate::json::Finished;
use crate::opening;
use crate::session::Session;
use crate::table::Table;
use crate::wording::{age, count, moment, size};
use clap::Args;
use config::SourceArgument;
use operations::list::{ListFilter, ListItem};
use operations::reference::short;
use std::collections::HashMap;
use std::path::Path;

/// List the backups there are
///
/// Oldest first, each with its proof level and how old that proof is. One that is SUSPECT lost much against the last good
/// backup: `show` tells what, and `accept` takes the mark away. One that is DAMAGED lacks something, which `check` names;
/// one that is LOST nobody can restore any more.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only the backups of this source
    #[arg(value_name = "SOURCE")]
    source: Option<String>,
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    let source = options.source.as_deref().map(|text| session.arguments().source(text)).transpose()?;
    let services = opening::for_source(session, source.as_ref())?;
    let filter = match &source {
        None => ListFilter::All,
        Some(source) if source.configured.is_some() => {
            ListFilter::Target(source.target.name.clone(), source.only.clone())
        }
        Some(source) => ListFilter::Place(source.target.connection.clone()),
    };
    let report = operations::list::run(&services, &filter)?;
    if let (Some(source), true) = (&source, report.body.backups.is_empty()) {
        refuse_unknown(source)?;
    }
    if report.body.backups.is_empty() {
        session.console.say(&format!("{} holds no such backup yet.", services.repository.location()));
    } else {
        if !session.globals.json {
            session.console.data(&rows(session, &report.body.backups))?;
        }
        session.console.detail(&format!("{}.", count(report.body.backups.len() as u64, "backup", "backups")));
    }
    Finished::where_asked(session, &report)
}

/// A source without backups is no error; what is neither a target nor there is a slip of the pen.
fn refuse_unknown(source: &SourceArgument<'_>) -> Result<(), Failure> {
    if source.configured.is_some() || Path::new(&source.target.connection).exists() {
        return Ok(());
    }
    let hint = match &source.near {
        Some(near) => format!("did you mean `{near}`?"),
        None => "`backstay list` without a SOURCE shows what there is".to_owned(),
    };
    Err(Failure::usage(format!("`{}` names no backup of this repository", source.text), hint))
}

fn rows(session: &Session, backups: &[ListItem]) -> String {
    let now = session.started;
    let mut table = Table::new(
        &["ID", "DATABASE", "TIME", "AGE", "SIZE", "ADDED", "ROWS", "PROOF", "TAGS"],
        &[3, 4, 5, 6],
    );
    // Thousands of databases have a run and a target in common.
    let (mut second, mut shown) = (None, String::new());
    let mut many: HashMap<&str, bool> = HashMap::new();
    for item in backups {
        if second != Some(item.time.as_second()) {
            second = Some(item.time.as_second());
            shown = moment(item.time, &session.zone);
        }
        let target = item.target.as_str();
        let many = *many.entry(target).or_insert_with(|| session.has_many(target));
        table.cell(&short(&item.id.0));
        let label = session.label_of(target, many, Some(item.database.as_str()), Some(&item.connection));
        match &item.selection {
            Some(selection) => table.cell(&format!("{label} ({selection})")),
            None => table.cell(&label),
        }
        table.cell(&shown);
        table.cell(&age(item.time, now));
        table.cell(&size(item.size_bytes));
        table.cell(&size(item.added_bytes));
        table.cell(&item.rows.map_or("-".to_owned(), crate::wording::grouped));
        let proof = match (item.proof, item.proof_time) {
            (Some(level), Some(time)) => format!("{level}, {}", age(time, now)),
            (Some(level), None) => level.to_string(),
            (None, _) if item.lost.is_some() => "LOST".to_owned(),
            (None, _) if item.engine.is_none() => "-".to_owned(),
            (None, _) => "DAMAGED".to_owned(),
        };
        table.cell(&if item.suspect.is_some() { format!("{proof}, SUSPECT") } else { proof });
        table.cell(&item.tags.join(" "));
    }
    table.finish()
}
