//! The configuration that does what a script does, beside what a configuration says already: repositories for its folders,
//! targets for its databases, a plan for each of its dumps. What comes out is read again, and means for what was there what it
//! meant, or it is refused.

use super::dump::{Dump, Over};
use super::line::{Removal, Rule};
use super::value::{Part, Value, marked, split};
use super::{LeftLine, ScriptPlace, Taken, TakenLine};
use crate::layout::{FILE_NAMES, RepositoryLayout};
use crate::{ConfigError, Settings, read_text};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What a configuration is made for.
#[derive(Debug, Clone, Copy)]
pub struct Draft<'a> {
    /// Where it lies or will lie; absolute.
    pub file: &'a Path,
    /// What it says already.
    pub existing: Option<&'a Settings>,
    /// The repository that is the default without a configuration, where it is there.
    pub default: Option<&'a Path>,
    /// From where it is taken over, in words.
    pub origin: &'a str,
}

/// A target that is taken over, with one of its plans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drafted {
    /// The name of the target.
    pub target: String,
    /// Its source.
    pub source: String,
    /// The plan.
    pub plan: String,
    /// The name of the repository.
    pub repository: String,
    /// Its folder.
    pub folder: PathBuf,
    /// How its files are called.
    pub names: String,
    /// The form of the files.
    pub form: String,
    /// What is kept of them; `None`: everything.
    pub keep: Option<String>,
    /// The lines of the script.
    pub lines: Vec<usize>,
    /// What a person should know.
    pub notes: Vec<String>,
    dump: usize,
}

/// Drafts the configuration. Returns its text, and what is in it; removals of files that nothing writes are left.
pub fn draft(taken: &mut Taken, draft: Draft<'_>) -> Result<(String, Vec<Drafted>), ConfigError> {
    let existing = draft.existing.map(|own| own.text.as_str()).unwrap_or_default();
    let mut work = Work { draft, repositories: BTreeMap::new(), plans: vec![], used: BTreeSet::new() };
    work.used.extend(draft.existing.into_iter().flat_map(|own| own.targets.keys().cloned()));
    let dumps = std::mem::take(&mut taken.dumps);
    for (index, dump) in dumps.iter().enumerate() {
        match work.plan(index, dump, &dumps) {
            Ok(()) => {}
            Err(reason) => leave(taken, &dump.lines, reason),
        }
    }
    let before = dumps.iter().map(|dump| fixed(&split(&dump.file).0).0).collect::<Vec<_>>();
    let mut removed: BTreeMap<usize, bool> = BTreeMap::new();
    for removal in &taken.removals {
        // Of what was taken over before, what it keeps was too.
        let is_known = |folder: &PathBuf| folder.starts_with(fixed(&removal.folder).0);
        let fits = work.keep(removal, &dumps) || (work.plans.is_empty() && before.iter().any(is_known));
        // One of several folders is enough.
        *removed.entry(removal.line).or_default() |= fits;
    }
    for (line, fits) in removed {
        if fits {
            taken
                .understood
                .push(TakenLine { line, what: "removes old files, which `keep` does".to_owned() });
            continue;
        }
        taken.left.push(LeftLine {
            line,
            program: "find".to_owned(),
            reason: "it removes files that no line here writes: `backstay prune FOLDER` does that, and never the newest \
                     good one"
                .to_owned(),
        });
    }
    taken.understood.sort_by_key(|line| line.line);
    taken.left.sort_by_key(|line| line.line);
    taken.left.dedup();
    let text = match work.plans.is_empty() {
        true => existing.to_owned(),
        false => work.joined(existing, &work.text(&dumps)),
    };
    taken.dumps = dumps;
    let settings = read_text(draft.file, &text)?;
    work.check(&settings)?;
    Ok((text, work.plans))
}

fn leave(taken: &mut Taken, lines: &[usize], reason: String) {
    let Some(line) = lines.first() else { return };
    taken.understood.retain(|own| !lines.contains(&own.line));
    taken.left.push(LeftLine { line: *line, program: "the dump".to_owned(), reason });
}

