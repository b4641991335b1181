//! Where `export` and `backup --out` write one plain file to: a file whose ending says the form, or standard output.

use crate::age_options::Recipients;
use crate::errors::{Failure, exit};
use crate::session::Session;
use clap::ValueEnum;
use engines::ExportForm;
use operations::FileOut;
use std::io::{IsTerminal, Write};
use std::path::Path;

/// The form of a stream, which has no ending to go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StreamForm {
    /// The database file, byte for byte (SQLite)
    Db,
    /// SQL text
    Sql,
    /// A custom archive of pg_dump (PostgreSQL)
    Dump,
    /// A tar archive of pg_dump (PostgreSQL)
    Tar,
}

impl StreamForm {
    fn form(self) -> ExportForm {
        match self {
            StreamForm::Db => ExportForm::Image,
            StreamForm::Sql => ExportForm::Sql,
            StreamForm::Dump => ExportForm::Custom,
            StreamForm::Tar => ExportForm::Tar,
        }
    }
}

/// Tells whether a place is standard output.
pub(crate) fn is_stream(out: &Path) -> bool {
    out.as_os_str() == "-"
}

/// Refuses what does not go together.
pub(crate) fn check(
    session: &Session,
    out: &Path,
    form: Option<StreamForm>,
    dry_run: bool,
) -> Result<(), Failure> {
    let to_stream = is_stream(out);
    if to_stream && session.globals.json {
        return Err(Failure::usage(
            "`--out -` and `--json` both want standard output",
            "write the object to a file with --report FILE",
        ));
    }
    if !to_stream && form.is_some() {
        return Err(Failure::usage(
            "`--form` goes with `--out -` only",
            "the ending of the file gives its form",
        ));
    }
    if to_stream && form != Some(StreamForm::Sql) && !dry_run && std::io::stdout().is_terminal() {
        return Err(Failure::usage(
            "a terminal cannot show a database file",
            "add --form sql, or redirect the output",
        ));
    }
    Ok(())
}

/// Writes to a place: `work` is told where. Who wanted the bytes of a stream and did not get them all is told so: that
/// is a failure of this side, not of the database.
pub(crate) fn written<T>(
    session: &Session,
    out: &Path,
    (form, recipients): (Option<StreamForm>, &Recipients),
    work: impl FnOnce(FileOut<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if !is_stream(out) {
        return work(recipients.file(session, out)?);
    }
    recipients.refuse_for_stream()?;
    let mut stream = Stream { out: std::io::stdout(), error: None };
    let outcome = work(FileOut::Stream(&mut stream, form.map(StreamForm::form)));
    let flushed = stream.flush().err();
    match stream.error.take().or(flushed) {
        Some(error) => {
            Err(Failure::new(exit::FAILED, "standard output cannot be written").with_cause(&error))
        }
        None => outcome,
    }
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
