//! Directories of committed snapshots become trees, in the background.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use mount::Mount;
use store::{Ingest, TreeRef, delta, diff, failpoint};

use super::row::{Applied, Content, Id, Row, State};
use super::usage::sum;
use super::{Containers, Ground};
use crate::capture::{Take, capture};
use crate::error::{Error, Result};
use crate::marks::Marks;
use crate::snapshots::Kind;

impl Containers {
    /// Turns the directories of committed snapshots into trees, until there is none left or
    /// `is_over`. Nothing that is mounted changes, and nothing of a directory: its files are
    /// copied, because nobody can say whether some process still has one open for writing.
    ///
    /// A snapshot that fails stays as good as it was, and is logged.
    pub fn ingest_all(&self, is_over: &dyn Fn() -> bool) {
        let mut failed: HashSet<Id> = HashSet::new();
        self.activity.forget_removed(&self.index());
        loop {
            let next = self.index().ingestible();
            let next = next.into_iter().find(|id| !failed.contains(id));
            let Some(id) = next.filter(|_| !is_over()) else {
                return;
            };
            if let Err(error) = self.ingest(&id) {
                if self.index().find(&id).is_none() {
                    // Removed meanwhile: that it cannot be read is as it should be.
                    continue;
                }
                tracing::warn!(snapshot = %id, %error, "stays a directory for now");
                failed.insert(id);
            }
        }
    }

    /// Turns a committed snapshot and everything below it into trees.
    pub(super) fn ingest_chain(&self, id: &Id) -> Result<()> {
        let mut chain = vec![id.clone()];
        while let Some(last) = chain.last() {
            let row = self.row(last)?;
            if row.info.parent.is_empty() {
                break;
            }
            chain.push(Id::new(&id.plugin, &row.info.parent));
        }
        chain.iter().rev().try_for_each(|id| self.ingest(id))
    }

    fn ingest(&self, id: &Id) -> Result<()> {
        let is_there = || self.index().find(id).is_some();
        let ingest = || {
            let ingested = self.ingest_directory(id);
            if ingested.is_err() {
                self.note_garbage();
            }
            ingested
        };
        self.activity.ingestion(id, is_there, ingest)
    }

    /// Whether there was something to do.
    fn ingest_directory(&self, id: &Id) -> Result<bool> {
        let ingesting = self.ingesting.lock();
        let _ingesting = ingesting.unwrap_or_else(PoisonError::into_inner);
        let row = self.row(id)?;
        let State::Committed(Content::Directory {
            number, applied, ..
        }) = &row.state
        else {
            return Ok(false);
        };
        let base = match applied {
            Some(applied) => Some(applied.tree),
            None => Ground::below(&self.index(), &id.plugin, &row.info.parent)?.tree(),
        };
        let whole = {
            // Keeps sweeps away until a row names the tree.
            let store = self.manager.store();
            let _shield = store.begin();
            let ingest = store.begin();
            let upper = self.directories.upper(*number);
            let captured = capture(&ingest, &upper, base, Marks::Trusted, Take::Copy)?;
            failpoint::passed("become-tree.captured");
            let usage = delta::usage(&diff(base, captured.tree, &ingest)?);
            let usage = sum(*applied, usage);
            ingest.commit(store::Batch::new())?;
            failpoint::passed("become-tree.stored");
            let whole = Applied {
                tree: captured.tree,
                usage,
            };
            self.becomes(id, &row, whole)?;
            whole
        };
        failpoint::passed("become-tree.row-written");
        if row.tree().is_some() {
            // What was unpacked, without what was written to it.
            self.note_garbage();
        }
        self.flush()?;
        self.discard_unused(&row);
        failpoint::passed("become-tree.directory-discarded");
        tracing::debug!(snapshot = %id, tree = %whole.tree.id, "became a tree");
        Ok(true)
    }

    fn becomes(&self, id: &Id, before: &Row, whole: Applied) -> Result<()> {
        let _changing = self.lock();
        let present = self.row(id)?;
        if present.state != before.state {
            return Err(Error::NotFound {
                key: id.key.clone(),
            });
        }
        let mut row = Row::clone(&*present);
        row.state = State::Committed(Content::Tree(whole));
        self.write(None, Some((id.clone(), row)))
    }

