//! What docker takes for a git repository: the sources of `ADD`, and build contexts.
//!
//! `https://HOST/PATH.git`, `http://…`, `git://…`, `ssh://…`, `USER@HOST:PATH`, each with
//! `#REVISION:DIRECTORY` or with queries (`?ref=v1&subdir=docs`), as BuildKit's
//! `frontend/dockerfile/dfgitutil` reads them.

use crate::directives::parse_bool;

/// A repository, and what is meant of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitReference {
    /// Where the repository is, as git takes it.
    pub remote: String,
    /// Branch, tag, full name of a reference, or commit.
    pub revision: Option<String>,
    /// The directory that is meant; the root when `None`.
    pub directory: Option<String>,
    /// Commit that the revision must be, or how it begins.
    pub checksum: Option<String>,
    /// Whether `.git` is kept, if anything is said of it.
    pub keeps_git_directory: Option<bool>,
    /// Whether submodules are left out.
    pub skips_submodules: bool,
    /// Whether it is written like a path (`github.com/OWNER/NAME`): a repository only where
    /// somebody names a build context.
    pub is_like_path: bool,
}

impl GitReference {
    /// Reads a text; `Ok(None)` if it means no repository.
    ///
    /// # Errors
    /// It means one, and its queries mean nothing.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let is_like_path = text.starts_with("github.com/");
        let text = match is_like_path {
            true => format!("https://{text}"),
            false => text.to_owned(),
        };
        let (rest, fragment) = text.split_once('#').unwrap_or((&text, ""));
        let (remote, query) = rest.split_once('?').unwrap_or((rest, ""));
        let is_repository = match remote.split_once("://") {
            Some((scheme, path)) => match scheme.to_ascii_lowercase().as_str() {
                "http" | "https" => is_like_path || path.contains('/') && remote.ends_with(".git"),
                scheme => matches!(scheme, "git" | "ssh"),
            },
            None => is_scp_like(remote),
        };
        if !is_repository {
            return Ok(None);
        }
        let (revision, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let mut reference = GitReference {
            remote: remote.to_owned(),
            revision: given(revision),
            directory: given(directory.trim_matches('/')),
            is_like_path,
            ..GitReference::default()
        };
        reference.read_query(query)?;
        Ok(Some(reference))
    }

    fn read_query(&mut self, query: &str) -> Result<(), String> {
        let (mut tag, mut branch, mut by_commit) = (None, None, false);
        let mut seen: Vec<String> = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let (key, value) = (decoded(key), decoded(value));
            if seen.contains(&key) {
                return Err(format!("query {key:?} has multiple values"));
            }
            seen.push(key.clone());
            let is_flag = matches!(&*key, "submodules" | "keep-git-dir" | "fetch-by-commit");
            if value.is_empty() && !is_flag {
                return Err(format!("query {key:?} has no value"));
            }
            let flag = || match value.is_empty() {
                true => Ok(true),
                false => {
                    parse_bool(&value).ok_or_else(|| format!("invalid {key} value: {value:?}"))
                }
            };
            match key.as_str() {
                "ref" => settle("ref", &mut self.revision, value)?,
                "tag" => tag = Some(prefixed("refs/tags/", &value)),
                "branch" => branch = Some(prefixed("refs/heads/", &value)),
                "subdir" => {
                    let directory = value.trim_matches('/').to_owned();
                    settle("subdir", &mut self.directory, directory)?;
                }
                "checksum" | "commit" => self.checksum = Some(value),
                "keep-git-dir" => self.keeps_git_directory = Some(flag()?),
                "submodules" => self.skips_submodules = !flag()?,
                "fetch-by-commit" => by_commit = flag()?,
                "mtime" if value == "checkout" => {}
                "mtime" if value == "commit" => {
                    return Err("mtime=commit is not supported yet".to_owned());
                }
                "mtime" => {
                    let known = "(must be \"checkout\" or \"commit\")";
                    return Err(format!("invalid mtime value: {value:?} {known}"));
                }
                _ => return Err(format!("unexpected query {key:?}")),
            }
        }
        if tag.is_some() && branch.is_some() {
            return Err("branch conflicts with tag".to_owned());
        }
        if let Some(name) = tag.or(branch) {
            settle("ref", &mut self.revision, name)?;
        }
        if by_commit {
            // The name is of no meaning then.
            let commit = self.checksum.clone();
            self.revision = Some(commit.ok_or("fetch-by-commit needs a checksum")?);
        }
        Ok(())
    }
}

fn prefixed(prefix: &str, name: &str) -> String {
    match name.starts_with(prefix) {
        true => name.to_owned(),
        false => format!("{prefix}{name}"),
    }
}

