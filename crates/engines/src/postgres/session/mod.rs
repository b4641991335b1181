//! A connection to a server, used from ordinary threads: each holds its own small runtime, and whoever waits on it
//! wakes when the work is cancelled.
//!
//! Dropped in the middle of a statement it asks the server to end that statement, then closes the connection: after a
//! crash of ours the server notices the closed connection by itself and ends the transaction with all its locks.

mod connect;
mod plain;
mod tap;
mod tls;

pub(super) use connect::{connect, connect_plain};

use super::failure;
use bytes::Bytes;
use flow::{Cancel, CancelGuard, SourceError};
use futures_util::{Sink, Stream};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tap::{Taken, Tap};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, CopyInSink, CopyOutStream, Row, SimpleQueryMessage};

/// How long a server is given to take note of a cancelled statement.
const CANCELLING_MAX: Duration = Duration::from_secs(1);

/// What a session asks of every statement's surroundings: plain output that depends on no setting of the server, the
/// role or the database, and no limit of time. `lc_monetary` stays as it is: stock programs restore money by the
/// database's own.
const SETTINGS: &str = "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; \
     SET extra_float_digits = 3; SET bytea_output = 'hex'; SET xmloption = 'content'; \
     SET search_path = ''; SET row_security = off; SET synchronize_seqscans = off; SET quote_all_identifiers = off; \
     SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0";

/// What keeps a session from reading anything but tables.
const RESTRICTION: &str = "restrict_nonsystem_relation_kind";

type Connecting = Pin<Box<dyn Future<Output = Result<(), tokio_postgres::Error>> + Send>>;

/// Where a session is connected to, for the programs that are to reach the same server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reached {
    /// Which of the hosts.
    pub(super) host: usize,
    /// Whether by TLS.
    pub(super) by_tls: bool,
}

/// A connection that is used by one thread at a time.
pub(super) struct Session {
    runtime: Runtime,
    connection: Option<Connecting>,
    client: Client,
    cancel: Cancel,
    woken: Arc<Notify>,
    _guard: CancelGuard,
    tls: tls::Tls,
    tap: Arc<Tap>,
    object: String,
    /// A statement was sent whose end has not come.
    busy: bool,
    pub(super) reached: Reached,
    /// As the server counts: 150014.
    pub(super) version: i32,
    /// Whether the server can be told to read nothing but tables.
    can_restrict: bool,
}

/// The rows of a `COPY … TO STDOUT` on their way.
pub(super) type Copy = Pin<Box<CopyOutStream>>;

/// A `COPY … FROM STDIN` that takes rows. Dropped before its end, it fails at the server.
pub(super) type CopyIn = Pin<Box<CopyInSink<Bytes>>>;

impl Session {
    fn new(
        runtime: Runtime,
        (client, connection): (Client, Connecting),
        (tls, tap): (tls::Tls, Arc<Tap>),
        reached: Reached,
        object: &str,
        cancel: &Cancel,
    ) -> Self {
        let woken = Arc::new(Notify::new());
        let waker = Arc::clone(&woken);
        let guard = cancel.on_cancel(move || waker.notify_one());
        let (connection, object, cancel) = (Some(connection), object.to_owned(), cancel.clone());
        Self {
            runtime,
            connection,
            client,
            cancel,
            woken,
            _guard: guard,
            tls,
            tap,
            object,
            busy: false,
            reached,
            version: 0,
            can_restrict: false,
        }
    }

    /// Sets what every session needs.
    pub(super) fn prepare(&mut self) -> Result<(), SourceError> {
        let sql = format!(
            "SELECT current_setting('server_version_num')::int8, EXISTS (SELECT 1 FROM pg_catalog.pg_settings WHERE name = '{RESTRICTION}')"
        );
        let row = self.query_one(&sql, &[])?;
        let version: i64 = self.field(&row, 0)?;
        self.version = i32::try_from(version).unwrap_or(0);
        self.can_restrict = self.field(&row, 1)?;
        let mut settings = SETTINGS.to_owned();
        if self.version >= 140_000 {
            settings.push_str("; SET idle_session_timeout = 0");
        }
        if self.version >= 170_000 {
            settings.push_str("; SET transaction_timeout = 0");
        }
        self.execute(&settings)
    }

