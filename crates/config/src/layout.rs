//! The layouts of repositories, and what a plan says of the files that it writes into a folder of dump files.

use crate::problem::Problem;
use flow::EngineKind;
use std::path::PathBuf;

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
        /// For whom its files are encrypted by `age`; where there are any, no other file is written.
        age_recipients: Vec<String>,
        /// The file of the identity that reads them; absolute.
        age_identity: Option<PathBuf>,
    },
}

/// How files are called unless a configuration says otherwise.
pub const FILE_NAMES: &str = "{target}_backup_{database}_{timestamp}.{ext}";

const FIELDS: [&str; 6] = ["target", "database", "plan", "timestamp", "local_time", "ext"];

/// What a repository says of its files.
pub(crate) struct OfFiles {
    pub(crate) names: Option<String>,
    pub(crate) age_recipients: Vec<String>,
    pub(crate) age_identity: Option<PathBuf>,
}

pub(crate) fn layout(
    repository: &str,
    layout: Option<&str>,
    files: OfFiles,
) -> Result<RepositoryLayout, Problem> {
    let at = |key| ["repositories", repository, key];
    let OfFiles { names, age_recipients, age_identity } = files;
    match layout {
        None | Some("restic") => {
            let given = [
                ("names", names.is_some()),
                ("age_recipients", !age_recipients.is_empty()),
                ("age_identity", age_identity.is_some()),
            ];
            match given.into_iter().find(|(_, given)| *given) {
                None => Ok(RepositoryLayout::Restic),
                Some((key, _)) => Err(Problem::new(
                    &at(key),
                    format!("`{key}` is for the files of a folder"),
                    "write layout = \"files\" too, or take the key out".to_owned(),
                )),
            }
        }
        Some("files") => {
            let names = names.unwrap_or_else(|| FILE_NAMES.to_owned());
            if let Some(problem) = problem_of(&names) {
                return Err(Problem::new(&at("names"), problem, format!("write it as in \"{FILE_NAMES}\"")));
            }
            // Somebody may have written the identity instead: it is not shown.
            if age_recipients.iter().any(|recipient| !recipient.starts_with("age1")) {
                return Err(Problem::new(
                    &at("age_recipients"),
                    "a recipient begins with `age1`",
                    "`age-keygen -y FILE` tells that of an identity file".to_owned(),
                ));
            }
            Ok(RepositoryLayout::Files { names, age_recipients, age_identity })
        }
        Some(_) => Err(Problem::new(&at("layout"), "the layouts are `restic` and `files`", None)),
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
    let plain = text.strip_suffix(".age").unwrap_or(&text);
    let (form, packing) =
        plain.split_once('.').map_or((plain, None), |(form, packing)| (form, Some(packing)));
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
        "write {}, then .gz, .zst, .lz4, .xz or .bz2 where it shall be compressed, then .age where it shall be \
         encrypted, as in \"sql.gz\"",
        known.join(" or ")
    );
    Err(Problem::new(at, "a database of this system has no such form", hint))
}
