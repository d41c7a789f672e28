//! What is in the build cache, and what else keeps it.

use std::collections::{HashMap, HashSet};

use snapshotter::catalog::{self, Row, State};
use snapshotter::gc::Accounting;
use snapshotter::leases::{self, Lease, Reference};
use snapshotter::{Manager, cache_mounts, containers};
use store::{BlobId, Looking, Timestamp, TreeId};

use crate::cache::notes::{self, RecordKind};
use crate::error::Result;
use crate::images::{lookups, mounted};

/// Leases that only make later builds faster.
const CACHE_LEASES: [&str; 4] = [
    "record/",
    "layout/",
    lookups::LEASE_PREFIX,
    cache_mounts::PREFIX,
];

/// Leases of builds that run; those of a process that is gone hold nothing.
const BUILD_LEASES: &str = crate::build::LEASE_PREFIX;

/// Leases of names.
const IMAGE_LEASES: &str = "image/";

/// Characters of an id.
const ID_LENGTH: usize = 25;

/// A snapshot as the build cache has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How a person calls it.
    pub id: String,
    /// Key of the snapshot.
    pub snapshot: String,
    /// Id of the one below; empty for none.
    pub parent: String,
    /// The kind of thing.
    pub kind: RecordKind,
    /// What made it.
    pub description: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it, or something above it, was last used.
    pub last_used: Timestamp,
    /// How often it was used.
    pub uses: u64,
    /// Bytes on disk that are its own, see [`crate::gc`].
    pub bytes: u64,
    /// It can still be written to.
    pub is_mutable: bool,
    /// A container, a build or a mount needs it.
    pub is_in_use: bool,
    /// An image needs it, or what is above it.
    pub is_shared: bool,
    /// The leases that keep it for the cache.
    pub leases: Vec<String>,
    /// How many are below it.
    depth: usize,
    parent_key: String,
    tree: Option<TreeId>,
}

impl Entry {
    /// Whether it can be given up.
    pub fn is_reclaimable(&self) -> bool {
        !self.is_in_use && !self.is_shared && !self.is_mutable
    }
}

/// Everything in a store, and who takes what of the disk.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// The build cache, the least recently used last.
    pub entries: Vec<Entry>,
    /// Bytes on disk of what images hold: their files, documents and layers.
    pub image_bytes: u64,
    /// Of what containers of containerd hold.
    pub container_bytes: u64,
    /// Trees and blobs that keep more than snapshots: of leases, by what the lease is for.
    pinned: Vec<Pin>,
}

/// Something that stays whatever becomes of the cache.
#[derive(Clone, Debug)]
struct Pin {
    holder: Holder,
    trees: Vec<TreeId>,
    blobs: Vec<BlobId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Image,
    Container,
}

/// `step/0123…` and `image/sha256:0123…` as 25 digits, as BuildKit's ids are long.
fn id_of(key: &str) -> String {
    let tail = key.rsplit(['/', ':']).next().unwrap_or(key);
    let hex = tail.len() >= ID_LENGTH && tail.chars().all(|c| c.is_ascii_hexdigit());
    match hex {
        true => tail[..ID_LENGTH].to_owned(),
        false => blake3::hash(key.as_bytes()).to_hex()[..ID_LENGTH].to_owned(),
    }
}

/// Looks at everything. Reads every tree once.
///
/// # Errors
/// Those of the store.
pub fn survey(manager: &Manager) -> Result<Survey> {
    let mut survey = gather(manager)?;
    survey.measure(manager, &|_| true)?;
    Ok(survey)
}

/// The entries without their sizes.
pub(super) fn gather(manager: &Manager) -> Result<Survey> {
    let store = manager.store();
    let _looking = Looking::begin();
    let leases = leases::all(store, "")?;
    let rows = catalog::all(store).collect::<snapshotter::Result<Vec<_>>>()?;
    let mut holders: HashMap<&str, Vec<&Lease>> = HashMap::new();
    let mut pinned = Vec::new();
    for lease in &leases {
        let mut pin = Pin {
            holder: Holder::Image,
            trees: Vec::new(),
            blobs: Vec::new(),
        };
        for reference in &lease.references {
            match reference {
                Reference::Snapshot(key) => holders.entry(key).or_default().push(lease),
                Reference::Tree(tree) => pin.trees.push(*tree),
                Reference::Blob(blob) => pin.blobs.push(*blob),
            }
        }
        if !is_of(&CACHE_LEASES, lease) {
            pinned.push(pin);
        }
    }
    let trees = containers::trees(store)?;
    pinned.push(Pin {
        holder: Holder::Container,
        trees: trees.into_iter().map(|tree| tree.id).collect(),
        blobs: Vec::new(),
    });
    let caches = cache_mounts::list(manager)?;
    let claimed = store.freeze().snapshots();
    let mut entries = Vec::new();
    for row in &rows {
        let held = holders.get(row.info.key.as_str());
        let held = held.map_or(&[][..], Vec::as_slice);
        let mut entry = entry(manager, row, held, &caches)?;
        // Something that runs has found it.
        entry.is_in_use |= claimed.contains(&entry.snapshot);
        entries.push(entry);
    }
    spread(&mut entries);
    entries.sort_by(|a, b| {
        let last = b.last_used.cmp(&a.last_used);
        // Of two of one time the one below stays longer.
        last.then_with(|| a.depth.cmp(&b.depth))
            .then_with(|| a.snapshot.cmp(&b.snapshot))
    });
    Ok(Survey {
        entries,
        pinned,
        ..Survey::default()
    })
}