    /// Returns the statements that begin a transaction which reads one moment: that of a `snapshot`, or the one of its
    /// first query. No statement in them takes a snapshot. All settings are the transaction's own too: whatever stands
    /// in between and gives it another connection, it never runs without them.
    ///
    /// Where the server can, no view and no foreign table is read: somebody may have put one in a table's place, and its
    /// functions would run with our rights.
    pub(super) fn begin_reading(&self, snapshot: Option<&str>) -> String {
        let mut sql = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY".to_owned();
        if let Some(snapshot) = snapshot {
            sql.push_str(&format!("; SET TRANSACTION SNAPSHOT '{}'", snapshot.replace('\'', "''")));
        }
        sql.push_str("; ");
        sql.push_str(&self.own_settings());
        sql
    }

    /// Returns the statements that give a transaction the settings of a session that reads.
    pub(super) fn own_settings(&self) -> String {
        let mut sql = SETTINGS.replace("SET ", "SET LOCAL ");
        if self.version >= 170_000 {
            sql.push_str("; SET LOCAL transaction_timeout = 0");
        }
        if self.can_restrict {
            sql.push_str(&format!("; SET LOCAL {RESTRICTION} = 'view, foreign-table'"));
        }
        sql
    }

    /// Tells whether the server can be told to read nothing but tables.
    pub(super) fn can_restrict(&self) -> bool {
        self.can_restrict
    }

    /// Returns the major version of the server.
    pub(super) fn major(&self) -> u32 {
        u32::try_from(self.version / 10_000).unwrap_or(0)
    }

