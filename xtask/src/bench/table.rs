//! The table that a bench prints, as it goes into the documentation: medians, ratio, what is required.

use super::process::median;

/// Collects rows, and which of them missed what is required.
pub(super) struct Table {
    lines: Vec<String>,
    missed: Vec<String>,
}

impl Table {
    /// Begins a table.
    pub(super) fn new(title: &str) -> Self {
        let head = "| | backstay | restic | ratio | required |\n| --- | --- | --- | --- | --- |";
        Self { lines: vec![format!("{title}:\n"), head.to_owned()], missed: Vec::new() }
    }

    /// Compares medians of seconds.
    pub(super) fn seconds(&mut self, name: &str, ours: &[f64], restic: &[f64], required: Option<f64>) {
        self.row(name, median(ours.to_vec()), median(restic.to_vec()), "s", required);
    }

    /// Compares bytes.
    pub(super) fn megabytes(&mut self, name: &str, ours: f64, restic: f64, required: Option<f64>) {
        self.row(name, ours / 1e6, restic / 1e6, "MB", required);
    }

    /// Compares the most memory that any run had, in bytes.
    pub(super) fn memory(&mut self, ours: f64, restic: f64) {
        let (ours, restic) = (ours / 1e6, restic / 1e6);
        self.lines.push(format!("| memory at most | {ours:.0} MB | {restic:.0} MB | | ≤ 150 MB |"));
        if ours > 150.0 {
            self.missed.push("memory".to_owned());
        }
    }

    fn row(&mut self, name: &str, ours: f64, restic: f64, unit: &str, required: Option<f64>) {
        let ratio = ours / restic;
        let limit = required.map(|required| format!("≤ {required}")).unwrap_or_default();
        self.lines.push(format!("| {name} | {ours:.2} {unit} | {restic:.2} {unit} | {ratio:.2} | {limit} |"));
        if required.is_some_and(|required| ratio > required) {
            self.missed.push(name.to_owned());
        }
    }

    /// Prints it; an error where something was missed.
    pub(super) fn print(self) -> Result<(), String> {
        for line in self.lines {
            println!("{line}");
        }
        println!();
        if self.missed.is_empty() { Ok(()) } else { Err(format!("missed: {}", self.missed.join(", "))) }
    }
}
