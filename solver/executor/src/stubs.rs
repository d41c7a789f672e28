//! Mount points that a run needs but the image does not have: made before, removed after, so that
//! they never become part of a layer.
//!
//! BuildKit lets the runtime create them and removes what is still empty afterwards
//! (`executor/stubs.go`). We create them ourselves: so we know the time stamps of the directory
//! around them from before, and a step that changed nothing there leaves no trace at all.

use std::path::{Path, PathBuf};

use rustix::fs::Timestamps;

use crate::error::{Error, Result};
use crate::process::{ExtraMount, ExtraMountKind};
use crate::rootfs::{RootDir, times_of};

/// Mode of a mount point that is a directory or a directory above one.
const DIRECTORY_MODE: u32 = 0o755;

/// Mode of a mount point that is a file.
const FILE_MODE: u32 = 0o644;

/// Targets of the standard mounts that are directories.
const STANDARD_DIRECTORIES: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Targets of the standard mounts that are files.
const STANDARD_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// The mount points that were made for one run. Call [`MountStubs::remove`] when no process of
/// the run is left.
#[derive(Debug)]
pub struct MountStubs {
    root: RootDir,
    /// In the order of creation: parents before children.
    stubs: Vec<Stub>,
}

#[derive(Debug)]
struct Stub {
    relative: PathBuf,
    directory: bool,
    /// Times of the parent directory before and after this stub was made.
    parent_before: Timestamps,
    parent_after: Timestamps,
}

impl MountStubs {
    /// Makes every missing mount point of the standard mounts and of `mounts` below `root`.
    ///
    /// # Errors
    /// [`Error::Prepare`] when one cannot be made; those made before are removed again.
    pub fn create(root: &Path, mounts: &[ExtraMount]) -> Result<Self> {
        let opened = RootDir::open(root);
        let opened = opened.map_err(|source| Error::prepare("open root file system", root, source));
        let mut stubs = Self {
            root: opened?,
            stubs: Vec::new(),
        };
        let targets = STANDARD_DIRECTORIES
            .iter()
            .map(|path| (Path::new(*path), true));
        let targets = targets.chain(STANDARD_FILES.iter().map(|path| (Path::new(*path), false)));
        let extra = mounts
            .iter()
            .map(|mount| (Path::new(mount.target.as_str()), is_directory(mount)));
        for mount in mounts {
            if let Err(error) = stubs.check_target(&mount.target) {
                stubs.remove();
                return Err(error);
            }
        }
        for (target, directory) in targets.chain(extra) {
            if let Err(source) = stubs.create_one(target, directory) {
                stubs.remove();
                return Err(Error::prepare("create mount point", target, source));
            }
        }
        Ok(stubs)
    }

    /// Refuses a place that is the container's own, also behind symbolic links of the image.
    fn check_target(&self, target: &str) -> Result<()> {
        let resolved = self.root.resolve(Path::new(target));
        let resolved =
            resolved.map_err(|source| Error::prepare("find mount point", target, source))?;
        let below = |place: &str| resolved.starts_with(place);
        let place = match resolved.as_os_str().is_empty() {
            true => "/",
            false if below("proc") => "/proc",
            false if below("sys") => "/sys",
            false if resolved == Path::new("dev") => "/dev",
            false => return Ok(()),
        };
        Err(Error::MountTarget {
            target: target.to_owned(),
            place,
        })
    }

    fn create_one(&mut self, target: &Path, directory: bool) -> std::io::Result<()> {
        let relative = self.root.resolve(target)?;
        // Below a standard mount nothing of the image is visible: the runtime makes those itself.
        let hidden = STANDARD_DIRECTORIES.iter().any(|standard| {
            let standard = Path::new(standard)
                .strip_prefix("/")
                .unwrap_or(Path::new(""));
            relative != standard && relative.starts_with(standard)
        });
        if hidden {
            return Ok(());
        }
        self.create_missing(&relative, directory)
    }

    fn create_missing(&mut self, target: &Path, directory: bool) -> std::io::Result<()> {
        let relative = self.root.resolve(target)?;
        let mut missing = Vec::new();
        for path in relative
            .ancestors()
            .filter(|path| !path.as_os_str().is_empty())
        {
            if self.root.stat(path)?.is_some() {
                break;
            }
            missing.push(path.to_owned());
        }
        for path in missing.into_iter().rev() {
            let directory = directory || path != relative;
            self.create_stub(path, directory)?;
        }
        Ok(())
    }

    fn create_stub(&mut self, relative: PathBuf, directory: bool) -> std::io::Result<()> {
        let parent = relative.parent().unwrap_or(Path::new("")).to_owned();
        let parent_before = self.parent_times(&parent)?;
        if directory {
            self.root.make_directory(&relative, DIRECTORY_MODE)?;
        } else {
            self.root.make_file(&relative, FILE_MODE)?;
        }
        let parent_after = self.parent_times(&parent)?;
        self.stubs.push(Stub {
            relative,
            directory,
            parent_before,
            parent_after,
        });
        Ok(())
    }

    fn parent_times(&self, parent: &Path) -> std::io::Result<Timestamps> {
        let stat = self.root.stat(parent)?;
        stat.as_ref()
            .map(times_of)
            .ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }

    /// Removes every mount point that is still empty and gives the directories around them the
    /// times they would have without them. What the step has filled or replaced stays.
    pub fn remove(self) {
        for stub in self.stubs.iter().rev() {
            if let Err(error) = self.remove_one(stub) {
                let path = stub.relative.display();
                tracing::warn!("failed to remove mount stub /{path}: {error}");
            }
        }
    }

    fn remove_one(&self, stub: &Stub) -> std::io::Result<()> {
        let Some(stat) = self.root.stat(&stub.relative)? else {
            return Ok(());
        };
        let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
        let ours = match stub.directory {
            true => kind == rustix::fs::FileType::Directory,
            false => kind == rustix::fs::FileType::RegularFile && stat.st_size == 0,
        };
        if !ours {
            return Ok(());
        }
        let parent = stub.relative.parent().unwrap_or(Path::new(""));
        let now = self.parent_times(parent)?;
        match self.root.remove(&stub.relative, stub.directory) {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => return Ok(()),
            result => result?,
        }
        let touched = now.last_modification != stub.parent_after.last_modification;
        self.root
            .set_times(parent, if touched { &now } else { &stub.parent_before })
    }
}

/// Makes the mount point `target` below `root` if it is not there: for a mount inside another one,
/// whose file system is thrown away after the run.
///
/// # Errors
/// [`Error::Prepare`].
pub fn create_mount_point(root: &Path, target: &Path, is_directory: bool) -> Result<()> {
    let make = || -> std::io::Result<()> {
        let mut stubs = MountStubs {
            root: RootDir::open(root)?,
            stubs: Vec::new(),
        };
        stubs.create_missing(target, is_directory)
    };
    make().map_err(|source| Error::prepare("create mount point", target, source))
}

/// Whether the mount point of `mount` is a directory: it is what its source is.
fn is_directory(mount: &ExtraMount) -> bool {
    match &mount.kind {
        ExtraMountKind::Tmpfs { .. } => true,
        // A missing source is reported by the runtime; a directory is as good a guess as any.
        ExtraMountKind::Bind { source, .. } => {
            std::fs::metadata(source).map_or(true, |metadata| metadata.is_dir())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::time::{Duration, SystemTime};

    fn old(path: &Path) -> SystemTime {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        std::fs::File::open(path)
            .unwrap()
            .set_modified(time)
            .unwrap();
        time
    }

    fn modified(path: &Path) -> SystemTime {
        path.metadata().unwrap().modified().unwrap()
    }

    fn entries(path: &Path) -> Vec<String> {
        let entries = path
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_untouched_root_is_as_before_time_stamps_included() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::create_dir(root.join("etc")).unwrap();
        let (etc, top) = (old(&root.join("etc")), old(root));
        let tmpfs = |target: &str| ExtraMount {
            target: target.to_owned(),
            kind: ExtraMountKind::Tmpfs {
                mode: crate::TMPFS_MODE_DEFAULT,
                has_programs: true,
                size_bytes: None,
                read_only: false,
            },
        };
        let stubs = MountStubs::create(root, &[tmpfs("/var/cache/deep"), tmpfs("/dev/x")]).unwrap();
        assert_eq!(entries(root), ["dev", "etc", "proc", "sys", "var"]);
        assert_eq!(entries(&root.join("etc")), ["hosts", "resolv.conf"]);
        assert!(
            entries(&root.join("dev")).is_empty(),
            "what is below /dev belongs to its tmpfs"
        );
        stubs.remove();
        assert_eq!(entries(root), ["etc"]);
        assert!(entries(&root.join("etc")).is_empty());
        assert_eq!((modified(&root.join("etc")), modified(root)), (etc, top));
    }

    #[test]
    fn what_the_step_made_stays_with_its_time_stamp() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let stubs = MountStubs::create(root, &[]).unwrap();
        std::fs::write(root.join("etc/passwd"), "x").unwrap();
        std::fs::write(root.join("etc/hosts"), "filled by the step").unwrap();
        let touched = modified(&root.join("etc"));
        stubs.remove();
        assert_eq!(entries(root), ["etc"]);
        assert_eq!(entries(&root.join("etc")), ["hosts", "passwd"]);
        assert_eq!(modified(&root.join("etc")), touched);
    }

    #[test]
    fn what_the_image_has_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::create_dir_all(root.join("proc")).unwrap();
        std::fs::write(root.join("etc/hosts"), "").unwrap();
        MountStubs::create(root, &[]).unwrap().remove();
        assert_eq!(entries(root), ["etc", "proc"]);
        assert_eq!(entries(&root.join("etc")), ["hosts"]);
    }

    #[test]
    fn a_dangling_link_gets_its_target_inside_the_root_for_the_time_of_the_run() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::create_dir_all(root.join("etc")).unwrap();
        symlink("../run/systemd/stub.conf", root.join("etc/resolv.conf")).unwrap();
        let stubs = MountStubs::create(root, &[]).unwrap();
        assert!(root.join("run/systemd/stub.conf").is_file());
        stubs.remove();
        assert_eq!(entries(root), ["etc"]);
        assert_eq!(entries(&root.join("etc")), ["resolv.conf"]);
    }
}
