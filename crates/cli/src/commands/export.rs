//! `export`: a stored backup as one plain file.

use crate::errors::{Failure, exit};
use crate::globals::DryRun;
use crate::json::Finished;
use crate::opening;
use crate::references::{find, reference};
use crate::session::Session;
use crate::wording::{duration, size};
use clap::{Args, ValueEnum};
use engines::ExportForm;
use flow::quoted;
use operations::export::ExportOut;
use operations::reference::{Moment, Selector, short};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

/// The form of a stream, which has no ending to go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StreamForm {
    /// The database file, byte for byte
    Db,
    /// SQL text
    Sql,
}

/// Write a backup as one plain file
///
/// The form follows from the ending: .db or .sql, then .gz, .zst, .lz4, .xz or .bz2 where it shall be compressed. A
/// file that exists is never written over.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay export shop.db@latest --out shop.sql.zst
  backstay export 3fa1c0de --out - --form sql | sqlite3 copy.db")]
pub(crate) struct Options {
    /// The backup: an id, SOURCE@latest, SOURCE@latest~2, SOURCE@2026-11-20T02:00, or latest
    #[arg(value_name = "BACKUP")]
    backup: String,

    /// The file, or - for standard output
    #[arg(long, value_name = "FILE|-")]
    out: PathBuf,

    /// The form, with --out -
    #[arg(long, value_name = "FORM")]
    form: Option<StreamForm>,

    #[command(flatten)]
    pub(crate) dry_run: DryRun,
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    let to_stream = options.out.as_os_str() == "-";
    check(session, options, to_stream)?;
    let mut reference = reference(session, &options.backup)?;
    let services = opening::for_backup_argument(session, &options.backup)?;
    if matches!(reference.moment, Moment::At(_)) {
        let record = find(session, &services, &reference)?;
        let (prefix, database) = match record.id.0.split_once(':') {
            Some((prefix, database)) => (prefix.to_owned(), Some(database.to_owned())),
            None => (record.id.0.clone(), None),
        };
        reference.selector = Selector::Id { prefix, database };
    }
    let mut stream = Stream { out: std::io::stdout(), error: None };
    let out = if to_stream {
        let form = match options.form {
            Some(StreamForm::Sql) => ExportForm::Sql,
            _ => ExportForm::Image,
        };
        ExportOut::Stream(&mut stream, form)
    } else {
        ExportOut::File(session.absolute(&options.out))
    };
    let outcome = operations::export::run(&services, &reference, out, options.dry_run.dry_run);
    // Who wanted the bytes did not get them all: that is a failure of this side, not of the database.
    let flushed = stream.flush().err();
    if let Some(error) = stream.error.take().or(flushed) {
        return Err(Failure::new(exit::FAILED, "standard output cannot be written").with_cause(&error));
    }
    let report = outcome?;
    let body = &report.body;
    let place = body.path.as_deref().map_or("standard output".to_owned(), quoted);
    let (from, bytes) = (short(&body.backup.0), size(body.written_bytes));
    if body.dry_run {
        session
            .console
            .say(&format!("Would export {from} to {place}. Nothing was written: this was a dry run."));
    } else {
        let time = duration(report.elapsed_ms);
        session.console.say(&format!("Exported {from} to {place} ({bytes}) in {time}."));
    }
    Finished::new(&report)
}

/// Standard output, with the first error of writing to it.
struct Stream {
    out: std::io::Stdout,
    error: Option<std::io::Error>,
}

impl Stream {
    fn keep<T>(&mut self, outcome: std::io::Result<T>) -> std::io::Result<T> {
        outcome.map_err(|error| {
            let kind = error.kind();
            self.error.get_or_insert(error);
            kind.into()
        })
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        loop {
            match self.out.write(buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                outcome => return self.keep(outcome),
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let outcome = self.out.flush();
        self.keep(outcome)
    }
}

fn check(session: &Session, options: &Options, to_stream: bool) -> Result<(), Failure> {
    if to_stream && session.globals.json {
        return Err(Failure::usage(
            "`--out -` and `--json` both want standard output",
            "write the object to a file with --report FILE",
        ));
    }
    if !to_stream && options.form.is_some() {
        return Err(Failure::usage(
            "`--form` goes with `--out -` only",
            "the ending of the file gives its form",
        ));
    }
    let binary = options.form != Some(StreamForm::Sql);
    if to_stream && binary && !options.dry_run.dry_run && std::io::stdout().is_terminal() {
        return Err(Failure::usage(
            "a terminal cannot show a database file",
            "add --form sql, or redirect the output",
        ));
    }
    Ok(())
}
