//! What holds whatever the history and the rules.

use crate::history::{backup, beside, decide, everything, ids, kept, now, planned};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use repository::retention::{Candidate, Decision, Rules, Span};
use std::collections::BTreeSet;

/// Up to forty backups of the last three years, some suspect, some not proven, some imported, some by a clock that was
/// ahead.
fn history() -> impl Strategy<Value = Vec<Candidate>> {
    let minutes = prop_oneof![-1000_i64..4000, 0_i64..100_000, 0_i64..1_500_000];
    let one = (minutes, 0_u64..1000, 0_u8..10, 0_u8..10, 0_u8..10);
    let backups = (proptest::collection::vec(one, 0..40), 0_u8..6);
    backups.prop_map(|(backups, imports)| {
        let made =
            backups.into_iter().enumerate().map(|(number, (minutes, size_bytes, proven, suspect, by))| {
                let time: Timestamp = now() - SignedDuration::from_mins(minutes);
                Candidate {
                    size_bytes,
                    proven: proven > 0,
                    suspect: suspect == 0,
                    imported: by < imports,
                    ..backup(number, time)
                }
            });
        made.collect()
    })
}

fn span() -> impl Strategy<Value = Option<Span>> {
    let span = (0_u32..3, 0_u32..4, 0_u32..3, 0_u32..20, 0_u32..50)
        .prop_map(|(years, months, weeks, days, hours)| Span { years, months, weeks, days, hours });
    proptest::option::weighted(0.4, span.prop_filter("a span is not empty", |span| *span != Span::default()))
}

fn rules() -> impl Strategy<Value = Rules> {
    let count = || prop_oneof![3 => Just(0_u32), 2 => 1_u32..8];
    let counts = (count(), count(), count(), count(), count(), count());
    let size = proptest::option::weighted(0.3, 0_u64..20_000);
    (counts, span(), span(), size, 0_u32..5).prop_map(
        |(counts, within, max_age, max_size_bytes, min_keep)| {
            let (last, hourly, daily, weekly, monthly, yearly) = counts;
            Rules { last, hourly, daily, weekly, monthly, yearly, within, max_age, max_size_bytes, min_keep }
        },
    )
}

fn good(backup: &Candidate) -> bool {
    backup.proven && !backup.suspect
}

fn made_by_run(backup: &Candidate) -> bool {
    good(backup) && !backup.imported
}

fn counted(decision: &Decision, wanted: impl Fn(&Candidate) -> bool) -> usize {
    decision.verdicts.iter().filter(|verdict| verdict.kept && wanted(&verdict.backup)).count()
}