/// A repository that is needed.
struct Repository {
    name: String,
    names: String,
    recipients: Vec<String>,
    is_new: bool,
}

struct Work<'a> {
    draft: Draft<'a>,
    repositories: BTreeMap<PathBuf, Repository>,
    plans: Vec<Drafted>,
    used: BTreeSet<String>,
}

impl Work<'_> {
    fn plan(&mut self, index: usize, dump: &Dump, all: &[Dump]) -> Result<(), String> {
        let (folder, name) = split(&dump.file);
        let (folder, is_cut) = fixed(&folder);
        if !folder.is_absolute() || folder == Path::new("/") {
            return Err("it does not say into which folder it writes".to_owned());
        }
        let mut notes = dump.notes.clone();
        if is_cut {
            notes.push(format!(
                "the script has folders by date or tenant; all files go into {}",
                folder.display()
            ));
        }
        let existing = self.draft.existing;
        let (target, known) = self.target(index, dump, all);
        if let Some(own) = known {
            notes.push(format!("the configuration has this source already, as {own}: it gets a plan"));
        }
        let names = names(&name, &target, dump, &mut notes);
        let sealed = if dump.recipients.is_empty() { "" } else { ".age" };
        let form = format!("{}{}{sealed}", dump.form, dump.packing);
        if self.has_plan(&target, &folder, &form) {
            return Ok(());
        }
        let twice = self.plans.iter_mut().find(|own| {
            let keys = all.get(own.dump).map(|other| &other.keys);
            own.target == target && own.folder == folder && own.form == form && keys == Some(&dump.keys)
        });
        if let Some(own) = twice {
            own.lines.extend(&dump.lines);
            own.notes.push("several lines write the same into one folder: one plan does it once".to_owned());
            return Ok(());
        }
        let repository = self.repository(&folder, &names, &dump.recipients, &mut notes)?;
        let at = crate::canonical_path(&folder);
        if !at.is_dir() {
            notes.push(format!("make the folder first: mkdir -p {}", folder.display()));
        }
        let taken_plans: BTreeSet<String> = existing
            .and_then(|own| own.targets.get(&target))
            .into_iter()
            .flat_map(|own| own.plans.keys().cloned())
            .chain(self.plans.iter().filter(|own| own.target == target).map(|own| own.plan.clone()))
            .collect();
        let plan = free(&repository.0, &taken_plans);
        self.plans.push(Drafted {
            target,
            source: dump.source.clone(),
            plan,
            repository: repository.0,
            folder,
            names: repository.1,
            form,
            keep: None,
            lines: dump.lines.clone(),
            notes,
            dump: index,
        });
        Ok(())
    }

    /// Tells whether the configuration has such a plan: then it was taken over before.
    fn has_plan(&self, target: &str, folder: &Path, form: &str) -> bool {
        let own = self.draft.existing.and_then(|own| own.targets.get(target));
        own.into_iter().flat_map(|own| own.plans.values()).any(|plan| {
            let place =
                plan.repository.as_ref().or(self.draft.existing.and_then(|own| own.repository.as_ref()));
            plan.form.as_deref() == Some(form)
                && place
                    .is_some_and(|place| crate::canonical_path(&place.path) == crate::canonical_path(folder))
        })
    }

    /// Returns the name of the target, and the one that the configuration has already.
    fn target(&mut self, index: usize, dump: &Dump, all: &[Dump]) -> (String, Option<String>) {
        let same = |own: &&Drafted| {
            all.get(own.dump).is_some_and(|other| other.source == dump.source && other.over == dump.over)
        };
        if let Some(known) = self.plans.iter().filter(|own| own.dump < index).find(same) {
            return (known.target.clone(), None);
        }
        let source = dump.source.clone();
        let configured = self.draft.existing.into_iter().flat_map(|own| &own.targets);
        let connection = match source.contains("://") {
            true => source,
            false => crate::canonical_path(Path::new(&source)).display().to_string(),
        };
        let is_listed = matches!(dump.over, Some(Over::Names(_) | Over::File(..)));
        let known = configured
            .into_iter()
            .find(|(_, own)| own.target.connection == connection && own.tenants.is_some() == is_listed);
        if let Some((name, _)) = known {
            return (name.clone(), Some(name.clone()));
        }
        let name = free(&key(&dump.name), &self.used);
        self.used.insert(name.clone());
        (name, None)
    }

    /// Returns the name of the repository of a folder, and how its files are called.
    fn repository(
        &mut self,
        folder: &Path,
        names: &str,
        recipients: &[String],
        notes: &mut Vec<String>,
    ) -> Result<(String, String), String> {
        if let Some(known) = self.repositories.get_mut(folder) {
            if known.names != names && known.is_new {
                // One folder has one template, which tells all of its files apart.
                known.names = FILE_NAMES.to_owned();
                for plan in self.plans.iter_mut().filter(|plan| plan.folder == folder) {
                    plan.names = FILE_NAMES.to_owned();
                }
                notes.push(format!(
                    "several names in {}: they are {FILE_NAMES} from now on",
                    folder.display()
                ));
            }
            if known.recipients != recipients {
                return Err("other files of its folder are encrypted for others, or not at all".to_owned());
            }
            return Ok((known.name.clone(), known.names.clone()));
        }
        let existing = self.draft.existing.into_iter().flat_map(|own| &own.repositories);
        let at = crate::canonical_path(folder);
        let found = existing.into_iter().find(|(_, place)| crate::canonical_path(&place.path) == at);
        let made = match found.map(|(name, place)| (name, &place.layout)) {
            Some((name, RepositoryLayout::Restic)) => {
                return Err(format!("its folder is the repository {name}, which holds no plain files"));
            }
            Some((name, RepositoryLayout::Files { names, age_recipients, .. })) => {
                if age_recipients != recipients {
                    return Err(format!(
                        "the repository {name} of its folder encrypts for others, or not at all"
                    ));
                }
                Repository {
                    name: name.clone(),
                    names: names.clone(),
                    recipients: recipients.to_vec(),
                    is_new: false,
                }
            }
            None => {
                let taken: BTreeSet<String> = self
                    .draft
                    .existing
                    .into_iter()
                    .flat_map(|own| own.repositories.keys().cloned())
                    .chain(self.repositories.values().map(|own| own.name.clone()))
                    .collect();
                let last =
                    folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                let name = free(&key(&last), &taken);
                Repository { name, names: names.to_owned(), recipients: recipients.to_vec(), is_new: true }
            }
        };
        let shown = (made.name.clone(), made.names.clone());
        self.repositories.insert(folder.to_owned(), made);
        Ok(shown)
    }

    /// Takes a removal for what the plans keep that write such files.
    fn keep(&mut self, removal: &Removal, dumps: &[Dump]) -> bool {
        let (folder, _) = fixed(&removal.folder);
        let mut any = false;
        for plan in self.plans.iter_mut().filter(|plan| plan.folder.starts_with(&folder)) {
            let Some(dump) = dumps.get(plan.dump) else { continue };
            let written = format!("{}{}", marked(&split(&dump.file).1), dump.packing);
            let fits = removal.pattern.as_ref().is_none_or(|pattern| {
                let bare = marked(&split(&dump.file).1);
                [written.as_str(), &bare].iter().any(|name| matches(pattern.as_bytes(), name.as_bytes()))
            });
            if !fits {
                continue;
            }
            any = true;
            let rule = match &removal.rule {
                Rule::Age(span) => format!("max_age = \"{span}\""),
                Rule::Last(count) => format!("last = {count}"),
            };
            let key = rule.split(' ').next().unwrap_or_default().to_owned();
            plan.lines.push(removal.line);
            match &mut plan.keep {
                Some(keep) if keep.contains(&key) => {}
                Some(keep) => keep.push_str(&format!(", {rule}")),
                None => plan.keep = Some(rule),
            }
            plan.notes.push(format!(
                "the plan's `keep` holds for what it writes; what the script left goes by `backstay prune {}`",
                plan.folder.display()
            ));
        }
        any
    }

    /// Writes what is added.
    fn text(&self, dumps: &[Dump]) -> String {
        let mut text = format!(
            "# Taken over from {} by `backstay takeover`.\n",
            self.draft.origin.replace(char::is_control, "?")
        );
        for (folder, own) in self.repositories.iter().filter(|(_, own)| own.is_new) {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "[repositories.{}]\npath = {}\nlayout = \"files\"\nnames = {}\n",
                own.name,
                literal(&folder.display().to_string()),
                literal(&own.names)
            );
            if !own.recipients.is_empty() {
                let all: Vec<String> = own.recipients.iter().map(|text| literal(text)).collect();
                let _ = writeln!(text, "age_recipients = [{}]", all.join(", "));
            }
            text.push('\n');
        }
        let configured = |name: &str| self.draft.existing.is_some_and(|own| own.targets.contains_key(name));
        let mut written = BTreeSet::new();
        for plan in &self.plans {
            let Some(dump) = dumps.get(plan.dump) else { continue };
            if written.insert(&plan.target) && !configured(&plan.target) {
                let _ = writeln!(text, "[targets.{}]\nsource = {}", plan.target, literal(&dump.source));
                match &dump.over {
                    Some(Over::Names(names)) => {
                        let all: Vec<String> = names.iter().map(|text| literal(text)).collect();
                        let _ = writeln!(text, "tenants = {{ names = [{}] }}", all.join(", "));
                    }
                    Some(Over::File(path, variable)) => {
                        let (path, variable) = (literal(path), literal(variable));
                        let _ = writeln!(text, "tenants = {{ file = {path}, variable = {variable} }}");
                    }
                    _ => {}
                }
                if let Some(passfile) = &dump.passfile {
                    let _ = writeln!(text, "passfile = {}", literal(passfile));
                }
                text.push('\n');
            }
            let _ = write!(
                text,
                "[targets.{}.plans.{}]\nrepository = \"{}\"\nform = \"{}\"\n",
                plan.target, plan.plan, plan.repository, plan.form
            );
            dump.keys.iter().for_each(|line| text.push_str(&format!("{line}\n")));
            if let Some(keep) = &plan.keep {
                let _ = writeln!(text, "keep = {{ {keep} }}");
            }
            text.push('\n');
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }

    /// Puts it behind what is there. What was the default repository without being named is named from now on.
    fn joined(&self, existing: &str, added: &str) -> String {
        let own = self.draft.existing;
        let new = self.repositories.values().find(|own| own.is_new);
        let names_one = own.is_some_and(|own| {
            toml::from_str::<toml::Table>(&own.text).is_ok_and(|table| table.contains_key("repository"))
        });
        let default = match (names_one, new) {
            (true, _) | (_, None) => None,
            (false, Some(new)) => match own.and_then(|own| own.repository.as_ref()) {
                Some(place) => place.name.clone(),
                None if own.is_some_and(|own| !own.repositories.is_empty()) => None,
                None if own.is_some_and(|own| !own.targets.is_empty()) => {
                    self.draft.default.map(|path| path.display().to_string())
                }
                None => Some(new.name.clone()),
            },
        };
        let first = default.map(|name| format!("repository = {}\n", literal(&name))).unwrap_or_default();
        match existing.is_empty() {
            true => format!("{first}\n{added}").trim_start().to_owned(),
            false => {
                let end = if existing.ends_with('\n') { "" } else { "\n" };
                format!("{first}{existing}{end}\n{added}")
            }
        }
    }

    /// What was configured means what it meant.
    fn check(&self, settings: &Settings) -> Result<(), ConfigError> {
        let Some(before) = self.draft.existing else { return Ok(()) };
        let same = before.targets.iter().all(|(name, target)| {
            settings.targets.get(name).is_some_and(|now| {
                let plans = target.plans.iter().all(|(plan, own)| now.plans.get(plan) == Some(own));
                plans && now.target == target.target && now.restore == target.restore
            })
        });
        let default = before.repository.is_none()
            || before.repository.as_ref().map(|own| &own.path)
                == settings.repository.as_ref().map(|own| &own.path);
        match same && default {
            true => Ok(()),
            false => Err(ConfigError::new(
                self.draft.file,
                "what is taken over would change what the configuration means",
            )
            .hint("name another file by --config, and bring the two together by hand".to_owned())),
        }
    }
}

