//! The options of `restore`, and what they say together with the configuration of a target.

use crate::age_options::Identities;
use crate::errors::Failure;
use crate::globals::DryRun;
use crate::session::Session;
use clap::Args;
use engines::{Ownership, Safety};
use operations::restore::Hooks;
use std::path::PathBuf;

/// Restore a database
///
/// The backup is written beside the target, compared and checked there, and only then takes its place; what the
/// target held is kept as a safety copy. Whatever fails, the target is as it was. The plan is shown first, and the
/// target's name is to be typed. A dry run shows the plan and what would be refused as things are, and ends with 0.
///
/// Where the repository is a folder of dump files, the newest file of the target is meant, of all folders that its plans
/// write to.
///
/// With --target, a path is a dump file of any tool, told by its content and plain or packed: a SQLite database file or
/// SQL text of SQLite, SQL text of pg_dump, a custom or tar archive of it, or the folder of a directory archive. It is read to its end
/// before anything else happens, in a dry run too. The database need not exist. A newest file of a folder that is not whole stops the restore, and the next older one is named.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay restore /srv/shop/shop.db@latest
  backstay restore shops/acme@2026-11-20T02:00 --dry-run
  backstay restore 3fa1c0de --to-new /tmp/look.db    beside everything, replaces nothing
  backstay restore erp --confirm erp                 without a terminal
  backstay restore postgres:///erp@latest --to-new erp_look
  backstay restore postgres:///erp@latest --table sales.orders    a dropped one, or a copy beside
  backstay restore postgres:///erp@latest --table sales.orders --in-place
  backstay restore /srv/dumps/shop-20260105.sql.gz --target /srv/shop/shop.db
  backstay restore /srv/dumps --pattern 'shop-*' --target /srv/shop/shop.db
  backstay restore erp-20260105.dump --target postgres:///erp --table sales.orders
  backstay restore erp-20260105.sql.gz --target postgres:///erp
  backstay restore --continue --target /srv/shop/shop.db
  backstay restore --rollback --target /srv/shop/shop.db")]
pub(crate) struct Options {
    /// The backup: an id, SOURCE, SOURCE@latest, SOURCE@latest~2, SOURCE@2026-11-20T02:00, or latest
    ///
    /// With --target also a dump file that any tool wrote, or a folder of dump files, of which the newest is taken.
    #[arg(value_name = "BACKUP", required_unless_present_any = ["resume", "rollback", "file"])]
    pub(super) backup: Option<String>,

    /// The dump file
    #[arg(long, value_name = "PATH", hide = true, conflicts_with_all = ["backup", "resume", "rollback"], requires = "target")]
    pub(super) file: Option<String>,

    /// Of a folder of dump files, only those whose names fit this pattern
    #[arg(long, value_name = "PATTERN", requires = "target", conflicts_with_all = ["resume", "rollback"])]
    pub(super) pattern: Option<String>,

    /// Restore to this database instead of where the backup came from
    #[arg(long, value_name = "SOURCE")]
    pub(super) target: Option<String>,

    /// Restore to a new file or database, which must not exist, and replace nothing
    ///
    /// PostgreSQL: the name of a database on the server that the backup came from, or a URL.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["target", "in_place", "confirm"])]
    pub(super) to_new: Option<PathBuf>,

    /// Write into the live database, under the eyes of those that keep it open, instead of renaming
    ///
    /// SQLite: through SQLite, as one transaction. PostgreSQL: the schemas are renamed and made anew in one transaction,
    /// for a role that may rename no database; with --table, the rows of those tables are replaced.
    #[arg(long)]
    pub(super) in_place: bool,

    /// Neither compare nor check what was written
    #[arg(long)]
    pub(super) no_verify: bool,

