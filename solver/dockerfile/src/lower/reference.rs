//! Image references in their normal form: `busybox` is `docker.io/library/busybox:latest`.

use oci_spec::distribution::Reference;

/// The registry of names without one, and what it is called in old configurations.
const REGISTRY_DEFAULT: &str = "docker.io";
const REGISTRY_DEFAULT_OLD: &str = "index.docker.io";

/// Namespace of the default registry's names without one.
const NAMESPACE_DEFAULT: &str = "library";

/// Longest repository in bytes.
const REPOSITORY_LENGTH_MAX: usize = 255;

/// Longest tag in bytes.
const TAG_LENGTH_MAX: usize = 128;

/// Length of a text that looks like the id of an image, in hexadecimal digits.
const ID_LENGTH: usize = 64;

/// Parses a reference and completes registry, namespace and tag.
///
/// By hand, because the first use of the grammar as a regular expression, which is how `oci_spec`
/// parses, takes longer than the rest of a build that has nothing to do. The grammar is that of
/// the [distribution reference](https://pkg.go.dev/github.com/distribution/reference).
///
/// # Errors
/// A sentence in Docker's words.
pub fn normalize(text: &str) -> Result<Reference, String> {
    if text.len() == ID_LENGTH && text.bytes().all(|byte| is_hexadecimal(byte, false)) {
        return Err(format!(
            "invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        ));
    }
    let (registry, rest) = split_registry(text);
    let whole = |rest: &str| match registry == REGISTRY_DEFAULT && !rest.contains('/') {
        true => format!("{NAMESPACE_DEFAULT}/{rest}"),
        false => rest.to_owned(),
    };
    let name = whole(rest.split(':').next().unwrap_or(rest));
    if name != name.to_lowercase() {
        return Err(format!(
            "invalid reference format: repository name ({name}) must be lowercase"
        ));
    }
    let (rest, digest) = match rest.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (rest, None),
    };
    let (repository, tag) = match rest.split_once(':') {
        Some((repository, tag)) => (whole(repository), Some(tag)),
        None => (whole(rest), None),
    };
    let is_valid = is_registry(registry)
        && repository.split('/').all(is_path_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest);
    if !is_valid {
        return Err("invalid reference format".to_owned());
    }
    if repository.len() > REPOSITORY_LENGTH_MAX {
        return Err(format!(
            "invalid reference format: repository name must not be more than \
             {REPOSITORY_LENGTH_MAX} characters"
        ));
    }
    if let Some(digest) = digest {
        check_digest(digest).map_err(|error| format!("invalid reference format: {error}"))?;
    }
    let registry = registry.to_owned();
    Ok(match (tag.map(str::to_owned), digest.map(str::to_owned)) {
        (Some(tag), Some(digest)) => {
            Reference::with_tag_and_digest(registry, repository, tag, digest)
        }
        (None, Some(digest)) => Reference::with_digest(registry, repository, digest),
        (tag, None) => Reference::with_tag(
            registry,
            repository,
            tag.unwrap_or_else(|| "latest".to_owned()),
        ),
    })
}

/// The first part is a registry if it cannot be a namespace.
fn split_registry(text: &str) -> (&str, &str) {
    let is_registry = |part: &str| {
        part.contains(['.', ':']) || part == "localhost" || part != part.to_lowercase()
    };
    match text.split_once('/') {
        Some((REGISTRY_DEFAULT_OLD, rest)) => (REGISTRY_DEFAULT, rest),
        Some((first, rest)) if is_registry(first) => (first, rest),
        _ => (REGISTRY_DEFAULT, text),
    }
}

/// A host name, an IPv4 address or an IPv6 one in brackets, and perhaps a port.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_label = |label: &str| {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty()
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_host = match inner {
        Some(address) => {
            let is_part = |byte: u8| byte.is_ascii_hexdigit() || byte == b':';
            !address.is_empty() && address.bytes().all(is_part)
        }
        None => host.split('.').all(is_label),
    };
    is_host && port.is_none_or(is_port)
}

/// Lower case letters and digits, with one dot, one or two underscores, or any number of hyphens
/// between two of them.
fn is_path_component(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_separator =
        |run: &str| matches!(run, "." | "_" | "__") || run.bytes().all(|b| b == b'-');
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.ends_with(|last: char| last.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| is_inner(byte) || b"._-".contains(&byte))
        && text
            .split(|inner: char| inner.is_ascii_alphanumeric())
            .all(is_separator)
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= TAG_LENGTH_MAX
        && text.bytes().next().is_some_and(is_word)
        && text
            .bytes()
            .all(|byte| is_word(byte) || b".-".contains(&byte))
}

/// Whether it looks like `algorithm:hexadecimal`; [`check_digest`] is about what is in it.
fn is_digest(text: &str) -> bool {
    let Some((algorithm, encoded)) = text.split_once(':') else {
        return false;
    };
    let is_component = |component: &str| {
        component.starts_with(|first: char| first.is_ascii_alphabetic())
            && component.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(is_component)
        && encoded.len() >= 32
        && encoded.bytes().all(|byte| is_hexadecimal(byte, true))
}

/// Whether a digest has the form of its algorithm.
pub(super) fn check_digest(text: &str) -> Result<(), String> {
    let (algorithm, encoded) = text.split_once(':').unwrap_or((text, ""));
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err("unsupported digest algorithm".to_owned()),
    };
    if encoded.len() != length {
        return Err("invalid checksum digest length".to_owned());
    }
    if !encoded.bytes().all(|byte| is_hexadecimal(byte, false)) {
        return Err("invalid checksum digest format".to_owned());
    }
    Ok(())
}