/// Returns the part of a folder that is the same from run to run, and whether that is not all of it.
fn fixed(folder: &Value) -> (PathBuf, bool) {
    let mut text = String::new();
    for part in folder {
        match part {
            Part::Text(part) => text.push_str(part),
            _ => {
                let parent = text.rsplit_once('/').map_or("", |(parent, _)| parent);
                return (PathBuf::from(parent), true);
            }
        }
    }
    (PathBuf::from(if text.is_empty() { "/" } else { &text }), false)
}

/// Returns how the files are called: as the script calls them, with what a template needs.
fn names(name: &Value, target: &str, dump: &Dump, notes: &mut Vec<String>) -> String {
    let mut template = String::new();
    let mut has_time = false;
    for part in name {
        match part {
            Part::Text(text) => template.push_str(&text.replace(['{', '}'], "_")),
            // Several moments in one name are one.
            Part::Time(_) if has_time => {}
            Part::Time(utc) => {
                template.push_str(if *utc { "{timestamp}" } else { "{local_time}" });
                has_time = true;
            }
            Part::Tenant => template.push_str("{database}"),
            _ => template.push('_'),
        }
    }
    const ENDINGS: [&str; 19] = [
        ".age", ".gz", ".zst", ".lz4", ".xz", ".bz2", ".sql", ".dump", ".tar", ".db", ".sqlite", ".sqlite3",
        ".db3", ".s3db", ".bak", ".backup", ".custom", ".pgdump", ".dmp",
    ];
    while let Some(stem) = ENDINGS.iter().find_map(|ending| template.strip_suffix(ending)) {
        template = stem.to_owned();
    }
    let is_word = |at: usize, text: &str| {
        let beside =
            |letter: Option<char>| letter.is_none_or(|letter| !letter.is_alphanumeric() && letter != '{');
        beside(text[..at].chars().next_back()) && beside(text[at + target.len()..].chars().next())
    };
    let found = template.find(target).filter(|at| is_word(*at, &template));
    if let Some(at) = found.filter(|_| dump.over.is_none()) {
        template.replace_range(at..at + target.len(), "{target}");
    }
    if dump.source.starts_with("postgres://") && dump.source.contains('*') && !template.contains("{database}")
    {
        template = format!("{{database}}_{template}");
    }
    if dump.over.is_some() && !template.contains("{database}") {
        template = format!("{{database}}_{template}");
    }
    if !template.contains("{target}") && !template.contains("{database}") {
        template = format!("{{target}}_{template}");
    }
    if !has_time {
        template.push_str("-{local_time}");
        notes.push(
            "the script writes over one file at each run; a backup never does: each has its time in its name"
                .to_owned(),
        );
    }
    let template = template.trim_start_matches('.');
    format!("{template}.{{ext}}")
}

/// Returns a text as a key that needs no quotes.
fn key(text: &str) -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || letter == '_' { letter } else { '-' };
    let text: String = text.chars().map(plain).collect();
    let text = text.trim_matches('-');
    if text.is_empty() { "database".to_owned() } else { text.to_owned() }
}

fn free(name: &str, taken: &BTreeSet<String>) -> String {
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or_default()
}

fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Tells whether a name fits a pattern with `*` and `?`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            matches(rest, name) || name.split_first().is_some_and(|(_, behind)| matches(pattern, behind))
        }
        (Some((b'?', rest)), Some((_, behind))) => matches(rest, behind),
        (Some((letter, rest)), Some((first, behind))) => letter == first && matches(rest, behind),
        _ => false,
    }
}

impl ScriptPlace {
    /// Returns the script as messages call it.
    pub fn shown(&self) -> String {
        self.file.as_ref().map_or_else(|| "crontab".to_owned(), |file| file.display().to_string())
    }
}
