//! Of which database an imported file is a backup.

use crate::seams::Place;
use crate::{import, imports};
use std::fs;

fn dumps(place: &Place, names: &[&str]) {
    fs::create_dir_all(place.path("dumps")).unwrap();
    for name in names {
        fs::write(place.path("dumps").join(name), format!("BEGIN;CREATE TABLE \"{name}\"(id);COMMIT;"))
            .unwrap();
    }
}

fn databases(report: &serde_json::Value) -> Vec<(String, String)> {
    let text = |item: &serde_json::Value, key: &str| item[key].as_str().unwrap_or("-").to_owned();
    imports(report).iter().map(|item| (text(item, "target"), text(item, "database"))).collect()
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn the_name_says_which_tenant() {
    let place = Place::new();
    dumps(&place, &["acme-20260101.sql", "globex_backup_20260102.sql"]);
    place.machine.database("shops/acme.db", 5);
    let config = "[targets.shops]\nsource = \"shops/{tenant}.db\"\n[targets.all]\nsource = \"shops\"\n";
    fs::write(place.path("backstay.toml"), config).unwrap();
    let report = import(&place, 0, &["dumps", "--target", "shops"]);
    assert_eq!(databases(&report), pairs(&[("shops", "acme"), ("shops", "globex")]));
    place.done(&["restore", "shops/acme@latest", "--confirm", "shops/acme"]);
    let tables = crate::dump(&place.path("shops/acme.db"));
    assert!(tables.contains("acme-20260101.sql"), "{tables}");
    // A tenant that is gone comes back from what was imported.
    place.done(&["restore", "shops/globex@latest", "--confirm", "shops/globex"]);
    assert!(place.path("shops/globex.db").exists());
    fs::remove_file(place.path("shops/globex.db")).unwrap();
    // Of a folder, only what is there can be told.
    let report = import(&place, 3, &["dumps", "--target", "all"]);
    let done: Vec<_> = databases(&report);
    assert_eq!(done, pairs(&[("all", "acme.db"), ("-", "-")]));
    assert!(imports(&report)[1]["error"]["message"].as_str().unwrap().contains("globex"), "{report}");
}

#[test]
fn several_databases_never_become_one() {
    let place = Place::new();
    dumps(&place, &["acme-20260101.sql", "globex-20260101.sql", "20260103.sql"]);
    fs::write(place.path("backstay.toml"), "[targets.erp]\nsource = \"erp.db\"\n").unwrap();
    for target in ["erp", "erp.db", "./other.db"] {
        let outcome = place.run(&["import", "dumps", "--target", target]);
        assert_eq!(outcome.code, 2, "{target}: {}", outcome.err);
        assert!(outcome.err.contains("acme") && outcome.err.contains("globex"), "{}", outcome.err);
    }
    let folder = place.text("dumps");
    let report = import(&place, 0, &["dumps"]);
    let folder = folder.as_str();
    assert_eq!(databases(&report), pairs(&[(folder, "acme"), (folder, "globex"), (folder, "dumps")]));
    let report = import(&place, 0, &["dumps/acme-20260101.sql", "--target", "erp"]);
    assert_eq!(databases(&report), pairs(&[("erp", "erp.db")]));
    place.done(&["restore", "erp@latest", "--yes"]);
    assert!(place.path("erp.db").exists());
}

#[test]
fn a_repository_that_is_named_is_never_made_and_tags_are_given() {
    let place = Place::without_repository();
    dumps(&place, &["acme-20260101.sql"]);
    assert_eq!(place.run(&["import", "dumps"]).code, 10);
    crate::seams::make_repository(&place.repository());
    for tag in ["imported", "database=x", "a,b"] {
        assert_eq!(place.run(&["import", "dumps", "--tag", tag]).code, 2, "{tag}");
    }
    import(&place, 0, &["dumps", "--tag", "old server"]);
    assert_eq!(crate::backups(&place)[0]["tags"], serde_json::json!(["imported", "old server"]));
    let failed = place.run(&["import", "--json"]);
    assert_eq!((failed.code, failed.json()["imports"].clone()), (2, serde_json::json!([])));
}
