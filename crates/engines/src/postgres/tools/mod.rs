//! The programs of PostgreSQL that are run: found, asked for their version, given a connection without a password in
//! any argument, watched to their end.

mod environment;
mod find;
mod run;

pub(super) use environment::{Access, liveliness};
pub(super) use find::{Program, all, find};
pub(super) use run::{Ended, Ender, Running};
