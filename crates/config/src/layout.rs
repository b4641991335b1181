//! The layouts of repositories, and what a plan says of the files that it writes into a folder of dump files.

use crate::problem::Problem;
use flow::EngineKind;

/// How a repository keeps backups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RepositoryLayout {
    /// Deduplicated, compressed and encrypted, in the restic format.
    #[default]
    Restic,
    /// Plain dump files in a folder.
    Files {
        /// How the files are called: text with `{target}`, `{database}`, `{plan}`, `{timestamp}`, `{local_time}` and, at its
        /// end, `.{ext}`.
        names: String,
    },
}

/// How files are called unless a configuration says otherwise.
pub const FILE_NAMES: &str = "{target}_backup_{database}_{timestamp}.{ext}";

const FIELDS: [&str; 6] = ["target", "database", "plan", "timestamp", "local_time", "ext"];

pub(crate) fn layout(
    repository: &str,
    layout: Option<&str>,
    names: Option<String>,
) -> Result<RepositoryLayout, Problem> {
    let at = |key| ["repositories", repository, key];
    match (layout, names) {
        (None | Some("restic"), None) => Ok(RepositoryLayout::Restic),
        (None | Some("restic"), Some(_)) => Err(Problem::new(
            &at("names"),
            "names are for the files of a folder",
            "write layout = \"files\" too, or take the key out".to_owned(),
        )),
        (Some("files"), names) => {
            let names = names.unwrap_or_else(|| FILE_NAMES.to_owned());
            match problem_of(&names) {
                None => Ok(RepositoryLayout::Files { names }),
                Some(problem) => {
                    Err(Problem::new(&at("names"), problem, format!("write it as in \"{FILE_NAMES}\"")))
                }
            }
        }
        (Some(_), _) => Err(Problem::new(&at("layout"), "the layouts are `restic` and `files`", None)),
    }
}

fn problem_of(names: &str) -> Option<&'static str> {
    let Some(stem) = names.strip_suffix(".{ext}") else { return Some("a name ends in `.{ext}`") };
    let mut rest = stem;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((field, after)) = after.split_once('}') else { return Some("a brace is not closed") };
        if !FIELDS.contains(&field) || field == "ext" || before.contains('}') {
            return Some("it knows {target}, {database}, {plan}, {timestamp} and {local_time}");
        }
        rest = after;
    }
    if rest.contains('}') || names.contains('/') || names.starts_with('.') || names.contains(char::is_control)
    {
        return Some("a name has no slash and begins with no dot");
    }
    let has = |field: &str| stem.contains(&format!("{{{field}}}"));
    if !has("timestamp") && !has("local_time") {
        return Some("a name has {timestamp} or {local_time} in it");
    }
    (!has("database") && !has("target")).then_some("a name has {database} or {target} in it")
}

/// Checks the form of a plan's files: the endings that they have.
pub(crate) fn form(text: String, engine: EngineKind, at: &[&str]) -> Result<String, Problem> {
    let (form, packing) =
        text.split_once('.').map_or((text.as_str(), None), |(form, packing)| (form, Some(packing)));
    let forms: &[&str] = match engine {
        EngineKind::Sqlite => &["db", "sql"],
        _ => &["dump", "sql", "tar"],
    };
    let packings = ["gz", "zst", "lz4", "xz", "bz2"];
    if forms.contains(&form) && packing.is_none_or(|packing| packings.contains(&packing)) {
        return Ok(text);
    }
    let known: Vec<String> = forms.iter().map(|form| format!("`{form}`")).collect();
    let hint = format!(
        "write {}, then .gz, .zst, .lz4, .xz or .bz2 where it shall be compressed, as in \"sql.gz\"",
        known.join(" or ")
    );
    Err(Problem::new(at, "a database of this system has no such form", hint))
}
