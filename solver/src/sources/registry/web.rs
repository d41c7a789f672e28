//! Files of the web as sources: what is there is asked for once a build, and fetched if it is not
//! what was there before.
//!
//! What a server said of an address last (its tag and the digest of what came) is a row of
//! [`Table::Context`]; a collection forgets it, and then the file is fetched again.

use std::io::{self, Write};
use std::time::UNIX_EPOCH;

use engine::{CacheKey, CancelToken};
use flate2::write::MultiGzDecoder;
use layer::digest::Digester;
use llb::op::HttpSource;
use registry::{WebAnswer, WebFile, WebRequest};
use store::codec::{Decoder, Encoder};
use store::{
    Batch, BlobId, BlobWriter, Content, Durability, Editor, Entry, Ingest, Leaf, Metadata, RelPath,
    Store, Table, Timestamp, TreeRef, Xattrs,
};

use super::Remote;
use crate::content::Digest;
use crate::error::{Error, Result};
use crate::progress::Reporter;
use crate::secrets::Secrets;
use crate::sources::remote::without_secrets;

/// What secrets are called that are sent to a host; its name follows. BuildKit's names.
const HEADER_SECRET: &str = "HTTP_AUTH_HEADER_";
const TOKEN_SECRET: &str = "HTTP_AUTH_TOKEN_";

/// Permissions of a file of which nothing else is said. BuildKit's and docker's.
const USUAL_MODE: u32 = 0o600;

/// How often a download is begun.
const ATTEMPTS_MAX: usize = 3;

/// Bytes between two reports of progress.
const REPORTED_BYTES: u64 = 1 << 20;

/// Version byte of a row.
const ROW_VERSION: u8 = 1;

/// What is at an address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// The digest of its bytes.
    pub(crate) digest: Digest,
    /// A directory with the file, if it was fetched.
    pub(crate) tree: Option<TreeRef>,
}

/// A file of the web for one build.
#[derive(Debug)]
pub(crate) struct WebSource<'w> {
    pub(crate) source: &'w HttpSource,
    pub(crate) store: &'w Store,
    pub(crate) remote: &'w Remote,
    pub(crate) secrets: &'w Secrets,
    pub(crate) reporter: &'w Reporter,
    pub(crate) cancel: &'w CancelToken,
}

impl WebSource<'_> {
    /// What is there now. A file that must have a certain digest is not asked for.
    ///
    /// # Errors
    /// As [`WebSource::fetch`].
    pub(crate) fn find(&self) -> Result<Found> {
        if let Some(digest) = self.wanted()? {
            return Ok(Found { digest, tree: None });
        }
        let known = recall(self.store, self.source)?;
        self.ask(known)
    }

    /// Fetches the file, which must have that digest if there is one.
    ///
    /// # Errors
    /// [`Error::Registry`], which names the address; [`Error::WebDigest`]; [`Error::Cancelled`];
    /// those of secrets and of the store.
    pub(crate) fn fetch(&self, digest: Option<Digest>) -> Result<TreeRef> {
        let found = self.ask(None)?;
        if digest.is_some_and(|digest| digest != found.digest) {
            // Whoever asked for a certain digest has been told already.
            return Err(Error::Context {
                name: self.name(),
                reason: "it has changed since this build has begun; build again".to_owned(),
            });
        }
        found.tree.ok_or_else(|| self.says_nothing())
    }

    /// The address as it is shown.
    fn name(&self) -> String {
        without_secrets(&self.source.url)
    }

    fn says_nothing(&self) -> Error {
        Error::Context {
            name: self.name(),
            reason: "the server sends nothing".to_owned(),
        }
    }

    /// The digest that the file must have.
    fn wanted(&self) -> Result<Option<Digest>> {
        let text = &self.source.checksum;
        if text.is_empty() {
            return Ok(None);
        }
        let digest = text.parse::<Digest>().map_err(|_| Error::Unsupported {
            what: format!("the checksum {text}: another one than sha256"),
        })?;
        Ok(Some(digest))
    }

    fn mismatch(&self, expected: Digest, actual: Digest) -> Error {
        Error::WebDigest {
            url: self.name(),
            expected,
            actual,
        }
    }

    fn ask(&self, known: Option<Known>) -> Result<Found> {
        let mut request = WebRequest::new(&self.source.url)?;
        request.headers.clone_from(&self.source.headers);
        request.authorization = self.authorization(request.host())?;
        request.has_digest = self.wanted()?.is_some();
        request.known = known.as_ref().map(|known| known.etag.clone());
        let remote = self.remote;
        let _told = remote.retries.tell(request.server(), self.reporter);
        let mut attempts_left = ATTEMPTS_MAX;
        loop {
            let answer = remote.wait(self.cancel, remote.client.web(&request))?;
            let kept = match (answer, &known) {
                (WebAnswer::Unchanged, Some(known)) => {
                    let digest = known.digest;
                    return Ok(Found { digest, tree: None });
                }
                (WebAnswer::File(file), _) => self.keep(*file),
                // It was not asked whether there is something new.
                (WebAnswer::Unchanged, None) => Err(self.says_nothing()),
            };
            attempts_left -= 1;
            match kept {
                // One that cannot be continued can be begun again.
                Err(Error::Registry(error)) if error.is_transient() && attempts_left > 0 => {
                    let message = format!("beginning again: {}", error.brief());
                    self.reporter.warn(message);
                }
                kept => return kept,
            }
        }
    }

    /// What the server is told of who asks: secrets by the name of the host, where there are any.
    fn authorization(&self, host: &str) -> Result<Option<String>> {
        let text = |id: &str, is_optional| {
            let value = self.secrets.get(id, is_optional)?;
            value.map(|value| value.text(id)).transpose()
        };
        let named = &self.source.auth_header_secret;
        if !named.is_empty() {
            return text(named, false);
        }
        let token = text(&format!("{TOKEN_SECRET}{host}"), true)?;
        if let Some(token) = token {
            return Ok(Some(format!("Bearer {}", token.trim())));
        }
        text(&format!("{HEADER_SECRET}{host}"), true)
    }

    /// Brings what is sent into the store.
    fn keep(&self, mut file: WebFile) -> Result<Found> {
        let ingest = self.store.begin();
        let (blob, size, digest) = self.receive(&mut file, &ingest)?;
        if let Some(expected) = self.wanted()?.filter(|expected| *expected != digest) {
            return Err(self.mismatch(expected, digest));
        }
        let changed = file.last_modified();
        let changed = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let changed = changed.map_or(0, |since| since.as_secs().cast_signed());
        let metadata = Metadata {
            // The lower bits are all that there is.
            mode: (self.source.mode.unwrap_or(USUAL_MODE) & 0o7777) as u16,
            uid: self.source.uid,
            gid: self.source.gid,
            mtime: Timestamp::from_seconds(changed),
            xattrs: Xattrs::new(),
        };
        let leaf = Leaf {
            metadata,
            content: Content::File { blob, size },
            link: None,
        };
        let mut editor = Editor::empty(&ingest, Metadata::default_directory());
        let name = RelPath::lenient(self.source.filename.as_bytes())?;
        editor.insert(&name, Entry::Leaf(leaf))?;
        let tree = editor.finish()?;
        ingest.commit(Batch::new())?;
        if let Some(etag) = file.etag() {
            let etag = etag.to_owned();
            remember(self.store, self.source, &Known { etag, digest })?;
        }
        let tree = Some(tree);
        Ok(Found { digest, tree })
    }

    fn receive(&self, file: &mut WebFile, ingest: &Ingest<'_>) -> Result<(BlobId, u64, Digest)> {
        let mut body = Body::new(ingest, file.is_gzip());
        let (mut received, mut reported) = (0, 0);
        let (name, total) = (self.name(), file.size());
        while let Some(bytes) = self.remote.wait(self.cancel, file.chunk())? {
            body.write(&bytes).map_err(|error| self.unwritten(error))?;
            received += bytes.len() as u64;
            self.remote.progress.count_downloaded(bytes.len() as u64);
            if received >= reported + REPORTED_BYTES {
                reported = received;
                self.reporter.status(name.as_str(), received, total, false);
            }
        }
        self.reporter.status(name, received, Some(received), true);
        let written = body.finish().map_err(|error| self.unwritten(error))?;
        let (blob, size) = written.blob.commit()?;
        Ok((blob, size, written.digester.finish().0))
    }
}

