//! What the single commands of a script are: dumps, and what removes old ones; with whatever stands before them, and what
//! they are piped into. What is not understood says why, in words that hold nothing of the script but names of programs
//! and options: a password may stand anywhere in it.

use super::shell::Simple;
use super::value::{Part, Value, Variables, marked, text_of};
use std::path::Path;

/// A command, with what stands before it taken away.
pub(super) struct Bare {
    /// The program's name without its folder.
    pub(super) program: String,
    /// Its arguments.
    pub(super) arguments: Vec<Value>,
    /// Whose rights it has.
    pub(super) as_user: Option<String>,
    /// What it runs in that is not this machine: `docker exec`, `ssh`.
    pub(super) within: Option<&'static str>,
    /// The commands of a shell that it starts, as text.
    pub(super) script: Option<String>,
}

/// Takes away what stands before a command. `None` where there are assignments alone, which are taken.
pub(super) fn bare(command: &Simple, variables: &mut Variables<'_>) -> Option<Bare> {
    let mut words: Vec<Value> = command.words.iter().map(|word| variables.expand(word)).collect();
    let mut assigned = Vec::new();
    while let Some((name, value)) = words.first().and_then(assignment) {
        assigned.push((name, value));
        words.remove(0);
    }
    // Those before a command are meant for it alone; what they say of connections is hardly said otherwise elsewhere.
    variables.known.extend(assigned);
    let mut bare =
        Bare { program: String::new(), arguments: words, as_user: None, within: None, script: None };
    loop {
        let first = bare.arguments.first()?;
        let text = text_of(first).unwrap_or_else(|| "?".to_owned());
        let name =
            Path::new(&text).file_name().map_or(text.clone(), |name| name.to_string_lossy().into_owned());
        bare.arguments.remove(0);
        let is_done = match name.as_str() {
            "nice" | "ionice" | "chronic" | "nohup" | "exec" | "command" | "env" | "stdbuf" | "setsid" => {
                bare.skip(&["-n", "-c"]);
                false
            }
            "timeout" | "flock" => {
                bare.skip(&["-s", "-k", "-w"]);
                bare.drop_first();
                bare.skip(&["-w"]);
                false
            }
            "sudo" | "su" | "runuser" => {
                bare.other_user(&name);
                bare.script.is_some()
            }
            "bash" | "sh" if bare.arguments.first().and_then(text_of).as_deref() == Some("-c") => {
                bare.script = bare.arguments.get(1).and_then(text_of);
                bare.script.is_some()
            }
            "ssh" => bare.is_within("ssh"),
            "docker" | "podman" | "docker-compose" | "kubectl" | "pct" | "lxc" | "incus" => {
                let runs = |words: &[Value]| {
                    words
                        .iter()
                        .take(3)
                        .any(|word| ["exec", "run"].map(Some).contains(&text_of(word).as_deref()))
                };
                match runs(&bare.arguments) {
                    true => bare.is_within(container(&name)),
                    false => true,
                }
            }
            _ => true,
        };
        if is_done {
            bare.program = name;
            return Some(bare);
        }
    }
}

fn container(name: &str) -> &'static str {
    match name {
        "pct" => "pct exec",
        "kubectl" => "kubectl exec",
        "lxc" | "incus" => "lxc exec",
        "podman" => "podman exec",
        _ => "docker exec",
    }
}

impl Bare {
    fn drop_first(&mut self) {
        if !self.arguments.is_empty() {
            self.arguments.remove(0);
        }
    }

    /// Takes options away, those in the list with their value.
    fn skip(&mut self, with_value: &[&str]) {
        while let Some(text) = self.arguments.first().and_then(text_of) {
            let is_option = text.starts_with('-') || (text.contains('=') && !text.contains('/'));
            if !is_option {
                break;
            }
            self.drop_first();
            if with_value.contains(&text.as_str()) {
                self.drop_first();
            }
        }
    }

