//! A cache store in memory: for tests and for a process that should forget.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use futures::future::BoxFuture;

use super::{CacheStore, CacheStoreError};
use crate::cache_key::CacheKey;

/// Remembers as long as it lives, and counts what it is asked.
#[derive(Debug)]
pub struct MemoryCacheStore<V> {
    inner: Mutex<Inner<V>>,
}

#[derive(Debug)]
struct Inner<V> {
    records: BTreeMap<CacheKey, Vec<V>>,
    lookups: usize,
    saves: usize,
}

impl<V> MemoryCacheStore<V> {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        let inner = Inner {
            records: BTreeMap::new(),
            lookups: 0,
            saves: 0,
        };
        Self {
            inner: Mutex::new(inner),
        }
    }

    /// How often `lookup` was called.
    pub fn lookup_count(&self) -> usize {
        self.lock().lookups
    }

    /// How often `save` was called.
    pub fn save_count(&self) -> usize {
        self.lock().saves
    }

    /// The keys that hold a record, in order.
    pub fn keys(&self) -> Vec<CacheKey> {
        self.lock().records.keys().copied().collect()
    }

    /// Forgets one record, as a garbage collection would.
    pub fn forget(&self, key: &CacheKey) {
        self.lock().records.remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner<V>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Default for MemoryCacheStore<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: Clone + Send + Sync + 'static> CacheStore<V> for MemoryCacheStore<V> {
    fn lookup<'a>(
        &'a self,
        key: &'a CacheKey,
    ) -> BoxFuture<'a, Result<Option<Vec<V>>, CacheStoreError>> {
        Box::pin(async move {
            let mut inner = self.lock();
            inner.lookups += 1;
            Ok(inner.records.get(key).cloned())
        })
    }

    fn save<'a>(
        &'a self,
        key: &'a CacheKey,
        values: &'a [V],
    ) -> BoxFuture<'a, Result<(), CacheStoreError>> {
        Box::pin(async move {
            let mut inner = self.lock();
            inner.saves += 1;
            inner.records.insert(*key, values.to_vec());
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache_store::conformance;

    #[tokio::test]
    async fn the_memory_store_keeps_the_contract() {
        conformance::check(MemoryCacheStore::new, |number| number).await;
    }

    #[tokio::test]
    async fn a_forgotten_record_is_a_miss() {
        let store = MemoryCacheStore::new();
        let key = CacheKey::from_bytes([1; 32]);
        store.save(&key, &[1_u8]).await.unwrap();
        assert_eq!(store.keys(), [key]);
        store.forget(&key);
        assert_eq!(store.lookup(&key).await.unwrap(), None);
        assert_eq!((store.lookup_count(), store.save_count()), (1, 1));
    }
}
