//! Files that `age` encrypts: written by `backup --out` and `export`, read with the key, and by nobody without it.

use crate::support::{Machine, outcome};
use crate::{check, item, nothing_left, problem, text, verify};
use std::fs;

/// An identity that everybody knows: the one of the crate's own tests. In two parts, so that nobody takes it for a secret.
const IDENTITY: &str =
    concat!("AGE-SECRET-KEY-", "1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX");

#[test]
fn what_is_written_for_a_passphrase_is_read_with_it_alone() {
    let machine = Machine::new();
    machine.database("app.db", 500);
    fs::create_dir(machine.path("dumps")).unwrap();
    machine.write("passphrase", "geheim und lang\n");
    machine.write("other", "another one\n");
    let with = |file: &str, arguments: &[&str]| {
        outcome(machine.command().env("BACKSTAY_AGE_PASSPHRASE_FILE", machine.path(file)).args(arguments))
    };
    for name in ["app-20260101.sql.gz.age", "app-20260102.db.age", "app-20260103.db.zst.age"] {
        let out = machine.text(&format!("dumps/{name}"));
        let made = with("passphrase", &["backup", "app.db", "--out", &out, "--json"]);
        assert_eq!(made.code, 0, "{}", text(&made));
        assert_eq!(made.json()["file"]["encryption"], "age");
        let bytes = fs::read(&out).unwrap();
        assert!(bytes.starts_with(b"age-encryption.org/v1\n-> scrypt "), "{name}");
    }
    let done = with("passphrase", &["verify", "dumps", "--json"]);
    assert_eq!(done.code, 0, "{}", text(&done));
    nothing_left(&machine);
    let report = done.json();
    let packed = item(&report, "app-20260101.sql.gz.age");
    assert_eq!((&packed["encryption"], &packed["compression"]), (&"age".into(), &"gzip".into()), "{packed}");
    assert_eq!((&packed["format"], &packed["rows"]), (&"sqlite-sql".into(), &500.into()), "{packed}");
    assert_eq!(item(&report, "app-20260102.db.age")["format"], "sqlite");
    // Without it, and with another one.
    let report = verify(&machine, 21, &["dumps"]);
    assert_eq!(report["summary"]["valid"], 0);
    assert!(problem(&report, "app-20260102.db.age").contains("BACKSTAY_AGE_PASSPHRASE_FILE"), "{report}");
    let wrong = with("other", &["verify", "dumps", "--json"]);
    assert_eq!(wrong.code, 21, "{}", text(&wrong));
    assert!(
        problem(&wrong.json(), "app-20260101.sql.gz.age").contains("another passphrase"),
        "{}",
        wrong.out
    );
    assert!(!text(&wrong).contains("another one"));
}

#[test]
fn what_is_cut_or_damaged_behind_the_encryption_fails() {
    let machine = Machine::new();
    machine.database("app.db", 5000);
    fs::create_dir(machine.path("dumps")).unwrap();
    machine.write("passphrase", "geheim und lang\n");
    let with = |arguments: &[&str]| {
        let file = machine.path("passphrase");
        outcome(machine.command().env("BACKSTAY_AGE_PASSPHRASE_FILE", file).args(arguments))
    };
    let out = machine.text("dumps/whole.sql.age");
    assert_eq!(with(&["backup", "app.db", "--out", &out]).code, 0);
    let bytes = fs::read(&out).unwrap();
    fs::write(machine.path("dumps/cut.sql.age"), &bytes[..bytes.len() - 20]).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    fs::write(machine.path("dumps/flipped.sql.age"), flipped).unwrap();
    fs::write(machine.path("dumps/behind.sql.age"), [bytes.as_slice(), b"more"].concat()).unwrap();
    let done = with(&["verify", "dumps", "--json"]);
    assert_eq!(done.code, 21, "{}", text(&done));
    let report = done.json();
    assert_eq!(report["summary"]["valid"], 1, "{report}");
    for name in ["cut", "flipped", "behind"] {
        let why = problem(&report, &format!("{name}.sql.age"));
        assert!(why.starts_with("encryption: "), "{why}");
    }
    assert_eq!(check(item(&report, "whole.sql.age"), "encryption")["passed"], true);
}

