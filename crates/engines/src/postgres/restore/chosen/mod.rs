//! Chosen tables of a backup. One that is no longer there comes back under its own name with all that belonged to it; one
//! that is there is made beside as `orders__restored_20261121t020000z`, or, in place, gets the backup's rows.
//!
//! All of it is one transaction of the live database, compared with the backup before it is committed at the very end: a
//! failure or a crash leaves nothing, so there is no record and nothing to be continued.

mod beside;
pub(super) mod blockers;
pub(super) mod contents;
pub(super) mod locking;
mod own;
pub(super) mod planning;
pub(super) mod replace;
pub(super) mod stage;
mod there;

use super::ending;
use super::fill::Filling;
use super::{archive, items, roles, scratch};
use crate::postgres::archive::TableOfContents;
use crate::postgres::session::Session;
use crate::postgres::statements::names_of;
use crate::postgres::{pooler, targets};
use crate::restore::{
    Restore, RestoreError, RestoreMode, RestorePlan, RestoreRequest, RestoreState, RestoreStep, Standing,
};
use contents::Contents;
use flow::{BackupReader, Context, Event, Finding, Manifest, Phase, SourceError, SourceErrorKind};
use replace::Replaced;
use stage::{LOCK_TIMEOUT, Stage, relation};

/// What may be set for the transaction alone. Constraints that may be looked at later are looked at at once: nothing of
/// that may be pending while tables are changed.
const SURROUNDINGS: &str = "SET LOCAL check_function_bodies = off; SET LOCAL client_min_messages = warning; \
     SET CONSTRAINTS ALL IMMEDIATE";

struct ChosenRestore {
    state: RestoreState,
    plan: RestorePlan,
    context: Context,
    /// The session with the transaction, from the first step to the last.
    session: Option<Session>,
    /// The backup's table of contents, once it was read.
    toc: Option<TableOfContents>,
    /// What is told once it is true.
    told: Vec<Finding>,
    /// Whether everything was made and waits for its commit.
    made: bool,
    /// Whether nobody can tell what became of the commit.
    unknown: bool,
}

/// What each of the tables is to become.
struct Ways<'a> {
    own: Vec<&'a items::Item>,
    beside: Vec<&'a items::Item>,
    replaced: Vec<Replaced<'a>>,
}

/// Plans it. Looks only.
pub(super) fn begin(
    request: &RestoreRequest,
    manifest: &Manifest,
    context: Context,
) -> Result<Box<dyn Restore>, RestoreError> {
    let object = request.target.connection.clone();
    if request.mode == RestoreMode::ToNew {
        let message = "single tables are restored into an existing database only";
        return Err(SourceError::new(SourceErrorKind::Invalid, object, message)
            .with_hint("leave `--to-new` out, or leave `--table` out and look at the table there")
            .into());
    }
    let mut session = connect(&object, &context)?;
    let plan = planning::plan(request, manifest, &mut session, &context)?;
    let state = RestoreState::begun(request, &plan);
    Ok(Box::new(ChosenRestore {
        state,
        plan,
        context,
        session: Some(session),
        toc: None,
        told: Vec::new(),
        made: false,
        unknown: false,
    }))
}

/// Connects, past a pooler that gives each transaction another session.
fn connect(object: &str, context: &Context) -> Result<Session, SourceError> {
    let settings = targets::settings(object, None, context)?;
    pooler::connect_past(&settings, object, &context.cancel)
}

impl ChosenRestore {
    fn object(&self) -> String {
        self.state.request.target.connection.clone()
    }

    fn error(&self, kind: SourceErrorKind, message: impl Into<String>) -> SourceError {
        SourceError::new(kind, self.object(), message)
    }

    /// Hands the session out; there is always one but after the end.
    fn session(&mut self) -> Result<Session, SourceError> {
        match self.session.take() {
            Some(session) => Ok(session),
            None => connect(&self.object(), &self.context),
        }
    }

