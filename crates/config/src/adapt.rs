//! A configuration of another machine, for this one: the place and the key of its repository are set, paths that were
//! relative to its folder become absolute, and every other byte stays.
//!
//! The text is changed where its parser says that a value stands. What comes out is read again: it means what it meant,
//! but for what was to be changed, or it is refused.

use crate::position::{Language, stretch};
use crate::settings::Settings;
use crate::source::absolute_folder;
use crate::{ConfigError, read_text};
use flow::SecretRef;
use serde_json::Value;
use std::path::Path;

/// What a configuration finds on this machine.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Where the repository is now; absolute.
    pub repository: &'a Path,
    /// The name that the configuration gave it, where that is known.
    pub name: Option<&'a str>,
    /// The key file that opens it; `None` where it was opened by what no configuration can name.
    pub key_file: Option<&'a Path>,
    /// Whether that key file is found without a configuration too.
    pub key_is_found: bool,
    /// Where the configuration will lie; absolute.
    pub file: &'a Path,
}

/// A configuration that was adapted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adapted {
    /// Its text.
    pub text: String,
    /// What it means.
    pub settings: Settings,
    /// The name of the repository in it.
    pub name: String,
    /// The keys that were changed, as dotted paths.
    pub changed: Vec<String>,
}

/// Adapts the text of a configuration that lay in `original`.
pub fn adapt(original: &Path, text: &str, now: Surroundings<'_>) -> Result<Adapted, ConfigError> {
    let before = read_text(original, text)?;
    let mut draft =
        Draft { text: text.to_owned(), language: Language::of(original), file: now.file, changed: vec![] };
    if draft.language != Language::of(now.file) {
        let ending = if draft.language == Language::Json { "json" } else { "toml" };
        return Err(ConfigError::new(
            now.file,
            format!("the configuration of {} is written in another language", original.display()),
        )
        .hint(format!("name a file that ends in .{ending} by --config")));
    }
    if absolute_folder(original) != absolute_folder(now.file) {
        draft.make_absolute(&absolute_folder(original))?;
    }
    let name = draft.place(&before, now)?;
    draft.password(&name, now)?;
    let settings = read_text(now.file, &draft.text)?;
    if !same_meaning(&before, &settings) {
        return Err(draft.refuse("targets"));
    }
    Ok(Adapted { text: draft.text, settings, name, changed: draft.changed })
}

/// Tells whether the targets are what they were; where their plans write to may have moved.
fn same_meaning(before: &Settings, after: &Settings) -> bool {
    let without_places = |settings: &Settings| {
        let mut targets = settings.targets.clone();
        let plans = targets.values_mut().flat_map(|target| target.plans.values_mut());
        plans.for_each(|plan| plan.repository = None);
        targets
    };
    without_places(before) == without_places(after)
}

struct Draft<'a> {
    text: String,
    language: Language,
    file: &'a Path,
    changed: Vec<String>,
}

