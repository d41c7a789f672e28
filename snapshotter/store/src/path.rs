//! File names and paths inside a tree, valid by construction.

use std::borrow::Borrow;
use std::fmt;

use crate::error::{Error, Result};

/// Longest file name in bytes (NAME_MAX of every Linux file system that we meet).
pub const NAME_LENGTH_MAX: usize = 255;

/// Deepest path that is accepted, in components. PATH_MAX would allow 2,048 one-letter ones, but
/// nested values are compared, cloned and dropped by recursion; images stay below 100.
pub const PATH_DEPTH_MAX: usize = 512;

/// One component of a path: 1 to 255 bytes, no `/`, no NUL, neither `.` nor `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Checks a file name.
    ///
    /// # Errors
    /// [`Error::Name`] with the rule that is broken.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        let reason = match bytes {
            b"" => "it is empty",
            b"." | b".." => "it is a reserved name",
            _ if bytes.len() > NAME_LENGTH_MAX => "it is longer than 255 bytes",
            _ if bytes.contains(&b'/') => "it contains a slash",
            _ if bytes.contains(&0) => "it contains a NUL byte",
            _ => return Ok(Name(bytes.into())),
        };
        Err(Error::Name {
            name: String::from_utf8_lossy(bytes).into_owned(),
            reason,
        })
    }

    /// The bytes of the name, which need not be UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<std::ffi::OsStr> for Name {
    fn as_ref(&self) -> &std::ffi::OsStr {
        std::os::unix::ffi::OsStrExt::from_bytes(&self.0)
    }
}

impl AsRef<std::path::Path> for Name {
    fn as_ref(&self) -> &std::path::Path {
        let name: &std::ffi::OsStr = self.as_ref();
        name.as_ref()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// A path inside a tree, relative to its root; no components is the root itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RelPath(Vec<Name>);

impl RelPath {
    /// The root of the tree.
    pub const fn root() -> Self {
        RelPath(Vec::new())
    }

    /// Reads a path as a person or an image config writes it: a leading `/`, empty components and
    /// `.` are ignored, `..` steps back and stops at the root.
    ///
    /// This is for paths that are *meant* relative to the root. Tar entry names, in which `..` is
    /// an attack, go through [`RelPath::strict`].
    ///
    /// # Errors
    /// [`Error::Name`] for a component that is too long or contains NUL; [`Error::Path`] if deeper
    /// than [`PATH_DEPTH_MAX`].
    pub fn lenient(path: &[u8]) -> Result<Self> {
        let mut components: Vec<Name> = Vec::new();
        for component in path.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => {
                    components.pop();
                }
                name => components.push(Name::new(name)?),
            }
        }
        RelPath(components).bounded()
    }

    /// Reads the name of an archive entry: `./` prefixes, doubled and trailing slashes are
    /// ignored, `..` anywhere is refused. A leading `/` is accepted and means the root.
    ///
    /// # Errors
    /// [`Error::Name`] for `..` and what [`Name::new`] refuses.
    pub fn strict(path: &[u8]) -> Result<Self> {
        let components = path
            .split(|byte| *byte == b'/')
            .filter(|component| !matches!(*component, b"" | b"."))
            .map(Name::new)
            .collect::<Result<Vec<_>>>()?;
        RelPath(components).bounded()
    }

    fn bounded(self) -> Result<Self> {
        if self.0.len() > PATH_DEPTH_MAX {
            return Err(Error::Path {
                path: format!("{}/…", self.0[0]),
                reason: "the path is deeper than 512 components",
            });
        }
        Ok(self)
    }

    /// The components from the root down.
    pub fn components(&self) -> &[Name] {
        &self.0
    }

    /// Whether this is the root of the tree.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path without its last component and that component, or `None` for the root.
    pub fn split_last(&self) -> Option<(RelPath, &Name)> {
        let (last, parent) = self.0.split_last()?;
        Some((RelPath(parent.to_vec()), last))
    }

    /// The directory that holds this path, or `None` for the root.
    pub fn parent(&self) -> Option<RelPath> {
        self.split_last().map(|(parent, _)| parent)
    }

    /// The last component, or `None` for the root.
    pub fn file_name(&self) -> Option<&Name> {
        self.0.last()
    }

    /// This path with one more component.
    pub fn join(&self, name: &Name) -> RelPath {
        let mut components = self.0.clone();
        components.push(name.clone());
        RelPath(components)
    }

    /// This path followed by another.
    pub fn concat(&self, tail: &RelPath) -> RelPath {
        RelPath(self.0.iter().chain(&tail.0).cloned().collect())
    }

    /// Adds a component in place.
    pub fn push(&mut self, name: Name) {
        self.0.push(name);
    }

    /// Removes and returns the last component.
    pub fn pop(&mut self) -> Option<Name> {
        self.0.pop()
    }

    /// Whether `prefix` is this path or a directory above it.
    pub fn starts_with(&self, prefix: &RelPath) -> bool {
        self.0.starts_with(&prefix.0)
    }

    /// The bytes joined by slashes, without a leading one; empty for the root.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0
            .iter()
            .map(Name::as_bytes)
            .collect::<Vec<_>>()
            .join(&b'/')
    }
}

impl FromIterator<Name> for RelPath {
    fn from_iter<I: IntoIterator<Item = Name>>(names: I) -> Self {
        RelPath(names.into_iter().collect())
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.to_bytes()))
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_directory_can_hold_are_refused() {
        for bytes in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'a'; 256]] {
            assert!(Name::new(bytes).is_err(), "{bytes:?}");
        }
        assert!(Name::new(&[b'a'; 255]).is_ok());
        assert!(Name::new(b"\xff\xfe").is_ok(), "names are bytes, not UTF-8");
    }

    #[test]
    fn a_lenient_path_never_leaves_the_root() {
        for (given, expected) in [
            ("/", "/"),
            ("", "/"),
            ("../../etc", "/etc"),
            ("/a/./b//c/", "/a/b/c"),
            ("a/../../b", "/b"),
        ] {
            assert_eq!(
                RelPath::lenient(given.as_bytes()).unwrap().to_string(),
                expected
            );
        }
    }

    #[test]
    fn a_strict_path_refuses_dotdot_everywhere() {
        for path in ["..", "../a", "a/../b", "a/.."] {
            assert!(RelPath::strict(path.as_bytes()).is_err(), "{path}");
        }
        assert_eq!(RelPath::strict(b"./a//b/").unwrap().to_string(), "/a/b");
    }

    #[test]
    fn a_bottomless_path_is_refused() {
        assert!(RelPath::strict("a/".repeat(PATH_DEPTH_MAX + 1).as_bytes()).is_err());
    }
}
