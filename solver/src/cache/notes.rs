//! What is noted of the snapshots in the build cache: what made them, when they were last used and
//! how often. Garbage collection chooses by it. A snapshot without a note (a store of before) is as
//! old as its row and was never used.

use store::codec::{Decoder, Encoder};
use store::{Batch, Store, Table, Timestamp};

/// What the keys of notes begin with; the snapshot's name follows. Cache keys, in the same table,
/// are 32 bytes of a digest, shorter than any note's key.
const PREFIX: &[u8] = b"about the snapshot with the name ";

/// Version byte of a note.
const NOTE_VERSION: u8 = 1;

/// Bytes of a description that are kept.
const DESCRIPTION_MAX: usize = 400;

/// What made something, in BuildKit's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// A step, or the files of an image.
    #[default]
    Regular,
    /// A build context.
    SourceLocal,
    /// A cache mount.
    ExecCacheMount,
    /// Files of a git repository.
    SourceGit,
}

impl RecordKind {
    /// All of them.
    pub const ALL: [RecordKind; 4] = [
        RecordKind::Regular,
        RecordKind::SourceLocal,
        RecordKind::ExecCacheMount,
        RecordKind::SourceGit,
    ];

    /// As BuildKit's filters and lists call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            RecordKind::Regular => "regular",
            RecordKind::SourceLocal => "source.local",
            RecordKind::ExecCacheMount => "exec.cachemount",
            RecordKind::SourceGit => "source.git.checkout",
        }
    }
}

/// What made a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The kind of thing.
    pub kind: RecordKind,
    /// For people.
    pub description: String,
}

/// A note.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// What made it.
    pub about: About,
    /// When it was made.
    pub created: Timestamp,
    /// When a build last used it.
    pub last_used: Timestamp,
    /// How many builds did.
    pub uses: u64,
}

/// The key of the note of a snapshot, in [`Table::Record`].
pub(crate) fn key(snapshot: &str) -> Vec<u8> {
    [PREFIX, snapshot.as_bytes()].concat()
}

/// The note of a snapshot.
///
/// # Errors
/// Database errors; a broken row.
pub fn find(store: &Store, snapshot: &str) -> store::Result<Option<Note>> {
    let row = store.rows().get(Table::Record, &key(snapshot))?;
    row.map(|row| decode(&row)).transpose()
}

/// Adds a note to a batch.
pub(crate) fn put(batch: &mut Batch, snapshot: &str, note: &Note) {
    let mut row = Encoder::new();
    let kinds = RecordKind::ALL.iter();
    let kind = kinds.take_while(|kind| **kind != note.about.kind).count();
    row.byte(NOTE_VERSION).byte(kind as u8);
    let description = &note.about.description;
    let ends = (0..=DESCRIPTION_MAX.min(description.len())).rev();
    let end = ends
        .into_iter()
        .find(|end| description.is_char_boundary(*end));
    row.string(&description.as_bytes()[..end.unwrap_or(0)]);
    for time in [note.created, note.last_used] {
        row.signed(time.seconds).number(time.nanoseconds.into());
    }
    row.number(note.uses);
    batch.put(Table::Record, key(snapshot), row.finish());
}

fn decode(bytes: &[u8]) -> store::Result<Note> {
    let mut row = Decoder::new("note of a snapshot", bytes);
    if row.byte()? != NOTE_VERSION {
        return Err(row.error("it has an unknown version"));
    }
    // A kind that a later version adds is treated like most others.
    let kind = RecordKind::ALL.get(usize::from(row.byte()?));
    let about = About {
        kind: kind.copied().unwrap_or_default(),
        description: String::from_utf8_lossy(row.string()?).into_owned(),
    };
    let mut times = [Timestamp::EPOCH; 2];
    for time in &mut times {
        *time = Timestamp {
            seconds: row.signed()?,
            nanoseconds: row.number_u32()?,
        };
    }
    let [created, last_used] = times;
    let uses = row.number()?;
    row.finish()?;
    Ok(Note {
        about,
        created,
        last_used,
        uses,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_and_a_broken_one_is_refused() {
        for kind in RecordKind::ALL {
            let note = Note {
                about: About {
                    kind,
                    description: "é".repeat(DESCRIPTION_MAX),
                },
                created: Timestamp::from_seconds(-1),
                last_used: Timestamp::from_seconds(7),
                uses: 3,
            };
            let mut batch = Batch::new();
            put(&mut batch, "step/x", &note);
            let rows = store::key_value::memory::Memory::default();
            store::KeyValue::write(&rows, batch, store::Durability::Process).unwrap();
            let row = store::KeyValue::get(&rows, Table::Record, &key("step/x")).unwrap();
            let mut read = decode(&row.clone().unwrap()).unwrap();
            assert_eq!(read.about.description, "é".repeat(DESCRIPTION_MAX / 2));
            read.about.description.clone_from(&note.about.description);
            assert_eq!(read, note);
            let row = row.unwrap();
            for end in 0..row.len() {
                assert!(decode(&row[..end]).is_err(), "{end}");
            }
        }
        assert!(key("").len() > 32, "never taken for a cache key");
    }
}
