//! OCI image layouts and image archives as sources: a directory, or a tar file that holds one, or
//! what `docker save` writes.

mod verify;
mod wanted;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use layer::digest::Digester;
use serde::Deserialize;
use store::{Batch, BlobId, Ingest};

use crate::content::{ContentStore, Digest, read_document};
use crate::error::{Error, Result};
use crate::images::document::{
    self, CONFIG, Descriptor, INDEX, ImageConfig, Index, MANIFEST, Manifest, Platform,
};

use self::verify::Unverified;
use self::wanted::Wanted;

/// Annotation by which OCI tools say the name of an image in a layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation by which containerd and docker say it.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Most members of an archive; 1,024 layers need far fewer.
const MEMBERS_MAX: usize = 100_000;

/// A layout or archive that is open for reading.
#[derive(Debug)]
pub struct Layout {
    path: PathBuf,
    /// What it is called in messages.
    what: String,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Directory,
    /// Offset and length of each member.
    Tar(HashMap<String, (u64, u64)>),
}

/// An image that a layout names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The name as it stands there: a full reference, a bare tag, or nothing.
    pub name: Option<String>,
    /// The manifest or index.
    pub target: Descriptor,
}

/// An image whose content was brought in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// What it is called where it came from.
    pub names: Vec<String>,
    /// Its manifest or index.
    pub target: Descriptor,
    /// The blobs that it consists of, to be held by a lease.
    pub blobs: Vec<BlobId>,
}

/// How an image is brought in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken<'t> {
    /// Whether it is unpacked next.
    pub are_used: bool,
    /// Only these platforms of it; all when there are none.
    pub platforms: &'t [Platform],
}

/// What is brought in of an image.
struct Copying<'c, 'i> {
    content: &'c ContentStore,
    ingest: &'c Ingest<'i>,
    batch: &'c mut Batch,
    blobs: Vec<BlobId>,
    unverified: HashSet<Unverified>,
    wanted: Wanted<'c>,
}

