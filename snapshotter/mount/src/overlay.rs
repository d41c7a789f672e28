//! An overlay as a value: its layers and options, the rules of the kernel that hold between them
//! (spec/filesystem-stacks.md, section 1), and the option list that containerd passes on.

mod plan;

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::mount::{Kind, Mount};

pub(crate) use plan::Plan;

/// Most lower directories, data-only ones included (`OVL_MAX_STACK`).
pub const LOWER_COUNT_MAX: usize = 500;

/// A lower directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lower {
    /// A directory with everything in it.
    Directory(PathBuf),
    /// A layer of which only names and attributes count: its regular files redirect into the
    /// data-only lower directories. A mounted EROFS image, or a FUSE that answers likewise.
    Metadata(PathBuf),
    /// The same with redirects in `user.overlay.*`: an overlay with `userxattr` follows them if it
    /// is the last (Linux 6.16).
    UserMetadata(PathBuf),
}

impl Lower {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Metadata(path) | Self::UserMetadata(path) => path,
        }
    }

    fn is_metadata(&self) -> bool {
        matches!(self, Self::Metadata(_) | Self::UserMetadata(_))
    }
}

/// How overlayfs treats renamed directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectDir {
    /// Rename makes a redirect; redirects are followed.
    On,
    /// Existing redirects are followed, rename answers EXDEV.
    Follow,
    /// Redirects are not followed.
    NoFollow,
    /// As the module parameters say: followed or not, never made.
    Off,
}

impl RedirectDir {
    fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Follow => "follow",
            Self::NoFollow => "nofollow",
            Self::Off => "off",
        }
    }
}

/// An overlay mount. Fields left at their default leave the choice to the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverlayOptions {
    /// Lower directories, the highest first.
    pub lowers: Vec<Lower>,
    /// Data-only lower directories, searched in this order (Linux 6.5): `…::first::second`.
    pub data_only: Vec<PathBuf>,
    /// Upper directory and its work directory, on the same file system; without them the overlay
    /// is read-only.
    pub upper: Option<(PathBuf, PathBuf)>,
    /// Change of attributes copies up only metadata, and metadata layers need not be last. The
    /// upper directory is then no plain difference any more: its files may lack contents.
    pub metacopy: bool,
    /// Never sync the upper directory. Its work directory cannot be used for a second mount,
    /// see [`renew_work_directory`](crate::renew_work_directory).
    pub volatile: bool,
    /// How renamed directories are treated.
    pub redirect_dir: Option<RedirectDir>,
    /// Whether hard links stay together on copy-up.
    pub index: Option<bool>,
    /// Whether inode numbers are made unique over all layers.
    pub xino: Option<bool>,
    /// Marks in `user.overlay.*` instead of `trusted.overlay.*`, for mounts without privileges.
    pub userxattr: bool,
}

