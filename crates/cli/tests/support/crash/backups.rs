//! A database that grows from generation to generation, and backups of it: each of them must hold the generation that
//! it says, whatever was killed or cut off while they were made.

use super::content::{database, digest, look};
use super::{Stage, outcome};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::process::Command;

/// The content of each generation.
pub struct Generations {
    pub newest: u32,
    contents: BTreeMap<u32, String>,
}

impl Generations {
    /// Makes the first generation.
    pub fn begin(stage: &Stage, rows: u32) -> Self {
        database(&stage.target(), "first", rows, "delete");
        let connection = Connection::open(stage.target()).unwrap();
        connection
            .execute_batch("CREATE TABLE generation (number INTEGER); INSERT INTO generation VALUES (0)")
            .unwrap();
        drop(connection);
        let mut generations = Self { newest: 0, contents: BTreeMap::new() };
        generations.next(stage);
        generations
    }

    /// Changes a good part of the database.
    pub fn next(&mut self, stage: &Stage) {
        let number = self.newest + 1;
        self.change(
            stage,
            &format!(
                "UPDATE note SET pad = randomblob(200), word = 'g{number}' WHERE id % 3 = {number} % 3;
                 INSERT INTO note (word, pad) SELECT 'more', randomblob(200) FROM note LIMIT 100;"
            ),
        );
    }

    /// Makes the next generation by some SQL.
    pub fn change(&mut self, stage: &Stage, sql: &str) {
        self.newest += 1;
        let number = self.newest;
        let connection = Connection::open(stage.target()).unwrap();
        connection.execute_batch(&format!("UPDATE generation SET number = {number}; {sql}")).unwrap();
        drop(connection);
        self.contents.insert(number, look(&stage.target()).unwrap());
    }

    /// A restored database is one of the generations.
    pub fn assert_one(&self, path: &std::path::Path, at: &str) -> u32 {
        let number: u32 = Connection::open(path)
            .unwrap()
            .query_row("SELECT number FROM generation", [], |row| row.get(0))
            .unwrap();
        assert_eq!(
            self.contents.get(&number),
            Some(&digest(path)),
            "{at}: {} is no generation",
            path.display()
        );
        number
    }

    /// Restores every backup that is listed to a new file and compares it with its generation. Returns the
    /// generations that are there.
    pub fn assert_listed(&self, stage: &Stage, at: &str) -> Vec<u32> {
        let list = stage.done(&["list", "--json"]).json();
        let mut found = Vec::new();
        for backup in list["backups"].as_array().unwrap() {
            let id = backup["id"].as_str().unwrap();
            let folder = tempfile::tempdir_in(&stage.root).unwrap();
            let path = folder.path().join("restored.db");
            let restored = stage.run(&["restore", id, "--to-new", &path.display().to_string()]);
            assert_eq!(restored.code, Some(0), "{at}: {id} does not restore: {}", restored.err);
            let number: u32 = Connection::open(&path)
                .unwrap()
                .query_row("SELECT number FROM generation", [], |row| row.get(0))
                .unwrap();
            assert_eq!(self.contents.get(&number), Some(&digest(&path)), "{at}: {id} is no generation");
            found.push(number);
        }
        found.sort_unstable();
        found
    }
}

/// Removes the locks of dead processes and lets stock restic check the repository.
pub fn assert_stock_check(stage: &Stage, at: &str) {
    for arguments in [&["unlock"][..], &["check", "--read-data"][..]] {
        let outcome = outcome(stage.settle(&mut Command::new("restic")).args(arguments));
        assert_eq!(outcome.code, Some(0), "{at}: restic {arguments:?}: {} {}", outcome.out, outcome.err);
    }
}
