//! The verdicts on the backups of one database.
//!
//! The rules are applied twice: to the good backups alone and to all of them, and what either keeps is kept. So a
//! backup that is suspect, damaged or not proven takes no place from a good one, and stays as long as it would by
//! itself. A good one is removed only behind a newer good one. What is newer than the newest good one goes by the rules
//! too, all but the newest: in a snapshot with thousands of other databases it would keep all of them for ever.

use super::bucket::{self, Marks};
use super::candidate::{Candidate, Verdict};
use super::reason::Reason;
use super::rules::Rules;
use super::scope::PruneScope;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

/// How far a clock may be ahead of another one.
const SKEW_MAX: SignedDuration = SignedDuration::from_mins(10);

/// A backup while it is decided on.
struct Open<'a> {
    backup: &'a Arc<Candidate>,
    kept: Vec<Reason>,
    removed: Vec<Reason>,
    /// Whether not even the size may remove it.
    protected: bool,
}

/// Decides on the backups of one database; the order in which they come means nothing. Returns the verdicts, newest
/// first.
pub(super) fn decide(candidates: &[&Arc<Candidate>], scope: &PruneScope, now: Timestamp) -> Vec<Verdict> {
    let PruneScope { rules, zone, .. } = scope;
    let mut sorted: Vec<&Arc<Candidate>> = candidates.to_vec();
    sorted.sort_by(|a, b| (b.time, &b.id).cmp(&(a.time, &a.id)));
    let mut open = by_rules(&sorted, rules, zone, now);
    if scope.hold_ages {
        hold_ages(&mut open, rules, zone);
    }
    protect_newest(&mut open, now);
    protect_hosts(&mut open);
    fill_up(&mut open, rules.min_keep);
    if let Some(limit) = rules.max_size_bytes {
        limit_size(&mut open, limit, rules.min_keep);
    }
    open.into_iter()
        .map(|open| {
            let kept = !open.kept.is_empty();
            let mut reasons = if kept { open.kept } else { open.removed };
            // There may be hundreds of thousands of them.
            reasons.shrink_to_fit();
            Verdict { backup: Arc::clone(open.backup), kept, reasons }
        })
        .collect()
}

fn by_rules<'a>(
    sorted: &[&'a Arc<Candidate>],
    rules: &Rules,
    zone: &TimeZone,
    now: Timestamp,
) -> Vec<Open<'a>> {
    let marks = |wanted: &dyn Fn(&Candidate) -> bool| -> Vec<Marks> {
        let times: Vec<Timestamp> =
            sorted.iter().filter(|backup| wanted(backup)).map(|backup| backup.time).collect();
        bucket::apply(&times, rules, zone, now)
    };
    let of_all = marks(&|_| true);
    let mut of_good = marks(&Candidate::is_good).into_iter();
    let cutoff = rules.max_age.map(|span| (span, span.before(now, zone)));
    let mut open = Vec::with_capacity(sorted.len());
    for (backup, all) in sorted.iter().zip(of_all) {
        let good = if backup.is_good() { of_good.next() } else { None };
        let Marks { mut kept, missed } = good.unwrap_or_else(|| all.clone());
        let more: Vec<Reason> = all.kept.into_iter().filter(|reason| !kept.contains(reason)).collect();
        kept.extend(more);
        let mut removed = missed;
        match cutoff {
            Some((span, Some(cutoff))) if backup.time < cutoff => removed.push(Reason::OlderThan(span)),
            // Where no calendar goes back so far, nothing is as old.
            Some((span, _)) => kept.push(Reason::NotOlder(span)),
            None if !rules.says_what_to_keep() => kept.push(Reason::NoRule),
            None => {}
        }
        open.push(Open { backup, kept, removed, protected: false });
    }
    open
}