    fn other_user(&mut self, name: &str) {
        while let Some(text) = self.arguments.first().and_then(text_of) {
            if matches!(text.as_str(), "-c" | "--command") {
                self.script = self.arguments.get(1).and_then(text_of);
                return;
            }
            if matches!(text.as_str(), "-u" | "--user") {
                self.drop_first();
                self.as_user = self.arguments.first().and_then(text_of);
                self.drop_first();
            } else if text.starts_with('-') {
                self.drop_first();
            } else if name == "su" && self.as_user.is_none() {
                self.as_user = Some(text);
                self.drop_first();
            } else {
                return;
            }
        }
    }

    /// What runs elsewhere is looked at only to say what it was.
    fn is_within(&mut self, what: &'static str) -> bool {
        self.within = Some(what);
        true
    }

    /// Tells whether one of its words names a program.
    pub(super) fn names(&self, programs: &[&str]) -> bool {
        self.arguments.iter().any(|word| {
            let text = marked(word);
            text.split(|letter: char| {
                letter.is_whitespace() || letter == '/' || letter == '\'' || letter == '"'
            })
            .any(|part| programs.contains(&part))
        })
    }
}

/// Takes `NAME=VALUE` apart.
pub(super) fn assignment(word: &Value) -> Option<(String, Value)> {
    let Some(Part::Text(text)) = word.first() else { return None };
    let (name, rest) = text.split_once('=')?;
    let mut letters = name.chars();
    let is_name = letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    if !is_name {
        return None;
    }
    let mut value = word[1..].to_vec();
    if !rest.is_empty() {
        value.insert(0, Part::Text(rest.to_owned()));
    }
    Some((name.to_owned(), value))
}

/// How a pipe packs what passes, and where it ends.
#[derive(Debug, Default)]
pub(super) struct Packed {
    pub(super) packing: &'static str,
    pub(super) recipients: Vec<String>,
    pub(super) file: Option<Value>,
}

/// Looks at what a command is piped into.
pub(super) fn pipe(commands: &[Simple], variables: &mut Variables<'_>) -> Result<Packed, String> {
    let mut packed = Packed::default();
    for command in commands {
        let Some(bare) = bare(command, variables) else { continue };
        if bare.within.is_some() {
            return Err("it is piped to another machine".to_owned());
        }
        match bare.program.as_str() {
            "gzip" | "pigz" => packed.packing = ".gz",
            "zstd" | "zstdmt" | "pzstd" => packed.packing = ".zst",
            "xz" | "pxz" => packed.packing = ".xz",
            "bzip2" | "pbzip2" | "lbzip2" => packed.packing = ".bz2",
            "lz4" => packed.packing = ".lz4",
            "cat" | "pv" | "buffer" | "mbuffer" => {}
            "tee" => packed.file = bare.arguments.first().cloned(),
            "age" => {
                let texts: Vec<String> = bare.arguments.iter().filter_map(text_of).collect();
                packed.recipients = texts.into_iter().filter(|text| text.starts_with("age1")).collect();
                if packed.recipients.is_empty() {
                    return Err(
                        "it is encrypted by `age`, and its recipients do not stand in the line".to_owned()
                    );
                }
            }
            "gpg" | "gpg2" | "openssl" | "ccrypt" => {
                return Err(
                    "it is encrypted by another tool than age: `age_recipients` of a repository does that"
                        .to_owned(),
                );
            }
            name => {
                return Err(format!("it is piped into `{name}`, which has no place in our configuration"));
            }
        }
        if let Some((file, _)) = &command.output {
            packed.file = Some(variables.expand(file));
        }
    }
    Ok(packed)
}

/// What a removal keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rule {
    Age(String),
    Last(u32),
}

/// What removes old files.
#[derive(Debug, Clone)]
pub(super) struct Removal {
    pub(super) line: usize,
    pub(super) folder: Value,
    /// Which names; `None`: all.
    pub(super) pattern: Option<String>,
    pub(super) rule: Rule,
}

