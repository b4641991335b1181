//! Runs a program and tells how long it took and how much memory it had at most.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a run took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub(super) seconds: f64,
    pub(super) memory_bytes: u64,
}

/// Runs to the end; a failure is an error with what it wrote.
pub(super) fn measure(command: &mut Command) -> Result<Taken, String> {
    measure_with(command, Stdio::null())
}

/// Runs to the end with something to read. What earlier runs left to be written is on the disk before: whoever comes next
/// would wait for it else, and one of the two syncs nothing that it restores.
pub(super) fn measure_with(command: &mut Command, input: Stdio) -> Result<Taken, String> {
    let shown = format!("{command:?}");
    let synced = Command::new("sync").status().map_err(|error| format!("cannot run sync: {error}"))?;
    if !synced.success() {
        return Err(format!("sync failed: {synced}"));
    }
    let started = Instant::now();
    let child = command.stdin(input).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| format!("cannot run {shown}: {error}"))?;
    let status_file = format!("/proc/{}/status", child.id());
    let mut memory_bytes = 0;
    loop {
        memory_bytes = memory_bytes.max(peak(&status_file));
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(_) => break,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("{shown} failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(Taken { seconds, memory_bytes })
}

/// The kernel keeps the highest resident size of a process.
fn peak(status_file: &str) -> u64 {
    let status = std::fs::read_to_string(status_file).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Returns the bytes of all files in a folder.
pub(super) fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.filter_map(Result::ok).map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Returns the median.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
