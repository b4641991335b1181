//! From the counters to lines of each file and each crate. What is compiled for tests alone is left out, and so are the
//! crates that only tests use.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// How many files are shown: those with the most lines that no test reaches.
const FILES_SHOWN: usize = 40;

/// Of each file of the crates, by its path in the checkout, which lines are reached.
pub(super) struct Reached(BTreeMap<String, BTreeMap<u32, bool>>);

impl Reached {
    /// Takes a report in the format of lcov.
    pub(super) fn of(root: &Path, report: &str) -> Self {
        let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
        Self::from(report, &format!("{}/", root.display()), text)
    }

    fn from(report: &str, root: &str, text: impl Fn(&str) -> String) -> Self {
        let mut files: BTreeMap<String, BTreeMap<u32, bool>> = BTreeMap::new();
        let mut current: Option<(String, u32)> = None;
        for line in report.lines() {
            if let Some(path) = line.strip_prefix("SF:") {
                let path = path.strip_prefix(root).filter(|path| counts(path));
                current = path.map(|path| (path.to_owned(), tests_begin(&text(path))));
                continue;
            }
            let (Some(counted), Some((path, end))) = (line.strip_prefix("DA:"), &current) else { continue };
            let Some((number, times)) = counted.split_once(',') else { continue };
            let Ok(number) = number.parse::<u32>() else { continue };
            if number < *end {
                let reached = files.entry(path.clone()).or_default().entry(number).or_default();
                *reached |= times != "0";
            }
        }
        Self(files)
    }

    /// Returns how many of a hundred lines are reached.
    pub(super) fn percent(&self) -> f64 {
        let (lines, reached) = self.0.values().map(sum).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        percent(lines, reached)
    }

    /// Returns a table of the crates, and of the files with the most lines that are not reached.
    pub(super) fn table(&self) -> String {
        let mut crates: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for (path, lines) in &self.0 {
            let name = path.split('/').nth(1).unwrap_or(path);
            let (all, reached) = sum(lines);
            for name in [name, "all"] {
                let entry = crates.entry(name).or_default();
                *entry = (entry.0 + all, entry.1 + reached);
            }
        }
        let mut files: Vec<(&str, (usize, usize))> =
            self.0.iter().map(|(path, lines)| (path.as_str(), sum(lines))).collect();
        files.sort_by_key(|(_, (all, reached))| std::cmp::Reverse(all - reached));
        let mut table = String::from("| | lines | not reached | % reached |\n| --- | --- | --- | --- |\n");
        let files = files.into_iter().take(FILES_SHOWN);
        for (name, (all, reached)) in crates.into_iter().chain(files) {
            let percent = percent(all, reached);
            let _ = writeln!(table, "| {name} | {all} | {} | {percent:.1} |", all - reached);
        }
        table
    }

    /// Returns a line a file, with the lines that are not reached.
    pub(super) fn missed(&self) -> String {
        let mut text = String::new();
        for (path, lines) in &self.0 {
            let missed: Vec<u32> =
                lines.iter().filter(|(_, reached)| !**reached).map(|(number, _)| *number).collect();
            if !missed.is_empty() {
                let ranges: Vec<String> = missed
                    .chunk_by(|a, b| a + 1 == *b)
                    .filter_map(|range| match range {
                        [one] => Some(one.to_string()),
                        [first, .., last] => Some(format!("{first}-{last}")),
                        [] => None,
                    })
                    .collect();
                let _ = writeln!(text, "{path}: {}", ranges.join(", "));
            }
        }
        text
    }
}

fn sum(lines: &BTreeMap<u32, bool>) -> (usize, usize) {
    (lines.len(), lines.values().filter(|reached| **reached).count())
}

fn percent(lines: usize, reached: usize) -> f64 {
    if lines == 0 { 0.0 } else { reached as f64 * 100.0 / lines as f64 }
}

/// Tells whether a file is part of what is delivered.
fn counts(path: &str) -> bool {
    let of_crate = path.starts_with("crates/") && path.split('/').nth(2) == Some("src");
    of_crate && !path.starts_with("crates/testkit/") && !path.ends_with("/tests.rs")
}

/// Returns the line at which the unit tests of a file begin: they are its end.
fn tests_begin(text: &str) -> u32 {
    let mut lines = text.lines().zip(1..).peekable();
    while let Some((line, number)) = lines.next() {
        if line == "#[cfg(test)]" && lines.peek().is_some_and(|(next, _)| next.ends_with('{')) {
            return number;
        }
    }
    u32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "SF:/r/crates/a/src/lib.rs\nDA:1,0\nDA:2,3\nDA:3,0\nDA:5,1\nend_of_record\n\
        SF:/r/crates/a/src/lib.rs\nDA:1,2\nend_of_record\n\
        SF:/r/crates/a/tests/x.rs\nDA:1,0\nend_of_record\nSF:/r/crates/testkit/src/lib.rs\nDA:1,0\nend_of_record\n\
        SF:/elsewhere/lib.rs\nDA:1,0\nend_of_record\n";

    #[test]
    fn lines_of_what_is_delivered_count_once_and_those_of_tests_do_not() {
        let text = |_: &str| "one\ntwo\nthree\n#[cfg(test)]\nmod tests {\n}\n".to_owned();
        let reached = Reached::from(REPORT, "/r/", text);
        assert_eq!(reached.missed(), "crates/a/src/lib.rs: 3\n");
        assert_eq!(format!("{:.1}", reached.percent()), "66.7");
        assert!(reached.table().contains("| a | 3 | 1 | 66.7 |"), "{}", reached.table());
        let whole = Reached::from(REPORT, "/r/", |_: &str| String::new());
        assert!(whole.table().contains("| all | 4 | 1 | 75.0 |"), "{}", whole.table());
    }
}
