//! Which rules of `prune` are for which backups, and in which repositories those are: the rules of the command line for
//! what it names, else the rules of the configuration's plans, each for what that plan made.

use crate::errors::Failure;
use crate::opening::{self, Place};
use crate::session::Session;
use config::{Plan, SourceArgument, Target};
use flow::{DatabaseName, TargetRef, Text, quoted};
use jiff::tz::TimeZone;
use operations::{SafetyRule, Services};
use repository::retention::{PruneScope, PruneSelector, Rules};
use repository::{BackupRecord, Wanted};
use std::collections::BTreeSet;

/// What is to be pruned in one repository.
pub(crate) struct Job<'a> {
    pub(crate) place: Place,
    pub(crate) scopes: Vec<PruneScope>,
    /// The sources that were named.
    pub(crate) sources: Vec<SourceArgument<'a>>,
    /// Whose safety copies may go.
    pub(crate) safety: Vec<SafetyRule>,
}

/// Returns which safety copies of a target may go, by its configuration where it has one; `None` where they all stay.
pub(crate) fn safety_rule(
    session: &Session,
    target: &TargetRef,
    configured: Option<&Target>,
    only: Option<&DatabaseName>,
    zone: &TimeZone,
) -> Option<SafetyRule> {
    let settings = configured.map(|target| target.restore.clone()).unwrap_or_default();
    Some(SafetyRule {
        target: target.clone(),
        only: only.cloned(),
        folder: settings.safety_dir.map(|folder| session.absolute(&folder)),
        keep: settings.safety_keep.span()?,
        zone: zone.clone(),
    })
}

/// Returns what is to be pruned, a job a repository.
pub(crate) fn jobs<'a>(
    session: &'a Session,
    sources: &[String],
    rules: Option<&Rules>,
) -> Result<Vec<Job<'a>>, Failure> {
    let mut named = Vec::new();
    for text in sources {
        named.push(session.arguments().source(text)?);
    }
    match rules {
        Some(rules) => by_rules(session, named, rules),
        None => by_plans(session, named),
    }
}

fn by_rules<'a>(
    session: &'a Session,
    named: Vec<SourceArgument<'a>>,
    rules: &Rules,
) -> Result<Vec<Job<'a>>, Failure> {
    let scope = |selector| PruneScope {
        selector,
        rules: rules.clone(),
        zone: session.zone.clone(),
        hold_ages: false,
    };
    if named.is_empty() {
        let place = opening::place_of(session, None)?;
        let targets = session.settings.targets.values();
        let rule = |target: &Target| safety_rule(session, &target.target, Some(target), None, &session.zone);
        let (scopes, safety) = (vec![scope(PruneSelector::default())], targets.filter_map(rule).collect());
        return Ok(vec![Job { place, scopes, sources: vec![], safety }]);
    }
    let mut jobs: Vec<Job<'a>> = Vec::new();
    for source in named {
        let place = opening::place_of(session, Some(&source))?;
        let scope = scope(selector(session, &source));
        let (target, only) = (&source.target, source.only.as_ref());
        let safety = safety_rule(session, target, source.configured, only, &session.zone);
        match jobs.iter_mut().find(|job| job.place == place) {
            Some(job) => {
                job.scopes.push(scope);
                job.sources.push(source);
                job.safety.extend(safety);
            }
            None => {
                let safety = safety.into_iter().collect();
                jobs.push(Job { place, scopes: vec![scope], sources: vec![source], safety });
            }
        }
    }
    Ok(jobs)
}

/// A path means what this host backed up there.
fn selector(session: &Session, source: &SourceArgument<'_>) -> PruneSelector {
    match source.configured {
        Some(_) => PruneSelector {
            target: Some(source.target.name.clone()),
            databases: source.only.clone().map(|only| BTreeSet::from([only])),
            ..PruneSelector::default()
        },
        None => PruneSelector {
            place: Some(source.target.connection.clone()),
            host: Some(session.host.clone()),
            ..PruneSelector::default()
        },
    }
}

