//! Restores that cannot begin, or that somebody has to finish first.

use crate::seams::{Place, sql};
use crate::{Refusal, refuse};

fn place() -> Place {
    let place = Place::new();
    place.machine.database("app.db", 50);
    place.backup("app.db");
    place
}

#[test]
fn targets() {
    let place = place();
    place.machine.database("other.db", 5);
    std::fs::create_dir(place.path("folder")).unwrap();
    for (name, arguments, code, object, hint) in [
        (
            "folder of the target is missing",
            &["restore", "app.db@latest", "--target", "./no/app.db", "--confirm", "app.db"][..],
            20,
            "/no",
            "mkdir",
        ),
        ("new file is there", &["restore", "app.db", "--to-new", "other.db"], 20, "other.db", "another"),
        (
            "folder of the safety copy is missing",
            &["restore", "app.db", "--safety-dir", "none", "--confirm", "app.db"],
            20,
            "/none",
            "mkdir",
        ),
        (
            "nothing to continue",
            &["restore", "--continue", "--target", "app.db"],
            2,
            "app.db",
            "nothing is to be done",
        ),
        (
            "nothing to roll back",
            &["restore", "--rollback", "--target", "app.db"],
            2,
            "app.db",
            "nothing is to be done",
        ),
    ] {
        refuse(&place, &Refusal { name, arguments, code, object, hint });
    }
}

#[test]
fn an_unfinished_restore_comes_first() {
    let place = place();
    sql(&place.path("app.db"), "DELETE FROM t WHERE id > 3");
    // Kills the restore that runs it, the first time.
    let once = place.machine.root.join("once").display().to_string();
    let command = format!("test -e {once} || {{ touch {once}; kill -9 $PPID; }}");
    let killed = place.run(&["restore", "app.db", "--confirm", "app.db", "--stop-command", &command]);
    assert_ne!(killed.code, 0);
    // Who was killed left its lock; it stands in nobody's way, and the next one removes it.
    for lock in std::fs::read_dir(place.path("repo/locks")).unwrap() {
        std::fs::remove_file(lock.unwrap().path()).unwrap();
    }
    refuse(
        &place,
        &Refusal {
            name: "unfinished restore",
            arguments: &["restore", "app.db", "--confirm", "app.db"],
            code: 11,
            object: "app.db",
            hint: "backstay restore --continue",
        },
    );
    place.done(&["restore", "--continue", "--target", "app.db"]);
    assert_eq!(crate::support::count(&place.path("app.db")), 50);
}
