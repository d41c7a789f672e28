//! Collecting after a build. A build that brought nothing in costs one row to be read: what the
//! cache took when it was last looked at, and when a rule may next have something to say.

use std::collections::HashSet;

use store::codec::{Decoder, Encoder};
use store::{Batch, Durability, Store, Table};

use snapshotter::Manager;
use snapshotter::gc::Collected;

use super::policy::{Rule, choose};
use super::survey::{Entry, Survey, gather};
use crate::cache::now;
use crate::error::Result;

/// Key of the row in [`Table::Record`], where cache keys are 32 bytes.
const STATE: &[u8] = b"the state of the garbage collection";

/// Version byte of the row.
const STATE_VERSION: u8 = 1;

/// It is not looked at again before so much more came in: looking reads every tree.
const GROWTH_MIN_BYTES: u64 = 64 << 20;

/// How long rules about ages are not asked again after they had their say, in seconds: BuildKit
/// asks once a minute.
const PAUSE_MIN_SECONDS: i64 = 60;
/// See [`PAUSE_MIN_SECONDS`].
const PAUSE_MAX_SECONDS: i64 = 86_400;

/// What a file takes beside its bytes, at most.
const BLOCK_BYTES: u64 = 4_096;

/// What is known without looking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// When it was looked at, seconds since 1970.
    looked: i64,
    /// What the cache took then, in bytes; `None` if nobody looked yet.
    cache_bytes: Option<u64>,
    /// What came in since then, in bytes.
    grown: u64,
    /// No rule about ages has anything to say before this, seconds since 1970.
    next_due: i64,
}

/// Looks whether rules have something to say, and does what they say, beside builds that run.
/// `None` if there was nothing to look at or nothing to do.
///
/// # Errors
/// Those of the store.
pub fn collect(manager: &Manager, rules: &[Rule]) -> Result<Option<Collected>> {
    let store = manager.store();
    let brought = store.take_brought();
    let came = brought.bytes_written + brought.blobs_written * BLOCK_BYTES;
    let mut state = read(store);
    state.grown += came;
    let (free, _) = store.disk_bytes()?;
    let ages = rules.iter().filter_map(|rule| rule.keep_seconds).min();
    let ages = ages.map(|age| i64::try_from(age).unwrap_or(i64::MAX));
    if !is_due(&state, rules, now().seconds, free) {
        let is_first = state.cache_bytes.is_none() && state.next_due == 0;
        let first_age = ages.filter(|_| is_first);
        if let Some(age) = first_age {
            state.next_due = now().seconds.saturating_add(age);
        }
        if came > 0 || first_age.is_some() {
            write(store, &state)?;
        }
        return Ok(None);
    }
    crate::build::release_leases(manager)?;
    let survey = {
        let mut survey = gather(manager)?;
        survey.measure(manager, &|_| true)?;
        survey
    };
    let gone = choose(&survey, rules, manager, (now(), free))?;
    let collected = match gone.is_empty() {
        true => None,
        false => {
            let gone: Vec<_> = gone.iter().collect();
            let collected = super::collect(manager, &gone, false)?;
            tracing::info!(
                entries = gone.len(),
                bytes = collected.store.disk_bytes + collected.image_bytes,
                "the build cache was made smaller"
            );
            Some(collected)
        }
    };
    write(store, &state.after(&survey, &gone, ages))?;
    Ok(collected)
}

impl State {
    /// What is known after a look by which `gone` went.
    fn after(&self, survey: &Survey, gone: &[Entry], ages: Option<i64>) -> State {
        let freed: u64 = gone.iter().map(|entry| entry.bytes).sum();
        let gone: HashSet<_> = gone.iter().map(|entry| &entry.snapshot).collect();
        let oldest = survey
            .entries
            .iter()
            .filter(|entry| entry.is_reclaimable() && !gone.contains(&entry.snapshot));
        let oldest = oldest.map(|entry| entry.last_used.seconds).min();
        let next_due = ages.map_or(i64::MAX, |age| {
            let from = oldest.unwrap_or(now().seconds);
            // A rule that had its say and kept something for its size is asked again in a day, and
            // one about shorter ages after such a time.
            let pause = age.clamp(PAUSE_MIN_SECONDS, PAUSE_MAX_SECONDS);
            from.saturating_add(age).max(now().seconds + pause)
        });
        // What builds have used just now, this one perhaps, could not go: it counts as not looked
        // at.
        let used = survey.entries.iter().filter(|entry| entry.is_in_use);
        let used_lately = used.filter(|entry| entry.last_used.seconds >= self.looked);
        let put_off: u64 = used_lately.map(|entry| entry.bytes).sum();
        State {
            looked: now().seconds,
            cache_bytes: Some(survey.reclaimable().saturating_sub(freed)),
            grown: self.grown.min(put_off),
            next_due,
        }
    }
}

