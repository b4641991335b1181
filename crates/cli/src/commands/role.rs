//! `role`: the statements for a role that may read everything a backup needs, as SQL on standard output; run, or checked.
//! No password is printed, taken or set.

use crate::errors::{Failure, exit};
use crate::globals::DryRun;
use crate::json::Finished;
use crate::session::Session;
use crate::wording::count;
use clap::Args;
use engines::RoleAction;
use flow::{Severity, quoted};
use operations::role::{RoleItem, RoleOptions};

/// Make a role that may read everything a backup needs, and change nothing
///
/// Prints SQL for a PostgreSQL role: pg_read_all_data from version 14 on, else grants for what is there and for what its owners
/// will make; large objects; BYPASSRLS where tables have policies. Run again it changes nothing. It sets no password: how the
/// role logs in is yours to say (\password in psql, or pg_hba.conf).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  backstay role postgres://postgres@db1/erp --role backup          the SQL for it
  backstay role postgres://postgres@db1/erp --role backup --apply  made, by that superuser
  backstay role postgres://backup@db1/erp --check                  whether it can read everything: 0, or 21")]
pub(crate) struct Options {
    /// A configured target, or a postgres:// URL; what is to be made is made by the role that it names
    #[arg(value_name = "SOURCE")]
    source: String,

    /// The role [default: the one that SOURCE names, or `backstay` where that one may make roles]
    #[arg(long, value_name = "NAME")]
    role: Option<String>,

    /// Run the statements, all or none, and check what the role can read then
    #[arg(long)]
    apply: bool,

    /// Check that the role can read everything; of one that may make databases, say whether it may restore too
    #[arg(long, conflicts_with = "apply")]
    check: bool,

    /// Grant the tables of this database alone, not those of the whole server (pg_read_all_data)
    #[arg(long, conflicts_with = "check")]
    explicit_grants: bool,

    #[command(flatten)]
    pub(crate) dry_run: DryRun,
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    let source = session.live_source(&options.source)?;
    let action = match (options.apply && !options.dry_run.dry_run, options.check) {
        (true, _) => RoleAction::Apply,
        (_, true) => RoleAction::Check,
        _ => RoleAction::Print,
    };
    let wanted =
        RoleOptions { role: options.role.clone(), object_by_object: options.explicit_grants, action };
    let report = operations::role::run(
        &session.engines,
        &source.target,
        source.only.as_ref(),
        &wanted,
        &session.context,
    )?;
    for item in &report.body.databases {
        show(session, item, action)?;
    }
    if options.apply && options.dry_run.dry_run {
        session.console.say("Nothing was run: this was a dry run.");
    }
    let problems = report.body.problems();
    if problems == 0 {
        return Finished::new(&report);
    }
    let role = report.body.databases.first().map(|item| item.role.clone()).unwrap_or_default();
    let failure = Failure::new(
        exit::NOT_VALID,
        format!("role {role} cannot read everything: {}", count(problems, "problem", "problems")),
    );
    let failure = match action {
        RoleAction::Check => failure.with_hint(format!(
            "`backstay role SOURCE --role {}`, with a SOURCE that names a superuser, writes what mends it; --apply runs it",
            quoted(&role)
        )),
        _ => failure,
    };
    Finished::failing(report, failure)
}

fn show(session: &Session, item: &RoleItem, action: RoleAction) -> Result<(), Failure> {
    let console = &session.console;
    if action == RoleAction::Print {
        console.data(&script(item))?;
    }
    for finding in &item.findings {
        match (finding.severity, action) {
            (Severity::Problem, _) | (_, RoleAction::Check) => console.data(&console.finding(finding))?,
            (Severity::Warning, _) => {
                console.warn(&format!("{} {}", finding.object, finding.message), finding.hint.as_deref());
            }
            (Severity::Notice, _) => {
                let hint = finding.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
                console.say(&format!("The {} {}{hint}.", finding.object, finding.message));
            }
        }
    }
    if item.readable == Some(true) {
        let what = if item.applied { "was made, and may" } else { "may" };
        console.say(&format!("The role {} {what} read everything of {}.", item.role, item.database));
    }
    if item.applied && !item.exists {
        console.say(&format!(
            "How it logs in is yours to say: `\\password {}` in psql and a line in ~/.pgpass, or a line in pg_hba.conf.",
            item.role
        ));
    }
    Ok(())
}

/// Returns the statements as a script for `psql`.
fn script(item: &RoleItem) -> String {
    let plain = |text: &str| text.replace(char::is_control, " ");
    let (role, database) = (plain(&item.role), plain(item.database.as_str()));
    let mut text = format!(
        "-- A role that may read all of database {database} for backups, and change nothing.\n\
         -- To be run in that database by a superuser; run again it changes nothing.\nBEGIN;\n"
    );
    for statement in &item.statements {
        text.push_str(statement);
        text.push_str(";\n");
    }
    text.push_str(&format!(
        "COMMIT;\n\
         -- How {role} logs in is yours to say. With a password, set it by `\\password {role}` in psql, and let the user who runs\n\
         -- the backups have HOST:PORT:{database}:{role}:PASSWORD in ~/.pgpass (chmod 600). On the server's own machine without\n\
         -- one: `local {database} {role} peer map=backup` in pg_hba.conf, and `backup USER {role}` in pg_ident.conf.\n"
    ));
    text
}
