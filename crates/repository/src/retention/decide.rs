//! The verdicts on the backups of one database.
//!
//! The rules are applied once to the good backups of runs, once to these and the imported ones, and once to all, and what
//! any of that keeps is kept. So a backup that is suspect, damaged or not proven takes no place from a good one, one that
//! was imported takes none from what a run made, and each stays as long as it would by itself. A good one is removed only
//! behind a newer good one. What is newer than the newest good one goes by the rules too, all but the newest: in a
//! snapshot with thousands of other databases it would keep all of them for ever.

use super::bucket::{self, Marks};
use super::candidate::{Candidate, Rank, Verdict};
use super::reason::{Reason, Reasons};
use super::rules::Rules;
use super::scope::PruneScope;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// How far a clock may be ahead of another one.
const SKEW_MAX: SignedDuration = SignedDuration::from_mins(10);

/// A backup while it is decided on.
struct Open<'a> {
    backup: &'a Candidate,
    kept: Vec<Reason>,
    removed: Vec<Reason>,
    /// Whether not even the size may remove it.
    protected: bool,
}

/// Decides on the backups of one database; the order in which they come means nothing. Adds the verdicts, newest first.
pub(super) fn decide(
    candidates: &[&Candidate],
    scope: &PruneScope,
    now: Timestamp,
    reasons: &mut Reasons,
    verdicts: &mut Vec<Verdict>,
) {
    let PruneScope { rules, zone, .. } = scope;
    let mut sorted: Vec<&Candidate> = candidates.to_vec();
    sorted.sort_by(|a, b| (b.time, &b.snapshot).cmp(&(a.time, &a.snapshot)));
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
    verdicts.extend(open.into_iter().map(|open| {
        let kept = !open.kept.is_empty();
        let reasons = reasons.shared(if kept { open.kept } else { open.removed });
        Verdict { backup: open.backup.clone(), kept, reasons }
    }));
}