#[test]
fn what_is_written_for_a_recipient_is_read_by_its_identity() {
    let machine = Machine::new();
    machine.database("app.db", 50);
    fs::create_dir(machine.path("dumps")).unwrap();
    let keys = machine.path("keys");
    let identity = age::x25519::Identity::generate();
    use age::secrecy::ExposeSecret;
    fs::write(&keys, format!("# mine\n{}\n", identity.to_string().expose_secret())).unwrap();
    let recipient = identity.to_public().to_string();
    let id =
        machine.done(&["backup", "app.db", "--json"]).json()["backups"][0]["id"].as_str().unwrap().to_owned();
    let out = machine.text("dumps/app-20260101.sql.xz.age");
    let done = machine.done(&["export", &id, "--out", &out, "--age-recipient", &recipient, "--json"]);
    assert_eq!(done.json()["encryption"], "age");
    let report = verify(&machine, 0, &["dumps", "--age-identity", "keys"]);
    assert_eq!(item(&report, "app-20260101.sql.xz.age")["rows"], 50);
    // The crate itself finds the same text.
    let decryptor =
        age::Decryptor::new_buffered(std::io::BufReader::new(fs::File::open(&out).unwrap())).unwrap();
    let mut packed = Vec::new();
    std::io::Read::read_to_end(&mut decryptor.decrypt(std::iter::once(&identity as _)).unwrap(), &mut packed)
        .unwrap();
    fs::write(machine.path("app.sql.xz"), packed).unwrap();
    let unpacked = crate::tool("xz", &["-dc", &machine.text("app.sql.xz")]);
    let unpacked = String::from_utf8(unpacked).unwrap();
    assert_eq!(unpacked.matches("INSERT INTO").count(), 50);
    assert!(unpacked.ends_with("COMMIT;\n"));
    // Whose identity it is not, and nobody's.
    let other = age::x25519::Identity::generate();
    fs::write(&keys, other.to_string().expose_secret()).unwrap();
    let report = verify(&machine, 21, &["dumps", "--age-identity", "keys"]);
    assert!(problem(&report, "app-20260101.sql.xz.age").contains("encrypted for others"), "{report}");
    assert!(problem(&verify(&machine, 21, &["dumps"]), "app-20260101.sql.xz.age").contains("--age-identity"));
}

#[test]
fn what_does_not_go_together_is_refused() {
    let machine = Machine::new();
    machine.database("app.db", 5);
    machine.write("no-keys", "nothing\n");
    for (arguments, words) in [
        (&["backup", "app.db", "--out", "a.sql.age"][..], "nothing says for whom"),
        (&["backup", "app.db", "--out", "a.sql", "--age-recipient", "age1x"], "a recipient is none of age"),
        (&["backup", "app.db", "--out", "a.age"], "names no form"),
        (&["verify", "app.db", "--age-identity", "no-keys"], "holds no identity of age"),
        (&["verify", "app.db", "--age-identity", "nowhere"], "cannot be read"),
    ] {
        let outcome = machine.run(arguments);
        assert_eq!(outcome.code, 2, "{arguments:?}: {}", text(&outcome));
        assert!(outcome.err.contains(words), "{arguments:?}: {}", outcome.err);
        assert!(!outcome.err.contains(IDENTITY));
    }
    // An identity in the place of its recipient is not shown.
    let outcome = machine.run(&["backup", "app.db", "--out", "a.sql.age", "--age-recipient", IDENTITY]);
    assert_eq!(outcome.code, 2, "{}", text(&outcome));
    assert!(!text(&outcome).contains(&IDENTITY[..30]), "{}", text(&outcome));
    assert!(!machine.path("a.sql.age").exists());
}
