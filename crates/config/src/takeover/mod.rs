//! An existing script or crontab, taken over: what it dumps where and what it removes, as a configuration that does the
//! same. Nothing of the script is run, and nothing here reads a file or writes one.
//!
//! What is not understood is named by its line, its program and the reason, never by its text: a password may stand in it.

mod crontab;
mod draft;
mod dump;
mod line;
mod shell;
mod unified;
mod value;

pub use crontab::{Schedule, is_crontab};
pub use draft::{Draft, Drafted, draft};
pub use unified::unified_diff;
pub use value::ScriptPlace;

use dump::{Dump, Over};
use line::{Bare, Removal, bare, find, listing, pipe};
use shell::{Event, Simple, Word};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use value::{Part, Value, Variables, marked, text_of};

/// A line that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenLine {
    /// Its number.
    pub line: usize,
    /// What it does.
    pub what: String,
}

/// A line that was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftLine {
    /// Its number.
    pub line: usize,
    /// Its program.
    pub program: String,
    /// Why, and what to do.
    pub reason: String,
}

/// What a script came to.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    /// The lines that are taken over.
    pub understood: Vec<TakenLine>,
    /// The lines that are not.
    pub left: Vec<LeftLine>,
    /// When a crontab runs its lines.
    pub schedules: Vec<Schedule>,
    dumps: Vec<Dump>,
    removals: Vec<Removal>,
}

impl Taken {
    /// Tells whether nothing in it writes a dump.
    pub fn is_empty(&self) -> bool {
        self.dumps.is_empty()
    }
}

/// Reads a script, or a crontab.
pub fn takeover(text: &str, place: &ScriptPlace) -> Taken {
    let mut taken = Taken::default();
    if is_crontab(text) {
        crontab::read(text, place, &mut taken);
    } else {
        Reader::new(place, &mut taken).read(text, 1);
    }
    taken
}

/// Programs that matter to no backup.
const OTHERS: [&str; 42] = [
    "echo",
    "printf",
    "set",
    "shopt",
    "mkdir",
    "exit",
    "true",
    "false",
    ":",
    "trap",
    "logger",
    "test",
    "[",
    "[[",
    "umask",
    "sleep",
    "wait",
    "sync",
    "unset",
    "return",
    "break",
    "continue",
    "date",
    "du",
    "df",
    "wc",
    "hostname",
    "shift",
    "chmod",
    "chown",
    "touch",
    "read",
    "local",
    "stat",
    "basename",
    "dirname",
    "renice",
    "tput",
    "head",
    "zcat",
    "sha256sum",
    "md5sum",
];

/// Reads commands one after the other.
struct Reader<'a> {
    variables: Variables<'a>,
    /// What the loops around go over.
    over: Vec<Option<Over>>,
    /// Files whose variables the script takes.
    sourced: Vec<PathBuf>,
    /// The functions of the script.
    functions: BTreeSet<String>,
    taken: &'a mut Taken,
}

impl<'a> Reader<'a> {
    fn new(place: &'a ScriptPlace, taken: &'a mut Taken) -> Self {
        let variables = Variables { known: BTreeMap::new(), place, loops: vec![], folder: None };
        Self { variables, over: vec![], sourced: vec![], functions: BTreeSet::new(), taken }
    }

    fn read(&mut self, text: &str, first: usize) {
        for event in shell::parse(text, first) {
            match event {
                Event::Loop(_, variable) => self.begin_loop(variable),
                Event::Done => {
                    self.variables.loops.pop();
                    self.over.pop();
                }
                Event::Function(name) => drop(self.functions.insert(name)),
                Event::Pipeline(line, commands) => self.pipeline(line, &commands),
            }
        }
    }

    fn begin_loop(&mut self, variable: Option<(String, Vec<Word>)>) {
        let Some((name, words)) = variable else {
            self.variables.loops.push(None);
            self.over.push(None);
            return;
        };
        let values: Vec<Value> = words.iter().map(|word| self.variables.expand(word)).collect();
        let over = match values.as_slice() {
            [only] if only.contains(&Part::Wild('*')) => files(only),
            [only] => match (only.as_slice(), self.sourced.as_slice()) {
                ([Part::Unknown(of)], [file]) => match of.strip_prefix('$') {
                    Some(variable) => Over::File(file.display().to_string(), variable.to_owned()),
                    None => Over::Unknown,
                },
                _ => names(&values),
            },
            _ => names(&values),
        };
        self.variables.loops.push(Some(name));
        self.over.push(Some(over));
    }

