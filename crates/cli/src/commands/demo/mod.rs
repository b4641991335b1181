//! `demo`: a sample shop is backed up, changed, backed up again, damaged, restored and compared, by the same verbs
//! that the commands use. All of it lies in one temporary folder, which is removed at the end, after an error, and
//! after an interruption; a second signal, or a kill, leaves it. With PostgreSQL it is a database of a server that is
//! started for it, from installed programs, and ends with it.

mod postgres;
mod shop;

use crate::errors::{Failure, exit};
use crate::json::Finished;
use crate::opening;
use crate::places::Places;
use crate::session::Session;
use crate::wording::{count, duration, grouped, moment, size};
use clap::{Args, ValueEnum};
use config::{RepositoryPlace, Settings};
use engines::{Ownership, Safety};
use flow::quoted;
use flow::{DumpOptions, Environment, ScratchDir};
use operations::Services;
use operations::backup::{BackupItem, BackupOptions, BackupTarget};
use operations::reference::{Moment, Reference, Selector, short};
use operations::report::{Outcome, Report};
use operations::restore::{Destination, Hooks, RestoreBody, RestoreOptions};
use serde::Serialize;
use sha2::{Digest, Sha256};
use shop::{Look, ShopError};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// See it all happen: back up, damage, restore and prove a sample database
///
/// Makes a shop with 200,000 orders in a temporary folder, backs it up, damages it, restores it, proves that nothing
/// is missing, and tells how to do the same with your own database. Touches nothing of yours.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The database system; `postgres` starts a server of its own from the installed programs
    #[arg(long, value_name = "ENGINE", default_value = "sqlite")]
    engine: Engine,

    /// Leave the folder with the database and its repository
    #[arg(long)]
    keep: bool,
}

/// What is demonstrated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Engine {
    /// A file
    Sqlite,
    /// A server that is started for it
    Postgres,
}

/// One thing that was done.
#[derive(Debug, Serialize)]
struct Step {
    name: &'static str,
    elapsed_ms: u64,
}

/// The report's own part.
#[derive(Debug, Serialize)]
struct DemoBody {
    /// What was demonstrated.
    engine: Engine,
    /// The folder.
    folder: String,
    /// Whether it was left.
    kept: bool,
    /// What was done.
    steps: Vec<Step>,
    /// Whether the restored database is the one that was backed up: byte for byte, or row by row.
    equal: bool,
}

pub(crate) fn run(session: &Session, options: &Options) -> Result<Finished, Failure> {
    let mut folder = tempfile::Builder::new()
        .prefix("backstay-demo-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .map_err(|error| {
            Failure::new(exit::FAILED, "a temporary folder cannot be made")
                .with_cause(&error)
                .with_hint("set TMPDIR to a folder that may be written")
        })?;
    folder.disable_cleanup(options.keep);
    // The name by which backups know the file is its canonical one.
    let root = config::canonical_path(folder.path());
    if options.engine == Engine::Postgres {
        return postgres::run(session, &root, options.keep);
    }
    let mut demo = Demo::begin(session, &root)?;
    let equal = demo.tell_all()?;
    let body = DemoBody {
        engine: Engine::Sqlite,
        folder: root.display().to_string(),
        kept: options.keep,
        steps: std::mem::take(&mut demo.steps.0),
        equal,
    };
    demo.farewell(options.keep)?;
    finished(session, body)
}

fn finished(session: &Session, body: DemoBody) -> Result<Finished, Failure> {
    let equal = body.equal;
    let outcome = if equal { Outcome::Complete } else { Outcome::Failed };
    let report = Report::new("demo", session.started, outcome, body);
    if equal {
        return Finished::new(&report);
    }
    Finished::failing(
        report,
        Failure::new(exit::FAILED, "the restored database is not the one that was backed up"),
    )
}

/// Prepares a session whose every place is below the folder: nothing of the person's own is used or touched.
fn own_session(session: &Session, root: &Path) -> Session {
    let mut own = session.clone();
    own.globals.repository = None;
    own.globals.config = None;
    own.settings = Settings::default();
    own.engines = operations::Engines::all(flow::SafetySuffix::default());
    own.places = Places {
        config: root.join("config"),
        data: root.join("data"),
        state: root.join("state"),
        cache: root.join("cache"),
        home: None,
    };
    own.context.environment = Environment::default();
    own.context.scratch = ScratchDir::new(root.join("scratch"));
    own
}

