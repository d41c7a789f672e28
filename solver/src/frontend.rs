//! The Dockerfile frontend: reads the Dockerfile and the ignore file, resolves the images that
//! lowering asks for, and ends with a graph.

mod fetch;
mod lookup;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dockerfile::ignore::Ignore;
use dockerfile::lower::{
    Lowered, Lowering, NamedContext, Options, ResolvedImages, lower, normalize_reference,
};
use snapshotter::leases::{self, Lease, Reference};
use store::{Batch, Store};

use crate::cache::now;
use crate::content::Digest;
use crate::error::{Error, Result};
use crate::images::Images;
use crate::ops::LocalContext;
use crate::progress::{Progress, Step};
use crate::request::{BuildRequest, ContextSource, DockerfileSource, NamedContextSource};
use crate::sources::layout::{Layout, Taken};
use crate::sources::remote;

pub(crate) use self::fetch::fetch_contexts;
pub(crate) use self::lookup::{Coming, LookUp, LookedUp};

/// Whether a name matches a pattern of Go's `path.Match`; one that is malformed matches nothing.
pub fn matches_pattern(pattern: &str, name: &str) -> bool {
    dockerfile::glob::matches(pattern, name).unwrap_or_default()
}

/// Name of a Dockerfile, unless another is given.
const DOCKERFILE: &str = "Dockerfile";

/// Build argument: one platform is treated as several are.
const MULTI_PLATFORM: &str = "BUILDKIT_MULTI_PLATFORM";

/// Name of the main context in the graph.
const CONTEXT: &str = "context";

/// A Dockerfile that was read, for messages about its lines.
#[derive(Clone, Debug, Default)]
pub struct Text {
    /// As it is called in messages.
    pub name: String,
    /// What it says.
    pub bytes: Vec<u8>,
}

/// The graphs of a build, one for each platform, with the directories that they read.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) lowered: Vec<Lowered>,
    pub(crate) contexts: BTreeMap<String, LocalContext>,
    pub(crate) warnings: Vec<String>,
    /// Images whose layers are still at their registry.
    pub(crate) coming: Coming,
}

/// Reads the Dockerfile.
///
/// # Errors
/// [`Error::Io`] in BuildKit's words.
pub(crate) fn read(request: &BuildRequest, store: &Store, progress: &Progress) -> Result<Text> {
    let name = match &request.dockerfile {
        DockerfileSource::Bytes(_) | DockerfileSource::InContext(None) => DOCKERFILE.into(),
        DockerfileSource::File(path) => last_name(path),
        DockerfileSource::InContext(Some(path)) => last_name(Path::new(path)),
    };
    let step = progress.step(format!("[internal] load build definition from {name}"));
    let bytes = match &request.dockerfile {
        DockerfileSource::Bytes(bytes) => Ok(bytes.clone()),
        DockerfileSource::File(path) => read_bounded(path)
            .map_err(|source| Error::io("failed to read dockerfile: open", path, source)),
        DockerfileSource::InContext(path) => read_in_context(request, path.as_deref(), store),
    };
    if let Ok(bytes) = &bytes {
        let size = bytes.len() as u64;
        step.status("transferring dockerfile:", size, None, true);
    }
    Ok(Text {
        name,
        bytes: step.end(bytes)?,
    })
}

fn last_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// A Dockerfile of a context that was fetched.
fn read_in_context(request: &BuildRequest, path: Option<&str>, store: &Store) -> Result<Vec<u8>> {
    let usual = [DOCKERFILE, "dockerfile"];
    let names = path.map_or(usual.to_vec(), |path| vec![path]);
    if let Some(ContextSource::Tree(tree)) = request.context {
        for name in &names {
            let bytes_max = dockerfile::DOCKERFILE_SIZE_MAX as u64;
            if let Some(bytes) = remote::read_file(store, tree, name, bytes_max)? {
                return Ok(bytes);
            }
        }
    }
    let missing = io::Error::from(rustix::io::Errno::NOENT);
    let name = names[0];
    Err(Error::io("failed to read dockerfile: open", name, missing))
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let found = fs::metadata(path)?;
    if !found.is_file() {
        // A pipe would be waited for, a device read without end.
        return Err(io::Error::other("it is not a regular file"));
    }
    if found.len() > dockerfile::DOCKERFILE_SIZE_MAX as u64 {
        return Err(io::Error::other("it is too large for a Dockerfile"));
    }
    fs::read(path)
}

