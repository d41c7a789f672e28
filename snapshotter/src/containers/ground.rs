//! What the mounts of a snapshot rest on.

use mount::{IdMapping, Lower, Mount, OverlayOptions};
use store::{Metadata, TreeRef, TreeSource};

use super::index::Index;
use super::row::{Content, Id, Row, State, Told};
use super::{Containers, id_mapping};
use crate::capture::read_metadata;
use crate::error::{Error, Result};
use crate::images::{Method, Shape};
use crate::snapshots::Kind;

/// More directories than this below a mount become trees first: mount(2) takes one page of
/// options, and look-ups grow with the number of layers.
const DIRECTORIES_MAX: usize = 16;

/// By this label containerd says what it unpacks into a snapshot.
const UNPACKS: &str = "containerd.io/snapshot.ref";

/// Committed snapshots, uppermost first, down to the first whole tree.
#[derive(Debug, Default)]
pub(super) struct Ground {
    pub(super) directories: Vec<u64>,
    /// The first whole tree, and those that it was made from, uppermost first.
    pub(super) trees: Vec<TreeRef>,
}

impl Ground {
    /// What lies below a child of `parent`.
    pub(super) fn below(index: &Index, plugin: &str, parent: &str) -> Result<Self> {
        let mut ground = Ground::default();
        let mut parent = parent.to_owned();
        while !parent.is_empty() {
            let row = index.get(&Id::new(plugin, &parent))?;
            match &row.state {
                State::Open { .. } => {
                    return Err(Error::InvalidArgument {
                        reason: format!("parent snapshot {parent:?} is not committed"),
                    });
                }
                State::Committed(Content::Tree(whole)) => ground.trees.push(whole.tree),
                State::Committed(_) if !ground.trees.is_empty() => break,
                State::Committed(Content::Directory {
                    number, applied, ..
                }) => {
                    ground.directories.push(*number);
                    if let Some(applied) = applied {
                        ground.trees.push(applied.tree);
                        break;
                    }
                }
            }
            parent.clone_from(&row.info.parent);
        }
        Ok(ground)
    }

    /// What the directories lie on.
    pub(super) fn tree(&self) -> Option<TreeRef> {
        self.trees.first().copied()
    }

    /// What callers are told of it.
    pub(super) fn told(&self) -> Told {
        Told {
            directories: self.directories.clone(),
            tree: self.tree(),
        }
    }

    /// What an open snapshot is mounted on.
    fn of(index: &Index, id: &Id, row: &Row) -> Result<Self> {
        let State::Open {
            applied, ground, ..
        } = &row.state
        else {
            return Ok(Ground::default());
        };
        if let Some(applied) = applied {
            return Ok(Ground {
                directories: Vec::new(),
                trees: vec![applied.tree],
            });
        }
        // The parents may have become more trees than they were.
        let now = Ground::below(index, &id.plugin, &row.info.parent)?;
        let trees = now.trees.into_iter();
        let mut trees: Vec<TreeRef> = trees
            .skip_while(|tree| Some(*tree) != ground.tree)
            .collect();
        if trees.is_empty() {
            // What was unpacked into a parent that was written to as well: no parent is just that.
            trees.extend(ground.tree);
        }
        Ok(Ground {
            directories: ground.directories.clone(),
            trees,
        })
    }
}

impl Containers {
    /// Turns what is below a new child of `parent` into trees, if it is too much to be mounted.
    pub(super) fn shorten(&self, id: &Id, parent: &str) -> Result<()> {
        let count = |containers: &Self| -> Result<usize> {
            let index = containers.index();
            Ok(Ground::below(&index, &id.plugin, parent)?.directories.len())
        };
        if count(self)? > DIRECTORIES_MAX {
            self.ingest_chain(&Id::new(&id.plugin, parent))?;
        }
        Ok(())
    }

    /// What the root directory of a new snapshot looks like: the root of an overlay shows the
    /// attributes of the upper, whatever is below.
    pub(super) fn root_attributes(&self, ground: &Ground) -> Result<Metadata> {
        match (ground.directories.first(), ground.tree()) {
            (Some(number), _) => read_metadata(&self.directories.upper(*number)),
            (None, Some(tree)) => {
                let tree = self.manager.store().tree(tree.id)?;
                Ok(tree.metadata.clone())
            }
            (None, None) => Ok(Metadata::default_directory()),
        }
    }