fn is_of(prefixes: &[&str], lease: &Lease) -> bool {
    prefixes.iter().any(|prefix| lease.id.starts_with(prefix))
}

fn entry(
    manager: &Manager,
    row: &Row,
    held: &[&Lease],
    caches: &[cache_mounts::CacheMount],
) -> Result<Entry> {
    let info = &row.info;
    let note = notes::find(manager.store(), &info.key)?.unwrap_or_else(|| notes::Note {
        created: info.created,
        last_used: info.created,
        ..notes::Note::default()
    });
    let mut entry = Entry {
        id: id_of(&info.key),
        snapshot: info.key.clone(),
        parent: match info.parent.as_str() {
            "" => String::new(),
            parent => id_of(parent),
        },
        kind: note.about.kind,
        description: note.about.description,
        created: note.created,
        last_used: note.last_used,
        uses: note.uses,
        bytes: 0,
        is_mutable: false,
        is_in_use: held.iter().any(|lease| lease.id.starts_with(BUILD_LEASES))
            && held.iter().all(|lease| !is_of(&CACHE_LEASES, lease)),
        is_shared: held.iter().any(|lease| lease.id.starts_with(IMAGE_LEASES)),
        leases: Vec::new(),
        depth: 0,
        parent_key: info.parent.clone(),
        tree: row.tree().map(|tree| tree.id),
    };
    let cache = held.iter().filter(|lease| is_of(&CACHE_LEASES, lease));
    entry.leases = cache.map(|lease| lease.id.clone()).collect();
    let identity = info.key.strip_prefix(cache_mounts::PREFIX);
    if let Some(identity) = identity.and_then(|rest| rest.split('/').next()) {
        entry.kind = RecordKind::ExecCacheMount;
        let known = caches
            .iter()
            .find(|one| one.identity.to_string() == identity);
        if let Some(known) = known {
            // An id that is a target begins with a second slash.
            let id = match known.id.strip_prefix("//") {
                Some(rest) => format!("/{rest}"),
                None => known.id.clone(),
            };
            entry.description = format!("cached mount {id}");
            (entry.created, entry.last_used, entry.uses) =
                (known.created, known.last_used, known.uses);
            entry.is_in_use |= known.is_in_use;
        }
    }
    if entry.description.is_empty() && info.key.starts_with("image/") {
        entry.description = "files of an image".to_owned();
    }
    if let State::Open { base, .. } = row.state {
        (entry.is_mutable, entry.is_in_use) = (info.kind == snapshotter::Kind::Active, true);
        entry.tree = base.map(|tree| tree.id);
        entry.description = match info.labels.get(mounted::DIRECTORY) {
            Some(directory) => format!("mounted at {directory}"),
            None => "of a container or a step that runs".to_owned(),
        };
    }
    Ok(entry)
}

/// What is above something keeps it, and using it uses what is below.
fn spread(entries: &mut [Entry]) {
    let places: HashMap<String, usize> = entries
        .iter()
        .enumerate()
        .map(|(place, entry)| (entry.snapshot.clone(), place))
        .collect();
    for start in 0..entries.len() {
        let (used, in_use, shared) = {
            let entry = &entries[start];
            (entry.last_used, entry.is_in_use, entry.is_shared)
        };
        let mut below = entries[start].parent_key.clone();
        let mut depth = 0;
        let mut seen = HashSet::new();
        while let Some(place) = places.get(&below) {
            if !seen.insert(*place) {
                break;
            }
            let entry = &mut entries[*place];
            entry.last_used = entry.last_used.max(used);
            entry.is_in_use |= in_use;
            entry.is_shared |= shared;
            below = entry.parent_key.clone();
            depth += 1;
        }
        entries[start].depth = depth;
    }
}

impl Survey {
    /// Measures, those entries last of which `goes` says so: what they have in common with others
    /// counts as the others'.
    pub(super) fn measure(
        &mut self,
        manager: &Manager,
        goes: &dyn Fn(&Entry) -> bool,
    ) -> Result<()> {
        let mut accounting = Accounting::new(manager.store())?;
        (self.image_bytes, self.container_bytes) = (0, 0);
        for pin in &self.pinned {
            let sum = match pin.holder {
                Holder::Image => &mut self.image_bytes,
                Holder::Container => &mut self.container_bytes,
            };
            for tree in &pin.trees {
                *sum += accounting.tree(*tree)?;
            }
            for blob in &pin.blobs {
                *sum += accounting.blob(*blob)?;
            }
        }
        let is_last = |entry: &Entry| entry.is_reclaimable() && goes(entry);
        for last in [false, true] {
            for entry in self
                .entries
                .iter_mut()
                .filter(|entry| is_last(entry) == last)
            {
                entry.bytes = match entry.tree {
                    Some(tree) => accounting.tree(tree)?,
                    None => 0,
                };
            }
        }
        Ok(())
    }

    /// Bytes on disk of the build cache that nothing else needs.
    pub fn reclaimable(&self) -> u64 {
        let entries = self.entries.iter().filter(|entry| entry.is_reclaimable());
        entries.map(|entry| entry.bytes).sum()
    }

    /// Bytes on disk of all entries.
    pub fn total(&self) -> u64 {
        self.entries.iter().map(|entry| entry.bytes).sum()
    }

    /// The snapshot below an entry, if there is one.
    pub(super) fn below(entry: &Entry) -> Option<String> {
        (!entry.parent_key.is_empty()).then(|| entry.parent_key.clone())
    }
}
