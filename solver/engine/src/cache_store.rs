//! Where results are remembered between evaluations.

use futures::future::BoxFuture;

use crate::cache_key::CacheKey;

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
#[cfg(any(test, feature = "testing"))]
pub mod memory;

/// Why a record could not be read or written. The engine logs it and goes on: a build is slower
/// for it, never wrong and never failed.
pub type CacheStoreError = Box<dyn std::error::Error + Send + Sync>;

/// Remembers the outputs of steps under keys.
///
/// Records are hints: a store may forget any of them at any time, and answers `None` for one that
/// is broken, or whose values are no longer complete. What it gives must be usable: every value
/// of a found record is held for the caller as long as the caller holds it.
///
/// Calls come in parallel. A `save` is seen by every `lookup` that begins after it has ended.
pub trait CacheStore<V>: Send + Sync + 'static {
    /// All outputs remembered under the key, in their order; `None` if there are none.
    fn lookup<'a>(
        &'a self,
        key: &'a CacheKey,
    ) -> BoxFuture<'a, Result<Option<Vec<V>>, CacheStoreError>>;

    /// Remembers all outputs of a step under the key, in place of what stood there. The same
    /// values are saved under several keys (classic and content), also long after they were made:
    /// a second key for known values should cost no more than the record.
    fn save<'a>(
        &'a self,
        key: &'a CacheKey,
        values: &'a [V],
    ) -> BoxFuture<'a, Result<(), CacheStoreError>>;
}