impl Draft<'_> {
    fn refuse(&self, key: &str) -> ConfigError {
        ConfigError::new(self.file, "the kept configuration cannot be adapted to this machine").key(key).hint(
            "`backstay init` writes a new one; `backstay list --repository PATH` shows where the databases were".to_owned(),
        )
    }

    fn settings(&self, text: &str) -> Option<Settings> {
        read_text(self.file, text).ok()
    }

    /// Takes the first of several texts that means what it is to mean.
    fn take(
        &mut self,
        key: &str,
        candidates: Vec<String>,
        fits: impl Fn(&Settings) -> bool,
    ) -> Result<(), ConfigError> {
        let good =
            candidates.into_iter().find(|text| self.settings(text).is_some_and(|settings| fits(&settings)));
        self.text = good.ok_or_else(|| self.refuse(key))?;
        self.changed.push(key.to_owned());
        Ok(())
    }

    /// Returns the text with another value of a key that is there.
    fn with_value(&self, path: &[&str], value: &str) -> Option<String> {
        let at = stretch(&self.text, self.language, path)?.value;
        Some(format!("{}{}{}", self.text.get(..at.start)?, literal(value), self.text.get(at.end..)?))
    }

    /// Makes the paths absolute that are meant from the folder of the file.
    fn make_absolute(&mut self, folder: &Path) -> Result<(), ConfigError> {
        let value: Value = match self.language {
            Language::Toml => toml::from_str(&self.text).unwrap_or_default(),
            Language::Json => serde_json::from_str(&self.text).unwrap_or_default(),
        };
        let mut paths = Vec::new();
        relative_paths(&value, &mut vec![], &mut paths);
        for (path, text) in paths {
            let absolute = folder.join(text.trim_start_matches("./"));
            let keys: Vec<&str> = path.iter().map(String::as_str).collect();
            let key = path.join(".");
            let text = absolute.to_str().and_then(|absolute| self.with_value(&keys, absolute));
            self.text = text.ok_or_else(|| self.refuse(&key))?;
            self.changed.push(key);
        }
        Ok(())
    }

    /// Sets where the repository is, and returns its name.
    fn place(&mut self, before: &Settings, now: Surroundings<'_>) -> Result<String, ConfigError> {
        let known = &before.repositories;
        let named = now.name.filter(|name| known.contains_key(*name));
        let here =
            || known.iter().find(|(_, place)| place.path == now.repository).map(|(name, _)| name.as_str());
        let only = || known.keys().next().filter(|_| known.len() == 1).map(String::as_str);
        let is_there = |name: &str, settings: &Settings| {
            settings.repositories.get(name).is_some_and(|place| place.path == now.repository)
        };
        let path = now.repository.to_str().ok_or_else(|| self.refuse("repository"))?;
        if let Some(name) = named.or_else(here).or_else(only) {
            let key = ["repositories", name, "path"];
            if known.get(name).is_none_or(|place| place.path != now.repository) {
                let text = self.with_value(&key, path);
                self.take(&key.join("."), text.into_iter().collect(), |settings| is_there(name, settings))?;
            }
            return Ok(name.to_owned());
        }
        let free = |name: &&str| !known.contains_key(*name);
        let name = ["main", "adopted"].into_iter().find(free).ok_or_else(|| self.refuse("repositories"))?;
        let added = match self.language {
            Language::Toml => {
                let end = if self.text.is_empty() || self.text.ends_with('\n') { "" } else { "\n" };
                vec![format!("{}{end}\n[repositories.{name}]\npath = {}\n", self.text, literal(path))]
            }
            Language::Json => {
                let entry = format!("\"{name}\": {{ \"path\": {} }}", literal(path));
                let inside =
                    stretch(&self.text, self.language, &["repositories"]).map(|at| at.value.start + 1);
                let whole = format!("\"repositories\": {{ {entry} }}");
                let added = inside.map_or(whole, |_| entry);
                self.inserted_in_object(inside, &added)
            }
        };
        self.take(&format!("repositories.{name}"), added, |settings| is_there(name, settings))?;
        let is_default = |settings: &Settings| {
            settings.repository.as_ref().is_some_and(|place| place.path == now.repository)
        };
        if !self.settings(&self.text).as_ref().is_some_and(is_default) {
            let candidates = match (self.with_value(&["repository"], name), self.language) {
                (Some(text), _) => vec![text],
                (None, Language::Toml) => vec![format!("repository = {}\n{}", literal(name), self.text)],
                (None, Language::Json) => {
                    self.inserted_in_object(None, &format!("\"repository\": {}", literal(name)))
                }
            };
            self.take("repository", candidates, is_default)?;
        }
        Ok(name.to_owned())
    }

    /// Returns the text with a pair behind the opening brace that ends at a byte, or the first one.
    fn inserted_in_object(&self, brace_end: Option<usize>, pair: &str) -> Vec<String> {
        let at = brace_end.or_else(|| self.text.find('{').map(|at| at + 1));
        let halves = at.and_then(|at| Some((self.text.get(..at)?, self.text.get(at..)?)));
        halves.map_or(vec![], |(head, rest)| {
            vec![format!("{head} {pair},{rest}"), format!("{head} {pair} {rest}")]
        })
    }

    /// Sets by what the repository opens: the key file, or nothing, where a variable or a person gives the password.
    fn password(&mut self, name: &str, now: Surroundings<'_>) -> Result<(), ConfigError> {
        let wanted = now.key_file.map(|file| SecretRef::File(file.to_string_lossy().into_owned()));
        let current =
            self.settings(&self.text).and_then(|settings| settings.repositories.get(name)?.password.clone());
        if current == wanted || (current.is_none() && now.key_is_found) {
            return Ok(());
        }
        let is = |wanted: Option<SecretRef>| {
            move |settings: &Settings| {
                settings.repositories.get(name).is_some_and(|place| place.password == wanted)
            }
        };
        let file_key = ["repositories", name, "password_file"];
        let key = file_key.join(".");
        match (&current, now.key_file.and_then(Path::to_str)) {
            (Some(SecretRef::File(_)), Some(file)) => {
                let text = self.with_value(&file_key, file);
                return self.take(&key, text.into_iter().collect(), is(wanted));
            }
            (Some(SecretRef::File(_)), None) => {
                let removed = self.without(&file_key);
                self.take(&key, removed, is(None))?;
            }
            (Some(_), _) => {
                let command = ["repositories", name, "password_command"];
                let removed = self.without(&command);
                self.take(&command.join("."), removed, is(None))?;
            }
            (None, _) => {}
        }
        let Some(file) = now.key_file.and_then(Path::to_str) else { return Ok(()) };
        let added = self.with_neighbour(&["repositories", name, "path"], "password_file", file);
        self.take(&key, added, is(wanted))
    }

    /// Returns texts with a further pair behind one that is there; which of them is right depends on how its table is
    /// written.
    fn with_neighbour(&self, path: &[&str], key: &str, value: &str) -> Vec<String> {
        let Some(at) = stretch(&self.text, self.language, path) else { return vec![] };
        let text = self.text.as_str();
        let (head, rest) =
            (text.get(..at.value.end).unwrap_or_default(), text.get(at.value.end..).unwrap_or_default());
        if self.language == Language::Json {
            return vec![format!("{head}, {}: {}{rest}", literal(key), literal(value))];
        }
        let line_start = head.rfind('\n').map_or(0, |newline| newline + 1);
        let before_key = text.get(line_start..at.key.start).unwrap_or_default();
        let (line_rest, below) = rest.find('\n').map_or((rest, ""), |newline| rest.split_at(newline));
        let pair = format!("{key} = {}", literal(value));
        vec![format!("{head}{line_rest}\n{before_key}{pair}{below}"), format!("{head}, {pair}{rest}")]
    }

    /// Returns texts without a pair: as a comment where it has its own lines, else cut out with a comma.
    fn without(&self, path: &[&str]) -> Vec<String> {
        let Some(at) = stretch(&self.text, self.language, path) else { return vec![] };
        let part = |range: std::ops::Range<usize>| self.text.get(range).unwrap_or_default();
        let (head, rest) = (part(0..at.key.start), part(at.value.end..self.text.len()));
        let line_start = head.rfind('\n').map_or(0, |newline| newline + 1);
        let lines = part(line_start..at.value.end).replace('\n', "\n# ");
        let commented = format!("{}# {lines}{rest}", part(0..line_start));
        let behind = rest.trim_start().strip_prefix(',').map(|rest| format!("{head}{}", rest.trim_start()));
        let before = head.trim_end().strip_suffix(',').map(|head| format!("{head}{rest}"));
        [Some(commented), behind, before, Some(format!("{head}{rest}"))].into_iter().flatten().collect()
    }
}

