//! `doctor`, `role`, `init` and `demo` with PostgreSQL, by the program: what they say, their exit codes and their objects.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::PathBuf;
use support::{Machine, Outcome, outcome};
use testkit::Cluster;

fn run(machine: &Machine, cluster: &Cluster, arguments: &[&str]) -> Outcome {
    let mut command = machine.command();
    command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", cluster.programs().display()));
    outcome(command.args(arguments))
}

#[track_caller]
fn ends(machine: &Machine, cluster: &Cluster, code: i32, arguments: &[&str]) -> Outcome {
    let outcome = run(machine, cluster, arguments);
    assert_eq!(outcome.code, code, "{arguments:?}: {} {}", outcome.out, outcome.err);
    outcome
}

#[test]
fn a_role_for_backups_is_printed_made_and_checked() {
    let cluster = Cluster::start(15);
    let machine = Machine::new();
    cluster.create("erp");
    cluster.sql(
        "erp",
        "CREATE TABLE orders AS SELECT 1 AS a; CREATE TABLE guarded AS SELECT 2 AS a;
         ALTER TABLE guarded ENABLE ROW LEVEL SECURITY; SELECT lo_from_bytea(7, 'x'); CREATE ROLE poor LOGIN",
    );
    let admin = cluster.url("erp");
    // What cannot be read is told by `doctor`, by `role --check`, and by the backup, before anything is read.
    let poor = cluster.url_as("poor", "erp");
    let told = ends(&machine, &cluster, 21, &["doctor", &poor]);
    assert!(told.out.contains("problem: table public.orders: cannot be read"), "{}", told.out);
    assert!(told.out.contains("hint: GRANT SELECT ON public.orders TO poor"), "{}", told.out);
    let told = ends(&machine, &cluster, 21, &["role", &poor, "--check"]);
    assert!(told.err.contains("error: role poor cannot read everything: 4 problems"), "{}", told.err);
    let told = ends(&machine, &cluster, 0, &["backup", &poor, "--dry-run"]);
    assert!(told.err.contains("problem: table public.orders: cannot be read"), "{}", told.err);
    let told = ends(&machine, &cluster, 20, &["backup", &poor]);
    assert!(
        told.err.contains("permission denied for role poor: tables public.guarded, public.orders"),
        "{}",
        told.err
    );
    assert!(told.err.contains("`backstay role`"), "{}", told.err);

    // Printed as a script that psql runs.
    let printed = ends(&machine, &cluster, 0, &["role", &admin, "--role", "backup"]);
    assert!(printed.out.starts_with("-- A role that may read all of database erp"), "{}", printed.out);
    assert!(printed.out.contains("GRANT pg_read_all_data TO backup;"), "{}", printed.out);
    assert!(printed.err.contains("BYPASSRLS"), "said aloud: {}", printed.err);
    ends(&machine, &cluster, 0, &["role", &admin, "--role", "backup", "--apply", "--dry-run"]);
    assert_eq!(cluster.sql("erp", "SELECT count(*) FROM pg_roles WHERE rolname = 'backup'"), "0");
    cluster.sql("erp", &printed.out);
    let checked =
        ends(&machine, &cluster, 0, &["role", &cluster.url_as("backup", "erp"), "--check", "--json"]);
    let checked = checked.json();
    assert_eq!(checked["action"], "check");
    let one = &checked["databases"][0];
    assert_eq!(
        (&one["role"], &one["readable"], &one["exists"]),
        (&"backup".into(), &true.into(), &true.into())
    );
    assert_eq!((&one["applied"], one["statements"].as_array().unwrap().len()), (&false.into(), 0));

    let missing = ends(&machine, &cluster, 21, &["role", &admin, "--role", "nobody_known", "--check"]);
    assert!(missing.out.contains("role nobody_known: there is none"), "{}", missing.out);
    let applied =
        ends(&machine, &cluster, 0, &["role", &admin, "--role", "poor", "--apply", "--explicit-grants"]);
    assert!(
        applied.err.contains("The role poor was made, and may read everything of erp."),
        "{}",
        applied.err
    );
    ends(&machine, &cluster, 0, &["doctor", &poor]);
    ends(&machine, &cluster, 0, &["backup", &poor]);
}

