//! Contexts that are somewhere else are brought here before anything is read.

use engine::CancelToken;
use store::Store;

use crate::error::Result;
use crate::progress::Progress;
use crate::request::{BuildRequest, ContextSource, NamedContextSource};
use crate::sources::remote::RemoteSource;

/// The same request with every remote context as a tree of the store.
///
/// # Errors
/// [`Error::Context`](crate::Error::Context) and the others of [`RemoteSource::fetch`].
pub(crate) fn fetch_contexts(
    mut request: BuildRequest,
    store: &Store,
    progress: &Progress,
    cancel: &CancelToken,
) -> Result<BuildRequest> {
    let fetch = |remote: &RemoteSource, prefix: &str| {
        let step = progress.step(format!("[{prefix}] {}", remote.title()));
        let fetched = remote.fetch(store, &step, cancel);
        step.end(fetched)
    };
    if let Some(ContextSource::Remote(remote)) = &request.context {
        request.context = Some(ContextSource::Tree(fetch(remote, "internal")?));
    }
    for (name, source) in &mut request.named_contexts {
        if let NamedContextSource::Remote(remote) = source {
            *source = NamedContextSource::Tree(fetch(remote, &format!("context {name}"))?);
        }
    }
    Ok(request)
}