    /// Finds out what each table is to become, and fails where that cannot be done. Changes nothing.
    fn ways<'a>(&self, session: &mut Session, contents: &'a Contents) -> Result<Ways<'a>, RestoreError> {
        let object = self.object();
        let in_place = self.state.request.mode == RestoreMode::InPlace;
        let mut ways = Ways { own: Vec::new(), beside: Vec::new(), replaced: Vec::new() };
        let mut blockers = Vec::new();
        for name in &self.state.request.tables {
            let item = contents.table(name, &object)?;
            let filled = contents.filled(item, &object)?;
            match relation(session, &item.schema, &item.tag)? {
                None => ways.own.push(item),
                Some(_) if !in_place => ways.beside.push(item),
                Some(live) => {
                    blockers.extend(blockers::of(session, &live)?);
                    for (part, data) in filled {
                        let Some(part) = relation(session, &part.schema, &part.tag)? else {
                            blockers.push(blockers::Blocker {
                                message: format!(
                                    "the partition {} of the backup is no longer there",
                                    part.name()
                                ),
                                hint: format!("bring it back first: --table {}", part.name()),
                            });
                            continue;
                        };
                        let columns = names_of(data.columns().unwrap_or_default());
                        // Rows that name no columns have those of the table.
                        if !columns.is_empty() {
                            blockers.extend(blockers::of_columns(session, &part, &columns)?);
                        }
                    }
                    ways.replaced.push(Replaced { item, live });
                }
            }
        }
        if blockers.is_empty() {
            return Ok(ways);
        }
        let messages: Vec<String> = blockers.iter().map(|blocker| blocker.message.clone()).collect();
        let mut hints: Vec<String> = blockers.into_iter().map(|blocker| blocker.hint).collect();
        hints.dedup();
        Err(self.error(SourceErrorKind::Unwritable, messages.join("; ")).with_hint(hints.join("; ")).into())
    }

    /// Returns what the backup has, with roles as they are to be here.
    fn contents(
        &mut self,
        session: &mut Session,
        backup: &dyn BackupReader,
    ) -> Result<Contents, RestoreError> {
        let toc = match self.toc.take() {
            Some(toc) => toc,
            None => archive::read(backup)?,
        };
        let encoding = scratch::encoding_of(&toc);
        let contents = Contents::new(items::read(session, &toc, &encoding)?);
        self.toc = Some(toc);
        Ok(contents)
    }

    /// Looks whether it can be done.
    fn preflight(&mut self, session: &mut Session, backup: &dyn BackupReader) -> Result<(), RestoreError> {
        if let (Some(free), needed) = (self.plan.free_bytes, self.plan.needed_bytes)
            && free < needed
        {
            let message = format!("{free} bytes are free at the server, and the restore needs {needed}");
            return Err(self
                .error(SourceErrorKind::Unwritable, message)
                .with_hint(
                    "free some space there; `--no-safety` needs less, and keeps no copy of the old rows",
                )
                .into());
        }
        let contents = self.contents(session, backup)?;
        let own: Vec<i32> = self.ways(session, &contents)?.own.iter().map(|item| item.id).collect();
        self.selected(session, contents, &own).map(drop)
    }

    /// Finds what comes with the tables that are gone, and gives all of it the roles that it is to have here.
    fn selected(
        &self,
        session: &mut Session,
        contents: Contents,
        own: &[i32],
    ) -> Result<(Contents, Option<own::Selection>), RestoreError> {
        if own.is_empty() {
            return Ok((contents, None));
        }
        let object = self.object();
        let roots: Vec<&items::Item> = own.iter().filter_map(|id| contents.get(*id)).collect();
        let selection = own::select(session, &contents, &roots, &object)?;
        let Some(toc) = &self.toc else { return Ok((contents, Some(selection))) };
        let ownership = &self.state.request.ownership;
        let toc = roles::adapted(session, toc, &selection.all(), ownership, &object)?;
        let contents = Contents::new(items::read(session, &toc, &scratch::encoding_of(&toc))?);
        Ok((contents, Some(selection)))
    }

    /// Makes everything, in one transaction that stays open.
    fn make(&mut self, session: &mut Session, backup: &dyn BackupReader) -> Result<(), RestoreError> {
        let contents = self.contents(session, backup)?;
        let own: Vec<i32> = self.ways(session, &contents)?.own.iter().map(|item| item.id).collect();
        let (contents, selection) = self.selected(session, contents, &own)?;
        let money = backup.manifest().facts.properties.get("lc_monetary").and_then(|name| name.as_str());
        if let Some(money) = money {
            session.try_execute(&format!("SET lc_monetary = {}", super::names::literal(money)))?.ok();
        }
        session.execute(&format!("BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'; {SURROUNDINGS}"))?;
        let ways = self.ways(session, &contents)?;
        let encoding = self.toc.as_ref().map(scratch::encoding_of).unwrap_or_default();
        let (object, request, context) = (self.object(), self.state.request.clone(), self.context.clone());
        let mut told = Vec::new();
        let mut stage = Stage {
            session,
            contents: &contents,
            filling: Filling {
                backup,
                context: &context,
                encoding: &encoding,
                object: &object,
                verify: request.verify,
                adds: false,
            },
            request: &request,
            told: &mut told,
        };
        let mut kept = Vec::new();
        if !ways.replaced.is_empty() {
            kept = replace::make(&mut stage, &ways.replaced)?;
        }
        if let Some(selection) = &selection {
            own::make(&mut stage, selection)?;
        }
        for item in &ways.beside {
            beside::make(&mut stage, item)?;
        }
        self.state.safety_copy = (!kept.is_empty()).then(|| kept.join(", "));
        self.told = told;
        self.made = true;
        Ok(())
    }

    fn finish(&mut self, session: &mut Session) -> Result<(), SourceError> {
        if !self.made {
            return Err(self.error(SourceErrorKind::Invalid, "nothing was made that could be accepted"));
        }
        let object = self.object();
        if let Err(uncommitted) = ending::commit(session, &object, &self.context) {
            self.unknown = !uncommitted.known;
            return Err(uncommitted.error);
        }
        for finding in std::mem::take(&mut self.told) {
            self.context.observer.event(Event::Finding(finding));
        }
        Ok(())
    }

    fn step(
        &mut self,
        step: RestoreStep,
        session: &mut Session,
        backup: &dyn BackupReader,
    ) -> Result<(), RestoreError> {
        match step {
            RestoreStep::Preflight => self.preflight(session, backup),
            RestoreStep::Beside if !self.made => {
                let name = format!("loading tables of {}", self.state.request.target.name);
                self.context.observer.event(Event::Phase(Phase { name, total_bytes: None }));
                self.make(session, backup)
            }
            RestoreStep::Finish => Ok(self.finish(session)?),
            _ => Ok(()),
        }
    }
}