    /// How an open snapshot is mounted.
    pub(super) fn mounts_of(&self, id: &Id) -> Result<Vec<Mount>> {
        let (row, ground) = {
            let index = self.index();
            let row = index.get(id)?.clone();
            let ground = Ground::of(&index, id, &row)?;
            (row, ground)
        };
        let State::Open { directory, .. } = row.state else {
            return Err(Error::FailedPrecondition {
                operation: "mount",
                key: id.key.clone(),
                reason: "it is committed; prepare or view a child of it".into(),
            });
        };
        self.directories.check_own(directory)?;
        let writable = row.info.kind == Kind::Active;
        let upper = self.directories.upper(directory);
        if ground.directories.is_empty() && ground.trees.is_empty() {
            return Ok(vec![Mount::bind(&upper, !writable)]);
        }
        let is_unpacked = writable && row.info.labels.contains_key(UNPACKS);
        let mapping = id_mapping::of_labels(&row.info.labels)?;
        let mut overlay = match mapping {
            Some(mapping) => self.mapped_lower(&ground, &mapping)?,
            None => self.lowers(&ground, is_unpacked)?,
        };
        if writable {
            overlay.upper = Some((upper, self.directories.usable_work(directory)?));
        } else if overlay.lowers.len() == 1 && overlay.data_only.is_empty() {
            // A single directory is nothing to merge, and bound it would show its overlay marks.
            overlay.lowers.push(Lower::Directory(upper));
        }
        Ok(vec![overlay.to_mount()?])
    }

    /// The layers below the upper. A snapshot that is unpacked into by containerd's own differ
    /// gets no `::` in its options: it takes every element of `lowerdir` for a directory that it
    /// may look into.
    fn lowers(&self, ground: &Ground, is_unpacked: bool) -> Result<OverlayOptions> {
        let options = self.manager.options();
        let directories = ground.directories.iter();
        let mut lowers: Vec<Lower> = directories
            .map(|number| Lower::Directory(self.directories.upper(*number)))
            .collect();
        let mut overlay = OverlayOptions {
            // Hard links break on copy-up, as under every containerd, whatever this host's default.
            index: Some(false),
            ..OverlayOptions::default()
        };
        let images = self.manager.images();
        match (ground.tree(), options.method) {
            (None, _) => {}
            (Some(tree), _) if is_unpacked => {
                let shown = images.shown(tree, &self.shapes(&ground.trees))?;
                lowers.push(Lower::Directory(shown));
            }
            (Some(tree), Method::Kernel) => {
                lowers.push(Lower::Metadata(images.lower(Shape::Flat(tree))?));
                overlay.metacopy = options.flat_needs_metacopy;
                let objects = self.manager.store().objects();
                overlay.data_only.push(objects.directory().to_owned());
            }
            (Some(tree), Method::Directories) => {
                lowers.push(Lower::Directory(images.lower(Shape::Flat(tree))?));
            }
        }
        overlay.lowers = lowers;
        Ok(overlay)
    }

    /// One layer, with mapped owners.
    fn mapped_lower(&self, ground: &Ground, mapping: &IdMapping) -> Result<OverlayOptions> {
        let (true, Some(tree)) = (ground.directories.is_empty(), ground.tree()) else {
            return Err(Error::InvalidArgument {
                reason: "the owners of a snapshot are mapped when it is prepared, not later".into(),
            });
        };
        let (manager, options) = (&self.manager, self.manager.options());
        let lower = manager.images().mapped(tree, mapping)?;
        let mut overlay = OverlayOptions {
            index: Some(false),
            ..OverlayOptions::default()
        };
        match options.method {
            Method::Kernel => {
                overlay.lowers.push(Lower::Metadata(lower));
                overlay.metacopy = options.flat_needs_metacopy;
                let objects = manager.store().objects();
                overlay.data_only.push(objects.directory().to_owned());
            }
            Method::Directories => overlay.lowers.push(Lower::Directory(lower)),
        }
        Ok(overlay)
    }

    /// The images that show the first of these trees, uppermost first: each costs no more than
    /// what it adds to the next.
    fn shapes(&self, trees: &[TreeRef]) -> Vec<Shape> {
        let (images, options) = (self.manager.images(), self.manager.options());
        let mut shapes = Vec::new();
        for (place, tree) in trees.iter().enumerate() {
            let is_whole = tree.inodes <= options.flat_inodes_max || images.has_flat(*tree);
            match trees.get(place + 1) {
                Some(below) if !is_whole => shapes.push(Shape::Stacked(*below, *tree)),
                _ => {
                    shapes.push(Shape::Flat(*tree));
                    break;
                }
            }
        }
        if shapes.len() > options.stack_max {
            shapes = trees
                .first()
                .map(|tree| Shape::Flat(*tree))
                .into_iter()
                .collect();
        }
        shapes
    }
}
