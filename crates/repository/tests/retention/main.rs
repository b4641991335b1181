//! Retention as a pure function: what holds whatever the history and the rules, what single rules do, and that it
//! keeps and removes the same as stock restic.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod cases;
mod history;
mod properties;
mod stock;
