//! Rows of snapshots that containerd owns.

use std::fmt;

use store::codec::{Decoder, Encoder};
use store::{TreeRef, Usage};

use super::id_mapping;
use crate::catalog::{decode_info, decode_tree, encode_info, encode_tree};
use crate::snapshots::{Info, Kind};

/// Version byte of a row.
const ROW_VERSION: u8 = 1;

/// Which snapshot: plugins do not see each other's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    /// The name that containerd knows the plugin by; no NUL.
    pub(crate) plugin: String,
    pub(crate) key: String,
}

impl Id {
    pub(crate) fn new(plugin: &str, key: &str) -> Self {
        Id {
            plugin: plugin.into(),
            key: key.into(),
        }
    }

    /// Key of the row.
    pub(super) fn encode(&self) -> Vec<u8> {
        [self.plugin.as_bytes(), b"\0", self.key.as_bytes()].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> store::Result<Self> {
        let text = std::str::from_utf8(bytes).ok();
        let parts = text.and_then(|text| text.split_once('\0'));
        let (plugin, key) = parts.ok_or_else(|| {
            Decoder::new("key of a container's snapshot", bytes).error("it names no plugin")
        })?;
        Ok(Id::new(plugin, key))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.plugin, self.key)
    }
}

/// Which boot of the machine: what was not flushed in an earlier one may be torn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Boot(pub(crate) [u8; 16]);

/// A snapshot as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) info: Info,
    pub(crate) state: State,
}

/// What a snapshot consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Active, or a view.
    Open {
        /// Number of its writable directory.
        directory: u64,
        /// A layer that our differ has unpacked into it, in place of the directory.
        applied: Option<Applied>,
        /// What its mounts rest on.
        ground: Told,
    },
    /// Committed.
    Committed(Content),
}

/// What callers were told to mount a snapshot on. It stays so until the snapshot is removed, also
/// when the directories have become trees: what is mounted goes on, and the same question gets the
/// same answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Directories of committed snapshots, uppermost first.
    pub(crate) directories: Vec<u64>,
    /// What they lie on. The rows of the parents keep it alive.
    pub(crate) tree: Option<TreeRef>,
}

/// What a layer made of the snapshot that it was unpacked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The whole file system.
    pub(crate) tree: TreeRef,
    /// What the layer added.
    pub(crate) usage: Usage,
}

/// What a committed snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A whole file system in the store.
    Tree(Applied),
    /// The writable directory as it was left; it will be a tree.
    Directory {
        number: u64,
        /// What it lies on, if not on the parent.
        applied: Option<Applied>,
        /// When it was committed. Nothing of it may have reached the disk.
        boot: Boot,
    },
}

impl Row {
    /// The directories that must not go as long as this row is there.
    pub(super) fn directories(&self) -> Vec<u64> {
        match &self.state {
            State::Open {
                directory, ground, ..
            } => std::iter::once(*directory)
                .chain(ground.directories.iter().copied())
                .collect(),
            State::Committed(Content::Directory { number, .. }) => vec![*number],
            State::Committed(Content::Tree(_)) => Vec::new(),
        }
    }

    /// The trees that must not go as long as this row is there.
    pub(super) fn roots(&self) -> impl Iterator<Item = TreeRef> {
        let told = match &self.state {
            State::Open { ground, .. } => ground.tree,
            State::Committed(_) => None,
        };
        self.tree().into_iter().chain(told)
    }

    /// Whether something in the store may be needed by nobody when this row is gone. What an open
    /// snapshot rests on is its parents', but for what they were made from.
    pub(super) fn may_leave_garbage(&self) -> bool {
        match &self.state {
            State::Committed(_) => true,
            State::Open {
                applied, ground, ..
            } => {
                applied.is_some()
                    || (!ground.directories.is_empty() && ground.tree.is_some())
                    || !matches!(id_mapping::of_labels(&self.info.labels), Ok(None))
            }
        }
    }

    /// What was unpacked into it, or what it is.
    pub(crate) fn tree(&self) -> Option<TreeRef> {
        match &self.state {
            State::Open { applied, .. } | State::Committed(Content::Directory { applied, .. }) => {
                applied.map(|applied| applied.tree)
            }
            State::Committed(Content::Tree(whole)) => Some(whole.tree),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::new();
        out.byte(ROW_VERSION);
        encode_info(&mut out, &self.info);
        let content = match &self.state {
            State::Open {
                directory,
                applied,
                ground,
            } => {
                out.number(*directory);
                encode_applied(&mut out, applied.as_ref());
                out.number(ground.directories.len() as u64);
                for number in &ground.directories {
                    out.number(*number);
                }
                out.byte(ground.tree.is_some().into());
                if let Some(tree) = &ground.tree {
                    encode_tree(&mut out, tree);
                }
                return out.finish();
            }
            State::Committed(content) => content,
        };
        match content {
            Content::Tree(whole) => {
                out.byte(0);
                encode_applied(&mut out, Some(whole));
            }
            Content::Directory {
                number,
                applied,
                boot,
            } => {
                out.byte(1).number(*number).raw(&boot.0);
                encode_applied(&mut out, applied.as_ref());
            }
        }
        out.finish()
    }

    pub(super) fn decode(key: &str, bytes: &[u8]) -> store::Result<Self> {
        let mut row = Decoder::new("row of a container's snapshot", bytes);
        if row.byte()? != ROW_VERSION {
            return Err(row.error("it has an unknown version"));
        }
        let info = decode_info(&mut row, key)?;
        let state = match info.kind {
            Kind::View | Kind::Active => State::Open {
                directory: row.number()?,
                applied: decode_applied(&mut row)?,
                ground: Told {
                    directories: {
                        let count = row.number()?;
                        let numbers = (0..count).map(|_| row.number());
                        numbers.collect::<store::Result<_>>()?
                    },
                    tree: match row.byte()? {
                        0 => None,
                        _ => Some(decode_tree(&mut row)?),
                    },
                },
            },
            Kind::Committed => State::Committed(decode_content(&mut row)?),
        };
        row.finish()?;
        Ok(Row { info, state })
    }
}

fn decode_content(row: &mut Decoder<'_>) -> store::Result<Content> {
    match row.byte()? {
        0 => match decode_applied(row)? {
            Some(whole) => Ok(Content::Tree(whole)),
            None => Err(row.error("it is committed and has no tree")),
        },
        1 => {
            let number = row.number()?;
            let mut boot = Boot([0; 16]);
            for byte in &mut boot.0 {
                *byte = row.byte()?;
            }
            Ok(Content::Directory {
                number,
                applied: decode_applied(row)?,
                boot,
            })
        }
        _ => Err(row.error("it has unknown content")),
    }
}

fn encode_applied(out: &mut Encoder, applied: Option<&Applied>) {
    out.byte(applied.is_some().into());
    if let Some(Applied { tree, usage }) = applied {
        encode_tree(out, tree);
        out.number(usage.bytes).number(usage.inodes);
    }
}

fn decode_applied(row: &mut Decoder<'_>) -> store::Result<Option<Applied>> {
    if row.byte()? == 0 {
        return Ok(None);
    }
    let tree = decode_tree(row)?;
    let (bytes, inodes) = (row.number()?, row.number()?);
    let usage = Usage { bytes, inodes };
    Ok(Some(Applied { tree, usage }))
}