fn is_hexadecimal(byte: u8, upper: bool) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte) || upper && byte.is_ascii_hexdigit()
}

/// The reference with this digest instead of its own; its tag stays.
pub(super) fn with_digest(reference: &Reference, digest: &str) -> String {
    let name = format!("{}/{}", reference.registry(), reference.repository());
    match reference.tag() {
        Some(tag) => format!("{name}:{tag}@{digest}"),
        None => format!("{name}@{digest}"),
    }
}

/// The short form that named contexts are keyed by: without `docker.io/`, `library/` and
/// `:latest`. Text that is no reference stays as it is.
pub(super) fn familiar(text: &str) -> String {
    let Ok(reference) = normalize(text) else {
        return text.to_owned();
    };
    let mut name = format!("{}/{}", reference.registry(), reference.repository());
    if let Some(short) = name.strip_prefix("docker.io/") {
        name = short
            .strip_prefix("library/")
            .filter(|rest| !rest.contains('/'))
            .unwrap_or(short)
            .to_owned();
    }
    if let Some(tag) = reference.tag().filter(|tag| *tag != "latest") {
        name = format!("{name}:{tag}");
    }
    match reference.digest() {
        Some(digest) => format!("{name}@{digest}"),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_completed() {
        let whole = |text: &str| normalize(text).map(|found| found.to_string());
        let check = |text: &str, expected: &str| assert_eq!(whole(text).as_deref(), Ok(expected));
        check("busybox", "docker.io/library/busybox:latest");
        check("a/b:1", "docker.io/a/b:1");
        check("localhost:5000/x", "localhost:5000/x:latest");
        let digest = format!("sha256:{}", "0".repeat(64));
        check(
            &format!("busybox:1@{digest}"),
            &format!("docker.io/library/busybox:1@{digest}"),
        );
        check(
            &format!("busybox@{digest}"),
            &format!("docker.io/library/busybox@{digest}"),
        );
        let upper = "invalid reference format: repository name (library/BUILD) must be lowercase";
        assert_eq!(whole("BUILD"), Err(upper.to_owned()));
        let upper = "invalid reference format: repository name (A/b) must be lowercase";
        assert_eq!(whole("ghcr.io/A/b:1"), Err(upper.to_owned()));
        let id = "0".repeat(64);
        let reason =
            format!("invalid repository name ({id}), cannot specify 64-byte hexadecimal strings");
        assert_eq!(whole(&id), Err(reason));
    }

    #[test]
    fn what_the_grammar_does_not_have_is_refused() {
        let short = format!("a@sha256:{}", "0".repeat(63));
        let long = format!("a:{}", "t".repeat(129));
        for text in [
            "",
            "a b",
            "a:",
            "a@",
            ":a",
            "/a",
            "a/",
            "a//b",
            "-a",
            "a-",
            "a___b",
            "a..b",
            "a._b",
            "a:.b",
            "a:b:c",
            "a@sha256",
            "a@sha256:zz",
            "x.y:port/a",
            "-x.y/a",
            "[zz]:1/a",
            "ä",
            "a\n",
            &short,
            &long,
        ] {
            let refused = normalize(text).unwrap_err();
            assert!(
                refused.starts_with("invalid reference format"),
                "{text:?}: {refused}"
            );
        }
        let long = "a".repeat(256);
        assert!(normalize(&long).unwrap_err().contains("more than 255"));
    }

    /// The library is slow, and right.
    #[test]
    fn the_grammar_is_that_of_the_library() {
        for text in [
            "a",
            "a.b",
            "a__b",
            "a---b",
            "a_b.c-d",
            "a/b/c",
            "localhost/a",
            "localhost:1/a:2",
            "index.docker.io/a",
            "docker.io/a",
            "docker.io/b/a",
            "ghcr.io/a/b-c/d:v1.0_x-y",
            "x-y.z:80/a",
            "a0/b1:C2",
            "0",
            "a:_b",
            "a.b/c",
            "10.0.0.1:5000/a",
        ] {
            let ours = normalize(text).map(|found| found.to_string());
            let theirs = text.parse::<Reference>().unwrap().to_string();
            assert_eq!(ours, Ok(theirs), "{text}");
        }
    }

    #[test]
    fn the_familiar_form_is_the_shortest() {
        for (text, expected) in [
            ("docker.io/library/busybox:latest", "busybox"),
            ("busybox:1.36", "busybox:1.36"),
            ("docker.io/a/b", "a/b"),
            ("ghcr.io/a/b:latest", "ghcr.io/a/b"),
            ("Not A Reference", "Not A Reference"),
        ] {
            assert_eq!(familiar(text), expected);
        }
    }
}
