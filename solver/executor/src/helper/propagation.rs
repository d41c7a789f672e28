//! How mounts of the host come into bind mounts of a container.
//!
//! libcontainer makes a bind mount like its source, whatever the configuration says of propagation.
//! So the sources become what is wanted first, in a mount namespace of the helper's own.

use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountPropagationFlags, mount_bind_recursive, mount_change};
use serde_json::Value;

/// Prepares the sources that a container's configuration says something of.
///
/// # Errors
/// Those of mounting; of a configuration that is none.
pub(super) fn prepare(config: &Path) -> io::Result<()> {
    let config: Value = serde_json::from_slice(&std::fs::read(config)?)?;
    let wanted = wanted(&config);
    if wanted.is_empty() {
        return Ok(());
    }
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    let recursive = MountPropagationFlags::REC;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | recursive)?;
    for (source, propagation) in wanted {
        // Nothing can be mounted over the root so that it is seen.
        if source != Path::new("/") {
            mount_bind_recursive(&source, &source)?;
        }
        mount_change(&source, propagation | recursive)?;
    }
    Ok(())
}

fn wanted(config: &Value) -> Vec<(PathBuf, MountPropagationFlags)> {
    let mounts = config["mounts"].as_array().into_iter().flatten();
    let one = |mount: &Value| {
        let has = |name: &str| {
            let mut options = mount["options"].as_array().into_iter().flatten();
            options.any(|option| option == name)
        };
        let propagation = if has("rslave") {
            MountPropagationFlags::DOWNSTREAM
        } else if has("rprivate") {
            MountPropagationFlags::PRIVATE
        } else {
            return None;
        };
        Some((PathBuf::from(mount["source"].as_str()?), propagation))
    };
    mounts.filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_that_say_so_are_prepared() {
        let config = serde_json::json!({ "mounts": [
            { "source": "/a", "options": ["rbind", "rslave"] },
            { "source": "/b", "options": ["rbind"] },
            { "source": "/c", "options": ["rbind", "ro", "rprivate"] },
            { "source": "tmpfs" },
        ]});
        let expected = [
            ("/a".into(), MountPropagationFlags::DOWNSTREAM),
            ("/c".into(), MountPropagationFlags::PRIVATE),
        ];
        assert_eq!(wanted(&config), expected);
        assert!(wanted(&Value::Null).is_empty());
    }
}
