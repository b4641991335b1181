//! TLS as libpq has it: what each `sslmode` asks for and refuses, on our connection and on that of `pg_dump`.

use crate::pulled::{context, database, dump_into};
use engines::postgres::PostgresEngine;
use engines::{Engine, Query};
use flow::Context;
use std::path::Path;
use std::process::Command;
use testkit::Cluster;

fn openssl(folder: &Path, arguments: &str) {
    let output =
        Command::new("openssl").args(arguments.split_whitespace()).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Makes an authority, and a certificate of it for `localhost`.
fn certificates(folder: &Path, authority: &str) {
    openssl(
        folder,
        &format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={authority} \
             -keyout {authority}.key -out {authority}.crt"
        ),
    );
    openssl(
        folder,
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -keyout server.key \
         -out server.csr",
    );
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
        .unwrap();
    openssl(
        folder,
        &format!(
            "x509 -req -in server.csr -CA {authority}.crt -CAkey {authority}.key -CAcreateserial -days 2 \
             -extfile names -out server.crt"
        ),
    );
}

/// Tells whether a connection is encrypted, or why there is none.
fn encrypted(url: &str, context: &Context) -> Result<bool, String> {
    let query = Query {
        sql: "SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()".to_owned(),
        rows_max: 1,
    };
    let answer = PostgresEngine.query(&database(url), &query, context).map_err(|error| error.to_string())?;
    Ok(answer.rows[0][0].as_bool().unwrap())
}

#[test]
fn each_mode_asks_for_what_libpq_asks_for() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cluster = Cluster::start_with(15, &["listen_addresses=127.0.0.1", &format!("port={port}")]);
    let folder = tempfile::tempdir().unwrap();
    let (context, _) = context(&cluster, folder.path());
    let url = |host: &str, rest: &str| format!("postgres://postgres@{host}:{port}/postgres?{rest}");

    // Without TLS on the server.
    assert_eq!(encrypted(&url("localhost", "sslmode=prefer"), &context), Ok(false));
    assert_eq!(encrypted(&url("localhost", "sslmode=allow"), &context), Ok(false));
    let error = encrypted(&url("localhost", "sslmode=require"), &context).unwrap_err();
    assert!(error.contains("TLS"), "{error}");
    // What the server itself says is told, not that it has no TLS.
    for (user, name, expected) in [
        ("postgres", "nothing", "database \"nothing\" does not exist"),
        ("nobody", "postgres", "role \"nobody\" does not exist"),
    ] {
        let error = encrypted(&format!("postgres://{user}@localhost:{port}/{name}"), &context).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }

    certificates(folder.path(), "other");
    certificates(folder.path(), "authority");
    for name in ["server.key", "server.crt"] {
        cluster.put(name, &std::fs::read(folder.path().join(name)).unwrap());
    }
    cluster.sql("postgres", "ALTER SYSTEM SET ssl = on");
    cluster.sql("postgres", "SELECT pg_reload_conf(), pg_sleep(0.5)");
    let root = format!("sslrootcert={}", folder.path().join("authority.crt").display());
    let other = format!("sslrootcert={}", folder.path().join("other.crt").display());
    for (host, rest, expected) in [
        ("localhost", "sslmode=disable".to_owned(), Ok(false)),
        ("localhost", "sslmode=allow".to_owned(), Ok(false)),
        ("localhost", "sslmode=prefer".to_owned(), Ok(true)),
        ("localhost", "sslmode=require".to_owned(), Ok(true)),
        ("localhost", format!("sslmode=require&{root}"), Ok(true)),
        ("localhost", format!("sslmode=require&{other}"), Err(())),
        ("localhost", format!("sslmode=verify-ca&{root}"), Ok(true)),
        ("127.0.0.1", format!("sslmode=verify-ca&{root}"), Ok(true)),
        ("localhost", format!("sslmode=verify-ca&{other}"), Err(())),
        ("localhost", format!("sslmode=verify-full&{root}"), Ok(true)),
        ("127.0.0.1", format!("sslmode=verify-full&{root}"), Err(())),
    ] {
        let found = encrypted(&url(host, &rest), &context);
        assert_eq!(found.clone().map_err(drop), expected, "{host} {rest}: {found:?}");
        // psql is the judge.
        let judge = cluster
            .command("psql")
            .env_remove("PGHOST")
            .env_remove("PGPORT")
            .args(["-X", "-A", "-t", "-d", &url(host, &rest)])
            .args(["-c", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"])
            .output()
            .unwrap();
        let judged = match judge.status.success() {
            true => Ok(judge.stdout.starts_with(b"t")),
            false => Err(()),
        };
        assert_eq!(judged, expected, "psql: {host} {rest}");
    }
    let url = url("localhost", &format!("sslmode=verify-full&{root}"));
    let dumped = dump_into(&url, 2, &context, &folder.path().join("archive"));
    assert!(dumped.facts.tables.is_empty());
}
