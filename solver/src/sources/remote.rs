//! Contexts that are no directory of this machine: an archive on standard input, a git repository,
//! a file of the web.
//!
//! They are fetched once, at the beginning of a build, and are a tree of the store from then on. As
//! in BuildKit, `.dockerignore` means nothing there.

mod git;

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::sync::{Arc, Mutex, PoisonError};

use engine::CancelToken;
use llb::op::HttpSource;
use store::{Batch, Content, Editor, Found, RelPath, Store, TreeRef};

use crate::agents::Agents;
use crate::error::{Error, Result};
use crate::ops::archive;
use crate::progress::Step;
use crate::secrets::Secrets;
use crate::sources::registry::Remote;
use crate::sources::registry::web::WebSource;

pub use self::git::GitSource;
pub(crate) use self::git::{GitCall, Resolved};

/// What a file of the web is called that is a context. BuildKit's word.
pub(crate) const WEB_CONTEXT: &str = "context";

/// Bytes of a file by which it is told whether it is an archive.
const ARCHIVE_START_BYTES: u64 = 512;

/// Bytes of an archive that are read at a time.
const READ_BUFFER_BYTES: usize = 256 * 1024;

/// A context that is not a directory of this machine.
#[derive(Clone, Debug)]
pub enum RemoteSource {
    /// A revision of a git repository.
    Git(GitSource),
    /// A tar archive, compressed or not.
    Archive(ArchiveSource),
    /// A file of the web: an archive, or a Dockerfile that needs nothing.
    Web(String),
}

/// What is needed to bring a context here.
#[derive(Debug)]
pub(crate) struct Fetching<'f> {
    pub(crate) store: &'f Store,
    /// How the web is asked.
    pub(crate) remote: &'f Remote,
    pub(crate) secrets: &'f Secrets,
    pub(crate) agents: &'f Agents,
    pub(crate) cancel: &'f CancelToken,
}

/// A context that was fetched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetched {
    pub(crate) tree: TreeRef,
    /// Whether it is a single file, as it came.
    pub(crate) is_file: bool,
}

/// An archive that somebody sends. It can be read once; clones share it.
#[derive(Clone)]
pub struct ArchiveSource(Arc<Mutex<Option<Box<dyn Read + Send>>>>);

impl fmt::Debug for ArchiveSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveSource").finish_non_exhaustive()
    }
}

impl ArchiveSource {
    /// What begins with the bytes of `start` and goes on with `rest`.
    pub fn new(start: Vec<u8>, rest: impl Read + Send + 'static) -> Self {
        let whole: Box<dyn Read + Send> = Box::new(Cursor::new(start).chain(rest));
        ArchiveSource(Arc::new(Mutex::new(Some(whole))))
    }

    /// Whether bytes look like the beginning of an archive that can be a context; 512 are enough.
    pub fn is_archive(start: &[u8]) -> bool {
        archive::is_compressed(start) || archive::is_tar(start)
    }

