//! From resolved settings to a session: the hosts in their order, TLS as asked for, the rights kind of server.
//!
//! What libpq would heed and this does not is refused, never passed over: an option without effect would be a promise
//! that nobody keeps.

use super::plain::Plain;
use super::tap::{Tap, Tapped, Tapping};
use super::tls::Tls;
use super::{Connecting, Reached, Session};
use crate::postgres::connection::{Host, Settings, SslMode};
use crate::postgres::failure;
use flow::{Cancel, SourceError, SourceErrorKind};
use futures_util::future::{Either, select};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio_postgres::config::{ChannelBinding, SslNegotiation, TargetSessionAttrs};
use tokio_postgres::{Client, Config, NoTls};

/// How long a host is waited for where nothing else is said.
const CONNECTING_MAX: Duration = Duration::from_secs(30);
/// A dead peer is noticed within two minutes.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// Connection parameters that would be promises if they were passed over.
const REFUSED: [&str; 5] = ["requirepeer", "require_auth", "sslcrl", "sslcrldir", "replication"];

/// Connects to the first host that takes us. `only` names one of them: the server that another session is on.
pub(in crate::postgres) fn connect(
    settings: &Settings,
    only: Option<Reached>,
    object: &str,
    cancel: &Cancel,
) -> Result<Session, SourceError> {
    let mut session = connect_plain(settings, only, object, cancel)?;
    session.prepare()?;
    Ok(session)
}

/// Connects as [`connect`] does, and sets nothing yet: behind a pooler that keeps no session's state, what is set stays
/// behind for others. [`Session::prepare`] is to follow before anything is read.
pub(in crate::postgres) fn connect_plain(
    settings: &Settings,
    only: Option<Reached>,
    object: &str,
    cancel: &Cancel,
) -> Result<Session, SourceError> {
    refuse_unknown(settings, object)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        SourceError::new(SourceErrorKind::Failed, object, "a connection cannot be prepared")
            .with_source(error)
    })?;
    let wishes = match (only, settings.session_attributes.as_deref()) {
        (Some(_), _) | (_, None | Some("any")) => vec![TargetSessionAttrs::Any],
        (_, Some("read-write" | "primary")) => vec![TargetSessionAttrs::ReadWrite],
        (_, Some("read-only" | "standby")) => vec![TargetSessionAttrs::ReadOnly],
        (_, Some("prefer-standby")) => vec![TargetSessionAttrs::ReadOnly, TargetSessionAttrs::Any],
        (_, Some(other)) => {
            let message = format!("`target_session_attrs` is {other:?}");
            return Err(SourceError::new(SourceErrorKind::Invalid, object, message));
        }
    };
    let mut problems = Vec::new();
    let mut last = None;
    for wish in wishes {
        for (number, host) in settings.hosts.iter().enumerate() {
            if only.is_some_and(|only| only.host != number) {
                continue;
            }
            let tap = Arc::new(Tap::default());
            let attempt = Attempt { settings, host, number, wish, runtime: &runtime, object, cancel, tap };
            match attempt.connect(only) {
                Ok((made, tls, by_tls)) => {
                    let (reached, tap) = (Reached { host: number, by_tls }, attempt.tap);
                    return Ok(Session::new(runtime, made, (tls, tap), reached, object, cancel));
                }
                Err(Problem::Ours(error)) => return Err(error),
                Err(Problem::Server(error)) => {
                    problems.push(format!("{}: {}", place(host), failure::text(&error)));
                    last = Some(error);
                }
            }
        }
    }
    problems.dedup();
    let mut error = match last {
        Some(error) => failure::server(object, "", &error),
        None => SourceError::new(SourceErrorKind::Invalid, object, "there is no host to connect to"),
    };
    error.message = format!("cannot connect: {}", problems.join("; "));
    Err(error)
}

fn refuse_unknown(settings: &Settings, object: &str) -> Result<(), SourceError> {
    let required = |key: &str| settings.others.get(key).is_some_and(|value| value == "require");
    let refused = REFUSED.iter().find(|key| settings.others.contains_key(**key)).copied();
    match refused.or_else(|| required("gssencmode").then_some("gssencmode=require")) {
        None => Ok(()),
        Some(key) => {
            let message = format!("`{key}` is asked for, which this version does not do");
            Err(SourceError::new(SourceErrorKind::Unsupported, object, message)
                .with_hint("leave it out of the connection, the service or the variables"))
        }
    }
}

fn socket(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!(".s.PGSQL.{port}"))
}

fn place(host: &Host) -> String {
    match host {
        Host::Socket { folder, port } => socket(folder, *port).display().to_string(),
        Host::Tcp { name, address: None, port } => format!("{name}:{port}"),
        Host::Tcp { name, address: Some(address), port } => format!("{name} ({address}):{port}"),
    }
}

enum Problem {
    Ours(SourceError),
    Server(tokio_postgres::Error),
}

struct Attempt<'a> {
    settings: &'a Settings,
    host: &'a Host,
    number: usize,
    wish: TargetSessionAttrs,
    runtime: &'a Runtime,
    object: &'a str,
    cancel: &'a Cancel,
    /// By which rows will be taken.
    tap: Arc<Tap>,
}

