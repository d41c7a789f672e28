//! Lower directories: metadata images as files and mounted, or plain checkouts.
//!
//! `meta/<key>.erofs` is derived data: written without a flush, with the BLAKE3 of the image behind
//! it, and checked once before it is mounted, so a torn file is made again, never believed.
//! A mounted image stays mounted until no snapshot needs it: it costs nothing and the next step
//! wants it again.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mount::{IdMapping, Lower, MountGuard, OverlayOptions};
use rustix::io::Errno;
use store::{Delta, Store, TreeRef, TreeSource, diff, failpoint, space};

use crate::checkout::Form;
use crate::error::{Error, Result};
use crate::manager::Options;
use crate::marks::Marks;
use crate::{checkout, link_groups, metadata_image};

/// Directory of the image files, below the root.
const META: &str = "meta";
/// Directory of the mount points of images, below the root.
const MOUNT_POINTS: &str = "mounts";
/// Directory of plain checkouts, below the root.
const CHECKOUTS: &str = "checkouts";

/// Ends the names of checkouts without contents.
const REDIRECTED: &str = ".redirected";

/// Marks the names of what is being written; the process id follows.
const TEMPORARY: &str = "tmp-";

/// Digits of a key that name a mount point: mount options have little room (4 KiB for all lowers
/// before Linux 6.8), and 64 bits are enough for what is mounted at the same time.
const MOUNT_POINT_DIGITS: usize = 16;

/// How trees become lower directories of an overlay (DESIGN 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// EROFS metadata images with bodies in a data-only lower.
    Kernel,
    /// Plain directories, copied out: where the kernel lacks what the other needs.
    Directories,
}

/// Which lower directory is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The whole tree.
    Flat(TreeRef),
    /// What leads from the first tree to the second, for use above the first.
    Stacked(TreeRef, TreeRef),
    /// The whole tree with the contents of its files, see [`Images::shown`].
    Shown(TreeRef),
}

impl Shape {
    /// Name of the file or directory that holds it.
    pub(crate) fn key(&self) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("varve 2026-11 lower directory v1");
        match self {
            Shape::Flat(tree) => hasher.update(b"flat").update(tree.id.as_bytes()),
            Shape::Shown(tree) => hasher.update(b"shown").update(tree.id.as_bytes()),
            Shape::Stacked(below, tree) => hasher
                .update(b"stacked")
                .update(below.id.as_bytes())
                .update(tree.id.as_bytes()),
        };
        hasher.finalize().to_hex()[..32].to_owned()
    }

    fn delta(&self, trees: &dyn TreeSource) -> store::Result<Delta> {
        match self {
            Shape::Flat(tree) | Shape::Shown(tree) => diff(None, *tree, trees),
            Shape::Stacked(below, tree) => {
                let mut delta = diff(Some(*below), *tree, trees)?;
                link_groups::complete(&mut delta, *below, *tree, trees)?;
                Ok(delta)
            }
        }
    }
}

/// As [`Shape::key`], for the whole tree with owners that are mapped.
pub(crate) fn mapped_key(tree: TreeRef, mapping: &IdMapping) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("varve 2026-11 id-mapped lower v1");
    hasher.update(tree.id.as_bytes());
    for ranges in [&mapping.users, &mapping.groups] {
        hasher.update(ranges.to_string().as_bytes()).update(b"\0");
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// Whether a kernel that knows no id-mapped mounts, or not of this file system, says so.
fn is_refusal(errno: i32) -> bool {
    let refusals = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP];
    refusals
        .iter()
        .any(|refusal| refusal.raw_os_error() == errno)
}

/// A lower directory, or the lack of one; locked while it is being made.
type Slot = Arc<Mutex<Option<Ready>>>;

/// Makes, checks, mounts and remembers lower directories.
#[derive(Debug)]
pub(crate) struct Images {
    store: Arc<Store>,
    method: Method,
    marks: Marks,
    redirects: bool,
    slots: Mutex<HashMap<String, Slot>>,
}

/// A lower directory that is ready, with what keeps it so.
#[derive(Debug)]
struct Ready {
    directory: PathBuf,
    _guard: Option<MountGuard>,
}

impl Images {
    pub(crate) fn new(store: Arc<Store>, options: &Options) -> Result<Self> {
        let root = store.root();
        for name in [META, MOUNT_POINTS, CHECKOUTS] {
            let path = root.join(name);
            fs::create_dir_all(&path).map_err(|e| Error::io("create", path, e))?;
        }
        let images = Images {
            store,
            method: options.method,
            marks: options.marks,
            redirects: options.redirects,
            slots: Mutex::default(),
        };
        // The root is ours alone, so whoever made these is dead.
        images.clear_mount_points()?;
        images.remove_files(false, |name| name.contains(TEMPORARY))?;
        Ok(images)
    }

