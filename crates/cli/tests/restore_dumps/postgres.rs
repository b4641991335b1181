//! Archives that stock `pg_dump` of two versions wrote, in every form and packing: restored, and then dumped again as the same
//! text; cut and damaged ones, and those for another system.

use super::support::{Machine, Outcome, outcome};
use super::{clean, pack};
use std::path::PathBuf;
use testkit::{Cluster, POSTGRES_VERSIONS, postgres_programs};

pub(super) const EVERYTHING: &str = include_str!("../../../engines/tests/postgres_dump/everything.sql");
pub(super) const CHINOOK: &str = include_str!("../../../../testdata/chinook/chinook.postgres.sql");

pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) machine: Machine,
}

impl Stage {
    pub(super) fn new(major: u32, script: &str) -> Self {
        let stage = Self { cluster: Cluster::start(major), machine: Machine::new() };
        stage.cluster.create("source");
        let script = script.split_once("\\c chinook;").map_or(script, |(_, rest)| rest);
        stage
            .cluster
            .sql("source", &format!("\\set role_reader reader\n\\set role_owner 'the owner'\n{script}"));
        std::fs::create_dir(stage.machine.path("dumps")).unwrap();
        stage
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Outcome {
        let mut command = self.machine.command();
        let programs = POSTGRES_VERSIONS.map(|major| postgres_programs(major).display().to_string());
        command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", programs.join(":")));
        outcome(command.args(arguments))
    }

    #[track_caller]
    pub(super) fn done(&self, arguments: &[&str]) -> Outcome {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, 0, "{arguments:?}: {} {}", outcome.out, outcome.err);
        outcome
    }

    /// Has stock `pg_dump` write a dump.
    pub(super) fn dump(&self, name: &str, options: &[&str]) -> PathBuf {
        let path = self.machine.path("dumps").join(name);
        let mut command = self.cluster.command("pg_dump");
        let output = command.args(options).arg("-f").arg(&path).args(["-d", "source"]).output().unwrap();
        assert!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
        path
    }

    pub(super) fn databases(&self) -> String {
        let sql = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1')";
        self.cluster.sql("postgres", sql)
    }
}

const FORMS: [(&str, &[&str]); 5] = [
    ("custom.dump", &["-Fc"]),
    ("plain.dump", &["-Fc", "-Z0"]),
    ("archive.tar", &["-Ft"]),
    ("folder", &["-Fd"]),
    ("folder-plain", &["-Fd", "-Z0", "-j2"]),
];

/// Packs the data of a directory archive as a `pg_dump` does that was built with zstd.
fn pack_members(folder: &std::path::Path) {
    for member in std::fs::read_dir(folder).unwrap().map(|member| member.unwrap().path()) {
        if member.extension().is_some_and(|ending| ending == "dat") && !member.ends_with("toc.dat") {
            pack("zstd", ".zst", &member);
            std::fs::remove_file(member).unwrap();
        }
    }
}

#[test]
fn every_form_that_stock_pg_dump_writes_comes_back() {
    for major in POSTGRES_VERSIONS {
        let stage = Stage::new(major, EVERYTHING);
        let expected = stage.cluster.text("source");
        let mut files: Vec<PathBuf> = FORMS.iter().map(|(name, options)| stage.dump(name, options)).collect();
        files.push(stage.dump("folder-zstd", &["-Fd", "-Z0"]));
        pack_members(&files[5]);
        files.push(pack("gzip", ".gz", &files[0]));
        files.push(pack("zstd", ".zst", &files[2]));
        if major != POSTGRES_VERSIONS[0] {
            // Of the others what differs between versions: large objects in groups, the header.
            files = [0, 2, 3].map(|number: usize| files[number].clone()).to_vec();
        }
        for (number, file) in files.iter().enumerate() {
            let name = format!("back_{number}");
            let target = stage.cluster.url(&name);
            let arguments = ["restore", &file.display().to_string(), "--target", &target, "--yes", "--json"];
            let report = stage.done(&arguments).json();
            assert_eq!(report["verified"], true, "{file:?}");
            assert_eq!(stage.cluster.text(&name), expected, "{major} {file:?}");
            assert!(report["safety_copy"].is_null());
            stage.cluster.sql("postgres", &format!("DROP DATABASE {name}"));
            clean(&stage.machine);
        }
        assert_eq!(stage.databases(), "source");
    }
}

