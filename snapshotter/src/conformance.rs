//! What every [`Snapshots`] guarantees about keys, kinds, parents and labels, as checks that run
//! against any implementation (containerd's own suite: shared/spec/snapshotter.md section 3.8).
//!
//! What shows through the mounts is tested where mounts can be made.

macro_rules! assert_error {
    ($result:expr, $pattern:pat $(if $condition:expr)?) => {{
        let result = $result;
        assert!(
            matches!(&result, Err($pattern) $(if $condition)?),
            "expected {}, found {result:?}",
            stringify!($pattern)
        );
    }};
}

mod reached;
mod rivals;

use mount::Mount;
use store::Timestamp;

use crate::error::Error;
use crate::snapshots::{Info, Kind, LABEL_LENGTH_MAX, Labels, Snapshots, now};
pub use reached::Reached;

/// Calls what it is given with fresh, empty snapshots.
pub type With<'w> = dyn Fn(&dyn Fn(&dyn Snapshots)) + 'w;

/// A check of fresh, empty snapshots.
type Check = fn(&dyn Snapshots);

/// Layers of the deepest image that is mounted in practice.
const CHAIN_LENGTH: usize = 128;

/// Runs every check, each on fresh snapshots.
///
/// # Panics
/// At the first guarantee that does not hold.
pub fn check(with: &With<'_>) {
    check_reached(Reached::Directly, with);
}

/// The same for snapshots that are reached through somebody else.
///
/// # Panics
/// At the first guarantee that does not hold.
pub fn check_reached(reached: Reached, with: &With<'_>) {
    let checks: &[Check] = &[
        a_snapshot_lives_from_prepare_to_remove,
        a_key_is_used_once,
        a_parent_is_a_committed_snapshot,
        a_view_is_read_only_and_stays_a_view,
        a_committed_snapshot_is_final,
        what_does_not_exist_is_not_found,
        a_name_that_is_taken_stops_a_commit,
        a_parent_outlives_its_children,
        keys_are_free_again_after_remove,
        a_walk_shows_everything_in_order,
        labels_have_a_length,
        times_are_those_of_the_calls,
        chains_may_be_long,
        rivals::one_of_many_rivals_wins,
    ];
    for check in checks {
        with(check);
    }
    with(&|snapshots| labels_are_kept_and_replaced(snapshots, reached));
    with(&|snapshots| keys_are_any_text_but_none(snapshots, reached));
}