    /// Restore only this table (PostgreSQL; may be repeated)
    ///
    /// One that is gone comes back under its own name, with all that belonged to it. One that is there is made beside as
    /// TABLE__restored_…, with its indexes; with --in-place its rows are replaced instead. Nothing else is touched, and
    /// all of it is one transaction.
    #[arg(long, value_name = "TABLE", conflicts_with_all = ["to_new", "safety_dir", "stop_command", "start_command", "health_url", "create_roles"])]
    pub(super) table: Vec<String>,

    /// Restore definitions only, without rows, sequence values and large objects (PostgreSQL)
    ///
    /// Of a backup, or of an archive of pg_dump; what is there is replaced as by any other restore.
    #[arg(long, conflicts_with_all = ["table", "in_place", "resume", "rollback"])]
    pub(super) schema_only: bool,

    /// Add rows only to the tables of a database that is there, with sequence values and large objects (PostgreSQL)
    ///
    /// Of a backup, of an archive of pg_dump, or of SQL text, whole or of rows alone; with --table, of those tables. What is
    /// there stays. Tables and columns that are not there, and rows that collide, end it with nothing changed.
    #[arg(long, conflicts_with_all = ["schema_only", "to_new", "in_place", "resume", "rollback"])]
    pub(super) data_only: bool,

    /// Let everything belong to the role that restores (PostgreSQL)
    #[arg(long)]
    pub(super) no_owner: bool,

    /// Give to role NEW what belonged to OLD, and its rights (PostgreSQL; may be repeated)
    #[arg(long, value_name = "OLD=NEW")]
    pub(super) role_map: Vec<String>,

    /// Make roles that the server does not have, as the backup has them, without passwords (PostgreSQL)
    #[arg(long, conflicts_with_all = ["no_owner", "in_place"])]
    pub(super) create_roles: bool,

    /// Keep the safety copy in this folder (SQLite)
    #[arg(long, value_name = "DIR", conflicts_with = "no_safety", alias = "safety-backup-dir")]
    pub(super) safety_dir: Option<PathBuf>,

    /// Keep no safety copy
    #[arg(long)]
    pub(super) no_safety: bool,

    /// Stop what uses the database, before the swap (a shell command)
    ///
    /// With --continue or --rollback, this and the next two stand in for what the restore was begun with.
    #[arg(long, value_name = "COMMAND")]
    pub(super) stop_command: Option<String>,

    /// Start it again, after the swap or the way back (a shell command)
    #[arg(long, value_name = "COMMAND")]
    pub(super) start_command: Option<String>,

    /// Accept the restore only once this URL answers with success
    #[arg(long, value_name = "URL")]
    pub(super) health_url: Option<String>,

    /// Take the next older backup where this one is damaged
    #[arg(long)]
    pub(super) fallback: bool,

    #[command(flatten)]
    pub(super) identities: Identities,

    /// Answer the question for the target's name
    #[arg(long, value_name = "NAME")]
    pub(super) confirm: Option<String>,

    /// Finish a restore that was interrupted
    #[arg(long = "continue", conflicts_with_all = ["rollback", "to_new", "in_place", "no_verify", "safety_dir", "no_safety", "fallback", "confirm", "no_owner", "role_map", "create_roles", "table"])]
    pub(super) resume: bool,

    /// Undo a restore that was interrupted
    #[arg(long, conflicts_with_all = ["to_new", "in_place", "no_verify", "safety_dir", "no_safety", "fallback", "confirm", "no_owner", "role_map", "create_roles", "table"])]
    pub(super) rollback: bool,

    #[command(flatten)]
    pub(crate) dry_run: DryRun,
}

/// Nothing is replaced by tables that are made beside: then there is nothing to be asked for or to be kept.
pub(super) fn refuse_without_effect(options: &Options) -> Result<(), Failure> {
    if options.data_only {
        return refuse_without_effect_on_rows(options);
    }
    if options.table.is_empty() || options.in_place {
        return Ok(());
    }
    let given = [("--confirm", options.confirm.is_some()), ("--no-safety", options.no_safety)];
    match given.iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(Failure::usage(
            format!("`{option}` has no effect on `--table` without `--in-place`, which replaces nothing"),
            format!("leave `{option}` out, or add `--in-place` to replace the rows of the table"),
        )),
        None => Ok(()),
    }
}

