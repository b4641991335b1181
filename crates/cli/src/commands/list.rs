//! `list`: the backups of a repository as a table, oldest first.

use super::list_folder::{self, Listed};
use crate::errors::Failure;
use crate::json::Finished;
use crate::opening;
use crate::session::Session;
use crate::table::Table;
use crate::wording::{age, count, moment, size};
use clap::Args;
use config::SourceArgument;
use flow::TargetName;
use jiff::Timestamp;
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
    /// Only the backups of this source; or a folder of dump files, whose files are listed
    #[arg(value_name = "SOURCE|FOLDER")]
    source: Option<String>,
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    let source = options.source.as_deref().map(|text| session.arguments().source(text)).transpose()?;
    if let Some(listed) = list_folder::meant(session, source.as_ref())? {
        return run_folder(session, &listed, source.as_ref());
    }
    let services = opening::for_source(session, source.as_ref())?;
    let filter = match &source {
        None => ListFilter::All,
        Some(source) if source.configured.is_some() => {
            ListFilter::Target(source.target.name.clone(), source.only.clone())
        }
        Some(source) => ListFilter::Place(source.target.connection.clone()),
    };
    let mut table = Rows::new(session);
    let asked = session.globals.json || session.globals.report.is_some();
    let (number, report) = if asked {
        let report = operations::list::run(&services, &filter)?;
        report.body.backups.iter().filter(|_| !session.globals.json).for_each(|item| table.add(item));
        (report.body.backups.len() as u64, Some(report))
    } else {
        (operations::list::each(&services, &filter, &mut |item| table.add(&item))?, None)
    };
    if let (Some(source), 0) = (&source, number) {
        refuse_unknown(source)?;
    }
    if number == 0 {
        session.console.say(&format!("{} holds no such backup yet.", services.repository.location()));
    } else {
        if !session.globals.json {
            table.show()?;
        }
        session.console.detail(&format!("{}.", count(number, "backup", "backups")));
    }
    report.map_or_else(|| Ok(Finished::not_asked()), |report| Finished::new(&report))
}

/// Lists the files of a folder.
fn run_folder(
    session: &Session,
    listed: &Listed,
    source: Option<&SourceArgument<'_>>,
) -> Result<Finished, Failure> {
    let report = list_folder::run(session, listed, source)?;
    if report.body.backups.is_empty() {
        session.console.say("There is no such file yet.");
    } else if !session.globals.json {
        let mut table = Rows::new(session);
        report.body.backups.iter().for_each(|item| table.add(item));
        table.show()?;
    }
    session.console.detail(&format!("{}.", count(report.body.backups.len() as u64, "file", "files")));
    Finished::new(&report)
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

/// The table. Of each backup its text and its time are kept, for there may be hundreds of thousands.
struct Rows<'a> {
    session: &'a Session,
    table: Table,
    times: Vec<Timestamp>,
    /// Thousands of databases have a run and a target in common: the last moment that was shown, and whether a target has
    /// many.
    second: Option<i64>,
    shown: String,
    many: HashMap<TargetName, bool>,
}

impl<'a> Rows<'a> {
    fn new(session: &'a Session) -> Self {
        let header = ["ID", "DATABASE", "TIME", "AGE", "SIZE", "ADDED", "ROWS", "PROOF", "TAGS"];
        let table = Table::new(&header, &[3, 4, 5, 6]);
        Self { session, table, times: vec![], second: None, shown: String::new(), many: HashMap::new() }
    }

    fn add(&mut self, item: &ListItem) {
        let (session, now) = (self.session, self.session.started);
        if self.second != Some(item.time.as_second()) {
            self.second = Some(item.time.as_second());
            self.shown = moment(item.time, &session.zone);
        }
        let target = item.target.as_str();
        let many = match self.many.get(target) {
            Some(many) => *many,
            None => *self.many.entry(item.target.clone()).or_insert(session.has_many(target)),
        };
        self.times.push(item.time);
        let table = &mut self.table;
        match &item.path {
            Some(_) => table.cell(&item.id.0),
            None => table.cell(&short(&item.id.0)),
        }
        let label = session.label_of(target, many, Some(item.database.as_str()), Some(&item.connection));
        match &item.selection {
            Some(selection) => table.cell(&format!("{label} ({selection})")),
            None => table.cell(&label),
        }
        table.cell(&self.shown);
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

    /// Shows it, oldest first.
    fn show(&self) -> std::io::Result<()> {
        let mut order: Vec<usize> = (0..self.times.len()).collect();
        // What is of the same moment stays in the order in which it came, which is that of the ids.
        order.sort_by_key(|row| self.times.get(*row));
        self.table.write(order.into_iter(), &mut |lines| self.session.console.data(lines))
    }
}