fn none() -> Labels {
    Labels::new()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[track_caller]
fn commit(snapshots: &dyn Snapshots, name: &str, parent: &str) {
    let key = format!("prepare {name}");
    snapshots
        .prepare(&key, parent, none())
        .expect("prepare succeeds");
    snapshots
        .commit(name, &key, none())
        .expect("commit succeeds");
}

fn keys(snapshots: &dyn Snapshots) -> Vec<String> {
    let mut keys = Vec::new();
    let walked = snapshots.walk(&mut |info| {
        keys.push(info.key);
        Ok(())
    });
    walked.expect("a walk succeeds");
    keys
}

#[track_caller]
fn kind(snapshots: &dyn Snapshots, key: &str) -> Kind {
    snapshots.stat(key).expect("it exists").kind
}

fn is_read_only(mounts: &[Mount]) -> bool {
    mounts.last().is_some_and(|mount| {
        mount.has_option("ro")
            || mount.kind == mount::Kind::Overlay && !mount.has_option("upperdir")
    })
}

fn a_snapshot_lives_from_prepare_to_remove(snapshots: &dyn Snapshots) {
    assert!(keys(snapshots).is_empty(), "the check begins with nothing");
    let mounts = snapshots
        .prepare("active", "", none())
        .expect("prepare succeeds");
    assert!(!mounts.is_empty() && !is_read_only(&mounts), "{mounts:?}");
    assert_eq!(snapshots.mounts("active").expect("it is active"), mounts);
    let info = snapshots.stat("active").expect("it exists");
    assert_eq!(
        (info.key.as_str(), info.parent.as_str(), info.kind),
        ("active", "", Kind::Active)
    );
    snapshots
        .usage("active")
        .expect("an active one has a usage");
    snapshots
        .commit("layer", "active", none())
        .expect("commit succeeds");
    assert_eq!(
        keys(snapshots),
        ["layer"],
        "the key of the active one is gone"
    );
    snapshots
        .usage("layer")
        .expect("a committed one has a usage");
    snapshots
        .prepare("child", "layer", none())
        .expect("prepare succeeds");
    let info = snapshots.stat("child").expect("it exists");
    assert_eq!((info.parent.as_str(), info.kind), ("layer", Kind::Active));
    snapshots
        .commit("upper", "child", none())
        .expect("commit succeeds");
    let info = snapshots.stat("upper").expect("it exists");
    assert_eq!(
        (info.parent.as_str(), info.kind),
        ("layer", Kind::Committed)
    );
    snapshots.remove("upper").expect("a leaf can be removed");
    snapshots
        .remove("layer")
        .expect("so can what became a leaf");
    assert!(keys(snapshots).is_empty());
}

fn a_key_is_used_once(snapshots: &dyn Snapshots) {
    commit(snapshots, "base", "");
    snapshots
        .prepare("active", "base", labels(&[("first", "")]))
        .expect("prepare succeeds");
    snapshots
        .view("view", "base", labels(&[("first", "")]))
        .expect("view succeeds");
    let before: Vec<Info> = infos(snapshots);
    for key in ["base", "active", "view"] {
        for parent in ["", "base"] {
            assert_error!(
                snapshots.prepare(key, parent, none()),
                Error::AlreadyExists { .. }
            );
            assert_error!(
                snapshots.view(key, parent, none()),
                Error::AlreadyExists { .. }
            );
        }
    }
    assert_eq!(infos(snapshots), before, "a refused call changes nothing");
}

fn infos(snapshots: &dyn Snapshots) -> Vec<Info> {
    keys(snapshots)
        .iter()
        .map(|key| snapshots.stat(key).expect("it was walked over"))
        .collect()
}

fn a_parent_is_a_committed_snapshot(snapshots: &dyn Snapshots) {
    snapshots
        .prepare("active", "", none())
        .expect("prepare succeeds");
    snapshots.view("view", "", none()).expect("view succeeds");
    for parent in ["active", "view"] {
        assert_error!(
            snapshots.prepare("a", parent, none()),
            Error::InvalidArgument { .. }
        );
        assert_error!(
            snapshots.view("a", parent, none()),
            Error::InvalidArgument { .. }
        );
    }
    assert_error!(snapshots.prepare("a", "missing", none()), Error::NotFound { key } if key.contains("missing"));
    assert_error!(snapshots.view("a", "missing", none()), Error::NotFound { key } if key.contains("missing"));
    assert_eq!(
        keys(snapshots),
        ["active", "view"],
        "a refused call makes nothing"
    );
}

fn a_view_is_read_only_and_stays_a_view(snapshots: &dyn Snapshots) {
    commit(snapshots, "base", "");
    for parent in ["", "base"] {
        let mounts = snapshots
            .view("view", parent, none())
            .expect("view succeeds");
        assert!(is_read_only(&mounts), "{mounts:?}");
        assert_eq!(snapshots.mounts("view").expect("a view has mounts"), mounts);
        assert_error!(
            snapshots.commit("name", "view", none()),
            Error::FailedPrecondition { .. }
        );
        assert_eq!(kind(snapshots, "view"), Kind::View);
        snapshots.remove("view").expect("a view can be removed");
    }
    assert_eq!(keys(snapshots), ["base"]);
}

fn a_committed_snapshot_is_final(snapshots: &dyn Snapshots) {
    commit(snapshots, "base", "");
    assert_error!(snapshots.mounts("base"), Error::FailedPrecondition { .. });
    assert_error!(
        snapshots.commit("other", "base", none()),
        Error::FailedPrecondition { .. }
    );
    assert_eq!(kind(snapshots, "base"), Kind::Committed);
}

fn what_does_not_exist_is_not_found(snapshots: &dyn Snapshots) {
    commit(snapshots, "base", "");
    for key in ["missing", "bas", "base/", "BASE", "prepare base"] {
        assert_error!(snapshots.stat(key), Error::NotFound { .. });
        assert_error!(snapshots.mounts(key), Error::NotFound { .. });
        assert_error!(snapshots.usage(key), Error::NotFound { .. });
        assert_error!(snapshots.remove(key), Error::NotFound { .. });
        assert_error!(
            snapshots.commit("name", key, none()),
            Error::NotFound { .. }
        );
    }
    assert_eq!(keys(snapshots), ["base"]);
}

fn a_name_that_is_taken_stops_a_commit(snapshots: &dyn Snapshots) {
    commit(snapshots, "base", "");
    snapshots.view("view", "", none()).expect("view succeeds");
    snapshots
        .prepare("other", "", none())
        .expect("prepare succeeds");
    snapshots
        .prepare("key", "base", none())
        .expect("prepare succeeds");
    for name in ["base", "view", "other", "key"] {
        assert_error!(
            snapshots.commit(name, "key", none()),
            Error::AlreadyExists { .. }
        );
        assert_eq!(kind(snapshots, "key"), Kind::Active, "it goes on");
        snapshots.mounts("key").expect("it can still be mounted");
    }
    snapshots
        .commit("free", "key", none())
        .expect("another name will do");
}

fn a_parent_outlives_its_children(snapshots: &dyn Snapshots) {
    commit(snapshots, "one", "");
    commit(snapshots, "two", "one");
    commit(snapshots, "three", "two");
    snapshots
        .prepare("active", "three", none())
        .expect("prepare succeeds");
    snapshots
        .view("view", "three", none())
        .expect("view succeeds");
    for key in ["one", "two", "three"] {
        let error = snapshots.remove(key).expect_err("it is a parent");
        assert!(
            matches!(error, Error::FailedPrecondition { .. }),
            "{error:?}"
        );
        // containerd's suite looks for the word.
        assert!(error.to_string().contains("remove"), "{error}");
    }
    for key in ["view", "active", "three", "two", "one"] {
        snapshots.remove(key).expect("nothing rests on it any more");
    }
    assert!(keys(snapshots).is_empty());
}

fn keys_are_free_again_after_remove(snapshots: &dyn Snapshots) {
    commit(snapshots, "base", "");
    for _ in 0..2 {
        snapshots
            .prepare("key", "base", none())
            .expect("prepare succeeds");
        snapshots.remove("key").expect("remove succeeds");
        snapshots.view("key", "", none()).expect("view succeeds");
        snapshots.remove("key").expect("remove succeeds");
        commit(snapshots, "key", "base");
        assert_eq!(kind(snapshots, "key"), Kind::Committed);
        snapshots.remove("key").expect("remove succeeds");
    }
}

fn a_walk_shows_everything_in_order(snapshots: &dyn Snapshots) {
    commit(snapshots, "m", "");
    snapshots
        .prepare("z", "m", labels(&[("a.b/c", "1")]))
        .expect("prepare succeeds");
    snapshots.view("a", "m", none()).expect("view succeeds");
    snapshots
        .prepare("é", "", none())
        .expect("prepare succeeds");
    snapshots
        .prepare("Z", "", none())
        .expect("prepare succeeds");
    assert_eq!(keys(snapshots), ["Z", "a", "m", "z", "é"]);
    let walked = snapshots.walk(&mut |info| {
        // No lock is held over the visit.
        assert_eq!(snapshots.stat(&info.key)?, info);
        snapshots.usage(&info.key).map(drop)
    });
    walked.expect("a walk succeeds");
    let mut visits = 0;
    let stopped = snapshots.walk(&mut |info| {
        visits += 1;
        Err(Error::NotFound { key: info.key })
    });
    assert_error!(stopped, Error::NotFound { key } if key == "Z");
    assert_eq!(visits, 1, "the first error ends the walk");
}

fn labels_are_kept_and_replaced(snapshots: &dyn Snapshots, reached: Reached) {
    let first = labels(reached.labels());
    snapshots
        .prepare("key", "", first.clone())
        .expect("prepare succeeds");
    assert_eq!(snapshots.stat("key").expect("it exists").labels, first);
    let second = labels(&[("other", "2")]);
    snapshots
        .commit("name", "key", second.clone())
        .expect("commit succeeds");
    assert_eq!(
        snapshots.stat("name").expect("it exists").labels,
        second,
        "nothing is inherited"
    );
    snapshots
        .view("view", "name", none())
        .expect("view succeeds");
    assert_eq!(snapshots.stat("view").expect("it exists").labels, none());
}

fn labels_have_a_length(snapshots: &dyn Snapshots) {
    let longest = "v".repeat(LABEL_LENGTH_MAX - 1);
    snapshots
        .prepare("long", "", labels(&[("l", &longest)]))
        .expect("just short enough");
    let longer = labels(&[("l2", &longest)]);
    assert_error!(
        snapshots.prepare("x", "", longer.clone()),
        Error::InvalidArgument { .. }
    );
    assert_error!(
        snapshots.view("x", "", longer.clone()),
        Error::InvalidArgument { .. }
    );
    assert_error!(
        snapshots.commit("x", "long", longer),
        Error::InvalidArgument { .. }
    );
    assert_eq!(keys(snapshots), ["long"]);
}

fn keys_are_any_text_but_none(snapshots: &dyn Snapshots, reached: Reached) {
    let longest = "k".repeat(reached.key_length_max());
    let odd = [
        "default/12/extract-123456789-abcd sha256:00",
        "/",
        "..",
        "a\nb",
        "snapshots/1",
        "é/ü 日本",
        longest.as_str(),
    ];
    for (number, key) in odd.iter().enumerate() {
        snapshots
            .prepare(key, "", none())
            .unwrap_or_else(|e| panic!("{key:?}: {e}"));
        let name = format!("{number} {}", key.chars().take(50).collect::<String>());
        snapshots
            .commit(&name, key, none())
            .unwrap_or_else(|e| panic!("{name:?}: {e}"));
        snapshots
            .view(key, &name, none())
            .unwrap_or_else(|e| panic!("{key:?}: {e}"));
        assert_eq!(snapshots.stat(key).expect("it exists").parent, name);
    }
    snapshots
        .prepare("key", "", none())
        .expect("prepare succeeds");
    let before = keys(snapshots);
    for key in reached.refused_keys() {
        let key = key.as_str();
        for refused in [
            snapshots.prepare(key, "", none()).map(drop),
            snapshots.view(key, "", none()).map(drop),
            snapshots.commit(key, "key", none()),
        ] {
            assert!(
                matches!(&refused, Err(error) if reached.refuses_key(error)),
                "a key of {} bytes: {refused:?}",
                key.len()
            );
        }
    }
    assert_eq!(keys(snapshots), before, "a refused call changes nothing");
}

fn times_are_those_of_the_calls(snapshots: &dyn Snapshots) {
    // Clocks may stand still for a moment, so the ends belong to it.
    let timed = |call: &dyn Fn(), key: &str| {
        let before = now();
        call();
        let info = snapshots.stat(key).expect("it exists");
        let after = Timestamp {
            seconds: now().seconds + 1,
            ..now()
        };
        assert!(before <= info.created && info.created <= after, "{info:?}");
        assert_eq!(info.created, info.updated);
        info.created
    };
    let prepared = timed(
        &|| {
            drop(
                snapshots
                    .prepare("key", "", none())
                    .expect("prepare succeeds"),
            )
        },
        "key",
    );
    let committed = timed(
        &|| {
            snapshots
                .commit("name", "key", none())
                .expect("commit succeeds")
        },
        "name",
    );
    assert!(prepared <= committed);
    timed(
        &|| {
            drop(
                snapshots
                    .view("view", "name", none())
                    .expect("view succeeds"),
            )
        },
        "view",
    );
}

fn chains_may_be_long(snapshots: &dyn Snapshots) {
    let mut parent = String::new();
    for number in 0..CHAIN_LENGTH {
        let name = format!("layer {number}");
        commit(snapshots, &name, &parent);
        parent = name;
    }
    snapshots
        .view("view", &parent, none())
        .expect("view succeeds");
    snapshots.remove("view").expect("remove succeeds");
    let mut length = 0;
    while !parent.is_empty() {
        let above = snapshots.stat(&parent).expect("it exists").parent;
        snapshots.remove(&parent).expect("remove succeeds");
        parent = above;
        length += 1;
    }
    assert_eq!(length, CHAIN_LENGTH);
    assert!(keys(snapshots).is_empty());
}
