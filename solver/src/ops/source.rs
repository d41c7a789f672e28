//! Sources as operations: an image of the store, an image of a layout, a local directory.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use engine::{BoxFuture, CacheKey, Op, OpContext, OpError};
use llb::Vertex;
use llb::op::{ImageSource, LocalSource, OciLayoutSource, Source};

use crate::build::blocking;
use crate::content::Digest;
use crate::error::{Error, Result};
use crate::images::Image;
use crate::images::arrival::Arrival;
use crate::images::document::Platform;
use crate::images::intake::{Intake, LayerSource};
use crate::ops::{Environment, LocalContext, adopt, op_error};
use crate::ops::{fetched, links};
use crate::progress::Reporter;
use crate::result::Value;
use crate::sources::local;

/// The operation of a source.
///
/// # Errors
/// [`Error::Unsupported`] for schemes that are not done; [`Error::NoContext`].
pub(super) fn convert(
    source: &Source,
    vertex: &Vertex,
    environment: Arc<Environment>,
) -> Result<Arc<dyn Op<Value = Value>>> {
    if let Some(source) = LocalSource::read(source)? {
        let context = environment.contexts.get(&source.name).cloned();
        let context = context.ok_or_else(|| Error::NoContext {
            name: source.name.clone(),
        })?;
        let (directory, tree) = match context {
            LocalContext::Directory(path) => (path, None),
            LocalContext::Tree(tree) => (PathBuf::new(), Some(tree)),
        };
        let scanned = Mutex::new(tree);
        return Ok(Arc::new(LocalOp {
            source,
            directory,
            environment,
            scanned,
        }));
    }
    if let Some(op) = fetched::convert(source, &environment)? {
        return Ok(op);
    }
    let (reference, is_remote) = if let Some(image) = ImageSource::read(source)? {
        (image.reference, true)
    } else if let Some(layout) = OciLayoutSource::read(source)? {
        (layout.reference, false)
    } else {
        return Err(Error::Unsupported {
            what: format!("source {}", source.identifier),
        });
    };
    let platform = vertex
        .platform()
        .map_or_else(host_platform, convert_platform);
    Ok(Arc::new(ImageOp {
        reference,
        is_remote,
        platform,
        environment,
    }))
}

fn host_platform() -> Platform {
    convert_platform(&llb::Platform::host())
}

pub(crate) fn convert_platform(platform: &llb::Platform) -> Platform {
    Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
    }
}

/// An image that the frontend looked up: of the store or of a layout, or at a registry, and then
/// its layers are fetched when somebody needs them.
#[derive(Clone, Debug)]
struct ImageOp {
    reference: String,
    /// Whether a registry may have what the store has not.
    is_remote: bool,
    platform: Platform,
    environment: Arc<Environment>,
}

impl ImageOp {
    fn find(&self) -> Result<(Image, Option<&Arrival>)> {
        if let Some(found) = self.environment.coming.get(&self.reference, &self.platform) {
            return Ok((found.image.clone(), Some(&found.arrival)));
        }
        let images = &self.environment.images;
        let target = images.resolve(&self.reference)?;
        let target = target.ok_or_else(|| Error::NoImage {
            reference: self.reference.clone(),
        })?;
        Ok((images.open(&self.reference, &target, &self.platform)?, None))
    }

    fn unpack(&self, context: OpContext) -> Result<Value> {
        let (image, arrival) = self.find()?;
        let Environment { images, remote, .. } = &*self.environment;
        let reporter = Reporter::of_operation(context.output);
        let cancel = context.cancel;
        let layers = match self.is_remote {
            true => Some(remote.layers(&self.reference, reporter.clone(), cancel.clone())?),
            false => None,
        };
        let intake = Intake {
            source: layers.as_ref().map(|layers| layers as &dyn LayerSource),
            arrival,
            reporter,
            cancel,
        };
        images.take_in(&self.reference, &image, &intake)
    }
}

impl Op for ImageOp {
    type Value = Value;

    fn cache_map(&self, _: OpContext) -> BoxFuture<'_, Result<CacheKey, OpError>> {
        Box::pin(async {
            let (image, _) = self.find().map_err(op_error)?;
            let key = CacheKey::builder("varve solver: image source v1");
            Ok(key
                .bytes(Digest::of(&image.config_bytes).as_bytes())
                .finish())
        })
    }

    fn exec<'a>(
        &'a self,
        _: &'a [Value],
        context: OpContext,
    ) -> BoxFuture<'a, Result<Vec<Value>, OpError>> {
        Box::pin(async {
            let op = self.clone();
            let value = blocking(move || op.unpack(context)).await;
            Ok(vec![value.map_err(op_error)?])
        })
    }
}

/// A build context.
#[derive(Debug)]
struct LocalOp {
    source: LocalSource,
    /// The directory; of no meaning if the tree is known.
    directory: PathBuf,
    environment: Arc<Environment>,
    /// The tree: of a context that was fetched, or what the scan for the key found, so that the
    /// directory is read once.
    scanned: Mutex<Option<store::TreeRef>>,
}

impl LocalOp {
    async fn scan(&self, context: OpContext) -> Result<store::TreeRef> {
        if let Some(tree) = *self.scanned.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(tree);
        }
        let environment = self.environment.clone();
        let (source, directory) = (self.source.clone(), self.directory.clone());
        let output = context.output.clone();
        let scan = move || {
            let name = format!("transferring {}:", source.name);
            let read = |bytes| output.status(name.clone(), bytes, None, false);
            let (tree, scanned) = local::scan(environment.store(), &directory, &source, &read)?;
            output.status(name.clone(), scanned.bytes_read, None, true);
            Ok::<_, Error>(tree)
        };
        let tree = blocking(scan).await?;
        *self.scanned.lock().unwrap_or_else(PoisonError::into_inner) = Some(tree);
        Ok(tree)
    }
}

impl Op for LocalOp {
    type Value = Value;

    fn cache_map(&self, context: OpContext) -> BoxFuture<'_, Result<CacheKey, OpError>> {
        Box::pin(async {
            let tree = self.scan(context).await.map_err(op_error)?;
            let key = CacheKey::builder("varve solver: local source v1");
            let mut key = key.bytes(tree.key.as_bytes());
            let whole = [(Vec::new(), store::Entry::Directory(tree))];
            let linked = links::pairs(&**self.environment.store(), &whole);
            for (path, first) in linked.map_err(op_error)? {
                key = key.bytes(path).bytes(first);
            }
            Ok(key.finish())
        })
    }

    fn exec<'a>(
        &'a self,
        _: &'a [Value],
        context: OpContext,
    ) -> BoxFuture<'a, Result<Vec<Value>, OpError>> {
        Box::pin(async {
            let tree = self.scan(context).await.map_err(op_error)?;
            let environment = self.environment.clone();
            let adopted = blocking(move || adopt(tree, &environment)).await;
            adopted.map_err(op_error)
        })
    }
}
