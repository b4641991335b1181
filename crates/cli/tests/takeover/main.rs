//! `takeover` of scripts and crontabs as people have them, through the binary: what the configuration is that comes out, that
//! it loads and backs up, which lines are told as not understood, and that nothing secret shows.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod crontabs;
mod postgres;
mod scripts;
#[path = "../support/mod.rs"]
mod support;

use serde_json::Value;
use support::{Machine, Outcome};

/// Takes a script over into `here.toml`, and returns the report.
pub(crate) fn taken(machine: &Machine, code: i32, script: &str, options: &[&str]) -> (Outcome, Value) {
    machine.write("backup.sh", script);
    let arguments = [&["takeover", "backup.sh", "--config", "here.toml", "--json"], options].concat();
    let outcome = machine.run(&arguments);
    assert_eq!(outcome.code, code, "{} {}", outcome.out, outcome.err);
    let report = outcome.json();
    assert_eq!(report["schema"], "backstay.takeover/1");
    (outcome, report)
}

/// The lines that are not understood, each with its program.
pub(crate) fn left(report: &Value) -> Vec<(u64, String)> {
    let all = report["not_understood"].as_array().unwrap().iter();
    all.map(|own| (own["line"].as_u64().unwrap(), own["program"].as_str().unwrap().to_owned())).collect()
}

/// One key of each target, as it was drafted.
pub(crate) fn of_targets(report: &Value, key: &str) -> Vec<String> {
    let all = report["targets"].as_array().unwrap().iter();
    all.map(|own| own[key].as_str().unwrap_or("-").to_owned()).collect()
}
