//! The commands that write dumps: which database, into which file, in which form.

use super::line::name_of;
use super::value::{Part, Value, marked, split, text_of};
use std::collections::BTreeMap;

/// What a loop goes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Over {
    /// Names that stand in the script.
    Names(Vec<String>),
    /// A variable of a file that the script reads.
    File(String, String),
    /// The files that fit a pattern: its path, with `{tenant}` in place of the star.
    Files(String),
    /// What the script does not say.
    Unknown,
}

/// A dump that a script writes.
#[derive(Debug, Clone)]
pub(super) struct Dump {
    /// The lines that make it.
    pub(super) lines: Vec<usize>,
    /// The key `source`, with `{tenant}` where a loop goes over it.
    pub(super) source: String,
    /// How the target may be called.
    pub(super) name: String,
    /// Where the file goes; empty where its line does not say yet.
    pub(super) file: Value,
    /// `sql`, `dump`, `tar` or `db`.
    pub(super) form: &'static str,
    pub(super) packing: &'static str,
    pub(super) recipients: Vec<String>,
    /// Further lines of the plan.
    pub(super) keys: Vec<String>,
    pub(super) passfile: Option<String>,
    /// The loop that it stands in, where its source does.
    pub(super) over: Option<Over>,
    /// What a person should know.
    pub(super) notes: Vec<String>,
}

impl Dump {
    fn new(line: usize, source: String, name: String, form: &'static str) -> Self {
        Self {
            lines: vec![line],
            source,
            name,
            file: vec![],
            form,
            packing: "",
            recipients: vec![],
            keys: vec![],
            passfile: None,
            over: None,
            notes: vec![],
        }
    }
}

/// Where a PostgreSQL database is.
#[derive(Debug, Default)]
struct Connection {
    host: Option<String>,
    port: Option<String>,
    user: Option<String>,
    database: Option<String>,
    url: Option<String>,
}

/// Looks at the options of `pg_dump` and `pg_dumpall`.
struct Options<'a> {
    words: std::vec::IntoIter<Value>,
    connection: Connection,
    dump: Dump,
    is_cluster: bool,
    variables: &'a BTreeMap<String, Value>,
}

const WITHOUT_EFFECT: [&str; 26] = [
    "-O",
    "--no-owner",
    "-x",
    "--no-privileges",
    "--no-acl",
    "-c",
    "--clean",
    "--if-exists",
    "-C",
    "--create",
    "-v",
    "--verbose",
    "-w",
    "--no-password",
    "-W",
    "--password",
    "-b",
    "--blobs",
    "--large-objects",
    "--no-comments",
    "--no-tablespaces",
    "--quote-all-identifiers",
    "--serializable-deferrable",
    "--inserts",
    "--column-inserts",
    "--no-sync",
];

/// Reads `pg_dump …` and `pg_dumpall …`.
pub(super) fn postgres(
    line: usize,
    (program, arguments): (&str, Vec<Value>),
    variables: &BTreeMap<String, Value>,
) -> Result<Dump, String> {
    let is_cluster = program == "pg_dumpall";
    let mut options = Options {
        words: arguments.into_iter(),
        connection: Connection::of(variables)?,
        dump: Dump::new(line, String::new(), String::new(), "sql"),
        is_cluster,
        variables,
    };
    options.read()?;
    options.finish()
}

impl Connection {
    fn of(variables: &BTreeMap<String, Value>) -> Result<Self, String> {
        let value = |name: &str| -> Result<Option<String>, String> {
            let value = variables.get(name).map(|value| named(value, name)).transpose()?;
            Ok(value.filter(|text| !text.is_empty()))
        };
        Ok(Self {
            host: value("PGHOST")?,
            port: value("PGPORT")?,
            user: value("PGUSER")?,
            database: value("PGDATABASE")?,
            url: None,
        })
    }

    /// Takes a name, a URL or `key=value` pairs; passwords are left where they are.
    fn database(&mut self, value: &Value) -> Result<bool, String> {
        let text = named(value, "the name of the database")?;
        if let Some(rest) = text.strip_prefix("postgres://").or(text.strip_prefix("postgresql://")) {
            let (url, had_password) = without_password(rest);
            self.url = Some(url);
            return Ok(had_password);
        }
        if !text.contains('=') {
            self.database = Some(text);
            return Ok(false);
        }
        let mut had_password = false;
        for pair in text.split_whitespace() {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = Some(value.to_owned());
            match key {
                "host" => self.host = value,
                "port" => self.port = value,
                "user" => self.user = value,
                "dbname" => self.database = value,
                "password" => had_password = true,
                _ => {
                    return Err("its connection has parameters beside host, port, user and dbname".to_owned());
                }
            }
        }
        Ok(had_password)
    }

