//! Finds the directory of an entry and the target of a hard link, within what was read so far.
//!
//! containerd unpacks a layer into an overlay's upper directory and resolves symbolic links within
//! that directory alone. So do we: a path through a link *of this layer* goes where the link
//! points, scoped to the root; what is a link only in a lower layer is hidden by a directory.

use store::{Content, Name, RelPath};

use super::{Assembly, DirectoryIndex, Form, What, aufs_directory, split};
use crate::error::{Error, Result};
use crate::whiteout::Meaning;

/// Symbolic links that the way to one entry may go through, as the kernel's ELOOP limit.
const SYMLINKS_MAX: usize = 40;

/// Hard links to names that come later in the tar and are hard links themselves; no writer makes
/// even one.
const LINK_CHAIN_MAX: usize = 40;

/// A path without symbolic links and `..`, as far as the layer has it.
struct Resolved {
    names: Vec<Name>,
    /// The root and the directories of the first names; fewer if the rest is not there.
    directories: Vec<DirectoryIndex>,
}

impl Resolved {
    /// The directory, if all of the path is there.
    fn existing(&self) -> Option<DirectoryIndex> {
        self.directories.get(self.names.len()).copied()
    }
}

enum Step {
    Up,
    Down(Name),
}

impl Assembly<'_> {
    /// The directory at `parent`, made with all that is missing. `path` is for messages.
    pub(super) fn parent(&mut self, parent: &[u8], path: &[u8]) -> Result<DirectoryIndex> {
        if let Some((known, directory)) = &self.last_parent
            && known == parent
        {
            return Ok(*directory);
        }
        let resolved = self.resolve(parent, path)?;
        let known = resolved.directories.len();
        let mut directory = resolved.directories[known - 1];
        for name in &resolved.names[known - 1..] {
            if self.meaning(name.as_bytes()) != Meaning::Entry {
                let reason = "a directory with a name that starts with `.wh.` cannot be made";
                return Err(Error::entry(path, reason));
            }
            self.check_reserved(directory, name, path)?;
            self.count_entry()?;
            directory = self.make_directory(directory, name.clone());
        }
        self.last_parent = Some((parent.to_vec(), directory));
        Ok(directory)
    }

    /// Follows the symbolic links in all components of `directory`.
    fn resolve(&self, directory: &[u8], path: &[u8]) -> Result<Resolved> {
        let refused = |reason: &str| Error::entry(path, reason);
        let strict = RelPath::strict(directory).map_err(|e| refused(&e.to_string()))?;
        let mut rest: Vec<_> = strict
            .components()
            .iter()
            .cloned()
            .map(Step::Down)
            .collect();
        rest.reverse();
        let mut resolved = Resolved {
            names: Vec::new(),
            directories: vec![0],
        };
        let mut links = 0;
        while let Some(step) = rest.pop() {
            let Step::Down(name) = step else {
                resolved.names.pop();
                resolved.directories.truncate(resolved.names.len() + 1);
                continue;
            };
            match self.step(&resolved, &name) {
                Ok(next) => {
                    resolved.names.push(name);
                    resolved.directories.extend(next);
                }
                Err(Some(_)) if links == SYMLINKS_MAX => {
                    return Err(refused("its name goes through too many symbolic links"));
                }
                Err(Some(target)) => {
                    links += 1;
                    if target.first() == Some(&b'/') {
                        resolved.names.clear();
                        resolved.directories.truncate(1);
                    }
                    rest.extend(steps(target).map_err(|e| refused(&e.to_string()))?);
                }
                Err(None) => {
                    let reason = format!("it lies below {name}, which is no directory");
                    return Err(refused(&reason));
                }
            }
            if resolved.names.len() + rest.len() >= self.limits.path_depth_max {
                let limit = self.limits.path_depth_max as u64;
                return Err(Error::Limit {
                    what: "a name of too many components",
                    limit,
                });
            }
        }
        Ok(resolved)
    }

    /// The child directory, nothing, or in case of an error the target of a symbolic link (`None`
    /// if it is something else that has no entries).
    fn step(
        &self,
        at: &Resolved,
        name: &Name,
    ) -> std::result::Result<Option<DirectoryIndex>, Option<&[u8]>> {
        let Some(directory) = at.existing() else {
            return Ok(None);
        };
        match self.what(directory, name) {
            None => Ok(None),
            Some(What::Directory(child)) => Ok(Some(*child)),
            Some(What::Inode(inode)) => match &self.inodes[*inode].leaf.content {
                Content::Symlink { target } => Err(Some(target)),
                _ => Err(None),
            },
            Some(What::Link(_)) => Err(None),
        }
    }

    fn what(&self, directory: DirectoryIndex, name: &Name) -> Option<&What> {
        self.directories[directory].slots.get(name)?.what.as_ref()
    }

    /// What a hard link at `name` of `directory` stands for. Its target is resolved as a path is,
    /// except for its last component.
    pub(super) fn link_target(
        &mut self,
        directory: DirectoryIndex,
        name: &Name,
        target: &[u8],
        path: &[u8],
    ) -> Result<What> {
        let refused = |reason: &str| {
            let target = String::from_utf8_lossy(target);
            Error::entry(path, format!("its hard link target {target:?} {reason}"))
        };
        let (parent, last) = split(target);
        if last.is_empty() {
            return Err(refused("is a directory"));
        }
        if self.form == Form::Layer && aufs_directory(parent).is_some() {
            let inode = self.aufs_links.get(last);
            let inode = *inode.ok_or_else(|| refused("is not in the layer"))?;
            self.inodes[inode].linked = true;
            return Ok(What::Inode(inode));
        }
        let last = Name::new(last).map_err(|e| refused(&format!("is refused: {e}")))?;
        if self.meaning(last.as_bytes()) != Meaning::Entry {
            return Err(refused("is a whiteout"));
        }
        let resolved = self.resolve(parent, path)?;
        let target_directory = resolved.existing();
        let mut target: RelPath = resolved.names.into_iter().collect();
        target.push(last.clone());
        if target_directory == Some(directory) && last == *name {
            return Err(refused("is the link itself"));
        }
        match self.follow(target) {
            Some(What::Directory(_)) => Err(refused("is a directory")),
            Some(What::Link(target)) if self.is_at(&target, directory, name) => {
                Err(refused("leads back to the link itself"))
            }
            Some(What::Inode(inode)) => {
                self.inodes[inode].linked = true;
                Ok(What::Inode(inode))
            }
            Some(what) => Ok(what),
            None => Err(refused("leads through too many hard links")),
        }
    }

    /// Whether a path is that of a name in a directory.
    fn is_at(&self, path: &RelPath, directory: DirectoryIndex, name: &Name) -> bool {
        let Some((last, parent)) = path.components().split_last() else {
            return false;
        };
        last == name && self.directory_at(parent) == Some(directory)
    }

    fn directory_at(&self, path: &[Name]) -> Option<DirectoryIndex> {
        path.iter()
            .try_fold(0, |directory, name| match self.what(directory, name)? {
                What::Directory(child) => Some(*child),
                _ => None,
            })
    }

    /// What stands at a path behind any number of hard links; [`What::Link`] to what is not in the
    /// layer; `None` if there are too many of them.
    pub(super) fn follow(&self, mut path: RelPath) -> Option<What> {
        for _ in 0..LINK_CHAIN_MAX {
            let (last, parent) = path.components().split_last()?;
            let found = self
                .directory_at(parent)
                .and_then(|parent| self.what(parent, last));
            match found {
                None => return Some(What::Link(path)),
                Some(What::Link(next)) => path = next.clone(),
                Some(what) => return Some(what.clone()),
            }
        }
        None
    }
}

/// The components of a link target, the last one first.
fn steps(target: &[u8]) -> store::Result<Vec<Step>> {
    target
        .rsplit(|byte| *byte == b'/')
        .filter(|component| !matches!(*component, b"" | b"."))
        .map(|component| match component {
            b".." => Ok(Step::Up),
            name => Name::new(name).map(Step::Down),
        })
        .collect()
}
