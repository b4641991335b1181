//! Made-up backups.

use flow::{DatabaseName, TargetName};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use repository::retention::{Candidate, Decision, Origin, PruneScope, PruneSelector, Rules, plan};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The moment at which all these tests run.
pub(crate) fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

pub(crate) fn backup(number: usize, time: Timestamp) -> Candidate {
    let origin = Origin {
        target: TargetName::new("erp").unwrap(),
        database: DatabaseName::new("erp.db").unwrap(),
        host: "host".into(),
        connection: "/srv/erp.db".into(),
        plan: None,
        selection: None,
    };
    Candidate {
        origin: Arc::new(origin),
        snapshot: format!("{number:08}").into(),
        alone: true,
        time,
        size_bytes: 100,
        proven: true,
        suspect: false,
        imported: false,
    }
}

/// The origin of one of them, to be changed.
pub(crate) fn origin(backup: &mut Candidate) -> &mut Origin {
    Arc::make_mut(&mut backup.origin)
}

/// The same backup of another database in its snapshot.
pub(crate) fn beside(backup: &Candidate, database: &str) -> Candidate {
    let mut other = Candidate { alone: false, ..backup.clone() };
    origin(&mut other).database = DatabaseName::new(database).unwrap();
    other
}

/// Backups of these times, newest last.
pub(crate) fn backups(times: &[&str]) -> Vec<Candidate> {
    times.iter().enumerate().map(|(number, time)| backup(number, time.parse().unwrap())).collect()
}

pub(crate) fn everything(rules: Rules) -> [PruneScope; 1] {
    [PruneScope { selector: PruneSelector::default(), rules, zone: TimeZone::UTC, hold_ages: false }]
}

pub(crate) fn decide(candidates: &[Candidate], rules: &Rules) -> Decision {
    planned(candidates, &everything(rules.clone()), now())
}

pub(crate) fn planned(candidates: &[Candidate], scopes: &[PruneScope], now: Timestamp) -> Decision {
    plan(candidates, scopes, now)
}

pub(crate) fn ids(decision: &Decision, kept: bool) -> BTreeSet<String> {
    let fitting = decision.verdicts.iter().filter(|verdict| verdict.kept == kept);
    fitting.map(|verdict| verdict.backup.id().0).collect()
}

pub(crate) fn kept(candidates: &[Candidate], rules: &Rules) -> BTreeSet<String> {
    ids(&decide(candidates, rules), true)
}

/// The verdicts as text, newest first: `00000003 keep daily`.
pub(crate) fn told(candidates: &[Candidate], rules: &Rules) -> Vec<String> {
    let decision = decide(candidates, rules);
    let told = decision.verdicts.iter().map(|verdict| {
        let reasons: Vec<String> = verdict.reasons.iter().map(ToString::to_string).collect();
        let word = if verdict.kept { "keep" } else { "remove" };
        format!("{} {word}: {}", verdict.backup.id().0.trim_start_matches('0'), reasons.join("; "))
    });
    told.collect()
}
