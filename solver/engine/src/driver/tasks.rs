//! The futures that the owner spawns: calls into operations and the cache store. None of them
//! panics, none of them fails but in its result.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;

use crate::cache_key::CacheKey;
use crate::cache_store::{CacheStore, CacheStoreError};
use crate::error::OpError;
use crate::scheduler::{Task, TaskResult};
use crate::vertex::{Op, OpContext};

/// Calls the operation, or looks up a key for it.
pub(super) async fn perform<V: Clone + Send + Sync + 'static>(
    task: Task<V>,
    op: Arc<dyn Op<Value = V>>,
    store: Arc<dyn CacheStore<V>>,
    context: OpContext,
) -> TaskResult<V> {
    // The futures are made inside the guarded block: making one may panic as well.
    match task {
        Task::CacheMap => {
            let asked = guarded(async { op.cache_map(context).await });
            TaskResult::CacheMap(asked.await)
        }
        Task::ContentKey { inputs } => {
            let asked = guarded(async { op.content_key(&inputs, context).await });
            TaskResult::ContentKey(asked.await)
        }
        Task::Execute { inputs } => {
            let run = guarded(async { op.exec(&inputs, context).await });
            TaskResult::Execute(run.await)
        }
        Task::Rebase { inputs, found } => {
            let moved = guarded(async { op.rebase(&inputs, found.to_vec(), context).await });
            TaskResult::Rebase(match moved.await {
                Ok(values) => Some(values),
                Err(error) => {
                    tracing::warn!(%error, "a remembered result could not be used; it is made again");
                    None
                }
            })
        }
        Task::Lookup { key } => TaskResult::Lookup(lookup(store.as_ref(), &key).await),
    }
}

/// Saves the values under all keys; what fails is logged.
pub(super) async fn save<V: Clone + Send + Sync + 'static>(
    store: &dyn CacheStore<V>,
    keys: &[CacheKey],
    values: &[V],
) {
    for key in keys {
        if let Err(error) = store_call(async { store.save(key, values).await }).await {
            tracing::warn!(%key, error, "a result could not be saved; it will be made again");
        }
    }
}

async fn lookup<V: 'static>(store: &dyn CacheStore<V>, key: &CacheKey) -> Option<Vec<V>> {
    match store_call(async { store.lookup(key).await }).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%key, error, "a cache record could not be read; it counts as a miss");
            None
        }
    }
}

async fn store_call<T>(
    call: impl Future<Output = Result<T, CacheStoreError>>,
) -> Result<T, String> {
    match AssertUnwindSafe(call).catch_unwind().await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(format!(
            "the cache store panicked: {}",
            panic_message(panic.as_ref())
        )),
    }
}

async fn guarded<T>(call: impl Future<Output = Result<T, OpError>>) -> Result<T, OpError> {
    let ended = AssertUnwindSafe(call).catch_unwind().await;
    ended.unwrap_or_else(|panic| Err(OpError::panicked(panic_message(panic.as_ref()))))
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