    fn leave(&mut self, line: usize, program: &str, reason: impl Into<String>) {
        // A name that is put together at run time may hold anything.
        let is_secret = self.variables.secrets().any(|secret| program.contains(&secret));
        let program = if program.contains('?') || is_secret { "a command" } else { program };
        self.taken.left.push(LeftLine { line, program: program.to_owned(), reason: reason.into() });
    }

    fn pipeline(&mut self, line: usize, commands: &[Simple]) {
        let Some((first, piped)) = commands.split_first() else { return };
        let before = self.variables.known.clone();
        let Some(bare) = bare(first, &mut self.variables) else { return };
        self.command(line, bare, (first, piped));
        // What stands before a command is meant for it alone.
        let has_command = first.words.len() > 1;
        if has_command
            && !matches!(
                first.words.first().and_then(shell::literal),
                Some("export" | "readonly" | "declare" | "typeset" | "local")
            )
        {
            // What is secret stays known as that, so that it shows nowhere.
            let said = self.variables.known.remove("PGPASSWORD");
            self.variables.known = before;
            self.variables.known.extend(said.map(|said| (" PGPASSWORD".to_owned(), said)));
        }
    }

    fn command(&mut self, line: usize, bare: Bare, (first, piped): (&Simple, &[Simple])) {
        let program = bare.program.clone();
        if let Some(within) = bare.within {
            return self.elsewhere(line, within, &bare);
        }
        if bare.script.is_some() {
            return self.inner(line, &bare, (first, piped));
        }
        let outcome = match program.as_str() {
            "export" | "readonly" | "declare" | "typeset" | "local" => {
                self.variables.known.extend(bare.arguments.iter().filter_map(line::assignment));
                Ok(())
            }
            "cd" => self.change_folder(&bare),
            "." | "source" => self.source(&bare),
            "find" => {
                find(line, &bare.arguments, piped, &mut self.variables).map(|found| self.removal(found))
            }
            "ls" => {
                listing(line, &bare.arguments, piped, &mut self.variables).map(|found| self.removal(found))
            }
            "gzip" | "pigz" | "zstd" | "xz" | "bzip2" | "lz4" => self.pack(line, &bare, first),
            "mv" => self.rename(&bare),
            "rm" => self.remove(&bare),
            "neo4j-admin" => Err(
                "a dump of Neo4j is recognised, and this version does not back up Neo4j yet: keep the line"
                    .to_owned(),
            ),
            "pg_dump" | "pg_dumpall" | "sqlite3" | "cp" => self.dump(line, bare, (first, piped)),
            other if OTHERS.contains(&other) || self.functions.contains(other) => Ok(()),
            _ => Err(reason_of(&program)),
        };
        if let Err(reason) = outcome {
            self.leave(line, &program, reason);
        }
    }

    /// The command that another shell runs, as another user.
    fn inner(&mut self, line: usize, bare: &Bare, (first, piped): (&Simple, &[Simple])) {
        let events = shell::parse(bare.script.as_deref().unwrap_or_default(), line);
        let [Event::Pipeline(_, commands)] = events.as_slice() else {
            return self.leave(
                line,
                &bare.program,
                "it runs several commands as another user: give the file of that script",
            );
        };
        let mut commands: Vec<Simple> = commands.iter().chain(piped).cloned().collect();
        if let (Some(last), Some(output)) = (commands.last_mut(), &first.output) {
            last.output.get_or_insert_with(|| output.clone());
        }
        if let Some(user) = &bare.as_user {
            self.variables.known.insert(" user".to_owned(), vec![Part::Text(user.clone())]);
        }
        self.pipeline(line, &commands);
        self.variables.known.remove(" user");
    }

    fn elsewhere(&mut self, line: usize, within: &'static str, bare: &Bare) {
        let reason = match bare.names(&["pg_dump", "pg_dumpall"]) {
            true => format!(
                "`{within}` before pg_dump cannot be said by our configuration: publish the port of the server, or run backstay \
                 where it is, and write source = \"postgres://USER@HOST:PORT/DATABASE\""
            ),
            false if bare.names(&["sqlite3"]) => format!(
                "`{within}` before sqlite3 cannot be said by our configuration: name the file where it lies on this machine (a \
                 volume, a mount), or run backstay there"
            ),
            false if bare.names(&["neo4j-admin"]) => {
                format!(
                    "a dump of Neo4j by `{within}` is recognised, and this version does not back up Neo4j yet: keep the line"
                )
            }
            false => format!(
                "`{within}` runs a command elsewhere, which is not looked at: keep the line, or make it a hook"
            ),
        };
        self.leave(line, within, reason);
    }

    fn change_folder(&mut self, bare: &Bare) -> Result<(), String> {
        let path = bare.arguments.first().cloned().unwrap_or_default();
        let path = self.variables.path(path).ok().and_then(|path| text_of(&path));
        self.variables.folder = path.map(PathBuf::from);
        Ok(())
    }

