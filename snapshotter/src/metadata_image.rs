//! Trees and deltas as EROFS metadata images: names and attributes in the image, bodies by
//! redirect in `objects/`.
//!
//! Two shapes (DESIGN 4): *flat*, a whole tree, usable as the only metadata layer of an overlay;
//! *stacked*, what one snapshot changed, put above the image of its parent.
//! Images are derived: they can be thrown away at any time and made again.

use std::collections::HashMap;
use std::sync::Arc;

use store::{
    Content, Delta, DeltaDirectory, DeltaEntry, Entry, Leaf, LinkId, Metadata, Objects, Tree,
    TreeId, TreeRef, TreeSource,
};

use crate::error::{Error, Result};

/// The image of a whole tree.
///
/// # Errors
/// [`Error::Image`] for what EROFS cannot hold; those of reading trees.
pub fn flat(tree: TreeRef, trees: &dyn TreeSource, objects: &Objects) -> Result<Vec<u8>> {
    let root = trees.tree(tree.id)?;
    let mut image = Image::new(tree.id, &root.metadata, trees, objects)?;
    let directory = image.builder.root();
    image.fill(directory, root)?;
    image.finish()
}

/// The image of a delta that leads to `tree`, for use above the image of the tree below.
///
/// The delta must come from [`store::diff`]: whiteouts only of what is there, attributes on every
/// directory. Groups of hard links that it changes must be complete.
///
/// # Errors
/// As [`flat`].
pub fn stacked(
    delta: &Delta,
    tree: TreeRef,
    trees: &dyn TreeSource,
    objects: &Objects,
) -> Result<Vec<u8>> {
    let metadata = delta.root.metadata.clone();
    let metadata = metadata.unwrap_or_else(Metadata::default_directory);
    let mut image = Image::new(tree.id, &metadata, trees, objects)?;
    let directory = image.builder.root();
    image.fill_delta(directory, &delta.root)?;
    image.finish()
}

struct Image<'a> {
    tree: TreeId,
    builder: erofs::Builder,
    trees: &'a dyn TreeSource,
    objects: &'a Objects,
    links: HashMap<LinkId, erofs::InodeId>,
}

impl<'a> Image<'a> {
    fn new(
        tree: TreeId,
        root: &Metadata,
        trees: &'a dyn TreeSource,
        objects: &'a Objects,
    ) -> Result<Self> {
        let builder = erofs::Builder::new(&attributes(root));
        let builder = builder.map_err(|source| Error::Image { tree, source })?;
        Ok(Image {
            tree,
            builder,
            trees,
            objects,
            links: HashMap::new(),
        })
    }

    fn finish(self) -> Result<Vec<u8>> {
        let tree = self.tree;
        self.builder
            .finish()
            .map_err(|source| Error::Image { tree, source })
    }

    fn error(&self) -> impl Fn(erofs::Error) -> Error + use<> {
        let tree = self.tree;
        move |source| Error::Image { tree, source }
    }

    /// A list instead of recursion: grafts in grafts nest deeper than stacks.
    fn fill(&mut self, directory: erofs::InodeId, tree: Arc<Tree>) -> Result<()> {
        let mut waiting = vec![(directory, tree)];
        while let Some((directory, tree)) = waiting.pop() {
            for (name, entry) in &tree.entries {
                match entry {
                    Entry::Leaf(leaf) => self.leaf(directory, name.as_bytes(), leaf)?,
                    Entry::Directory(child) => {
                        let child = self.trees.tree(child.id)?;
                        let (name, metadata) = (name.as_bytes(), &child.metadata);
                        let made = self.add_directory(directory, name, metadata, false)?;
                        waiting.push((made, child));
                    }
                }
            }
        }
        Ok(())
    }

    fn fill_delta(&mut self, root: erofs::InodeId, delta: &DeltaDirectory) -> Result<()> {
        let error = self.error();
        let mut waiting = vec![(root, delta)];
        while let Some((directory, delta)) = waiting.pop() {
            for (name, entry) in &delta.entries {
                let name = name.as_bytes();
                match entry {
                    DeltaEntry::Whiteout => {
                        self.builder.whiteout(directory, name).map_err(&error)?;
                    }
                    DeltaEntry::Leaf(leaf) => self.leaf(directory, name, leaf)?,
                    DeltaEntry::Directory(child) => {
                        let metadata = child.metadata.clone();
                        let metadata = metadata.unwrap_or_else(Metadata::default_directory);
                        let made = self.add_directory(directory, name, &metadata, child.opaque)?;
                        waiting.push((made, child));
                    }
                    // What is grafted replaces; where nothing is below, opaque does no harm.
                    DeltaEntry::Graft(tree) => {
                        let tree = self.trees.tree(tree.id)?;
                        let made = self.add_directory(directory, name, &tree.metadata, true)?;
                        self.fill(made, tree)?;
                    }
                    DeltaEntry::Link(_) => {
                        debug_assert!(false, "store::diff makes no link to a lower file");
                    }
                }
            }
        }
        Ok(())
    }

    fn add_directory(
        &mut self,
        parent: erofs::InodeId,
        name: &[u8],
        metadata: &Metadata,
        opaque: bool,
    ) -> Result<erofs::InodeId> {
        let error = self.error();
        let attributes = attributes(metadata);
        let made = match opaque {
            true => self.builder.opaque_directory(parent, name, &attributes),
            false => self.builder.directory(parent, name, &attributes),
        };
        made.map_err(error)
    }

    fn leaf(&mut self, directory: erofs::InodeId, name: &[u8], leaf: &Leaf) -> Result<()> {
        let error = self.error();
        if let Some(inode) = leaf.link.and_then(|link| self.links.get(&link)) {
            return self.builder.link(directory, name, *inode).map_err(error);
        }
        let attributes = attributes(&leaf.metadata);
        let builder = &mut self.builder;
        let inode = match &leaf.content {
            Content::File { size: 0, .. } => builder.file(directory, name, &attributes, 0, None),
            Content::File { blob, size } => {
                let redirect = self.objects.redirect(*blob);
                builder.file(
                    directory,
                    name,
                    &attributes,
                    *size,
                    Some(redirect.as_bytes()),
                )
            }
            Content::Symlink { target } => builder.symlink(directory, name, &attributes, target),
            Content::CharDevice { major, minor } => {
                let number = erofs::DeviceNumber {
                    major: *major,
                    minor: *minor,
                };
                builder.character_device(directory, name, &attributes, number)
            }
            Content::BlockDevice { major, minor } => {
                let number = erofs::DeviceNumber {
                    major: *major,
                    minor: *minor,
                };
                builder.block_device(directory, name, &attributes, number)
            }
            Content::Fifo => builder.fifo(directory, name, &attributes),
            Content::Socket => builder.socket(directory, name, &attributes),
        };
        let inode = inode.map_err(error)?;
        if let Some(link) = leaf.link {
            self.links.insert(link, inode);
        }
        Ok(())
    }
}

fn attributes(metadata: &Metadata) -> erofs::Attributes<'_> {
    erofs::Attributes {
        mode: metadata.mode.into(),
        uid: metadata.uid,
        gid: metadata.gid,
        mtime: erofs::Timestamp {
            seconds: metadata.mtime.seconds,
            nanoseconds: metadata.mtime.nanoseconds,
        },
        // What EROFS has no place for no other file system would show either (`system.nfs4_acl`).
        xattrs: metadata
            .xattrs
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .filter(|(name, _)| erofs::xattr_is_representable(name))
            .collect(),
    }
}
