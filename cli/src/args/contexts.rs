//! `--build-context NAME=VALUE`: buildx's syntax.

use std::path::PathBuf;

use solver::content::Digest;
use solver::request::GitSource;

/// What a named context stands for, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NamedContext {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A git repository.
    Git(GitSource),
    /// A file of the web.
    Web(String),
    /// An image of the store.
    Image(String),
    /// An image in a layout or archive.
    Layout {
        /// Where the layout is.
        path: PathBuf,
        /// Which tag.
        tag: Option<String>,
        /// Which digest.
        digest: Option<Digest>,
    },
}

/// Parses the value of `--build-context`.
///
/// # Errors
/// A sentence about what is wrong.
pub(crate) fn parse(text: &str) -> Result<(String, NamedContext), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => (name, value),
        _ => return Err("it is not NAME=VALUE".to_owned()),
    };
    let context = if let Some(reference) = value.strip_prefix("docker-image://") {
        NamedContext::Image(reference.to_owned())
    } else if let Some(layout) = value.strip_prefix("oci-layout://") {
        parse_layout(layout)?
    } else if let Some(git) = GitSource::parse(value)? {
        NamedContext::Git(git)
    } else if is_url(value) {
        NamedContext::Web(value.to_owned())
    } else {
        NamedContext::Directory(PathBuf::from(value))
    };
    Ok((name.to_owned(), context))
}

/// Whether a context that is no repository is a file of the web.
pub(crate) fn is_url(context: &str) -> bool {
    let schemes = ["http://", "https://"];
    schemes.iter().any(|scheme| context.starts_with(scheme))
}

fn parse_layout(text: &str) -> Result<NamedContext, String> {
    if let Some((path, digest)) = text.rsplit_once('@') {
        let digest = digest.parse().map_err(|error| format!("{error}"))?;
        return Ok(NamedContext::Layout {
            path: path.into(),
            tag: None,
            digest: Some(digest),
        });
    }
    let (path, tag) = match text.rsplit_once(':') {
        // A colon in the name of a directory is no tag.
        Some((path, tag)) if !tag.contains('/') && !tag.is_empty() => (path, Some(tag.to_owned())),
        _ => (text, None),
    };
    Ok(NamedContext::Layout {
        path: path.into(),
        tag,
        digest: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(path: &str, tag: Option<&str>, digest: Option<Digest>) -> NamedContext {
        NamedContext::Layout {
            path: path.into(),
            tag: tag.map(str::to_owned),
            digest,
        }
    }

    #[test]
    fn the_forms_of_buildx_are_understood() {
        let digest = Digest::of(b"x");
        let by_digest = format!("a=oci-layout:///l@{digest}");
        for (text, expect) in [
            ("a=dir", ("a", NamedContext::Directory("dir".into()))),
            ("a=../b=c", ("a", NamedContext::Directory("../b=c".into()))),
            (
                "alpine:3=docker-image://my",
                ("alpine:3", NamedContext::Image("my".into())),
            ),
            ("a=oci-layout://./l", ("a", layout("./l", None, None))),
            (
                "a=oci-layout:///l:12",
                ("a", layout("/l", Some("12"), None)),
            ),
            ("a=oci-layout:///x:y/l", ("a", layout("/x:y/l", None, None))),
            (&by_digest, ("a", layout("/l", None, Some(digest)))),
        ] {
            let (name, context) = expect;
            assert_eq!(parse(text), Ok((name.to_owned(), context)), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_a_context_is_refused() {
        for (text, part) in [
            ("a", "NAME=VALUE"),
            ("=x", "NAME=VALUE"),
            ("a=", "NAME=VALUE"),
            ("a=https://example.com/x.git?depth=1", "unexpected query"),
            ("a=oci-layout://l@sha256:12", "no digest"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
