//! A seeded random history against a naive model: databases change, are backed up, pruned and restored, keys come and
//! go, processes are killed, two work at once. After each step the repository lists what the model has, and what is
//! restored is what it says.
//!
//! Forty steps by default, 500 with `BACKSTAY_LONG=1`; the seed is printed, and `BACKSTAY_SEED` sets another.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../support/crash/mod.rs"]
mod crash;
mod model;
mod world;

use crash::{long, seed};
use std::collections::BTreeMap;
use world::World;

const STEPS: u32 = 40;
const STEPS_LONG: u32 = 500;
/// After so many steps everything is restored, and stock restic reads every byte.
const JUDGED_EVERY: u32 = 25;

/// What a step may be, and how often of a hundred.
const KINDS: [(&str, usize); 11] = [
    ("change", 24),
    ("back up", 22),
    ("back up, killed", 7),
    ("prune", 8),
    ("prune, killed", 6),
    ("restore beside", 10),
    ("restore over", 5),
    ("restore over, killed", 5),
    ("key", 3),
    ("check", 2),
    ("two at once", 8),
];

fn drawn(world: &mut World) -> &'static str {
    let mut number = world.draw.below(KINDS.iter().map(|(_, weight)| weight).sum());
    for (kind, weight) in KINDS {
        if number < weight {
            return kind;
        }
        number -= weight;
    }
    unreachable!("the weights cover what is drawn")
}

fn step(world: &mut World, kind: &str) {
    match kind {
        "change" => world.change(),
        "back up" => world.back_up(),
        "back up, killed" => world.back_up_killed(),
        "prune" => world.prune(),
        "prune, killed" => world.prune_killed(),
        "restore beside" => world.restore_beside(),
        "restore over" => world.restore_over(),
        "restore over, killed" => world.restore_over_killed(),
        "key" => world.change_keys(),
        "check" => world.check(),
        _ => world.two_at_once(),
    }
}

#[test]
fn what_is_listed_is_what_was_backed_up() {
    println!("seed {}", seed());
    let mut world = World::new(seed());
    let mut histogram: BTreeMap<&str, u32> = BTreeMap::new();
    for number in 1..=if long() { STEPS_LONG } else { STEPS } {
        let kind = drawn(&mut world);
        *histogram.entry(kind).or_default() += 1;
        world.at = format!("seed {}, step {number}, {kind}", seed());
        step(&mut world, kind);
        if number % JUDGED_EVERY == 0 {
            world.judge();
        }
    }
    world.at = format!("seed {}, at the end", seed());
    world.judge();
    println!("{histogram:?}\n{:?}", world.counts);
}
