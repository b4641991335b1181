//! `show`: what is known of one backup.

use crate::age_options::Identities;
use crate::errors::Failure;
use crate::folder_backups::{self, Meant};
use crate::json::Finished;
use crate::opening;
use crate::references::{announce, reference};
use crate::session::Session;
use crate::wording::{ago, grouped, moment, size, table};
use clap::Args;
use flow::Facts;
use operations::list::ListItem;
use operations::reference::short;
use operations::show::FileFacts;
use repository::StoredFile;

/// Show what is known of a backup
///
/// Time, size, proof, tables with their rows, versions of what took part. With --json: the whole manifest.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The backup: an id, SOURCE@latest, SOURCE@latest~2, SOURCE@2026-11-20T02:00, or latest
    #[arg(value_name = "BACKUP")]
    backup: String,

    #[command(flatten)]
    identities: Identities,
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    if let Some(meant) = folder_backups::meant(session, &options.backup)? {
        return show_file(session, options, &meant);
    }
    options.identities.refuse_for_backups()?;
    let reference = reference(session, &options.backup)?;
    let services = opening::for_backup_argument(session, &options.backup)?;
    let report = operations::show::run(&services, &reference)?;
    announce(session, &reference, &report.body.backup.id, report.body.backup.time);
    let mut text = facts(session, &report.body.backup);
    if let Some(manifest) = &report.body.manifest {
        text.push_str(&content(&manifest.facts));
    }
    if let Some(files) = &report.body.files {
        text.push_str(&listing(files));
    }
    session.console.data(&text)?;
    Finished::new(&report)
}

/// Shows a file of a folder: with what its manifest says, else with what it says itself.
fn show_file(session: &Session, options: &Options, meant: &Meant<'_>) -> Result<Finished, Failure> {
    let keys = options.identities.keys(session, &meant.identities())?;
    let chosen = meant.one(session)?;
    let Some(file) = chosen.files.first() else { return Err(Failure::usage("there is no such file", "")) };
    let services = opening::without_repository(session)?;
    let report = operations::show::of_file(&services, file.clone(), &keys);
    let mut text = facts(session, &report.body.backup);
    if let Some(known) = &report.body.file {
        text.push_str(&file_facts(known));
        if let Some(manifest) = &known.manifest {
            text.push_str(&content(&manifest.facts));
        }
    }
    session.console.data(&text)?;
    Finished::new(&report)
}

fn file_facts(known: &FileFacts) -> String {
    let form = match known.form {
        Some(form) => format!("{form:?}").to_lowercase(),
        None => known.problem.clone().unwrap_or_else(|| "unknown".to_owned()),
    };
    let packing =
        known.compression.map_or("unknown".to_owned(), |packing| format!("{packing:?}").to_lowercase());
    let encryption = match known.encryption {
        Some(operations::Encryption::Age) => "age",
        Some(operations::Encryption::None) => "none",
        None => "unknown",
    };
    let mut lines = vec![
        ("file form", form),
        ("packed", packing),
        ("encrypted", encryption.to_owned()),
        ("file size", size(known.file_bytes)),
    ];
    lines.push(match &known.manifest {
        Some(manifest) => ("sha256", manifest.sha256.clone()),
        None => ("manifest", "none: what its name and its first bytes say".to_owned()),
    });
    lines.into_iter().map(|(name, value)| format!("{name:<17}{value}\n")).collect()
}

fn facts(session: &Session, item: &ListItem) -> String {
    let proof = match (item.proof, item.proof_time) {
        (Some(level), Some(time)) => format!("{level}, as of {}", ago(time, session.started)),
        (Some(level), None) => level.to_string(),
        (None, _) if item.lost.is_some() => "none: it is lost".to_owned(),
        (None, _) if item.engine.is_none() => "not verified".to_owned(),
        (None, _) => "found damaged".to_owned(),
    };
    let engine = match (item.engine, &item.path) {
        (Some(engine), _) => engine.to_string(),
        (None, Some(_)) => "unknown".to_owned(),
        (None, None) => "files that restic stored".to_owned(),
    };
    let mut lines = vec![
        ("id", item.id.0.clone()),
        ("target", item.target.to_string()),
        ("database", item.database.to_string()),
        ("place", format!("{} on {}", item.connection, item.host)),
        ("engine", engine),
        ("time", format!("{} ({})", moment(item.time, &session.zone), ago(item.time, session.started))),
        ("size", format!("{} ({} added)", size(item.size_bytes), size(item.added_bytes))),
        ("rows", item.rows.map_or("not counted".to_owned(), grouped)),
        ("proof", proof),
    ];
    if let Some(selection) = &item.selection {
        lines.insert(3, ("part", selection.to_string()));
    }
    if let Some(reason) = &item.lost {
        lines.push(("lost", reason.clone()));
    }
    if let Some(reasons) = &item.suspect {
        lines.push(("suspect", reasons.join("; ")));
        lines.push(("", format!("`backstay accept {}` takes the mark away", short(&item.id.0))));
    }
    if !item.tags.is_empty() {
        lines.push(("tags", item.tags.join(" ")));
    }
    lines.into_iter().map(|(name, value)| format!("{name:<17}{value}\n")).collect()
}

fn content(facts: &Facts) -> String {
    let mut text = format!("{:<17}{} {}, {}\n", "form", facts.engine, facts.engine_version, facts.form);
    for (name, value) in &facts.properties {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.push_str(&format!("{name:<17}{value}\n"));
    }
    if !facts.tables.is_empty() {
        let rows = facts
            .tables
            .iter()
            .map(|facts| vec![facts.name.clone(), facts.rows.map_or("not counted".to_owned(), grouped)]);
        text.push('\n');
        text.push_str(&table(&["TABLE", "ROWS"], rows.collect(), &[1]));
        text.push('\n');
    }
    text
}

fn listing(files: &[StoredFile]) -> String {
    let rows = files.iter().map(|file| vec![file.kind.clone(), size(file.size_bytes), file.path.clone()]);
    format!("\n{}\n", table(&["KIND", "SIZE", "PATH"], rows.collect(), &[1]))
}