/// Rows that are added replace nothing and belong to nobody, and come in one transaction under the eyes of those that use the
/// database.
fn refuse_without_effect_on_rows(options: &Options) -> Result<(), Failure> {
    let given = [
        ("--no-safety", options.no_safety),
        ("--safety-dir", options.safety_dir.is_some()),
        ("--no-owner", options.no_owner),
        ("--role-map", !options.role_map.is_empty()),
        ("--create-roles", options.create_roles),
        ("--stop-command", options.stop_command.is_some()),
        ("--start-command", options.start_command.is_some()),
        ("--health-url", options.health_url.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(Failure::usage(
            format!(
                "`{option}` has no effect on `--data-only`, which adds rows in one transaction and replaces nothing"
            ),
            format!("leave `{option}` out"),
        )),
        None => Ok(()),
    }
}

pub(super) fn ownership(options: &Options) -> Result<Ownership, Failure> {
    let mut ownership =
        Ownership { no_owner: options.no_owner, create_roles: options.create_roles, ..Ownership::default() };
    for pair in &options.role_map {
        let Some((old, new)) = pair.split_once('=').filter(|(old, new)| !old.is_empty() && !new.is_empty())
        else {
            return Err(Failure::usage(
                format!("`--role-map {pair}` does not name two roles"),
                "write --role-map OLD=NEW",
            ));
        };
        ownership.role_map.insert(old.to_owned(), new.to_owned());
    }
    Ok(ownership)
}

pub(super) fn safety(session: &Session, options: &Options, configured: Option<&config::Target>) -> Safety {
    if options.no_safety || options.to_new.is_some() || options.data_only {
        return Safety::None;
    }
    // Tables stay where they are: a folder of the configuration is for files.
    if !options.table.is_empty() {
        return Safety::Beside;
    }
    if !session.settings.restoration.safety && options.safety_dir.is_none() {
        return Safety::None;
    }
    let given = options.safety_dir.as_ref().map(|folder| session.absolute(folder));
    match given.or_else(|| configured.and_then(|target| target.restore.safety_dir.clone())) {
        Some(folder) => Safety::Folder(folder),
        None => Safety::Beside,
    }
}

pub(super) fn hooks(options: &Options, configured: Option<&config::Target>) -> Hooks {
    let shell = |command: &Option<String>| {
        command.as_ref().map(|text| vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()])
    };
    // Single tables, and rows alone, are brought back under the eyes of those that use the database.
    let is_whole = options.table.is_empty() && !options.data_only;
    let own = configured.map(|target| &target.restore).filter(|_| is_whole);
    Hooks {
        stop: shell(&options.stop_command).or_else(|| own.and_then(|own| own.stop.clone())),
        start: shell(&options.start_command).or_else(|| own.and_then(|own| own.start.clone())),
        health_url: options.health_url.clone().or_else(|| own.and_then(|own| own.health_url.clone())),
        ..Hooks::default()
    }
}

impl Options {
    /// Tells whether what is written is compared and checked.
    pub(super) fn verifies(&self, session: &Session) -> Result<bool, Failure> {
        let by_variable = session.switch("BACKUP_VERIFY_RESTORE")?;
        Ok(!self.no_verify && by_variable.unwrap_or(session.settings.restoration.verify))
    }

    /// Tells whether nothing that is there is changed: then there is nothing to be asked.
    pub(super) fn replaces_nothing(&self) -> bool {
        self.to_new.is_some() || (!self.table.is_empty() && !self.in_place && !self.data_only)
    }

    /// Returns what is to be restored, as it was written.
    pub(super) fn named(&self) -> &str {
        self.backup.as_deref().or(self.file.as_deref()).unwrap_or_default()
    }
}