impl OverlayOptions {
    /// Checks the rules that the kernel would enforce with a bare EINVAL, or, worse, not at all.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(&self) -> Result<(), Error> {
        self.check_layers()?;
        self.check_conflicts()?;
        let upper = self
            .upper
            .iter()
            .flat_map(|(upper, work)| [upper.as_path(), work]);
        let lowers = self.lowers.iter().map(Lower::path);
        lowers
            .chain(self.data_only.iter().map(PathBuf::as_path))
            .chain(upper)
            .try_for_each(|path| match path.is_absolute() {
                true => Ok(()),
                false => Err(Error::Path {
                    path: path.into(),
                    reason: "it is not absolute",
                }),
            })
    }

    fn check_layers(&self) -> Result<(), Error> {
        let Some((last, others)) = self.lowers.split_last() else {
            return Err(Error::NoLower);
        };
        let count = self.lowers.len() + self.data_only.len();
        if count > LOWER_COUNT_MAX {
            return Err(Error::TooManyLowers { count });
        }
        if count == 1 && self.upper.is_none() {
            return Err(Error::NothingToMerge {
                lower: last.path().into(),
            });
        }
        let metadata = self.lowers.iter().find(|lower| lower.is_metadata());
        if let (Some(lower), true) = (metadata, self.data_only.is_empty()) {
            return Err(Error::MissingDataOnly {
                lower: lower.path().into(),
            });
        }
        // Linux 6.16 follows the redirects of the last lower without metacopy=on, and only its.
        let stacked = others.iter().find(|lower| lower.is_metadata());
        match stacked {
            Some(lower) if !self.metacopy => Err(Error::MetacopyRequired {
                lower: lower.path().into(),
            }),
            _ => Ok(()),
        }
    }

    fn check_conflicts(&self) -> Result<(), Error> {
        let conflict = |first, second, reason| {
            Err(Error::Conflict {
                first,
                second,
                reason,
            })
        };
        if self.userxattr && self.metacopy {
            return conflict("userxattr", "metacopy=on", "the kernel refuses it");
        }
        // Redirects would be ignored and files read as zeros.
        let is_deaf = |lower: &Lower| match lower {
            Lower::Directory(_) => false,
            Lower::Metadata(_) => self.userxattr,
            Lower::UserMetadata(_) => !self.userxattr,
        };
        if self.lowers.iter().any(is_deaf) {
            let reason = "files would read as zeros";
            return conflict("userxattr", "this kind of metadata layer", reason);
        }
        let other_redirect = self
            .redirect_dir
            .is_some_and(|mode| mode != RedirectDir::On);
        if self.metacopy && self.upper.is_some() && other_redirect {
            return conflict("metacopy=on", "redirect_dir", "it needs redirect_dir=on");
        }
        if self.volatile && self.upper.is_none() {
            return conflict(
                "volatile",
                "a missing upper directory",
                "there is nothing to sync",
            );
        }
        match &self.upper {
            Some((upper, work)) if upper == work => {
                conflict("upperdir", "workdir", "they must be different directories")
            }
            _ => Ok(()),
        }
    }

    /// The mount as containerd and the executor take it.
    ///
    /// # Errors
    /// A broken rule, see [`OverlayOptions::check`]; a path that is not UTF-8 (containerd's
    /// messages cannot hold it; [`mount_overlay`](crate::mount_overlay) can).
    pub fn to_mount(&self) -> Result<Mount, Error> {
        self.check()?;
        let mut options = self.flags();
        if let Some((upper, work)) = &self.upper {
            options.push(format!("workdir={}", escape(work, false)?));
            options.push(format!("upperdir={}", escape(upper, false)?));
        }
        let mut lowerdir = String::from("lowerdir=");
        for (index, lower) in self.lowers.iter().enumerate() {
            lowerdir.push_str(if index == 0 { "" } else { ":" });
            lowerdir.push_str(&escape(lower.path(), true)?);
        }
        for data in &self.data_only {
            lowerdir.push_str("::");
            lowerdir.push_str(&escape(data, true)?);
        }
        options.push(lowerdir);
        let source = PathBuf::from("overlay");
        Ok(Mount {
            kind: Kind::Overlay,
            source,
            target: None,
            options,
        })
    }

    /// Options that name no directory.
    pub(crate) fn flags(&self) -> Vec<String> {
        let switch = |name: &str, value: Option<bool>| {
            value.map(|value| format!("{name}={}", if value { "on" } else { "off" }))
        };
        let flag = |name: &str, value: bool| value.then(|| name.to_owned());
        let redirect = self
            .redirect_dir
            .map(|mode| format!("redirect_dir={}", mode.as_str()));
        [
            switch("index", self.index),
            switch("xino", self.xino),
            flag("metacopy=on", self.metacopy),
            redirect,
            flag("volatile", self.volatile),
            flag("userxattr", self.userxattr),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// A path within an option: backslash and comma are escaped, in lists also the colon.
fn escape(path: &Path, in_list: bool) -> Result<String, Error> {
    let text = path.to_str().ok_or_else(|| Error::Path {
        path: path.into(),
        reason: "it is not UTF-8",
    })?;
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '\\' | ',') || (in_list && character == ':') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    Ok(escaped)
}

#[cfg(test)]
mod tests {
    use super::{LOWER_COUNT_MAX, Lower, OverlayOptions, RedirectDir};
    use crate::error::Error;

    fn directory(path: &str) -> Lower {
        Lower::Directory(path.into())
    }

    fn metadata(path: &str) -> Lower {
        Lower::Metadata(path.into())
    }

    fn stack() -> OverlayOptions {
        OverlayOptions {
            lowers: vec![metadata("/l2"), metadata("/l1")],
            data_only: vec!["/objects".into(), "/lazy".into()],
            upper: Some(("/upper".into(), "/work".into())),
            metacopy: true,
            volatile: true,
            ..OverlayOptions::default()
        }
    }

    #[test]
    fn options_are_rendered_as_containerd_passes_them_on() {
        let options = stack().to_mount().expect("a valid stack").options;
        assert_eq!(
            options,
            [
                "metacopy=on",
                "volatile",
                "workdir=/work",
                "upperdir=/upper",
                "lowerdir=/l2:/l1::/objects::/lazy"
            ]
        );
        let plain = OverlayOptions {
            lowers: vec![directory("/b"), directory("/a")],
            index: Some(false),
            xino: Some(true),
            redirect_dir: Some(RedirectDir::NoFollow),
            ..OverlayOptions::default()
        };
        let options = plain.to_mount().expect("valid").options;
        assert_eq!(
            options,
            [
                "index=off",
                "xino=on",
                "redirect_dir=nofollow",
                "lowerdir=/b:/a"
            ]
        );
    }

    #[test]
    fn a_stack_of_metadata_layers_needs_metacopy() {
        let without = OverlayOptions {
            metacopy: false,
            ..stack()
        };
        let error = without.check().expect_err("two metadata layers");
        assert!(error.to_string().contains("/l2"), "{error}");
        let flat = OverlayOptions {
            lowers: vec![directory("/fuse"), metadata("/flat")],
            metacopy: false,
            ..stack()
        };
        flat.check().expect("the only metadata layer is last");
        let above = OverlayOptions {
            lowers: vec![metadata("/meta"), directory("/plain")],
            metacopy: false,
            ..stack()
        };
        assert!(matches!(above.check(), Err(Error::MetacopyRequired { .. })));
    }

    fn plain() -> OverlayOptions {
        let lowers = vec![directory("/b"), directory("/a")];
        OverlayOptions {
            lowers,
            ..OverlayOptions::default()
        }
    }

    #[test]
    fn layers_that_make_no_overlay_are_named() {
        let check = |options: OverlayOptions| options.check().expect_err("a broken rule");
        assert!(matches!(check(OverlayOptions::default()), Error::NoLower));
        let single = OverlayOptions {
            lowers: vec![directory("/a")],
            ..plain()
        };
        assert!(matches!(check(single), Error::NothingToMerge { .. }));
        let no_data = OverlayOptions {
            data_only: Vec::new(),
            ..stack()
        };
        assert!(matches!(check(no_data), Error::MissingDataOnly { .. }));
        let lowers = vec![directory("a"), directory("/b")];
        let relative = OverlayOptions { lowers, ..plain() };
        assert!(matches!(check(relative), Error::Path { .. }));
    }

    #[test]
    fn combinations_that_the_kernel_refuses_or_misreads_are_named() {
        let check = |options: OverlayOptions, expect: (&str, &str)| match options.check() {
            Err(Error::Conflict { first, second, .. }) => assert_eq!((first, second), expect),
            other => panic!("{expect:?}: {other:?}"),
        };
        let user = OverlayOptions {
            userxattr: true,
            ..stack()
        };
        check(user.clone(), ("userxattr", "metacopy=on"));
        let lowers = vec![metadata("/a")];
        let zeros = OverlayOptions {
            lowers,
            metacopy: false,
            ..user
        };
        check(zeros.clone(), ("userxattr", "this kind of metadata layer"));
        let lowers = vec![Lower::UserMetadata("/a".into())];
        let heard = OverlayOptions { lowers, ..zeros };
        heard.check().expect("its redirects are followed");
        let deaf = OverlayOptions {
            userxattr: false,
            ..heard
        };
        check(deaf, ("userxattr", "this kind of metadata layer"));
        let redirect = OverlayOptions {
            redirect_dir: Some(RedirectDir::Off),
            ..stack()
        };
        check(redirect, ("metacopy=on", "redirect_dir"));
        let volatile = OverlayOptions {
            volatile: true,
            ..plain()
        };
        check(volatile, ("volatile", "a missing upper directory"));
        let upper = Some(("/u".into(), "/u".into()));
        check(OverlayOptions { upper, ..plain() }, ("upperdir", "workdir"));
    }

    #[test]
    fn more_than_500_lowers_are_refused() {
        let lowers = vec![directory("/a"); LOWER_COUNT_MAX];
        let most = OverlayOptions {
            lowers,
            ..OverlayOptions::default()
        };
        most.check().expect("500 are allowed");
        let more = OverlayOptions {
            data_only: vec!["/objects".into()],
            ..most
        };
        assert!(matches!(
            more.check(),
            Err(Error::TooManyLowers { count: 501 })
        ));
    }
}
