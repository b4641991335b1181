//! PostgreSQL: every form that stock `pg_dump` of the oldest and the newest version here writes.

use crate::support::Machine;
use crate::{PROGRAMS, check, item, pack, problem, verify};
use std::fs;
use std::path::Path;
use testkit::{Cluster, POSTGRES_VERSIONS};

const SHOP: &str = "
CREATE TABLE items (id int PRIMARY KEY, name text DEFAULT E'a\\\\\\'b', \"odd, (name\" text);
INSERT INTO items SELECT i, 'item ' || i || E'\\t\\n\\\\', repeat('x', i % 50) FROM generate_series(1, 5000) AS i;
CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES;
CREATE TABLE empty (a int);
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $_$ SELECT 'a;''b' -- ; $x$
 $_$;
CREATE FUNCTION g() RETURNS bigint LANGUAGE sql BEGIN ATOMIC; SELECT count(*) FROM items; SELECT 1; END;
COMMENT ON TABLE items IS 'it''s; /* no */ comment';
SELECT lo_from_bytea(4711, decode(repeat('00ff', 30000), 'hex')); SELECT lo_create(4712);
";

fn run(cluster: &Cluster, program: &str, arguments: &[&str]) {
    let output = cluster.command(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn dump(cluster: &Cluster, options: &[&str], to: &Path) {
    run(cluster, "pg_dump", &[options, &["-f", &to.display().to_string(), "shop"]].concat());
}

/// The forms whose packing only newer versions know, and of those the ones that this build knows.
fn of_newer_packings(cluster: &Cluster, dumps: &Path) -> Vec<(&'static str, &'static str)> {
    let forms = [
        ("lz4.dump", ["-Fc", "-Zlz4"], "postgres-custom"),
        ("zstd.dump", ["-Fc", "-Zzstd:3"], "postgres-custom"),
        ("lz4", ["-Fd", "-Zlz4"], "postgres-directory"),
        ("zstd", ["-Fd", "-Zzstd:3"], "postgres-directory"),
    ];
    let mut made = Vec::new();
    for (name, options, format) in forms {
        let output =
            cluster.command("pg_dump").args(options).arg("-f").arg(dumps.join(name)).arg("shop").output();
        if output.unwrap().status.success() {
            made.push((name, format));
        } else {
            let _ = fs::remove_file(dumps.join(name));
            let _ = fs::remove_dir_all(dumps.join(name));
        }
    }
    made
}

#[test]
fn each_form_of_each_version_passes_and_is_counted() {
    for major in POSTGRES_VERSIONS {
        let machine = Machine::new();
        let dumps = machine.path("dumps");
        fs::create_dir(&dumps).unwrap();
        let cluster = Cluster::start(major);
        cluster.create("shop");
        cluster.sql("shop", SHOP);
        let forms: [(&str, &[&str], &str); 8] = [
            ("plain.sql", &[], "postgres-sql"),
            ("inserts.sql", &["--inserts"], "postgres-sql"),
            ("clean.sql", &["--clean", "--if-exists", "--create"], "postgres-sql"),
            ("custom.dump", &["-Fc"], "postgres-custom"),
            ("custom0.dump", &["-Fc", "-Z0"], "postgres-custom"),
            ("archive.tar", &["-Ft"], "postgres-tar"),
            ("folder", &["-Fd"], "postgres-directory"),
            ("folder0", &["-Fd", "-Z0"], "postgres-directory"),
        ];
        for (name, options, _) in forms {
            dump(&cluster, options, &dumps.join(name));
        }
        let mut wanted = forms.map(|(name, _, format)| (name, format)).to_vec();
        if major >= 16 {
            wanted.extend(of_newer_packings(&cluster, &dumps));
        }
        let all = cluster.command("pg_dumpall").output().unwrap();
        assert!(all.status.success());
        fs::write(dumps.join("all.sql"), all.stdout).unwrap();
        wanted.push(("all.sql", "postgres-sql"));
        let report = verify(&machine, 0, &["dumps"]);
        for (name, format) in &wanted {
            let item = item(&report, name);
            assert_eq!(
                (&item["valid"], &item["format"]),
                (&true.into(), &(*format).into()),
                "{major}: {item}"
            );
            assert_eq!(item["doubts"], serde_json::json!([]), "{major}: {item}");
            assert!(item["tables"].as_u64().unwrap() >= 3, "{major}: {item}");
            if *name != "all.sql" {
                assert_eq!(item["rows"], 5001, "{major}: {item}");
            }
            let detail = check(item, "format")["detail"].as_str().unwrap();
            let told = if *format == "postgres-sql" { "closing line" } else { "2 large objects" };
            assert!(detail.contains(told), "{major} {name}: {detail}");
        }
        assert_eq!(report["summary"]["total_files"], wanted.len(), "{report}");
    }
}

#[test]
fn each_form_that_is_cut_or_damaged_fails() {
    let machine = Machine::new();
    let dumps = machine.path("dumps");
    fs::create_dir(&dumps).unwrap();
    let cluster = Cluster::start(15);
    cluster.create("shop");
    cluster.sql("shop", SHOP);
    let mut cuts = Vec::new();
    for (name, options) in
        [("a.sql", &[][..]), ("a.dump", &["-Fc"]), ("z.dump", &["-Fc", "-Z0"]), ("a.tar", &["-Ft"])]
    {
        let whole = machine.path(name);
        dump(&cluster, options, &whole);
        let bytes = fs::read(&whole).unwrap();
        // A tar archive ends with its two empty blocks, SQL text with its closing comment.
        let last = match name {
            "a.sql" => String::from_utf8_lossy(&bytes).rfind(" complete").unwrap(),
            _ => bytes.len() - 1,
        };
        for part in [1, 5, 20, 50, 80, 95, 99] {
            let cut = dumps.join(format!("cut{part}-{name}"));
            fs::write(&cut, &bytes[..bytes.len() * part / 100]).unwrap();
            cuts.push(cut);
        }
        let cut = dumps.join(format!("last-{name}"));
        fs::write(&cut, &bytes[..last]).unwrap();
        cuts.push(cut);
    }
    // A zlib stream holds its sum: whatever byte of it is another one shows.
    let bytes = fs::read(machine.path("a.dump")).unwrap();
    for at in [bytes.len() / 2, bytes.len() * 3 / 4] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        let path = dumps.join(format!("flipped{at}.dump"));
        fs::write(&path, flipped).unwrap();
        cuts.push(path);
    }
    let report = verify(&machine, 21, &["dumps"]);
    assert_eq!(report["summary"]["invalid"], cuts.len(), "{report}");
    for cut in &cuts {
        let why = problem(&report, cut.file_name().unwrap().to_str().unwrap());
        assert!(why.starts_with("format: "), "{cut:?}: {why}");
    }
}

#[test]
fn a_folder_that_lost_a_file_or_has_a_cut_one_fails() {
    let machine = Machine::new();
    let dumps = machine.path("dumps");
    fs::create_dir(&dumps).unwrap();
    let cluster = Cluster::start(15);
    cluster.create("shop");
    cluster.sql("shop", SHOP);
    for name in ["lost", "cut", "object", "whole"] {
        dump(&cluster, &["-Fd"], &dumps.join(name));
    }
    let files = |name: &str| {
        let mut files: Vec<_> = fs::read_dir(dumps.join(name)).unwrap().map(|file| file.unwrap()).collect();
        files.sort_by_key(|file| file.metadata().unwrap().len());
        files
            .into_iter()
            .map(|file| file.path())
            .filter(|path| path.extension().is_some_and(|end| end == "gz"))
            .collect::<Vec<_>>()
    };
    let data = files("lost").into_iter().rfind(|path| !path.display().to_string().contains("blob")).unwrap();
    fs::remove_file(data).unwrap();
    let data = files("cut").into_iter().rfind(|path| !path.display().to_string().contains("blob")).unwrap();
    let bytes = fs::read(&data).unwrap();
    fs::write(&data, &bytes[..bytes.len() - 5]).unwrap();
    let object =
        files("object").into_iter().find(|path| path.display().to_string().contains("blob_4711")).unwrap();
    fs::remove_file(object).unwrap();
    let report = verify(&machine, 21, &["dumps"]);
    assert_eq!(report["summary"]["valid"], 1, "{report}");
    assert!(problem(&report, "lost").contains("TABLE DATA public.items"), "{report}");
    assert!(problem(&report, "cut").contains("TABLE DATA public.items"), "{report}");
    assert!(problem(&report, "object").contains("blob_4711"), "{report}");
    // The folder itself is a dump too.
    verify(&machine, 0, &["dumps/whole"]);
}

#[test]
fn archives_are_read_through_what_packs_them() {
    let machine = Machine::new();
    let dumps = machine.path("dumps");
    fs::create_dir(&dumps).unwrap();
    let cluster = Cluster::start(15);
    cluster.create("shop");
    cluster.sql("shop", SHOP);
    for (name, options) in [("a.sql", &[][..]), ("b.dump", &["-Fc", "-Z0"]), ("c.tar", &["-Ft"])] {
        dump(&cluster, options, &dumps.join(name));
        for (program, ending) in PROGRAMS {
            pack(program, ending, &dumps.join(name));
        }
    }
    let report = verify(&machine, 0, &["dumps"]);
    assert_eq!(report["summary"]["valid"], 18, "{report}");
    for name in ["a.sql.xz", "b.dump.lz4", "c.tar.bz2"] {
        assert_eq!(item(&report, name)["rows"], 5001);
    }
}
