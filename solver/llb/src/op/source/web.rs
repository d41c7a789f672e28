//! What is brought in over the network by address: files of the web, and git repositories.

use std::collections::BTreeMap;

use super::{Attributes, Source, attribute};
use crate::error::Error;

/// Headers that a graph may set; others are left out, as BuildKit leaves them out.
const HEADERS: [&str; 2] = ["accept", "user-agent"];

/// A file of the web: `http://…` or `https://…`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpSource {
    /// The address, with its scheme.
    pub url: String,
    /// Digest that it must have (`sha256:…`); empty for any.
    pub checksum: String,
    /// What it is called; empty for the name that the server or the address gives it.
    pub filename: String,
    /// Its permissions; 0600 when `None`.
    pub mode: Option<u32>,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// The secret that is sent as `Authorization`; empty for those that go by the host's name.
    pub auth_header_secret: String,
    /// Further headers, by their names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl HttpSource {
    /// The file of this address under this name.
    pub fn new(url: &str, filename: &str) -> Self {
        Self {
            url: url.to_owned(),
            filename: filename.to_owned(),
            ..Self::default()
        }
    }

    /// Reads a source of scheme `http` or `https`; `Ok(None)` for other schemes.
    ///
    /// # Errors
    /// [`Error::InvalidAttribute`] for permissions or owners that are no numbers, and for
    /// signatures, which nobody here can check.
    pub fn read(source: &Source) -> Result<Option<Self>, Error> {
        if !matches!(source.scheme(), "http" | "https") {
            return Ok(None);
        }
        for name in [attribute::HTTP_SIGNATURE_KEY, attribute::HTTP_SIGNATURE] {
            if source.attributes.contains_key(name) {
                let reason = "signatures cannot be checked yet".to_owned();
                return Err(source.invalid(name, reason));
            }
        }
        let mut headers = BTreeMap::new();
        for (name, value) in &source.attributes {
            let name = name.strip_prefix(attribute::HTTP_HEADER_PREFIX);
            let name = name.map(str::to_ascii_lowercase);
            if let Some(name) = name.filter(|name| HEADERS.contains(&name.as_str())) {
                headers.insert(name, value.clone());
            }
        }
        let mode = integer(source, attribute::HTTP_PERM)?;
        Ok(Some(Self {
            url: source.identifier.clone(),
            checksum: source.text(attribute::HTTP_CHECKSUM),
            filename: source.text(attribute::HTTP_FILENAME),
            mode: mode.filter(|mode| *mode != 0),
            uid: integer(source, attribute::HTTP_UID)?.unwrap_or_default(),
            gid: integer(source, attribute::HTTP_GID)?.unwrap_or_default(),
            auth_header_secret: source.text(attribute::HTTP_AUTH_HEADER_SECRET),
            headers,
        }))
    }
}

/// A number as Go reads one of base 0.
fn integer(source: &Source, name: &'static str) -> Result<Option<u32>, Error> {
    let Some(text) = source.attributes.get(name) else {
        return Ok(None);
    };
    let octal = text.strip_prefix("0o").or_else(|| text.strip_prefix('0'));
    let number = match (text.strip_prefix("0x"), octal) {
        (Some(digits), _) => u32::from_str_radix(digits, 16),
        (None, Some(digits)) if !digits.is_empty() => u32::from_str_radix(digits, 8),
        (None, _) => text.parse(),
    };
    number
        .map(Some)
        .map_err(|_| source.invalid(name, format!("{text:?} is no number")))
}