/// Backs one database up, as the command does.
fn back_up(session: &Session, services: &Services, text: &str) -> Result<BackupItem, Failure> {
    let target = config::source(None, text, &session.working_folder)?;
    let options = BackupOptions {
        configuration: None,
        targets: vec![BackupTarget {
            target,
            plan: None,
            only: None,
            among: None,
            selection: None,
            before: None,
            after: None,
            tags: vec![],
            retention: None,
        }],
        dump: DumpOptions::default(),
        dry_run: false,
    };
    let mut result = operations::backup::run(services, &options)?;
    if let Some(error) = result.errors.pop() {
        return Err(error.into());
    }
    result.report.body.backups.pop().ok_or_else(|| Failure::new(exit::FAILED, "nothing was backed up"))
}

/// Restores the newest backup to where it came from. `place` is the name by which backups know it.
fn restore_newest(services: &Services, place: &str) -> Result<Report<RestoreBody>, Failure> {
    let options = RestoreOptions {
        backup: Reference {
            text: format!("{place}@latest"),
            selector: Selector::Place(place.to_owned()),
            moment: Moment::Newest,
        },
        destination: Destination::Origin,
        in_place: false,
        safety: Safety::Beside,
        verify: true,
        ownership: Ownership::default(),
        tables: Vec::new(),
        schema_only: false,
        data_only: false,
        hooks: Hooks::default(),
        fallback: false,
        dry_run: false,
    };
    // Whoever started the demonstration has agreed to lose the sample.
    Ok(operations::restore::run(services, &options, &mut |_| Ok(()))?)
}

/// Says one thing after the other, and keeps how long each took.
#[derive(Default)]
struct Steps(Vec<Step>);

impl Steps {
    fn took(&self) -> String {
        self.0.last().map(|step| duration(step.elapsed_ms)).unwrap_or_default()
    }

    /// Does something, unless the person does not want any more.
    fn step<T>(
        &mut self,
        session: &Session,
        name: &'static str,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        let interrupted = |_| Failure::new(exit::INTERRUPTED, "interrupted");
        session.context.cancel.check().map_err(interrupted)?;
        let outcome = work();
        session.context.cancel.check().map_err(interrupted)?;
        let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.push(Step { name, elapsed_ms });
        outcome
    }
}

struct Demo {
    session: Session,
    services: Services,
    database: PathBuf,
    repository: PathBuf,
    key_file: Option<PathBuf>,
    /// The person's own, which is not touched here.
    default_repository: PathBuf,
    steps: Steps,
}

impl Demo {
    fn begin(session: &Session, root: &Path) -> Result<Self, Failure> {
        let own = own_session(session, root);
        let repository = root.join("repository");
        let place = RepositoryPlace::at(repository.clone());
        let made = opening::create(&own, &place)?;
        let services = opening::services(&own, made.repository)?;
        let database = root.join("shop.db");
        Ok(Self {
            session: own,
            services,
            database,
            repository,
            key_file: made.key_file,
            default_repository: session.places.default_repository(),
            steps: Steps::default(),
        })
    }

    /// Does it all and tells it; returns whether the outcome is what was backed up.
    fn tell_all(&mut self) -> Result<bool, Failure> {
        let sample = self.step("make a sample database", |demo| {
            shop::make(&demo.database, &demo.session.context.cancel).map_err(shop_failure)?;
            demo.look()
        })?;
        self.tell_sample(&sample)?;
        let first = self.step("back it up", Self::backup)?;
        self.tell_first(&first)?;
        let before = self.step("a day of trade", |demo| {
            shop::a_day_of_trade(&demo.database, &demo.session.context.cancel).map_err(shop_failure)?;
            demo.look()
        })?;
        let hash = digest(&self.database)?;
        let second = self.step("back it up again", Self::backup)?;
        self.tell_second(&first, &second, &before)?;
        let deleted = self.step("damage it", |demo| shop::damage(&demo.database).map_err(sqlite_failure))?;
        self.tell_damage(deleted)?;
        let restored = self.step("restore it", Self::restore)?;
        self.tell_restore(&restored)?;
        let (after, hash_after) = self.step("compare", |demo| Ok((demo.look()?, digest(&demo.database)?)))?;
        let verified = self.step("verify the repository", |demo| {
            Ok(operations::check::run(&demo.services, repository::CheckDepth::Data)?)
        })?;
        let equal = before == after && hash == hash_after && verified.body.errors.is_empty();
        self.tell_proof(&before, &after, &hash, &hash_after)?;
        self.say(&format!(
            "   Every byte of the repository was read back ({}): nothing is damaged.\n",
            size(verified.body.bytes_read)
        ))?;
        Ok(equal)
    }

