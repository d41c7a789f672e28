//! Image references in their normal form: `busybox` is `docker.io/library/busybox:latest`.

use oci_spec::distribution::{ParseError, Reference};

/// Parses a reference and completes registry, namespace and tag.
///
/// # Errors
/// A sentence in Docker's words.
pub fn normalize(text: &str) -> Result<Reference, String> {
    text.parse::<Reference>()
        .map_err(|error| match (error, upper_case_name(text)) {
            (_, Some(name)) => {
                format!("invalid reference format: repository name ({name}) must be lowercase")
            }
            (ParseError::ReferenceInvalidFormat, None) => "invalid reference format".to_owned(),
            (other, None) => format!("invalid reference format: {other}"),
        })
}

/// The repository of a reference whose only fault may be upper case, completed as Docker does it.
fn upper_case_name(text: &str) -> Option<String> {
    let is_registry = |part: &str| part.contains(['.', ':']) || part == "localhost";
    let (registry, rest) = match text.split_once('/') {
        Some((first, rest)) if is_registry(first) => (Some(first), rest),
        _ => (None, text),
    };
    let name = rest.split([':', '@']).next().unwrap_or(rest);
    let with_namespace = registry.is_some() || name.contains('/');
    let name = if with_namespace {
        name.to_owned()
    } else {
        format!("library/{name}")
    };
    (name != name.to_lowercase()).then_some(name)
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
        assert_eq!(whole("a b"), Err("invalid reference format".to_owned()));
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