    fn source(&self, is_cluster: bool, own_user: Option<&str>) -> Result<(String, String), String> {
        if let Some(url) = &self.url {
            let place = url.split('?').next().unwrap_or(url);
            let name = place.rsplit('/').next().filter(|_| place.contains('/')).unwrap_or_default();
            if name.is_empty() && !is_cluster {
                return Err("its URL names no database".to_owned());
            }
            return Ok((format!("postgres://{url}"), name.to_owned()));
        }
        let user = self.user.as_deref().or(own_user);
        let database = match (is_cluster, &self.database, user) {
            (true, ..) => "*".to_owned(),
            (false, Some(database), _) => database.clone(),
            // As libpq has it.
            (false, None, Some(user)) => user.to_owned(),
            (false, None, None) => return Err("it names no database".to_owned()),
        };
        let shown = encoded(&database);
        let url = match self.host.as_deref().filter(|host| !host.is_empty() && !host.starts_with('/')) {
            Some(host) => {
                let user = self.user.as_deref().map(|user| format!("{}@", encoded(user))).unwrap_or_default();
                let port = self.port.as_deref().map(|port| format!(":{port}")).unwrap_or_default();
                format!("postgres://{user}{host}{port}/{shown}")
            }
            None => {
                let pairs = [("host", &self.host), ("port", &self.port), ("user", &self.user)];
                let pairs: Vec<String> = pairs
                    .into_iter()
                    .filter_map(|(key, value)| {
                        Some(format!("{key}={}", value.as_ref().filter(|text| !text.is_empty())?))
                    })
                    .collect();
                let query = if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) };
                format!("postgres:///{shown}{query}")
            }
        };
        Ok((url, if is_cluster { "server".to_owned() } else { database }))
    }
}

