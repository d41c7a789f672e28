//! Writes an image as an OCI image layout: a directory, or a tar archive of one, for docker too.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::files::write_to;
use super::image::Image;
use super::layers::{self, Packed};
use super::meter::Meter;
use crate::content::Digest;
use crate::error::{Error, Result};
use crate::frontend;
use crate::images::Images;
use crate::images::document::{Descriptor, INDEX};
use crate::progress::Step;
use crate::request::{Destination, ImageFormat, ImageOutput};

/// Members of a tar archive begin at multiples of this (POSIX.1-1988).
const BLOCK_BYTES: u64 = 512;

/// The member `oci-layout` (OCI image-spec, image-layout.md).
pub(super) const VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Lists the images of a layout.
const INDEX_FILE: &str = "index.json";

/// By these annotations an index names an image: in full, and by its tag.
const IMAGE_NAME: &str = "io.containerd.image.name";
const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";

/// Takes the members of a layout, in the order in which they come.
pub(super) trait Members {
    /// A member whose bytes are in memory.
    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()>;

    /// A member of known length, whose bytes are written by `write`.
    fn stream(
        &mut self,
        name: &str,
        size: u64,
        write: &mut dyn FnMut(&mut (dyn Write + Send)) -> Result<()>,
    ) -> Result<()>;

    /// What the index lists of those who wrote there before.
    fn listed_before(&self) -> Result<Vec<Value>>;
}

/// Writes `index.json`: last of all, since a layout without it is none, so that nobody takes half
/// of one for a whole. What is there under other names stays, as with BuildKit.
pub(super) fn write_index(members: &mut dyn Members, added: &[Descriptor]) -> Result<()> {
    let mut manifests = members.listed_before()?;
    manifests.retain(|before| !added.iter().any(|new| replaces(new, before)));
    for new in added {
        manifests.push(serde_json::to_value(new).map_err(|source| Error::Json {
            what: INDEX_FILE.into(),
            source,
        })?);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    members.bytes(INDEX_FILE, &json(INDEX_FILE, &index)?)
}

/// Whether a descriptor takes the place of one that an index has: it has its name, or both have
/// none.
fn replaces(new: &Descriptor, before: &Value) -> bool {
    let own = |key: &str| new.annotations.get(key).map(String::as_str);
    let its = |key: &str| before["annotations"][key].as_str();
    match (own(IMAGE_NAME), its(IMAGE_NAME)) {
        (Some(own), Some(its)) => own == its,
        _ => own(REFERENCE_NAME) == its(REFERENCE_NAME),
    }
}

/// Writes the image.
///
/// # Errors
/// [`Error::Io`]; an archive that was begun is removed, a directory has no `index.json` then.
pub(super) fn write(
    image: &Image,
    output: &ImageOutput,
    names: &[String],
    images: &Images,
    step: &Step,
) -> Result<()> {
    let write =
        |members: &mut dyn Members| members_of(members, image, output.format, names, images);
    let total = Some(archive_bytes(image));
    write_members(
        &output.destination,
        output.is_directory,
        (step, total),
        write,
    )
}

/// Writes a layout, or an archive of one.
///
/// # Errors
/// As [`write`].
pub(super) fn write_members(
    destination: &Destination,
    is_directory: bool,
    (step, total): (&Step, Option<u64>),
    write: impl FnOnce(&mut dyn Members) -> Result<()>,
) -> Result<()> {
    match (destination, is_directory) {
        (Destination::Path(path), true) => {
            write(&mut Directory { path })?;
            step.status("sending tarball", 0, None, true);
            Ok(())
        }
        (Destination::Stdout | Destination::Open(_) | Destination::Engine(_), true) => {
            Err(Error::Output {
                output: "tar=false".into(),
                reason: "a directory needs dest=DIR".into(),
            })
        }
        (destination, false) => write_to(destination, |out| {
            // Its time counts from here.
            step.status("sending tarball", 0, None, false);
            let mut meter = Meter::new(out, step, "sending tarball".into(), total);
            let mut members = Archive {
                builder: tar::Builder::new(&mut meter),
            };
            write(&mut members)?;
            let ended = members.builder.finish();
            ended.map_err(|e| Error::io("write", "archive", e))?;
            drop(members);
            meter.end(true);
            Ok(())
        }),
    }
}

/// About what an archive will take: its members, each with a header and rounded up.
fn archive_bytes(image: &Image) -> u64 {
    let layers = image.platforms.iter().flat_map(|one| &one.layers);
    let layers = layers.map(|layer| (layer.descriptor.digest, layer.descriptor.size));
    let documents = image
        .documents()
        .map(|one| (one.digest(), one.descriptor.size));
    let members: std::collections::BTreeMap<_, _> = layers.chain(documents).collect();
    let sizes = members.into_values();
    sizes
        .map(|size| BLOCK_BYTES + size.next_multiple_of(BLOCK_BYTES))
        .sum()
}

fn members_of(
    members: &mut dyn Members,
    image: &Image,
    format: ImageFormat,
    names: &[String],
    images: &Images,
) -> Result<()> {
    let mut written = std::collections::BTreeSet::new();
    for one in &image.platforms {
        for layer in &one.layers {
            if written.insert(layer.descriptor.digest) {
                layer_member(members, layer, images)?;
            }
        }
    }
    for document in image.documents() {
        if written.insert(document.digest()) {
            members.bytes(&blob_name(document.digest()), &document.bytes)?;
        }
    }
    if format == ImageFormat::Docker {
        members.bytes("manifest.json", &docker_manifest(image, names)?)?;
    }
    members.bytes("oci-layout", VERSION)?;
    let added = listed(&image.target().descriptor, image.created(), names);
    write_index(members, &added)
}

pub(super) fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn layer_member(members: &mut dyn Members, layer: &Packed, images: &Images) -> Result<()> {
    let (digest, size) = (layer.descriptor.digest, layer.descriptor.size);
    let content = images.content();
    let kept = content.find(digest)?.is_some();
    members.stream(
        &blob_name(digest),
        size,
        &mut |out| match (kept, &layer.change) {
            (false, Some(change)) => {
                layers::write_again(change, (layer.clamp, size), content.store(), out)
            }
            _ => content.copy_to(digest, out).map(drop),
        },
    )
}

/// How an index lists an image: once for each of its names.
pub(super) fn listed(
    target: &Descriptor,
    created: Option<&str>,
    names: &[String],
) -> Vec<Descriptor> {
    let descriptor = |name: Option<&String>| {
        let mut descriptor = target.clone();
        let mut annotate = |key: &str, value: &str| {
            descriptor.annotations.insert(key.into(), value.into());
        };
        if let Some(created) = created {
            annotate("org.opencontainers.image.created", created);
        }
        if let Some(name) = name {
            annotate(IMAGE_NAME, name);
            let reference = dockerfile::lower::normalize_reference(name).ok();
            let tag = reference.as_ref().and_then(|reference| reference.tag());
            let tag = tag.unwrap_or("latest");
            annotate(REFERENCE_NAME, tag);
        }
        descriptor
    };
    match names {
        [] => vec![descriptor(None)],
        names => names.iter().map(|name| descriptor(Some(name))).collect(),
    }
}

pub(super) fn json(what: &str, document: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(document).map_err(|source| Error::Json {
        what: what.into(),
        source,
    })
}

fn docker_manifest(image: &Image, names: &[String]) -> Result<Vec<u8>> {
    let one = &image.platforms[0];
    let layers: Vec<String> = one
        .layers
        .iter()
        .map(|layer| blob_name(layer.descriptor.digest))
        .collect();
    let tags: Vec<String> = names
        .iter()
        .map(|name| frontend::familiar_tagged(name))
        .collect();
    let manifest = json!([{
        "Config": blob_name(one.config.digest()),
        "RepoTags": if tags.is_empty() { None } else { Some(tags) },
        "Layers": layers,
    }]);
    self::json("manifest.json", &manifest)
}

struct Directory<'p> {
    path: &'p Path,
}

