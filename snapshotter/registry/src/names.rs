//! Names that are valid by construction: repository, tag, and what a manifest is asked for by.
//!
//! Not a parser of image references: what `alpine` means (`docker.io/library/alpine:latest`) is
//! the caller's to decide. The grammar is that of the distribution specification, so no name can
//! leave its place in an address.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;
use crate::error::{Error, shortened};

/// Host and name together, as the distribution specification suggests.
const REPOSITORY_LENGTH_MAX: usize = 255;

/// From the grammar of tags.
const TAG_LENGTH_MAX: usize = 128;

/// A repository: the registry that a person names, and the path there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    host: String,
    name: String,
}

impl Repository {
    /// A repository `name` (`library/alpine`) at `host` (`docker.io`, `127.0.0.1:5000`,
    /// `[::1]:5000`).
    ///
    /// # Errors
    /// One of them is not well-formed.
    pub fn new(host: &str, name: &str) -> Result<Self, Error> {
        if !is_host(host) {
            return Err(Error::Name {
                text: shortened(host),
                expected: "the host of a registry: a name or an address, and perhaps a port",
            });
        }
        if !is_repository_name(name) || host.len() + name.len() >= REPOSITORY_LENGTH_MAX {
            return Err(Error::Name {
                text: shortened(name),
                expected: "the name of a repository: lower-case letters, digits and single \
                           separators (. _ __ -) in parts joined by /, 255 characters at most",
            });
        }
        Ok(Repository {
            host: host.to_owned(),
            name: name.to_owned(),
        })
    }

    /// All that a registry has, for what is about none of its repositories.
    pub(crate) fn all_of(host: &str) -> Result<Self, Error> {
        let any = Repository::new(host, "any")?;
        let name = String::new();
        Ok(Repository { name, ..any })
    }

    /// What stands for a server of the web.
    pub(crate) fn server_of(url: &reqwest::Url) -> Self {
        Repository {
            host: crate::hosts::authority(url),
            name: String::new(),
        }
    }

    /// The registry as a person names it, with the port if there is one.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path at the registry.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.name)
    }
}

/// Whether this is `name`, `name:port`, `[v6]` or `[v6]:port`.
pub(crate) fn is_host(text: &str) -> bool {
    let is_port = |port: &str| {
        !port.is_empty()
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok()
    };
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address.parse::<std::net::Ipv6Addr>().is_ok() && is_port;
    }
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_repository_name(text: &str) -> bool {
    text.split('/').all(is_name_part)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_name_part(part: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    is_word(*first)
        && is_word(*last)
        && bytes.split(|byte| is_word(*byte)).all(|separator| {
            matches!(separator, b"" | b"." | b"_" | b"__")
                || separator.iter().all(|byte| *byte == b'-')
        })
}

/// A tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Tag {
    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let valid = text.len() <= TAG_LENGTH_MAX
            && text.bytes().next().is_some_and(is_word)
            && text
                .bytes()
                .all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'));
        if !valid {
            return Err(Error::Name {
                text: shortened(text),
                expected: "a tag: letters, digits, _ . and -, 128 characters at most, the first \
                           one neither . nor -",
            });
        }
        Ok(Tag(text.to_owned()))
    }
}

/// What a manifest is asked for by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ManifestReference {
    /// A name that may mean another manifest tomorrow.
    Tag(Tag),
    /// The manifest's own bytes.
    Digest(Digest),
}

impl fmt::Display for ManifestReference {
    /// As it stands in an address, without `:` or `@` before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ManifestReference::Tag(tag) => f.write_str(tag.as_str()),
            ManifestReference::Digest(digest) => digest.fmt(f),
        }
    }
}

impl From<Tag> for ManifestReference {
    fn from(tag: Tag) -> Self {
        ManifestReference::Tag(tag)
    }
}

impl From<Digest> for ManifestReference {
    fn from(digest: Digest) -> Self {
        ManifestReference::Digest(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_a_port() {
        for host in [
            "docker.io",
            "localhost",
            "localhost:5000",
            "127.0.0.1:65535",
            "[::1]",
            "[fd00::2]:5000",
            "a-b.C3",
        ] {
            assert!(is_host(host), "{host}");
        }
        for host in [
            "", ":5000", "a:", "a:b", "a:65536", "a:+1", "::1", "[::1", "[x]", "[::1]x", "[::1]:",
            "a..b", "-a", "a-", "a/b", "user@a", "a b", "a?b", "a#b", "a\n", "..", "%2e",
        ] {
            assert!(!is_host(host), "{host:?}");
        }
    }

    #[test]
    fn names_follow_the_grammar_of_the_specification() {
        for name in [
            "a",
            "library/alpine",
            "a.b/c_d/e__f/g---h",
            "0/1",
            &"a".repeat(250),
        ] {
            assert!(Repository::new("x", name).is_ok(), "{name}");
        }
        for name in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a..b",
            "a___b",
            "a._b",
            ".a",
            "a-",
            "../a",
            "a/../b",
            "a/./b",
            "a?b",
            "a%2fb",
            "a b",
            "a:b",
            "é",
            "a\n",
            &"a".repeat(255),
        ] {
            assert!(Repository::new("x", name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn tags_follow_the_grammar_of_the_specification() {
        for tag in ["latest", "3.19-alpine_1", "_", "0", &"a".repeat(128)] {
            assert!(tag.parse::<Tag>().is_ok(), "{tag}");
        }
        for tag in [
            "",
            ".",
            "..",
            "-a",
            "a/b",
            "a:b",
            "a b",
            "é",
            "a\0",
            &"a".repeat(129),
        ] {
            assert!(tag.parse::<Tag>().is_err(), "{tag:?}");
        }
    }
}
