//! Which form of PostgreSQL dump a file is, by its first bytes.

use crate::ExportForm;
use crate::postgres::script::speaks_postgres;

/// Where a tar archive says that it is one, and by what.
const USTAR_AT: usize = 257;

/// Tells by the first bytes of a file which form of dump it is, or why it is none; no reason where nothing speaks for
/// PostgreSQL.
pub(in crate::postgres) fn recognise(head: &[u8]) -> Result<ExportForm, Option<String>> {
    if head.starts_with(b"PGDMP") {
        return match head.get(10) {
            Some(1) => Ok(ExportForm::Custom),
            Some(3 | 5) => {
                let reason = "is the table of contents of an archive, without its data: name the folder that it lies in";
                Err(Some(reason.to_owned()))
            }
            Some(_) => Err(Some("is a PostgreSQL archive of an unknown format".to_owned())),
            None => Err(Some("is a PostgreSQL archive that is cut off in its header".to_owned())),
        };
    }
    if head.get(USTAR_AT..USTAR_AT + 5) == Some(b"ustar") {
        return if head.starts_with(b"toc.dat\0") {
            Ok(ExportForm::Tar)
        } else {
            Err(Some("is a tar archive, and none that pg_dump made".to_owned()))
        };
    }
    if is_script(head) || speaks_postgres(head) { Ok(ExportForm::Sql) } else { Err(None) }
}

/// SQL text of `pg_dump` says so in its first lines. Where those were taken away, its settings come first, which no other
/// dump has.
fn is_script(head: &[u8]) -> bool {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    for line in text.split(|byte| *byte == b'\n').take(400) {
        let line = line.trim_ascii();
        if line.starts_with(b"-- PostgreSQL database ") {
            return true;
        }
        if line.is_empty() || line.starts_with(b"--") {
            continue;
        }
        return [b"SET ".as_slice(), b"COPY ", b"\\restrict ", b"\\connect "]
            .iter()
            .any(|first| line.starts_with(first))
            || line.starts_with(b"SELECT pg_catalog.");
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_told_by_their_first_bytes() {
        let archive = |format: u8| [b"PGDMP\x01\x0e\x00\x04\x08".as_slice(), &[format], &[0; 100]].concat();
        assert_eq!(recognise(&archive(1)), Ok(ExportForm::Custom));
        assert!(matches!(recognise(&archive(3)), Err(Some(_))));
        let mut tar = vec![0; 1024];
        tar[..7].copy_from_slice(b"toc.dat");
        tar[257..262].copy_from_slice(b"ustar");
        assert_eq!(recognise(&tar), Ok(ExportForm::Tar));
        tar[..7].copy_from_slice(b"etc/x.y");
        assert!(matches!(recognise(&tar), Err(Some(_))));
        for script in [
            "--\n-- PostgreSQL database dump\n--\n",
            "--\n-- PostgreSQL database cluster dump\n--\n",
            "\nSET statement_timeout = 0;\n",
        ] {
            assert_eq!(recognise(script.as_bytes()), Ok(ExportForm::Sql), "{script}");
        }
        for none in ["", "CREATE TABLE t(a);", "Dear diary", "SQLite format 3\0"] {
            assert_eq!(recognise(none.as_bytes()), Err(None), "{none}");
        }
    }
}
