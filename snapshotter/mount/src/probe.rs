//! Finds out what the host can do by doing it: mounts tiny images and overlays in a scratch
//! directory and reads a file through each. Version numbers would lie: distributions backport,
//! leave things out, and run us in containers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{CWD, Mode, OFlags, XattrFlags};

use crate::abilities::{Abilities, Ability, ErofsAbility, KernelVersion};
use crate::erofs::{ErofsBacking, mount_erofs_with};
use crate::error::Error;
use crate::guard::MountGuard;
use crate::overlay::{Lower, OverlayOptions};
use crate::overlay_mount::mount_overlay;

/// An image with one file whose contents are elsewhere. This crate cannot make images, so the
/// caller does.
#[derive(Clone, Copy, Debug)]
pub struct ProbeImage<'a> {
    /// The EROFS image.
    pub image: &'a [u8],
    /// Path of the file in the image, without a leading slash.
    pub file: &'a str,
    /// Where the file redirects to, without the leading slash.
    pub redirect: &'a str,
    /// What the file must contain.
    pub content: &'a [u8],
}

impl Abilities {
    /// Tries everything in a new directory below `scratch` and cleans up after itself.
    ///
    /// `scratch` must be on the file system of the store, since it decides about upper
    /// directories and extended attributes. The two images must not contain each other's file.
    ///
    /// # Errors
    /// `scratch` cannot be written. Everything else is a missing ability, not an error.
    pub fn probe(scratch: &Path, images: &[ProbeImage<'_>; 2]) -> Result<Self, Error> {
        let bench = Bench::new(scratch)?;
        let prepared = images.iter().enumerate().try_for_each(|(n, image)| {
            bench.write(&format!("{n}.erofs"), image.image)?;
            bench.write(&format!("objects/{}", image.redirect), image.content)
        });
        prepared?;
        let (erofs, mounted) = bench.erofs();
        let lower = |n: usize| Lower::Metadata(bench.path(&n.to_string()));
        let both = bench.also_mount_second(mounted.is_some());
        let with_images = |options: OverlayOptions, images: &[ProbeImage<'_>]| match &both {
            Ok(_) => Ability::of(bench.read_through(&options, images)),
            Err(reason) => Ability::No {
                reason: reason.clone(),
            },
        };
        let volatile_upper = Ability::of(bench.plain_overlay(true, false));
        // Unmounting an overlay that is not volatile syncs the whole file system of the store.
        let volatile = volatile_upper.is_yes();
        let overlay = match &volatile_upper {
            Ability::Yes => Ability::Yes,
            Ability::No { .. } => Ability::of(bench.plain_overlay(false, false)),
        };
        let data_only = vec![bench.path("objects")];
        let lowers = vec![lower(0)];
        let one = OverlayOptions {
            lowers,
            data_only,
            ..OverlayOptions::default()
        };
        let upper = Some(bench.upper("flat")?);
        let flat = OverlayOptions {
            upper,
            volatile,
            ..one.clone()
        };
        let (lowers, upper) = (vec![lower(1), lower(0)], Some(bench.upper("stack")?));
        let stack = OverlayOptions {
            lowers,
            upper,
            metacopy: true,
            volatile,
            ..one.clone()
        };
        let one = OverlayOptions {
            metacopy: true,
            ..one
        };
        let abilities = Self {
            kernel: KernelVersion::running(),
            overlay,
            user_overlay: Ability::of(bench.plain_overlay(volatile, true)),
            user_redirects: Ability::of(bench.user_redirects(volatile, &images[0])),
            erofs,
            data_only_lowers: with_images(one, &images[..1]),
            flat_without_metacopy: with_images(flat, &images[..1]),
            metacopy_stack: with_images(stack, images),
            volatile_upper,
            trusted_xattrs: bench.xattr("trusted.varve.probe"),
            user_xattrs: bench.xattr("user.varve.probe"),
            unnamed_files: bench.unnamed_file(),
            reflinks: bench.reflink(),
            fuse: fuse(),
            user_namespaces: user_namespaces(),
        };
        for guard in both.into_iter().chain(mounted) {
            guard.unmount()?;
        }
        Ok(abilities)
    }
}

/// The directory in which everything is tried; removed on drop. Mount guards inside it are
/// declared later and so dropped earlier.
struct Bench {
    directory: PathBuf,
}

impl Bench {
    fn new(scratch: &Path) -> Result<Self, Error> {
        // Several probes may run in one process, and a killed one may have left its directory.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = scratch.join(format!("probe-{}-{count}", std::process::id()));
        fs::create_dir_all(&directory)
            .map_err(|error| Error::system("make the directory", &directory, error))?;
        // Overlay layers must be named absolutely.
        let directory = fs::canonicalize(&directory)
            .map_err(|error| Error::system("resolve", &directory, error))?;
        Ok(Self { directory })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn make_directory(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path(name);
        fs::create_dir_all(&path)
            .map_err(|error| Error::system("make the directory", &path, error))?;
        Ok(path)
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .map_err(|error| Error::system("make the directory", parent, error))?;
        }
        fs::write(&path, content).map_err(|error| Error::system("write", &path, error))
    }