impl From<HttpSource> for Source {
    fn from(file: HttpSource) -> Self {
        let mut attributes = Attributes::default();
        let number = |number: u32| match number {
            0 => String::new(),
            number => number.to_string(),
        };
        let mode = file.mode.map(|mode| format!("0{mode:o}"));
        attributes.text(attribute::HTTP_CHECKSUM, file.checksum);
        attributes.text(attribute::HTTP_FILENAME, file.filename);
        attributes.text(attribute::HTTP_PERM, mode.unwrap_or_default());
        attributes.text(attribute::HTTP_UID, number(file.uid));
        attributes.text(attribute::HTTP_GID, number(file.gid));
        attributes.text(attribute::HTTP_AUTH_HEADER_SECRET, file.auth_header_secret);
        for (name, value) in file.headers {
            attributes.text(&format!("{}{name}", attribute::HTTP_HEADER_PREFIX), value);
        }
        Source {
            identifier: file.url,
            attributes: attributes.0,
        }
    }
}

/// A revision of a git repository: `git://HOST/PATH#REVISION:DIRECTORY`, whatever it is fetched by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitSource {
    /// Where it is fetched from, as git takes it.
    pub remote: String,
    /// Branch, tag, full name of a reference, or commit; empty for the repository's own default.
    pub revision: String,
    /// The directory that is meant; empty for the root.
    pub directory: String,
    /// Commit that the revision must be, or how it begins; empty for any.
    pub checksum: String,
    /// Whether `.git` is kept.
    pub keeps_git_directory: bool,
    /// Whether submodules are left out.
    pub skips_submodules: bool,
    /// The secret that is sent as a token; empty for none.
    pub auth_token_secret: String,
    /// The secret that is sent as the header `Authorization`; empty for none.
    pub auth_header_secret: String,
    /// Keys that the host may have, in the format of `known_hosts`; empty where nobody knows them.
    pub known_ssh_hosts: String,
    /// Which ssh agent is asked; empty for none.
    pub ssh_agent: String,
}

impl GitSource {
    /// Attributes that change what is brought, and that nobody here understands.
    const UNKNOWN: [&str; 8] = [
        "git.mtime",
        "git.fetchbycommit",
        "git.bundle",
        "git.checkoutbundle",
        "git.sig.pubkey",
        "git.sig.rejectexpired",
        "git.sig.requiresignedtag",
        "git.sig.ignoresignedtag",
    ];

