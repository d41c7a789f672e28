//! Places at which a test ends the process, as a kill or a loss of power would.
//!
//! [`kill_at`] chooses one of them. Only builds with debug assertions look at it; in others a place
//! costs nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

static KILL: OnceLock<Kill> = OnceLock::new();

/// A place that ends the process.
#[derive(Debug)]
struct Kill {
    name: String,
    /// Passages until then.
    left: AtomicU64,
}

impl Kill {
    fn parse(text: &str) -> Option<Self> {
        let (name, count) = match text.split_once(':') {
            Some((name, count)) => (name, count.parse().ok()?),
            None => (text, 1),
        };
        let is_sound = !name.is_empty() && count > 0;
        is_sound.then(|| Kill {
            name: name.into(),
            left: AtomicU64::new(count),
        })
    }

    /// Notes that somebody has passed a place; whether the process must end there.
    fn pass(&self, name: &str) -> bool {
        self.name == name && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

/// Has the process kill itself (SIGKILL) at a place, `<name>[:<count>]`: when it passes it for the
/// `count`th time, or the first. To be called once, before any store is opened. Whether it will be
/// done: not in a release build, nor for a text that names no place.
#[must_use]
pub fn kill_at(text: &str) -> bool {
    let kill = Kill::parse(text).filter(|_| cfg!(debug_assertions));
    kill.is_some_and(|kill| KILL.set(kill).is_ok())
}

/// Passes the place `name`. Names are `<what is done>.<what has just happened>`.
pub fn passed(name: &'static str) {
    if cfg!(debug_assertions)
        && let Some(kill) = KILL.get()
        && kill.pass(name)
    {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
            .expect("a process may kill itself");
    }
}

/// Whether some place ends the process, for places that cost something.
pub(crate) fn is_wanted() -> bool {
    cfg!(debug_assertions) && KILL.get().is_some()
}

#[cfg(test)]
mod tests {
    use super::Kill;

    #[test]
    fn a_place_kills_at_the_passage_that_was_asked_for() {
        let kill = Kill::parse("commit.flushed:2").unwrap();
        let passages = [
            "commit.flushed",
            "other",
            "commit.flushed",
            "commit.flushed",
        ];
        assert_eq!(
            passages.map(|name| kill.pass(name)),
            [false, false, true, false]
        );
        assert!(
            Kill::parse("commit.flushed")
                .unwrap()
                .pass("commit.flushed")
        );
    }

    #[test]
    fn what_names_no_place_is_nothing() {
        for text in ["", ":1", "name:", "name:0", "name:x"] {
            assert!(Kill::parse(text).is_none(), "{text:?}");
        }
    }
}
