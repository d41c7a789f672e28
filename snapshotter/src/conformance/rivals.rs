//! Threads that want the same thing at the same time.

use super::{commit, none};
use crate::error::{Error, Result};
use crate::snapshots::Snapshots;

/// How many want it.
const RIVALS: usize = 8;

pub(super) fn one_of_many_rivals_wins(snapshots: &dyn Snapshots) {
    commit(snapshots, "base", "");
    let race = |call: &(dyn Fn(usize) -> Result<()> + Sync)| {
        let results: Vec<Result<()>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..RIVALS)
                .map(|rival| scope.spawn(move || call(rival)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .collect()
        });
        let won = results.iter().filter(|result| result.is_ok()).count();
        (won, results)
    };
    let (won, results) = race(&|rival| {
        let parent = if rival % 2 == 0 { "base" } else { "" };
        snapshots.prepare("one", parent, none()).map(drop)
    });
    assert_eq!(won, 1, "{results:?}");
    for result in results.into_iter().filter(Result::is_err) {
        assert_error!(result, Error::AlreadyExists { .. });
    }
    let (won, results) = race(&|rival| {
        snapshots
            .prepare(&format!("rival {rival}"), "base", none())
            .map(drop)
    });
    assert_eq!(
        won, RIVALS,
        "different keys do not hinder each other: {results:?}"
    );
    let (won, results) = race(&|rival| snapshots.commit("name", &format!("rival {rival}"), none()));
    assert_eq!(won, 1, "{results:?}");
    for result in results.into_iter().filter(Result::is_err) {
        assert_error!(result, Error::AlreadyExists { .. });
    }
    let (won, results) = race(&|rival| snapshots.commit(&format!("name {rival}"), "one", none()));
    assert_eq!(won, 1, "a snapshot is committed once: {results:?}");
    for result in results.into_iter().filter(Result::is_err) {
        assert_error!(
            result,
            Error::NotFound { .. } | Error::FailedPrecondition { .. }
        );
    }
    let (won, results) = race(&|_| snapshots.remove("name"));
    assert_eq!(won, 1, "{results:?}");
}
