//! Databases that another process keeps: locked against a backup, open against a restore.

use crate::seams::{Holding, Place, sql};
use crate::{Refusal, refuse};
use std::time::Instant;

#[test]
fn a_target_that_a_process_holds() {
    let place = Place::new();
    let path = place.machine.database("app.db", 50);
    place.backup("app.db");
    let holding = Holding::begin(&path, "SELECT count(*) FROM t;");
    for (name, arguments) in [
        ("target in use", &["restore", "app.db", "--confirm", "app.db"][..]),
        ("target in use and yes", &["restore", "app.db", "--yes"]),
    ] {
        refuse(&place, &Refusal { name, arguments, code: 11, object: "sqlite3", hint: "--in-place" });
    }
    drop(holding);
    place.done(&["restore", "app.db", "--yes"]);
}

#[test]
fn a_source_that_stays_locked() {
    let place = Place::new();
    let path = place.machine.database("app.db", 50);
    place.backup("app.db");
    sql(&path, "DELETE FROM t WHERE id = 1");
    let holding = Holding::begin(&path, "BEGIN EXCLUSIVE;");
    let begun = Instant::now();
    refuse(
        &place,
        &Refusal {
            name: "locked database",
            arguments: &["backup", "app.db", "--lock-wait", "1"],
            code: 20,
            object: "sqlite3",
            hint: "long transaction",
        },
    );
    assert!(begun.elapsed().as_secs() < 15, "it waits for as long as it was told to: {:?}", begun.elapsed());
    drop(holding);
    place.done(&["backup", "app.db"]);
}
