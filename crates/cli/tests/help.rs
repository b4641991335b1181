//! What the help says is looked at when it changes, and `docs/cli.md` says the same.
//!
//! `BACKSTAY_UPDATE_DOCS=1 cargo test -p backstay --test help` writes the page anew; `INSTA_UPDATE=always` accepts the
//! snapshots.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::Path;
use support::Machine;

const COMMANDS: [&str; 21] = [
    "demo",
    "init",
    "doctor",
    "role",
    "backup",
    "list",
    "show",
    "verify",
    "restore",
    "export",
    "import",
    "prune",
    "check",
    "key",
    "accept",
    "unlock",
    "stats",
    "adopt",
    "takeover",
    "completions",
    "man",
];

/// The commands below a command.
const BELOW: [&str; 5] = ["key list", "key add", "key remove", "key passwd", "key confirm"];

/// All of them, each behind the one it belongs to.
fn all() -> Vec<&'static str> {
    let below =
        |name: &'static str| BELOW.into_iter().filter(move |below| below.split(' ').next() == Some(name));
    COMMANDS.into_iter().flat_map(|name| std::iter::once(name).chain(below(name))).collect()
}

fn help(command: Option<&str>) -> String {
    let arguments: Vec<&str> =
        command.into_iter().flat_map(|command| command.split(' ')).chain(["--help"]).collect();
    Machine::new().done(&arguments).out
}

#[test]
fn the_help_of_every_command_is_as_it_was() {
    insta::assert_snapshot!("backstay", help(None));
    for command in all() {
        insta::assert_snapshot!(command.replace(' ', "-"), help(Some(command)));
    }
}

#[test]
fn every_command_of_the_help_is_in_this_list() {
    let top = help(None);
    let listed: Vec<&str> = top
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert_eq!(listed, COMMANDS);
}

/// The help without the options that every command has, which the page shows once.
fn own_help(command: &str) -> String {
    let help = help(Some(command));
    let mut own = String::new();
    let mut global = false;
    for line in help.lines() {
        global = line == "Global options:" || (global && (line.is_empty() || line.starts_with(' ')));
        if !global {
            own.push_str(line.trim_end());
            own.push('\n');
        }
    }
    format!("{}\n", own.trim_end())
}

#[test]
fn the_reference_page_is_current() {
    let mut page = "# The command line\n\nMade of the program's own help by `BACKSTAY_UPDATE_DOCS=1 cargo test -p backstay --test help`; not to be edited by hand.\n".to_owned();
    page.push_str(&format!("\n## backstay\n\n```text\n{}```\n", help(None)));
    for command in all() {
        page.push_str(&format!("\n## backstay {command}\n\n```text\n{}```\n", own_help(command)));
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    if std::env::var_os("BACKSTAY_UPDATE_DOCS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let stored = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        stored == page,
        "docs/cli.md is stale: BACKSTAY_UPDATE_DOCS=1 cargo test -p backstay --test help"
    );
}

#[test]
fn commands_of_later_versions_do_not_exist() {
    let machine = Machine::new();
    let later = [
        "open", "drill", "diff", "recover", "rescue", "status", "copy", "schedule", "serve", "wal",
        "runbook", "incident", "notify", "storage", "audit",
    ];
    for command in later {
        let outcome = machine.run(&[command]);
        assert_eq!(outcome.code, 2, "{command}");
        assert!(outcome.err.contains("unrecognized subcommand"), "{command}: {}", outcome.err);
    }
    for arguments in
        [&["backup", "x.db", "--out", "y.sql.age"][..], &["verify", "--deep"], &["list", "--dry-run"]]
    {
        assert_eq!(machine.run(arguments).code, 2, "{arguments:?}");
    }
}

#[test]
fn completions_and_man_pages_are_of_the_same_definition() {
    let machine = Machine::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(machine.done(&["completions", shell]).out.contains("to-new"), "{shell}");
    }
    assert!(machine.done(&["man"]).out.contains(".TH backstay 1"));
    let folder = machine.path("man1");
    std::fs::create_dir(&folder).unwrap();
    let dry = machine.done(&["man", "man1", "--dry-run"]);
    assert_eq!(dry.out.lines().count(), all().len() + 1);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    machine.done(&["man", "man1"]);
    for command in all() {
        let file = format!("backstay-{}.1", command.replace(' ', "-"));
        let page = std::fs::read_to_string(folder.join(file)).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{command}");
    }
    assert_eq!(machine.run(&["man", "nowhere"]).code, 1);
}