impl Attempt<'_> {
    /// Connects by TLS or plainly, in the order that the mode says.
    fn connect(&self, only: Option<Reached>) -> Result<((Client, Connecting), Tls, bool), Problem> {
        let local = matches!(self.host, Host::Socket { .. });
        let order: &[bool] = match (only, self.settings.ssl_mode) {
            (Some(Reached { by_tls: true, .. }), _) => &[true],
            (Some(Reached { by_tls: false, .. }), _) => &[false],
            (None, SslMode::Disable) => &[false],
            (None, _) if local => &[false],
            (None, SslMode::Allow) => &[false, true],
            (None, SslMode::Prefer) => &[true, false],
            (None, _) => &[true],
        };
        let mut told: Option<tokio_postgres::Error> = None;
        for by_tls in order {
            let tls = match (by_tls, self.host) {
                (true, _) => Tls::of(self.settings, self.object).map_err(Problem::Ours)?,
                (false, Host::Socket { folder, port }) => Tls::Socket(socket(folder, *port)),
                (false, Host::Tcp { .. }) => Tls::Off,
            };
            match self.once(&tls)? {
                Ok(made) => return Ok((made, tls, *by_tls)),
                // No other way is tried where the server itself was not reached, or no such database exists.
                Err(error) => {
                    let hopeless = error.code().is_some_and(|code| code.code() == "3D000");
                    // What the server says (no such role, a wrong password) tells more than that one way is closed.
                    if told.as_ref().is_none_or(|told| told.code().is_none() && error.code().is_some()) {
                        told = Some(error);
                    }
                    if hopeless {
                        break;
                    }
                }
            }
        }
        match told {
            Some(error) => Err(Problem::Server(error)),
            None => Err(Problem::Ours(SourceError::cancelled(self.object))),
        }
    }

    fn once(&self, tls: &Tls) -> Result<Result<(Client, Connecting), tokio_postgres::Error>, Problem> {
        let config = self.config(tls)?;
        let limit = self.settings.connect_timeout.unwrap_or(CONNECTING_MAX);
        let connecting = async {
            let woken = Arc::new(Notify::new());
            let waker = Arc::clone(&woken);
            let _guard = self.cancel.on_cancel(move || waker.notify_one());
            let made = tokio::time::timeout(limit, self.made(&config, tls));
            let (woken, made) = (pin!(woken.notified()), pin!(made));
            match select(woken, made).await {
                Either::Left(_) => Err(SourceError::cancelled(self.object)),
                Either::Right((made, _)) => made.map_err(|_| self.silent(limit)),
            }
        };
        self.runtime.block_on(connecting).map_err(Problem::Ours)
    }

    async fn made(&self, config: &Config, tls: &Tls) -> Result<(Client, Connecting), tokio_postgres::Error> {
        Ok(match tls {
            Tls::Socket(path) => {
                let stream = Tapped::new(self.open(config, path).await?, Arc::clone(&self.tap));
                let (client, connection) = config.connect_raw(stream, NoTls).await?;
                (client, Box::pin(connection))
            }
            Tls::Off => {
                let (client, connection) = config.connect(self.tapping(Plain)).await?;
                (client, Box::pin(connection))
            }
            Tls::On(tls) => {
                let (client, connection) = config.connect(self.tapping(tls.as_ref().clone())).await?;
                (client, Box::pin(connection))
            }
        })
    }

    fn tapping<C>(&self, connector: C) -> Tapping<C> {
        Tapping { connector, tap: Arc::clone(&self.tap) }
    }

    /// Opens a socket of this machine. What kind of server is behind it, and why it cannot be opened, is for the library
    /// to say.
    async fn open(&self, config: &Config, path: &Path) -> Result<UnixStream, tokio_postgres::Error> {
        if self.wish != TargetSessionAttrs::Any {
            drop(config.connect(NoTls).await?);
        }
        loop {
            match UnixStream::connect(path).await {
                Ok(stream) => return Ok(stream),
                // Where the library could, it was there a moment later.
                Err(_) => drop(config.connect(NoTls).await?),
            }
        }
    }

    fn silent(&self, limit: Duration) -> SourceError {
        let message =
            format!("cannot connect: {} gave no answer for {} s", place(self.host), limit.as_secs());
        SourceError::new(SourceErrorKind::Unreadable, self.object, message)
    }

    fn config(&self, tls: &Tls) -> Result<Config, Problem> {
        let settings = self.settings;
        let mut config = Config::new();
        match self.host {
            Host::Socket { folder, .. } => config.host_path(folder),
            Host::Tcp { name, address, .. } => {
                if let Some(address) = address {
                    let address = address.parse().map_err(|_| {
                        let message = format!("`hostaddr` is {address:?}, which is no address");
                        Problem::Ours(SourceError::new(SourceErrorKind::Invalid, self.object, message))
                    })?;
                    config.hostaddr(address);
                }
                config.host(name)
            }
        };
        config.port(self.host.port()).user(&settings.user).dbname(&settings.database);
        config.application_name(settings.others.get("application_name").map_or("backstay", String::as_str));
        if let Some(password) = settings.passwords.get(self.number).and_then(Option::as_ref) {
            config.password(password.expose());
        }
        if let Some(options) = &settings.options {
            config.options(options);
        }
        let direct = settings.others.get("sslnegotiation").is_some_and(|word| word == "direct");
        config.ssl_mode(match tls {
            Tls::Socket(_) => tokio_postgres::config::SslMode::Disable,
            // Without TLS our own connector is asked at once, and secures nothing.
            Tls::Off | Tls::On(_) => tokio_postgres::config::SslMode::Require,
        });
        if direct || matches!(tls, Tls::Off) {
            config.ssl_negotiation(SslNegotiation::Direct);
        }
        match settings.others.get("channel_binding").map(String::as_str) {
            Some("require") => config.channel_binding(ChannelBinding::Require),
            Some("disable") => config.channel_binding(ChannelBinding::Disable),
            _ => config.channel_binding(ChannelBinding::Prefer),
        };
        config.target_session_attrs(self.wish);
        config.keepalives(true).keepalives_idle(Duration::from_secs(60));
        config.keepalives_interval(Duration::from_secs(15)).keepalives_retries(4);
        config.tcp_user_timeout(SILENCE_MAX);
        Ok(config)
    }
}
