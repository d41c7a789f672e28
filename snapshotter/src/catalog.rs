//! Snapshot rows: reading, writing, and the two questions asked of them all.

use store::codec::{Decoder, Encoder};
use store::{Batch, ContentKey, Store, Table, Timestamp, TreeId, TreeRef, Usage};

use crate::error::{Error, Result};
use crate::snapshots::{Info, Kind, Labels};

/// Version byte of a row.
const ROW_VERSION: u8 = 1;

/// A snapshot as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What callers see.
    pub info: Info,
    /// The kind with what only that kind has.
    pub state: State,
}

/// What a snapshot consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not committed: its writable directory is `snapshots/<number>`.
    Open {
        /// Number of the directory, never used twice.
        directory: u64,
        /// The parent's tree; `None` on an empty root.
        base: Option<TreeRef>,
    },
    /// Committed.
    Committed {
        /// The whole file system.
        tree: TreeRef,
        /// What it adds to its parent.
        usage: Usage,
    },
}

impl Row {
    /// A row made now.
    fn new(key: &str, parent: &str, kind: Kind, labels: Labels, state: State) -> Self {
        let info = Info::new(key, parent, kind, labels);
        Row { info, state }
    }

    /// An active snapshot or a view with the writable directory `directory`.
    pub(crate) fn open(
        (key, kind): (&str, Kind),
        (parent, base): (&str, Option<TreeRef>),
        labels: Labels,
        directory: u64,
    ) -> Self {
        Row::new(key, parent, kind, labels, State::Open { directory, base })
    }

    /// A committed snapshot.
    pub(crate) fn committed(
        name: &str,
        parent: &str,
        labels: Labels,
        tree: TreeRef,
        usage: Usage,
    ) -> Self {
        Row::new(
            name,
            parent,
            Kind::Committed,
            labels,
            State::Committed { tree, usage },
        )
    }

    /// The tree of a committed snapshot.
    pub fn tree(&self) -> Option<TreeRef> {
        match self.state {
            State::Committed { tree, .. } => Some(tree),
            State::Open { .. } => None,
        }
    }
}

/// Reads a row.
///
/// # Errors
/// [`Error::NotFound`]; database errors.
pub fn get(store: &Store, key: &str) -> Result<Row> {
    find(store, key)?.ok_or_else(|| Error::NotFound { key: key.into() })
}

/// Reads a row if it is there.
///
/// # Errors
/// Database errors.
pub fn find(store: &Store, key: &str) -> Result<Option<Row>> {
    // Before it is looked at: what is found then stays (see `store::Work`).
    store.claim_snapshot(key);
    let row = store.rows().get(Table::Snapshot, key.as_bytes())?;
    Ok(row.map(|row| decode(key, &row)).transpose()?)
}

/// Adds the row to a batch.
pub fn put(batch: &mut Batch, row: &Row) {
    batch.put(Table::Snapshot, row.info.key.as_bytes(), encode(row));
}

/// Adds the removal of the row to a batch.
pub fn delete(batch: &mut Batch, key: &str) {
    batch.delete(Table::Snapshot, key.as_bytes());
}

/// All rows in the order of their keys.
pub fn all(store: &Store) -> impl Iterator<Item = Result<Row>> + '_ {
    store.rows().scan(Table::Snapshot, b"").map(|row| {
        let (key, value) = row?;
        Ok(decode(&String::from_utf8_lossy(&key), &value)?)
    })
}

/// Whether some snapshot has `key` as its parent.
///
/// # Errors
/// Database errors.
pub fn has_children(store: &Store, key: &str) -> Result<bool> {
    for row in all(store) {
        if row?.info.parent == key {
            return Ok(true);
        }
    }
    Ok(false)
}

fn encode(row: &Row) -> Vec<u8> {
    let mut out = Encoder::new();
    out.byte(ROW_VERSION);
    encode_info(&mut out, &row.info);
    match &row.state {
        State::Open { directory, base } => {
            out.number(*directory).byte(base.is_some().into());
            if let Some(base) = base {
                encode_tree(&mut out, base);
            }
        }
        State::Committed { tree, usage } => {
            encode_tree(&mut out, tree);
            out.number(usage.bytes).number(usage.inodes);
        }
    }
    out.finish()
}

/// Reads what [`put`] wrote.
pub(crate) fn decode(key: &str, bytes: &[u8]) -> store::Result<Row> {
    let mut row = Decoder::new("snapshot row", bytes);
    if row.byte()? != ROW_VERSION {
        return Err(row.error("it has an unknown version"));
    }
    let info = decode_info(&mut row, key)?;
    let state = match info.kind {
        Kind::View | Kind::Active => State::Open {
            directory: row.number()?,
            base: match row.byte()? {
                0 => None,
                _ => Some(decode_tree(&mut row)?),
            },
        },
        Kind::Committed => State::Committed {
            tree: decode_tree(&mut row)?,
            usage: Usage {
                bytes: row.number()?,
                inodes: row.number()?,
            },
        },
    };
    row.finish()?;
    Ok(Row { info, state })
}

/// Writes everything but the key.
pub(crate) fn encode_info(out: &mut Encoder, info: &Info) {
    out.byte(match info.kind {
        Kind::View => 1,
        Kind::Active => 2,
        Kind::Committed => 3,
    });
    out.string(info.parent.as_bytes());
    for time in [info.created, info.updated] {
        out.signed(time.seconds).number(time.nanoseconds.into());
    }
    out.number(info.labels.len() as u64);
    for (name, value) in &info.labels {
        out.string(name.as_bytes()).string(value.as_bytes());
    }
}

/// Reads what [`encode_info`] wrote.
pub(crate) fn decode_info(row: &mut Decoder<'_>, key: &str) -> store::Result<Info> {
    let kind = match row.byte()? {
        1 => Kind::View,
        2 => Kind::Active,
        3 => Kind::Committed,
        _ => return Err(row.error("it has an unknown kind")),
    };
    let parent = text(row)?;
    let mut times = [Timestamp::EPOCH; 2];
    for time in &mut times {
        *time = Timestamp {
            seconds: row.signed()?,
            nanoseconds: row.number_u32()?,
        };
    }
    let mut labels = Labels::new();
    for _ in 0..row.number()? {
        labels.insert(text(row)?, text(row)?);
    }
    let [created, updated] = times;
    Ok(Info {
        key: key.into(),
        parent,
        kind,
        created,
        updated,
        labels,
    })
}

/// Writes a tree reference as part of a row.
pub fn encode_tree(out: &mut Encoder, tree: &TreeRef) {
    out.raw(tree.id.as_bytes()).raw(tree.key.as_bytes());
    out.number(tree.inodes)
        .number(tree.bytes)
        .number(tree.links);
}

/// Reads what [`encode_tree`] wrote.
///
/// # Errors
/// [`store::Error::Undecodable`].
pub fn decode_tree(row: &mut Decoder<'_>) -> store::Result<TreeRef> {
    Ok(TreeRef {
        id: TreeId::from_bytes(row.id()?),
        key: ContentKey::from_bytes(row.id()?),
        inodes: row.number()?,
        bytes: row.number()?,
        links: row.number()?,
    })
}

fn text(row: &mut Decoder<'_>) -> store::Result<String> {
    let bytes = row.string()?.to_vec();
    String::from_utf8(bytes).map_err(|_| row.error("it has text that is not UTF-8"))
}
