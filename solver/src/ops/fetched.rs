//! Sources that are fetched by address: files of the web, git repositories.
//!
//! Their keys are of what is there, so it is asked for in each build: an unchanged file costs one
//! request, a revision one look at the repository. What is named by its digest costs nothing.

use std::sync::{Arc, Mutex, PoisonError};

use engine::{BoxFuture, CacheKey, CancelToken, Op, OpContext, OpError};
use llb::op::{HttpSource, Source};
use store::TreeRef;

use crate::build::blocking;
use crate::error::{Error, Result};
use crate::ops::{Environment, adopt, op_error};
use crate::progress::Reporter;
use crate::result::Value;
use crate::sources::registry::web::{Found, WebSource};
use crate::sources::remote::{GitCall, GitSource, Resolved};

/// The operation of a source that is fetched by address; `None` for others.
///
/// # Errors
/// [`Error::Graph`] for attributes that mean nothing here; [`Error::NoAgent`];
/// [`Error::Unsupported`].
pub(super) fn convert(
    source: &Source,
    environment: &Arc<Environment>,
) -> Result<Option<Arc<dyn Op<Value = Value>>>> {
    let environment = environment.clone();
    if let Some(file) = HttpSource::read(source)? {
        if file.filename.is_empty() {
            let what = format!("{} without a name for the file", file.url);
            return Err(Error::Unsupported { what });
        }
        return Ok(Some(Arc::new(Fetch {
            what: WebFile(file),
            environment,
            found: Arc::default(),
        })));
    }
    if let Some(git) = llb::op::GitSource::read(source)? {
        let git = GitSource::of_graph(&git, &environment.variables, &environment.agents)?;
        return Ok(Some(Arc::new(Fetch {
            what: Repository(git),
            environment,
            found: Arc::default(),
        })));
    }
    Ok(None)
}

/// Something that can be looked at without fetching it. Both may wait for long.
trait Remote: Clone + Send + Sync + std::fmt::Debug + 'static {
    /// What a look at it tells.
    type Found: Clone + Send + Sync + std::fmt::Debug;

    fn look(&self, with: &With<'_>) -> Result<Self::Found>;

    fn key(&self, found: &Self::Found) -> CacheKey;

    fn fetch(&self, found: &Self::Found, with: &With<'_>) -> Result<TreeRef>;
}

/// For whom something is fetched.
struct With<'w> {
    environment: &'w Environment,
    reporter: &'w Reporter,
    cancel: &'w CancelToken,
}

/// The operation.
#[derive(Debug)]
struct Fetch<R: Remote> {
    what: R,
    environment: Arc<Environment>,
    /// What the look for the key told.
    found: Arc<Mutex<Option<R::Found>>>,
}

impl<R: Remote> Fetch<R> {
    /// Does something where it may wait, with what is there.
    async fn with<T: Send + 'static>(
        &self,
        context: OpContext,
        work: impl FnOnce(&R, &R::Found, &With<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T, OpError> {
        let (what, found) = (self.what.clone(), self.found.clone());
        let environment = self.environment.clone();
        let done = blocking(move || {
            let with = With {
                environment: &environment,
                reporter: &Reporter::of_operation(context.output),
                cancel: &context.cancel,
            };
            // Two that ask at once ask once.
            let mut known = found.lock().unwrap_or_else(PoisonError::into_inner);
            let found = match &*known {
                Some(found) => found.clone(),
                None => known.insert(what.look(&with)?).clone(),
            };
            drop(known);
            work(&what, &found, &with)
        });
        done.await.map_err(op_error)
    }
}

impl<R: Remote> Op for Fetch<R> {
    type Value = Value;

    fn cache_map(&self, context: OpContext) -> BoxFuture<'_, Result<CacheKey, OpError>> {
        Box::pin(self.with(context, |what, found, _| Ok(what.key(found))))
    }

    fn exec<'a>(
        &'a self,
        _: &'a [Value],
        context: OpContext,
    ) -> BoxFuture<'a, Result<Vec<Value>, OpError>> {
        Box::pin(self.with(context, |what, found, with| {
            adopt(what.fetch(found, with)?, with.environment)
        }))
    }
}

/// A file of the web.
#[derive(Clone, Debug)]
struct WebFile(HttpSource);

impl WebFile {
    fn source<'w>(&'w self, with: &'w With<'_>) -> WebSource<'w> {
        WebSource {
            source: &self.0,
            store: with.environment.store(),
            remote: &with.environment.remote,
            secrets: &with.environment.secrets,
            reporter: with.reporter,
            cancel: with.cancel,
        }
    }
}

impl Remote for WebFile {
    type Found = Found;

    fn look(&self, with: &With<'_>) -> Result<Found> {
        self.source(with).find()
    }

    fn key(&self, found: &Found) -> CacheKey {
        let HttpSource {
            filename,
            mode,
            uid,
            gid,
            ..
        } = &self.0;
        let mut key = CacheKey::builder("varve solver: file of the web v1");
        for number in [mode.unwrap_or_default(), *uid, *gid] {
            key = key.number(number.into());
        }
        key.bytes(filename).bytes(found.digest.as_bytes()).finish()
    }

    fn fetch(&self, found: &Found, with: &With<'_>) -> Result<TreeRef> {
        match found.tree {
            Some(tree) => Ok(tree),
            None => self.source(with).fetch(Some(found.digest)),
        }
    }
}

/// A revision of a repository.
#[derive(Clone, Debug)]
struct Repository(GitSource);

impl Repository {
    fn call<'w>(&self, with: &'w With<'_>) -> GitCall<'w> {
        GitCall {
            store: with.environment.store(),
            secrets: &with.environment.secrets,
            reporter: with.reporter,
            cancel: with.cancel,
        }
    }
}

/// What a look at a repository tells.
#[derive(Clone, Debug)]
struct FoundRevision {
    resolved: Resolved,
    /// The commit, and the files if there was no other way to tell which it is.
    commit: String,
    tree: Option<TreeRef>,
}

impl Remote for Repository {
    type Found = FoundRevision;

    fn look(&self, with: &With<'_>) -> Result<FoundRevision> {
        let call = self.call(with);
        let resolved = self.0.resolve(&call)?;
        if let Some(commit) = resolved.commit.clone() {
            return Ok(FoundRevision {
                resolved,
                commit,
                tree: None,
            });
        }
        let tree = self.0.fetch(&resolved, &call)?;
        Ok(FoundRevision {
            resolved,
            commit: tree.key.to_string(),
            tree: Some(tree),
        })
    }

    fn key(&self, found: &FoundRevision) -> CacheKey {
        let asked = &self.0.reference;
        let keeps = asked.keeps_git_directory == Some(true);
        let mut key = CacheKey::builder("varve solver: revision of a repository v1")
            .bytes(&found.commit)
            .bytes(asked.directory.as_deref().unwrap_or_default())
            .bytes(asked.checksum.as_deref().unwrap_or_default())
            .bytes([u8::from(keeps), u8::from(asked.skips_submodules)]);
        if keeps {
            // It is written there.
            key = key.bytes(&asked.remote);
        }
        key.finish()
    }

    fn fetch(&self, found: &FoundRevision, with: &With<'_>) -> Result<TreeRef> {
        match found.tree {
            Some(tree) => Ok(tree),
            None => self.0.fetch(&found.resolved, &self.call(with)),
        }
    }
}
