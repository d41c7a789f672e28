//! What this host can do, as `varve doctor` prints it and storage decides by it.

use std::fmt;

/// A running kernel's version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelVersion {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// All of it, e.g. `6.18.44-generic`.
    pub release: String,
}

impl KernelVersion {
    /// The version of the kernel that we run on.
    #[must_use]
    pub fn running() -> Self {
        Self::parse(&rustix::system::uname().release().to_string_lossy())
    }

    /// Reads `uname -r`. What is no number counts as 0, the oldest kernel.
    fn parse(release: &str) -> Self {
        let mut numbers = release
            .split(|character: char| !character.is_ascii_digit())
            .map(|number| number.parse().unwrap_or(0));
        let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        Self {
            major,
            minor,
            release: release.to_owned(),
        }
    }

    /// Whether it is this version or a later one.
    #[must_use]
    pub fn is_at_least(&self, (major, minor): (u32, u32)) -> bool {
        (self.major, self.minor) >= (major, minor)
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.release)
    }
}

/// Whether something works here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ability {
    /// It does; it was tried.
    Yes,
    /// It does not, and why.
    No {
        /// The reason in words, for a person.
        reason: String,
    },
}

impl Ability {
    /// Whether it works.
    #[must_use]
    pub fn is_yes(&self) -> bool {
        matches!(self, Self::Yes)
    }

    pub(crate) fn of<T, E: fmt::Display>(result: Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Yes,
            Err(error) => Self::No {
                reason: error.to_string(),
            },
        }
    }
}

impl fmt::Display for Ability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes => formatter.write_str("yes"),
            Self::No { reason } => write!(formatter, "no: {reason}"),
        }
    }
}

/// How EROFS images can be mounted here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErofsAbility {
    /// Straight from their files (Linux 6.12).
    FileBacked,
    /// Over loop devices.
    LoopDevice {
        /// Why not straight from their files.
        reason: String,
    },
    /// Not at all.
    None {
        /// Why not.
        reason: String,
    },
}

impl ErofsAbility {
    /// Whether images can be mounted in some way.
    #[must_use]
    pub fn is_available(&self) -> bool {
        !matches!(self, Self::None { .. })
    }
}

impl fmt::Display for ErofsAbility {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileBacked => formatter.write_str("straight from the file"),
            Self::LoopDevice { reason } => write!(formatter, "over a loop device ({reason})"),
            Self::None { reason } => write!(formatter, "no: {reason}"),
        }
    }
}

/// What this host can do with a store in a certain directory. Made by [`Abilities::probe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// The kernel that was asked.
    pub kernel: KernelVersion,
    /// An overlay of plain directories with an upper directory: the fallback `dirs`.
    pub overlay: Ability,
    /// The same with marks in `user.*` attributes: what a user namespace has (Linux 5.11).
    pub user_overlay: Ability,
    /// Plain layers of such an overlay whose files redirect into a data-only lower (Linux 6.16).
    pub user_redirects: Ability,
    /// EROFS images.
    pub erofs: ErofsAbility,
    /// Data-only lower directories below a metadata image (Linux 6.5).
    pub data_only_lowers: Ability,
    /// A single metadata image below an upper directory, without `metacopy=on` (Linux 6.16):
    /// the shape `flat` with plain differences as uppers.
    pub flat_without_metacopy: Ability,
    /// Two metadata images with `metacopy=on` and an upper directory: the shape `stack`.
    pub metacopy_stack: Ability,
    /// Upper directories that are never synced (Linux 5.10).
    pub volatile_upper: Ability,
    /// `trusted.*` extended attributes in the directory.
    pub trusted_xattrs: Ability,
    /// `user.*` extended attributes in the directory.
    pub user_xattrs: Ability,
    /// Files without a name that get one when they are complete (`O_TMPFILE`).
    pub unnamed_files: Ability,
    /// Copies that share blocks (`FICLONE`): XFS, btrfs.
    pub reflinks: Ability,
    /// FUSE, for lazily pulled layers and traced steps.
    pub fuse: Ability,
    /// User namespaces, for running without root.
    pub user_namespaces: Ability,
}

impl Abilities {
    /// Each ability with the name under which a person finds it.
    #[must_use]
    pub fn list(&self) -> Vec<(&'static str, String)> {
        vec![
            ("kernel", self.kernel.to_string()),
            ("overlay", self.overlay.to_string()),
            ("overlay of an ordinary user", self.user_overlay.to_string()),
            (
                "redirects of an ordinary user",
                self.user_redirects.to_string(),
            ),
            ("erofs images", self.erofs.to_string()),
            (
                "data-only lower directories",
                self.data_only_lowers.to_string(),
            ),
            (
                "flat image without metacopy",
                self.flat_without_metacopy.to_string(),
            ),
            (
                "stack of images with metacopy",
                self.metacopy_stack.to_string(),
            ),
            ("volatile upper directory", self.volatile_upper.to_string()),
            ("trusted.* attributes", self.trusted_xattrs.to_string()),
            ("user.* attributes", self.user_xattrs.to_string()),
            ("unnamed files", self.unnamed_files.to_string()),
            ("reflinks", self.reflinks.to_string()),
            ("fuse", self.fuse.to_string()),
            ("user namespaces", self.user_namespaces.to_string()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::KernelVersion;

    #[test]
    fn kernel_releases_are_read_whatever_follows_the_numbers() {
        let check = |release: &str, expect: (u32, u32)| {
            let version = KernelVersion::parse(release);
            assert_eq!((version.major, version.minor), expect, "{release}");
        };
        check("6.18.44-fc-v595", (6, 18));
        check("6.7", (6, 7));
        check("5.14.0-503.el9.x86_64", (5, 14));
        check("6.1-rc3+", (6, 1));
        check("6", (6, 0));
        check("", (0, 0));
        assert!(KernelVersion::parse("6.10.1").is_at_least((6, 7)));
        assert!(!KernelVersion::parse("6.6.99").is_at_least((6, 7)));
        assert!(KernelVersion::parse("7.0").is_at_least((6, 7)));
    }
}
