//! What went wrong with other programs, as their users told it in public trackers: each case is tried here, and the
//! right thing happens. One file a kind of lesson, one test a thread, named after it.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub)]

mod green_lights;
mod people;
mod repositories;
#[path = "../seams/mod.rs"]
mod seams;
mod sqlite;
#[path = "../support/mod.rs"]
mod support;

use seams::Place;
use serde_json::Value;

/// What a list says, oldest first.
fn listed(place: &Place) -> Vec<Value> {
    place.json(&["list"])["backups"].as_array().unwrap().clone()
}

fn ids(place: &Place) -> Vec<String> {
    listed(place).iter().map(|backup| backup["id"].as_str().unwrap().to_owned()).collect()
}

/// Restores a backup beside everything and returns its bytes.
fn restored(place: &Place, id: &str) -> Vec<u8> {
    let name = format!("restored-{id}.db");
    place.done(&["restore", id, "--to-new", &format!("./{name}")]);
    let content = std::fs::read(place.path(&name)).unwrap();
    std::fs::remove_file(place.path(&name)).unwrap();
    content
}
