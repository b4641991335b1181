//! What `verify` of dump files goes by where an option is not given: the variables of folder tools, then the section
//! `validation` of the configuration.
//!
//! Reads variables and settings, and changes nothing. A size of 0 is no limit, whoever says it.

use crate::errors::Failure;
use crate::session::Session;
use operations::verify_files::Limits;
use repository::retention::{Span, parse_size};

/// Folder tools count an MB as 2²⁰ bytes and a GB as 2³⁰, take fractions, and 0 for no limit.
pub(super) fn mebibytes(text: &str) -> Result<u64, String> {
    of_unit(text, "MiB")
}

pub(super) fn gibibytes(text: &str) -> Result<u64, String> {
    of_unit(text, "GiB")
}

fn of_unit(text: &str, unit: &str) -> Result<u64, String> {
    if text.trim() == "0" {
        return Ok(0);
    }
    parse_size(&format!("{text}{unit}")).map_err(|_| "write a number, as in 50 or 0.5".to_owned())
}

/// Returns the limits that hold where the command line gives some of them.
pub(super) fn limits(session: &Session, given: &Limits) -> Result<Limits, Failure> {
    let settings = &session.settings.validation;
    let max_age = match given.max_age {
        None => variable(session, "BACKUP_MAX_AGE_DAYS", days)?.map(Span::of_days).or(settings.max_age),
        age => age,
    };
    let min = match given.min_size_bytes {
        None => variable(session, "BACKUP_MIN_SIZE_MB", mebibytes)?.or(settings.min_size_bytes),
        size => size,
    };
    let max = match given.max_size_bytes {
        None => variable(session, "BACKUP_MAX_SIZE_GB", gibibytes)?.or(settings.max_size_bytes),
        size => size,
    };
    let limit = |size: Option<u64>| size.filter(|size| *size > 0);
    Ok(Limits { max_age, min_size_bytes: limit(min), max_size_bytes: limit(max) })
}

/// Returns the patterns that hold where the command line gives some, or none.
pub(super) fn patterns(session: &Session, given: &[String]) -> Vec<String> {
    if !given.is_empty() {
        return given.to_vec();
    }
    match session.context.environment.get("BACKUP_DEFAULT_PATTERN") {
        Some(pattern) => vec![pattern.to_owned()],
        None => session.settings.validation.patterns.clone(),
    }
}

fn days(text: &str) -> Result<u32, String> {
    let days = text.parse().ok().filter(|days| (1..=100_000).contains(days));
    days.ok_or_else(|| "write a number of days, from 1 to 100000".to_owned())
}

fn variable<T>(
    session: &Session,
    name: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, Failure> {
    let Some(text) = session.context.environment.get(name) else { return Ok(None) };
    let refused = |hint: String| Failure::usage(format!("the variable {name} is `{text}`"), hint);
    parse(text.trim()).map(Some).map_err(refused)
}
