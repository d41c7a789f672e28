//! Mounting an overlay: layer by layer (Linux 6.8), else with one option string.

use std::ffi::CString;
use std::io;
use std::path::Path;

use rustix::mount::MountFlags;

use crate::abilities::KernelVersion;
use crate::context::{Context, PathKind};
use crate::error::Error;
use crate::guard::MountGuard;
use crate::overlay::{OverlayOptions, Plan};

/// First kernel whose documentation has `lowerdir+` and `datadir+`.
const APPENDED_LOWERS: (u32, u32) = (6, 8);
/// Longest option string of mount(2), bytes: a page less its terminating zero.
const OPTION_STRING_LENGTH_MAX: usize = 4095;

/// Mounts an overlay at the directory `target`. Paths may be of any length and contain any bytes.
///
/// # Errors
/// A broken rule (see [`OverlayOptions::check`]), a missing directory, an upper directory on a
/// file system that cannot hold one, no privilege; on kernels before 6.8 also options of more
/// than 4095 bytes.
pub fn mount_overlay(options: &OverlayOptions, target: &Path) -> Result<MountGuard, Error> {
    options.check()?;
    mount_plan(&Plan::new(options), target, MountFlags::empty())?;
    Ok(MountGuard::new(target.into()))
}

pub(crate) fn mount_plan(plan: &Plan, target: &Path, flags: MountFlags) -> Result<(), Error> {
    if KernelVersion::running().is_at_least(APPENDED_LOWERS) {
        mount_by_layers(plan, target, flags)
    } else {
        mount_by_string(plan, target, flags)
    }
}

fn mount_by_layers(plan: &Plan, target: &Path, flags: MountFlags) -> Result<(), Error> {
    let mut context = Context::new("overlay", target)?;
    context.option("source=overlay")?;
    for flag in &plan.flags {
        context.option(flag)?;
    }
    for lower in &plan.lowers {
        context.path("lowerdir+", lower, PathKind::Directory)?;
    }
    for data in &plan.data_only {
        context.path("datadir+", data, PathKind::Directory)?;
    }
    for (key, path) in [("upperdir", &plan.upper), ("workdir", &plan.work)] {
        if let Some(path) = path {
            context.path(key, path, PathKind::Directory)?;
        }
    }
    context.mount(flags)
}

fn mount_by_string(plan: &Plan, target: &Path, flags: MountFlags) -> Result<(), Error> {
    let options = plan.to_option_string()?;
    let (length, limit) = (options.len(), OPTION_STRING_LENGTH_MAX);
    if length > limit {
        return Err(Error::OptionsTooLong {
            target: target.into(),
            length,
            limit,
        });
    }
    let options = CString::new(options).map_err(|_| Error::Path {
        path: target.into(),
        reason: "an option has a zero byte",
    })?;
    rustix::mount::mount("overlay", target, "overlay", flags, options.as_c_str())
        .map_err(|errno| Error::system("mount overlay at", target, errno))
}

/// Empties a work directory, so that an overlay can be mounted with it again.
///
/// The kernel leaves a mark in the work directory of a `volatile` overlay and refuses to mount it
/// a second time, because after a crash its upper directory may be incomplete. After an orderly
/// unmount it is not. The overlay that used the directory must be gone.
///
/// # Errors
/// The directory cannot be removed or made.
pub fn renew_work_directory(work: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(work) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Error::system("empty the work directory", work, error));
        }
        _ => {}
    }
    std::fs::create_dir(work).map_err(|error| Error::system("make the work directory", work, error))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rustix::mount::MountFlags;

    use super::mount_by_string;
    use crate::error::Error;
    use crate::overlay::Plan;

    #[test]
    fn an_option_string_longer_than_a_page_is_refused_before_the_kernel_sees_it() {
        let lowers = (0..64)
            .map(|number| format!("/{number:080}").into())
            .collect();
        let plan = Plan {
            lowers,
            ..Plan::default()
        };
        let result = mount_by_string(&plan, Path::new("/nowhere"), MountFlags::empty());
        assert!(
            matches!(result, Err(Error::OptionsTooLong { length: 5256, .. })),
            "{result:?}"
        );
    }
}
