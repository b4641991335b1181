//! SQL text that `pg_dump` and others write for `psql`: taken apart, read to its end without being run, and what its
//! statements mean for a restore.
//!
//! Only reads. Memory does not grow with the text.

mod facts;
mod heads;
mod lines;
mod passing;
mod reader;
mod rows;
mod setting;
mod signs;
mod survey;
mod words;

pub(super) use facts::{SCRIPT_ENTRY, SCRIPT_FORM, ScriptFacts, is_script};
pub(super) use heads::{Meaning, filled, meaning, shown};
pub(super) use lines::{CopyLines, columns_of};
pub(super) use passing::Passing;
pub(super) use reader::{Broken, Keep, Piece, ScriptReader};
pub(super) use setting::setting;
pub(super) use signs::speaks_postgres;
pub(super) use survey::{Survey, is_ambiguous, session_role, survey};
