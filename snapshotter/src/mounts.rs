//! A snapshot and its chain of parents become mounts.

use mount::{Lower, Mount, OverlayOptions, RedirectDir};
use store::TreeRef;

use crate::catalog::{self, Row, State};
use crate::error::{Error, Result};
use crate::images::{Method, Shape};
use crate::manager::Manager;
use crate::marks::Marks;
use crate::snapshots::Kind;

impl Manager {
    pub(crate) fn mounts_of(&self, row: &Row) -> Result<Vec<Mount>> {
        let State::Open { directory, .. } = row.state else {
            return Err(Error::FailedPrecondition {
                operation: "mount",
                key: row.info.key.clone(),
                reason: "it is committed; prepare or view a child of it".into(),
            });
        };
        let writable = row.info.kind == Kind::Active;
        let upper = self.directories().upper(directory);
        if row.info.parent.is_empty() {
            return Ok(vec![Mount::bind(&upper, !writable)]);
        }
        let options = self.options();
        let mut lowers = self.lowers(&row.info.parent)?;
        let kernel = options.method == Method::Kernel;
        let redirects = kernel || options.redirects;
        if !writable && !redirects && lowers.len() == 1 {
            // A single directory is nothing to merge, and bound it would show its overlay marks.
            lowers.push(Lower::Directory(upper.clone()));
        }
        let mut overlay = OverlayOptions {
            metacopy: kernel && (lowers.len() > 1 || options.flat_needs_metacopy),
            lowers,
            userxattr: options.marks == Marks::User,
            // Hard links break on copy-up, as under every containerd, whatever this host's default.
            index: Some(false),
            ..OverlayOptions::default()
        };
        if redirects {
            overlay
                .data_only
                .push(self.store().objects().directory().to_owned());
        }
        if writable {
            overlay.upper = Some((upper, self.directories().usable_work(directory)?));
            overlay.volatile = options.volatile;
            // `metacopy=on` forces it. Whether a step can rename a directory must not depend on
            // the shape of its base.
            // In a user namespace there are none: rename(2) answers EXDEV, and programs copy.
            let renames = options.volatile && options.marks == Marks::Trusted;
            overlay.redirect_dir = renames.then_some(RedirectDir::On);
        }
        Ok(vec![overlay.to_mount()?])
    }

    /// The lower directories that show the committed snapshot `name`, uppermost first.
    fn lowers(&self, name: &str) -> Result<Vec<Lower>> {
        let lower = |shape| {
            let directory = self.images().lower(shape)?;
            let is_redirected = self.options().redirects && matches!(shape, Shape::Flat(_));
            Ok(match self.method() {
                Method::Kernel => Lower::Metadata(directory),
                Method::Directories if is_redirected => Lower::UserMetadata(directory),
                Method::Directories => Lower::Directory(directory),
            })
        };
        self.shapes(name)?.into_iter().map(lower).collect()
    }

    fn shapes(&self, name: &str) -> Result<Vec<Shape>> {
        let whole = self.tree(name)?;
        let mut shapes = Vec::new();
        let (mut key, mut tree) = (name.to_owned(), whole);
        loop {
            let parent = catalog::get(self.store(), &key)?.info.parent;
            let below = self.parent_tree(&parent)?;
            let Some(below) = below.filter(|_| !self.is_used_whole(tree)) else {
                shapes.push(Shape::Flat(tree));
                break;
            };
            if below.id != tree.id {
                shapes.push(Shape::Stacked(below, tree));
            }
            if shapes.len() >= self.options().stack_max {
                return Ok(vec![Shape::Flat(whole)]);
            }
            (key, tree) = (parent, below);
        }
        Ok(shapes)
    }

    fn is_used_whole(&self, tree: TreeRef) -> bool {
        tree.inodes <= self.options().flat_inodes_max || self.images().has_flat(tree)
    }
}