fn by_rules<'a>(sorted: &[&'a Candidate], rules: &Rules, zone: &TimeZone, now: Timestamp) -> Vec<Open<'a>> {
    let among = |rank: Rank| {
        let times: Vec<Timestamp> =
            sorted.iter().filter(|backup| backup.rank() <= rank).map(|backup| backup.time).collect();
        bucket::apply(&times, rules, zone, now).into_iter()
    };
    let mut among = Rank::ALL.map(|rank| (rank, among(rank)));
    let cutoff = rules.max_age.map(|span| (span, span.before(now, zone)));
    let mut open = Vec::with_capacity(sorted.len());
    for backup in sorted.iter().copied() {
        // What is said among the best that it is one of comes first, and tells why it goes.
        let mut said =
            among.iter_mut().filter(|(rank, _)| backup.rank() <= *rank).filter_map(|(_, marks)| marks.next());
        let Marks { mut kept, missed: mut removed } = said.next().unwrap_or_default();
        for more in said.flat_map(|marks| marks.kept) {
            if !kept.contains(&more) {
                kept.push(more);
            }
        }
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
/// somebody looked, time takes none of them. What was imported since is no such look.
fn hold_ages(open: &mut [Open<'_>], rules: &Rules, zone: &TimeZone) {
    let Some(span) = rules.max_age else { return };
    let newest_of = |rank: Rank| open.iter().position(|open| open.backup.rank() == rank);
    let Some(newest) = newest_of(Rank::Good).or(newest_of(Rank::Imported)) else { return };
    if open.iter().take(newest).all(|open| open.backup.rank() == Rank::Imported) {
        return;
    }
    let Some(cutoff) = open.get(newest).and_then(|open| span.before(open.backup.time, zone)) else { return };
    for open in open.iter_mut().filter(|open| open.backup.is_good() && open.backup.time >= cutoff) {
        if !open.kept.contains(&Reason::NotOlder(span)) {
            open.kept.push(Reason::NotOlderThen(span));
        }
    }
}

/// Keeps the newest good backup, which only a newer good one may replace, and the newest of all. Where none is good, all
/// stay. Behind one that was imported the newest good one that a run made stays too: what a file held tells nothing of what
/// the database is now.
///
/// What a clock dated ahead is newer than everything that is made until then: behind it the newest good one of now stays too,
/// or each backup would go as soon as it was made.
fn protect_newest(open: &mut [Open<'_>], now: Timestamp) {
    let ahead = now.saturating_add(SKEW_MAX).unwrap_or(now);
    let newest = |rank: Rank, until: Option<Timestamp>| {
        let fits =
            |backup: &Candidate| backup.rank() <= rank && until.is_none_or(|until| backup.time <= until);
        open.iter().position(|open| fits(open.backup))
    };
    let chosen = [
        (newest(Rank::Imported, None), Reason::NewestProven),
        (newest(Rank::Imported, Some(ahead)), Reason::NewestOfNow),
        (newest(Rank::Good, None), Reason::NewestOfRuns),
        (newest(Rank::Good, Some(ahead)), Reason::NewestOfRunsNow),
        (Some(0), Reason::NewerThanProven),
    ];
    if chosen[0].0.is_none() {
        open.iter_mut().for_each(|open| protect(open, Reason::NothingProven));
        return;
    }
    for (place, reason) in chosen {
        if let Some(open) = place.and_then(|place| open.get_mut(place)) {
            protect(open, reason);
        }
    }
}

fn protect(open: &mut Open<'_>, reason: Reason) {
    if !open.protected {
        open.protected = true;
        open.kept.push(reason);
    }
}

/// Keeps the newest good backup of each host, where several back up a target of one name: they may hold different databases.
/// A container is given a new host name each time it is made, and stands for the one before it.
fn protect_hosts(open: &mut [Open<'_>]) {
    let mut seen: Vec<&str> = Vec::new();
    for rank in [Rank::Good, Rank::Imported] {
        for open in open.iter_mut().filter(|open| open.backup.rank() == rank) {
            let host: &str = &open.backup.origin.host;
            if !seen.contains(&host) && !is_of_container(host) {
                seen.push(host);
                protect(open, Reason::NewestOfHost(host.to_owned()));
            }
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

/// Keeps so many good ones that runs made, so many with the imported ones, and so many in all, the newest first.
fn fill_up(open: &mut [Open<'_>], min_keep: u32) {
    let wanted = usize::try_from(min_keep).unwrap_or(usize::MAX);
    for rank in Rank::ALL {
        let counts = |open: &Open<'_>| open.backup.rank() <= rank;
        let kept = open.iter().filter(|open| counts(open) && !open.kept.is_empty()).count();
        let missing = wanted.saturating_sub(kept);
        let more = open.iter_mut().filter(|open| counts(open) && open.kept.is_empty()).take(missing);
        more.for_each(|open| open.kept.push(Reason::AtLeast(min_keep)));
    }
}

/// Removes the oldest while what is kept is too large. Good ones go for the size of the good ones alone, and what runs made
/// for the size of that.
fn limit_size(open: &mut [Open<'_>], limit: u64, min_keep: u32) {
    let floor = usize::try_from(min_keep).unwrap_or(usize::MAX);
    // How many there are of each rank with those before it, and their bytes.
    let mut sums = Rank::ALL.map(|rank| (rank, 0_usize, 0_u64));
    for open in open.iter().filter(|open| !open.kept.is_empty()) {
        for (_, count, size) in sums.iter_mut().filter(|(rank, ..)| open.backup.rank() <= *rank) {
            *count += 1;
            *size = size.saturating_add(open.backup.size_bytes);
        }
    }
    for open in open.iter_mut().rev().filter(|open| !open.kept.is_empty() && !open.protected) {
        let mut among = sums.iter().filter(|(rank, ..)| open.backup.rank() <= *rank);
        let too_large = among.clone().next().is_some_and(|(.., size)| *size > limit);
        if !too_large || among.any(|(_, count, _)| *count <= floor) {
            continue;
        }
        for (_, count, size) in sums.iter_mut().filter(|(rank, ..)| open.backup.rank() <= *rank) {
            *count -= 1;
            *size = size.saturating_sub(open.backup.size_bytes);
        }
        open.removed = vec![Reason::OverSize(limit)];
        let mut kept = std::mem::take(&mut open.kept);
        kept.retain(|reason| *reason != Reason::NoRule);
        if !kept.is_empty() {
            open.removed.push(Reason::Although(kept));
        }
    }
}
