//! How a server is reached, resolved as libpq does: the connection URL, then a service, then `PG*` variables, then
//! defaults; the password from `PGPASSWORD` or a password file. One resolver for our own connections and for the
//! programs that are run, so that both reach the same server as the same user.
//!
//! Reads files (service, password) and nothing else; the environment comes as a value. No error quotes a password.

mod another;
mod passfile;
mod resolve;
mod service;
mod settings;
mod text;

pub use another::with_database;
pub use resolve::{Surroundings, resolve};
pub use settings::{Host, Settings, SslMode};
pub use text::{ConnectionTextError, Keywords, parse};