/// Keeps the good ones that were not too old when the newest of them was made, where what came since is not good: until
/// somebody looked, time takes none of them.
fn hold_ages(open: &mut [Open<'_>], rules: &Rules, zone: &TimeZone) {
    let Some(span) = rules.max_age else { return };
    let newest = match open.iter().position(|open| open.backup.is_good()) {
        None | Some(0) => return,
        Some(newest) => newest,
    };
    let Some(cutoff) = open.get(newest).and_then(|open| span.before(open.backup.time, zone)) else { return };
    for open in open.iter_mut().filter(|open| open.backup.is_good() && open.backup.time >= cutoff) {
        if !open.kept.contains(&Reason::NotOlder(span)) {
            open.kept.push(Reason::NotOlderThen(span));
        }
    }
}

/// Keeps the newest good backup, which only a newer good one may replace, and the newest of all. Where none is good, all
/// stay.
///
/// What a clock dated ahead is newer than everything that is made until then: behind it the newest good one of now stays too,
/// or each backup would go as soon as it was made.
fn protect_newest(open: &mut [Open<'_>], now: Timestamp) {
    let ahead = now.saturating_add(SKEW_MAX).unwrap_or(now);
    let of_now = open.iter().position(|open| open.backup.is_good() && open.backup.time <= ahead);
    let newest = open.iter().position(|open| open.backup.is_good());
    for (number, open) in open.iter_mut().enumerate() {
        let reason = match newest {
            None => Reason::NothingProven,
            Some(newest) if number == newest => Reason::NewestProven,
            Some(_) if Some(number) == of_now => Reason::NewestOfNow,
            Some(_) if number == 0 => Reason::NewerThanProven,
            Some(_) => continue,
        };
        open.protected = true;
        open.kept.push(reason);
    }
}

/// Keeps the newest good backup of each host, where several back up a target of one name: they may hold different databases.
/// A container is given a new host name each time it is made, and stands for the one before it.
fn protect_hosts(open: &mut [Open<'_>]) {
    let mut seen: Vec<&str> = Vec::new();
    for open in open.iter_mut().filter(|open| open.backup.is_good()) {
        let host: &str = &open.backup.host;
        if seen.contains(&host) || is_of_container(host) {
            continue;
        }
        seen.push(host);
        if !open.protected {
            open.protected = true;
            open.kept.push(Reason::NewestOfHost(host.to_owned()));
        }
    }
}

/// Tells whether a host name is one that Docker (12 hexadecimal digits) or Kubernetes (five letters and digits of those that
/// it draws, after a dash) makes up.
fn is_of_container(host: &str) -> bool {
    const DRAWN: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let docker = host.len() == 12 && host.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let drawn = |end: &str| end.len() == 5 && end.bytes().all(|byte| DRAWN.contains(&byte));
    docker || host.rsplit_once('-').is_some_and(|(name, end)| !name.is_empty() && drawn(end))
}

/// Keeps so many good ones, and so many in all, the newest first.
fn fill_up(open: &mut [Open<'_>], min_keep: u32) {
    let wanted = usize::try_from(min_keep).unwrap_or(usize::MAX);
    for good_only in [true, false] {
        let counts = |open: &Open<'_>| open.backup.is_good() || !good_only;
        let kept = open.iter().filter(|open| counts(open) && !open.kept.is_empty()).count();
        let missing = wanted.saturating_sub(kept);
        let more = open.iter_mut().filter(|open| counts(open) && open.kept.is_empty()).take(missing);
        more.for_each(|open| open.kept.push(Reason::AtLeast(min_keep)));
    }
}

/// Removes the oldest while what is kept is too large. Good ones go for the size of the good ones alone.
fn limit_size(open: &mut [Open<'_>], limit: u64, min_keep: u32) {
    let floor = usize::try_from(min_keep).unwrap_or(usize::MAX);
    let kept = |open: &&Open<'_>| !open.kept.is_empty();
    let (mut count, mut good_count, mut sum, mut good_sum) = (0_usize, 0_usize, 0_u64, 0_u64);
    for open in open.iter().filter(kept) {
        count += 1;
        sum = sum.saturating_add(open.backup.size_bytes);
        if open.backup.is_good() {
            good_count += 1;
            good_sum = good_sum.saturating_add(open.backup.size_bytes);
        }
    }
    for open in open.iter_mut().rev().filter(|open| !open.kept.is_empty() && !open.protected) {
        let good = open.backup.is_good();
        let (size, number) = if good { (good_sum, good_count) } else { (sum, count) };
        if size <= limit || number <= floor || count <= floor {
            continue;
        }
        let size_bytes = open.backup.size_bytes;
        (count, sum) = (count - 1, sum.saturating_sub(size_bytes));
        if good {
            (good_count, good_sum) = (good_count - 1, good_sum.saturating_sub(size_bytes));
        }
        open.removed = vec![Reason::OverSize(limit)];
        let mut kept = std::mem::take(&mut open.kept);
        kept.retain(|reason| *reason != Reason::NoRule);
        if !kept.is_empty() {
            open.removed.push(Reason::Although(kept));
        }
    }
}
