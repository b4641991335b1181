//! The demonstration with PostgreSQL: a sample shop on a server that is started for it, backed up while it runs, damaged,
//! restored and compared row by row.

use super::{
    DemoBody, Engine, Steps, back_up, compared, finished, id, indented, own_session, restore_newest,
};
use crate::errors::{Failure, exit};
use crate::json::Finished;
use crate::opening;
use crate::session::Session;
use crate::wording::{count, duration, grouped, moment, size};
use config::RepositoryPlace;
use engines::postgres::{InstalledServer, PostgresEngine, ThrowawayServer, installed_server};
use engines::{Engine as _, FactsDepth};
use flow::{DatabaseName, DatabaseRef, Facts, quoted};
use operations::Services;
use operations::backup::BackupItem;
use operations::report::Report;
use operations::restore::RestoreBody;
use std::path::{Path, PathBuf};

const DATABASE: &str = "shop";
const TABLES: [&str; 4] = ["customers", "order_lines", "orders", "products"];

const SCHEMA: &str = "
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, email text NOT NULL, city text NOT NULL, profile jsonb NOT NULL);
CREATE TABLE products (id int PRIMARY KEY, name text NOT NULL, category text NOT NULL, price numeric(10,2) NOT NULL);
CREATE TABLE orders (id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customers, ordered_at timestamptz NOT NULL, status text NOT NULL);
CREATE TABLE order_lines (order_id int REFERENCES orders, line int, product_id int NOT NULL REFERENCES products, quantity int NOT NULL,
  price numeric(10,2) NOT NULL, PRIMARY KEY (order_id, line));
";

/// The same content every time.
const CONTENT: &str = "
INSERT INTO products SELECT i, (ARRAY['plain','blue','green','copper','oak','striped'])[1 + i % 6] || ' ' ||
  (ARRAY['kettle','teapot','lantern','doormat','notebook','backpack','bird feeder'])[1 + i % 7] || ' no. ' || i,
  (ARRAY['kitchen','light','home','garden','paper','travel'])[1 + i % 6], 4.99 + (i * 37 % 9000) / 100.0
  FROM generate_series(1, 300) AS i;
INSERT INTO customers SELECT i, (ARRAY['Anna','Ben','Carla','David','Elif','Felix','Greta','Hugo'])[1 + i % 8] || ' ' ||
  (ARRAY['Adler','Bauer','Costa','Dubois','Eriksen','Fischer','García','Novak','Yılmaz'])[1 + i / 8 % 9],
  'customer' || i || '@example.com', (ARRAY['Berlin','Lyon','Porto','Zürich','Gdańsk'])[1 + i % 5],
  jsonb_build_object('newsletter', i % 3 = 0, 'since', 2015 + i % 11, 'notes', md5(i::text))
  FROM generate_series(1, 20000) AS i;
INSERT INTO orders SELECT i, 1 + i * 7919 % 20000, timestamptz '2023-11-20 09:00:00+00' + i * interval '1570 seconds',
  (ARRAY['delivered','delivered','delivered','shipped','returned','cancelled'])[1 + i % 6] FROM generate_series(1, 60000) AS i;
INSERT INTO order_lines SELECT o, l, 1 + (o * 31 + l * 17) % 300, 1 + o % 3, 4.99 + (o * l * 37 % 9000) / 100.0
  FROM generate_series(1, 60000) AS o, generate_series(1, 1 + o % 3) AS l;
CREATE INDEX orders_by_customer ON orders (customer_id);
CREATE INDEX orders_by_time ON orders (ordered_at);
CREATE INDEX customers_by_profile ON customers USING gin (profile);
CREATE VIEW revenue AS SELECT sum(quantity * price) AS total FROM order_lines JOIN orders ON orders.id = order_id WHERE status <> 'cancelled';
";

const A_DAY: &str = "
INSERT INTO orders SELECT i, 1 + i * 7919 % 20000, timestamptz '2023-11-20 09:00:00+00' + i * interval '1570 seconds', 'paid'
  FROM generate_series(60001, 60250) AS i;
INSERT INTO order_lines SELECT o, 1, 1 + o % 300, 2, 12.50 FROM generate_series(60001, 60250) AS o;
UPDATE products SET price = round(price * 1.05, 2) WHERE category = 'garden';
UPDATE orders SET status = 'delivered' WHERE status = 'shipped' AND id > 59000;
";

const ACCIDENT: &str = "
DELETE FROM order_lines WHERE order_id > 30000;
WITH gone AS (DELETE FROM orders WHERE id > 30000 RETURNING 1) SELECT count(*) FROM gone;
DROP TABLE customers CASCADE;
";

/// What a person would look at, and every row.
#[derive(Debug, Clone, PartialEq)]
struct Look {
    revenue: String,
    newest: String,
    facts: Facts,
}

