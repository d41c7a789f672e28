//! Paths inside an image, as text: Go's `path` rules, which BuildKit's results depend on.

/// The shortest equal path: no `.`, no double slash, `..` resolved by text.
pub(super) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// `path` below `parent`, cleaned. An absolute `path` is taken as relative.
pub(super) fn join(parent: &str, path: &str) -> String {
    match (parent.is_empty(), path.is_empty()) {
        (true, true) => String::new(),
        (true, false) => clean(path),
        (false, true) => clean(parent),
        (false, false) => clean(&format!("{parent}/{path}")),
    }
}

/// `path` as an absolute path: kept as it is when it is one, else joined to `parent`.
pub(super) fn absolute(parent: &str, path: &str) -> String {
    let parent = match parent.starts_with('/') {
        true => parent.to_owned(),
        false => join("/", parent),
    };
    match path {
        "" => parent,
        path if path.starts_with('/') => path.to_owned(),
        path => join(&parent, path),
    }
}

/// The destination of a copy: absolute and clean, but a trailing `/` or `/.`, which says that it
/// is a directory, stays.
pub(super) fn destination(directory: &str, path: &str) -> String {
    // An empty path means the current directory, not the root.
    let path = if matches!(path, "" | ".") { "./" } else { path };
    let mut cleaned = clean(&absolute(directory, path));
    if path.ends_with('/') && !cleaned.ends_with('/') {
        cleaned.push('/');
    } else if path.ends_with("/.") {
        if cleaned != "/" {
            cleaned.push('/');
        }
        cleaned.push('.');
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_by_text() {
        for (path, expected) in [
            ("", "."),
            ("/", "/"),
            ("//a//b/", "/a/b"),
            ("a/./b/../c", "a/c"),
            ("../a", "../a"),
            ("../../a", "../../a"),
            ("/../a", "/a"),
            ("a/..", "."),
        ] {
            assert_eq!(clean(path), expected, "{path:?}");
        }
    }

    #[test]
    fn destinations_keep_what_says_that_they_are_directories() {
        for (directory, path, expected) in [
            ("/", "app", "/app"),
            ("/", "app/", "/app/"),
            ("/src", ".", "/src/"),
            ("/src", "", "/src/"),
            ("/", ".", "/"),
            ("/src", "./", "/src/"),
            ("/src", "a/.", "/src/a/."),
            ("/", "/.", "/."),
            ("/src", "/a/../b", "/b"),
            ("", "a", "/a"),
        ] {
            assert_eq!(
                destination(directory, path),
                expected,
                "{directory:?} {path:?}"
            );
        }
    }
}
