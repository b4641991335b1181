//! What `doctor` finds of PostgreSQL databases and their servers, roles for backups, and poolers in between: on throwaway
//! servers, each finding provoked once, and gone once its hint was followed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod damage;
mod fake_pooler;
mod poolers;
mod probing;
#[path = "../postgres_dump/pulled.rs"]
#[allow(dead_code, reason = "shared with the tests of dumps")]
mod pulled;
mod roles;
mod standbys;