/// A text as both languages write it.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

/// Finds the values that are paths and not absolute.
fn relative_paths(value: &Value, at: &mut Vec<String>, found: &mut Vec<(Vec<String>, String)>) {
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                at.push(key.clone());
                relative_paths(value, at, found);
                at.pop();
            }
        }
        Value::String(text) if is_path(at, text) && !text.starts_with('/') && !text.contains("://") => {
            found.push((at.clone(), text.clone()));
        }
        _ => {}
    }
}

fn is_path(at: &[String], text: &str) -> bool {
    let keys: Vec<&str> = at.iter().map(String::as_str).collect();
    match keys.as_slice() {
        ["repositories", _, "path" | "password_file" | "age_identity"]
        | ["targets", _, "source"]
        | ["targets", _, "restore", "safety_dir"] => true,
        ["repository"] | ["targets", _, "plans", _, "repository"] => text.contains('/'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn now<'a>(key_file: Option<&'a str>, file: &'a str) -> Surroundings<'a> {
        Surroundings {
            repository: Path::new("/mnt/b"),
            name: None,
            key_file: key_file.map(Path::new),
            key_is_found: false,
            file: Path::new(file),
        }
    }

    fn adapted(text: &str, key_file: Option<&str>) -> String {
        let adapted =
            adapt(Path::new("/etc/backstay/c.toml"), text, now(key_file, "/etc/backstay/c.toml")).unwrap();
        let place = adapted.settings.repository.unwrap();
        assert_eq!(place.path, Path::new("/mnt/b"), "{}", adapted.text);
        assert_eq!(place.password, key_file.map(|file| SecretRef::File(file.to_owned())), "{}", adapted.text);
        adapted.text
    }

    #[test]
    fn only_the_lines_of_the_repository_change_however_they_are_written() {
        let rest = "# ünïcode\n[targets.a]\nsource = \"/a.db\" # b\n";
        for (before, with_key, without) in [
            (
                "[repositories.m]\npath = '/old' # p\npassword_file = \"/etc/k\"\n",
                "[repositories.m]\npath = \"/mnt/b\" # p\npassword_file = \"/k\"\n",
                "[repositories.m]\npath = \"/mnt/b\" # p\n# password_file = \"/etc/k\"\n",
            ),
            (
                "[repositories.m]\n  path = \"/old\" # p\n",
                "[repositories.m]\n  path = \"/mnt/b\" # p\n  password_file = \"/k\"\n",
                "[repositories.m]\n  path = \"/mnt/b\" # p\n",
            ),
            (
                "repositories = { m = { path = \"/old\", pack_mib = 8 } }\n",
                "repositories = { m = { path = \"/mnt/b\", password_file = \"/k\", pack_mib = 8 } }\n",
                "repositories = { m = { path = \"/mnt/b\", pack_mib = 8 } }\n",
            ),
            (
                "repositories.m.path = \"/old\"\nrepositories.m.password_command = [\"pass\",\n \"x\"]\n",
                "repositories.m.path = \"/mnt/b\"\nrepositories.m.password_file = \"/k\"\n# repositories.m.password_command = [\"pass\",\n#  \"x\"]\n",
                "repositories.m.path = \"/mnt/b\"\n# repositories.m.password_command = [\"pass\",\n#  \"x\"]\n",
            ),
            (
                "[repositories]\nm = { password_file = \"/e\", path = \"/old\" }\n",
                "[repositories]\nm = { password_file = \"/k\", path = \"/mnt/b\" }\n",
                "[repositories]\nm = { path = \"/mnt/b\" }\n",
            ),
        ] {
            assert_eq!(adapted(&format!("{before}{rest}"), Some("/k")), format!("{with_key}{rest}"));
            assert_eq!(adapted(&format!("{before}{rest}"), None), format!("{without}{rest}"));
        }
    }

    #[test]
    fn a_repository_without_a_section_gets_one() {
        for (before, after) in [
            ("# none\n", "# none\n\n[repositories.main]\npath = \"/mnt/b\"\n"),
            ("repository = \"/old/x\"", "repository = \"main\"\n\n[repositories.main]\npath = \"/mnt/b\"\n"),
            (
                "[repositories.main]\npath = \"/1\"\n[repositories.off]\npath = \"/2\"\n",
                "repository = \"adopted\"\n[repositories.main]\npath = \"/1\"\n[repositories.off]\npath = \"/2\"\n\n[repositories.adopted]\npath = \"/mnt/b\"\n",
            ),
        ] {
            assert_eq!(adapted(before, None), after);
            let with_key = adapted(before, Some("/k"));
            assert_eq!(with_key, format!("{after}password_file = \"/k\"\n"));
        }
    }

    #[test]
    fn relative_paths_stay_where_they_were() {
        let text = "repository = \"m\"\n[repositories.m]\npath = \"b\"\n[targets.a]\nsource = \"./d/{tenant}.db\"\nrestore = { safety_dir = \"s\", stop = [\"./x\"] }\n";
        let here = adapt(Path::new("/srv/c.toml"), text, now(Some("/k"), "/srv/d.toml")).unwrap();
        assert!(here.text.contains("./d/") && here.changed.len() == 2, "{}", here.text);
        let moved = adapt(Path::new("/srv/c.toml"), text, now(Some("/k"), "/root/c.toml")).unwrap();
        let target = &moved.settings.targets["a"];
        assert_eq!(target.target.connection, "/srv/d/{tenant}.db");
        assert_eq!(target.restore.safety_dir.as_deref(), Some(Path::new("/srv/s")));
        assert!(moved.text.contains("\"./x\""), "{}", moved.text);
    }

    #[test]
    fn json_stays_json() {
        let json = |text: &str, key: Option<&str>| {
            adapt(Path::new("/e/c.json"), text, now(key, "/e/c.json")).unwrap()
        };
        let one = json("{\"repositories\": {\"m\": {\"password_file\": \"/e\", \"path\": \"/old\"}}}", None);
        assert_eq!(one.text, "{\"repositories\": {\"m\": {\"path\": \"/mnt/b\"}}}");
        let two = json("{\"targets\": {}}", Some("/k"));
        let place = two.settings.repository.unwrap();
        assert_eq!(
            (place.path.as_path(), place.password.is_some()),
            (Path::new("/mnt/b"), true),
            "{}",
            two.text
        );
        assert!(adapt(Path::new("/e/c.json"), "{}", now(None, "/e/c.toml")).is_err());
    }
}
