//! Images that are mounted for a person, until they are unmounted.
//!
//! A mount is a view: an open snapshot above that of the image, so no collection takes away what it
//! shows, whatever becomes of the image's names. Its labels say where it is. The kernel's mount
//! needs nothing of the process that made it: an overlay keeps its lower directories by itself.
//!
//! A view whose mount is gone (the machine was started again, somebody called umount(8)) is stale
//! and dropped when mounts are next looked at. Of a mount that was made in another mount namespace
//! nothing can be told from here, so it is believed until the next boot.

use std::fs;
use std::path::{Path, PathBuf};

use mount::Namespace;
use snapshotter::{Kind, Labels, Snapshots, catalog};

use super::{Image, Images};
use crate::content::Digest;
use crate::error::{Error, Result};

/// Label of a view: the absolute path of the directory on which it is mounted.
pub const DIRECTORY: &str = "varve/mount.directory";
/// Label: the name by which the image was asked for.
const NAME: &str = "varve/mount.name";
/// Label: the id of the image.
const ID: &str = "varve/mount.id";
/// Label: since when the machine runs, and the mount namespace.
const WHERE: &str = "varve/mount.namespace";

/// Keys of these views.
const PREFIX: &str = "mount/";

/// Directories of images that are mounted nowhere in particular, below the root.
const DIRECTORIES: &str = "mounted";

/// A mounted image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Key of its view.
    key: String,
    /// The name by which it was asked for, or its id.
    pub name: String,
    /// The id of the image.
    pub id: String,
    /// Where.
    pub directory: PathBuf,
}

impl Images {
    /// What is mounted, as `place` sees it. Views whose mounts are gone are dropped.
    ///
    /// # Errors
    /// Database errors; the mount table cannot be read.
    pub fn mounted(&self, place: &Namespace) -> Result<Vec<Mounted>> {
        let _mounting = self.snapshots.mounting();
        self.all_mounted(place)
    }

    /// The same for who keeps others from mounting.
    fn all_mounted(&self, place: &Namespace) -> Result<Vec<Mounted>> {
        let mut views = Vec::new();
        for row in catalog::all(self.store()) {
            let info = row?.info;
            if info.kind == Kind::View && info.key.starts_with(PREFIX) {
                views.push(info);
            }
        }
        if views.is_empty() {
            return Ok(Vec::new());
        }
        let views = place.within(|| {
            let looked_at = views.into_iter().map(|info| {
                let label = |name: &str| info.labels.get(name).cloned().unwrap_or_default();
                let directory = PathBuf::from(label(DIRECTORY));
                let is_gone = is_stale(&label(WHERE), &directory)?;
                let mounted = Mounted {
                    name: label(NAME),
                    id: label(ID),
                    directory,
                    key: info.key,
                };
                Ok((mounted, is_gone))
            });
            looked_at.collect::<Result<Vec<_>>>()
        })??;
        let mut found = Vec::new();
        for (mounted, is_gone) in views {
            match is_gone {
                true => {
                    tracing::info!(directory = %mounted.directory.display(), "a mount is gone");
                    self.forget_mount(&mounted, place)?;
                }
                false => found.push(mounted),
            }
        }
        Ok(found)
    }

    /// Mounts an image read-only in `place`, on a directory that is there, or on one of its own;
    /// tells where. Programs of the image get no privileges there, and its devices are none.
    ///
    /// # Errors
    /// [`Error::FileOp`] for what is no directory or has this image or another one already; those
    /// of unpacking and mounting. Nothing is left then.
    pub fn mount(
        &self,
        name: &str,
        image: &Image,
        directory: Option<&Path>,
        place: &Namespace,
    ) -> Result<PathBuf> {
        let id = image.manifest.config.digest;
        let mounted = self.mounted(place)?;
        if directory.is_none()
            && let Some(there) = mounted.iter().find(|one| one.id == id.to_string())
        {
            return Ok(there.directory.clone());
        }
        let value = self.unpack(name, image)?;
        let (directory, is_own) = match directory {
            Some(directory) => (place.within(|| checked(directory))??, false),
            None => (self.own_directory(id)?, true),
        };
        let _mounting = self.snapshots.mounting();
        let mounted = self.all_mounted(place)?;
        if let Some(other) = mounted.iter().find(|one| one.directory == directory) {
            tracing::debug!(other = other.name, "mounted there");
            let reason = "an image is mounted there already; `varve umount` it first";
            return Err(refused(&directory, reason));
        }
        let key = key(&directory);
        let path = directory.to_str().ok_or_else(|| {
            let reason = "its path is not UTF-8, which a mount of an image must have";
            refused(&directory, reason)
        })?;
        let labels = Labels::from([
            (DIRECTORY.to_owned(), path.to_owned()),
            (NAME.to_owned(), name.to_owned()),
            (ID.to_owned(), id.to_string()),
            (WHERE.to_owned(), place.within(here)??),
        ]);
        let made = self.snapshots.view(&key, value.name(), labels);
        let made = made.map_err(Error::from).and_then(|mut mounts| {
            for mount in &mut mounts {
                mount.options.extend(["nosuid".into(), "nodev".into()]);
            }
            let finished = mount::detached(&mounts, self.store().root());
            let put = finished.and_then(|mount| {
                let attach = || mount::attach(&mount, &directory);
                place.within(attach)?
            });
            Ok(put.inspect_err(|_| {
                self.snapshots.remove(&key).ok();
            })?)
        });
        if made.is_err() && is_own {
            fs::remove_dir(&directory).ok();
        }
        made?;
        Ok(directory)
    }

