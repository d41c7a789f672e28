//! Files that nobody finds under their name before they are complete.
//!
//! Until then a file has no name at all, where the file system can do that: whatever becomes of the
//! process, nothing is left of it. Elsewhere it lies beside its place, locked by whoever writes it,
//! and one that nobody writes any more is removed when something is next written there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, FlockOperation, OFlags, flock, linkat};

/// Between the name of the file and the number of the process that writes it.
const MARK: &str = ".varve-";

/// Longest name of a file, less the place of what is put around it.
const NAME_BYTES_MAX: usize = 200;

/// What cannot be locked is somebody's who writes it now if it is younger.
const YOUNG: Duration = Duration::from_secs(60);

/// A file that is being written. Gone when it is dropped before [`Beside::place`].
#[derive(Debug)]
pub(super) struct Beside {
    pub(super) file: File,
    /// Its name for now, if it has one.
    name: Option<PathBuf>,
}

impl Beside {
    /// An empty file on the file system of the target's directory.
    ///
    /// # Errors
    /// There is no such directory; it cannot be written to.
    pub(super) fn create(target: &Path) -> io::Result<Self> {
        let directory = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let unnamed = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlags::TMPFILE.bits().cast_signed())
            .open(directory);
        match unnamed {
            Ok(file) => Ok(Beside { file, name: None }),
            // Of a file system without such files, or a kernel.
            Err(_) => Beside::named(temporary_name(target)),
        }
    }

    fn named(name: PathBuf) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).open(&name)?;
        let beside = Beside {
            file,
            name: Some(name),
        };
        let locked = flock(&beside.file, FlockOperation::NonBlockingLockExclusive);
        if let Err(error) = locked {
            // Then its process tells whose it is.
            tracing::debug!(%error, "a file that is being written is not locked");
        }
        Ok(beside)
    }

    /// A path that leads to it. It is a symbolic link, to be followed.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// Gives it its name, in place of whatever has it now but a directory.
    ///
    /// # Errors
    /// The name is a directory's; the directory cannot be written to.
    pub(super) fn place(mut self, target: &Path) -> io::Result<()> {
        if self.name.is_none() {
            match self.link(target) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let name = temporary_name(target);
                    self.link(&name)?;
                    self.name = Some(name);
                }
                linked => return linked,
            }
        }
        if let Some(name) = &self.name {
            fs::rename(name, target)?;
            self.name = None;
        }
        Ok(())
    }

    fn link(&self, name: &Path) -> io::Result<()> {
        let flags = AtFlags::SYMLINK_FOLLOW;
        Ok(linkat(CWD, self.path(), CWD, name, flags)?)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(name) = &self.name
            && let Err(error) = fs::remove_file(name)
        {
            tracing::debug!(%error, name = %name.display(), "cannot remove a file");
        }
    }
}

/// Writes a file that is there as a whole or as it was. A device or pipe is written to.
///
/// # Errors
/// There is no such directory; it cannot be written to.
pub fn write_whole(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let is_special = fs::metadata(target).is_ok_and(|found| !found.is_file() && !found.is_dir());
    if is_special {
        return OpenOptions::new()
            .write(true)
            .open(target)?
            .write_all(bytes);
    }
    remove_stale(target);
    let mut beside = Beside::create(target)?;
    beside.file.write_all(bytes)?;
    beside.place(target)
}

/// A name beside the target that nothing else has.
pub(super) fn temporary_name(target: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = beginning(target);
    target.with_file_name(format!("{name}{}-{number}", std::process::id()))
}

/// What the temporary names of a target begin with.
fn beginning(target: &Path) -> String {
    let name = target.file_name().unwrap_or_default().as_bytes();
    let name = String::from_utf8_lossy(&name[..name.len().min(NAME_BYTES_MAX)]).into_owned();
    format!(".{name}{MARK}")
}

/// Removes what processes that are gone have left beside a target.
pub(super) fn remove_stale(target: &Path) {
    let beginning = beginning(target);
    if let Some(directory) = target.parent() {
        remove(directory, |name| name.starts_with(&beginning));
    }
}

/// Removes what processes that are gone have left in a directory.
pub(super) fn remove_stale_in(directory: &Path) {
    remove(directory, |_| true);
}

