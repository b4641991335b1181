//! What a plan keeps: the key `keep`, from what is written to rules.

use crate::problem::Problem;
use crate::written::WrittenKeep;
use repository::retention::{Rules, Span, parse_size};

/// Returns the rules. Refuses what says nothing, and numbers of which nobody can tell what they were to mean.
pub(crate) fn rules(written: WrittenKeep, at: &[&str]) -> Result<Rules, Problem> {
    let place = |key: &'static str| at.iter().copied().chain([key]).collect::<Vec<&str>>();
    let counts = [
        ("last", written.last),
        ("hourly", written.hourly),
        ("daily", written.daily),
        ("weekly", written.weekly),
        ("monthly", written.monthly),
        ("yearly", written.yearly),
        ("min", written.min),
    ];
    if let Some((key, _)) = counts.into_iter().find(|(_, count)| *count == Some(0)) {
        let hint = "write 1 or more, or take the key out".to_owned();
        return Err(Problem::new(&place(key), "nothing is kept by 0", hint));
    }
    let span = |key: &'static str, text: Option<String>| -> Result<Option<Span>, Problem> {
        let refuse = |error: repository::retention::SpanError| {
            let hint = "write numbers with y, m (months), w, d or h, as in \"12w\" or \"1y6m\"".to_owned();
            Problem::new(&place(key), error.problem(), hint)
        };
        text.map(|text| text.parse().map_err(refuse)).transpose()
    };
    let size = |text: String| {
        let hint = "write a number with kB, MB, GB, TB or KiB, MiB, GiB, TiB, as in \"10GB\"".to_owned();
        parse_size(&text).map_err(|_| Problem::new(&place("max_size"), "that is no size", hint))
    };
    let rules = Rules {
        last: written.last.unwrap_or(0),
        hourly: written.hourly.unwrap_or(0),
        daily: written.daily.unwrap_or(0),
        weekly: written.weekly.unwrap_or(0),
        monthly: written.monthly.unwrap_or(0),
        yearly: written.yearly.unwrap_or(0),
        within: span("within", written.within)?,
        max_age: span("max_age", written.max_age)?,
        max_size_bytes: written.max_size.map(size).transpose()?,
        min_keep: written.min.unwrap_or(1),
    };
    if rules.is_empty() {
        let hint = "say what to keep, as in { daily = 7, weekly = 4 }, or take the key out".to_owned();
        return Err(Problem::new(at, "it has no rule", hint));
    }
    Ok(rules)
}