    /// The variables of another file are not known, but it may be the one that names the tenants.
    fn source(&mut self, bare: &Bare) -> Result<(), String> {
        let path = bare.arguments.first().cloned().unwrap_or_default();
        let path = self.variables.path(path).ok().and_then(|path| text_of(&path));
        self.sourced.extend(path.map(PathBuf::from));
        Ok(())
    }

    fn dump(
        &mut self,
        line: usize,
        mut bare: Bare,
        (first, piped): (&Simple, &[Simple]),
    ) -> Result<(), String> {
        if let Some(user) = &bare.as_user {
            self.variables.known.insert(" user".to_owned(), vec![Part::Text(user.clone())]);
        }
        let program = bare.program.clone();
        let found = match program.as_str() {
            "sqlite3" | "cp" => {
                let at = bare.arguments.iter().position(|word| !marked(word).starts_with('-'));
                if let Some(database) = at.and_then(|at| bare.arguments.get_mut(at)) {
                    *database = self.variables.path(database.clone())?;
                }
                match program.as_str() {
                    "cp" => dump::copy(line, &bare.arguments)?,
                    _ => dump::sqlite(line, &bare.arguments, first.input.as_deref())?,
                }
            }
            name => Some(dump::postgres(line, (name, bare.arguments), &self.variables.known)?),
        };
        let Some(mut dump) = found else {
            return Err(match program.as_str() {
                "cp" => "it copies something else than a SQLite database".to_owned(),
                _ => "it writes no dump that is recognised: .backup, .dump and VACUUM INTO are".to_owned(),
            });
        };
        if let Some(user) = &bare.as_user {
            dump.notes.push(format!(
                "the script dumps as the user {user}: run backstay as that user, or name a role in the source"
            ));
        }
        let packed = pipe(piped, &mut self.variables)?;
        if let Some((file, is_added)) = &first.output {
            if *is_added {
                return Err("it is added to a file that is there".to_owned());
            }
            dump.file = self.variables.expand(file);
        }
        if let Some(file) = packed.file {
            dump.file = file;
        }
        if !packed.packing.is_empty() {
            dump.packing = packed.packing;
        }
        dump.recipients = packed.recipients;
        if dump.file.is_empty() {
            return Err("it does not say into which file it writes".to_owned());
        }
        dump.file = self.variables.path(dump.file)?;
        self.place(&mut dump)?;
        let what = format!("dumps {} into a file", dump.source);
        self.taken.understood.push(TakenLine { line, what });
        self.taken.dumps.push(dump);
        Ok(())
    }

    /// Says over which tenants the loop around goes.
    fn place(&mut self, dump: &mut Dump) -> Result<(), String> {
        if !dump.source.contains("{tenant}") {
            return match dump.file.contains(&Part::Tenant) {
                true => {
                    Err("its file's name has the variable of a loop, and its database has not".to_owned())
                }
                false => Ok(()),
            };
        }
        let over = self.over.iter().rev().flatten().next().cloned();
        match &over {
            Some(Over::Names(names)) if names.iter().any(|name| name.contains('/')) => {
                return Err(
                    "it goes over paths: write a target for each, or one with {tenant} in its source"
                        .to_owned(),
                );
            }
            Some(Over::Files(pattern)) if dump.source == "{tenant}" => {
                dump.source.clone_from(pattern);
                dump.name = Path::new(pattern)
                    .parent()
                    .and_then(Path::file_name)
                    .map_or_else(|| "tenants".to_owned(), |name| name.to_string_lossy().into_owned());
            }
            Some(Over::Names(_) | Over::File(..)) => dump.name = "tenants".to_owned(),
            _ => {
                return Err("what its loop goes over is not told by the script: a target with {tenant} in its source, and \
                            `tenants` that names them, does the same"
                    .to_owned());
            }
        }
        dump.over = over;
        Ok(())
    }

    fn removal(&mut self, found: impl IntoIterator<Item = Removal>) {
        self.taken.removals.extend(found);
    }

