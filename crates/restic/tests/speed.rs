//! How fast the pipeline is and what memory it takes: to be run by hand, in a release build.
//!
//! `cargo test --release -p restic --test speed -- --ignored --nocapture --test-threads 1`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod support;

use restic::{BlobWriter, Cut, Id, ReadOptions, WriterOptions};
use std::sync::Arc;
use std::time::Instant;
use support::{Place, rows};

const BLOCK: usize = 8 << 20;
const TOTAL: usize = 1500 << 20;

/// Rows made as they are asked for: one block of text whose numbers change from repetition to repetition.
struct Source {
    block: Vec<u8>,
    at: usize,
    state: u64,
    left: usize,
}

impl Source {
    fn new() -> Self {
        Self { block: rows(BLOCK, 7), at: 0, state: 1, left: TOTAL }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, std::convert::Infallible> {
        if self.at == self.block.len() {
            self.at = 0;
            // Another digit here and there, never the same twice: nothing of it is stored already.
            for byte in self.block.iter_mut().step_by(7) {
                if byte.is_ascii_digit() {
                    self.state =
                        self.state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
                    *byte = b'0' + (self.state >> 33) as u8 % 10;
                }
            }
        }
        let count = buffer.len().min(self.block.len() - self.at).min(self.left);
        buffer[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        self.left -= count;
        Ok(count)
    }
}

fn resident_mib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

fn measure(name: &str, cut: Cut, options: WriterOptions) {
    let (place, repository) = Place::with_our_repository();
    let index = Arc::new(repository.load_index().unwrap());
    let mut source = Source::new();
    let begin = Instant::now();
    let writer = BlobWriter::begin(repository.clone(), index, options).unwrap();
    let blobs = writer.write_stream(&mut |buffer: &mut [u8]| source.read(buffer), &cut).unwrap();
    let report = writer.finish().unwrap();
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "write {name}: {seconds:.2} s, {:.0} MB/s, {} blobs, {} MB stored, peak {} MiB",
        TOTAL as f64 / 1e6 / seconds,
        blobs.len(),
        report.added_bytes / 1_000_000,
        resident_mib("VmHWM"),
    );
    let repository = place.open();
    let index = Arc::new(repository.load_index().unwrap());
    let list: Vec<(Id, u64)> = blobs.iter().map(|blob| (blob.id, blob.length)).collect();
    let begin = Instant::now();
    let mut reader =
        restic::stream(repository, index, list, 0..TOTAL as u64, ReadOptions::default()).unwrap();
    let read = std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
    assert_eq!(read, TOTAL as u64);
    println!(
        "read {name}: {:.0} MB/s, peak {} MiB",
        read as f64 / 1e6 / begin.elapsed().as_secs_f64(),
        resident_mib("VmHWM")
    );
}

#[test]
#[ignore = "takes a release build and 1.5 GB"]
fn one_stream_uses_all_cores() {
    let begin = Instant::now();
    let mut source = Source::new();
    let mut buffer = vec![0; 1 << 20];
    while source.read(&mut buffer).unwrap() > 0 {}
    println!("the source alone: {:.2} s", begin.elapsed().as_secs_f64());
    measure("by content, level 1", Cut::ContentDefined, WriterOptions::default());
    measure("64 KiB, level 1", Cut::Fixed { bytes: 64 << 10 }, WriterOptions::default());
    measure(
        "by content, level 3",
        Cut::ContentDefined,
        WriterOptions { level: 3, ..WriterOptions::default() },
    );
}