impl WebSource<'_> {
    /// Why bytes that came are not in the store.
    fn unwritten(&self, error: io::Error) -> Error {
        let is_damage = matches!(
            error.kind(),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
        );
        match is_damage {
            true => Error::Context {
                name: self.name(),
                reason: format!("it is said to be compressed by gzip, and is damaged: {error}"),
            },
            false => Error::io("store a file below", self.store.root(), error),
        }
    }
}

/// A file on its way into the store.
enum Body<'b> {
    Plain(Written<'b>),
    /// It comes compressed.
    Gzip(Box<MultiGzDecoder<Written<'b>>>),
}

struct Written<'b> {
    blob: BlobWriter<'b, 'b>,
    digester: Digester,
}

impl<'b> Body<'b> {
    fn new(ingest: &'b Ingest<'b>, is_gzip: bool) -> Self {
        let written = Written {
            blob: ingest.blob_writer(),
            digester: Digester::new(),
        };
        match is_gzip {
            true => Body::Gzip(Box::new(MultiGzDecoder::new(written))),
            false => Body::Plain(written),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Body::Plain(written) => written.write_all(bytes),
            Body::Gzip(decoder) => decoder.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<Written<'b>> {
        match self {
            Body::Plain(written) => Ok(written),
            Body::Gzip(decoder) => decoder.finish(),
        }
    }
}

impl Write for Written<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.blob.write(bytes)?;
        self.digester.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.blob.flush()
    }
}

/// What a server said last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    etag: String,
    digest: Digest,
}

/// The key of an address' row.
fn key(source: &HttpSource) -> Vec<u8> {
    let key = CacheKey::builder("varve solver: address of the web v1").bytes(&source.url);
    // A server may send something else for other headers; who asks does not matter.
    let headers = source.headers.values();
    let key = headers.fold(key, |key, value| key.bytes(value));
    key.finish().as_bytes().to_vec()
}

fn remember(store: &Store, source: &HttpSource, known: &Known) -> Result<()> {
    let mut row = Encoder::new();
    row.byte(ROW_VERSION).string(known.etag.as_bytes());
    row.raw(known.digest.as_bytes());
    let mut batch = Batch::new();
    batch.put(Table::Context, key(source), row.finish());
    Ok(store.write(batch, Durability::Process)?)
}

/// What is known of an address. A row that cannot be read knows nothing.
fn recall(store: &Store, source: &HttpSource) -> Result<Option<Known>> {
    let row = store.rows().get(Table::Context, &key(source))?;
    Ok(row.and_then(|row| decode(&row).ok()))
}

fn decode(bytes: &[u8]) -> store::Result<Known> {
    let mut row = Decoder::new("row of an address", bytes);
    if row.byte()? != ROW_VERSION {
        return Err(row.error("it has an unknown version"));
    }
    let etag = String::from_utf8_lossy(row.string()?).into_owned();
    let digest = Digest::from_bytes(row.id()?);
    row.finish()?;
    Ok(Known { etag, digest })
}
