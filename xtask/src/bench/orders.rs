//! The database that is backed up: orders of a shop, 1.3 GB, made by the `sqlite3` shell.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Makes the database where it is not there yet, and returns its path.
pub(super) fn database(folder: &Path) -> Result<PathBuf, String> {
    let path = folder.join("orders.db");
    if path.exists() {
        return Ok(path);
    }
    eprintln!("making {} …", path.display());
    let partial = folder.join("orders.partial");
    let _ = std::fs::remove_file(&partial);
    run(&partial, &script(10_700_000))?;
    std::fs::rename(&partial, &path).map_err(|error| error.to_string())?;
    Ok(path)
}

/// Changes one row in a hundred, spread evenly.
pub(super) fn change(path: &Path, round: usize) -> Result<(), String> {
    // A value that was never there: SQLite does not write a row that stays as it is.
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    run(path, &format!("UPDATE orders SET status = 'c{now}' WHERE id % 100 = {};\n", round % 100))
}

fn run(path: &Path, sql: &str) -> Result<(), String> {
    let child = Command::new("sqlite3").arg(path).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut child = child.map_err(|error| format!("cannot run sqlite3: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(sql.as_bytes()).map_err(|error| error.to_string())?;
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("sqlite3 failed on {}", path.display())) }
}

fn script(orders: u64) -> String {
    format!(
        "PRAGMA page_size=4096; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-200000;
CREATE TABLE customer(id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL, city TEXT NOT NULL,
  created_at TEXT NOT NULL);
CREATE TABLE orders(id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customer(id),
  created_at TEXT NOT NULL, status TEXT NOT NULL, total_cents INTEGER NOT NULL, reference TEXT NOT NULL, note TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<200000)
INSERT INTO customer SELECT i,
  'Customer '||substr('AnnaBertaCarlDoraEmilFritzGretaHansIdaJosef', 1+(i*7)%38, 5)||' '||(i*7919%100003),
  'user'||(i*104729%1000003)||'@example.'||substr('comorgnet',1+3*(i%3),3),
  substr('Berlin    Hamburg   Munich    Cologne   Vienna    Zurich    ',1+10*(i*31%6),10),
  datetime(1600000000+i*613,'unixepoch') FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<{orders})
INSERT INTO orders SELECT i, 1+abs(random()%200000), datetime(1600000000+i*17+random()%900,'unixepoch'),
  substr('paid     shipped  returned open     cancelled',1+9*(abs(random())%5),9), 500+abs(random()%250000),
  hex(randomblob(6)),
  CASE WHEN i%3=0 THEN 'Please leave the parcel with neighbour no. '||(abs(random())%400)||', thank you' END FROM n;
CREATE INDEX orders_customer ON orders(customer_id);
CREATE INDEX orders_created ON orders(created_at);
"
    )
}