#[test]
fn a_live_database_is_replaced_and_kept_and_single_tables_come_back() {
    let stage = Stage::new(18, CHINOOK);
    let file = stage.dump("source-20260105.dump", &["-Fc"]).display().to_string();
    let expected = stage.cluster.text("source");
    stage.cluster.sql("source", "DROP TABLE playlist_track; DELETE FROM invoice_line");
    let target = stage.cluster.url("source");
    stage.done(&["restore", &file, "--target", &target, "--table", "playlist_track"]);
    let rows = stage.cluster.sql("source", "SELECT count(*) FROM playlist_track");
    assert_eq!(rows, "8715");
    let dry = stage.done(&["restore", &file, "--target", &target, "--dry-run"]);
    assert!(dry.out.contains("source__safety_"), "{}", dry.out);
    let folder = stage.machine.text("dumps");
    let report = stage.done(&["restore", &folder, "--target", &target, "--yes", "--json"]).json();
    assert_eq!(report["backup"], file);
    let copy = report["safety_copy"].as_str().unwrap().to_owned();
    assert_eq!(stage.cluster.text("source"), expected);
    assert_eq!(stage.cluster.sql(&copy, "SELECT count(*) FROM invoice_line"), "0");
    // The schemas renamed, where no database may be.
    stage.cluster.sql("source", "DELETE FROM invoice_line");
    stage.done(&["restore", &file, "--target", &target, "--in-place", "--yes", "--no-safety"]);
    assert_eq!(stage.cluster.sql("source", "SELECT count(*) FROM invoice_line"), "2240");
}

#[test]
fn an_archive_that_is_not_whole_changes_nothing() {
    let stage = Stage::new(15, CHINOOK);
    let before = stage.cluster.text("source");
    let custom = std::fs::read(stage.dump("whole.dump", &["-Fc"])).unwrap();
    let plain = std::fs::read(stage.dump("plain.dump", &["-Fc", "-Z0"])).unwrap();
    let tar = std::fs::read(stage.dump("whole.tar", &["-Ft"])).unwrap();
    let folder = stage.dump("folder", &["-Fd"]);
    let flipped = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 0x55;
        bytes
    };
    let middle = custom.len() / 2;
    let cases = [
        ("half.dump", custom[..middle].to_vec()),
        ("cut.dump", custom[..custom.len() - 40].to_vec()),
        ("flipped.dump", flipped(&custom, middle)),
        ("half-plain.dump", plain[..plain.len() / 2].to_vec()),
        ("half.tar", tar[..tar.len() / 2].to_vec()),
        ("cut.tar", tar[..tar.len() - 4000].to_vec()),
        ("contents.dump", custom[..600].to_vec()),
    ];
    let mut files: Vec<String> = Vec::new();
    for (name, bytes) in cases {
        std::fs::write(stage.machine.path("dumps").join(name), bytes).unwrap();
        files.push(format!("dumps/{name}"));
    }
    let data = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    let largest = data.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let bytes = std::fs::read(&largest).unwrap();
    std::fs::write(&largest, &bytes[..bytes.len() / 2]).unwrap();
    files.push("dumps/folder".to_owned());
    let target = stage.cluster.url("source");
    for file in &files {
        let refused = stage.run(&["restore", file, "--target", &target, "--yes"]);
        assert_eq!(refused.code, 20, "{file}: {} {}", refused.out, refused.err);
        assert!(refused.err.contains(file.as_str()), "{file}: {}", refused.err);
        clean(&stage.machine);
    }
    std::fs::remove_file(&largest).unwrap();
    let refused = stage.run(&["restore", "dumps/folder", "--target", &target, "--yes"]);
    assert_eq!(refused.code, 20, "{}", refused.err);
    assert_eq!(stage.cluster.text("source"), before);
    assert_eq!(stage.databases(), "source");
}

#[test]
fn what_does_not_fit_the_target_is_refused() {
    let stage = Stage::new(
        18,
        "CREATE ROLE shopkeeper; CREATE TABLE t AS SELECT 1 AS id; ALTER TABLE t OWNER TO shopkeeper",
    );
    let file = stage.dump("t.dump", &["-Fc"]).display().to_string();
    let refused = stage.run(&["restore", &file, "--target", "new.db", "--yes"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("is a dump of postgres"), "{}", refused.err);
    let target = stage.cluster.url("other");
    stage.cluster.sql("postgres", "ALTER ROLE shopkeeper RENAME TO keeper");
    let refused = stage.run(&["restore", &file, "--target", &target, "--yes"]);
    assert_eq!(refused.code, 20, "{}", refused.err);
    assert!(refused.err.contains("shopkeeper"), "{}", refused.err);
    assert_eq!(stage.run(&["restore", &file, "--target", &target, "--create-roles", "--yes"]).code, 2);
    assert_eq!(stage.databases(), "source");
    stage.done(&["restore", &file, "--target", &target, "--role-map", "shopkeeper=keeper", "--yes"]);
    let owner = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 't'";
    assert_eq!(stage.cluster.sql("other", owner), "keeper");
}