/// Reads `find FOLDER … -mtime +N -delete`. None where it removes nothing.
pub(super) fn find(
    line: usize,
    arguments: &[Value],
    piped: &[Simple],
    variables: &mut Variables<'_>,
) -> Result<Vec<Removal>, String> {
    let mut removes = false;
    for command in piped {
        if let Some(bare) = bare(command, variables) {
            removes |= bare.program == "xargs" && bare.names(&["rm"]);
        }
    }
    let (mut pattern, mut rule, mut folders) = (None, None, Vec::new());
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let text = marked(word);
        if !text.starts_with('-') && !matches!(text.as_str(), "(" | ")" | "!") {
            folders.push(word.clone());
            continue;
        }
        match text.as_str() {
            "-type" | "-maxdepth" | "-mindepth" => drop(words.next()),
            "-name" | "-iname" => pattern = words.next().map(marked),
            "-mtime" | "-ctime" => rule = Some(age(words.next(), "d")?),
            "-mmin" | "-cmin" => rule = Some(age(words.next(), "m")?),
            "-print" | "-print0" | "-depth" | "-xdev" => {}
            "-delete" => removes = true,
            "-exec" | "-execdir" | "-ok" => {
                removes = words.next().map(marked).is_some_and(|program| program.ends_with("rm"));
                while words.next().is_some_and(|word| !matches!(marked(word).as_str(), ";" | "+")) {}
            }
            option => {
                return Err(format!("`find` has `{}`, which retention here does not know", name_of(option)));
            }
        }
    }
    if !removes {
        return Ok(vec![]);
    }
    if folders.is_empty() {
        return Err("it does not say in which folder".to_owned());
    }
    let rule = rule.ok_or("it removes by something else than age")?;
    let one = |folder| {
        let (pattern, rule) = (pattern.clone(), rule.clone());
        Ok(Removal { line, folder: variables.path(folder)?, pattern, rule })
    };
    folders.into_iter().map(one).collect()
}

fn age(word: Option<&Value>, unit: &str) -> Result<Rule, String> {
    let text = word.and_then(text_of).ok_or("its age is not told by the script")?;
    let number: u32 = text
        .strip_prefix('+')
        .and_then(|number| number.parse().ok())
        .ok_or("its age has no `+` before it")?;
    Ok(Rule::Age(match unit {
        "d" => format!("{}d", number.max(1)),
        _ => format!("{}h", number.div_ceil(60).max(1)),
    }))
}

/// An option without its value.
pub(super) fn name_of(option: &str) -> &str {
    option.split('=').next().unwrap_or(option)
}

/// Reads `ls -t FOLDER/PATTERN | tail -n +N | xargs rm`: the newest N-1 stay.
pub(super) fn listing(
    line: usize,
    arguments: &[Value],
    piped: &[Simple],
    variables: &mut Variables<'_>,
) -> Result<Option<Removal>, String> {
    let (mut from, mut removes) = (None, false);
    for command in piped {
        let Some(bare) = bare(command, variables) else { continue };
        match bare.program.as_str() {
            "tail" => {
                let texts: Vec<String> = bare.arguments.iter().filter_map(text_of).collect();
                from = texts
                    .iter()
                    .find_map(|text| text.trim_start_matches("-n").strip_prefix('+')?.parse::<u32>().ok());
            }
            "xargs" => removes |= bare.names(&["rm"]),
            _ => {}
        }
    }
    if !removes {
        return Ok(None);
    }
    let by_time =
        arguments.iter().filter_map(text_of).any(|text| text.starts_with('-') && text.contains('t'));
    let last = from.and_then(|from| from.checked_sub(1)).filter(|last| *last > 0 && by_time);
    let last = last.ok_or("it removes by something else than the order of time")?;
    let path = arguments.iter().find(|word| !marked(word).starts_with('-')).ok_or("it names no files")?;
    let (folder, name) = super::value::split(&variables.path(path.clone())?);
    let pattern = Some(marked(&name)).filter(|name| !name.is_empty());
    Ok(Some(Removal { line, folder, pattern, rule: Rule::Last(last) }))
}
