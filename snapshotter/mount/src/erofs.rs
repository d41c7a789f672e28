//! EROFS images: straight from the file (Linux 6.12), else over a loop device.

use std::path::Path;

use rustix::mount::MountFlags;

use crate::context::{Context, PathKind};
use crate::error::Error;
use crate::guard::MountGuard;
use crate::loop_device::LoopDevice;

/// How the kernel gets at an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErofsBacking {
    /// The file is the source of the mount.
    File,
    /// A loop device over the file is.
    LoopDevice,
}

/// Mounts the image file `image` at the directory `target`, from the file if this kernel can, else
/// over a loop device.
///
/// # Errors
/// The image cannot be read or is damaged, the kernel has no EROFS, no privilege.
pub fn mount_erofs(image: &Path, target: &Path) -> Result<MountGuard, Error> {
    match mount_erofs_with(image, target, ErofsBacking::File) {
        // "Block device required": this kernel has no file-backed EROFS.
        Err(error) if error.raw_os_error() == Some(libc::ENOTBLK) => {
            mount_erofs_with(image, target, ErofsBacking::LoopDevice)
        }
        result => result,
    }
}

/// Mounts the image file `image` at the directory `target` in the given way.
///
/// # Errors
/// As [`mount_erofs`]; ENOTBLK if the kernel cannot mount from a file.
pub fn mount_erofs_with(
    image: &Path,
    target: &Path,
    backing: ErofsBacking,
) -> Result<MountGuard, Error> {
    mount_with(image, target, backing, MountFlags::RDONLY, &[])?;
    Ok(MountGuard::new(target.into()))
}

/// Mounts without a guard, with further flags and options.
pub(crate) fn mount_with(
    image: &Path,
    target: &Path,
    backing: ErofsBacking,
    flags: MountFlags,
    options: &[String],
) -> Result<(), Error> {
    let mut context = Context::new("erofs", target)?;
    for option in options {
        context.option(option)?;
    }
    match backing {
        ErofsBacking::File => {
            context.path("source", image, PathKind::File)?;
            context.mount(flags)
        }
        ErofsBacking::LoopDevice => {
            let device = LoopDevice::attach(image)?;
            context.path("source", &device.path, PathKind::File)?;
            context.mount(flags)
        }
    }
}
