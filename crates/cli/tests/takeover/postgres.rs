//! Scripts that dump PostgreSQL databases: what is taken over is run against a server.

use super::*;
use crate::support::outcome;
use testkit::{Cluster, POSTGRES_VERSIONS};

#[test]
fn what_is_taken_over_of_pg_dump_lines_backs_up_a_server() {
    let (machine, cluster) = (Machine::new(), Cluster::start(POSTGRES_VERSIONS[0]));
    for name in ["erp", "shop_acme", "shop_bolt"] {
        cluster.create(name);
        cluster.sql(name, "CREATE TABLE t AS SELECT generate_series(1, 100) AS id");
    }
    std::fs::create_dir_all(machine.path("dumps/weekly")).unwrap();
    machine.write("tenants.env", "TENANTS=\"acme bolt\"\n");
    let url = cluster.url("x");
    let query = url.split_once('?').unwrap().1;
    let value = |key: &str| {
        query.split('&').find_map(|pair| pair.strip_prefix(&format!("{key}="))).unwrap_or_default().to_owned()
    };
    let script = format!(
        "#!/bin/sh\nexport PGHOST={} PGPORT= PGUSER=postgres\n. {}\n\
         DIR={}\n\
         nice -n 19 /usr/bin/pg_dump --no-owner -Fp erp | gzip -c > $DIR/erp_`date +%Y-%m-%d`.sql.gz || exit 1\n\
         pg_dump -Fc -f \"$DIR/weekly/erp_$(date +%Y-%m-%d).dump\" erp\n\
         for t in $TENANTS; do\n  pg_dump -s -d shop_$t | xz > $DIR/shop_${{t}}_$(date +%s).sql.xz\ndone\n\
         find $DIR -name '*.sql.gz' -mtime +30 -exec rm -f {{}} \\;\n",
        value("host"),
        machine.text("tenants.env"),
        machine.text("dumps"),
    );
    let (_, report) = taken(&machine, 0, &script, &["--yes"]);
    assert_eq!(of_targets(&report, "name"), ["erp", "erp", "tenants"]);
    assert_eq!(of_targets(&report, "form"), ["sql.gz", "dump.zst", "sql.xz"]);
    assert_eq!(of_targets(&report, "keep"), ["max_age = \"30d\"", "-", "-"], "{report}");
    let text = std::fs::read_to_string(machine.path("here.toml")).unwrap();
    assert!(text.contains("variable = \"TENANTS\"") && text.contains("schema_only = true"), "{text}");
    let run = |arguments: &[&str]| {
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", cluster.programs().display());
        let outcome =
            outcome(machine.command().env("PATH", path).args(arguments).args(["--config", "here.toml"]));
        assert_eq!(outcome.code, 0, "{arguments:?}: {} {}", outcome.out, outcome.err);
        outcome
    };
    let made = run(&["backup", "--all", "--json"]).json();
    assert_eq!(made["backups"].as_array().unwrap().len(), 4, "{made}");
    run(&["verify", "erp"]);
    run(&["restore", "erp@latest", "--to-new", "look"]);
    assert_eq!(cluster.text("look"), cluster.text("erp"));
}