/// The rules with each count larger, each span longer.
fn looser(rules: &Rules) -> Rules {
    let longer = |span: Option<Span>| span.map(|span| Span { days: span.days + 5, ..span });
    let more = |count: u32| if count == 0 { 0 } else { count + 2 };
    Rules {
        last: more(rules.last),
        hourly: more(rules.hourly),
        daily: more(rules.daily),
        weekly: more(rules.weekly),
        monthly: more(rules.monthly),
        yearly: more(rules.yearly),
        within: longer(rules.within),
        max_age: longer(rules.max_age),
        ..rules.clone()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_good_backup_goes_only_behind_a_newer_good_one(history in history(), rules in rules(), hold in any::<bool>()) {
        let mut scopes = everything(rules);
        scopes[0].hold_ages = hold;
        let decision = planned(&history, &scopes, now());
        prop_assert_eq!(decision.verdicts.len(), history.len());
        let place = |backup: &Candidate| (backup.time, backup.snapshot.clone());
        let newest_of_runs = history.iter().filter(|backup| made_by_run(backup)).map(place).max();
        let newest_good = history.iter().filter(|backup| good(backup)).map(place).max();
        let newest = history.iter().map(place).max();
        for verdict in &decision.verdicts {
            prop_assert!(!verdict.reasons.is_empty());
            let here = Some(place(&verdict.backup));
            // Of what is not good the newest stays, and where nothing is good all does.
            let may_go = newest_good.is_some() && here != newest && (here < newest_good || !good(&verdict.backup));
            prop_assert!(verdict.kept || may_go, "{:?}", verdict);
            // An import stands for none that a run made.
            let may_go = !made_by_run(&verdict.backup) || here < newest_of_runs;
            prop_assert!(verdict.kept || may_go, "{:?}", verdict);
        }
    }

    #[test]
    fn what_was_imported_costs_nothing_that_a_run_made_its_place(history in history(), rules in rules(), hold in any::<bool>()) {
        let alone: Vec<Candidate> = history.iter().filter(|backup| !backup.imported).cloned().collect();
        let mut scopes = everything(rules);
        scopes[0].hold_ages = hold;
        let of = |backups: &[Candidate]| ids(&planned(backups, &scopes, now()), true);
        let good: BTreeSet<String> =
            history.iter().filter(|backup| made_by_run(backup)).map(|backup| backup.id().0).collect();
        let (before, after) = (of(&alone), of(&history));
        let lost: Vec<_> = before.intersection(&good).filter(|id| !after.contains(*id)).collect();
        prop_assert!(lost.is_empty(), "{:?}", lost);
    }

    #[test]
    fn a_suspect_tenant_keeps_no_more_of_the_others_than_itself(
        history in history(),
        rules in rules(),
        since in 0_usize..40,
        age in 0_i64..400,
    ) {
        // No size: it acts on each database by itself.
        let rules = Rules { max_size_bytes: None, ..rules };
        let healthy: Vec<Candidate> = {
            let mut all: Vec<Candidate> =
                history.into_iter().map(|backup| Candidate { proven: true, suspect: false, imported: false, ..backup }).collect();
            // A clock that was ahead is another matter.
            all.retain(|backup| backup.time < now());
            all.sort_by(|a, b| (a.time, &a.snapshot).cmp(&(b.time, &b.snapshot)));
            all
        };
        prop_assume!(since < healthy.len());
        let sick: Vec<Candidate> = healthy.iter().enumerate().map(|(number, backup)| Candidate {
            suspect: number >= since,
            ..beside(backup, "sick.db")
        }).collect();
        let mut scopes = everything(rules.clone());
        scopes[0].hold_ages = true;
        let later = now() + SignedDuration::from_hours(24 * age);
        let both: Vec<Candidate> = healthy.iter().chain(&sick).cloned().collect();
        let decision = planned(&both, &scopes, later);
        let left: BTreeSet<String> = both.iter().map(|backup| backup.snapshot.to_string())
            .filter(|snapshot| !decision.snapshots.contains(snapshot.as_str())).collect();
        let stays = |backups: &[Candidate], at: Timestamp| -> BTreeSet<String> {
            let decision = planned(backups, &scopes, at);
            decision.verdicts.iter().filter(|verdict| verdict.kept)
                .map(|verdict| verdict.backup.snapshot.to_string()).collect()
        };
        let Some(last_good) = since.checked_sub(1).and_then(|last| healthy.get(last)) else {
            // It never had a good one: all stays.
            prop_assert_eq!(left.len(), healthy.len());
            return Ok(());
        };
        // What it kept when its last good backup was made is kept, and else no more than if nobody suspected it.
        let mut then = stays(&healthy[..since], last_good.time + SignedDuration::from_nanos(1));
        prop_assert!(then.is_subset(&left), "{:?} {:?}", then, left);
        then.extend(stays(&healthy[..since], last_good.time));
        let now = stays(&healthy, later);
        let extra: BTreeSet<_> = left.difference(&now).filter(|snapshot| !then.contains(*snapshot)).collect();
        prop_assert!(extra.is_empty(), "{:?}", extra);
    }

    #[test]
    fn never_below_the_least_number(history in history(), rules in rules()) {
        let decision = decide(&history, &rules);
        let floor = rules.min_keep.max(1) as usize;
        let all = history.iter().filter(|backup| good(backup)).count();
        prop_assert!(counted(&decision, good) >= floor.min(all));
        prop_assert!(counted(&decision, |_| true) >= floor.min(history.len()));
    }

    #[test]
    fn what_is_not_good_costs_no_good_one_its_place(history in history(), rules in rules()) {
        let alone: Vec<Candidate> = history.iter().filter(|backup| good(backup)).cloned().collect();
        prop_assert!(kept(&alone, &rules).is_subset(&kept(&history, &rules)));
    }

    #[test]
    fn a_second_time_removes_nothing(history in history(), rules in rules()) {
        let first = kept(&history, &rules);
        let left: Vec<Candidate> =
            history.iter().filter(|backup| first.contains(&backup.id().0)).cloned().collect();
        prop_assert_eq!(kept(&left, &rules), first);
    }

    #[test]
    fn the_order_means_nothing(history in history(), rules in rules(), by in 0_usize..40) {
        let mut turned = history.clone();
        turned.rotate_left(by.min(history.len()));
        turned.reverse();
        prop_assert_eq!(decide(&turned, &rules), decide(&history, &rules));
    }

    #[test]
    fn looser_rules_keep_no_less(history in history(), rules in rules()) {
        // How many stay at least is filled up with others where a rule keeps fewer, and the size overrides rules.
        let rules = Rules { min_keep: 1, max_size_bytes: None, ..rules };
        let good_only: Vec<Candidate> = history.into_iter().filter(good).collect();
        prop_assert!(kept(&good_only, &rules).is_subset(&kept(&good_only, &looser(&rules))));
    }

    #[test]
    fn two_rules_keep_the_union(history in history(), one in rules(), two in rules()) {
        let both = Rules {
            last: one.last,
            hourly: one.hourly,
            daily: two.daily,
            weekly: two.weekly,
            within: one.within,
            ..Rules::default()
        };
        let first = Rules { daily: 0, weekly: 0, ..both.clone() };
        let second = Rules { last: 0, hourly: 0, within: None, ..both.clone() };
        prop_assume!(!first.is_empty() && !second.is_empty());
        let union: BTreeSet<String> = kept(&history, &first).union(&kept(&history, &second)).cloned().collect();
        prop_assert_eq!(kept(&history, &both), union);
    }

    #[test]
    fn the_size_is_held_or_only_what_must_stay_is_left(history in history(), rules in rules()) {
        let limit = rules.max_size_bytes.unwrap_or(3000);
        let decision = decide(&history, &Rules { max_size_bytes: Some(limit), ..rules.clone() });
        let sum = |wanted: &dyn Fn(&Candidate) -> bool| -> u64 {
            let kept = decision.verdicts.iter().filter(|verdict| verdict.kept && wanted(&verdict.backup));
            kept.map(|verdict| verdict.backup.size_bytes).sum()
        };
        // Behind what is dated in the future the newest of now stays too.
        let future = history.iter().any(|backup| good(backup) && backup.time > now());
        let floor = rules.min_keep.max(1) as usize + usize::from(future);
        prop_assert!(sum(&made_by_run) <= limit || counted(&decision, made_by_run) <= floor);
        // Of the imports no more than must be stays beside what runs made.
        let imports = counted(&decision, |backup| good(backup) && backup.imported);
        prop_assert!(sum(&good) <= limit || imports <= floor);
        let without = decide(&history, &Rules { max_size_bytes: None, last: rules.last.max(1), ..rules.clone() });
        prop_assert!(ids(&without, true).len() <= history.len());
    }

    #[test]
    fn no_rule_keeps_everything(history in history(), min_keep in 0_u32..5) {
        let rules = Rules { min_keep, ..Rules::default() };
        prop_assert!(rules.is_empty());
        prop_assert_eq!(kept(&history, &rules).len(), history.len());
    }
}