/// Makes the graphs of a build.
///
/// # Errors
/// [`Error::Dockerfile`]; [`Error::NotPulled`]; [`Error::BadImage`].
pub(crate) fn prepare(
    request: &BuildRequest,
    text: &Text,
    look_up: &LookUp<'_>,
    progress: &Progress,
) -> Result<Prepared> {
    let images = look_up.images;
    let parsed = dockerfile::parse(&text.bytes)?;
    let excludes = load_ignore(request, progress)?;
    let mut contexts = BTreeMap::new();
    let main = match &request.context {
        Some(ContextSource::Directory(path)) => Some(LocalContext::Directory(path.clone())),
        Some(ContextSource::Tree(tree)) => Some(LocalContext::Tree(*tree)),
        Some(ContextSource::Remote(_)) | None => None,
    };
    contexts.extend(main.map(|context| (CONTEXT.to_owned(), context)));
    let named = name_contexts(request, images, &mut contexts, progress)?;
    let platforms = target_platforms(&request.platforms)?;
    let epoch = request
        .build_args
        .get("SOURCE_DATE_EPOCH")
        .and_then(|text| text.parse().ok());
    let mut options = Options {
        target: request.target.clone(),
        build_args: request.build_args.clone(),
        labels: request.labels.clone(),
        multi_platform: is_multi_platform(request, platforms.len())?,
        no_cache: request.no_cache.clone(),
        contexts: named,
        context_name: CONTEXT.into(),
        context_excludes: excludes,
        network: request.network,
        shm_size_bytes: request.steps.shm_size_bytes,
        ulimits: request.steps.ulimits.clone(),
        extra_hosts: request.steps.extra_hosts.clone(),
        link_as_merge: true,
        source_date_epoch: epoch,
        file_name: text.name.clone(),
        file_data: text.bytes.clone(),
        ..Options::default()
    };
    let mut resolved = ResolvedImages::new();
    let mut coming = Coming::default();
    let mut lowered = Vec::new();
    let mut warnings = Vec::new();
    for platform in platforms {
        options.target_platform = platform;
        let known = (&mut resolved, &mut coming);
        let one = lower_fully(&parsed, &options, known, look_up, progress)?;
        for warning in &one.warnings {
            let warning = format!("{} (line {})", warning.message, warning.span.start);
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        lowered.push(one);
    }
    Ok(Prepared {
        lowered,
        contexts,
        warnings,
        coming,
    })
}

/// Lowers for one platform; what has to be resolved is remembered for the next one.
fn lower_fully(
    parsed: &dockerfile::ast::Dockerfile,
    options: &Options,
    (resolved, coming): (&mut ResolvedImages, &mut Coming),
    look_up: &LookUp<'_>,
    progress: &Progress,
) -> Result<Lowered> {
    loop {
        match lower(parsed, options, resolved)? {
            Lowering::Done(lowered) => return Ok(*lowered),
            Lowering::NeedImages(requests) => {
                for (request, image) in look_up.all(&requests, coming, progress)? {
                    resolved.insert(request, image);
                }
            }
        }
    }
}

/// What is built for, each platform once; one `None` if nothing is said.
pub(crate) fn target_platforms(texts: &[String]) -> Result<Vec<Option<llb::Platform>>> {
    let mut platforms: Vec<Option<llb::Platform>> = Vec::new();
    for text in texts {
        let wanted = platform(Some(text))?;
        let same = |known: &Option<llb::Platform>| {
            let normal = |one: &Option<llb::Platform>| one.as_ref().map(llb::Platform::normalized);
            normal(known) == normal(&wanted)
        };
        if !platforms.iter().any(same) {
            platforms.push(wanted);
        }
    }
    if platforms.is_empty() {
        platforms.push(None);
    }
    Ok(platforms)
}

/// Whether what is made for `count` platforms is made for several: with an index, with a directory
/// for each. It is also for one, if that is asked for.
///
/// # Errors
/// [`Error::BuildArg`].
pub(crate) fn is_multi_platform(request: &BuildRequest, count: usize) -> Result<bool> {
    let Some(value) = request.build_args.get(MULTI_PLATFORM) else {
        return Ok(count > 1);
    };
    let refused = |reason: String| Error::BuildArg {
        name: MULTI_PLATFORM,
        value: value.clone(),
        reason,
    };
    match dockerfile::directives::parse_bool(value) {
        _ if value.is_empty() => Ok(count > 1),
        None => Err(refused(format!(
            "invalid boolean value for multi-platform: {value}"
        ))),
        Some(false) if count > 1 => Err(refused(
            "conflicting config: returning multiple target platforms is not allowed".to_owned(),
        )),
        Some(wanted) => Ok(wanted),
    }
}

/// The platform that a person names; `local` is this machine's.
pub(crate) fn platform(text: Option<&str>) -> Result<Option<llb::Platform>> {
    let host = llb::Platform::host();
    let parsed = text.map(|text| match text {
        "local" => Ok(host),
        text => llb::Platform::parse(text, &host),
    });
    Ok(parsed.transpose()?)
}

/// The name as a person writes it: without what is filled in by default.
pub fn familiar(reference: &str) -> String {
    let short = reference.strip_prefix("docker.io/").unwrap_or(reference);
    let short = short.strip_prefix("library/").unwrap_or(short);
    short.strip_suffix(":latest").unwrap_or(short).to_owned()
}

/// The name as `docker images` and archives write it: without what is filled in by default, but
/// with its tag.
pub fn familiar_tagged(reference: &str) -> String {
    let short = reference.strip_prefix("docker.io/").unwrap_or(reference);
    short.strip_prefix("library/").unwrap_or(short).to_owned()
}

/// The name without its tag and digest: `docker.io/library/busybox`.
pub(crate) fn repository(reference: &str) -> &str {
    let name = reference
        .split_once('@')
        .map_or(reference, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// A reference in its full form: `docker.io/library/busybox:latest`.
///
/// # Errors
/// [`Error::BadImage`] in docker's words.
pub fn normalize(name: &str) -> Result<String> {
    let reference = normalize_reference(name);
    reference
        .map(|reference| reference.to_string())
        .map_err(|reason| Error::bad_image(name, reason))
}

fn load_ignore(request: &BuildRequest, progress: &Progress) -> Result<Vec<String>> {
    let mut candidates = Vec::new();
    if let DockerfileSource::File(path) = &request.dockerfile {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".dockerignore");
        candidates.push(path.with_file_name(name));
    }
    if let Some(ContextSource::Directory(context)) = &request.context {
        candidates.push(context.join(".dockerignore"));
    }
    let step = progress.step("[internal] load .dockerignore");
    let patterns = read_ignore(&candidates, Some(&step));
    step.end(patterns)
}

/// The patterns of the first ignore file that is there.
fn read_ignore(candidates: &[PathBuf], step: Option<&Step>) -> Result<Vec<String>> {
    for path in candidates {
        let bytes = match read_bounded(path) {
            Ok(bytes) => bytes,
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                continue;
            }
            Err(e) => return Err(Error::io("open", path, e)),
        };
        if let Some(step) = step {
            step.status("transferring context:", bytes.len() as u64, None, true);
        }
        let patterns = Ignore::parse(&bytes)?.patterns();
        return Ok(patterns
            .into_iter()
            .map(|pattern| String::from_utf8_lossy(&pattern).into_owned())
            .collect());
    }
    Ok(Vec::new())
}

/// Turns named contexts into what lowering knows, bringing images of layouts into the store.
fn name_contexts(
    request: &BuildRequest,
    images: &Images,
    contexts: &mut BTreeMap<String, LocalContext>,
    progress: &Progress,
) -> Result<BTreeMap<String, NamedContext>> {
    let mut named = BTreeMap::new();
    for (name, source) in &request.named_contexts {
        let context = match source {
            NamedContextSource::Image(reference) => NamedContext::Image {
                reference: reference.clone(),
            },
            NamedContextSource::Directory(path) => {
                contexts.insert(name.clone(), LocalContext::Directory(path.clone()));
                let excludes = read_ignore(&[path.join(".dockerignore")], None)?;
                NamedContext::Local {
                    name: name.clone(),
                    excludes,
                }
            }
            NamedContextSource::Tree(tree) => {
                contexts.insert(name.clone(), LocalContext::Tree(*tree));
                NamedContext::Local {
                    name: name.clone(),
                    excludes: Vec::new(),
                }
            }
            NamedContextSource::Remote(remote) => {
                return Err(Error::Context {
                    name: remote.name(),
                    reason: "it has not been fetched".to_owned(),
                });
            }
            NamedContextSource::Layout { path, tag, digest } => {
                let title = format!("[context {name}] load metadata from {}", path.display());
                let step = progress.step(title);
                let digest = step.end(load_layout(images, path, tag.as_deref(), *digest))?;
                NamedContext::OciLayout {
                    store: name.clone(),
                    digest: digest.to_string(),
                }
            }
        };
        named.insert(name.clone(), context);
    }
    Ok(named)
}

fn load_layout(
    images: &Images,
    path: &Path,
    tag: Option<&str>,
    digest: Option<Digest>,
) -> Result<Digest> {
    let layout = Layout::open(path)?;
    let target = layout.select(tag, digest)?;
    let id = format!("layout/{}", target.digest);
    if images.is_held(&id)? {
        return Ok(target.digest);
    }
    let ingest = images.content().begin();
    let mut batch = Batch::new();
    let taken = Taken {
        are_used: true,
        platforms: &[],
    };
    let blobs = layout.copy(&target, images.content(), (&ingest, &mut batch), taken)?;
    let references = blobs.into_iter().map(Reference::Blob).collect();
    leases::put(
        &mut batch,
        &Lease {
            id,
            created: now(),
            references,
        },
    );
    ingest.commit(batch)?;
    Ok(target.digest)
}