    /// Unmounts in `place`. One that is in use is only taken out of sight if `force`.
    ///
    /// # Errors
    /// [`Error::Mount`], EBUSY for one in use; nothing has changed then.
    pub fn unmount(&self, mounted: &Mounted, force: bool, place: &Namespace) -> Result<()> {
        let _mounting = self.snapshots.mounting();
        place.within(|| -> Result<()> {
            match (is_mounted(&mounted.directory)?, force) {
                (false, _) => {}
                (true, false) => mount::unmount(&mounted.directory)?,
                (true, true) => mount::unmount_detached(&mounted.directory)?,
            }
            Ok(())
        })??;
        self.forget_mount(mounted, place)
    }

    fn forget_mount(&self, mounted: &Mounted, place: &Namespace) -> Result<()> {
        match self.snapshots.remove(&mounted.key) {
            // Somebody else has found that it is gone.
            Err(snapshotter::Error::NotFound { .. }) => {}
            removed => removed?,
        }
        if mounted.directory.parent() == Some(&self.own_directories()) {
            // An empty directory more or less. This process may have begun with the mount on it.
            let removed = place.within(|| fs::remove_dir(&mounted.directory))?;
            removed.ok();
        }
        Ok(())
    }

    fn own_directories(&self) -> PathBuf {
        let root = self.store().root();
        let root = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        root.join(DIRECTORIES)
    }

    fn own_directory(&self, id: Digest) -> Result<PathBuf> {
        let id = id.to_string();
        let id = id.split_once(':').map_or(&*id, |(_, hex)| hex);
        let directory = self.own_directories().join(id);
        fs::create_dir_all(&directory).map_err(|e| Error::io("create", &directory, e))?;
        Ok(directory)
    }
}

fn refused(path: &Path, reason: &'static str) -> Error {
    let path = path.display().to_string();
    Error::FileOp { path, reason }
}

/// The directory, without symbolic links.
fn checked(directory: &Path) -> Result<PathBuf> {
    let found = fs::canonicalize(directory).map_err(|e| Error::io("mount on", directory, e))?;
    match found.is_dir() {
        true => Ok(found),
        false => Err(refused(directory, "it is not a directory")),
    }
}

fn key(directory: &Path) -> String {
    let digest = Digest::of(directory.as_os_str().as_encoded_bytes());
    format!("{PREFIX}{digest}")
}

/// The boot and the mount namespace, `boot namespace`.
fn here() -> Result<String> {
    let boot = Path::new("/proc/sys/kernel/random/boot_id");
    let namespace = Path::new("/proc/thread-self/ns/mnt");
    let id = fs::read_to_string(boot).map_err(|e| Error::io("read", boot, e))?;
    let namespace = fs::read_link(namespace).map_err(|e| Error::io("read", namespace, e))?;
    Ok(format!("{} {}", id.trim(), namespace.display()))
}

fn is_stale(place: &str, directory: &Path) -> Result<bool> {
    let here = here()?;
    let boot = |place: &str| place.split(' ').next().map(str::to_owned);
    if boot(place) != boot(&here) {
        return Ok(true);
    }
    Ok(place == here && !is_mounted(directory)?)
}

fn is_mounted(directory: &Path) -> Result<bool> {
    let mounts = mount::mounts_below(directory)?;
    Ok(mounts.iter().any(|mount| mount.target == directory))
}