    /// Notes what our differ made of an active snapshot: its file system is `tree` now, `base` was
    /// below it. It must not have been written to.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::FailedPrecondition`] if something is in it already.
    pub(crate) fn set_applied(
        &self,
        id: &Id,
        directory: u64,
        tree: TreeRef,
        usage: store::Usage,
    ) -> Result<()> {
        {
            let _changing = self.lock();
            let mut row = Row::clone(&*self.row(id)?);
            let is_same = matches!(&row.state, State::Open { directory: number, .. }
                if *number == directory);
            if !is_same || !self.directories.is_empty(directory)? {
                return Err(Error::FailedPrecondition {
                    operation: "unpack into",
                    key: id.key.clone(),
                    reason: "it was changed meanwhile".into(),
                });
            }
            if let State::Open { applied, .. } = &mut row.state {
                let usage = sum(*applied, usage);
                *applied = Some(Applied { tree, usage });
            }
            self.write(None, Some((id.clone(), row)))?;
        }
        failpoint::passed("apply.row-written");
        self.flush()
    }

    /// The open snapshot that these mounts are of, if they are ours.
    fn by_mounts(&self, mounts: &[Mount]) -> Option<(Id, Arc<Row>)> {
        let [mount] = mounts else { return None };
        let option = |name: &str| {
            let value = |option: &String| option.strip_prefix(name).map(PathBuf::from);
            mount.options.iter().find_map(value)
        };
        let upper = match mount.kind {
            mount::Kind::Bind => Some(mount.source.clone()),
            _ => option("upperdir="),
        };
        let index = self.index();
        if let Some(number) = upper.and_then(|upper| self.directories.number_of_upper(&upper)) {
            let found = index.of_directory(number);
            return found.map(|(id, row)| (id.clone(), row.clone()));
        }
        // A view has no directory in its options, unless it is of nothing.
        let views = index.all().filter(|(_, row)| row.info.kind == Kind::View);
        let views: Vec<_> = views.map(|(id, row)| (id.clone(), row.clone())).collect();
        drop(index);
        views.into_iter().find(|(id, _)| {
            let theirs = self.mounts_of(id);
            theirs.is_ok_and(|theirs| theirs == mounts)
        })
    }

    /// The writable snapshot that these mounts are of, for somebody who unpacks a layer into it:
    /// its id, the number of its directory, and the tree below.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the mounts are not ours or something was written there already.
    pub(crate) fn to_unpack(&self, mounts: &[Mount]) -> Result<(Id, u64, Option<TreeRef>)> {
        let not_ours = |what: &str| Error::Unsupported { what: what.into() };
        let found = self.by_mounts(mounts);
        let (id, row) = found.ok_or_else(|| not_ours("these mounts are of no snapshot here"))?;
        let State::Open { directory, .. } = row.state else {
            return Err(not_ours("the snapshot is committed"));
        };
        if row.info.kind != Kind::Active || !self.directories.is_empty(directory)? {
            return Err(not_ours("something was written to the snapshot already"));
        }
        let base = match row.tree() {
            Some(tree) => Some(tree),
            None => self.parent_tree(&id, &row)?,
        };
        Ok((id, directory, base))
    }

    /// The tree that these mounts show at this moment. `ingest` gets what is not stored yet.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the mounts are not ours.
    pub(crate) fn tree_of_mounts(
        &self,
        mounts: &[Mount],
        ingest: &Ingest<'_>,
    ) -> Result<Option<TreeRef>> {
        if mounts.is_empty() {
            return Ok(None);
        }
        let (id, row) = self.by_mounts(mounts).ok_or_else(|| Error::Unsupported {
            what: "these mounts are of no snapshot here".into(),
        })?;
        let base = match row.tree() {
            Some(tree) => Some(tree),
            None => self.parent_tree(&id, &row)?,
        };
        match row.state {
            State::Open { directory, .. } if row.info.kind == Kind::Active => {
                let upper = self.directories.upper(directory);
                Ok(Some(
                    capture(ingest, &upper, base, Marks::Trusted, Take::Copy)?.tree,
                ))
            }
            _ => Ok(base),
        }
    }

    /// The tree of a row's parent, which becomes one if it is none yet.
    fn parent_tree(&self, id: &Id, row: &Row) -> Result<Option<TreeRef>> {
        let parent = &row.info.parent;
        if !parent.is_empty() {
            self.ingest_chain(&Id::new(&id.plugin, parent))?;
        }
        Ok(Ground::below(&self.index(), &id.plugin, parent)?.tree())
    }
}
