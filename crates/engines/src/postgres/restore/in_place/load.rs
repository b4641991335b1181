//! The transaction of a restore in place: what is there moved aside, the backup made and loaded under its own names, rows
//! compared. It stays open: nobody sees any of it, and nobody waits for it, before it is committed.

use super::aside;
use super::ground;
use super::objects;
use super::stage::Load;
use crate::postgres::failure;
use crate::postgres::restore::closing;
use crate::postgres::restore::fill::Place;
use crate::postgres::restore::items::Item;
use crate::postgres::restore::names::quoted;
use crate::postgres::statements::name_after;
use crate::restore::RestoreError;
use flow::{Severity, SourceError, SourceErrorKind};
use tokio_postgres::error::SqlState;

/// What is no content of a database, or is never made by a restore.
const PASSED_OVER: [&str; 8] = [
    "DATABASE",
    "DATABASE PROPERTIES",
    "ENCODING",
    "SEARCHPATH",
    "STATISTICS DATA",
    "STDSTRINGS",
    "SUBSCRIPTION",
    "SUBSCRIPTION TABLE",
];
/// What belongs to no schema, and stays as it is where it is there already.
const SHARED: [&str; 7] = [
    "ACCESS METHOD",
    "CAST",
    "FOREIGN DATA WRAPPER",
    "PROCEDURAL LANGUAGE",
    "SERVER",
    "TRANSFORM",
    "USER MAPPING",
];
const SAID: [&str; 3] = ["ACL", "COMMENT", "SECURITY LABEL"];

