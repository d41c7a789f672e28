//! The program of the helper process, in a form that nobody can change.
//!
//! A step may be made to execute `/proc/self/exe` while that still is our own program, and then
//! open it for writing through /proc (CVE-2019-5736). Containers run as the host's root, so the
//! write would succeed. So the helper is executed from a place that cannot be written: a
//! read-only overlay mount that is attached nowhere, which costs nothing, or else a sealed copy in
//! memory.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// Directories of every system, of which one is the overlay's second layer; nothing in them is
/// used.
const SECOND_LOWERS: [&str; 2] = ["/etc", "/dev"];

/// A program that cannot be written to.
#[derive(Debug)]
pub(crate) struct SealedProgram {
    fd: OwnedFd,
}

impl SealedProgram {
    /// Seals `program`, by an overlay where the kernel and our rights allow it.
    pub(crate) fn new(program: &Path) -> io::Result<Self> {
        match Self::overlaid(program) {
            Ok(sealed) => Ok(sealed),
            Err(error) => {
                tracing::debug!("no overlay over {}: {error}; copying it", program.display());
                Self::copied(program)
            }
        }
    }

    /// Opens `program` through a read-only overlay mount of its directory.
    fn overlaid(program: &Path) -> io::Result<Self> {
        let path = std::fs::canonicalize(program)?;
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::INVAL.into());
        };
        // The name may stand for another file by now, after an upgrade of the package.
        let (named, wanted) = (std::fs::metadata(&path)?, std::fs::metadata(program)?);
        let same = (named.dev(), named.ino()) == (wanted.dev(), wanted.ino());
        let text = directory
            .to_str()
            .filter(|text| !text.contains([':', ',', '\\']));
        let Some(directory) = text.filter(|_| same) else {
            return Err(Errno::INVAL.into());
        };
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        // Without an upper directory overlayfs wants two lower ones, neither inside the other.
        let apart =
            |other: &&str| !path.starts_with(other) && !Path::new(other).starts_with(directory);
        let second = SECOND_LOWERS
            .iter()
            .find(|other| apart(other))
            .ok_or(Errno::INVAL)?;
        let lower = format!("{directory}:{second}");
        rustix::mount::fsconfig_set_string(&context, "lowerdir", lower)?;
        rustix::mount::fsconfig_create(&context)?;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
        let mount = rustix::mount::fsmount(&context, flags, attributes)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&mount, name, flags, Mode::empty())?;
        // Mounts are not seen through an overlay, and the program itself may be one
        // (`docker run -v varve:/usr/bin/varve`).
        let sealed = rustix::fs::fstat(&fd)?;
        let is_it = sealed.st_ino == wanted.ino() && sealed.st_size.cast_unsigned() == wanted.len();
        is_it.then_some(Self { fd }).ok_or(Errno::XDEV.into())
    }

    /// Copies `program` into sealed memory.
    fn copied(program: &Path) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = match rustix::fs::memfd_create("varve", flags | MemfdFlags::EXEC) {
            // Kernels before 6.3 do not know the flag; there every memory file is executable.
            Err(Errno::INVAL) => rustix::fs::memfd_create("varve", flags)?,
            result => result?,
        };
        io::copy(&mut File::open(program)?, &mut File::from(fd.try_clone()?))?;
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        rustix::fs::fcntl_add_seals(&fd, seals)?;
        Ok(Self { fd })
    }

    /// A path that a child of this process can execute while `self` lives.
    pub(crate) fn path(&self) -> PathBuf {
        // The descriptor closes itself when the execution succeeds, not before.
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sealed: &SealedProgram, refusal: io::ErrorKind) {
        assert!(
            std::process::Command::new(sealed.path())
                .status()
                .unwrap()
                .success()
        );
        let opened = std::fs::OpenOptions::new().write(true).open(sealed.path());
        let written = opened.and_then(|mut file| io::Write::write_all(&mut file, b"x"));
        assert_eq!(written.unwrap_err().kind(), refusal);
    }

    #[test]
    fn a_copied_program_runs_and_cannot_be_written() {
        let sealed = SealedProgram::copied(Path::new("/bin/true")).unwrap();
        check(&sealed, io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn whatever_way_is_chosen_the_program_runs_and_cannot_be_written() {
        let sealed = SealedProgram::new(Path::new("/bin/true")).unwrap();
        match SealedProgram::overlaid(Path::new("/bin/true")) {
            Ok(_) => check(&sealed, io::ErrorKind::ReadOnlyFilesystem),
            Err(_) => check(&sealed, io::ErrorKind::PermissionDenied),
        }
    }

    #[test]
    fn a_deleted_program_is_copied() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("true");
        std::fs::copy("/bin/true", &path).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let deleted = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        check(
            &SealedProgram::new(&deleted).unwrap(),
            io::ErrorKind::PermissionDenied,
        );
    }
}