/// Shows it all in a folder that is there.
pub(super) fn run(session: &Session, root: &Path, keep: bool) -> Result<Finished, Failure> {
    let Some(installed) = installed_server(&session.context) else {
        return Err(Failure::new(
            exit::FAILED,
            "no PostgreSQL server is installed here whose programs the demonstration could start",
        )
        .with_hint("Debian: apt-get install postgresql; or see it with SQLite: backstay demo"));
    };
    let mut demo = Demo::begin(session, root, &installed)?;
    let equal = demo.tell_all(&installed)?;
    demo.farewell(keep, &installed)?;
    let body = DemoBody {
        engine: Engine::Postgres,
        folder: root.display().to_string(),
        kept: keep,
        steps: std::mem::take(&mut demo.steps.0),
        equal,
    };
    finished(session, body)
}

struct Demo {
    session: Session,
    services: Services,
    server: ThrowawayServer,
    repository: PathBuf,
    key_file: Option<PathBuf>,
    steps: Steps,
}

impl Demo {
    fn begin(session: &Session, root: &Path, installed: &InstalledServer) -> Result<Self, Failure> {
        let mut own = own_session(session, root);
        // The programs are found where the server is.
        let path = ("PATH".to_owned(), format!("{}:/usr/bin:/bin", installed.folder.display()));
        own.context.environment = flow::Environment::new([path]);
        let mut steps = Steps::default();
        let server = steps.step(&own, "start a server", || {
            ThrowawayServer::start(installed, root, &own.context.cancel).map_err(Failure::from)
        })?;
        let repository = root.join("repository");
        let made = opening::create(&own, &RepositoryPlace::at(repository.clone()))?;
        let services = opening::services(&own, made.repository)?;
        Ok(Self { session: own, services, server, repository, key_file: made.key_file, steps })
    }

    fn step<T>(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut steps = std::mem::take(&mut self.steps);
        let outcome = steps.step(&self.session, name, || work(self));
        self.steps = steps;
        outcome
    }

    fn tell_all(&mut self, installed: &InstalledServer) -> Result<bool, Failure> {
        self.say(&format!(
            "1. Started a PostgreSQL {} of its own in {}, which nobody else can reach.",
            installed.version,
            self.steps.took()
        ))?;
        let sample = self.step("make a sample database", |demo| {
            demo.server.sql("postgres", &format!("CREATE DATABASE {DATABASE}"))?;
            demo.server.sql(DATABASE, &format!("{SCHEMA}{CONTENT}ANALYZE;"))?;
            demo.look()
        })?;
        self.say(&format!(
            "   Made a sample shop in {} ({}):",
            self.steps.took(),
            size(sample.facts.size_bytes)
        ))?;
        self.say(&tables(&sample))?;
        let first = self.step("back it up", Self::backup)?;
        self.tell_first(&first)?;
        let before = self.step("a day of trade", |demo| {
            demo.server.sql(DATABASE, A_DAY)?;
            demo.look()
        })?;
        let second = self.step("back it up again", Self::backup)?;
        self.tell_second(&first, &second, &before)?;
        let deleted = self.step("damage it", |demo| Ok(demo.server.sql(DATABASE, ACCIDENT)?))?;
        self.tell_damage(&deleted)?;
        let restored =
            self.step("restore it", |demo| restore_newest(&demo.services, &demo.server.url(DATABASE)))?;
        self.tell_restore(&restored)?;
        let after = self.step("compare", Self::look)?;
        let verified = self.step("verify the repository", |demo| {
            Ok(operations::check::run(&demo.services, repository::CheckDepth::Data)?)
        })?;
        self.tell_proof(&before, &after)?;
        self.say(&format!(
            "   Every byte of the repository was read back ({}): nothing is damaged.\n",
            size(verified.body.bytes_read)
        ))?;
        let same = before.revenue == after.revenue
            && before.newest == after.newest
            && before.facts.tables == after.facts.tables;
        Ok(same && verified.body.errors.is_empty())
    }

    fn backup(&self) -> Result<BackupItem, Failure> {
        back_up(&self.session, &self.services, &self.server.url(DATABASE))
    }

    fn look(&self) -> Result<Look, Failure> {
        let one = |sql: &str| self.server.sql(DATABASE, sql);
        let name = |text: &str| {
            DatabaseName::new(text).map_err(|error| Failure::new(exit::FAILED, error.to_string()))
        };
        let target = config::source(None, &self.server.url(DATABASE), &self.session.working_folder)?;
        let database =
            DatabaseRef { target: target.name, name: name(DATABASE)?, connection: target.connection };
        Ok(Look {
            revenue: one("SELECT '€ ' || to_char(total, 'FM999,999,999.00') FROM revenue")?,
            newest: one(
                "SELECT to_char(max(ordered_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') FROM orders",
            )?,
            facts: PostgresEngine.facts(&database, FactsDepth::Digests, &self.session.context)?,
        })
    }

    fn say(&self, text: &str) -> Result<(), Failure> {
        Ok(self.session.console.data(&format!("{text}\n"))?)
    }

    fn tell_first(&self, first: &BackupItem) -> Result<(), Failure> {
        self.say(&format!(
            "2. Backed it up in {}, everybody could go on writing: {} of rows became {} in the repository, compressed and encrypted.\n   \
             Every byte that was written was read back and its hash compared: proof level `{}`.\n   The id of the backup: {}\n",
            self.steps.took(),
            size(first.size_bytes.unwrap_or(0)),
            size(first.added_bytes.unwrap_or(0)),
            first.proof.map(|level| level.to_string()).unwrap_or_default(),
            id(first)
        ))
    }

