//! PostgreSQL: what its own tools write, read and write as they do.

pub mod archive;
pub mod connection;
