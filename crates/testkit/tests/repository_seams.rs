//! The suite of repositories on the one in memory, and on a mutant for each promise.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use flow::{Context, ScratchDir};
use std::sync::Arc;
use testkit::{
    FakeRepository, FreshRepository, RepositoryFlaw as Flaw, assert_caught, broken_repository_promises,
    repository_conformance,
};

fn fresh(repository: FakeRepository) -> FreshRepository {
    let (again, damaged, hidden) = (repository.clone(), repository.clone(), repository.clone());
    FreshRepository {
        repository: Arc::new(repository),
        reopen: Box::new(move || Arc::new(again.clone())),
        context: Context::quiet(ScratchDir::new("/nowhere")),
        damage: Some(Box::new(move |id| damaged.damage(id))),
        hide: Some(Box::new(move |id| hidden.hide(id))),
        keep: Box::new(()),
    }
}

#[test]
fn the_repository_in_memory_keeps_every_promise() {
    repository_conformance(|| fresh(FakeRepository::new()));
}

#[test]
fn each_mutant_is_caught() {
    let flaws = [
        (Flaw::VisibleBeforeCommit, "nothing is visible before commit"),
        (Flaw::GarblesContent, "what was stored comes back"),
        (Flaw::JoinsInArrivalOrder, "parts are joined in the order of their places"),
        (Flaw::KeepsFirstOfPart, "the same place again replaces the part"),
        (Flaw::AcceptsGaps, "a gap is refused"),
        (Flaw::AcceptsSurplus, "a surplus is refused"),
        (Flaw::AcceptsOtherSizes, "a size that differs is refused"),
        (Flaw::HidesSourceErrors, "a source error fails the database"),
        (Flaw::KeepsDiscarded, "a discarded database is not kept"),
        (Flaw::CommitsUnfinished, "commit refuses an unfinished database"),
        (Flaw::CommitsNothing, "commit refuses an empty snapshot"),
        (Flaw::ForgetsUnchanged, "unchanged takes the previous backup"),
        (Flaw::ForgetsChangedTime, "unchanged keeps the time of change"),
        (Flaw::ForgetsSuspicion, "a suspicion is kept with the backup"),
        (Flaw::ClearsSuspicion, "unchanged keeps the suspicion"),
        (Flaw::IgnoresAcceptance, "an acceptance takes the suspicion of the content away"),
        (Flaw::TrustsSuspect, "the baseline is the newest that is not suspect"),
        (Flaw::ForgetsOthers, "a run of one database says nothing of the others"),
        (Flaw::PartIsWhole, "recent runs tell their databases"),
        (Flaw::SelectionIsWhole, "a backup of a part is measured by those of that part alone"),
        (Flaw::ReusesByNewPlace, "reuse takes the part of the previous place"),
        (Flaw::KeepsOldMarks, "previous has the newest marks"),
        (Flaw::AnyHost, "previous is of this host"),
        (Flaw::AnyTarget, "backups are of the target asked for"),
        (Flaw::NewestFirst, "backups are listed oldest first"),
        (Flaw::OpensAnything, "an unknown id is NoBackup"),
        (Flaw::LosesProofs, "proofs are kept"),
        (Flaw::KeepsOldRecords, "state of each subject is what was said last"),
        (Flaw::KeepsRemovedKeys, "keys open until they are removed"),
        (Flaw::RemovesKeyInUse, "keys open until they are removed"),
        (Flaw::ReplacesBeforeKept, "a key is replaced in an order that leaves a way in"),
        (Flaw::TrustsDamage, "damage is found by verify and check"),
        (Flaw::CountsNothing, "entry_bytes tells the size so far"),
        (Flaw::PrunesNothing, "prune removes what no rule keeps, and it is NoBackup then"),
        (Flaw::PrunesTheNewest, "prune never removes the newest proven backup"),
        (Flaw::CountsImports, "prune takes no import for what a run made"),
        (Flaw::PrunesWithoutAsking, "prune_if_any removes what prune would, and nothing where nothing goes"),
        (Flaw::ListsNeighbours, "the backups that are asked for are those of the list"),
        (Flaw::PrunesSharedSnapshots, "prune keeps a snapshot while any database in it is kept"),
        (Flaw::PrunesAnyTarget, "prune leaves alone what no scope selects"),
        (Flaw::PrunesInDryRun, "a dry run of prune tells the same and changes nothing"),
        (Flaw::PrunesProofs, "prune keeps what is known of backups that stay"),
        (Flaw::HidesUnlisted, "what cannot be listed is unlisted"),
        (Flaw::ForgetsWhoseUnlisted, "what cannot be listed is unlisted"),
        (Flaw::PrunesUnlisted, "prune never removes what cannot be listed"),
        (Flaw::HealsInDryRun, "a dry run of heal tells and changes nothing"),
        (Flaw::HealsInSilence, "heal names the backups that still lack something"),
        (Flaw::NeverSettles, "what the source brings back is whole again"),
        (Flaw::LosesInSilence, "what nothing brings back is lost, listed and refused"),
        (Flaw::OpensLost, "what nothing brings back is lost, listed and refused"),
        (Flaw::PlainIds, "ids name the snapshot, and the database where there are several"),
    ];
    std::thread::scope(|scope| {
        for (flaw, promise) in flaws {
            let broken = move || broken_repository_promises(|| fresh(FakeRepository::flawed(flaw)));
            scope.spawn(move || assert_caught(&broken(), promise));
        }
    });
}