impl Load<'_> {
    /// Makes and loads everything.
    pub(super) fn run(&mut self) -> Result<(), RestoreError> {
        self.public()?;
        objects::keep(self)?;
        let pass = |item: &Item| match item.kind.as_str() {
            "ACL" => 1,
            "MATERIALIZED VIEW DATA" | "EVENT TRIGGER" => 2,
            _ => 0,
        };
        let items = self.items;
        for number in 0..3 {
            for item in items.iter().filter(|item| pass(item) == number) {
                self.filling
                    .context
                    .cancel
                    .check()
                    .map_err(|_| SourceError::cancelled(self.filling.object))?;
                self.item(item)?;
            }
        }
        objects::load(self)?;
        for item in items.iter().filter(|item| item.has_rows()) {
            self.may(&format!("ANALYZE {}", item.quoted()))?.ok();
        }
        if !self.stays.is_empty() {
            let message = format!("was there already and stays as it is: {}", self.stays.join(", "));
            let hint =
                "what of it uses functions of the old schemas goes with those, by DROP SCHEMA … CASCADE";
            self.tell(Severity::Notice, message, Some(hint.to_owned()));
        }
        Ok(())
    }

    /// Makes the schema that every new database has, with what the server gives it there.
    fn public(&mut self) -> Result<(), SourceError> {
        if ground::names(self.session, "SELECT nspname::text FROM pg_catalog.pg_namespace")?
            .iter()
            .any(|name| name == "public")
        {
            return Ok(());
        }
        let has_owner_role = self.session.version >= 150_000;
        self.must("CREATE SCHEMA public", "the schema public")?;
        let right = if has_owner_role { "USAGE" } else { "USAGE, CREATE" };
        let sql = format!(
            "GRANT {right} ON SCHEMA public TO PUBLIC; COMMENT ON SCHEMA public IS 'standard public schema'"
        );
        self.must(&sql, "the schema public")?;
        if has_owner_role {
            // Only the owner of the database may, and superusers.
            self.may("ALTER SCHEMA public OWNER TO pg_database_owner")?.ok();
        }
        self.moved.made.push("public".to_owned());
        Ok(())
    }

    fn item(&mut self, item: &Item) -> Result<(), RestoreError> {
        let kind = item.kind.as_str();
        if PASSED_OVER.contains(&kind) || (SAID.contains(&kind) && item.tag.starts_with("DATABASE ")) {
            return Ok(());
        }
        if item.has_rows() {
            return self.rows(item);
        }
        match kind {
            "TABLE DATA" | "BLOBS" => Ok(()),
            "SCHEMA" => Ok(self.schema(item)?),
            "EXTENSION" => Ok(self.extension(item)?),
            "BLOB" | "BLOB METADATA" => Ok(objects::make(self, item)?),
            "ACL" if item.tag.starts_with("LARGE OBJECTS ") => Ok(objects::rights(self, item)?),
            _ if SHARED.contains(&kind) || (SAID.contains(&kind) && self.is_shared(item)) => {
                Ok(self.shared(item)?)
            }
            _ => Ok(self.make(item)?),
        }
    }

    fn make(&mut self, item: &Item) -> Result<(), SourceError> {
        self.must(&item.sql(self.request.ownership.no_owner), &item.shown())?;
        // Of schemas that were there the defaults are away with them.
        if self.has_defaults { closing::close(self.session, item) } else { Ok(()) }
    }

    fn schema(&mut self, item: &Item) -> Result<(), SourceError> {
        let sql = "SELECT nspname::text FROM pg_catalog.pg_namespace";
        let is_there = ground::names(self.session, sql)?.contains(&item.tag);
        if !is_there {
            self.moved.made.push(item.tag.clone());
            return self.make(item);
        }
        let ours = self.moved.made.contains(&item.tag);
        if ours && !self.request.ownership.no_owner && !item.owner.is_empty() {
            let sql = format!("ALTER SCHEMA {} OWNER TO {}", quoted(&item.tag), quoted(&item.owner));
            if let Err(error) = self.may(&sql)? {
                let message = format!("{} keeps its owner: {}", item.shown(), failure::text(&error));
                self.tell(Severity::Warning, message, Some(format!("as a superuser: {sql}")));
            }
        }
        Ok(())
    }

    /// An extension that is there stays, and goes into the schema in which it was.
    fn extension(&mut self, item: &Item) -> Result<(), SourceError> {
        let Some((_, now)) = self.extensions.get(&item.tag).cloned() else {
            return self.must(&item.sql(self.request.ownership.no_owner), &item.shown());
        };
        let wanted = name_after(item.definition.trim().trim_end_matches(';'), "SCHEMA").unwrap_or_default();
        if wanted.is_empty() || wanted == now {
            return Ok(());
        }
        aside::move_extension(self.session, &item.tag, &wanted, self.filling.object)?;
        let before = self.moved.schemas.iter().find(|(_, kept)| *kept == now).map(|(name, _)| name.clone());
        self.moved.extensions.push((item.tag.clone(), before.unwrap_or(now)));
        Ok(())
    }

    /// Tells whether something is said of what stays as it is.
    fn is_shared(&self, item: &Item) -> bool {
        let about = |id: &i32| self.items.iter().find(|below| below.id == *id);
        let of_shared = |below: &Item| SHARED.contains(&below.kind.as_str()) || below.is("EXTENSION");
        item.dependencies.iter().filter_map(about).any(of_shared)
    }

    fn shared(&mut self, item: &Item) -> Result<(), SourceError> {
        let sql = item.sql(self.request.ownership.no_owner);
        let Err(error) = self.may(&sql)? else { return Ok(()) };
        if failure::is(&error, &[&SqlState::DUPLICATE_OBJECT, &SqlState::DUPLICATE_FUNCTION]) {
            self.stays.push(item.shown());
            return Ok(());
        }
        if SAID.contains(&item.kind.as_str()) {
            let message = format!("{} could not be set: {}", item.shown(), failure::text(&error));
            let statement = item.definition.trim().to_owned();
            self.tell(Severity::Warning, message, Some(format!("as a superuser: {statement}")));
            return Ok(());
        }
        Err(failure::server(self.filling.object, &format!("{} cannot be made", item.shown()), &error))
    }

    fn rows(&mut self, data: &Item) -> Result<(), RestoreError> {
        let quoted = data.quoted();
        let old: Vec<u32> = self.extensions.values().map(|(oid, _)| *oid).collect();
        let sql = "SELECT coalesce(max((d.refobjid = ANY($2))::int), -1) FROM pg_catalog.pg_depend d
                   WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = $1::text::regclass
                     AND d.deptype = 'e'";
        let row = self.session.query_one(sql, &[&quoted, &old])?;
        let member: i32 = self.session.field(&row, 0)?;
        if member == 1 {
            let message =
                format!("the rows of {} belong to an extension that was there, and stay", data.name());
            self.tell(Severity::Notice, message, None);
            return Ok(());
        }
        let columns = data.columns().ok_or_else(|| {
            let message =
                format!("the archive's statement for the rows of {} is not one of ours", data.name());
            SourceError::new(SourceErrorKind::Invalid, self.filling.object, message)
        })?;
        let (root, file) = (data.root(), data.file.as_deref().unwrap_or_default());
        let own = member == -1 && root.is_none();
        let name = data.name();
        let place = Place { quoted: root.unwrap_or(&quoted), shown: &name, columns, freeze: own, alone: own };
        self.filling.rows(self.session, &place, file).map(drop)
    }
}
