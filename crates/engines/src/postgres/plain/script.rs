//! SQL text, as stock `pg_restore -f -` writes it: it is given a custom archive on a pipe, and what it writes is passed on.
//! It connects to nothing. Interrupted or failing, it ends with its pipes.

use super::custom::CustomFile;
use super::{DataSink, Made, Written, refused};
use crate::postgres::tools::{Running, find};
use flow::{Context, SourceError};
use std::io::{self, Read, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::atomic::{AtomicBool, Ordering};

const BUFFER_BYTES: usize = 256 << 10;

/// Writes SQL text of the data that `feed` gives.
pub(super) fn write<E: From<SourceError>>(
    made: Made<'_>,
    out: &mut (dyn Write + Send),
    context: &Context,
    feed: impl FnOnce(&mut dyn DataSink) -> Result<(), E>,
) -> Result<Written, E> {
    let object = made.object;
    let program = find("pg_restore", made.major, object, context).map_err(|error| {
        let message = format!(
            "SQL text is written by pg_restore of version {} or newer: {}",
            made.major, error.message
        );
        SourceError { message, ..error }
    })?;
    let arguments = ["--file=-".to_owned()];
    let (running, input, output) =
        Running::start_filter(&program, &arguments, &context.environment, object, &context.cancel)?;
    let refusal = AtomicBool::new(false);
    let input = Watched { input, refused: &refusal };
    let (fed, copied) = std::thread::scope(|scope| {
        let copier = scope.spawn(|| copy(output, out));
        let fed = CustomFile::begin(input, made.toc, None, object).map_err(E::from).and_then(|sink| {
            let mut sink = Box::new(sink);
            feed(sink.as_mut())?;
            // With it the pipe ends.
            Ok(sink.finish()?)
        });
        let copied = copier.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (fed, copied)
    });
    let ended = running.finish();
    context.cancel.check().map_err(|_| SourceError::cancelled(object))?;
    // A file that takes no more ends the program, and that ends the feeding: the first of them is to blame. Where the
    // program gave up by itself, its own words say why, and the feeding only found a broken pipe.
    let size_bytes = copied.map_err(|error| refused(object, error))?;
    match (fed, ended) {
        (Ok(_), Ok(_)) => Ok(Written { size_bytes, front: None }),
        (Ok(_), Err(ended)) => Err(ended.into_error().into()),
        (Err(_), Err(ended)) if refusal.load(Ordering::Relaxed) => Err(ended.into_error().into()),
        (Err(error), _) => Err(error),
    }
}

/// The program's input, with a note of whether it took no more.
struct Watched<'a> {
    input: ChildStdin,
    refused: &'a AtomicBool,
}

impl Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.input.write(bytes).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                self.refused.store(true, Ordering::Relaxed);
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.input.flush()
    }
}

/// Passes on what the program writes; its output is closed with the return.
fn copy(mut output: ChildStdout, out: &mut (dyn Write + Send)) -> io::Result<u64> {
    let (mut buffer, mut copied) = (vec![0; BUFFER_BYTES], 0);
    loop {
        match output.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                out.write_all(&buffer[..count])?;
                copied += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    out.flush()?;
    Ok(copied)
}