    fn clear_mount_points(&self) -> Result<()> {
        let directory = self.store.root().join(MOUNT_POINTS);
        mount::unmount_all_below(&directory)?;
        let entries = fs::read_dir(&directory).map_err(|e| Error::io("list", &directory, e))?;
        for entry in entries.flatten() {
            // What is not empty is no mount point of ours.
            if let Err(error) = fs::remove_dir(entry.path()) {
                tracing::debug!(%error, path = %entry.path().display(), "a mount point stays");
            }
        }
        Ok(())
    }

    pub(crate) fn method(&self) -> Method {
        self.method
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the whole tree is ready to be used as a lower, or about to be.
    pub(crate) fn has_flat(&self, tree: TreeRef) -> bool {
        let key = Shape::Flat(tree).key();
        let slot = self.slots().get(&key).cloned();
        // Locked: somebody makes it at this moment.
        slot.is_some_and(|slot| slot.try_lock().map_or(true, |slot| slot.is_some()))
            || self.file(&key, true).exists()
    }

    fn file(&self, key: &str, is_whole: bool) -> PathBuf {
        let root = self.store.root();
        match self.method {
            Method::Kernel => root.join(META).join(format!("{key}.erofs")),
            // Where redirects are not followed, such files would read as zeros.
            Method::Directories if is_whole && self.redirects => {
                root.join(CHECKOUTS).join(format!("{key}{REDIRECTED}"))
            }
            Method::Directories => root.join(CHECKOUTS).join(key),
        }
    }

    /// A directory that shows the whole tree, contents included, to anybody who looks: for those
    /// who take apart the options of an overlay. `shapes` are its layers, uppermost first.
    pub(crate) fn shown(&self, tree: TreeRef, shapes: &[Shape]) -> Result<PathBuf> {
        if self.method == Method::Directories {
            return self.lower(Shape::Flat(tree));
        }
        self.ready(&Shape::Shown(tree).key(), |key| {
            let lowers = shapes.iter().map(|shape| self.lower(*shape));
            let lowers = lowers.map(|lower| Ok(Lower::Metadata(lower?)));
            let overlay = OverlayOptions {
                lowers: lowers.collect::<Result<_>>()?,
                data_only: vec![self.store.objects().directory().to_owned()],
                metacopy: true,
                ..OverlayOptions::default()
            };
            let directory = self.mount_point(key)?;
            let guard = mount::mount_overlay(&overlay, &directory)?;
            Ok(Ready {
                directory,
                _guard: Some(guard),
            })
        })
    }

    /// As [`Images::lower`] of the whole tree, with owners that are mapped.
    ///
    /// # Errors
    /// As `lower`; [`Error::Unsupported`] where the kernel cannot.
    pub(crate) fn mapped(&self, tree: TreeRef, mapping: &IdMapping) -> Result<PathBuf> {
        let source = self.lower(Shape::Flat(tree))?;
        self.ready(&mapped_key(tree, mapping), |key| {
            let directory = self.mount_point(key)?;
            let mounted = mount::mount_id_mapped(&source, &directory, mapping);
            let guard = mounted.map_err(|error| match error.raw_os_error() {
                Some(errno) if is_refusal(errno) => Error::Unsupported {
                    what: format!(
                        "id-mapped mounts: {error}; take `remap-ids` out of the capabilities of \
                         this plugin in containerd's configuration"
                    ),
                },
                _ => error.into(),
            })?;
            Ok(Ready {
                directory,
                _guard: Some(guard),
            })
        })
    }

    /// A directory that overlayfs can use as a lower.
    pub(crate) fn lower(&self, shape: Shape) -> Result<PathBuf> {
        self.ready(&shape.key(), |key| match self.method {
            Method::Kernel => self.mount_image(key, shape),
            Method::Directories => self.check_out(key, shape),
        })
    }

    /// What is ready under this key, or is made so.
    fn ready(&self, key: &str, make: impl FnOnce(&str) -> Result<Ready>) -> Result<PathBuf> {
        let slot = self.slots().entry(key.to_owned()).or_default().clone();
        // Two that want the same image: one makes it, the other waits; different ones do not.
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = &*slot {
            return Ok(ready.directory.clone());
        }
        Ok(slot.insert(make(key)?).directory.clone())
    }

    /// A directory to mount something on that is called by this key.
    fn mount_point(&self, key: &str) -> Result<PathBuf> {
        let mount_points = self.store.root().join(MOUNT_POINTS);
        let directory = mount_points.join(&key[..MOUNT_POINT_DIGITS]);
        fs::create_dir_all(&directory).map_err(|e| Error::io("create", &directory, e))?;
        Ok(directory)
    }

    fn mount_image(&self, key: &str, shape: Shape) -> Result<Ready> {
        let file = self.file(key, false);
        if !is_intact(&file) {
            let image = self.make_image(shape)?;
            write_with_digest(&file, &image)?;
        }
        let directory = self.mount_point(key)?;
        let guard = mount::mount_erofs(&file, &directory)?;
        Ok(Ready {
            directory,
            _guard: Some(guard),
        })
    }

    fn make_image(&self, shape: Shape) -> Result<Vec<u8>> {
        let (store, objects) = (&*self.store, self.store.objects());
        match shape {
            Shape::Flat(tree) | Shape::Shown(tree) => metadata_image::flat(tree, store, objects),
            Shape::Stacked(_, tree) => {
                metadata_image::stacked(&shape.delta(store)?, tree, store, objects)
            }
        }
    }

    fn check_out(&self, key: &str, shape: Shape) -> Result<Ready> {
        let is_whole = matches!(shape, Shape::Flat(_));
        let directory = self.file(key, is_whole);
        if !directory.exists() {
            let delta = shape.delta(&*self.store)?;
            let temporary = temporary_name(&directory);
            let form = Form {
                marks: self.marks,
                redirects: is_whole && self.redirects,
            };
            let (store, objects) = (&*self.store, self.store.objects());
            let written =
                checkout::write(&delta, store, objects, form, &temporary).and_then(|()| {
                    // A checkout has no digest to be checked by: it is complete or not there.
                    let flushed = File::open(&temporary)
                        .and_then(|file| Ok(rustix::fs::syncfs(&file)?))
                        .and_then(|()| fs::rename(&temporary, &directory));
                    flushed.map_err(|e| Error::io("finish", &temporary, e))
                });
            if written.is_err() && temporary.exists() {
                self.store.trash().take(&temporary)?;
            }
            written?;
        }
        Ok(Ready {
            directory,
            _guard: None,
        })
    }

    /// Unmounts and removes everything whose key is not in `live`; it is made again when needed.
    /// Tells how many bytes went from the disk, or would go.
    pub(crate) fn retain(&self, live: &HashSet<String>, dry_run: bool) -> Result<u64> {
        let in_use: HashSet<String> = {
            let mut slots = self.slots();
            // A slot that somebody else has a handle of is about to be used.
            let stays =
                |key: &String, slot: &Slot| live.contains(key) || Arc::strong_count(slot) > 1;
            if !dry_run {
                slots.retain(|key, slot| stays(key, slot));
            }
            let staying = slots.iter().filter(|(key, slot)| stays(key, slot));
            staying.map(|(key, _)| key.clone()).collect()
        };
        self.remove_files(dry_run, |name| {
            let key = name.split('.').next().unwrap_or(name);
            !live.contains(key) && !in_use.contains(key)
        })
    }

    /// Removes images and checkouts whose file names are `unwanted`.
    fn remove_files(&self, dry_run: bool, unwanted: impl Fn(&str) -> bool) -> Result<u64> {
        let mut bytes = 0;
        let mut linked = HashSet::new();
        for parent in [META, CHECKOUTS] {
            let parent = self.store.root().join(parent);
            let entries = fs::read_dir(&parent).map_err(|e| Error::io("list", &parent, e))?;
            for entry in entries {
                let entry = entry.map_err(|e| Error::io("list", &parent, e))?;
                if !entry.file_name().to_str().is_none_or(&unwanted) {
                    continue;
                }
                let path = entry.path();
                let taken = fs::symlink_metadata(&path)
                    .and_then(|found| space::taken(&path, found.dev(), &mut linked));
                bytes += taken.map_err(|e| Error::io("measure", &path, e))?;
                if !dry_run {
                    self.store.trash().take(&path)?;
                }
            }
        }
        Ok(bytes)
    }
}

/// Whether the file's last 32 bytes are the digest of what is before them.
fn is_intact(file: &Path) -> bool {
    fs::read(file).is_ok_and(|bytes| {
        bytes
            .split_last_chunk::<32>()
            .is_some_and(|(image, digest)| {
                !image.is_empty() && blake3::hash(image).as_bytes() == digest
            })
    })
}

fn temporary_name(path: &Path) -> PathBuf {
    path.with_extension(format!("{TEMPORARY}{}", std::process::id()))
}

fn write_with_digest(file: &Path, image: &[u8]) -> Result<()> {
    let temporary = temporary_name(file);
    let write = || {
        let mut out = File::create(&temporary)?;
        out.write_all(image)?;
        out.write_all(blake3::hash(image).as_bytes())?;
        failpoint::passed("image.written");
        fs::rename(&temporary, file)?;
        failpoint::passed("image.placed");
        Ok(())
    };
    write().map_err(|e| {
        // What is left of it would only take space; the error below is the one that counts.
        fs::remove_file(&temporary).ok();
        Error::io("write", file, e)
    })
}
