//! `stats`: what a repository holds and takes up, as a few lines and a table of its targets.

use crate::errors::Failure;
use crate::json::Finished;
use crate::opening;
use crate::session::Session;
use crate::wording::{age, count, grouped, size, table};
use clap::Args;
use operations::stats::{StatsBody, TargetStats};

/// Show what a repository holds and takes up
///
/// Known from its lists and its index: no content is read.
#[derive(Debug, Args)]
pub(crate) struct Options {}

pub(crate) fn run(session: &Session, _options: &Options) -> Result<Finished, Failure> {
    let services = opening::for_source(session, None)?;
    let report = operations::stats::run(&services)?;
    session.console.data(&text(session, &report.body))?;
    if report.body.unlisted > 0 {
        session.console.warn(
            &format!(
                "{} cannot be listed and not counted",
                count(report.body.unlisted, "snapshot", "snapshots")
            ),
            Some("`backstay check` names what is damaged"),
        );
    }
    Finished::new(&report)
}

fn text(session: &Session, body: &StatsBody) -> String {
    let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
    let mut lines = vec![
        vec!["repository".to_owned(), body.repository.clone()],
        vec![
            "backups".to_owned(),
            format!(
                "{} of {} in {}",
                grouped(body.backups),
                count(body.databases, "database", "databases"),
                count(body.snapshots, "snapshot", "snapshots")
            ),
        ],
        vec!["size of all backups".to_owned(), size(body.logical_bytes)],
        vec![
            "unique".to_owned(),
            format!("{} (deduplication {})", size(body.unique_bytes), ratio(body.deduplication_ratio)),
        ],
        vec![
            "stored".to_owned(),
            format!(
                "{} (compression {}): {} of {}, index {}",
                size(body.stored_bytes),
                ratio(body.compression_ratio),
                size(body.pack_bytes),
                count(body.packs, "pack", "packs"),
                size(body.index_bytes)
            ),
        ],
        vec!["blobs".to_owned(), grouped(body.blobs)],
    ];
    if let Some(free) = body.free_bytes {
        lines.push(vec!["free".to_owned(), size(free)]);
    }
    let mut text = table(&["", ""], lines, &[]).trim_start_matches('\n').to_owned();
    if !body.targets.is_empty() {
        text.push_str("\n\n");
        text.push_str(&targets(session, &body.targets));
    }
    text
}

fn targets(session: &Session, targets: &[TargetStats]) -> String {
    let rows = targets.iter().map(|target| {
        vec![
            target.target.to_string(),
            grouped(target.databases),
            grouped(target.backups),
            size(target.newest_bytes),
            size(target.logical_bytes),
            size(target.added_bytes),
            age(target.newest, session.started),
        ]
    });
    table(
        &["TARGET", "DATABASES", "BACKUPS", "NEWEST", "ALL BACKUPS", "ADDED", "AGE"],
        rows.collect(),
        &[1, 2, 3, 4, 5, 6],
    )
}
