//! What a run has in memory does not grow with the dumps: streams of 100 MB by default, of 10 GB with `BACKSTAY_LONG=1`.

use crate::support::Machine;
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

const MEMORY_MAX_KIB: u64 = 60_000;

fn blocks() -> usize {
    if std::env::var_os("BACKSTAY_LONG").is_some() { 10_000 } else { 100 }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("plain"), content).unwrap();
    let output = Command::new("gzip").args(["-1", "-c"]).arg(folder.path().join("plain")).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Writes a dump of so many megabytes, whose packed form is small: one block of rows, again and again.
fn write(machine: &Machine, name: &str, before: &str, row: &str, after: &str) {
    let block = gzip(row.repeat((1 << 20) / row.len()).as_bytes());
    std::fs::create_dir_all(machine.path("dumps")).unwrap();
    let mut file = File::create(machine.path(&format!("dumps/{name}"))).unwrap();
    file.write_all(&gzip(before.as_bytes())).unwrap();
    for _ in 0..blocks() {
        file.write_all(&block).unwrap();
    }
    file.write_all(&gzip(after.as_bytes())).unwrap();
}

/// Runs to the end; returns the exit code, what was printed, and the most memory that it had.
fn measured(machine: &Machine, arguments: &[&str]) -> (i32, String, u64) {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("backstay"));
    command.env_clear().env("HOME", machine.root.join("home")).env("TMPDIR", &machine.root);
    command.current_dir(machine.path(".")).args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
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
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), most)
}

#[test]
fn memory_does_not_grow_with_the_dumps() {
    let machine = Machine::new();
    let line = format!("4711\t{}\n", "some text of a row ".repeat(50));
    write(
        &machine,
        "erp-20260101.sql.gz",
        "--\n-- PostgreSQL database dump\n--\n\nSET client_encoding = 'UTF8';\n\nCREATE TABLE public.t (id integer, note text);\n\nCOPY public.t (id, note) FROM stdin;\n",
        &line,
        "\\.\n\n\n--\n-- PostgreSQL database dump complete\n--\n\n",
    );
    // One statement that never ends, and a stream of zeros.
    write(
        &machine,
        "one-20260101.sql.gz",
        "BEGIN;\nCREATE TABLE t (a);\nINSERT INTO t VALUES('",
        "it''s long ",
        "');\nCOMMIT;\n",
    );
    write(&machine, "zero-20260101.sql.gz", "", "\0\0\0\0", "");
    let (code, out, most) = measured(&machine, &["verify", "dumps", "--json"]);
    assert_eq!(code, 21, "{out}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["summary"]["valid"], 2, "{report}");
    let rows = (1 << 20) / line.len() * blocks();
    assert_eq!(crate::item(&report, "erp-20260101.sql.gz")["rows"], rows);
    assert!(crate::problem(&report, "zero-20260101.sql.gz").starts_with("format: "));
    assert!(most > 0 && most < MEMORY_MAX_KIB, "{most} KiB");
}

#[test]
fn a_sparse_file_is_no_dump_and_takes_no_time() {
    let machine = Machine::new();
    std::fs::create_dir(machine.path("dumps")).unwrap();
    let file = File::create(machine.path("dumps/app-20260101.db")).unwrap();
    file.set_len(10 << 30).unwrap();
    let (code, out, most) = measured(&machine, &["verify", "dumps"]);
    assert_eq!(code, 21, "{out}");
    assert!(most < MEMORY_MAX_KIB, "{most} KiB");
}
