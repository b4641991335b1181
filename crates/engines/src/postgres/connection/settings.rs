//! What is needed to reach a server, resolved.

use flow::Secret;
use std::path::PathBuf;
use std::time::Duration;

/// One place where the server may be; they are tried in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// The folder of a socket.
    Socket {
        /// The folder.
        folder: PathBuf,
        /// The port, which is part of the socket's name.
        port: u16,
    },
    /// A name or address.
    Tcp {
        /// The name, by which certificates and password files know it.
        name: String,
        /// The address to connect to instead of looking the name up.
        address: Option<String>,
        /// The port.
        port: u16,
    },
}

impl Host {
    /// Returns its port.
    pub fn port(&self) -> u16 {
        match self {
            Host::Socket { port, .. } | Host::Tcp { port, .. } => *port,
        }
    }
}

/// How much TLS is asked for (PostgreSQL documentation, 34.19).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// None.
    Disable,
    /// Plain first, TLS where the server insists.
    Allow,
    /// TLS where the server has it.
    Prefer,
    /// TLS, whoever answers; with a root certificate that is there, as `VerifyCa`.
    Require,
    /// TLS with a certificate that a root signed.
    VerifyCa,
    /// And that is for the host's name.
    VerifyFull,
}

impl SslMode {
    /// Reads libpq's word.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "disable" => SslMode::Disable,
            "allow" => SslMode::Allow,
            "prefer" => SslMode::Prefer,
            "require" => SslMode::Require,
            "verify-ca" => SslMode::VerifyCa,
            "verify-full" => SslMode::VerifyFull,
            _ => return None,
        })
    }

    /// Returns libpq's word.
    pub fn word(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Allow => "allow",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }
}

/// A connection, resolved. Shows no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where; at least one.
    pub hosts: Vec<Host>,
    /// The user.
    pub user: String,
    /// The database.
    pub database: String,
    /// The password of each host, where one is known.
    pub passwords: Vec<Option<Secret>>,
    /// How much TLS.
    pub ssl_mode: SslMode,
    /// The roots that certificates are checked by: a file, or `None` for those of the system.
    pub ssl_root: Option<PathBuf>,
    /// Our own certificate and its key, where both are there.
    pub ssl_identity: Option<(PathBuf, PathBuf)>,
    /// How long a connection may take to be made.
    pub connect_timeout: Option<Duration>,
    /// `-c name=value` settings for the session.
    pub options: Option<String>,
    /// Whether a server that takes writes is asked for, or another kind (libpq's word).
    pub session_attributes: Option<String>,
    /// What libpq knows and this does not use: handed to the programs that are run.
    pub others: super::Keywords,
}
