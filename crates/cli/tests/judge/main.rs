//! The whole program, judged from outside: stock restic reads what it stored and it reads what stock restic stored,
//! `sqlite3` and `sqldiff` compare what it brought back, and the names, objects and dry runs are what is promised.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod chinook;
mod dry_run;
mod exports;
mod foreign;
mod json;
mod killed;
mod many;
mod meaning;
mod prune;
mod safety;
#[path = "../seams/mod.rs"]
mod seams;
mod stock;
#[path = "../support/mod.rs"]
mod support;
mod suspect;
mod tenants;