    /// Reads a source of scheme `git`; `Ok(None)` for other schemes.
    ///
    /// # Errors
    /// [`Error::InvalidAttribute`] for what cannot be done yet.
    pub fn read(source: &Source) -> Result<Option<Self>, Error> {
        if source.scheme() != "git" {
            return Ok(None);
        }
        if let Some(name) = Self::UNKNOWN
            .into_iter()
            .find(|name| source.attributes.contains_key(*name))
        {
            return Err(source.invalid(name, "it is not supported yet".to_owned()));
        }
        let (place, fragment) = split(source.reference());
        let (revision, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        let remote = match source.text(attribute::GIT_FULL_URL) {
            url if url.is_empty() => format!("https://{place}"),
            url => url,
        };
        let is_set = |name| source.text(name) == "true";
        Ok(Some(Self {
            remote,
            revision: revision.to_owned(),
            directory: directory.to_owned(),
            checksum: source.text(attribute::GIT_CHECKSUM),
            keeps_git_directory: is_set(attribute::GIT_KEEP_GIT_DIR),
            skips_submodules: is_set(attribute::GIT_SKIP_SUBMODULES),
            auth_token_secret: source.text(attribute::GIT_AUTH_TOKEN_SECRET),
            auth_header_secret: source.text(attribute::GIT_AUTH_HEADER_SECRET),
            known_ssh_hosts: source.text(attribute::GIT_KNOWN_SSH_HOSTS),
            ssh_agent: source.text(attribute::GIT_MOUNT_SSH_SOCK),
        }))
    }
}

fn split(text: &str) -> (&str, &str) {
    text.split_once('#').unwrap_or((text, ""))
}

impl From<GitSource> for Source {
    fn from(git: GitSource) -> Self {
        let flag = |is_set: bool| if is_set { "true" } else { "" }.to_owned();
        // The same repository is the same source, whatever it is fetched by.
        let place = match git.remote.split_once("://") {
            Some((_, rest)) => rest
                .rsplit_once('@')
                .map_or(rest, |(_, place)| place)
                .to_owned(),
            None => {
                let place = git
                    .remote
                    .rsplit_once('@')
                    .map_or(&*git.remote, |(_, place)| place);
                place.replacen(':', "/", 1)
            }
        };
        let mut identifier = format!("git://{place}");
        if !git.revision.is_empty() || !git.directory.is_empty() {
            identifier.extend(["#", &git.revision]);
        }
        if !git.directory.is_empty() {
            identifier.extend([":", &git.directory]);
        }
        let mut attributes = Attributes::default();
        attributes.text(attribute::GIT_FULL_URL, git.remote);
        attributes.text(attribute::GIT_CHECKSUM, git.checksum);
        attributes.text(attribute::GIT_KEEP_GIT_DIR, flag(git.keeps_git_directory));
        attributes.text(attribute::GIT_SKIP_SUBMODULES, flag(git.skips_submodules));
        attributes.text(attribute::GIT_AUTH_TOKEN_SECRET, git.auth_token_secret);
        attributes.text(attribute::GIT_AUTH_HEADER_SECRET, git.auth_header_secret);
        attributes.text(attribute::GIT_KNOWN_SSH_HOSTS, git.known_ssh_hosts);
        attributes.text(attribute::GIT_MOUNT_SSH_SOCK, git.ssh_agent);
        Source {
            identifier,
            attributes: attributes.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_web_reads_back_what_it_writes() {
        let file = HttpSource {
            checksum: "sha256:0".into(),
            mode: Some(0o755),
            uid: 7,
            headers: BTreeMap::from([("accept".into(), "text/plain".into())]),
            ..HttpSource::new("https://h.example/a?b#c", "a")
        };
        let source = Source::from(file.clone());
        assert_eq!(source.identifier, "https://h.example/a?b#c");
        assert_eq!(source.attributes["http.perm"], "0755");
        assert_eq!(HttpSource::read(&source).unwrap(), Some(file));
        assert_eq!(GitSource::read(&source).unwrap(), None);
    }

    #[test]
    fn headers_that_nobody_may_set_are_left_out_and_lies_are_refused() {
        let with = |name: &str, value: &str| {
            let mut source = Source::from(HttpSource::new("http://h/a", "a"));
            source.attributes.insert(name.into(), value.into());
            HttpSource::read(&source)
        };
        let plain = HttpSource::new("http://h/a", "a");
        assert_eq!(with("http.header.cookie", "a=b").unwrap(), Some(plain));
        let agent = with("http.header.User-Agent", "x").unwrap().unwrap();
        assert_eq!(agent.headers["user-agent"], "x");
        for (name, value) in [
            ("http.perm", "rwx"),
            ("http.uid", "-1"),
            ("http.gid", "4294967296"),
            ("http.sig.pubkey", "key"),
        ] {
            let error = with(name, value).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn a_repository_reads_back_what_it_writes() {
        let git = GitSource {
            remote: "https://me@h.example/o/a.git".into(),
            revision: "v1".into(),
            directory: "sub/dir".into(),
            keeps_git_directory: true,
            ..GitSource::default()
        };
        let source = Source::from(git.clone());
        assert_eq!(source.identifier, "git://h.example/o/a.git#v1:sub/dir");
        assert_eq!(GitSource::read(&source).unwrap(), Some(git));
        let short = GitSource {
            remote: "git@h.example:o/a.git".into(),
            ..GitSource::default()
        };
        assert_eq!(Source::from(short).identifier, "git://h.example/o/a.git");
    }

    #[test]
    fn what_would_bring_something_else_is_refused() {
        let mut source = Source::from(GitSource::default());
        source
            .attributes
            .insert("git.mtime".into(), "commit".into());
        assert!(GitSource::read(&source).is_err());
    }
}