/// Whether some rule may have something to say.
fn is_due(state: &State, rules: &[Rule], now: i64, free: u64) -> bool {
    if rules.is_empty() {
        return false;
    }
    let Some(cache_bytes) = state.cache_bytes else {
        // Nobody looked yet: not for a small store, unless something is old enough by now.
        let is_old = state.next_due != 0 && now >= state.next_due;
        return is_old || state.grown >= GROWTH_MIN_BYTES || is_over(state.grown, rules, free);
    };
    if now >= state.next_due || now < state.looked {
        return true;
    }
    let grown_enough = state.grown >= GROWTH_MIN_BYTES || state.grown > cache_bytes / 16;
    grown_enough && is_over(cache_bytes + state.grown, rules, free)
}

/// Whether a cache of at most this size may be too large for one of the rules.
fn is_over(bytes: u64, rules: &[Rule], free: u64) -> bool {
    let mut limits = rules.iter().filter(|rule| rule.keep_seconds.is_none());
    limits.any(|rule| rule.keep_bytes(bytes, free).is_none_or(|keep| bytes > keep))
}

/// A row that cannot be read is none: then it is looked.
fn read(store: &Store) -> State {
    let row = store.rows().get(Table::Record, STATE);
    let row = row.ok().flatten();
    row.and_then(|row| decode(&row).ok()).unwrap_or_default()
}

fn decode(bytes: &[u8]) -> store::Result<State> {
    let mut row = Decoder::new("state of the garbage collection", bytes);
    if row.byte()? != STATE_VERSION {
        return Err(row.error("it has an unknown version"));
    }
    let looked = row.signed()?;
    let cache_bytes = match row.byte()? {
        0 => None,
        _ => Some(row.number()?),
    };
    let state = State {
        looked,
        cache_bytes,
        grown: row.number()?,
        next_due: row.signed()?,
    };
    row.finish()?;
    Ok(state)
}

fn write(store: &Store, state: &State) -> Result<()> {
    let mut row = Encoder::new();
    row.byte(STATE_VERSION).signed(state.looked);
    row.byte(state.cache_bytes.is_some().into());
    if let Some(bytes) = state.cache_bytes {
        row.number(bytes);
    }
    row.number(state.grown).signed(state.next_due);
    let mut batch = Batch::new();
    batch.put(Table::Record, STATE, row.finish());
    Ok(store.write(batch, Durability::Process)?)
}

#[cfg(test)]
mod tests {
    use super::super::policy::default_rules;
    use super::*;

    #[test]
    fn it_is_looked_only_when_a_rule_may_have_something_to_say() {
        let rules = default_rules(10 << 30, 60 << 30, 20 << 30);
        let known = |cache_bytes, grown| State {
            looked: 1_000,
            cache_bytes: Some(cache_bytes),
            grown,
            next_due: 100_000,
        };
        let first = State {
            next_due: 100_000,
            ..State::default()
        };
        let (plenty, little) = (100 << 30, 1 << 30);
        for (state, now, free, due) in [
            (State::default(), 0, plenty, false),
            (known(0, 0), 2_000, plenty, false),
            (known(0, 0), 2_000, little, false),
            (known(57 << 30, 2 << 30), 2_000, plenty, false),
            (known(59 << 30, 8 << 30), 2_000, plenty, true),
            (known(30 << 30, 0), 2_000, little, false),
            (known(30 << 30, 1 << 30), 2_000, little, true),
            (known(9 << 30, 1 << 29), 2_000, little, false),
            (known(0, 0), 100_000, plenty, true),
            (known(0, 0), 999, plenty, true),
            (first, 99_999, plenty, false),
            (first, 100_000, plenty, true),
        ] {
            assert_eq!(
                is_due(&state, &rules, now, free),
                due,
                "{state:?} {now} {free}"
            );
        }
        assert!(!is_due(&known(1 << 40, 1 << 40), &[], i64::MAX, 0));
    }
}
