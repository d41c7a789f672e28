//! The contract, for one of containerd's plugins.

use std::sync::Arc;

use mount::Mount;
use store::Usage;

use super::Containers;
use super::row::{Id, Row};
use crate::error::{Error, Result};
use crate::snapshots::{Info, Kind, Labels, Snapshots};

impl Containers {
    /// The snapshots of the plugin that containerd knows by this name.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a name that cannot be one.
    pub fn plugin(self: &Arc<Self>, name: &str) -> Result<Plugin> {
        if name.contains('\0') || name.len() > crate::snapshots::KEY_LENGTH_MAX {
            let reason = "the name of the snapshotter is no name of a plugin".into();
            return Err(Error::InvalidArgument { reason });
        }
        Ok(Plugin {
            containers: self.clone(),
            name: name.into(),
        })
    }
}

/// The snapshots of one plugin.
#[derive(Clone, Debug)]
pub struct Plugin {
    containers: Arc<Containers>,
    name: String,
}

impl Plugin {
    fn id(&self, key: &str) -> Id {
        Id::new(&self.name, key)
    }

    /// All plugins' snapshots.
    #[must_use]
    pub fn containers(&self) -> &Arc<Containers> {
        &self.containers
    }

    /// As [`Snapshots::commit`], with a parent for a snapshot that was prepared on nothing.
    ///
    /// # Errors
    /// As `commit`; [`Error::InvalidArgument`] if it has another parent; [`Error::NotFound`] and
    /// [`Error::FailedPrecondition`] for the parent.
    pub fn commit_on(&self, name: &str, key: &str, parent: &str, labels: Labels) -> Result<()> {
        let (key, name) = (self.id(key), self.id(name));
        self.containers.commit(&key, &name, parent, labels)
    }

    /// Changes labels and tells the row. `paths` are those of containerd's field mask: `labels`
    /// or `labels.<name>`; none of them replaces all labels.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::InvalidArgument`] for other paths and for labels that are too
    /// long.
    pub fn update(&self, key: &str, labels: &Labels, paths: &[String]) -> Result<Info> {
        self.containers.update(&self.id(key), labels, paths)
    }
}

impl Snapshots for Plugin {
    fn prepare(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        let id = self.id(key);
        self.containers
            .open_snapshot(&id, parent, labels, Kind::Active)
    }

    fn view(&self, key: &str, parent: &str, labels: Labels) -> Result<Vec<Mount>> {
        let id = self.id(key);
        self.containers
            .open_snapshot(&id, parent, labels, Kind::View)
    }

    fn mounts(&self, key: &str) -> Result<Vec<Mount>> {
        self.containers.mounts_of(&self.id(key))
    }

    fn commit(&self, name: &str, key: &str, labels: Labels) -> Result<()> {
        self.commit_on(name, key, "", labels)
    }

    fn remove(&self, key: &str) -> Result<()> {
        self.containers.remove(&self.id(key))
    }

    fn stat(&self, key: &str) -> Result<Info> {
        Ok(self.containers.row(&self.id(key))?.info.clone())
    }

    fn walk(&self, visit: &mut dyn FnMut(Info) -> Result<()>) -> Result<()> {
        let index = self.containers.index();
        let rows: Vec<Arc<Row>> = index.of_plugin(&self.name).cloned().collect();
        // Whoever visits may ask for more.
        drop(index);
        rows.iter().try_for_each(|row| visit(row.info.clone()))
    }

    fn usage(&self, key: &str) -> Result<Usage> {
        self.containers.usage(&self.id(key))
    }
}
