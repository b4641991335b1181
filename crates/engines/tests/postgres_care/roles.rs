//! The role for backups: what is written is run, can be run again, lets everything be read and nothing be changed.

use crate::pulled::{context, database, dump_into};
use engines::postgres::PostgresEngine;
use engines::{Engine, RoleAction, RoleReport, RoleRequest};
use flow::{Context, Severity, SourceError};
use testkit::{Cluster, POSTGRES_VERSIONS};

const CONTENT: &str = "CREATE ROLE \"O'wner\" LOGIN; CREATE SCHEMA \"Shop 1\" AUTHORIZATION \"O'wner\";
  CREATE TABLE \"Shop 1\".orders (id serial, a int); INSERT INTO \"Shop 1\".orders (a) VALUES (1), (2);
  ALTER TABLE \"Shop 1\".orders OWNER TO \"O'wner\";
  CREATE TABLE guarded AS SELECT 1 AS a; ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
  SELECT lo_from_bytea(7, 'x');";

fn ask(
    url: &str,
    role: Option<&str>,
    object_by_object: bool,
    action: RoleAction,
    context: &Context,
) -> Result<RoleReport, SourceError> {
    let role = role.map(str::to_owned);
    let request = RoleRequest { database: database(url), role, object_by_object, action };
    PostgresEngine.role(&request, context)
}

fn problems(report: &RoleReport) -> usize {
    report.findings.iter().filter(|finding| finding.severity == Severity::Problem).count()
}

#[test]
fn the_role_reads_everything_and_changes_nothing() {
    for major in POSTGRES_VERSIONS {
        let cluster = Cluster::start(major);
        let folder = tempfile::tempdir().unwrap();
        let (context, _) = context(&cluster, folder.path());
        for database in ["erp", "other"] {
            cluster.create(database);
        }
        cluster.sql("other", "CREATE TABLE secret AS SELECT 1 AS a");
        cluster.sql("erp", CONTENT);
        let admin = cluster.url("erp");
        let by_object = |role: &str| role == "few \"rights\"";
        for role in ["backup", "few \"rights\""] {
            let report = ask(&admin, Some(role), by_object(role), RoleAction::Check, &context).unwrap();
            assert_eq!((report.exists, problems(&report)), (false, 1));
            let printed = ask(&admin, Some(role), by_object(role), RoleAction::Print, &context).unwrap();
            let made = ask(&admin, Some(role), by_object(role), RoleAction::Apply, &context).unwrap();
            assert_eq!((made.applied, made.exists, problems(&made)), (true, false, 0), "{:?}", made.findings);
            assert!(made.findings.iter().any(|finding| finding.message.contains("BYPASSRLS")));
            // Again, and as a script: nothing stands in the way.
            assert!(ask(&admin, Some(role), by_object(role), RoleAction::Apply, &context).unwrap().exists);
            cluster.sql("erp", &printed.statements.join(";\n"));

            let user = if by_object(role) { "few%20%22rights%22" } else { role };
            let url = cluster.url_as(user, "erp");
            // It is what the connection names: nothing more is to be said.
            let own = ask(&url, None, false, RoleAction::Check, &context).unwrap();
            assert_eq!((own.role.as_str(), own.findings.len()), (role, 0), "{:?}", own.findings);
            let dumped = dump_into(&url, 2, &context, &folder.path().join(format!("{major}{user}")));
            assert_eq!(dumped.facts.rows(), Some(3));
            changes_nothing(&cluster, role, by_object(role));
            let refused = ask(&url, Some("another"), false, RoleAction::Apply, &context).unwrap_err();
            assert!(refused.to_string().contains("nothing was changed"), "{refused}");
            assert!(refused.hint.unwrap().contains("superuser"));
            // What comes later, by the same owner in the same schema.
            let sql =
                format!("SET ROLE \"O'wner\"; CREATE TABLE \"Shop 1\".\"later {user}\" AS SELECT 1 AS a");
            cluster.sql("erp", &sql);
            assert_eq!(problems(&ask(&url, None, false, RoleAction::Check, &context).unwrap()), 0);
            cluster.sql("erp", &format!("DROP TABLE \"Shop 1\".\"later {user}\""));
        }
        assert_eq!(ask(&admin, None, false, RoleAction::Print, &context).unwrap().role, "backstay");
        who_may_restore_is_told(&cluster, &context);
    }
}

fn who_may_restore_is_told(cluster: &Cluster, context: &Context) {
    let url = cluster.url_as("backup", "erp");
    for (sql, message, hint) in [
        (
            "ALTER ROLE backup CREATEDB",
            "may restore to new databases only",
            Some("GRANT \"O'wner\" TO backup"),
        ),
        (
            "ALTER DATABASE erp OWNER TO backup",
            "may restore it too, once nobody else is connected",
            Some("GRANT pg_signal_backend TO backup"),
        ),
        ("GRANT pg_signal_backend TO backup", "may restore it too", None),
    ] {
        cluster.sql("erp", "ALTER DATABASE erp OWNER TO \"O'wner\"");
        cluster.sql("erp", sql);
        if hint.is_none() {
            cluster.sql("erp", "ALTER DATABASE erp OWNER TO backup");
        }
        let report = ask(&url, None, false, RoleAction::Check, context).unwrap();
        let [one] = report.findings.as_slice() else { panic!("{:?}", report.findings) };
        assert_eq!((one.severity, one.message.as_str()), (Severity::Notice, message));
        assert_eq!(one.hint.is_some(), hint.is_some());
        assert!(one.hint.as_deref().unwrap_or_default().contains(hint.unwrap_or_default()), "{one:?}");
    }
}

fn changes_nothing(cluster: &Cluster, role: &str, by_object: bool) {
    let quoted = format!("\"{}\"", role.replace('"', "\"\""));
    for sql in [
        "INSERT INTO guarded VALUES (5)",
        "DELETE FROM \"Shop 1\".orders",
        "TRUNCATE guarded",
        "CREATE TABLE \"Shop 1\".mine (a int)",
        "SELECT nextval('\"Shop 1\".orders_id_seq')",
        "SELECT lo_put(7, 0, 'y')",
        "SELECT lo_unlink(7)",
        "CREATE ROLE other_role",
    ] {
        let mut psql = cluster.command("psql");
        let script = format!("SET ROLE {quoted}; {sql}");
        let output = psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-d", "erp", "-c", &script]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{role} may {sql}");
        assert!(said.contains("permission denied") || said.contains("must be"), "{sql}: {said}");
    }
    let script = format!("SET ROLE {quoted}; SELECT * FROM secret");
    let mut psql = cluster.command("psql");
    let output = psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-d", "other", "-c", &script]).output().unwrap();
    assert_eq!(output.status.success(), !by_object, "{role}: {}", String::from_utf8_lossy(&output.stderr));
}
