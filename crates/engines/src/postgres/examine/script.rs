//! SQL text of `pg_dump` and `pg_dumpall`, read to its end without running it: whether its statements and the rows between
//! them are complete, and whether the closing line of the tool that wrote it is there.
//!
//! Memory does not grow with the text.

use super::{damaged, unread};
use crate::counting::counted;
use crate::engine::{ExamineRequest, Examined};
use crate::postgres::script::{Broken, Survey, survey};
use flow::{Cancel, Context, SourceError};
use std::io::{self, Read};

/// Reads SQL text to its end.
pub(super) fn examine(request: ExamineRequest<'_>, context: &Context) -> Result<Examined, SourceError> {
    let object = request.object;
    let dump = Stoppable { inner: request.dump, cancel: &context.cancel };
    let found = survey(dump).map_err(|error| match error {
        _ if context.cancel.is_cancelled() => SourceError::cancelled(object),
        Broken::Io(error) => unread(object, error),
        Broken::Damaged(problem) => damaged(object, problem),
    })?;
    Ok(examined(found))
}

/// Ends with an error once the work is cancelled.
struct Stoppable<'a> {
    inner: &'a mut dyn Read,
    cancel: &'a Cancel,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("it was interrupted"));
        }
        self.inner.read(buffer)
    }
}

fn examined(found: Survey) -> Examined {
    let mut doubts = Vec::new();
    if !found.is_closed {
        doubts.push(
            "no line of the tool that wrote it says that it is whole: whether it was cut between two statements \
             cannot be told"
                .to_owned(),
        );
    }
    if !found.commands.is_empty() {
        let commands: Vec<String> =
            found.commands.iter().map(|(line, word)| format!("line {line}: `\\{word}`")).collect();
        doubts.push(format!("it holds commands of psql: {}", commands.join(", ")));
    }
    let by = found.made_by.map(|tool| format!(" by {tool}")).unwrap_or_default();
    Examined {
        detail: format!(
            "all {} complete{}{by}; {}, {}",
            counted(found.statements, "statement", "statements"),
            if found.is_closed { ", closing line" } else { "" },
            counted(found.tables, "table", "tables"),
            counted(found.rows, "row", "rows")
        ),
        tables: Some(found.tables),
        rows: Some(found.rows),
        is_empty: found.content == 0,
        doubts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\n-- Dumped by pg_dump version 15.9\n\n\
        SET statement_timeout = 0;\nSELECT pg_catalog.set_config('search_path', '', false);\n\n\
        CREATE TABLE public.t (\n    a integer, -- it's; so\n    \"b;\" text DEFAULT E'\\';'::text\n);\n\n\
        CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $_$ SELECT 1; -- $x$ \n SELECT $1 $_$;\n\n/* a /* b; */ ' */\n\
        COPY public.t (a, \"b;\") FROM stdin;\n1\tit's\n2\t\\N\n\\.\n\n\nINSERT INTO public.t VALUES (3, 'x''y;');\n\n\
        --\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict abc\n\n";

    /// A text that comes in pieces.
    struct Pieces<'a>(std::slice::Chunks<'a, u8>);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let piece = self.0.next().unwrap_or_default();
            buffer[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    fn read(text: &str, chunk_bytes: usize) -> Result<Examined, String> {
        survey(Pieces(text.as_bytes().chunks(chunk_bytes))).map(examined).map_err(|error| match error {
            Broken::Io(error) => error.to_string(),
            Broken::Damaged(problem) => problem,
        })
    }

    #[test]
    fn a_whole_dump_is_counted_however_it_comes() {
        for chunk in [1, 2, 3, 5, 17, 4096] {
            let found = read(DUMP, chunk).unwrap_or_else(|problem| panic!("{chunk}: {problem}"));
            assert_eq!((found.tables, found.rows), (Some(1), Some(3)), "{chunk}: {found:?}");
            assert!(found.doubts.is_empty() && !found.is_empty, "{chunk}: {found:?}");
            assert!(
                found.detail.starts_with("all 6 statements complete, closing line by pg_dump 15.9"),
                "{found:?}"
            );
        }
    }

    #[test]
    fn a_dump_that_is_cut_anywhere_before_its_closing_line_is_found() {
        let closing = DUMP.find("dump complete").map_or(0, |at| at + 12);
        for cut in 0..closing {
            assert!(read(&DUMP[..cut], 64).is_err(), "cut at {cut}: {}", &DUMP[..cut]);
        }
    }

    #[test]
    fn a_cluster_closes_with_its_own_line() {
        let cluster = format!(
            "--\n-- PostgreSQL database cluster dump\n--\nCREATE ROLE a;\n\\connect x\n{DUMP}\
             --\n-- PostgreSQL database cluster dump complete\n--\n"
        );
        assert!(read(&cluster, 100).is_ok_and(|found| found.doubts.is_empty()));
        let cut = cluster.len() - 40;
        assert!(read(&cluster[..cut], 100).is_err_and(|problem| problem.contains("cluster dump complete")));
    }

    #[test]
    fn a_row_that_lost_a_column_and_lines_of_windows() {
        let lost = DUMP.replace("1\tit's", "1 it's");
        assert!(read(&lost, 50).is_err_and(|problem| problem.contains("1 columns instead of 2")));
        let windows = DUMP.replace('\n', "\r\n");
        assert!(read(&windows, 50).is_ok_and(|found| found.rows == Some(3)));
    }

    #[test]
    fn what_is_not_said_to_be_whole_is_doubted() {
        let plain: String =
            DUMP.lines().filter(|line| !line.starts_with("--")).flat_map(|line| [line, "\n"]).collect();
        assert!(read(&plain, 50).is_ok_and(|found| found.doubts.len() == 1));
        let command = DUMP.replace("\\restrict abc", "\\! rm x");
        assert!(
            read(&command, 50).is_ok_and(|found| found.doubts.iter().any(|doubt| doubt.contains("`\\!`")))
        );
    }

    #[test]
    fn a_dump_of_nothing_is_empty() {
        let nothing = "--\n-- PostgreSQL database dump\n--\nSET a = 0;\n\
            SELECT pg_catalog.set_config('search_path', '', false);\n--\n-- PostgreSQL database dump complete\n--\n";
        assert!(read(nothing, 9).is_ok_and(|found| found.is_empty));
    }
}
