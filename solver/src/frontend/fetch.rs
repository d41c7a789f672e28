//! Contexts that are somewhere else are brought here before anything is read.

use engine::CancelToken;
use store::Store;

use crate::error::Result;
use crate::progress::Progress;
use crate::request::{BuildRequest, ContextSource, DockerfileSource, NamedContextSource};
use crate::sources::registry::Remote;
use crate::sources::remote::{Fetched, Fetching, RemoteSource, WEB_CONTEXT};

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
    let (secrets, agents) = (request.steps.secrets.clone(), request.steps.agents.clone());
    let with = Fetching {
        store,
        remote: &Remote::new(&request.registries, progress),
        secrets: &secrets,
        agents: &agents,
        cancel,
    };
    let fetch = |remote: &RemoteSource, prefix: &str, unpacks: bool| {
        let step = progress.step(format!("[{prefix}] {}", remote.title()));
        let fetched = remote.fetch(&with, &step, unpacks);
        step.end(fetched)
    };
    if let Some(ContextSource::Remote(remote)) = &request.context {
        let Fetched { tree, is_file } = fetch(remote, "internal", true)?;
        request.context = Some(ContextSource::Tree(tree));
        if is_file && matches!(request.dockerfile, DockerfileSource::InContext(_)) {
            request.dockerfile = DockerfileSource::InContext(Some(WEB_CONTEXT.to_owned()));
        }
    }
    for (name, source) in &mut request.named_contexts {
        if let NamedContextSource::Remote(remote) = source {
            // As in BuildKit an archive stays one: it is there to be copied.
            let fetched = fetch(remote, &format!("context {name}"), false)?;
            *source = NamedContextSource::Tree(fetched.tree);
        }
    }
    Ok(request)
}
