//! Tables without a frame, as wide as what is in them. Cells lie in one text, so that a table of hundreds of thousands
//! of rows takes little more memory than it takes on the screen.

use std::fmt::Write;
use unicode_width::UnicodeWidthStr;

/// A table that is being filled.
pub(crate) struct Table {
    /// All cells, one behind the other, those of the header first.
    text: String,
    /// Where each cell ends.
    ends: Vec<usize>,
    widths: Vec<usize>,
    /// Whether a column is set to the right.
    right: Vec<bool>,
}

impl Table {
    /// Begins with a header; the columns of `right` are set to the right.
    pub(crate) fn new(header: &[&str], right: &[usize]) -> Self {
        let mut table = Self {
            text: String::new(),
            ends: Vec::new(),
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
        let column = self.ends.len() % self.widths.len().max(1);
        let width = self.text.get(begin..).map_or(0, UnicodeWidthStr::width);
        if let Some(widest) = self.widths.get_mut(column) {
            *widest = width.max(*widest);
        }
        self.ends.push(self.text.len());
    }

    /// Returns the lines, without blanks at their ends.
    pub(crate) fn finish(self) -> String {
        let columns = self.widths.len();
        let mut lines = String::new();
        let (mut begin, mut blanks) = (0, 0);
        for (at, end) in self.ends.iter().enumerate() {
            let column = at % columns;
            if column == 0 {
                if at > 0 {
                    lines.push('\n');
                }
                blanks = 0;
            } else {
                blanks += 2;
            }
            let cell = self.text.get(begin..*end).unwrap_or_default();
            begin = *end;
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
        lines
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
}
