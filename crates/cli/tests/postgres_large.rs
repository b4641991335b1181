//! Values as large as PostgreSQL takes them by the hundred million bytes: they pass in pieces, and no program of ours holds
//! one as a whole.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::process::{Command, Stdio};
use std::time::Duration;
use support::Machine;
use testkit::Cluster;

/// What a run may have in memory at most.
const MEMORY_MAX_KIB: u64 = 200_000;

/// Runs the program to its end and returns the most memory that it had, in KiB.
#[track_caller]
fn memory_of(machine: &Machine, cluster: &Cluster, arguments: &[&str]) -> u64 {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("backstay"));
    command.env_clear().env("HOME", machine.root.join("home")).env("TMPDIR", &machine.root);
    command.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", cluster.programs().display()));
    command.args(["--repository", &machine.text("repository")]).args(arguments);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    while child.try_wait().unwrap().is_none() {
        // The kernel keeps the highest one itself.
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
        most = most.max(now.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && most > 0, "{arguments:?}: {complaints}");
    most
}

#[test]
fn a_value_of_a_hundred_megabytes_passes_in_pieces() {
    let cluster = Cluster::start(15);
    let machine = Machine::new();
    cluster.create("erp");
    // As text the one of bytes is twice as long.
    cluster.sql(
        "erp",
        "CREATE TABLE large (id int PRIMARY KEY, bytes bytea, body text);
         ALTER TABLE large ALTER bytes SET STORAGE EXTERNAL, ALTER body SET STORAGE EXTERNAL;
         INSERT INTO large VALUES (1, convert_to(repeat('0123456789', 10000000), 'UTF8'), 'small'),
           (2, NULL, repeat('0123456789', 10000000)), (3, 'x', E'a line\\nand more');",
    );
    let url = cluster.url("erp");
    memory_of(&machine, &cluster, &["init"]);
    let backup = memory_of(&machine, &cluster, &["backup", &url]);
    let newest = format!("{url}@latest");
    let restore = memory_of(&machine, &cluster, &["restore", &newest, "--to-new", "copy", "--yes"]);
    assert!(backup <= MEMORY_MAX_KIB && restore <= MEMORY_MAX_KIB, "{backup} and {restore} KiB");
    let sum = "SELECT id, md5(bytes), md5(body), octet_length(bytes), length(body) FROM large ORDER BY id";
    assert_eq!(cluster.sql("copy", sum), cluster.sql("erp", sum));
}
