//! For tests only: faulty and recording storages, fakes of the seams, and one conformance suite for each seam.
//!
//! A suite runs the same on a fake and on the real thing, and is itself proven by mutants: implementations that
//! break one promise each.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failing test should say where")]

mod counters;
pub mod crash;
mod drain;
mod dump_suite;
mod fake_dump;
#[cfg(feature = "engines")]
mod fake_engine;
#[cfg(feature = "repository")]
mod fake_repository;
mod faulty;
mod faulty_folder;
mod folder_suite;
#[cfg(feature = "repository")]
mod fresh_repository;
#[cfg(feature = "repository")]
mod keys_suite;
mod memory;
mod memory_backup;
mod memory_folder;
mod postgres;
mod reader_suite;
mod recording;
#[cfg(feature = "repository")]
mod repository_suite;
#[cfg(feature = "engines")]
mod restore_suite;
mod storage_suite;
mod suite;

pub use counters::{counters, no_counters};
pub use drain::{Drained, DrainedDatabase, ReadParts, drain};
pub use dump_suite::{DumpSubject, broken_dump_promises, dump_conformance};
pub use fake_dump::{Act, DatabaseScript, FakeDump};
#[cfg(feature = "engines")]
pub use fake_engine::{FakeEngine, RestoreFlaw};
#[cfg(feature = "repository")]
pub use fake_repository::{FakeRepository, RepositoryFlaw};
pub use faulty::{Fault, FaultyStorage};
pub use faulty_folder::FaultyFolder;
pub use folder_suite::{FreshFolder, broken_folder_promises, folder_conformance};
#[cfg(feature = "repository")]
pub use fresh_repository::{DamageBackup, FreshRepository};
pub use memory::MemoryStorage;
pub use memory_backup::{DamagedBackup, MemoryBackup, MemoryPart, fake_facts, fake_marks};
pub use memory_folder::MemoryFolder;
pub use postgres::{Cluster, POSTGRES_VERSIONS, postgres_programs, sorted_script};
pub use reader_suite::{StoredBackup, broken_reader_promises, reader_conformance};
pub use recording::{Call, RecordingStorage, Verb};
#[cfg(feature = "repository")]
pub use repository_suite::{broken_repository_promises, repository_conformance};
#[cfg(feature = "engines")]
pub use restore_suite::{RestoreSubject, broken_restore_promises, restore_conformance};
pub use storage_suite::{FreshStorage, broken_storage_promises, storage_conformance};
pub use suite::{Broken, Random, assert_caught};