/// What is said twice must be the same.
fn settle(what: &str, slot: &mut Option<String>, value: String) -> Result<(), String> {
    match slot {
        Some(known) if *known != value => Err(format!("{what} conflicts: {known:?} vs {value:?}")),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

/// Text of an address with `%41` for `A`, as far as it is UTF-8 then.
pub(crate) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| *first == b'%');
        let escaped = escaped.and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// Whether it is `USER@HOST:PATH`, git's short form of ssh.
fn is_scp_like(place: &str) -> bool {
    let is_name = |text: &str, also: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || also.contains(c);
        !text.is_empty() && text.chars().all(allowed)
    };
    let parts = place.split_once('@');
    let parts = parts.and_then(|(user, rest)| Some((user, rest.split_once(':')?)));
    parts.is_some_and(|(user, (host, path))| {
        is_name(user, "-_") && is_name(host, "-.") && !path.is_empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (String, Option<String>, Option<String>) {
        let found = GitReference::parse(text).unwrap();
        let found = found.unwrap_or_else(|| panic!("{text}"));
        (found.remote, found.revision, found.directory)
    }

    #[test]
    fn what_docker_takes_for_a_repository_is_one() {
        let some = |text: &str| Some(text.to_owned());
        for (text, repository, revision, directory) in [
            ("https://h/a.git", "https://h/a.git", None, None),
            ("https://h/a.git#v1", "https://h/a.git", some("v1"), None),
            ("http://h/a.git#:d/e/", "http://h/a.git", None, some("d/e")),
            ("git://h/a#b:c", "git://h/a", some("b"), some("c")),
            ("ssh://g@h:2/a", "ssh://g@h:2/a", None, None),
            ("git@h:o/a#b", "git@h:o/a", some("b"), None),
            ("github.com/o/a", "https://github.com/o/a", None, None),
            (
                "https://h/a.git?tag=v1&subdir=d%2Fe",
                "https://h/a.git",
                some("refs/tags/v1"),
                some("d/e"),
            ),
            (
                "https://h/a.git?branch=b",
                "https://h/a.git",
                some("refs/heads/b"),
                None,
            ),
            ("git@h:o/a?ref=b#b", "git@h:o/a", some("b"), None),
        ] {
            let expect = (repository.to_owned(), revision, directory);
            assert_eq!(parsed(text), expect, "{text}");
        }
        for other in [
            "https://h/a.tar",
            "https://h/a.tar?x=.git",
            "https://h.git",
            "./a.git",
            "../me@h:a",
            "a@b",
            "/srv/a.git",
            "ext::sh",
            "a@h:",
            "dir@2/x:y",
            "foo://bar",
            "x",
        ] {
            assert_eq!(GitReference::parse(other), Ok(None), "{other}");
        }
    }

    #[test]
    fn queries_say_what_is_kept_and_left_out() {
        let text = "https://h/a.git?keep-git-dir&submodules=0&commit=abc&mtime=checkout";
        let found = GitReference::parse(text).unwrap().unwrap();
        assert_eq!(found.keeps_git_directory, Some(true));
        assert!(found.skips_submodules);
        assert_eq!(found.checksum.as_deref(), Some("abc"));
        let text = "https://h/a.git?commit=abc&fetch-by-commit=1#v1";
        let error = GitReference::parse(text).map(|found| found.unwrap().revision);
        assert_eq!(error, Ok(Some("abc".to_owned())));
    }

    #[test]
    fn queries_that_mean_nothing_are_refused() {
        for (query, expect) in [
            ("ref", "query \"ref\" has no value"),
            ("ref=a&ref=b", "query \"ref\" has multiple values"),
            ("ref=a#b", "ref conflicts: \"b\" vs \"a\""),
            ("tag=a&branch=b", "branch conflicts with tag"),
            ("tag=a&ref=b", "ref conflicts: \"b\" vs \"refs/tags/a\""),
            ("submodules=maybe", "invalid submodules value: \"maybe\""),
            ("mtime=never", "invalid mtime value: \"never\""),
            ("depth=1", "unexpected query \"depth\""),
            ("fetch-by-commit", "fetch-by-commit needs a checksum"),
        ] {
            let error = GitReference::parse(&format!("https://h/a.git?{query}")).unwrap_err();
            assert!(error.contains(expect), "{query}: {error}");
        }
    }

    #[test]
    fn escapes_of_addresses_are_read_and_broken_ones_stay() {
        assert_eq!(decoded("a%20b%2fc"), "a b/c");
        for text in ["%", "%2", "%zz", "%ff", "é%"] {
            assert_eq!(decoded(text), text);
        }
    }
}