impl Members for Directory<'_> {
    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.stream(name, bytes.len() as u64, &mut |out| {
            out.write_all(bytes)
                .map_err(|e| Error::io("write", name, e))
        })
    }

    fn stream(
        &mut self,
        name: &str,
        size: u64,
        write: &mut dyn FnMut(&mut (dyn Write + Send)) -> Result<()>,
    ) -> Result<()> {
        let path = self.path.join(name);
        // A blob that is there already has the digest of its name.
        let is_blob = name.starts_with("blobs/");
        if is_blob && fs::metadata(&path).is_ok_and(|found| found.len() == size) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))?;
        }
        write_to(&Destination::Path(path), |out| write(out))
    }

    fn listed_before(&self) -> Result<Vec<Value>> {
        let path = self.path.join(INDEX_FILE);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text.map_err(|e| Error::io("read", &path, e))?,
        };
        let index = serde_json::from_slice::<Value>(&text).ok();
        let listed = index
            .as_ref()
            .and_then(|index| index["manifests"].as_array());
        listed.cloned().ok_or_else(|| Error::Output {
            output: format!("dest={}", self.path.display()),
            reason: format!("{INDEX_FILE} there is no index of a layout; name another directory"),
        })
    }
}

struct Archive<'w> {
    builder: tar::Builder<&'w mut (dyn Write + Send)>,
}

impl Members for Archive<'_> {
    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.stream(name, bytes.len() as u64, &mut |out| {
            out.write_all(bytes)
                .map_err(|e| Error::io("write", name, e))
        })
    }

    fn stream(
        &mut self,
        name: &str,
        size: u64,
        write: &mut dyn FnMut(&mut (dyn Write + Send)) -> Result<()>,
    ) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        let failed = |e: io::Error| Error::io("write archive member", name, e);
        header.set_path(name).map_err(failed)?;
        header.set_mode(0o444);
        header.set_size(size);
        header.set_mtime(0);
        header.set_cksum();
        let out = self.builder.get_mut();
        out.write_all(header.as_bytes()).map_err(failed)?;
        write(out)?;
        // Members end on a block of 512 bytes.
        let padding = size.next_multiple_of(512) - size;
        self.builder
            .get_mut()
            .write_all(&[0; 512][..padding as usize])
            .map_err(failed)
    }

    fn listed_before(&self) -> Result<Vec<Value>> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(names: &[String]) -> Descriptor {
        let digest = Digest::of(b"");
        let mut listed = listed(&Descriptor::new(INDEX, digest, 0), None, names);
        listed.remove(0)
    }

    #[test]
    fn an_image_takes_the_place_of_one_with_its_name_alone() {
        let named = |name: &str| descriptor(&[format!("docker.io/library/{name}")]);
        let before = |image: &Descriptor| serde_json::to_value(image).unwrap();
        let tagged = json!({ "annotations": { REFERENCE_NAME: "1" } });
        let a = named("a:1");
        assert!(replaces(&a, &before(&a)));
        assert!(
            !replaces(&a, &before(&named("b:1"))),
            "equal tags of two images"
        );
        assert!(replaces(&a, &tagged), "skopeo writes a tag alone");
        assert!(!replaces(&named("a:2"), &tagged));
        let nameless = descriptor(&[]);
        assert!(replaces(&nameless, &before(&nameless)));
        assert!(replaces(&nameless, &json!({ "digest": "another" })));
        assert!(!replaces(&nameless, &before(&a)) && !replaces(&a, &before(&nameless)));
    }
}