/// What cannot be removed stays: it is in nobody's way.
fn remove(directory: &Path, is_meant: impl Fn(&str) -> bool) {
    let directory = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => directory,
    };
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(process) = name.to_str().filter(|name| is_meant(name)).and_then(writer) else {
            continue;
        };
        let path = entry.path();
        match is_left(&path, process) {
            Ok(true) => {
                if let Err(error) = fs::remove_file(&path) {
                    tracing::debug!(%error, path = %path.display(), "cannot remove a file");
                }
            }
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(%error, path = %path.display(), "cannot tell whose it is")
            }
        }
    }
}

/// The process that a temporary name is of.
fn writer(name: &str) -> Option<u32> {
    let (name, numbers) = name.strip_prefix('.')?.rsplit_once(MARK)?;
    let process = match numbers.split_once('-') {
        Some((process, number)) => {
            number.parse::<u64>().ok()?;
            process
        }
        None => numbers,
    };
    process.parse().ok().filter(|_| !name.is_empty())
}

/// Whether nobody writes it any more.
fn is_left(path: &Path, process: u32) -> io::Result<bool> {
    if Path::new("/proc").join(process.to_string()).exists() {
        return Ok(false);
    }
    let found = fs::symlink_metadata(path)?;
    let kind = found.file_type();
    if kind.is_file() {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)?;
        // The process may be one of another container.
        return Ok(flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok());
    }
    let is_made_here =
        kind.is_symlink() || kind.is_fifo() || kind.is_char_device() || kind.is_block_device();
    let changed =
        SystemTime::UNIX_EPOCH + Duration::from_secs(found.ctime().try_into().unwrap_or(0));
    let is_old = changed.elapsed().is_ok_and(|age| age > YOUNG);
    Ok(is_made_here && is_old)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Of no process: the kernel's numbers are smaller.
    const NOBODY: u32 = 1 << 30;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn check(make: impl Fn(&Path) -> Beside) {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("file");
        for text in ["new", "instead of another"] {
            let mut beside = make(&target);
            beside.file.write_all(text.as_bytes()).unwrap();
            assert_ne!(fs::read_to_string(&target).ok().as_deref(), Some(text));
            beside.place(&target).unwrap();
            assert_eq!(fs::read_to_string(&target).unwrap(), text);
        }
        drop(make(&target));
        assert_eq!(names(directory.path()), ["file"]);
        let error = make(&target).place(directory.path()).unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::NotFound, "{error}");
        assert_eq!(names(directory.path()), ["file"]);
    }

    #[test]
    fn a_file_is_there_as_a_whole_or_as_it_was() {
        check(|target| Beside::create(target).unwrap());
        check(|target| Beside::named(temporary_name(target)).unwrap());
    }

    #[test]
    fn only_what_nobody_writes_any_more_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let own = std::process::id();
        let stays = [
            format!(".a.varve-{own}-0"),
            format!(".a.varve-{NOBODY}-x"),
            format!(".varve-{NOBODY}"),
            ".a.varve-".to_owned(),
            format!("a.varve-{NOBODY}"),
        ];
        let goes = [format!(".a.varve-{NOBODY}"), format!(".b.varve-{NOBODY}-7")];
        for name in stays.iter().chain(&goes) {
            fs::write(at(name), "x").unwrap();
        }
        fs::create_dir(at(&format!(".d.varve-{NOBODY}"))).unwrap();
        // Of a process in another container, and a link that somebody may be about to rename.
        let written = Beside::named(at(&format!(".c.varve-{NOBODY}-1"))).unwrap();
        std::os::unix::fs::symlink("x", at(&format!(".l.varve-{NOBODY}-1"))).unwrap();
        remove_stale(&at("a"));
        assert!(!at(&goes[0]).exists() && at(&goes[1]).exists());
        remove_stale_in(directory.path());
        assert!(!at(&goes[1]).exists());
        assert_eq!(names(directory.path()).len(), stays.len() + 3);
        drop(written);
        assert_eq!(names(directory.path()).len(), stays.len() + 2);
    }

    #[test]
    fn the_longest_name_has_a_temporary_one() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("n".repeat(255));
        let beside = Beside::named(temporary_name(&target)).unwrap();
        beside.place(&target).unwrap();
        assert_eq!(names(directory.path()), ["n".repeat(255)]);
    }
}
