//! Tables without a frame, as wide as what is in them. Cells lie in one text, so that a table of hundreds of thousands
//! of rows takes little more memory than it takes on the screen.

use std::fmt::Write;
use unicode_width::UnicodeWidthStr;

/// A table that is being filled.
pub(crate) struct Table {
    /// All cells, one behind the other, those of the header first.
    text: String,
    /// How many bytes each cell has.
    lengths: Vec<u32>,
    /// Where each row begins.
    begins: Vec<usize>,
    widths: Vec<usize>,
    /// Whether a column is set to the right.
    right: Vec<bool>,
}

/// How much of a table is written at once.
const CHUNK_BYTES: usize = 64 << 10;

impl Table {
    /// Begins with a header; the columns of `right` are set to the right.
    pub(crate) fn new(header: &[&str], right: &[usize]) -> Self {
        let mut table = Self {
            text: String::new(),
            lengths: Vec::new(),
            begins: Vec::new(),
            widths: vec![0; header.len()],
            right: (0..header.len()).map(|column| right.contains(&column)).collect(),
        };
        header.iter().for_each(|name| table.cell(name));
        table
    }

    /// Adds the next cell; after the last column comes the first one of the next row. Control characters are shown as
    /// a program would write them: a name may hold any.
    pub(crate) fn cell(&mut self, content: &str) {
        let begin = self.text.len();
        for character in content.chars() {
            match character.is_control() {
                true => write!(self.text, "{}", character.escape_default()).unwrap_or_default(),
                false => self.text.push(character),
            }
        }
        let column = self.lengths.len() % self.widths.len().max(1);
        if column == 0 {
            self.begins.push(begin);
        }
        let width = self.text.get(begin..).map_or(0, UnicodeWidthStr::width);
        if let Some(widest) = self.widths.get_mut(column) {
            *widest = width.max(*widest);
        }
        self.lengths.push(u32::try_from(self.text.len() - begin).unwrap_or(u32::MAX));
    }

    /// Returns the lines, without blanks at their ends.
    pub(crate) fn finish(self) -> String {
        let mut lines = String::new();
        for row in 0..self.begins.len() {
            if row > 0 {
                lines.push('\n');
            }
            self.line(row, &mut lines);
        }
        lines
    }

    /// Writes the header, and the rows below it in the order of their numbers, which count from 0. Piece by piece: all
    /// lines together may be as large as the table.
    pub(crate) fn write(
        &self,
        order: impl Iterator<Item = usize>,
        out: &mut dyn FnMut(&str) -> std::io::Result<()>,
    ) -> std::io::Result<()> {
        let mut lines = String::with_capacity(CHUNK_BYTES + 1024);
        for row in [0].into_iter().chain(order.map(|row| row + 1)) {
            self.line(row, &mut lines);
            lines.push('\n');
            if lines.len() >= CHUNK_BYTES {
                out(&lines)?;
                lines.clear();
            }
        }
        if lines.is_empty() { Ok(()) } else { out(&lines) }
    }

    fn line(&self, row: usize, lines: &mut String) {
        let columns = self.widths.len();
        let mut begin = self.begins.get(row).copied().unwrap_or(self.text.len());
        let lengths = self.lengths.get(row * columns..).unwrap_or_default();
        let mut blanks = 0;
        for (column, length) in lengths.iter().take(columns).enumerate() {
            blanks += if column == 0 { 0 } else { 2 };
            let end = begin + *length as usize;
            let cell = self.text.get(begin..end).unwrap_or_default();
            begin = end;
            let missing = self.widths.get(column).map_or(0, |widest| widest - cell.width());
            let is_right = self.right.get(column) == Some(&true);
            blanks += if is_right { missing } else { 0 };
            if !cell.is_empty() {
                // Blanks are written only when something comes after them.
                lines.extend(std::iter::repeat_n(' ', blanks));
                lines.push_str(cell);
                blanks = 0;
            }
            blanks += if is_right { 0 } else { missing };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_lines_end_where_their_text_ends() {
        let mut table = Table::new(&["ID", "SIZE", "TAGS"], &[1]);
        for cell in ["a", "100 KiB", "", "größer", "1 B", "x\ty"] {
            table.cell(cell);
        }
        assert_eq!(
            table.finish(),
            "\
ID         SIZE  TAGS
a       100 KiB
größer      1 B  x\\ty"
        );
        assert_eq!(Table::new(&["ID", "日本"], &[]).finish(), "ID  日本");
    }

    #[test]
    fn rows_are_written_in_another_order_than_they_came() {
        let mut table = Table::new(&["ID", "NAME"], &[]);
        for number in 0..5000 {
            table.cell(&number.to_string());
            table.cell("a name that fills more than one piece");
        }
        let (mut written, mut pieces) = (String::new(), 0);
        let mut write = |piece: &str| {
            pieces += 1;
            written.push_str(piece);
            Ok(())
        };
        assert!(table.write((0..5000).rev(), &mut write).is_ok());
        assert!(pieces > 2);
        let lines: Vec<&str> = written.lines().collect();
        assert_eq!((lines.len(), lines[0]), (5001, "ID    NAME"));
        assert_eq!(lines[1], "4999  a name that fills more than one piece");
        assert_eq!(lines[5000], "0     a name that fills more than one piece");
    }
}
