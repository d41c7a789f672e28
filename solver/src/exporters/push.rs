//! Pushes what was built, or an image of the store, to registries.

mod named;

pub(crate) use self::named::push as named;

use std::io;

use layer::{Compression, Encoding};
use snapshotter::Manager;
use store::Batch;

use super::Export;
use super::image::{self, Image};
use super::layers::{self, Packed};
use crate::content::note;
use crate::error::{Error, Result};
use crate::frontend;
use crate::images::Images;
use crate::images::document::Descriptor;
use crate::progress::Step;
use crate::request::RegistryOutput;
use crate::sources::registry::Remote;
use crate::sources::registry::upload::{Cargo, Payload};

/// Pushes the image that was built; tells its names. `tags` are those of `-t`.
///
/// # Errors
/// [`Error::Output`] without a name; [`Error::Registry`]; those of packing.
pub(super) fn push(
    export: &Export,
    output: &RegistryOutput,
    tags: &[String],
    (images, snapshots): (&Images, &Manager),
    step: &Step,
) -> Result<(Image, Vec<String>)> {
    let names = names(output, tags)?;
    let image = image::assemble(
        export,
        images,
        snapshots,
        &output.attributes,
        Compression::Gzip,
        step,
    )?;
    let mut cargo = Cargo::default();
    for one in &image.platforms {
        for layer in &one.layers {
            let payload = payload(layer, images)?;
            cargo.add_blob(&layer.descriptor, payload);
        }
        let config = Payload::Memory(one.config.bytes.clone().into());
        cargo.add_blob(&one.config.descriptor, config);
    }
    for document in image.documents() {
        if image
            .platforms
            .iter()
            .all(|one| one.config.digest() != document.digest())
        {
            let bytes = document.bytes.clone().into();
            cargo.documents.push((document.descriptor.clone(), bytes));
        }
    }
    let insecure;
    let remote = match output.is_insecure {
        true => {
            let registries = export.request.registries.insecure(&names);
            insecure = Remote::within(&export.remote, &registries);
            &insecure
        }
        false => &export.remote,
    };
    let watch = (&step.reporter(), &export.cancel);
    let store = images.content().store();
    remote.push(&cargo, &names, output.by_digest, store, watch)?;
    Ok((image, names))
}

/// Refuses what could not be pushed, before anything is built.
///
/// # Errors
/// [`Error::Output`] in buildx's words.
pub(super) fn check(output: &RegistryOutput, tags: &[String]) -> Result<()> {
    names(output, tags).map(drop)
}

/// Where to, in full.
fn names(output: &RegistryOutput, tags: &[String]) -> Result<Vec<String>> {
    let refused = |reason: &str| Error::Output {
        output: "type=registry".into(),
        reason: reason.into(),
    };
    let given = if output.names.is_empty() {
        tags
    } else {
        &output.names
    };
    if given.is_empty() {
        return Err(refused(
            "tag is needed when pushing to registry; give -t or name=",
        ));
    }
    for name in given {
        let last = name.rsplit('/').next().unwrap_or(name);
        if output.by_digest && !output.names.is_empty() && last.contains(':') {
            return Err(refused(&format!("can't push tagged ref {name} by digest")));
        }
    }
    given.iter().map(|name| frontend::normalize(name)).collect()
}

/// The bytes of a layer; those of plain layers are made and kept.
fn payload(layer: &Packed, images: &Images) -> Result<Payload> {
    let (content, store, descriptor) = (
        images.content(),
        images.content().store(),
        &layer.descriptor,
    );
    if let Some(located) = content.find(descriptor.digest)? {
        return Ok(Payload::Object(located.blob));
    }
    let Some(change) = &layer.change else {
        return Err(missing(descriptor));
    };
    let ingest = content.begin();
    let mut body = ingest.blob_writer();
    let packed = layers::write(change, layer.clamp, store, Encoding::PLAIN, &mut body)?;
    let (blob, size) = body.commit()?;
    if packed.digest != descriptor.digest {
        return Err(missing(descriptor));
    }
    let mut batch = Batch::new();
    note(
        &mut batch,
        packed.digest,
        crate::content::Located { blob, size },
    );
    ingest.commit(batch)?;
    Ok(Payload::Object(blob))
}

fn missing(descriptor: &Descriptor) -> Error {
    let source = io::Error::other(
        "its bytes are not in the store any more; pull, import or build the image again",
    );
    Error::io("push layer", descriptor.digest.to_string(), source)
}