#[test]
fn a_role_is_refused_where_there_is_none_to_be_had() {
    let machine = Machine::new();
    let file = machine.database("app.db", 1);
    let refused = machine.run(&["role", file.to_str().unwrap()]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    assert!(refused.err.contains("knows no roles") && refused.err.contains("hint: "), "{}", refused.err);
    let cluster = Cluster::start(15);
    cluster.sql("postgres", "CREATE ROLE plain LOGIN");
    let told = ends(
        &machine,
        &cluster,
        20,
        &["role", &cluster.url_as("plain", "postgres"), "--role", "backup", "--apply", "--json"],
    );
    let told = told.json();
    assert_eq!((&told["outcome"], &told["databases"]), (&"failed".into(), &serde_json::json!([])));
    assert!(told["error"]["hint"].as_str().unwrap().contains("superuser"), "{told}");
    for wrong in [&["--apply", "--check"][..], &["--check", "--explicit-grants"]] {
        assert_eq!(run(&machine, &cluster, &[&["role", "postgres://x/y"], wrong].concat()).code, 2);
    }
}

#[test]
fn servers_of_this_machine_are_found_with_their_databases() {
    let cluster = Cluster::start(15);
    let machine = Machine::new();
    machine.database("shop.db", 1);
    for database in ["shop", "My Data"] {
        cluster.create(database);
    }
    let mut command = machine.command();
    command.env("PGHOST", cluster.socket_folder()).env("PGUSER", "postgres");
    let report = outcome(command.args(["init", "--json"])).json();
    let folder = cluster.socket_folder().display().to_string();
    let found: Vec<&str> =
        report["databases"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let ours: Vec<String> =
        found.iter().filter(|name| name.contains(&folder)).map(|name| (*name).to_owned()).collect();
    assert_eq!(ours, ["My%20Data", "shop"].map(|name| format!("postgres:///{name}?host={folder}")));
    assert!(found.iter().any(|name| name.ends_with("shop.db")), "{found:?}");
    let file = PathBuf::from(report["config"].as_str().unwrap());
    let written = std::fs::read_to_string(file).unwrap();
    assert!(written.contains("[targets.shop]") && written.contains("[targets.shop-postgres]"), "{written}");
    // What was written is used.
    let mut command = machine.command();
    command.env("PATH", format!("{}:/usr/bin:/bin", cluster.programs().display())).env("PGUSER", "postgres");
    let backed_up = outcome(command.args(["backup", "shop-postgres", "--json"]));
    assert_eq!(backed_up.code, 0, "{}", backed_up.err);
    // Where a folder is named, files are looked for in it, and nothing else.
    let other = Machine::new();
    let mut command = other.command();
    command.env("PGHOST", cluster.socket_folder()).env("PGUSER", "postgres");
    let report = outcome(command.args(["init", ".", "--dry-run", "--json"])).json();
    assert_eq!(report["databases"], serde_json::json!([]));
}

#[test]
fn a_server_that_lets_nobody_in_is_told_of() {
    let cluster = Cluster::start(15);
    let machine = Machine::new();
    let rules = cluster.socket_folder().join("data/pg_hba.conf");
    std::fs::write(&rules, "local all postgres trust\nlocal all all scram-sha-256\n").unwrap();
    cluster.sql("postgres", "CREATE ROLE anna LOGIN PASSWORD 'geheim'; SELECT pg_reload_conf()");
    let mut command = machine.command();
    // A password is given to nobody who was only found.
    command.env("PGHOST", cluster.socket_folder()).env("PGUSER", "anna").env("PGPASSWORD", "geheim");
    let told = outcome(command.args(["init"]));
    assert_eq!(told.code, 0, "{}", told.err);
    let folder = cluster.socket_folder().display().to_string();
    assert!(
        told.err.contains(&format!("The PostgreSQL server at {folder}, port 5432 let nobody in")),
        "{}",
        told.err
    );
    let file = machine.root.join("home/.config/backstay/config.toml");
    let written = std::fs::read_to_string(file).unwrap();
    assert!(
        written.contains(&format!("# source = \"postgres://ROLE@/DATABASE?host={folder}&port=5432\"")),
        "{written}"
    );
}