    fn tell_second(&self, first: &BackupItem, second: &BackupItem, before: &Look) -> Result<(), Failure> {
        self.say(&format!(
            "3. A day went by: 250 new orders, new prices in the garden department, parcels delivered. The newest order is of\n   \
             {}. Backed it up again in {}: a full backup, that added {} ({} the first time).\n   The id of the backup: {}\n",
            before.newest,
            self.steps.took(),
            size(second.added_bytes.unwrap_or(0)),
            size(first.added_bytes.unwrap_or(0)),
            id(second)
        ))
    }

    fn tell_damage(&self, deleted: &str) -> Result<(), Failure> {
        let broken = self.server.sql(DATABASE, "SELECT count(*) FROM customers").err();
        let error = broken.map(|failure| failure.message).unwrap_or_default();
        let rows = deleted.lines().find_map(|line| line.trim().parse().ok()).unwrap_or(0);
        self.say(&format!(
            "4. Somebody ran the wrong script: DELETE FROM orders WHERE id > 30000 ({}),\n   then DROP TABLE customers \
             CASCADE. The shop now says: {error}\n",
            count(rows, "row gone", "rows gone")
        ))
    }

    fn tell_restore(&self, restored: &Report<RestoreBody>) -> Result<(), Failure> {
        let body = &restored.body;
        let time = body.backup_time.map(|time| moment(time, &self.session.zone)).unwrap_or_default();
        self.say(&format!("5. Restored the backup of {time} in {}:", self.steps.took()))?;
        for step in &body.steps {
            let what = match step.name.as_str() {
                "preflight" => "looked for versions, rights, roles and sessions",
                "beside" => "loaded it into a new database beside the damaged one",
                "verify" => "compared rows and digest of each table with the backup",
                "quiesce" => "let nobody in any more",
                "swap" => "gave it the name of the damaged one, in one transaction",
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

    fn tell_proof(&self, before: &Look, after: &Look) -> Result<(), Failure> {
        self.say("6. Is it all there again? Before the accident, and now:")?;
        let mut rows = Vec::new();
        for (one, other) in before.facts.tables.iter().zip(&after.facts.tables) {
            let shown = |rows: Option<u64>| rows.map(grouped).unwrap_or_default();
            rows.push(compared(&format!("rows of {}", one.name), &shown(one.rows), &shown(other.rows)));
            let digest = |table: &flow::TableFacts| {
                let digest = table.digest.map(|digest| format!("{digest:?}")).unwrap_or_default();
                digest.get(..16).map(|start| format!("{start}…")).unwrap_or_default()
            };
            rows.push(compared("  digest of all of them", &digest(one), &digest(other)));
        }
        rows.push(compared("revenue", &before.revenue, &after.revenue));
        rows.push(compared("newest order", &before.newest, &after.newest));
        self.say(&indented(&crate::wording::table(&["", "BEFORE", "NOW", ""], rows, &[1, 2])))
    }

    fn farewell(&self, keep: bool, installed: &InstalledServer) -> Result<(), Failure> {
        let program =
            std::env::current_exe().map_or("backstay".to_owned(), |path| path.display().to_string());
        let program = quoted(&program);
        self.say(&format!(
            "With your own database, whoever uses it meanwhile:\n
  {program} role postgres://postgres@HOST/DATABASE --role backup      the SQL for a role that may only read
  {program} doctor postgres://backup@HOST/DATABASE                    what would stand in the way
  {program} backup postgres://backup@HOST/DATABASE
  {program} list
  {program} restore postgres://HOST/DATABASE@latest --target postgres://postgres@HOST/DATABASE --dry-run
  {program} restore postgres://HOST/DATABASE@latest --target postgres://postgres@HOST/DATABASE"
        ))?;
        if !keep {
            return self.say("Everything of this demonstration was removed; `demo --keep` leaves it.");
        }
        let text = |path: &Path| quoted(&path.display().to_string());
        let key = self.key_file.as_deref().map(text).unwrap_or_default();
        self.say(&format!(
            "The folder of this demonstration was left, its server is stopped. To look around in the repository:\n
  export BACKSTAY_REPOSITORY={} BACKSTAY_PASSWORD_FILE={key}
  {program} list
  {program} show latest\n
The server's programs are in {}.",
            text(&self.repository),
            installed.folder.display()
        ))
    }
}

fn tables(look: &Look) -> String {
    let rows = TABLES.iter().filter_map(|name| {
        let table = look.facts.tables.iter().find(|table| table.name.ends_with(&format!(".{name}")))?;
        Some(vec![(*name).to_owned(), format!("{} rows", grouped(table.rows?))])
    });
    let mut rows: Vec<Vec<String>> = rows.collect();
    rows.push(vec!["revenue".to_owned(), look.revenue.clone()]);
    indented(&crate::wording::table(&["", ""], rows, &[1]))
}