impl Restore for ChosenRestore {
    fn plan(&self) -> &RestorePlan {
        &self.plan
    }

    fn steps(&self) -> &[RestoreStep] {
        &self.plan.steps
    }

    fn run(&mut self, step: RestoreStep, backup: &dyn BackupReader) -> Result<(), RestoreError> {
        self.context.cancel.check().map_err(|_| SourceError::cancelled(self.object()))?;
        (self.state.step, self.state.completed) = (step, false);
        let mut session = self.session()?;
        let outcome = self.step(step, &mut session, backup);
        // Dropped, it takes the transaction with it.
        if outcome.is_ok() && step != RestoreStep::Finish {
            self.session = Some(session);
        }
        self.state.completed = outcome.is_ok();
        outcome
    }

    fn note(&mut self, notes: serde_json::Value) -> Result<(), SourceError> {
        self.state.notes = notes;
        Ok(())
    }

    fn state(&self) -> RestoreState {
        self.state.clone()
    }

    /// Before the commit nobody sees anything of it.
    fn standing(&self) -> Standing {
        if self.unknown { Standing::Unknown } else { Standing::Old }
    }

    fn roll_back(&mut self) -> Result<(), RestoreError> {
        if self.unknown {
            let message = "whether it was committed cannot be told";
            return Err(self
                .error(SourceErrorKind::Failed, message)
                .with_hint("connect to it and see which rows the tables have; where they are the old ones, run it again")
                .into());
        }
        if let Some(mut session) = self.session.take() {
            // After a cancellation the end of the connection does it.
            session.execute("ROLLBACK").ok();
        }
        (self.made, self.state.safety_copy) = (false, None);
        Ok(())
    }
}