impl Options<'_> {
    fn value(&mut self, option: &str) -> Result<Value, String> {
        self.words.next().ok_or_else(|| format!("`{option}` has no value"))
    }

    fn read(&mut self) -> Result<(), String> {
        let mut had_password = false;
        while let Some(word) = self.words.next() {
            let text = marked(&word);
            if !text.starts_with('-') {
                had_password |= self.connection.database(&word)?;
                continue;
            }
            // `--host=db1`, `-hdb1`, `--host db1` and `-h db1` are one.
            let (option, attached) = match (text.split_once('='), text.starts_with("--")) {
                (Some((option, _)), true) => (option.to_owned(), Some(behind(&word, option.len() + 1))),
                (_, false) if text.len() > 2 && !"OxcCvwWbsa".contains(&text[1..2]) => {
                    (text[..2].to_owned(), Some(behind(&word, 2)))
                }
                _ => (text.clone(), None),
            };
            if WITHOUT_EFFECT.contains(&option.as_str()) {
                continue;
            }
            if !text.starts_with("--") && text.len() > 2 && attached.is_none() {
                // Several letters in one word.
                for letter in text[1..].chars() {
                    self.flag(&format!("-{letter}"))?;
                }
                continue;
            }
            let takes = self
                .with_value(&option)
                .then(|| attached.map_or_else(|| self.value(&option), Ok))
                .transpose()?;
            match takes {
                Some(value) => had_password |= self.option(&option, &value)?,
                None => self.flag(&option)?,
            }
        }
        if had_password || self.variables.contains_key("PGPASSWORD") {
            self.dump.notes.push(
                "the script holds a password, which is not taken over: put it into ~/.pgpass, or into a file that the target's \
                 `passfile` names"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Tells whether an option has a value.
    fn with_value(&self, option: &str) -> bool {
        const ALL: [&str; 27] = [
            "-h",
            "--host",
            "-p",
            "--port",
            "-U",
            "--username",
            "-d",
            "--dbname",
            "-f",
            "--file",
            "-F",
            "--format",
            "-Z",
            "--compress",
            "-j",
            "--jobs",
            "-E",
            "--encoding",
            "--lock-wait-timeout",
            "-l",
            "--database",
            "--role",
            "-t",
            "--table",
            "-n",
            "--schema",
            "--exclude-table-data",
        ];
        ALL.contains(&option) && !(self.is_cluster && option == "-t")
    }

    /// Takes an option with its value, and tells whether a password was in it.
    fn option(&mut self, option: &str, value: &Value) -> Result<bool, String> {
        match option {
            "-h" | "--host" => self.connection.host = Some(named(value, option)?),
            "-p" | "--port" => self.connection.port = Some(named(value, option)?),
            "-U" | "--username" => self.connection.user = Some(named(value, option)?),
            "-d" | "--dbname" => return self.connection.database(value),
            "-f" | "--file" => self.dump.file.clone_from(value),
            "-F" | "--format" => self.format(value)?,
            "-t" | "--table" => self.part("tables", value, option)?,
            "-n" | "--schema" => self.part("schemas", value, option)?,
            "--exclude-table-data" => self.part("exclude_table_data", value, option)?,
            // How fast and in which encoding is nothing that a plan says.
            _ => {}
        }
        Ok(false)
    }

    fn flag(&mut self, option: &str) -> Result<(), String> {
        match option {
            "-g" | "--globals-only" | "-r" | "--roles-only" | "-t" | "--tablespaces-only"
                if self.is_cluster =>
            {
                return Err(
                    "roles and tablespaces alone are nothing that a plan writes: keep the line".to_owned()
                );
            }
            "-s" | "--schema-only" if !self.is_cluster => {
                self.dump.keys.push("schema_only = true".to_owned())
            }
            "-a" | "--data-only" if !self.is_cluster => self.dump.keys.push("data_only = true".to_owned()),
            flag if WITHOUT_EFFECT.contains(&flag) => {}
            other => {
                return Err(format!(
                    "it has the option `{}`, which our configuration cannot say",
                    name_of(other)
                ));
            }
        }
        Ok(())
    }

    fn format(&mut self, value: &Value) -> Result<(), String> {
        match marked(value).as_str() {
            "p" | "plain" => self.dump.form = "sql",
            "t" | "tar" => self.dump.form = "tar",
            "c" | "custom" => {
                (self.dump.form, self.dump.packing) = ("dump", ".zst");
                self.dump.notes.push(
                    "a custom archive is written as .dump.zst, which `backstay restore` takes as it is; for stock pg_restore \
                     write form = \"dump\", which is larger"
                        .to_owned(),
                );
            }
            "d" | "directory" => {
                (self.dump.form, self.dump.packing) = ("dump", ".zst");
                self.dump.notes.push("instead of a folder one custom archive is written".to_owned());
            }
            _ => return Err("its format is none of those of pg_dump".to_owned()),
        }
        Ok(())
    }

    fn part(&mut self, key: &str, value: &Value, option: &str) -> Result<(), String> {
        let text = serde_json::Value::from(named(value, option)?).to_string();
        let begin = format!("{key} = [");
        match self.dump.keys.iter_mut().find(|line| line.starts_with(&begin)) {
            Some(line) => line.insert_str(line.len() - 1, &format!(", {text}")),
            None => self.dump.keys.push(format!("{begin}{text}]")),
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Dump, String> {
        let own_user = self.variables.get(" user").and_then(text_of);
        let (source, name) = self.connection.source(self.is_cluster, own_user.as_deref())?;
        if self.is_cluster {
            self.dump.notes.push(
                "each database of the server gets a file of its own; roles alone are not written: keep `pg_dumpall \
                 --roles-only` for them"
                    .to_owned(),
            );
        }
        self.dump.passfile = self.variables.get("PGPASSFILE").and_then(text_of);
        (self.dump.source, self.dump.name) = (source, name);
        Ok(self.dump)
    }
}

/// Returns a value that is text, or has the tenant of a loop in it.
fn named(value: &Value, what: &str) -> Result<String, String> {
    for part in value {
        match part {
            Part::Unknown(of) => {
                return Err(format!("{what} depends on {of}, which the script does not say"));
            }
            Part::Time(_) | Part::Wild(_) => return Err(format!("{what} is not the same from run to run")),
            _ => {}
        }
    }
    Ok(marked(value))
}

/// Returns a value without its first bytes of text.
fn behind(value: &Value, bytes: usize) -> Value {
    let mut value = value.clone();
    if let Some(Part::Text(text)) = value.first_mut() {
        *text = text.get(bytes..).unwrap_or_default().to_owned();
    }
    value.retain(|part| *part != Part::Text(String::new()));
    value
}

/// Takes a password out of what follows the scheme of a URL.
fn without_password(rest: &str) -> (String, bool) {
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, host) =
        authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let name = user.map(|user| user.split(':').next().unwrap_or_default());
    let had = user.is_some_and(|user| user.contains(':'));
    let (place, query) = path.split_once('?').map_or((path, None), |(place, query)| (place, Some(query)));
    let is_secret = |pair: &&str| pair.to_ascii_lowercase().starts_with("password=");
    let pairs: Vec<&str> = query.into_iter().flat_map(|query| query.split('&')).collect();
    let kept: Vec<&str> = pairs.iter().copied().filter(|pair| !is_secret(pair)).collect();
    let had = had || kept.len() < pairs.len();
    let name = name.filter(|name| !name.is_empty()).map(|name| format!("{name}@")).unwrap_or_default();
    let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    (format!("{name}{host}{place}{query}"), had)
}

fn encoded(text: &str) -> String {
    let mut shown = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b'{' | b'}' => {
                shown.push(char::from(byte));
            }
            other => shown.push_str(&format!("%{other:02X}")),
        }
    }
    shown
}

/// Reads `sqlite3 FILE ".backup …"`, `.dump`, `VACUUM INTO`. `None` where it writes no dump.
pub(super) fn sqlite(line: usize, arguments: &[Value], input: Option<&str>) -> Result<Option<Dump>, String> {
    let mut words = arguments.iter().filter(|word| !marked(word).starts_with('-'));
    let Some(database) = words.next() else { return Err("it names no database".to_owned()) };
    let said: Vec<Value> = words
        .cloned()
        .chain(input.into_iter().flat_map(str::lines).map(|line| vec![Part::Text(line.to_owned())]))
        .collect();
    for command in said {
        let text = marked(&command);
        let lower = text.to_ascii_lowercase();
        let image = [".backup", ".clone", "vacuum into"].into_iter().find(|begin| lower.starts_with(begin));
        if let Some(begin) = image {
            let mut dump = image_of(line, database)?;
            dump.file = unquoted(behind(&command, begin.len()));
            return Ok(Some(dump));
        }
        if lower.starts_with(".dump") {
            if lower.trim() != ".dump" {
                return Err("it dumps single tables, and a SQLite backup is the whole database".to_owned());
            }
            return Ok(Some(Dump { form: "sql", ..image_of(line, database)? }));
        }
    }
    Ok(None)
}

/// Takes blanks, quotes and the word main away from the name of a file.
fn unquoted(mut value: Value) -> Value {
    if let Some(Part::Text(text)) = value.first_mut() {
        let rest = text.trim_start();
        *text = rest.strip_prefix("main ").unwrap_or(rest).trim_start_matches(['\'', '"', ' ']).to_owned();
    }
    if let Some(Part::Text(text)) = value.last_mut() {
        *text = text.trim_end_matches([' ', '\'', '"', ';']).to_owned();
    }
    value.retain(|part| *part != Part::Text(String::new()));
    value
}

fn image_of(line: usize, database: &Value) -> Result<Dump, String> {
    let source = named(database, "the database")?;
    let file = source.rsplit('/').next().unwrap_or(&source);
    let name = file.rsplit_once('.').map_or(file, |(stem, _)| stem).to_owned();
    Ok(Dump::new(line, source, name, "db"))
}

const IMAGES: [&str; 5] = [".db", ".sqlite", ".sqlite3", ".db3", ".s3db"];

/// Tells whether a path is that of a SQLite database, by its ending or because a loop goes over them.
pub(super) fn is_image(path: &Value) -> bool {
    let text = marked(path).to_ascii_lowercase();
    *path == [Part::Tenant] || IMAGES.iter().any(|ending| text.ends_with(ending))
}

/// Reads `cp DATABASE FILE`. `None` where it copies something else.
pub(super) fn copy(line: usize, arguments: &[Value]) -> Result<Option<Dump>, String> {
    let paths: Vec<&Value> = arguments.iter().filter(|word| !marked(word).starts_with('-')).collect();
    let [from, to] = paths.as_slice() else { return Ok(None) };
    if !is_image(from) {
        return Ok(None);
    }
    let mut dump = image_of(line, from)?;
    dump.file = (*to).clone();
    let (_, name) = split(to);
    // Into a folder it keeps its name.
    if marked(to).ends_with('/')
        || !marked(&name).contains('.') && !name.iter().any(|part| matches!(part, Part::Time(_)))
    {
        let (_, own) = split(from);
        if !marked(to).ends_with('/') {
            dump.file.push(Part::Text("/".to_owned()));
        }
        dump.file.extend(own);
    }
    dump.notes.push("a copy of a database in use may be torn; the backup that replaces it is not".to_owned());
    Ok(Some(dump))
}
