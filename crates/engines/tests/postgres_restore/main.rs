//! Restores of PostgreSQL databases on throwaway servers, by the engine itself: every promise of the seam, and what only
//! a server can show.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod conformance;
mod cut;
mod early;
mod encodings;
mod owners;
mod read_back;
mod safety;
