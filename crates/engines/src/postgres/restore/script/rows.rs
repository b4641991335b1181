//! The rows behind a `COPY … FROM stdin`, from the text straight to the server, however many there are.

use super::failing;
use super::loading::Loading;
use crate::postgres::failure;
use crate::postgres::restore::load::COPY_MAX_BYTES;
use crate::postgres::script::{ScriptReader, columns_of};
use crate::restore::RestoreError;
use bytes::Bytes;
use flow::{SourceError, SourceErrorKind};
use memchr::{memchr_iter, memrchr};
use std::io::Read;

/// Loads the rows that follow a statement, and returns how many. As many must be loaded as stand there.
pub(in crate::postgres::restore) fn copy<R: Read>(
    loading: &mut Loading<'_>,
    line: u64,
    text: &str,
    reader: &mut ScriptReader<R>,
) -> Result<u64, RestoreError> {
    // Each line is a row in the usual format only.
    let is_plain = text.to_ascii_lowercase().ends_with("from stdin");
    let sql = statement(loading, line, text, is_plain)?;
    let (ends, object) = (reader.line(), loading.object);
    let told = |loading: &Loading<'_>, before: u64, error: &tokio_postgres::Error| {
        // The server counts from where the COPY was begun last.
        match error.as_db_error().and_then(|said| said.where_()).and_then(row_number) {
            Some(row) if is_plain => {
                let table = text.split('(').next().unwrap_or_default().trim();
                let message = error
                    .as_db_error()
                    .map_or_else(|| failure::text(error), |said| said.message().to_owned());
                let at = ends + before + row;
                SourceError::new(
                    SourceErrorKind::Failed,
                    object,
                    format!("line {at}: a row of `{table}` fails: {message}"),
                )
                .with_hint(failing::hint_for_row(error, loading.is_live))
            }
            _ => loading.failed(line, text, error),
        }
    };
    let begun = loading.session.begin_copy_in(&sql)?;
    let mut copy = begun.map_err(|error| loading.failed(line, text, &error))?;
    let (mut counted, mut loaded, mut sent, mut before) = (0u64, 0u64, 0u64, 0u64);
    reader.begin_rows();
    loop {
        let rows = reader.next_rows().map_err(|broken| loading.unread(broken))?;
        let Some(rows) = rows else { break };
        counted += memchr_iter(b'\n', rows).count() as u64;
        let mut bytes = Bytes::copy_from_slice(rows);
        if is_plain
            && sent + bytes.len() as u64 > COPY_MAX_BYTES
            && let Some(end) = memrchr(b'\n', &bytes)
        {
            let last = bytes.split_to(end + 1);
            loading.session.put_copy(&mut copy, last)?.map_err(|error| told(loading, before, &error))?;
            loaded += loading.session.end_copy(&mut copy)?.map_err(|error| told(loading, before, &error))?;
            before = counted;
            let begun = loading.session.begin_copy_in(&sql)?;
            copy = begun.map_err(|error| loading.failed(line, text, &error))?;
            sent = 0;
        }
        sent += bytes.len() as u64;
        loading.session.put_copy(&mut copy, bytes)?.map_err(|error| told(loading, before, &error))?;
    }
    loaded += loading.session.end_copy(&mut copy)?.map_err(|error| told(loading, before, &error))?;
    if is_plain && loaded != counted {
        let message = format!("line {line}: {loaded} rows were loaded, and the text has {counted}");
        return Err(SourceError::new(SourceErrorKind::Failed, object, message).into());
    }
    Ok(loaded)
}

/// Returns the statement with the encoding of the rows, where that is another one than ours.
fn statement(loading: &Loading<'_>, line: u64, text: &str, is_plain: bool) -> Result<String, SourceError> {
    if ["UTF8", "UTF-8", "UNICODE", "DEFAULT"].contains(&loading.encoding.as_str()) {
        return Ok(text.to_owned());
    }
    if is_plain && columns_of(text.as_bytes()).is_ok() {
        return Ok(format!("{text} WITH (ENCODING '{}')", loading.encoding.replace('\'', "''")));
    }
    let message =
        format!("line {line}: its rows are in {}, and have a format of their own", loading.encoding);
    Err(SourceError::new(SourceErrorKind::Unsupported, loading.object, message)
        .with_hint("`iconv` makes UTF-8 of it; change its `SET client_encoding` too"))
}

/// Returns the row that the server complains about: `COPY t, line 3, column a: …`.
fn row_number(place: &str) -> Option<u64> {
    let rest = place.strip_prefix("COPY ")?;
    let at = rest.find(", line ")? + ", line ".len();
    let digits: String = rest[at..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_is_told_by_the_server() {
        assert_eq!(row_number("COPY t, line 12, column a: \"x\""), Some(12));
        assert_eq!(row_number("SQL function f"), None);
    }
}