    fn step<T>(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let session = self.session.clone();
        let mut steps = std::mem::take(&mut self.steps);
        let outcome = steps.step(&session, name, || work(self));
        self.steps = steps;
        outcome
    }

    fn look(&mut self) -> Result<Look, Failure> {
        shop::look(&self.database).map_err(sqlite_failure)
    }

    fn backup(&mut self) -> Result<BackupItem, Failure> {
        back_up(&self.session, &self.services, &self.database.display().to_string())
    }

    fn restore(&mut self) -> Result<Report<RestoreBody>, Failure> {
        restore_newest(&self.services, &self.database.display().to_string())
    }

    fn say(&self, text: &str) -> Result<(), Failure> {
        Ok(self.session.console.data(&format!("{text}\n"))?)
    }

    fn took(&self) -> String {
        self.steps.took()
    }

    fn tell_sample(&self, sample: &Look) -> Result<(), Failure> {
        let bytes = std::fs::metadata(&self.database).map_or(0, |metadata| metadata.len());
        self.say(&format!(
            "1. Made a sample shop in {}: {} ({}).",
            self.took(),
            self.database.display(),
            size(bytes)
        ))?;
        self.say(&tables(sample))
    }

    fn tell_first(&self, first: &BackupItem) -> Result<(), Failure> {
        self.say(&format!(
            "2. Backed it up in {}: {} of pages became {} in the repository, compressed and encrypted.",
            self.took(),
            size(first.size_bytes.unwrap_or(0)),
            size(first.added_bytes.unwrap_or(0))
        ))?;
        self.say(&format!(
            "   Every byte that was written was read back and its hash compared: proof level `{}`.\n   The id of the backup: {}\n",
            first.proof.map(|level| level.to_string()).unwrap_or_default(),
            id(first)
        ))
    }

    fn tell_second(&self, first: &BackupItem, second: &BackupItem, before: &Look) -> Result<(), Failure> {
        let (name, time, cents) = &before.newest;
        self.say(&format!(
            "3. A day went by: 250 new orders, new prices in the garden department, parcels delivered.\n   The newest order is that of {name}, {time}, {}.",
            money(*cents)
        ))?;
        self.say(&format!(
            "   Backed it up again in {}: a full backup, that added {} ({} the first time).\n   The id of the backup: {}\n",
            self.took(),
            size(second.added_bytes.unwrap_or(0)),
            size(first.added_bytes.unwrap_or(0)),
            id(second)
        ))
    }

    fn tell_damage(&self, deleted: u64) -> Result<(), Failure> {
        let error = shop::look(&self.database).err().map(|error| error.to_string()).unwrap_or_default();
        self.say(&format!(
            "4. Somebody ran the wrong script: DELETE FROM orders WHERE ordered_at >= '2026-01-01' ({}),\n   then DROP TABLE customers. The shop now says: {error}\n",
            count(deleted, "row gone", "rows gone")
        ))
    }

    fn tell_restore(&self, restored: &Report<RestoreBody>) -> Result<(), Failure> {
        let body = &restored.body;
        let time = body.backup_time.map(|time| moment(time, &self.session.zone)).unwrap_or_default();
        self.say(&format!("5. Restored the backup of {time} in {}:", self.took()))?;
        for step in &body.steps {
            let what = match step.name.as_str() {
                "preflight" => "looked for space, rights and users of the file",
                "beside" => "wrote the database beside the damaged one",
                "verify" => "compared each block with the backup, and checked its structure and rows",
                "quiesce" => "made sure that nobody uses the damaged one",
                "swap" => "put the new one in its place by a rename",
                "finish" => "closed the record that would have finished or undone it after a crash",
                other => other,
            };
            self.say(&format!("   - {what} ({})", duration(step.elapsed_ms)))?;
        }
        if let Some(copy) = &body.safety_copy {
            self.say(&format!("   The damaged one was kept, just in case: {copy}"))?;
        }
        self.say("")
    }

