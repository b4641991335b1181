//! Dumps of PostgreSQL databases on throwaway servers of two versions, judged by stock `pg_restore` and `pg_dump`: what
//! is dumped, restored by stock programs alone, is the same database.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod archives;
mod conformance;
mod encrypted;
mod failures;
mod hostile;
mod pulled;
mod races;
mod stalls;