/// Member of `manifest.json` of `docker save`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Layout {
    /// Opens a layout directory or an archive file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::BadImage`] if it is neither.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_as(path, &path.display().to_string())
    }

    /// The same for one that is called otherwise: its path says nothing to a person.
    ///
    /// # Errors
    /// As [`Layout::open`].
    pub fn open_as(path: &Path, what: &str) -> Result<Self> {
        let found = std::fs::metadata(path).map_err(|e| Error::io("open", path, e))?;
        let form = if found.is_dir() {
            Form::Directory
        } else {
            Form::Tar(index_tar(path, what)?)
        };
        let layout = Layout {
            path: path.into(),
            what: what.into(),
            form,
        };
        if !layout.has("index.json") && !layout.has("manifest.json") {
            let reason = "it is neither an OCI image layout (no index.json) nor a docker archive \
                          (no manifest.json); a root file system becomes an image by a Dockerfile: \
                          FROM scratch, ADD ROOT.tar /";
            return Err(Error::bad_image(layout.what(), reason));
        }
        Ok(layout)
    }

    fn what(&self) -> String {
        self.what.clone()
    }

    fn has(&self, name: &str) -> bool {
        match &self.form {
            Form::Directory => self.path.join(name).is_file(),
            Form::Tar(members) => members.contains_key(name),
        }
    }

    fn read(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        match &self.form {
            Form::Directory => {
                let path = self.path.join(name);
                let found = std::fs::metadata(&path).map_err(|e| Error::io("open", &path, e))?;
                if !found.is_file() {
                    return Err(Error::bad_image(self.what(), format!("{name} is no file")));
                }
                Ok(Box::new(
                    File::open(&path).map_err(|e| Error::io("open", &path, e))?,
                ))
            }
            Form::Tar(members) => {
                let (offset, size) = members.get(name).copied().ok_or_else(|| {
                    Error::bad_image(self.what(), format!("{name} is missing from the archive"))
                })?;
                let failed = |e| Error::io("read", &self.path, e);
                let mut file = File::open(&self.path).map_err(failed)?;
                file.seek(SeekFrom::Start(offset)).map_err(failed)?;
                Ok(Box::new(file.take(size)))
            }
        }
    }

    fn document(&self, name: &str) -> Result<Vec<u8>> {
        read_document(&format!("{} in {}", name, self.what()), self.read(name)?)
    }

    /// The images that it names.
    ///
    /// # Errors
    /// [`Error::BadImage`], [`Error::Json`].
    pub fn list(&self) -> Result<Vec<Listed>> {
        if !self.has("index.json") {
            return Ok(Vec::new());
        }
        let what = format!("index.json in {}", self.what());
        let index: Index = document::parse(&what, &self.document("index.json")?)?;
        if index.manifests.is_empty() && !self.has("manifest.json") {
            return Err(Error::bad_image(
                self.what(),
                "its index.json names no image",
            ));
        }
        let name = |annotations: &BTreeMap<String, String>| {
            annotations
                .get(CONTAINERD_NAME)
                .or_else(|| annotations.get(REF_NAME))
                .cloned()
        };
        let listed = |target: Descriptor| Listed {
            name: name(&target.annotations),
            target,
        };
        Ok(index.manifests.into_iter().map(listed).collect())
    }

    /// Brings everything that a listed image consists of into the store; gives all its blobs. Of
    /// layers that are new, nothing is known but their digests: `are_used` if they are unpacked
    /// next, which compares them with the config; else that is done here.
    ///
    /// # Errors
    /// [`Error::NoPlatform`]; [`Error::BadImage`] for content that is missing or is not what its
    /// digest says.
    pub fn copy(
        &self,
        target: &Descriptor,
        content: &ContentStore,
        (ingest, batch): (&Ingest<'_>, &mut Batch),
        taken: Taken<'_>,
    ) -> Result<Vec<BlobId>> {
        let mut copying = Copying {
            content,
            ingest,
            batch,
            blobs: Vec::new(),
            unverified: HashSet::new(),
            wanted: Wanted::new(taken.platforms),
        };
        self.copy_below(target, &mut copying, 0)?;
        copying.wanted.check(&self.what())?;
        let Copying {
            blobs,
            unverified,
            batch,
            ..
        } = copying;
        if !taken.are_used {
            self.verify(&unverified, content, batch)?;
        }
        Ok(blobs)
    }

    fn copy_below(
        &self,
        target: &Descriptor,
        copying: &mut Copying<'_, '_>,
        depth: usize,
    ) -> Result<()> {
        let name = blob_name(target.digest);
        let bytes = self.document(&name)?;
        if Digest::of(&bytes) != target.digest {
            let reason = format!("{name} does not have the digest of its name");
            return Err(Error::bad_image(self.what(), reason));
        }
        if bytes.len() as u64 != target.size {
            let (length, size) = (bytes.len(), target.size);
            let reason =
                format!("{name} has {length} bytes, its descriptor says the size is {size}");
            return Err(Error::bad_image(self.what(), reason));
        }
        if document::is_index(&bytes) {
            if depth >= document::INDEX_DEPTH_MAX {
                return Err(Error::bad_image(
                    self.what(),
                    "its indexes are nested too deeply",
                ));
            }
            let index: Index = document::parse(&self.what(), &bytes)?;
            let left_out = copying.wanted.left_out(&index);
            for child in &index.manifests {
                if left_out.contains(&child.digest) {
                    continue;
                }
                // Layouts may leave out platforms that nobody wanted.
                if self.has(&blob_name(child.digest)) {
                    self.copy_below(child, copying, depth + 1)?;
                }
            }
        } else {
            let manifest: Manifest = document::parse(&self.what(), &bytes)?;
            let config = self.document(&blob_name(manifest.config.digest))?;
            // One is no image: its parts come along as they are, and nobody unpacks them.
            let config = match target.is_attestation() {
                true => None,
                false => Some(document::check(&self.what(), &manifest, &config)?),
            };
            if let Some(config) = &config {
                copying.wanted.note(config);
            }
            let diff_ids = config.map(|config| config.rootfs.diff_ids);
            self.copy_part(&manifest.config, copying)?;
            // Together with this config its layers were looked at before.
            let is_known = copying.content.find(target.digest)?.is_some();
            for (at, layer) in manifest.layers.iter().enumerate() {
                let kept = self.copy_part(layer, copying)?;
                let diff_id = diff_ids.as_ref().and_then(|ids| ids.get(at).copied());
                if let Some(diff_id) = diff_id.filter(|_| kept.is_none() || !is_known) {
                    copying.unverified.insert(Unverified {
                        member: blob_name(layer.digest),
                        kept,
                        layer: layer.digest,
                        diff_id,
                    });
                }
            }
        }
        let put = copying.content.put(copying.ingest, copying.batch, &bytes)?;
        copying.blobs.push(put.1.blob);
        Ok(())
    }

    /// Brings in a config or layer; where it is if that was here before.
    fn copy_part(
        &self,
        part: &Descriptor,
        copying: &mut Copying<'_, '_>,
    ) -> Result<Option<BlobId>> {
        let what = format!("{} in {}", part.digest, self.what());
        let (located, kept) = match copying.content.find(part.digest)? {
            Some(located) if located.size != part.size => {
                let (length, size) = (located.size, part.size);
                let reason =
                    format!("it has {length} bytes, its descriptor says the size is {size}");
                return Err(Error::bad_image(what, reason));
            }
            Some(located) => (located, Some(located.blob)),
            None => {
                let body = self.read(&blob_name(part.digest))?;
                let size = Some(part.size);
                let (ingest, batch) = (copying.ingest, &mut *copying.batch);
                let content = copying.content;
                let put = content.put_stream(ingest, batch, &what, part.digest, size, body)?;
                (put, None)
            }
        };
        copying.blobs.push(located.blob);
        Ok(kept)
    }

    /// Brings the images of a `docker save` archive without an index into the store, as OCI images
    /// of the same layers: what each is called, what it is, and all its blobs.
    ///
    /// # Errors
    /// As [`Layout::copy`].
    pub fn copy_docker(
        &self,
        content: &ContentStore,
        ingest: &Ingest<'_>,
        batch: &mut Batch,
        platforms: &[Platform],
    ) -> Result<Vec<Copied>> {
        let what = self.what();
        let images: Vec<DockerImage> = document::parse(&what, &self.document("manifest.json")?)?;
        let (mut copied, mut unverified) = (Vec::new(), HashSet::new());
        for image in images {
            let config = self.document(&image.config)?;
            let parsed: ImageConfig = document::parse(&format!("image config in {what}"), &config)?;
            let mut wanted = Wanted::new(platforms);
            wanted.note(&parsed);
            wanted.check(&what)?;
            let diff_ids = parsed.rootfs.diff_ids;
            if diff_ids.len() != image.layers.len() {
                let (listed, known) = (image.layers.len(), diff_ids.len());
                let reason = format!("its manifest.json has {listed} layers, its config {known}");
                return Err(Error::bad_image(what, reason));
            }
            let size = config.len() as u64;
            let (digest, located) = content.put(ingest, batch, &config)?;
            let config = Descriptor::new(CONFIG, digest, size);
            let mut blobs = vec![located.blob];
            let mut layers = Vec::new();
            for (member, diff_id) in image.layers.iter().zip(diff_ids) {
                let what = format!("{member} in {what}");
                let compression = self.compression(member, &what)?;
                // One that is not compressed is what the config says, or refused; of one that is
                // here already that is not seen when it is put.
                let (digest, size) = match compression {
                    layer::Compression::None if content.find(diff_id)?.is_none() => {
                        (diff_id, self.size(member))
                    }
                    _ => digest_of(self.read(member)?, &what).map(|(d, size)| (d, Some(size)))?,
                };
                let kept = content.find(digest)?.map(|located| located.blob);
                let body = self.read(member)?;
                let located = content.put_stream(ingest, batch, &what, digest, size, body)?;
                blobs.push(located.blob);
                layers.push(Descriptor::new(
                    compression.media_type(),
                    digest,
                    located.size,
                ));
                unverified.insert(Unverified {
                    member: member.clone(),
                    kept,
                    layer: digest,
                    diff_id,
                });
            }
            let manifest = Manifest {
                schema_version: 2,
                media_type: MANIFEST.into(),
                artifact_type: String::new(),
                config,
                layers,
                annotations: BTreeMap::new(),
            };
            let bytes = serde_json::to_vec(&manifest).map_err(|source| Error::Json {
                what: what.clone(),
                source,
            })?;
            let (digest, located) = content.put(ingest, batch, &bytes)?;
            blobs.push(located.blob);
            let target = Descriptor::new(MANIFEST, digest, bytes.len() as u64);
            copied.push(Copied {
                names: image.repo_tags.unwrap_or_default(),
                target,
                blobs,
            });
        }
        self.verify(&unverified, content, batch)?;
        Ok(copied)
    }

    /// How a member is compressed, told by its first bytes.
    fn compression(&self, member: &str, what: &str) -> Result<layer::Compression> {
        let mut start = Vec::new();
        let mut body = self.read(member)?.take(layer::MAGIC_BYTES as u64);
        body.read_to_end(&mut start)
            .map_err(|e| Error::io("read", what, e))?;
        Ok(layer::Compression::detect(&start)?)
    }

    /// Length of a member of an archive.
    fn size(&self, member: &str) -> Option<u64> {
        match &self.form {
            Form::Directory => None,
            Form::Tar(members) => members.get(member).map(|(_, size)| *size),
        }
    }

    /// The one image of the layout that `--build-context name=oci-layout://path[:tag|@digest]`
    /// means.
    ///
    /// # Errors
    /// [`Error::BadImage`] if there is none, or more than one.
    pub fn select(&self, tag: Option<&str>, digest: Option<Digest>) -> Result<Descriptor> {
        let listed = self.list()?;
        if let Some(digest) = digest {
            let found = listed.iter().find(|one| one.target.digest == digest);
            return Ok(match found {
                Some(found) => found.target.clone(),
                None => Descriptor::new(
                    INDEX,
                    digest,
                    self.document(&blob_name(digest))?.len() as u64,
                ),
            });
        }
        let tagged = |one: &&Listed| match (tag, &one.name) {
            (None, _) => true,
            (Some(tag), Some(name)) => name == tag || name.ends_with(&format!(":{tag}")),
            (Some(_), None) => false,
        };
        let found: Vec<_> = listed.iter().filter(tagged).collect();
        let names = || {
            let names = listed
                .iter()
                .map(|one| one.name.as_deref().unwrap_or("(no name)"));
            names.collect::<Vec<_>>().join(", ")
        };
        match (found.as_slice(), tag) {
            ([one], _) => Ok(one.target.clone()),
            ([], Some(tag)) => Err(Error::bad_image(
                self.what(),
                format!("no image {tag:?} (has: {})", names()),
            )),
            ([], None) => Err(Error::bad_image(self.what(), "it holds no image")),
            (several, _) => match several
                .iter()
                .find(|one| one.name.as_deref() == Some("latest"))
            {
                Some(latest) => Ok(latest.target.clone()),
                None => {
                    let reason = format!("it holds several images, name one: {}", names());
                    Err(Error::bad_image(self.what(), reason))
                }
            },
        }
    }
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn digest_of(mut body: impl Read, what: &str) -> Result<(Digest, u64)> {
    let mut digester = Digester::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = body
            .read(&mut buffer)
            .map_err(|e| Error::io("read", what, e))?;
        if count == 0 {
            return Ok(digester.finish());
        }
        digester.update(&buffer[..count]);
    }
}

