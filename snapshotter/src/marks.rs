//! Where overlayfs keeps its marks, and what stands for files that an ordinary user cannot make.
//!
//! In a user namespace nobody may set `trusted.*` attributes. Overlayfs then keeps its marks in
//! `user.overlay.*` (option `userxattr`, Linux 5.11), and device nodes cannot be made at all: in
//! checkouts an empty file with an attribute stands for one, and a capture makes the device of it
//! again. So the trees are those that root gets.

use std::borrow::Cow;

use store::Content;

/// Which attributes overlayfs's marks are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Marks {
    /// `trusted.overlay.*`: for root.
    #[default]
    Trusted,
    /// `user.overlay.*`: in a user namespace.
    User,
}

/// What an image's own attributes of the name `user.overlay.*` begin with in a layer: overlayfs
/// shows them without it (Linux 6.7).
const ESCAPED: &[u8] = b"user.overlay.overlay.";
const USER_PREFIX: &[u8] = b"user.overlay.";

/// Attribute of the file that stands for a device: `c 1:3`, `b 8:0`.
pub(crate) const DEVICE: &[u8] = b"user.varve.device";

/// What an attribute of a file in an upper is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning<'n> {
    Opaque,
    Metacopy,
    Redirect,
    /// Overlayfs's own, and nothing to us.
    Ignored,
    /// The file stands for a device.
    Device,
    /// The file's own, by this name.
    Own(Cow<'n, [u8]>),
}

impl Marks {
    /// The mark of a directory that hides what is below it.
    pub(crate) fn opaque(self) -> &'static [u8] {
        match self {
            Marks::Trusted => b"trusted.overlay.opaque",
            Marks::User => b"user.overlay.opaque",
        }
    }

    /// What makes overlayfs take the contents of a file from elsewhere.
    pub(crate) fn redirect(self) -> [&'static [u8]; 2] {
        match self {
            Marks::Trusted => [b"trusted.overlay.metacopy", b"trusted.overlay.redirect"],
            Marks::User => [b"user.overlay.metacopy", b"user.overlay.redirect"],
        }
    }

    /// What an attribute of this name means in a directory that overlayfs wrote to.
    pub(crate) fn meaning(self, name: &[u8]) -> Meaning<'_> {
        let prefix: &[u8] = match self {
            Marks::Trusted => b"trusted.overlay.",
            Marks::User if name == DEVICE => return Meaning::Device,
            Marks::User => USER_PREFIX,
        };
        match name.strip_prefix(prefix) {
            None => Meaning::Own(name.into()),
            Some(b"opaque") => Meaning::Opaque,
            Some(b"metacopy") => Meaning::Metacopy,
            Some(b"redirect") => Meaning::Redirect,
            Some(rest) => match (self, rest.strip_prefix(b"overlay.")) {
                (Marks::User, Some(own)) => Meaning::Own([USER_PREFIX, own].concat().into()),
                _ => Meaning::Ignored,
            },
        }
    }

    /// The name by which a layer has to hold an attribute of a file; `None` if it cannot.
    pub(crate) fn name_in_layer(self, name: &[u8]) -> Option<Cow<'_, [u8]>> {
        match (self, name.strip_prefix(USER_PREFIX)) {
            (Marks::User, Some(rest)) => Some([ESCAPED, rest].concat().into()),
            (Marks::User, None) => may_user_set(name).then(|| name.into()),
            (Marks::Trusted, _) => Some(name.into()),
        }
    }
}

/// Whether root of a user namespace may set an attribute (xattr(7)).
fn may_user_set(name: &[u8]) -> bool {
    let may = [&b"user."[..], b"system.posix_acl_", b"security.capability"];
    may.iter().any(|start| name.starts_with(start))
}

/// The value of [`DEVICE`] for a device; `None` for everything else.
pub(crate) fn stand_in(content: &Content) -> Option<String> {
    match content {
        Content::CharDevice { major, minor } => Some(format!("c {major}:{minor}")),
        Content::BlockDevice { major, minor } => Some(format!("b {major}:{minor}")),
        _ => None,
    }
}

/// The device that a value of [`DEVICE`] means.
pub(crate) fn device(value: &[u8]) -> Option<Content> {
    let text = std::str::from_utf8(value).ok()?;
    let (kind, numbers) = text.split_once(' ')?;
    let (major, minor) = numbers.split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    match kind {
        // In a layer 0:0 would be a whiteout.
        "c" if (major, minor) != (0, 0) => Some(Content::CharDevice { major, minor }),
        "b" => Some(Content::BlockDevice { major, minor }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_the_files_own_attributes_are_told_apart() {
        let own = |name: &'static [u8]| Meaning::Own(name.into());
        for (marks, name, expect) in [
            (
                Marks::Trusted,
                &b"trusted.overlay.opaque"[..],
                Meaning::Opaque,
            ),
            (Marks::Trusted, b"trusted.overlay.origin", Meaning::Ignored),
            (
                Marks::Trusted,
                b"user.overlay.opaque",
                own(b"user.overlay.opaque"),
            ),
            (Marks::Trusted, DEVICE, own(DEVICE)),
            (Marks::User, b"user.overlay.opaque", Meaning::Opaque),
            (Marks::User, b"user.overlay.redirect", Meaning::Redirect),
            (Marks::User, b"user.overlay.metacopy", Meaning::Metacopy),
            (Marks::User, b"user.overlay.impure", Meaning::Ignored),
            (
                Marks::User,
                b"user.overlay.overlay.opaque",
                own(b"user.overlay.opaque"),
            ),
            (Marks::User, DEVICE, Meaning::Device),
            (Marks::User, b"user.note", own(b"user.note")),
        ] {
            assert_eq!(
                marks.meaning(name),
                expect,
                "{marks:?} {}",
                name.escape_ascii()
            );
        }
    }

    #[test]
    fn an_images_attribute_never_becomes_a_mark() {
        for name in [
            &b"user.overlay.opaque"[..],
            b"user.overlay.overlay.x",
            b"user.x",
        ] {
            let held = Marks::User.name_in_layer(name).unwrap();
            assert_eq!(Marks::User.meaning(&held), Meaning::Own(name.into()));
        }
        assert_eq!(Marks::User.name_in_layer(b"trusted.x"), None);
        assert!(Marks::Trusted.name_in_layer(b"trusted.x").is_some());
    }

    #[test]
    fn devices_survive_their_stand_ins() {
        for content in [
            Content::CharDevice { major: 1, minor: 3 },
            Content::BlockDevice { major: 8, minor: 0 },
        ] {
            let value = stand_in(&content).unwrap();
            assert_eq!(device(value.as_bytes()), Some(content));
        }
        assert_eq!(stand_in(&Content::Fifo), None);
        for forged in ["", "c", "c 0:0", "x 1:3", "c 1", "c 1:x", "c -1:3"] {
            assert_eq!(device(forged.as_bytes()), None, "{forged}");
        }
    }
}