    fn upper(&self, name: &str) -> Result<(PathBuf, PathBuf), Error> {
        let upper = self.make_directory(&format!("{name}-upper"))?;
        Ok((upper, self.make_directory(&format!("{name}-work"))?))
    }

    /// Mounts the first image in the best way that works.
    fn erofs(&self) -> (ErofsAbility, Option<MountGuard>) {
        let mount = |backing| {
            let target = self.make_directory("0")?;
            mount_erofs_with(&self.path("0.erofs"), &target, backing)
        };
        match mount(ErofsBacking::File) {
            Ok(guard) => (ErofsAbility::FileBacked, Some(guard)),
            Err(file) => match mount(ErofsBacking::LoopDevice) {
                Ok(guard) => (
                    ErofsAbility::LoopDevice {
                        reason: file.to_string(),
                    },
                    Some(guard),
                ),
                Err(device) => {
                    let reason = format!("{file}; over a loop device: {device}");
                    (ErofsAbility::None { reason }, None)
                }
            },
        }
    }

    /// Mounts the second image, or says why images cannot be used.
    fn also_mount_second(&self, first_is_mounted: bool) -> Result<MountGuard, String> {
        if !first_is_mounted {
            return Err("EROFS images cannot be mounted".into());
        }
        let second = self
            .make_directory("1")
            .and_then(|target| crate::erofs::mount_erofs(&self.path("1.erofs"), &target));
        second.map_err(|error| error.to_string())
    }