    /// `gzip FILE` behind a dump packs it.
    fn pack(&mut self, line: usize, bare: &Bare, first: &Simple) -> Result<(), String> {
        let texts: Vec<String> = bare.arguments.iter().map(marked).collect();
        if texts.iter().any(|text| text == "-t" || text == "--test" || text == "-dc" || text == "-d") {
            return Ok(());
        }
        let packing = match bare.program.as_str() {
            "gzip" | "pigz" => ".gz",
            "zstd" => ".zst",
            "xz" => ".xz",
            "bzip2" => ".bz2",
            _ => ".lz4",
        };
        let file = bare.arguments.iter().find(|word| !marked(word).starts_with('-'));
        let file = file.cloned().map(|file| self.variables.path(file)).transpose()?;
        let Some(file) = file else { return Err("it does not say which file it packs".to_owned()) };
        let known = self.taken.dumps.iter_mut().find(|dump| marked(&dump.file) == marked(&file));
        if let Some(dump) = known {
            dump.packing = packing;
            dump.lines.push(line);
            self.taken.understood.push(TakenLine { line, what: "packs the dump".to_owned() });
            return Ok(());
        }
        // `gzip -c DATABASE > FILE` is a copy too.
        if let (true, Some((to, false))) = (dump::is_image(&file), &first.output) {
            let to = self.variables.expand(to);
            if let Some(mut dump) = dump::copy(line, &[file, to])? {
                dump.packing = packing;
                dump.file = self.variables.path(dump.file)?;
                self.place(&mut dump)?;
                self.taken.understood.push(TakenLine { line, what: format!("copies {}", dump.source) });
                self.taken.dumps.push(dump);
                return Ok(());
            }
        }
        Err("it packs something that no line above writes".to_owned())
    }

    /// `mv DUMP FILE` names it anew.
    fn rename(&mut self, bare: &Bare) -> Result<(), String> {
        let paths: Vec<&Value> =
            bare.arguments.iter().filter(|word| !marked(word).starts_with('-')).collect();
        let [from, to] = paths.as_slice() else { return Err("it moves several files".to_owned()) };
        let (from, to) = (self.variables.path((*from).clone())?, self.variables.path((*to).clone())?);
        let known = self.taken.dumps.iter_mut().find(|dump| {
            marked(&dump.file) == marked(&from)
                || format!("{}{}", marked(&dump.file), dump.packing) == marked(&from)
        });
        match known {
            Some(dump) => {
                dump.file = to;
                Ok(())
            }
            None => Err("it moves something that no line above writes".to_owned()),
        }
    }

    /// What a dump was written to first may go.
    fn remove(&mut self, bare: &Bare) -> Result<(), String> {
        let mut files = bare.arguments.iter().filter(|word| !marked(word).starts_with('-'));
        let is_own = |file: &Value| {
            let text = marked(file);
            text.starts_with("/tmp/") || self.taken.dumps.iter().any(|dump| marked(&dump.file) == text)
        };
        match files.all(is_own) {
            true => Ok(()),
            false => Err("it removes files by something else than age or number: `keep` in a plan, or `backstay prune`".to_owned()),
        }
    }
}

fn names(values: &[Value]) -> Over {
    let texts: Option<Vec<String>> = values.iter().map(text_of).collect();
    let words =
        texts.map(|texts| texts.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned).collect());
    words.filter(|words: &Vec<String>| !words.is_empty()).map_or(Over::Unknown, Over::Names)
}

/// A pattern with one star, in the name of a file.
fn files(value: &Value) -> Over {
    let text = marked(value);
    let (folder, name) = text.rsplit_once('/').unwrap_or(("", &text));
    match (text.matches('*').count(), folder.contains('*'), name.contains('*'), text.contains('?')) {
        (1, false, true, false) if text.starts_with('/') => {
            Over::Files(format!("{folder}/{}", name.replace('*', "{tenant}")))
        }
        _ => Over::Unknown,
    }
}

fn reason_of(program: &str) -> String {
    let what = match program {
        "mysqldump" | "mariadb-dump" | "mongodump" | "redis-cli" | "influxd" | "mysql" => {
            "it is for a database that Backstay does not know: keep the line"
        }
        "pg_basebackup" | "barman" | "pgbackrest" => "it copies a whole cluster: keep the line",
        "rsync" | "scp" | "rclone" | "aws" | "s3cmd" | "gsutil" | "az" | "restic" | "borg" | "mc" => {
            "it brings files elsewhere: keep the line"
        }
        "curl" | "wget" | "mail" | "mailx" | "sendmail" | "ssmtp" => {
            "it tells somebody: keep the line, by the exit code of backstay"
        }
        "psql" => "it asks the server for something: tenants by SQL are said by `tenants` of a target",
        "systemctl" | "service" => {
            "it stops or starts a service: a backup needs no stop; `hooks` of a target run commands"
        }
        "tar" | "zip" | "7z" => "it packs files: keep the line",
        "gpg" | "openssl" => {
            "it encrypts by another tool than age: `age_recipients` of a repository does that"
        }
        "ln" => "it makes a link: NAME@latest is the newest file",
        _ => "it is no command that is known here: look what it does",
    };
    what.to_owned()
}
