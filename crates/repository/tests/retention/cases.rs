//! Single rules, by example.

use crate::history::{backups, beside, decide, everything, ids, kept, now, origin, planned, told};
use flow::{DatabaseName, TargetName};
use jiff::tz::TimeZone;
use repository::retention::{Candidate, PruneScope, PruneSelector, Rules};
use std::collections::BTreeSet;

/// One backup a day from the 1st to the 20th; number 0 is the oldest.
fn daily() -> Vec<Candidate> {
    let times: Vec<String> = (1..=20).map(|day| format!("2026-11-{day:02}T02:00:00Z")).collect();
    backups(&times.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn reasons_tell_which_rule_it_was() {
    let three = backups(&["2026-11-18T02:00:00Z", "2026-11-20T02:00:00Z", "2026-11-20T03:00:00Z"]);
    let rules = Rules { daily: 1, weekly: 2, ..Rules::default() };
    assert_eq!(
        told(&three, &rules),
        [
            "2 keep: daily; weekly; newest proven backup",
            "1 remove: not the last of its day; not the last of its week",
            " remove: beyond 1 daily; not the last of its week",
        ]
    );
    let rules = Rules { last: 1, within: Some("1d".parse().unwrap()), ..Rules::default() };
    assert_eq!(
        told(&three, &rules),
        [
            "2 keep: within 1 day of the newest; last; newest proven backup",
            "1 keep: within 1 day of the newest",
            " remove: not within 1 day of the newest; beyond the last 1",
        ]
    );
}

#[test]
fn a_part_takes_no_place_from_the_whole() {
    let mut four = backups(&[
        "2026-11-17T02:00:00Z",
        "2026-11-18T02:00:00Z",
        "2026-11-19T02:00:00Z",
        "2026-11-20T02:00:00Z",
    ]);
    for (number, part) in [(2, "schema only"), (3, "tables a")] {
        origin(&mut four[number]).selection = Some(part.into());
    }
    let rules = Rules { last: 1, ..Rules::default() };
    let expected: BTreeSet<String> = [1, 2, 3].map(|number| format!("{number:08}")).into();
    assert_eq!(kept(&four, &rules), expected);
}

#[test]
fn with_max_age_only_what_is_older_goes() {
    let rules = Rules { last: 3, max_age: Some("10d".parse().unwrap()), ..Rules::default() };
    let decision = decide(&daily(), &rules);
    // Ten days before the 21st at noon.
    assert_eq!(ids(&decision, false).len(), 11);
    let alone = Rules { last: 0, ..rules };
    assert_eq!(ids(&decide(&daily(), &alone), false), ids(&decision, false));
    assert_eq!(told(&daily()[..1], &alone), [" keep: newest proven backup"], "never the newest, however old");
    let many = Rules { last: 15, ..rules_of_age() };
    assert_eq!(kept(&daily(), &many).len(), 15, "what a rule keeps stays, however old");
}

fn rules_of_age() -> Rules {
    Rules { max_age: Some("10d".parse().unwrap()), ..Rules::default() }
}

#[test]
fn max_size_removes_the_oldest_first_and_says_what_it_overrides() {
    let rules = Rules { max_size_bytes: Some(1000), ..Rules::default() };
    let newest: BTreeSet<String> = (10..20).map(|number| format!("{number:08}")).collect();
    assert_eq!(kept(&daily(), &rules), newest, "everything is kept before the size acts");
    let told = told(&daily(), &Rules { daily: 20, ..rules.clone() });
    assert_eq!(told[9], "10 keep: daily");
    assert_eq!(told[10], "9 remove: oldest, over the size of 1 kB; although kept otherwise: daily");
    let small = Rules { max_size_bytes: Some(1), ..Rules::default() };
    assert_eq!(kept(&daily(), &small).len(), 1, "never the newest proven backup");
    assert_eq!(kept(&daily(), &Rules { min_keep: 4, ..small }).len(), 4, "down to the least number");
}

#[test]
fn never_below_the_least_number() {
    let rules = Rules { yearly: 1, min_keep: 3, ..Rules::default() };
    let told = told(&daily(), &rules);
    assert_eq!(told[1], "18 keep: at least 3 stay");
    assert!(told[3].contains("remove: not the last of its year"), "{}", told[3]);
    assert_eq!(
        kept(&daily(), &Rules { min_keep: 0, ..rules }).len(),
        1,
        "the newest proven one stays anyway"
    );
}

#[test]
fn a_suspect_backup_takes_no_place_and_the_newest_stays_while_nothing_newer_is_good() {
    let mut suspect = daily();
    for backup in &mut suspect[17..] {
        backup.suspect = true;
    }
    let rules = Rules { last: 2, ..Rules::default() };
    let expected: BTreeSet<String> = [15, 16, 18, 19].map(|number| format!("{number:08}")).into();
    assert_eq!(kept(&suspect, &rules), expected, "17 is beyond the last two of all");
    assert!(told(&suspect, &rules)[0].contains("newer than the newest proven backup"));
    assert!(told(&suspect, &rules)[3].contains("keep: last; newest proven backup"));
    // A newer good one lets them go by the rules.
    suspect[19].suspect = false;
    let expected: BTreeSet<String> = [16, 18, 19].map(|number| format!("{number:08}")).into();
    assert_eq!(kept(&suspect, &rules), expected);
}

#[test]
fn damaged_backups_never_push_out_a_good_one() {
    let mut damaged = daily();
    for backup in &mut damaged[5..] {
        backup.proven = false;
    }
    for rules in [
        Rules { last: 1, ..Rules::default() },
        Rules { max_size_bytes: Some(1), ..Rules::default() },
        Rules { max_age: Some("1h".parse().unwrap()), ..Rules::default() },
    ] {
        let kept = kept(&damaged, &rules);
        assert!(kept.contains("00000004"), "{kept:?}");
    }
    let none: Vec<_> = damaged.split_off(5);
    assert_eq!(
        kept(&none, &Rules { last: 1, ..Rules::default() }).len(),
        none.len(),
        "nothing stands for them"
    );
}

#[test]
fn a_tenant_that_vanished_keeps_its_last_good_backup() {
    let mut shops = daily();
    shops.push(beside(&shops[2], "gone.db"));
    let decision = decide(&shops, &Rules { last: 1, ..Rules::default() });
    let kept = ids(&decision, true);
    let expected = ["00000002", "00000002:gone.db", "00000019"].map(str::to_owned);
    assert_eq!(kept, BTreeSet::from(expected));
    let shared = decision.verdicts.iter().find(|verdict| verdict.backup.id().0 == "00000002").unwrap();
    assert_eq!(shared.reasons[0].to_string(), "shares its snapshot with erp/gone.db");
    assert!(!decision.snapshots.contains("00000002") && decision.snapshots.len() == 18);
}

#[test]
fn what_nobody_asked_about_is_left_alone_and_keeps_its_snapshot() {
    let mut shops = daily();
    let others: Vec<_> = shops.iter().map(|backup| beside(backup, "other.db")).collect();
    shops.extend(others);
    let mut scopes = everything(Rules { last: 1, ..Rules::default() });
    scopes[0].selector.databases = Some(BTreeSet::from([DatabaseName::new("erp.db").unwrap()]));
    let decision = planned(&shops, &scopes, now());
    assert!(decision.snapshots.is_empty());
    assert!(
        decision
            .verdicts
            .iter()
            .all(|verdict| verdict.kept && verdict.backup.origin.database.as_str() == "erp.db")
    );
    scopes[0].selector.databases = None;
    assert_eq!(planned(&shops, &scopes, now()).snapshots.len(), 19);
}

#[test]
fn a_path_is_another_database_on_another_host() {
    let mut hosts = daily();
    for (number, backup) in hosts.iter_mut().enumerate() {
        let origin = origin(backup);
        origin.target = TargetName::new("/srv/erp.db").unwrap();
        origin.host = ["one", "two"][number % 2].into();
    }
    let rules = Rules { last: 3, ..Rules::default() };
    assert_eq!(kept(&hosts, &rules).len(), 6);
    hosts.iter_mut().for_each(|backup| origin(backup).target = TargetName::new("erp").unwrap());
    assert_eq!(kept(&hosts, &rules).len(), 3, "a target with a name is one, wherever it runs");
}

#[test]
fn each_plan_has_its_own_rules_and_the_rest_is_left_alone() {
    let mut by_plan = daily();
    for (number, backup) in by_plan.iter_mut().enumerate() {
        origin(backup).plan = [Some("nightly"), Some("weekly"), None][number % 3].map(flow::Text::from);
    }
    let scope = |name: &str, last| PruneScope {
        selector: PruneSelector { plan: Some(name.to_owned()), ..PruneSelector::default() },
        rules: Rules { last, ..Rules::default() },
        zone: TimeZone::UTC,
        hold_ages: false,
    };
    let decision = planned(&by_plan, &[scope("nightly", 1), scope("weekly", 2)], now());
    assert_eq!(ids(&decision, true).len(), 3);
    assert_eq!(ids(&decision, false).len(), 7 + 7 - 3);
    assert!(decision.verdicts.iter().all(|verdict| verdict.backup.origin.plan.is_some()));
}

#[test]
fn days_begin_in_the_zone_of_the_rules() {
    let two = backups(&["2026-11-19T22:30:00Z", "2026-11-19T23:30:00Z"]);
    let mut scopes = everything(Rules { daily: 2, ..Rules::default() });
    assert_eq!(ids(&planned(&two, &scopes, now()), true).len(), 1);
    scopes[0].zone = TimeZone::fixed(jiff::tz::offset(1));
    assert_eq!(ids(&planned(&two, &scopes, now()), true).len(), 2);
}

#[test]
fn while_the_newest_is_suspect_no_good_one_goes_for_its_age_where_that_was_asked() {
    let mut shops = daily();
    for backup in &mut shops[15..] {
        backup.suspect = true;
    }
    let later = now() + jiff::SignedDuration::from_hours(24 * 100);
    let mut scopes = everything(rules_of_age());
    assert_eq!(ids(&planned(&shops, &scopes, later), true).len(), 2, "the newest good one and the newest");
    scopes[0].hold_ages = true;
    let decision = planned(&shops, &scopes, later);
    // Eleven of the good ones were not older than ten days when the newest of them was made.
    assert_eq!(ids(&decision, true).len(), 11 + 1);
    let held = decision.verdicts.iter().find(|verdict| verdict.backup.id().0 == "00000010").unwrap();
    assert_eq!(held.reasons[0].to_string(), "not older than 10 days at the newest proven backup");
    shops[19].suspect = false;
    assert_eq!(ids(&planned(&shops, &scopes, later), true).len(), 1);
}

#[test]
fn a_suspect_tenant_does_not_keep_the_snapshots_of_the_others() {
    let mut shops = daily();
    let sick: Vec<_> = shops
        .iter()
        .enumerate()
        .map(|(number, backup)| Candidate { suspect: number >= 5, ..beside(backup, "sick.db") })
        .collect();
    shops.extend(sick);
    let mut scopes = everything(Rules { daily: 3, ..Rules::default() });
    scopes[0].hold_ages = true;
    let decision = planned(&shops, &scopes, now());
    let stay: Vec<usize> =
        (0..20).filter(|n| !decision.snapshots.contains(format!("{n:08}").as_str())).collect();
    assert_eq!(stay, [2, 3, 4, 17, 18, 19], "its last three good ones, and three days as ever");
}

#[test]
fn behind_what_is_dated_in_the_future_the_newest_stays() {
    let three = backups(&["2026-11-18T02:00:00Z", "2026-11-20T02:00:00Z", "2029-11-20T03:00:00Z"]);
    let rules = Rules { last: 1, ..Rules::default() };
    assert_eq!(
        told(&three, &rules),
        [
            "2 keep: last; newest proven backup",
            "1 keep: newest proven backup that is not dated in the future",
            " remove: beyond the last 1"
        ]
    );
}

#[test]
fn of_hosts_that_share_a_name_each_keeps_its_newest_but_containers_that_come_and_go() {
    let times =
        ["2026-11-16T02:00:00Z", "2026-11-17T02:00:00Z", "2026-11-18T02:00:00Z", "2026-11-19T02:00:00Z"];
    let of_hosts = |hosts: [&str; 4]| {
        let mut four = backups(&times);
        four.iter_mut().zip(hosts).for_each(|(backup, host)| origin(backup).host = host.into());
        kept(&four, &Rules { last: 1, ..Rules::default() })
    };
    let expected = |numbers: &[usize]| -> BTreeSet<String> {
        numbers.iter().map(|number| format!("{number:08}")).collect()
    };
    assert_eq!(of_hosts(["web2", "web2", "web1", "web1"]), expected(&[1, 3]));
    assert_eq!(of_hosts(["0123456789ab", "ba9876543210", "backup-29384756-x7k2p", "web1"]), expected(&[3]));
}

#[test]
fn an_import_stands_for_none_that_a_run_made() {
    let mut three = backups(&["2026-11-18T02:00:00Z", "2026-11-19T02:00:00Z", "2026-11-20T02:00:00Z"]);
    three[2].imported = true;
    let rules = Rules { last: 1, ..Rules::default() };
    assert_eq!(
        told(&three, &rules),
        [
            "2 keep: last; newest proven backup",
            "1 keep: last; newest proven backup that was not imported",
            " remove: beyond the last 1",
        ]
    );
    let old = Rules { max_age: Some("1h".parse().unwrap()), ..Rules::default() };
    assert_eq!(told(&three, &old)[1], "1 keep: newest proven backup that was not imported");
    let small = Rules { max_size_bytes: Some(1), min_keep: 1, ..Rules::default() };
    assert_eq!(kept(&three, &small).len(), 2, "whatever its size");
    // With a newer one of a run it goes by the rules, as any.
    three[2].imported = false;
    three[1].imported = true;
    assert_eq!(kept(&three, &rules), BTreeSet::from(["00000002".to_owned()]));
}

#[test]
fn imports_take_no_places_and_keep_their_own() {
    let mut all = daily();
    for backup in &mut all[10..] {
        backup.imported = true;
    }
    let expected = |numbers: [usize; 6]| numbers.map(|number| format!("{number:08}")).into();
    let rules = Rules { last: 3, ..Rules::default() };
    assert_eq!(kept(&all, &rules), expected([7, 8, 9, 17, 18, 19]));
    let least = Rules { max_age: Some("1h".parse().unwrap()), min_keep: 3, ..Rules::default() };
    let kept_at_least = kept(&all, &least);
    assert!(["00000007", "00000008", "00000009", "00000019"].iter().all(|id| kept_at_least.contains(*id)));
    // What a run made goes for the size of what runs made alone.
    let size = Rules { max_size_bytes: Some(1000), ..Rules::default() };
    let by_size = kept(&all, &size);
    assert!((0..10).all(|number| by_size.contains(&format!("{number:08}"))), "{by_size:?}");
    assert_eq!(by_size.len(), 11, "of the imports the newest: {by_size:?}");
}

#[test]
fn where_nothing_else_is_proven_the_newest_import_stays() {
    let mut all = daily();
    all.iter_mut().for_each(|backup| backup.imported = true);
    let rules = Rules { max_age: Some("1h".parse().unwrap()), ..Rules::default() };
    assert_eq!(kept(&all, &rules), BTreeSet::from(["00000019".to_owned()]));
    for backup in &mut all[15..] {
        (backup.imported, backup.suspect) = (false, true);
    }
    let expected = ["00000014", "00000019"].map(str::to_owned);
    assert_eq!(kept(&all, &rules), BTreeSet::from(expected), "the newest good one, and the newest");
}

#[test]
fn behind_an_import_of_the_future_the_newest_of_a_run_stays() {
    let mut four = backups(&[
        "2026-11-17T02:00:00Z",
        "2026-11-18T02:00:00Z",
        "2026-11-19T02:00:00Z",
        "2029-11-20T02:00:00Z",
    ]);
    (four[2].imported, four[3].imported) = (true, true);
    let rules = Rules { max_age: Some("1h".parse().unwrap()), ..Rules::default() };
    assert_eq!(
        told(&four, &rules)[1..],
        [
            "2 keep: newest proven backup that is not dated in the future",
            "1 keep: newest proven backup that was not imported",
            " remove: older than 1 hour",
        ]
    );
    four[3].imported = false;
    assert_eq!(
        told(&four, &rules)[1..3],
        [
            "2 keep: newest proven backup that is not dated in the future",
            "1 keep: newest proven backup that was neither imported nor dated in the future",
        ]
    );
}

#[test]
fn an_import_does_not_end_that_ages_are_held() {
    let mut shops = daily();
    for backup in &mut shops[15..] {
        backup.suspect = true;
    }
    (shops[19].suspect, shops[19].imported) = (false, true);
    let later = now() + jiff::SignedDuration::from_hours(24 * 100);
    let mut scopes = everything(rules_of_age());
    scopes[0].hold_ages = true;
    // Eleven of the good ones were not older than ten days when the newest of them was made.
    assert_eq!(ids(&planned(&shops, &scopes, later), true).len(), 11 + 1);
}