    /// Mounts the overlay and reads the file of each image through it.
    fn read_through(
        &self,
        options: &OverlayOptions,
        images: &[ProbeImage<'_>],
    ) -> Result<(), Error> {
        let merged = self.make_directory("merged")?;
        let guard = mount_overlay(options, &merged)?;
        images
            .iter()
            .try_for_each(|image| expect_content(&merged.join(image.file), image.content))?;
        // Not in the background: after a probe nothing of it may keep `scratch` busy.
        guard.unmount()
    }

    /// An overlay of plain directories: reads a lower file and replaces it, and a directory.
    fn plain_overlay(&self, volatile: bool, userxattr: bool) -> Result<(), Error> {
        let name = match (volatile, userxattr) {
            (true, false) => "volatile",
            (false, false) => "plain",
            (_, true) => "user",
        };
        self.write(&format!("{name}-lower/file"), b"lower")?;
        self.write(&format!("{name}-lower/directory/file"), b"lower")?;
        let upper = self.upper(name)?;
        let options = OverlayOptions {
            lowers: vec![Lower::Directory(self.path(&format!("{name}-lower")))],
            upper: Some(upper.clone()),
            volatile,
            userxattr,
            ..OverlayOptions::default()
        };
        let merged = self.make_directory("merged")?;
        let guard = mount_overlay(&options, &merged)?;
        let file = merged.join("file");
        expect_content(&file, b"lower")?;
        fs::write(&file, b"upper").map_err(|error| Error::system("write", &file, error))?;
        expect_content(&upper.0.join("file"), b"upper")?;
        if userxattr {
            // Without marks the first works, and the second shows what was below.
            let inside = merged.join("directory");
            fs::remove_dir_all(&inside)
                .and_then(|()| fs::create_dir(&inside))
                .map_err(|error| Error::system("replace", &inside, error))?;
            let count = fs::read_dir(&inside).map_or(1, Iterator::count);
            if count != 0 {
                let error = io::Error::other("what was below shows through");
                return Err(Error::system("replace", &inside, error));
            }
        }
        guard.unmount()
    }

    /// Reads a file of a plain layer that redirects to the contents of an image's file.
    fn user_redirects(&self, volatile: bool, image: &ProbeImage<'_>) -> Result<(), Error> {
        self.write("links/file", b"")?;
        let file = self.path("links/file");
        let redirect = format!("/{}", image.redirect);
        let set = |name: &str, value: &[u8]| {
            rustix::fs::setxattr(&file, name, value, XattrFlags::empty())
                .map_err(|errno| Error::system("mark", &file, errno))
        };
        fs::OpenOptions::new()
            .write(true)
            .open(&file)
            .and_then(|opened| opened.set_len(image.content.len() as u64))
            .map_err(|error| Error::system("lengthen", &file, error))?;
        set("user.overlay.metacopy", b"")?;
        set("user.overlay.redirect", redirect.as_bytes())?;
        let options = OverlayOptions {
            lowers: vec![Lower::UserMetadata(self.path("links"))],
            data_only: vec![self.path("objects")],
            upper: Some(self.upper("links")?),
            volatile,
            userxattr: true,
            ..OverlayOptions::default()
        };
        let merged = self.make_directory("merged")?;
        let guard = mount_overlay(&options, &merged)?;
        expect_content(&merged.join("file"), image.content)?;
        guard.unmount()
    }

    fn xattr(&self, name: &str) -> Ability {
        let set = rustix::fs::setxattr(&self.directory, name, b"1", XattrFlags::empty());
        Ability::of(set.map_err(|errno| format!("{}: {errno}", self.directory.display())))
    }

    fn unnamed_file(&self) -> Ability {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let open = rustix::fs::openat(CWD, &self.directory, flags, Mode::from_raw_mode(0o600));
        let named = open.and_then(|file| {
            use std::os::fd::AsRawFd;
            let source = format!("/proc/self/fd/{}", file.as_raw_fd());
            let follow = rustix::fs::AtFlags::SYMLINK_FOLLOW;
            rustix::fs::linkat(CWD, source, CWD, self.path("named"), follow)
        });
        Ability::of(named.map_err(|errno| format!("{}: {errno}", self.directory.display())))
    }

    fn reflink(&self) -> Ability {
        let clone = || -> io::Result<()> {
            fs::write(self.path("reflink-source"), [0; 4096])?;
            let source = fs::File::open(self.path("reflink-source"))?;
            let copy = fs::File::create(self.path("reflink-copy"))?;
            Ok(rustix::fs::ioctl_ficlone(&copy, &source)?)
        };
        Ability::of(clone().map_err(|error| format!("the file system cannot: {error}")))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            let directory = self.directory.display();
            tracing::warn!(%error, %directory, "the directory of a self-test was left behind");
        }
    }
}

fn expect_content(path: &Path, expect: &[u8]) -> Result<(), Error> {
    let content = fs::read(path).map_err(|error| Error::system("read", path, error))?;
    if content == expect {
        return Ok(());
    }
    let message = format!("it has {} unexpected bytes", content.len());
    let error = io::Error::new(io::ErrorKind::InvalidData, message);
    Err(Error::system("read", path, error))
}

fn fuse() -> Ability {
    let device = "/dev/fuse";
    let open = fs::OpenOptions::new().read(true).write(true).open(device);
    Ability::of(open.map_err(|error| format!("{device}: {error}")))
}

/// Read from the kernel's settings: trying would need a new process.
fn user_namespaces() -> Ability {
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).ok();
    let limit = read("user/max_user_namespaces");
    match limit.as_deref().map(str::trim) {
        None => Ability::No {
            reason: "the kernel was built without them".into(),
        },
        Some("0") => Ability::No {
            reason: "/proc/sys/user/max_user_namespaces is 0".into(),
        },
        Some(_) => match read("kernel/unprivileged_userns_clone")
            .as_deref()
            .map(str::trim)
        {
            Some("0") => Ability::No {
                reason: "/proc/sys/kernel/unprivileged_userns_clone is 0".into(),
            },
            _ => Ability::Yes,
        },
    }
}