/// Where the members of a tar file lie.
fn index_tar(path: &Path, what: &str) -> Result<HashMap<String, (u64, u64)>> {
    let failed = |e| Error::io("read archive", what, e);
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut archive = tar::Archive::new(file);
    let mut members = HashMap::new();
    let mut links = Vec::new();
    for entry in archive.entries_with_seek().map_err(failed)? {
        let entry = entry.map_err(|e| {
            // The first line says what is wrong, and may quote what is no text.
            let told = e.to_string();
            let told = told.lines().next().unwrap_or_default();
            let is_text = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
            let reason = match told.bytes().all(is_text) {
                true => format!("it is no tar archive ({told})"),
                false => "it is no tar archive".to_owned(),
            };
            Error::bad_image(what, reason)
        })?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = name.trim_start_matches("./").to_owned();
        if members.len() + links.len() >= MEMBERS_MAX {
            return Err(Error::bad_image(what, "it has too many members"));
        }
        match entry.header().entry_type() {
            tar::EntryType::Regular => {
                let position = entry.raw_file_position();
                if position.saturating_add(entry.size()) > length {
                    let reason = format!(
                        "it is cut off in the middle of {name}, after {length} bytes; make or \
                         fetch it again"
                    );
                    return Err(Error::bad_image(what, reason));
                }
                members.insert(name, (position, entry.size()));
            }
            // Older docker versions link equal layers: `../<id>/layer.tar`.
            tar::EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                links.push((name, String::from_utf8_lossy(&target).into_owned()));
            }
            _ => {}
        }
    }
    for (name, target) in links {
        let target = target.trim_start_matches("../").to_owned();
        if let Some(member) = members.get(&target).copied() {
            members.insert(name, member);
        }
    }
    Ok(members)
}
