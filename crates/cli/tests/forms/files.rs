//! Every form and compression, of a stored backup and of the live database: stock programs make the same database of it.

use crate::seams::Place;
use crate::{assert_same, command, done, load, make_everything, names, run, unpacked};
use testkit::{Cluster, POSTGRES_VERSIONS, sorted_script};

const COMPRESSIONS: [&str; 5] = ["gz", "zst", "lz4", "xz", "bz2"];

#[test]
fn every_form_is_loaded_by_stock_programs() {
    std::thread::scope(|scope| {
        for major in POSTGRES_VERSIONS {
            scope.spawn(move || forms(major));
        }
    });
}

fn forms(major: u32) {
    let cluster = Cluster::start(major);
    let place = Place::new();
    make_everything(&cluster, "source");
    let url = cluster.url("source");
    let expected = cluster.text("source");
    done(&place, &cluster, &["backup", &url]);
    let latest = format!("{url}@latest");
    for form in ["sql", "dump", "tar"] {
        let stored = format!("stored.{form}");
        let report = done(&place, &cluster, &["export", &latest, "--out", &stored, "--json"]).json();
        let size = std::fs::metadata(place.path(&stored)).unwrap().len();
        assert_eq!((&report["size_bytes"], &report["written_bytes"]), (&size.into(), &size.into()), "{form}");
        load(&cluster, &place.path(&stored), "copy");
        assert_same(&expected, &cluster.text("copy"), &format!("{major}: {stored}"));

        let live = format!("live.{form}");
        let report = done(&place, &cluster, &["backup", &url, "--out", &live, "--json"]).json();
        let size = std::fs::metadata(place.path(&live)).unwrap().len();
        let item = &report["backups"][0];
        assert_eq!((&item["size_bytes"], &item["id"]), (&size.into(), &serde_json::Value::Null), "{report}");
        assert_eq!(report["file"]["path"], place.text(&live));
        assert!(item["rows"].as_u64().unwrap() > 1000 && item["error"].is_null(), "{report}");
        load(&cluster, &place.path(&live), "copy");
        assert_same(&expected, &cluster.text("copy"), &format!("{major}: {live}"));
    }
    compressions(&place, &cluster, &latest);
    streams(&place, &cluster, &url);
    assert_eq!(cluster.sessions_left(), Vec::<String>::new());
    assert!(names(&place.path("")).iter().all(|name| !name.contains("partial")));
}

fn compressions(place: &Place, cluster: &Cluster, latest: &str) {
    for form in ["sql", "dump", "tar"] {
        let plain = std::fs::read(place.path(&format!("stored.{form}"))).unwrap();
        for ending in COMPRESSIONS {
            let name = format!("packed.{form}.{ending}");
            let report = done(place, cluster, &["export", latest, "--out", &name, "--json"]).json();
            let written = std::fs::metadata(place.path(&name)).unwrap().len();
            assert_eq!(report["written_bytes"], written);
            let found = unpacked(&place.path(&name));
            match form {
                // The key that psql is told is another one each time.
                "sql" => assert_same(
                    &sorted_script(&String::from_utf8_lossy(&plain)),
                    &sorted_script(&String::from_utf8_lossy(&found)),
                    &name,
                ),
                _ => assert!(found == plain, "{name}"),
            }
        }
    }
}

fn streams(place: &Place, cluster: &Cluster, url: &str) {
    let latest = format!("{url}@latest");
    for (form, arguments) in [
        ("dump", &["export", &latest, "--out", "-"][..]),
        ("sql", &["export", &latest, "--out", "-", "--form", "sql"]),
        ("tar", &["backup", url, "--out", "-", "--form", "tar"]),
        ("dump", &["backup", url, "--out", "-"]),
    ] {
        let output = command(place, cluster).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        let file = place.path(&format!("stream.{form}"));
        std::fs::write(&file, output.stdout).unwrap();
        load(cluster, &file, "copy");
        assert_same(&cluster.text("source"), &cluster.text("copy"), &format!("{arguments:?}"));
    }
    // One table alone, which stock programs find by its offset.
    let dump = place.text("stored.dump");
    let mut list = cluster.command("pg_restore");
    let script = list.args(["-f", "-", "-t", "people", "-a", &dump]).output().unwrap();
    let script = String::from_utf8_lossy(&script.stdout).into_owned();
    assert!(script.contains("person 1000") && script.matches("COPY ").count() == 1, "{script}");
}

#[test]
fn what_does_not_go_together_is_refused_before_anything_is_done() {
    let cluster = Cluster::start(15);
    let place = Place::new();
    cluster.create("erp");
    let url = cluster.url("erp");
    place.machine.write("there.sql", "mine");
    for (arguments, code, words) in [
        (&["backup", &url, "--out", "there.sql"][..], 2, "exists already"),
        (&["backup", &url, "--out", "x.db"], 2, "no form .db"),
        (&["backup", &url, "--out", "x.sql.age"], 2, "encrypted"),
        (&["backup", &url, "--out", "x.zip"], 2, "names no form"),
        (&["backup", &url, "--out", "x.sql", "--tag", "a"], 2, "cannot be used with"),
        (&["backup", &url, "--form", "sql"], 2, "--out"),
        (&["backup", &url, "--out", "x.sql", "--form", "sql"], 2, "goes with `--out -` only"),
        (&["backup", &url, "--out", "-", "--json"], 2, "both want standard output"),
        (&["backup", &url, &cluster.url("postgres"), "--out", "x.sql"], 2, "one goes into a file"),
        (&["backup", &cluster.url("nothing"), "--out", "x.sql"], 20, "does not exist"),
        (&["backup", &url, "--out", "no/such/x.sql"], 1, "cannot be made"),
    ] {
        let refused = run(&place, &cluster, arguments);
        assert_eq!(refused.code, code, "{arguments:?}: {}", refused.err);
        assert!(refused.err.contains(words), "{arguments:?}: {}", refused.err);
    }
    let dry = done(&place, &cluster, &["backup", &url, "--out", "x.sql", "--dry-run"]);
    assert!(dry.err.contains("Nothing was written"), "{}", dry.err);
    assert_eq!(names(&place.path("")), ["repo", "there.sql"]);
    assert_eq!(std::fs::read_to_string(place.path("there.sql")).unwrap(), "mine");
    // No repository is needed, and none is made.
    let alone = Place::without_repository();
    let mut without = command(&alone, &cluster);
    without.env_remove("BACKSTAY_REPOSITORY").args(["backup", &url, "--out", "x.dump", "--quiet"]);
    without.assert().success().stdout("").stderr("");
    assert_eq!(names(&alone.path("")), ["x.dump"]);
    assert!(!alone.machine.root.join("home/.local/share/backstay/repository").exists());
}
