//! Where passwords come from, in which order, and that none is ever shown.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::{Machine, outcome};

#[test]
fn the_order_is_configuration_environment_key_file() {
    let machine = Machine::new();
    machine.database("app.db", 10);
    machine.write("word", "geheim\n");
    machine.write("false", "falsch\n");
    let with = |variables: &[(&str, &str)], arguments: &[&str]| {
        let mut command = machine.command();
        command.args(arguments);
        for (name, value) in variables {
            command.env(name, value);
        }
        outcome(&mut command).code
    };
    assert_eq!(with(&[("BACKSTAY_PASSWORD_FILE", "word")], &["init", "--repository", "./r"]), 0);
    assert!(!machine.root.join("home/.config/backstay/keys").exists(), "a given password needs no key file");
    let list = &["list", "--repository", "./r"][..];
    assert_eq!(with(&[("BACKSTAY_PASSWORD", "geheim")], list), 0);
    assert_eq!(with(&[("BACKSTAY_PASSWORD", "falsch")], list), 12);
    assert_eq!(with(&[("BACKSTAY_PASSWORD", "geheim"), ("BACKSTAY_PASSWORD_FILE", "false")], list), 0);
    assert_eq!(with(&[("BACKSTAY_PASSWORD_COMMAND", "cat word")], list), 0);
    assert_eq!(with(&[("BACKSTAY_PASSWORD_COMMAND", "exit 3")], list), 12);
    assert_eq!(with(&[("BACKSTAY_PASSWORD_FILE", "nowhere")], list), 12);
    assert_eq!(with(&[], list), 12);
    machine.write("backstay.toml", "[repositories.main]\npath = \"r\"\npassword_file = \"word\"\n");
    assert_eq!(with(&[("BACKSTAY_PASSWORD", "falsch")], &["list"]), 0);
    machine.write(
        "backstay.toml",
        "[repositories.main]\npath = \"r\"\npassword_command = [\"cat\", \"word\"]\n",
    );
    assert_eq!(with(&[], &["list"]), 0);
}

#[test]
fn a_moved_repository_still_finds_its_key() {
    let machine = Machine::new();
    machine.database("app.db", 10);
    machine.done(&["init", "--repository", "./one"]);
    machine.done(&["init", "--repository", "./two"]);
    std::fs::rename(machine.path("one"), machine.path("three")).unwrap();
    machine.done(&["backup", "app.db", "--repository", "./three"]);
    machine.done(&["backup", "app.db", "--repository", "./two"]);
    machine.done(&["list", "--repository", "./three"]);
}

#[test]
fn no_output_shows_a_secret() {
    let machine = Machine::new();
    machine.database("app.db", 10);
    machine.write(
        "backstay.toml",
        "[repositories.main]\npath = \"r\"\npassword_command = [\"cat\", \"word\"]\n",
    );
    machine.write("word", "s3cr3t-w0rd\n");
    machine.done(&["init", "--repository", "main"]);
    for arguments in [
        &["backup", "app.db", "--json", "--verbose"][..],
        &["list", "--json", "--verbose"],
        &["show", "latest", "--json"],
        &["verify", "--json"],
        &["check", "--read-data", "--json"],
        &["restore", "app.db", "--yes", "--json"],
        &["backup", "nowhere.db", "--json"],
        &["init", "--repository", "main"],
    ] {
        let outcome = machine.run(arguments);
        assert!(
            !outcome.out.contains("s3cr3t-w0rd") && !outcome.err.contains("s3cr3t-w0rd"),
            "{arguments:?}"
        );
    }
    machine.write("word", "another-w0rd\n");
    let wrong = machine.run(&["list"]);
    assert_eq!(wrong.code, 12);
    assert!(!wrong.err.contains("another-w0rd"), "{}", wrong.err);
    let typed = machine.run(&["backup", "postgres://app:s3cr3t-w0rd@db/erp"]);
    assert_eq!(typed.code, 2);
    assert!(!typed.err.contains("s3cr3t-w0rd"), "{}", typed.err);
}
