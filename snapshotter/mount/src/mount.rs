//! A mount as a value, in containerd's shape (`api/types/mount.proto`).

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::Error;

/// What a mount is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A directory or file shown at a second place.
    Bind,
    /// Directories merged by overlayfs.
    Overlay,
    /// A read-only image.
    Erofs,
    /// Memory.
    Tmpfs,
}

impl Kind {
    /// containerd's `type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Overlay => "overlay",
            Self::Erofs => "erofs",
            Self::Tmpfs => "tmpfs",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(kind: &str) -> Result<Self, Error> {
        match kind {
            // Some clients leave the type of a bind mount to its options.
            "bind" | "none" => Ok(Self::Bind),
            "overlay" => Ok(Self::Overlay),
            "erofs" => Ok(Self::Erofs),
            "tmpfs" => Ok(Self::Tmpfs),
            _ => Err(Error::UnknownKind {
                kind: kind.to_owned(),
            }),
        }
    }
}

/// One mount, to be made below some target directory that its user chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What to mount.
    pub kind: Kind,
    /// Directory or file of a bind mount, image of an EROFS mount, else a label.
    pub source: PathBuf,
    /// Where below the user's target, if not at the target itself. It must exist.
    pub target: Option<PathBuf>,
    /// Options in the syntax of mount(8).
    pub options: Vec<String>,
}

impl Mount {
    /// A recursive bind mount of `source`.
    #[must_use]
    pub fn bind(source: impl Into<PathBuf>, read_only: bool) -> Self {
        let access = if read_only { "ro" } else { "rw" };
        Self::new(Kind::Bind, source, ["rbind", access])
    }

    /// An EROFS image, mounted straight from its file (or by a loop device before Linux 6.12).
    #[must_use]
    pub fn erofs(image: impl Into<PathBuf>) -> Self {
        Self::new(Kind::Erofs, image, ["ro"])
    }

    /// An empty file system in memory of at most `size` bytes, if given, with this root mode.
    #[must_use]
    pub fn tmpfs(size: Option<u64>, mode: u32) -> Self {
        let size = size.map(|size| format!("size={size}"));
        let options = size.into_iter().chain([format!("mode={mode:o}")]);
        let options = ["nosuid", "nodev"]
            .map(str::to_owned)
            .into_iter()
            .chain(options)
            .collect();
        Self {
            kind: Kind::Tmpfs,
            source: "tmpfs".into(),
            target: None,
            options,
        }
    }

    fn new<const N: usize>(kind: Kind, source: impl Into<PathBuf>, options: [&str; N]) -> Self {
        let options = options.map(str::to_owned).into();
        Self {
            kind,
            source: source.into(),
            target: None,
            options,
        }
    }

    /// The same mount at `target` below the user's target.
    #[must_use]
    pub fn at(mut self, target: impl AsRef<Path>) -> Self {
        self.target = Some(target.as_ref().to_path_buf());
        self
    }

    /// Whether the option `name` is set, as a flag or with a value.
    #[must_use]
    pub fn has_option(&self, name: &str) -> bool {
        self.options
            .iter()
            .any(|option| option.split('=').next() == Some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Mount};

    #[test]
    fn mounts_have_the_shape_that_containerd_gives_them() {
        let check = |mount: Mount, kind: &str, source: &str, options: &[&str]| {
            assert_eq!(mount.kind.as_str(), kind);
            assert_eq!(mount.source.to_str(), Some(source));
            assert_eq!(mount.options, options);
        };
        check(Mount::bind("/a", true), "bind", "/a", &["rbind", "ro"]);
        check(Mount::bind("/a", false), "bind", "/a", &["rbind", "rw"]);
        check(Mount::erofs("/a.erofs"), "erofs", "/a.erofs", &["ro"]);
        let tmpfs = Mount::tmpfs(Some(4096), 0o1777);
        check(
            tmpfs,
            "tmpfs",
            "tmpfs",
            &["nosuid", "nodev", "size=4096", "mode=1777"],
        );
        let at = Mount::bind("/a", true).at("sub/dir");
        assert_eq!(at.target.as_deref(), Some("sub/dir".as_ref()));
    }

    #[test]
    fn kinds_are_read_back_from_their_names() {
        for kind in [Kind::Bind, Kind::Overlay, Kind::Erofs, Kind::Tmpfs] {
            assert_eq!(kind.as_str().parse::<Kind>().expect("known"), kind);
        }
        "ext4".parse::<Kind>().expect_err("not ours");
    }
}