    fn take(&self) -> Option<Box<dyn Read + Send>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl RemoteSource {
    /// As it is shown to people: nothing of it is secret.
    pub fn name(&self) -> String {
        match self {
            RemoteSource::Git(git) => git.name(),
            RemoteSource::Archive(_) => "-".to_owned(),
            RemoteSource::Web(url) => without_secrets(url),
        }
    }

    /// What a step is called that fetches it. BuildKit's words.
    pub(crate) fn title(&self) -> String {
        match self {
            RemoteSource::Git(git) => format!("load git source {}", git.name()),
            RemoteSource::Archive(_) | RemoteSource::Web(_) => {
                "load remote build context".to_owned()
            }
        }
    }

    /// Brings it into the store; of a file of the web what is in it, if it is an archive and
    /// `unpacks`. Nothing is visible there after an error.
    ///
    /// # Errors
    /// [`Error::Context`]; [`Error::Registry`]; [`Error::Cancelled`]; those of the store.
    pub(crate) fn fetch(&self, with: &Fetching<'_>, step: &Step, unpacks: bool) -> Result<Fetched> {
        let reporter = step.reporter();
        let call = GitCall {
            store: with.store,
            secrets: with.secrets,
            reporter: &reporter,
            cancel: with.cancel,
        };
        let fetched = match self {
            RemoteSource::Git(git) => {
                let git = git.with_agent(with.agents);
                let resolved = git.resolve(&call);
                resolved.and_then(|resolved| git.fetch(&resolved, &call))
            }
            RemoteSource::Archive(archive) => archive
                .take()
                .ok_or_else(|| failed("standard input", "it has been read already"))
                .and_then(|input| unpack(("standard input", input), with, step)),
            RemoteSource::Web(url) => return fetch_file((url, unpacks), with, step),
        };
        match fetched {
            Err(_) if with.cancel.is_cancelled() => Err(Error::Cancelled),
            Err(error) => Err(error),
            Ok(tree) => Ok(Fetched {
                tree,
                is_file: false,
            }),
        }
    }
}

fn failed(name: &str, reason: impl Into<String>) -> Error {
    Error::Context {
        name: name.to_owned(),
        reason: reason.into(),
    }
}

/// A file of the web, or what is in it.
fn fetch_file((url, unpacks): (&str, bool), with: &Fetching<'_>, step: &Step) -> Result<Fetched> {
    let source = HttpSource::new(url, WEB_CONTEXT);
    let web = WebSource {
        source: &source,
        store: with.store,
        remote: with.remote,
        secrets: with.secrets,
        reporter: &step.reporter(),
        cancel: with.cancel,
    };
    let tree = web.fetch(None)?;
    let as_it_came = Fetched {
        tree,
        is_file: true,
    };
    if !unpacks {
        return Ok(as_it_came);
    }
    let mut file = open_file(with.store, tree)?
        .ok_or_else(|| failed(&without_secrets(url), "the file is empty"))?;
    let mut start = Vec::new();
    let read = (&mut file)
        .take(ARCHIVE_START_BYTES)
        .read_to_end(&mut start);
    read.map_err(|error| failed(&without_secrets(url), error.to_string()))?;
    if !ArchiveSource::is_archive(&start) {
        return Ok(as_it_came);
    }
    let whole = Box::new(Cursor::new(start).chain(file));
    let tree = unpack((&without_secrets(url), whole), with, step)?;
    Ok(Fetched {
        tree,
        is_file: false,
    })
}

/// The only file of a context that came as one; `None` if it has nothing.
fn open_file(store: &Store, tree: TreeRef) -> Result<Option<File>> {
    let mut editor = Editor::open(store, tree);
    let found = editor.get(&RelPath::lenient(WEB_CONTEXT.as_bytes())?)?;
    match found {
        Some(Found::Leaf(leaf)) => match leaf.content {
            Content::File { blob, size } if size > 0 => Ok(Some(store.objects().open_blob(blob)?)),
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

fn unpack(
    (name, input): (&str, Box<dyn Read + Send>),
    with: &Fetching<'_>,
    step: &Step,
) -> Result<TreeRef> {
    let (store, failed) = (with.store, |reason: String| failed(name, reason));
    let input = Watched {
        input,
        read: 0,
        step,
        cancel: with.cancel.clone(),
    };
    let input = BufReader::with_capacity(READ_BUFFER_BYTES, input);
    let decoded = archive::decoded(input).map_err(|error| failed(error.to_string()))?;
    let ingest = store.begin();
    let unpacked = layer::unpack(decoded, &ingest, &layer::Limits::default());
    let unpacked = unpacked.map_err(|error| match error {
        layer::Error::Read { source, .. } => failed(format!("the archive is damaged: {source}")),
        error if error.is_bad_layer() => failed(format!("the archive is damaged: {error}")),
        error => error.into(),
    })?;
    let tree = unpacked.delta.apply(None, &ingest)?;
    ingest.commit(Batch::new())?;
    step.status(TRANSFER, unpacked.size, None, true);
    Ok(tree)
}

/// An address with a scheme, taken apart: `SCHEME://LOGIN@HOST/PATH`.
struct Address<'a> {
    scheme: &'a str,
    login: Option<&'a str>,
    /// With the port.
    host: &'a str,
    /// From the slash on.
    path: &'a str,
}

impl<'a> Address<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, authority),
        };
        Some(Address {
            scheme,
            login,
            host,
            path,
        })
    }

    /// Whether it is of a server of the web: there a name alone is a token, to ssh it is a name.
    fn is_web(&self) -> bool {
        matches!(self.scheme, "http" | "https")
    }
}

/// The address with what stands before `@` in place of a login made unreadable.
pub(crate) fn without_secrets(address: &str) -> String {
    let Some(parts) = Address::read(address) else {
        return address.to_owned();
    };
    let hidden = match parts.login {
        Some(login) if login.contains(':') => "xxxxx:xxxxx",
        Some(_) if parts.is_web() => "xxxxx",
        _ => return address.to_owned(),
    };
    let Address {
        scheme, host, path, ..
    } = parts;
    format!("{scheme}://{hidden}@{host}{path}")
}

/// What the counter of a step is called. BuildKit's words.
const TRANSFER: &str = "transferring context:";

/// An archive on its way: counted, and cut off when nobody wants it any more.
struct Watched<'s> {
    input: Box<dyn Read + Send>,
    read: u64,
    step: &'s Step,
    cancel: CancelToken,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("cancelled"));
        }
        let count = self.input.read(buffer)?;
        self.read += count as u64;
        self.step.status(TRANSFER, self.read, None, false);
        Ok(count)
    }
}

/// A regular file of a fetched context, symbolic links followed inside of it; `None` if there is
/// none of at most `bytes_max` bytes.
///
/// # Errors
/// Those of the store.
pub(crate) fn read_file(
    store: &Store,
    tree: TreeRef,
    path: &str,
    bytes_max: u64,
) -> Result<Option<Vec<u8>>> {
    let mut editor = Editor::open(store, tree);
    let path = editor.resolve(&RelPath::lenient(path.as_bytes())?, true)?;
    let Some(Found::Leaf(leaf)) = editor.get(&path)? else {
        return Ok(None);
    };
    let Content::File { blob, size } = leaf.content else {
        return Ok(None);
    };
    if size > bytes_max {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    if size > 0 {
        let file = store.objects().open_blob(blob)?;
        let read = file.take(bytes_max).read_to_end(&mut bytes);
        read.map_err(|error| Error::io("read", store.objects().path(blob), error))?;
    }
    Ok(Some(bytes))
}