    fn tell_proof(&self, before: &Look, after: &Look, hash: &str, hash_after: &str) -> Result<(), Failure> {
        self.say("6. Is it all there again? Before the accident, and now:")?;
        let mut rows: Vec<Vec<String>> = before
            .rows
            .iter()
            .zip(&after.rows)
            .map(|((table, before), (_, after))| {
                compared(&format!("rows of {table}"), &grouped(*before), &grouped(*after))
            })
            .collect();
        rows.push(compared("revenue", &money(before.revenue_cents), &money(after.revenue_cents)));
        rows.push(compared("newest order", &before.newest.1, &after.newest.1));
        let start = |hash: &str| format!("{}…", hash.get(..16).unwrap_or(hash));
        rows.push(vec![
            "SHA-256 of the file".to_owned(),
            start(hash),
            start(hash_after),
            verdict(hash == hash_after),
        ]);
        self.say(&indented(&crate::wording::table(&["", "BEFORE", "NOW", ""], rows, &[1, 2])))
    }

    /// Tells how to do the same with one's own database.
    fn farewell(&self, keep: bool) -> Result<(), Failure> {
        let program =
            std::env::current_exe().map_or("backstay".to_owned(), |path| path.display().to_string());
        let program = quoted(&program);
        self.say(&format!(
            "With your own SQLite database, whoever uses it meanwhile:\n
  {program} doctor /path/of/your.db
  {program} backup /path/of/your.db
  {program} list
  {program} restore /path/of/your.db@latest --dry-run
  {program} restore /path/of/your.db@latest\n
The first backup makes a repository, {}, and its key.",
            self.default_repository.display()
        ))?;
        if !keep {
            return self.say("Everything of this demonstration was removed; `demo --keep` leaves it.");
        }
        let key = self.key_file.as_ref().map(|path| quoted(&path.display().to_string())).unwrap_or_default();
        let repository = quoted(&self.repository.display().to_string());
        self.say(&format!(
            "The folder of this demonstration was left. To look around in it:\n
  export BACKSTAY_REPOSITORY={repository} BACKSTAY_PASSWORD_FILE={key}
  {program} list
  {program} show latest
  {program} export latest --out /tmp/shop.sql"
        ))
    }
}

fn id(item: &BackupItem) -> String {
    item.id.as_ref().map(|id| short(&id.0)).unwrap_or_default()
}

fn tables(look: &Look) -> String {
    let rows = look.rows.iter().map(|(table, rows)| vec![table.clone(), format!("{} rows", grouped(*rows))]);
    let mut rows: Vec<Vec<String>> = rows.collect();
    rows.push(vec!["revenue".to_owned(), money(look.revenue_cents)]);
    indented(&crate::wording::table(&["", ""], rows, &[1]))
}

fn indented(table: &str) -> String {
    let lines: Vec<String> =
        table.lines().filter(|line| !line.trim().is_empty()).map(|line| format!("   {line}")).collect();
    format!("{}\n", lines.join("\n"))
}

fn compared(what: &str, before: &str, after: &str) -> Vec<String> {
    vec![what.to_owned(), before.to_owned(), after.to_owned(), verdict(before == after)]
}

fn verdict(equal: bool) -> String {
    if equal { "equal" } else { "DIFFERENT" }.to_owned()
}

fn money(cents: i64) -> String {
    let whole = u64::try_from(cents / 100).unwrap_or(0);
    format!("€ {}.{:02}", grouped(whole), cents % 100)
}

fn digest(path: &Path) -> Result<String, Failure> {
    let failure = |error: std::io::Error| {
        Failure::new(exit::FAILED, format!("{} cannot be read", path.display())).with_cause(&error)
    };
    let mut file = File::open(path).map_err(failure)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).map_err(failure)?;
        if count == 0 {
            break;
        }
        hash.update(buffer.get(..count).unwrap_or_default());
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn sqlite_failure(error: rusqlite::Error) -> Failure {
    Failure::new(exit::FAILED, "the sample database failed").with_cause(&error)
}

fn shop_failure(error: ShopError) -> Failure {
    match error {
        ShopError::Sqlite(error) => sqlite_failure(error),
        ShopError::Interrupted => Failure::new(exit::INTERRUPTED, "interrupted"),
    }
}
