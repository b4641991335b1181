//! The sections of tools for folders of dump files, which are read as they are: each key stands for an option that is not
//! given.

use crate::logging::{LogFormat, LogLevel, LogProblem};
use crate::problem::Problem;
use crate::written::{WrittenLogging, WrittenPruning, WrittenRestoration, WrittenValidation};
use flow::SafetySuffix;
use repository::retention::Span;

/// What stands for the rules of `prune FOLDER` that are not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderPruning {
    /// `default_age_days`: only what is older goes.
    pub max_age: Option<Span>,
    /// `default_keep_count`: so many of the newest stay.
    pub keep_last: Option<u32>,
    /// `default_max_size_gb`, of 2³⁰ bytes each: the oldest go while all have more in sum.
    pub max_size_bytes: Option<u64>,
}

/// What stands for the options of `restore` that are not given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderRestoration {
    /// `verify_integrity`: what was written is compared and checked.
    pub verify: bool,
    /// `create_safety_backup`: what the target held is kept.
    pub safety: bool,
    /// `safety_backup_suffix`: by what safety copies of files are known.
    pub safety_suffix: SafetySuffix,
}

impl Default for FolderRestoration {
    fn default() -> Self {
        Self { verify: true, safety: true, safety_suffix: SafetySuffix::default() }
    }
}

pub(crate) fn restoration(written: &WrittenRestoration) -> Result<FolderRestoration, Problem> {
    let safety_suffix = match &written.safety_backup_suffix {
        None => SafetySuffix::default(),
        Some(suffix) => SafetySuffix::new(suffix).map_err(|problem| {
            Problem::new(
                &["restoration", "safety_backup_suffix"],
                problem,
                "write it as in \".safety\" or \".old\": app.db is kept as app.db.safety-20261121T020000Z"
                    .to_owned(),
            )
        })?,
    };
    Ok(FolderRestoration {
        verify: written.verify_integrity.unwrap_or(true),
        safety: written.create_safety_backup.unwrap_or(true),
        safety_suffix,
    })
}

pub(crate) fn pruning(written: &WrittenPruning) -> Result<FolderPruning, Problem> {
    let refuse = |key: &'static str| {
        let hint = "write a number above 0, or take the key out".to_owned();
        Problem::new(&["pruning", key], "the number is out of range", hint)
    };
    let count = |key, value: Option<u32>| match value {
        Some(value) if !(1..=100_000).contains(&value) => Err(refuse(key)),
        value => Ok(value),
    };
    let max_size_bytes = match written.default_max_size_gb {
        None => None,
        Some(size) if size > 0.0 && size < 8_000_000_000.0 => Some((size * f64::from(1 << 30)) as u64),
        Some(_) => return Err(refuse("default_max_size_gb")),
    };
    Ok(FolderPruning {
        max_age: count("default_age_days", written.default_age_days)?.map(Span::of_days),
        keep_last: count("default_keep_count", written.default_keep_count)?,
        max_size_bytes,
    })
}

/// What stands for the options of `verify` of dump files that are not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderValidation {
    /// `max_age_days`: what is older fails.
    pub max_age: Option<Span>,
    /// `min_size_mb`, of 2²⁰ bytes each: what is smaller fails.
    pub min_size_bytes: Option<u64>,
    /// `max_size_gb`, of 2³⁰ bytes each: what is larger fails.
    pub max_size_bytes: Option<u64>,
    /// `file_patterns`: which files of a folder are meant.
    pub patterns: Vec<String>,
}

pub(crate) fn validation(written: &WrittenValidation) -> Result<FolderValidation, Problem> {
    let refuse = |key: &'static str| {
        let hint = "write a number above 0, or take the key out".to_owned();
        Problem::new(&["validation", key], "the number is out of range", hint)
    };
    let size = |key, value: Option<f64>, unit: u32| match value {
        None | Some(0.0) => Ok(None),
        Some(size) if size > 0.0 && size < 8_000_000_000.0 => Ok(Some((size * f64::from(unit)) as u64)),
        Some(_) => Err(refuse(key)),
    };
    let max_age = match written.max_age_days {
        Some(days) if !(1..=100_000).contains(&days) => return Err(refuse("max_age_days")),
        days => days.map(Span::of_days),
    };
    let is_wrong = |pattern: &&String| pattern.is_empty() || pattern.contains('/');
    if let Some(pattern) = written.file_patterns.iter().find(is_wrong) {
        return Err(Problem::new(
            &["validation", "file_patterns"],
            format!("\"{pattern}\" is no pattern of names"),
            "write it as in \"*.db.gz\": a folder is named on the command line".to_owned(),
        ));
    }
    Ok(FolderValidation {
        max_age,
        min_size_bytes: size("min_size_mb", written.min_size_mb, 1 << 20)?,
        max_size_bytes: size("max_size_gb", written.max_size_gb, 1 << 30)?,
        patterns: written.file_patterns.clone(),
    })
}

/// How status lines, warnings and errors are said, where nothing else says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderLogging {
    /// `level`: the least that is said.
    pub level: Option<LogLevel>,
    /// `format`: how a line looks.
    pub format: Option<LogFormat>,
}

pub(crate) fn logging(written: &WrittenLogging) -> Result<FolderLogging, Problem> {
    let refuse = |key: &'static str| {
        move |problem: LogProblem| Problem::new(&["logging", key], problem.message, problem.hint)
    };
    Ok(FolderLogging {
        level: written.level.as_deref().map(LogLevel::parse).transpose().map_err(refuse("level"))?,
        format: written.format.as_deref().map(LogFormat::parse).transpose().map_err(refuse("format"))?,
    })
}