    /// Returns what ends its work.
    pub(super) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Waits for a piece of work. The outer error is a cancellation, the inner one the server's.
    fn wait<T>(
        &mut self,
        work: impl for<'a> FnOnce(
            &'a Client,
        ) -> Pin<Box<dyn Future<Output = Result<T, tokio_postgres::Error>> + 'a>>,
    ) -> Result<Result<T, tokio_postgres::Error>, SourceError> {
        self.tap.set_taking(false);
        self.wait_further(work)
    }

    fn wait_further<T>(
        &mut self,
        work: impl for<'a> FnOnce(
            &'a Client,
        ) -> Pin<Box<dyn Future<Output = Result<T, tokio_postgres::Error>> + 'a>>,
    ) -> Result<Result<T, tokio_postgres::Error>, SourceError> {
        let Self { runtime, connection, client, cancel, woken, object, busy, .. } = self;
        *busy = true;
        let mut work = work(client);
        let done = drive(runtime, connection, cancel, woken, |context| work.as_mut().poll(context));
        drop(work);
        let done = done.ok_or_else(|| SourceError::cancelled(object.as_str()))?;
        *busy = false;
        Ok(done)
    }

    fn told<T>(&self, done: Result<T, tokio_postgres::Error>, action: &str) -> Result<T, SourceError> {
        done.map_err(|error| failure::server(&self.object, action, &error))
    }

    /// Runs statements that return nothing, in one message.
    pub(super) fn execute(&mut self, sql: &str) -> Result<(), SourceError> {
        let done = self.try_execute(sql)?;
        self.told(done, "")
    }

    /// Runs statements and gives the server's own error to whoever knows what it means.
    pub(super) fn try_execute(
        &mut self,
        sql: &str,
    ) -> Result<Result<(), tokio_postgres::Error>, SourceError> {
        let sql = sql.to_owned();
        self.wait(move |client| Box::pin(async move { client.batch_execute(&sql).await }))
    }

    /// Runs statements within a transaction that goes on where they fail: what they did is taken back then.
    pub(super) fn try_apart(&mut self, sql: &str) -> Result<Result<(), tokio_postgres::Error>, SourceError> {
        self.execute("SAVEPOINT backstay")?;
        let done = self.try_execute(sql)?;
        self.execute(match &done {
            Ok(()) => "RELEASE SAVEPOINT backstay",
            Err(_) => "ROLLBACK TO SAVEPOINT backstay; RELEASE SAVEPOINT backstay",
        })?;
        Ok(done)
    }

    /// Returns the rows of a query.
    pub(super) fn query(
        &mut self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, SourceError> {
        let done = self.try_query(sql, parameters)?;
        self.told(done, "")
    }

    /// Returns the rows of a query, or the server's own error.
    pub(super) fn try_query(
        &mut self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Result<Vec<Row>, tokio_postgres::Error>, SourceError> {
        let Self { runtime, connection, client, cancel, woken, tap, object, busy, .. } = self;
        tap.set_taking(false);
        *busy = true;
        let mut work = pin!(client.query(sql, parameters));
        let done = drive(runtime, connection, cancel, woken, |context| work.as_mut().poll(context));
        let done = done.ok_or_else(|| SourceError::cancelled(object.as_str()))?;
        *busy = false;
        Ok(done)
    }

    /// Returns the one row of a query.
    pub(super) fn query_one(
        &mut self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, SourceError> {
        self.query(sql, parameters)?.pop().ok_or_else(|| {
            SourceError::new(flow::SourceErrorKind::Failed, self.object.as_str(), "a query returned no row")
        })
    }

    /// Returns what a query says, all as text, beside the types of its columns.
    pub(super) fn text_query(&mut self, sql: &str) -> Result<Vec<SimpleQueryMessage>, SourceError> {
        let done = self.try_text_query(sql)?;
        self.told(done, "")
    }

    /// Returns what a query says, all as text, or the server's own error. It needs no prepared statement.
    pub(super) fn try_text_query(
        &mut self,
        sql: &str,
    ) -> Result<Result<Vec<SimpleQueryMessage>, tokio_postgres::Error>, SourceError> {
        let sql = sql.to_owned();
        self.wait(move |client| Box::pin(async move { client.simple_query(&sql).await }))
    }

    /// Returns the columns of a statement, by name and type.
    pub(super) fn columns(
        &mut self,
        sql: &str,
    ) -> Result<Vec<(String, tokio_postgres::types::Type)>, SourceError> {
        let sql = sql.to_owned();
        let done = self.wait(move |client| Box::pin(async move { client.prepare(&sql).await }))?;
        let statement = self.told(done, "")?;
        Ok(statement
            .columns()
            .iter()
            .map(|column| (column.name().to_owned(), column.type_().clone()))
            .collect())
    }

    /// Returns a column of a row. One that cannot be read as asked is a name that is no UTF-8.
    pub(super) fn field<'a, T: tokio_postgres::types::FromSql<'a>>(
        &self,
        row: &'a Row,
        at: usize,
    ) -> Result<T, SourceError> {
        row.try_get(at).map_err(|error| {
            failure::server(&self.object, "the catalog cannot be read", &error).with_hint(
                "in a database of encoding SQL_ASCII, names must be UTF-8: ALTER … RENAME gives them others",
            )
        })
    }

    /// Begins a `COPY … TO STDOUT`.
    pub(super) fn begin_copy(
        &mut self,
        sql: &str,
    ) -> Result<Result<Copy, tokio_postgres::Error>, SourceError> {
        let sql = sql.to_owned();
        self.tap.set_taking(true);
        let done = self.wait_further(move |client| Box::pin(async move { client.copy_out(&sql).await }))?;
        self.busy = done.is_ok();
        Ok(done.map(Box::pin))
    }

    /// Hands what came of a copy to `take`, piece by piece, until that takes less than it is given or nothing more is
    /// there at the moment; waits for the first of it. A piece ends anywhere, and a row is never held as a whole. Returns
    /// whether the copy is over, or the server's own error.
    pub(super) fn take_copy(
        &mut self,
        copy: &mut Copy,
        mut take: impl FnMut(&[u8]) -> usize,
    ) -> Result<Result<bool, tokio_postgres::Error>, SourceError> {
        let Self { runtime, connection, cancel, woken, tap, object, .. } = self;
        let mut passed_by = false;
        let done = drive(runtime, connection, cancel, woken, |context| {
            // With room for more the connection looks for it when it is driven again.
            if tap.take(&mut take) != Taken::Nothing {
                return Poll::Ready(Ok(false));
            }
            match copy.as_mut().poll_next(context) {
                Poll::Ready(Some(Ok(_))) => {
                    passed_by = true;
                    Poll::Ready(Ok(true))
                }
                Poll::Ready(Some(Err(error))) => Poll::Ready(Err(error)),
                Poll::Ready(None) => Poll::Ready(Ok(true)),
                Poll::Pending => Poll::Pending,
            }
        });
        let done = done.ok_or_else(|| SourceError::cancelled(object.as_str()))?;
        if passed_by {
            let message = "rows came that nobody had asked for";
            return Err(SourceError::new(flow::SourceErrorKind::Failed, object.as_str(), message));
        }
        if !matches!(done, Ok(false)) {
            self.busy = false;
        }
        Ok(done)
    }
}

impl Session {
    /// Begins a `COPY … FROM STDIN`.
    pub(super) fn begin_copy_in(
        &mut self,
        sql: &str,
    ) -> Result<Result<CopyIn, tokio_postgres::Error>, SourceError> {
        let sql = sql.to_owned();
        let done = self.wait(move |client| Box::pin(async move { client.copy_in(&sql).await }))?;
        self.busy = done.is_ok();
        Ok(done.map(Box::pin))
    }

    /// Sends rows, once there is room for them. What the server thinks of them it tells at the copy's end.
    pub(super) fn put_copy(
        &mut self,
        copy: &mut CopyIn,
        rows: Bytes,
    ) -> Result<Result<(), tokio_postgres::Error>, SourceError> {
        let Self { runtime, connection, cancel, woken, object, .. } = self;
        let mut rows = Some(rows);
        let done = drive(runtime, connection, cancel, woken, |context| {
            let ready = copy.as_mut().poll_ready(context);
            ready.map(|ready| {
                ready.and_then(|()| rows.take().map_or(Ok(()), |rows| copy.as_mut().start_send(rows)))
            })
        });
        done.ok_or_else(|| SourceError::cancelled(object.as_str()))
    }

    /// Ends a copy and returns how many rows it brought, or the server's own error.
    pub(super) fn end_copy(
        &mut self,
        copy: &mut CopyIn,
    ) -> Result<Result<u64, tokio_postgres::Error>, SourceError> {
        let Self { runtime, connection, cancel, woken, object, busy, .. } = self;
        let done = drive(runtime, connection, cancel, woken, |context| copy.as_mut().poll_finish(context));
        let done = done.ok_or_else(|| SourceError::cancelled(object.as_str()))?;
        *busy = false;
        Ok(done)
    }
}

/// Drives a connection until `step` is ready; `None` once the work is cancelled.
fn drive<T>(
    runtime: &Runtime,
    connection: &mut Option<Connecting>,
    cancel: &Cancel,
    woken: &Notify,
    mut step: impl FnMut(&mut std::task::Context<'_>) -> Poll<T>,
) -> Option<T> {
    if cancel.is_cancelled() {
        return None;
    }
    runtime.block_on(async {
        let mut wake = pin!(woken.notified());
        poll_fn(|context| {
            if wake.as_mut().poll(context).is_ready() || cancel.is_cancelled() {
                return Poll::Ready(None);
            }
            // Its error, if any, reaches whoever waits for an answer as a closed connection.
            if let Some(open) = connection
                && open.as_mut().poll(context).is_ready()
            {
                *connection = None;
            }
            step(context).map(Some)
        })
        .await
    })
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.busy || self.connection.is_none() {
            return;
        }
        let token = self.client.cancel_token();
        let tls = self.tls.clone();
        self.runtime.block_on(async move {
            let _ = tokio::time::timeout(CANCELLING_MAX, tls.cancel(token)).await;
        });
    }
}