fn by_plans<'a>(session: &'a Session, named: Vec<SourceArgument<'a>>) -> Result<Vec<Job<'a>>, Failure> {
    let asked = opening::asked_for(session)?;
    let mut chosen: Vec<(&Target, Option<&SourceArgument<'_>>)> = Vec::new();
    for source in &named {
        let Some(target) = source.configured else { return Err(no_rule(source)) };
        if !target.plans.values().any(|plan| plan.keep.is_some()) {
            return Err(no_rule(source));
        }
        chosen.push((target, Some(source)));
    }
    if named.is_empty() {
        chosen.extend(session.settings.targets.values().map(|target| (target, None)));
    }
    let mut jobs: Vec<Job<'a>> = Vec::new();
    for (target, source) in chosen {
        for (name, plan) in &target.plans {
            let Some(rules) = &plan.keep else { continue };
            let place = place_of_plan(session, plan)?;
            if asked.as_ref().is_some_and(|asked| asked.repository.path != place.repository.path) {
                continue;
            }
            let only = source.and_then(|source| source.only.clone());
            let selector = PruneSelector {
                target: Some(target.target.name.clone()),
                plan: Some(name.clone()),
                databases: only.map(|only| BTreeSet::from([only])),
                ..PruneSelector::default()
            };
            let zone = plan.time_zone.clone().unwrap_or_else(|| session.zone.clone());
            let only = source.and_then(|source| source.only.as_ref());
            let safety = safety_rule(session, &target.target, Some(target), only, &zone);
            let scope = PruneScope { selector, rules: rules.clone(), zone, hold_ages: false };
            match jobs.iter_mut().find(|job| job.place.repository.path == place.repository.path) {
                Some(job) => {
                    job.scopes.push(scope);
                    job.safety.extend(safety);
                }
                None => {
                    let safety = safety.into_iter().collect();
                    jobs.push(Job { place, scopes: vec![scope], sources: vec![], safety });
                }
            }
        }
    }
    if jobs.is_empty() { Err(no_rule_at_all(session)) } else { Ok(jobs) }
}

fn place_of_plan(session: &Session, plan: &Plan) -> Result<Place, Failure> {
    match &plan.repository {
        Some(repository) => Ok(Place::named(repository.clone())),
        None => opening::default_place(session),
    }
}

fn no_rule(source: &SourceArgument<'_>) -> Failure {
    let message = match source.configured {
        Some(target) => format!("no rule says what to keep: no plan of {} has a `keep`", target.target.name),
        None => format!("no rule says what to keep of {}", source.text),
    };
    let hint = format!("backstay prune {} --keep-daily 7 --keep-weekly 4 --dry-run", quoted(&source.text));
    Failure::usage(message, format!("try {hint}"))
}

fn no_rule_at_all(session: &Session) -> Failure {
    let message = match &session.settings.file {
        Some(file) => format!("no rule says what to keep: no plan of {} has a `keep`", file.display()),
        None => "no rule says what to keep".to_owned(),
    };
    Failure::usage(message, "try backstay prune --keep-daily 7 --keep-weekly 4 --dry-run")
}

/// Fails where a source that is named in place has no backup: a slip of the pen is to be told, and a folder of dump
/// files not to be passed over.
pub(crate) fn refuse_unknown(session: &Session, services: &Services, job: &Job<'_>) -> Result<(), Failure> {
    let in_place: Vec<_> = job.sources.iter().filter(|source| source.configured.is_none()).collect();
    if in_place.is_empty() {
        return Ok(());
    }
    for source in in_place {
        let place = Wanted::Place(source.target.connection.clone());
        let mut hosts: BTreeSet<Text> = BTreeSet::new();
        let mut take = |record: BackupRecord| {
            hosts.extend(record.engine.is_some().then_some(record.host));
        };
        services.repository.each_backup(&place, &services.context, &mut take)?;
        if hosts.contains(session.host.as_str()) {
            continue;
        }
        if let Some(host) = hosts.first() {
            return Err(Failure::usage(
                format!("{} has backups of other hosts ({host}) and none of this one", source.text),
                "prune there, or without a SOURCE: then the rules hold for every database of the repository",
            ));
        }
        let hint = match &source.near {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`backstay list` shows what there is".to_owned(),
        };
        return Err(Failure::usage(format!("`{}` names no backup of this repository", source.text), hint));
    }
    Ok(())
}
