//! A table of what goes wrong around a backup or a restore. For each: the exit code, the text (as a snapshot), the
//! object named, a hint, the same in the report, no secret anywhere, and not a byte of databases and repository
//! changed.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod in_use;
mod inputs;
mod repositories;
mod restores;
mod rights;
#[path = "../seams/mod.rs"]
mod seams;
mod servers;
mod space;
#[path = "../support/mod.rs"]
mod support;

use seams::{Place, tree};
use std::process::Output;

/// What nobody may see: the password, one that is wrong, and one in a URL.
const SECRETS: [&str; 3] = [seams::PASSWORD, "falsch-und-secret", "hunter2"];

/// One line of the table.
struct Refusal<'a> {
    name: &'a str,
    arguments: &'a [&'a str],
    code: i32,
    /// What the first line of the error must name.
    object: &'a str,
    /// What the hint must hold: a command, an option, or a path to act on.
    hint: &'a str,
}

/// Runs the program on a bad input and holds everything that is promised of refusals against what it does.
fn refuse(place: &Place, refusal: &Refusal<'_>) {
    refuse_with(place, refusal, |_| {});
}

fn refuse_with(place: &Place, refusal: &Refusal<'_>, prepare: impl FnOnce(&mut assert_cmd::Command)) {
    let mut command = place.command();
    prepare(&mut command);
    let report = place.machine.root.join("report.json");
    command.args(refusal.arguments).arg("--report").arg(&report);
    let before = tree(&place.path(""));
    let output = command.output().unwrap();
    let after = tree(&place.path(""));
    let changed: Vec<_> = after.iter().filter(|(path, state)| before.get(*path) != Some(*state)).collect();
    assert!(changed.is_empty(), "{} changed {changed:?}", refusal.name);
    assert_eq!(before.len(), after.len(), "{} removed something", refusal.name);
    let written = std::fs::read_to_string(&report).unwrap_or_default();
    judge(place, refusal, &output, &written);
}

/// Holds an outcome against what is promised; `report` is empty where the command has none.
fn judge(place: &Place, refusal: &Refusal<'_>, output: &Output, report: &str) {
    let name = refusal.name;
    let err = String::from_utf8(output.stderr.clone()).unwrap();
    let out = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(refusal.code), "{name}: {out}{err}");
    let error: Vec<&str> = err.lines().filter(|line| line.starts_with("error: ")).collect();
    let whole = &err[err.find("error: ").unwrap_or_default()..];
    assert!(!error.is_empty(), "{name}: no line begins with `error: `: {err}");
    assert!(whole.contains(refusal.object), "{name} must name {}: {err}", refusal.object);
    if !refusal.hint.is_empty() {
        let hint = err.split_once("hint: ").unwrap_or_else(|| panic!("{name} has no hint: {err}")).1;
        assert!(hint.contains(refusal.hint), "{name}: the hint must hold `{}`: {hint}", refusal.hint);
    }
    for secret in SECRETS {
        for text in [&out, &err, &report.to_owned()] {
            assert!(!text.contains(secret), "{name} shows a secret: {text}");
        }
    }
    if !report.is_empty() {
        let report: serde_json::Value = serde_json::from_str(report).unwrap();
        assert_eq!(report["error"]["exit_code"], refusal.code, "{name}: {report}");
        let message = report["error"]["message"].as_str().unwrap();
        assert!(err.contains(message), "{name}: the report says `{message}`, the terminal {err}");
    }
    // What a restore plans has sizes and times in it; what is wrong begins with the first warning or error.
    let said: Vec<&str> = err
        .lines()
        .skip_while(|line| !line.starts_with("warning: ") && !line.starts_with("error: "))
        .filter(|line| !line.starts_with("Verified "))
        .collect();
    let said = said.join("\n");
    let text = format!("exit {}\n{}", refusal.code, steady(place, &said));
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(format!("error__{}", name.replace(' ', "_")), text));
}

/// `0m` or `07s`, as locks tell their age.
fn is_age(word: &str) -> bool {
    let digits = word.trim_end_matches(['m', 's']);
    digits.len() + 1 == word.len() && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Replaces what differs from run to run: places, the host, ids, processes, times.
fn steady(place: &Place, text: &str) -> String {
    let text =
        text.replace(&place.machine.root.display().to_string(), "[ROOT]").replace(&support::host(), "[HOST]");
    let mut steady = String::new();
    for line in text.lines() {
        let mut before = "";
        for word in line.split_inclusive(' ') {
            let bare = word.trim_end().trim_matches(|c: char| "`:.,;()".contains(c));
            let head = bare.split(':').next().unwrap_or_default();
            let is_id = matches!(head.len(), 8 | 64) && head.bytes().all(|byte| byte.is_ascii_hexdigit());
            let is_number = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit());
            let is_time = bare.len() > 18 && bare.ends_with('Z') && bare.as_bytes()[10] == b'T';
            if is_time {
                steady.push_str(&word.replace(bare, "[TIME]"));
            } else if let Some((path, id)) = bare.rsplit_once('/')
                && id.len() == 64
            {
                let folder = path.strip_suffix(&id[..2]).unwrap_or(path);
                steady.push_str(&word.replace(bare, &format!("{}/[ID]", folder.trim_end_matches('/'))));
            } else if is_id {
                steady.push_str(&word.replace(head, "[ID]"));
            } else if is_number && bare.len() > 5 {
                steady.push_str(&word.replace(bare, "[BYTES]"));
            } else if is_age(bare) {
                steady.push_str(&word.replace(bare, "[AGE]"));
            } else if is_number && ["process", "pid"].contains(&before) {
                steady.push_str(&word.replace(bare, "[PID]"));
            } else {
                steady.push_str(word);
            }
            before = bare;
        }
        steady.push('\n');
    }
    steady
}
