//! SQL text that no tool signed, as people write and publish it: known for PostgreSQL's, restored as `psql` would.

use super::postgres::Stage;
use std::path::Path;
use testkit::POSTGRES_VERSIONS;

const PUBLISHED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/chinook/chinook.postgres.sql");
const COUNTS: &str =
    "SELECT (SELECT count(*) FROM track) || ' ' || (SELECT count(*) FROM invoice_line) || ' ' ||
    (SELECT sum(total) FROM invoice)";

#[test]
fn a_script_that_people_publish_is_restored_as_psql_runs_it() {
    let stage = Stage::new(POSTGRES_VERSIONS[1], "SELECT 1");
    let verified = stage.done(&["verify", PUBLISHED, "--json"]).json();
    assert_eq!(verified["files"][0]["format"], "postgres-sql", "{verified}");
    let url = stage.cluster.url("shop");
    let report = stage.done(&["restore", PUBLISHED, "--target", &url, "--yes", "--json"]).json();
    assert_eq!(report["verified"], true, "{report}");
    // It makes the database that it is for by itself.
    let psql =
        stage.cluster.command("psql").args(["-X", "-q", "-f", PUBLISHED, "postgres"]).output().unwrap();
    assert!(psql.status.success(), "{}", String::from_utf8_lossy(&psql.stderr));
    let by_psql = stage.cluster.sql("chinook", COUNTS);
    assert!(by_psql.starts_with("3503 2240 "), "{by_psql}");
    assert_eq!(stage.cluster.sql("shop", COUNTS), by_psql);
    assert_eq!(stage.cluster.text("shop"), stage.cluster.text("chinook"));

    let with_commands = stage.machine.path("dumps").join("by-hand.sql");
    let text =
        "\\set ON_ERROR_STOP on\n\\echo making it\nCREATE TABLE a (b int);\nINSERT INTO a VALUES (1), (2);\n";
    std::fs::write(&with_commands, text).unwrap();
    let made = stage.cluster.url("made");
    stage.done(&["restore", &shown(&with_commands), "--target", &made, "--yes"]);
    assert_eq!(stage.cluster.sql("made", "SELECT sum(b) FROM a").trim(), "3");
    std::fs::write(&with_commands, format!("{text}\\! touch /tmp/never\n")).unwrap();
    let refused = stage.run(&["restore", &shown(&with_commands), "--target", &made, "--yes"]);
    assert_eq!(refused.code, 20, "{} {}", refused.out, refused.err);
    assert!(refused.err.contains("line 5") && refused.err.contains("\\!"), "{}", refused.err);
    assert_eq!(stage.cluster.sql("made", "SELECT sum(b) FROM a").trim(), "3");
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
