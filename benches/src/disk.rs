//! A file system of its own for a bench or one measured state: an ext4 in a sparse file.
//!
//! On a common one, what was removed a minute ago makes new files slow (ext4 without a journal
//! passes over inodes that were freed lately, one by one), whoever has removed it. And the state
//! goes as one file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Bytes that fit; they take no room before they are written.
const SIZE: u64 = 24 << 30;

/// A mounted file system. It goes with the value.
#[derive(Debug)]
pub struct Disk {
    directory: PathBuf,
    image: PathBuf,
}

impl Disk {
    /// Mounts an empty one at the new directory; its file lies beside it.
    ///
    /// # Errors
    /// Where mkfs, losetup or mount fail.
    pub fn mount(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        let disk = Self {
            directory: directory.to_owned(),
            image: directory.with_extension("ext4"),
        };
        let file = File::create(&disk.image)?;
        file.set_len(SIZE)
            .with_context(|| format!("make {}", disk.image.display()))?;
        let mut mkfs = Command::new("mkfs.ext4");
        said(mkfs.args(["-q", "-F", "-E", "nodiscard"]).arg(&disk.image))?;
        // Or everything would be in memory twice, and once after the caches were dropped.
        let mut losetup = Command::new("losetup");
        losetup.args(["--find", "--show", "--direct-io=on"]);
        let device = said(losetup.arg(&disk.image))?;
        let mut mount = Command::new("mount");
        // The kernel would fill tables in the background, in somebody's time.
        mount.args(["-o", "noinit_itable", device.trim()]);
        let mounted = said(mount.arg(directory));
        // The device goes with the mount, and so with our mount namespace.
        said(Command::new("losetup").args(["--detach", device.trim()]))?;
        mounted?;
        Ok(disk)
    }
}

/// Where a bench works below the directory of its run: on a file system that goes with the first
/// value, or, where all is kept to be looked at, in the directory itself.
///
/// # Errors
/// As [`Disk::mount`].
pub fn workplace(home: &Path, is_kept: bool) -> Result<(Option<Disk>, PathBuf)> {
    if is_kept {
        return Ok((None, home.to_owned()));
    }
    let directory = home.join("disk");
    Ok((Some(Disk::mount(&directory)?), directory))
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What cannot be unmounted or removed here goes with the confinement.
        let mut umount = Command::new("umount");
        umount.args(["--recursive", "--lazy"]).arg(&self.directory);
        umount.output().ok();
        fs::remove_file(&self.image).ok();
    }
}

/// What a command prints, if it ends well.
pub(crate) fn said(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8(output.stdout)?)
}
