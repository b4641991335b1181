//! For tests only: faulty and recording storages, fakes of the seams, and one conformance suite for each seam.
//!
//! A suite runs the same on a fake and on the real thing, and is itself proven by mutants: implementations that
//! break one promise each.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failing test should say where")]

pub mod crash;
mod drain;
mod dump_suite;
mod fake_dump;
mod faulty;
mod memory;
mod memory_backup;
mod reader_suite;
mod recording;
mod storage_suite;
mod suite;

pub use drain::{Drained, DrainedDatabase, ReadParts, drain};
pub use dump_suite::{DumpSubject, broken_dump_promises, dump_conformance};
pub use fake_dump::{Act, DatabaseScript, FakeDump};
pub use faulty::{Fault, FaultyStorage};
pub use memory::MemoryStorage;
pub use memory_backup::{DamagedBackup, MemoryBackup, MemoryPart, fake_facts, fake_marks};
pub use reader_suite::{StoredBackup, broken_reader_promises, reader_conformance};
pub use recording::{Call, RecordingStorage, Verb};
pub use storage_suite::{FreshStorage, broken_storage_promises, storage_conformance};
pub use suite::{Broken, Random, assert_caught};
