//! What a test does with a dump: pull it with several workers, write its entries into a folder, let stock programs load
//! that.

use engines::Engine;
use engines::postgres::PostgresEngine;
use flow::{
    Context, DatabaseName, DatabaseRef, DatabaseRequest, DumpOptions, DumpRequest, Dumped, EngineKind,
    Environment, Event, Observer, ScratchDir, TargetName, TargetRef,
};
use std::path::Path;
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::{Cluster, Drained, drain};

#[derive(Default)]
pub(crate) struct Findings(Mutex<Vec<String>>);

impl Observer for Findings {
    fn event(&self, event: Event) {
        if let Event::Finding(finding) = event {
            self.0.lock().unwrap().push(finding.message);
        }
    }
}

impl Findings {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

pub(crate) fn context(cluster: &Cluster, folder: &Path) -> (Context, Arc<Findings>) {
    let findings = Arc::new(Findings::default());
    let mut context = Context::quiet(ScratchDir::new(folder.join("scratch")));
    context.observer = findings.clone();
    let path = format!("{}:/usr/bin:/bin", cluster.programs().display());
    context.environment = Environment::new([("PATH".to_owned(), path)]);
    (context, findings)
}

pub(crate) fn target(url: &str) -> TargetRef {
    TargetRef {
        name: TargetName::new("erp").unwrap(),
        engine: EngineKind::Postgres,
        connection: url.to_owned(),
        secret: None,
        tenants: None,
    }
}

pub(crate) fn database(url: &str) -> DatabaseRef {
    DatabaseRef {
        target: TargetName::new("erp").unwrap(),
        name: DatabaseName::new("erp").unwrap(),
        connection: url.to_owned(),
    }
}

pub(crate) fn request(url: &str, jobs: usize) -> DumpRequest {
    DumpRequest {
        target: target(url),
        databases: vec![DatabaseRequest { database: database(url), previous: None }],
        options: DumpOptions { jobs, lock_wait: Duration::from_secs(5), ..DumpOptions::default() },
    }
}

/// Dumps a database with so many workers.
pub(crate) fn dump(url: &str, jobs: usize, context: &Context) -> Drained {
    let drained = drain(PostgresEngine.begin_dump(&request(url, jobs), context.clone()).unwrap(), jobs);
    assert_eq!(drained.violations, Vec::<String>::new());
    drained
}

/// Dumps a database that must come out well, and writes its entries into a folder.
pub(crate) fn dump_into(url: &str, jobs: usize, context: &Context, folder: &Path) -> Dumped {
    let drained = dump(url, jobs, context);
    assert!(drained.error.is_none(), "{:?}", drained.error);
    let found = drained.databases.into_values().next().unwrap();
    let dumped = found.dumped().cloned().unwrap_or_else(|| panic!("{:?}", found.verdicts));
    std::fs::create_dir_all(folder).unwrap();
    for (name, (layout, count)) in &dumped.entries {
        let parts = &found.parts[name];
        assert_eq!(parts.len(), *count as usize, "{name}");
        let mut whole = Vec::new();
        for (given, bytes, _) in parts.values() {
            assert_eq!(given, layout);
            whole.extend_from_slice(bytes);
        }
        std::fs::write(folder.join(name.as_str()), whole).unwrap();
    }
    assert_eq!(found.parts.len(), dumped.entries.len(), "a surplus of entries");
    dumped
}

/// Dumps a database that must not come out well.
pub(crate) fn failure(url: &str, context: &Context) -> String {
    let drained = dump(url, 2, context);
    if let Some(error) = drained.error {
        return error.to_string();
    }
    let found = drained.databases.into_values().next().unwrap();
    found.verdicts.into_iter().find_map(Result::err).expect("it came out well")
}

/// Loads a folder by stock `pg_restore`, which must not say a word.
#[track_caller]
pub(crate) fn restore(cluster: &Cluster, folder: &Path, into: &str, options: &[&str]) {
    let output = try_restore(cluster, folder, into, options);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{}: {complaints}", output.status);
}

pub(crate) fn try_restore(cluster: &Cluster, folder: &Path, into: &str, options: &[&str]) -> Output {
    let mut command = cluster.command("pg_restore");
    command.args(["--exit-on-error", "-d", into]).args(options).arg(folder);
    command.output().unwrap()
}
