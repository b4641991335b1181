//! The transaction of a restore in place, and what is done in it: everybody who makes something works on this.

use super::aside;
use super::ground;
use super::record::Moved;
use crate::postgres::failure;
use crate::postgres::restore::fill::Filling;
use crate::postgres::restore::items::Item;
use crate::postgres::session::Session;
use crate::restore::{RestoreError, RestoreRequest};
use flow::{Event, Finding, Severity, SourceError, SourceErrorKind};
use std::collections::BTreeMap;

/// What is made, and where.
pub(super) struct Load<'a> {
    pub(super) session: &'a mut Session,
    pub(super) items: &'a [Item],
    pub(super) filling: Filling<'a>,
    pub(super) request: &'a RestoreRequest,
    pub(super) moved: Moved,
    /// The extensions that were there, with the schemas in which they are now.
    pub(super) extensions: BTreeMap<String, (u32, String)>,
    /// What was there already and stays.
    pub(super) stays: Vec<String>,
    /// Whether default privileges of the whole database are given to what is made.
    pub(super) has_defaults: bool,
}

impl<'a> Load<'a> {
    /// Begins the transaction and moves everything aside.
    pub(super) fn begin(
        session: &'a mut Session,
        items: &'a [Item],
        filling: Filling<'a>,
        request: &'a RestoreRequest,
    ) -> Result<Self, RestoreError> {
        session.execute(
            "BEGIN; SET LOCAL check_function_bodies = off; SET LOCAL client_min_messages = warning; \
             SET LOCAL lock_timeout = '20s'",
        )?;
        let moved = aside::move_away(session, request.started, "safety", filling.object)?;
        let found = ground::extensions(session)?;
        let extensions = found.into_iter().map(|one| (one.name, (one.oid, one.schema))).collect();
        let row = session.query_one(
            "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_default_acl WHERE defaclnamespace = 0)",
            &[],
        )?;
        let has_defaults = session.field(&row, 0)?;
        Ok(Self { session, items, filling, request, moved, extensions, stays: Vec::new(), has_defaults })
    }

    pub(super) fn tell(&self, severity: Severity, message: String, hint: Option<String>) {
        let object = self.filling.object.to_owned();
        self.filling.context.observer.event(Event::Finding(Finding { severity, object, message, hint }));
    }

    /// Runs statements that must succeed; `what` is what they make.
    pub(super) fn must(&mut self, sql: &str, what: &str) -> Result<(), SourceError> {
        self.session.try_execute(sql)?.map_err(|error| {
            let made = failure::server(self.filling.object, &format!("{what} cannot be made"), &error);
            let kind = if made.kind == SourceErrorKind::Unreadable {
                SourceErrorKind::Unwritable
            } else {
                made.kind
            };
            let hint = match error.code().map(|code| code.code()) {
                Some("53200") => {
                    Some("set max_locks_per_transaction higher, or leave `--in-place` out".to_owned())
                }
                Some("42501") => Some("connect as a superuser, or restore with `--no-owner`".to_owned()),
                _ => made.hint.clone(),
            };
            SourceError { kind, hint, ..made }
        })
    }

    /// Tries statements, and takes back what they did where they fail.
    pub(super) fn may(&mut self, sql: &str) -> Result<Result<(), tokio_postgres::Error>, SourceError> {
        self.session.try_apart(sql)
    }
}
