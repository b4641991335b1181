//! PostgreSQL in folders of dump files: what our plans write stock tools take, and directory archives go as a whole.

use super::*;
use testkit::{Cluster, POSTGRES_VERSIONS};

#[test]
fn plans_write_files_that_stock_tools_restore_and_old_archives_go() {
    for major in POSTGRES_VERSIONS {
        let (machine, cluster) = (Machine::new(), Cluster::start(major));
        for tenant in ["shop_acme", "shop_bolt"] {
            cluster.create(tenant);
            cluster.sql(
                tenant,
                "CREATE TABLE t AS SELECT i AS id, 'row ' || i AS text FROM generate_series(1, 300) i",
            );
        }
        std::fs::create_dir(machine.path("dumps")).unwrap();
        let source = cluster.url("shop_{tenant}");
        let plan = |name: &str, form: &str| format!("[targets.shops.plans.{name}]\nform = \"{form}\"\n");
        let text = format!(
            "[repositories.dumps]\npath = \"dumps\"\nlayout = \"files\"\nnames = \"{{database}}-{{plan}}-{{timestamp}}.{{ext}}\"\n\
             [targets.shops]\nsource = \"{source}\"\n{}{}{}",
            plan("custom", "dump"),
            plan("packed", "dump.zst"),
            plan("text", "sql.gz")
        );
        machine.write("backstay.toml", &text);
        let mut command = machine.command();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", cluster.programs().display());
        command.env("PATH", path).args(["backup", "shops", "--json"]);
        let outcome = support::outcome(&mut command);
        assert_eq!(outcome.code, 0, "{}", outcome.err);
        let files: Vec<String> = left(&machine).into_iter().filter(|name| !name.ends_with(".json")).collect();
        assert_eq!(files.len(), 6, "{files:?}");
        let custom = files.iter().find(|name| name.contains("acme-custom")).unwrap();
        cluster.create("again");
        let archive = machine.path("dumps").join(custom).display().to_string();
        let output = cluster.command("pg_restore").args(["-d", "again", &archive]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(cluster.text("again"), cluster.text("shop_acme"));
        machine.done(&["verify"]);
        // The plans ran in the order of their names: the newest is the text, before it the packed archive.
        let run = |arguments: &[&str]| {
            let path = format!("{}:/usr/local/bin:/usr/bin:/bin", cluster.programs().display());
            let outcome = support::outcome(machine.command().env("PATH", path).args(arguments));
            assert_eq!(outcome.code, 0, "{arguments:?}: {}", outcome.err);
            outcome
        };
        run(&["restore", "shops/acme@latest~1", "--to-new", "look"]);
        assert_eq!(cluster.text("look"), cluster.text("shop_acme"));
        cluster.sql("shop_acme", "DELETE FROM t WHERE id > 100");
        run(&["restore", "shops/acme@latest~2", "--confirm", "shops/acme"]);
        assert_eq!(cluster.text("shop_acme"), cluster.text("look"));
        run(&["export", "shops/acme@latest~1", "--out", "made.sql"]);
        cluster.create("made");
        let text = machine.text("made.sql");
        let output =
            cluster.command("psql").args(["-X", "-v", "ON_ERROR_STOP=1", "-d", "made", "-f", &text]).output();
        assert!(output.unwrap().status.success());
        assert_eq!(cluster.text("made"), cluster.text("look"));
        run(&["export", "shops/acme@latest", "--out", "text.sql"]);
        let refused = machine.run(&["export", "shops/acme@latest", "--out", "made.dump"]);
        assert!(refused.code == 2 && refused.err.contains("only a server"), "{}", refused.err);
        // Directory archives of another tool, of which the older goes.
        for name in ["old-20250601", "old-20250602"] {
            let folder = machine.path("dumps").join(name).display().to_string();
            let output =
                cluster.command("pg_dump").args(["-Fd", "-f", &folder, "shop_bolt"]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        prune(&machine, 0, &["--keep-last", "1", "--pattern", "old-*"]);
        let old: Vec<String> = left(&machine).into_iter().filter(|name| name.contains("old")).collect();
        assert_eq!(old, ["old-20250602"]);
        assert_eq!(left(&machine).len(), 13);
    }
}
