//! Paths inside a root file system that is not ours: every look-up stays below the root.
//!
//! Symbolic links of the image are followed, but relative to the image's own root, as its
//! processes would see them (`openat2(2)` with `RESOLVE_IN_ROOT`). What must be created is created
//! below a directory that was opened without following any link.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timestamps, Uid};
use rustix::io::Errno;

/// Symbolic links followed in one look-up; the kernel's own limit (path_resolution(7)).
const SYMLINKS_MAX: usize = 40;

/// Length of a path in bytes after links are resolved; the kernel's `PATH_MAX`.
const PATH_BYTES_MAX: usize = 4096;

/// An opened root directory.
#[derive(Debug)]
pub(crate) struct RootDir {
    fd: OwnedFd,
}

impl RootDir {
    /// Opens `path`, which must be a directory of the host.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            fd: rustix::fs::open(path, flags, Mode::empty())?,
        })
    }

    /// The path without links, relative to the root ("" for the root itself). Components that do
    /// not exist are kept as they are written, so the result says where they would be created.
    pub(crate) fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let mut resolved = PathBuf::new();
        let mut todo = components_reversed(path);
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == ".." {
                resolved.pop();
                continue;
            }
            let next = resolved.join(&part);
            if next.as_os_str().len() > PATH_BYTES_MAX {
                return Err(Errno::NAMETOOLONG.into());
            }
            match self.read_link(&next)? {
                None => resolved = next,
                Some(target) => {
                    links += 1;
                    if links > SYMLINKS_MAX {
                        return Err(Errno::LOOP.into());
                    }
                    if target.is_absolute() {
                        resolved.clear();
                    }
                    todo.extend(components_reversed(&target));
                }
            }
        }
        Ok(resolved)
    }

    /// The target of a link whose parent is already free of links; `None` for everything else.
    fn read_link(&self, relative: &Path) -> io::Result<Option<PathBuf>> {
        let fd = match self.open_exact(relative, OFlags::PATH) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
        if kind != FileType::Symlink {
            return Ok(None);
        }
        let target = rustix::fs::readlinkat(&fd, c"", Vec::new())?;
        Ok(Some(PathBuf::from(OsString::from_vec(target.into_bytes()))))
    }

    /// Opens a resolved path; a link anywhere in it is an error, at its end it is opened itself.
    fn open_exact(&self, relative: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let relative = if relative.as_os_str().is_empty() {
            Path::new(".")
        } else {
            relative
        };
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.fd, relative, flags, Mode::empty(), resolve)
    }

    /// The whole content of a regular file, links followed inside the root.
    ///
    /// # Errors
    /// Beside those of the system: `InvalidData` for a file of another type or above
    /// `bytes_max`, `NotFound` when it does not exist.
    pub(crate) fn read_file(&self, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
        let relative = self.resolve(path)?;
        // NONBLOCK: a FIFO at this place must not stop us before its type is known.
        let fd = self.open_exact(
            &relative,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
        )?;
        let file = File::from(fd);
        if !file.metadata()?.is_file() {
            let text = format!("{} is not a regular file", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let mut content = Vec::new();
        file.take(bytes_max + 1).read_to_end(&mut content)?;
        if content.len() as u64 > bytes_max {
            let text = format!("{:?} exceeds {bytes_max} bytes", path.display().to_string());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(content)
    }

    /// What is at a resolved path, or `None`.
    pub(crate) fn stat(&self, relative: &Path) -> io::Result<Option<rustix::fs::Stat>> {
        match self.open_exact(relative, OFlags::PATH) {
            Ok(fd) => Ok(Some(rustix::fs::fstat(&fd)?)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates one directory at a resolved path whose parent exists.
    pub(crate) fn make_directory(&self, relative: &Path, mode: u32) -> io::Result<()> {
        let (parent, name) = self.open_parent(relative)?;
        rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(mode))?;
        // mkdir(2) applies the umask of this process, which an image must not see.
        rustix::fs::chmodat(&parent, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
        Ok(())
    }

    /// Creates an empty file at a resolved path whose parent exists.
    pub(crate) fn make_file(&self, relative: &Path, mode: u32) -> io::Result<()> {
        let (parent, name) = self.open_parent(relative)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(mode))?;
        rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))?;
        Ok(())
    }

    /// Gives a resolved path an owner, unless it already has it (then no privilege is needed).
    pub(crate) fn change_owner(&self, relative: &Path, uid: u32, gid: u32) -> io::Result<()> {
        let (parent, name) = self.open_parent(relative)?;
        let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if stat.st_uid == uid && stat.st_gid == gid {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(
            &parent,
            name,
            Some(uid),
            Some(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        Ok(())
    }

    /// Removes an empty file or an empty directory at a resolved path.
    pub(crate) fn remove(&self, relative: &Path, directory: bool) -> io::Result<()> {
        let (parent, name) = self.open_parent(relative)?;
        let flags = if directory {
            AtFlags::REMOVEDIR
        } else {
            AtFlags::empty()
        };
        Ok(rustix::fs::unlinkat(&parent, name, flags)?)
    }

    /// Sets access and modification time of a resolved directory.
    pub(crate) fn set_times(&self, relative: &Path, times: &Timestamps) -> io::Result<()> {
        let fd = self.open_exact(relative, OFlags::RDONLY | OFlags::DIRECTORY)?;
        Ok(rustix::fs::futimens(&fd, times)?)
    }

    fn open_parent<'a>(&self, relative: &'a Path) -> io::Result<(OwnedFd, &'a std::ffi::OsStr)> {
        let name = relative.file_name().ok_or(Errno::INVAL)?;
        let parent = relative.parent().unwrap_or(Path::new(""));
        Ok((
            self.open_exact(parent, OFlags::PATH | OFlags::DIRECTORY)?,
            name,
        ))
    }
}

/// Access and modification time out of a `stat`.
pub(crate) fn times_of(stat: &rustix::fs::Stat) -> Timestamps {
    let time = |seconds, nanoseconds| rustix::fs::Timespec {
        tv_sec: seconds,
        // The type differs between architectures; the value is below 10^9.
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// The parts of a path, last first: `.` and the leading `/` left out, `..` kept.
fn components_reversed(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, RootDir) {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::open(directory.path()).unwrap();
        (directory, root)
    }

    #[test]
    fn links_are_followed_inside_the_root_only() {
        let (directory, root) = root();
        let path = directory.path();
        std::fs::create_dir_all(path.join("etc")).unwrap();
        symlink("/etc/real", path.join("etc/absolute")).unwrap();
        symlink("../../../../etc/real", path.join("etc/climbing")).unwrap();
        symlink("/run", path.join("dangling")).unwrap();
        std::fs::write(path.join("etc/real"), "inside").unwrap();
        for (given, expected) in [
            ("/etc/absolute", "etc/real"),
            ("/etc/climbing", "etc/real"),
            ("/../../etc/./real", "etc/real"),
            ("/dangling/a/b", "run/a/b"),
            ("/missing/../etc", "etc"),
            ("/", ""),
        ] {
            let resolved = root.resolve(Path::new(given)).unwrap();
            assert_eq!(resolved, Path::new(expected), "{given}");
        }
        assert_eq!(
            root.read_file(Path::new("/etc/climbing"), 100).unwrap(),
            b"inside"
        );
    }

    #[test]
    fn a_circle_of_links_is_an_error() {
        let (directory, root) = root();
        symlink("b", directory.path().join("a")).unwrap();
        symlink("a", directory.path().join("b")).unwrap();
        assert_eq!(
            root.resolve(Path::new("/a")).unwrap_err().raw_os_error(),
            Some(40)
        );
    }

    #[test]
    fn only_regular_files_below_the_limit_are_read() {
        let (directory, root) = root();
        std::fs::write(directory.path().join("big"), "12345").unwrap();
        std::fs::create_dir(directory.path().join("directory")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            directory.path().join("fifo"),
            FileType::Fifo,
            Mode::RWXU,
            0,
        )
        .unwrap();
        assert_eq!(root.read_file(Path::new("/big"), 5).unwrap(), b"12345");
        for (path, text) in [
            ("/big", "exceeds 4 bytes"),
            ("/directory", "not a regular file"),
            ("/fifo", "not a regular file"),
        ] {
            let error = root.read_file(Path::new(path), 4).unwrap_err().to_string();
            assert!(error.contains(text), "{path}: {error}");
        }
        let missing = root.read_file(Path::new("/none"), 4).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
