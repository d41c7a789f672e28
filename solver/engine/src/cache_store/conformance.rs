//! What every [`CacheStore`] must do, as one callable suite.

use std::fmt::Debug;

use super::CacheStore;
use crate::cache_key::CacheKey;

/// Checks a kind of store. `make` gives a new empty store, `value` the value that stands for a
/// number; equal numbers must give values that compare equal, different ones different values.
///
/// # Panics
/// On the first broken promise, with a sentence that names it.
pub async fn check<V, S>(make: impl Fn() -> S, value: impl Fn(u64) -> V)
where
    V: Clone + PartialEq + Debug + Send + Sync + 'static,
    S: CacheStore<V>,
{
    let values = |numbers: &[u64]| {
        numbers
            .iter()
            .map(|number| value(*number))
            .collect::<Vec<_>>()
    };
    records_come_back_whole(&make(), &values).await;
    a_later_save_replaces(&make(), &values).await;
    parallel_saves_do_not_disturb(&make(), &values).await;
    assert_eq!(found(&make(), key(1)).await, None, "a new store is empty");
}

async fn records_come_back_whole<V, S>(store: &S, values: impl Fn(&[u64]) -> Vec<V>)
where
    V: PartialEq + Debug + 'static,
    S: CacheStore<V>,
{
    assert_eq!(found(store, key(1)).await, None, "an unknown key is a miss");
    save(store, key(1), &values(&[1, 2, 3])).await;
    let expected = Some(values(&[1, 2, 3]));
    assert_eq!(
        found(store, key(1)).await,
        expected,
        "all outputs come back in their order"
    );
    assert_eq!(
        found(store, key(1)).await,
        expected,
        "a record is not used up by a look-up"
    );
    assert_eq!(
        found(store, key(2)).await,
        None,
        "a record is found under its own key only"
    );
    let close = CacheKey::from_bytes(std::array::from_fn(|index| u8::from(index != 31)));
    assert_eq!(
        found(store, close).await,
        None,
        "all 32 bytes of a key count"
    );
    save(store, key(3), &[]).await;
    assert_eq!(
        found(store, key(3)).await,
        Some(vec![]),
        "a step without outputs is remembered"
    );
}

async fn a_later_save_replaces<V, S>(store: &S, values: impl Fn(&[u64]) -> Vec<V>)
where
    V: PartialEq + Debug + 'static,
    S: CacheStore<V>,
{
    let (old, new) = (Some(values(&[1, 2])), Some(values(&[4])));
    save(store, key(1), &values(&[1, 2])).await;
    save(store, key(2), &values(&[1, 2])).await;
    assert_eq!(
        found(store, key(2)).await,
        old,
        "the same values may have two keys"
    );
    let held = found(store, key(1)).await;
    save(store, key(1), &values(&[4])).await;
    assert_eq!(
        found(store, key(1)).await,
        new,
        "a later save replaces the record"
    );
    assert_eq!(
        found(store, key(2)).await,
        old,
        "and leaves the other key alone"
    );
    assert_eq!(held, old, "a value that was found stays what it was");
}

async fn parallel_saves_do_not_disturb<V, S>(store: &S, values: impl Fn(&[u64]) -> Vec<V>)
where
    V: PartialEq + Debug + 'static,
    S: CacheStore<V>,
{
    let many = 10..60;
    let saves = many.clone().map(|number| {
        let (key, values) = (key(number), values(&[u64::from(number)]));
        async move { save(store, key, &values).await }
    });
    futures::future::join_all(saves).await;
    for number in many {
        let expected = Some(values(&[u64::from(number)]));
        assert_eq!(
            found(store, key(number)).await,
            expected,
            "saved beside others: {number}"
        );
    }
}

fn key(number: u8) -> CacheKey {
    CacheKey::from_bytes([number; 32])
}

async fn found<V, S: CacheStore<V>>(store: &S, key: CacheKey) -> Option<Vec<V>> {
    store
        .lookup(&key)
        .await
        .unwrap_or_else(|error| panic!("lookup failed: {error}"))
}

async fn save<V, S: CacheStore<V>>(store: &S, key: CacheKey, values: &[V]) {
    store
        .save(&key, values)
        .await
        .unwrap_or_else(|error| panic!("save failed: {error}"));
}
