//! Deltas and bytes by chance: what is packed is read back as it was, and no bytes make us panic.

use std::collections::BTreeMap;
use std::io;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use store::fixtures::MemoryTrees;
use store::{
    BlobId, Content, Delta, DeltaDirectory, DeltaEntry, Leaf, LinkId, Metadata, Name, RelPath,
    Timestamp,
};

use super::literal::{Tar, metadata};
use crate::archive::{BLOCK, Kind};
use crate::compress::Encoding;
use crate::error::Error;
use crate::limits::Limits;
use crate::pack::{BlobSource, PackOptions, pack, pack_layer};
use crate::unpack::inspect;

/// Contents by their ids.
#[derive(Debug, Default)]
pub(super) struct MemoryBlobs(pub(super) BTreeMap<BlobId, Vec<u8>>);

impl MemoryBlobs {
    pub(super) fn put(&mut self, content: &[u8]) -> Content {
        let blob = BlobId::of(content);
        self.0.insert(blob, content.to_vec());
        Content::File {
            blob,
            size: content.len() as u64,
        }
    }
}

impl BlobSource for MemoryBlobs {
    fn read_blob(
        &self,
        id: BlobId,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> store::Result<u64> {
        let content = self.0.get(&id).ok_or(store::Error::BlobMissing { id })?;
        for piece in content.chunks(1_000) {
            sink(piece).map_err(|e| store::Error::io("copy", "memory", e))?;
        }
        Ok(content.len() as u64)
    }
}

/// Failures are printed; files of them would have to be looked after.
fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn any_name() -> impl Strategy<Value = Name> {
    prop_oneof![
        8 => "[a-f]{1,2}".prop_map(String::into_bytes),
        2 => vec(any::<u8>(), 1..8),
        1 => "[a-z]{90,250}".prop_map(String::into_bytes),
        1 => "[äöü☃]{1,3}".prop_map(String::into_bytes),
    ]
    .prop_filter_map("no file name", |bytes| Name::new(&bytes).ok())
    .prop_filter("a deletion mark", |name| {
        !name.as_bytes().starts_with(b".wh.")
    })
}

fn any_metadata() -> impl Strategy<Value = Metadata> {
    let id = || prop_oneof![Just(0), 0..u32::MAX, Just(2_097_151), Just(2_097_152)];
    let seconds = prop_oneof![4 => 0i64..2_000_000_000, 1 => any::<i64>(), 1 => -10i64..10];
    let nanoseconds = prop_oneof![Just(0), 0u32..1_000_000_000];
    let value = vec(any::<u8>(), 0..20).prop_map(Vec::into_boxed_slice);
    let name = "user\\.[a-z%.]{1,8}".prop_map(|name| name.into_bytes().into_boxed_slice());
    let xattrs = btree_map(name, value, 0..3);
    (0u16..=0o7777, id(), id(), seconds, nanoseconds, xattrs).prop_map(
        |(mode, uid, gid, seconds, nanoseconds, xattrs)| {
            let mtime = Timestamp {
                seconds,
                nanoseconds,
            };
            Metadata {
                mode,
                uid,
                gid,
                mtime,
                xattrs,
            }
        },
    )
}

fn any_content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..10),
        (0usize..3_000).prop_map(|length| vec![7; length])
    ]
}

/// A leaf, for a file with its content.
fn any_leaf() -> impl Strategy<Value = (Leaf, Option<Vec<u8>>)> {
    let device = || (0u32..4_096, 1u32..1 << 20);
    let target = vec(1u8.., 1..200).prop_map(Vec::into_boxed_slice);
    let content = prop_oneof![
        6 => any_content().prop_map(|content| {
            let (blob, size) = (BlobId::of(&content), content.len() as u64);
            (Content::File { blob, size }, Some(content))
        }),
        2 => target.prop_map(|target| (Content::Symlink { target }, None)),
        1 => device().prop_map(|(major, minor)| (Content::CharDevice { major, minor }, None)),
        1 => device().prop_map(|(major, minor)| (Content::BlockDevice { major, minor }, None)),
        1 => Just((Content::Fifo, None)),
    ];
    (any_metadata(), content).prop_map(|(mut metadata, (content, bytes))| {
        if matches!(content, Content::Symlink { .. }) {
            metadata.mode = 0o777;
        }
        let link = None;
        (
            Leaf {
                metadata,
                content,
                link,
            },
            bytes,
        )
    })
}

/// What can be done to a delta.
#[derive(Clone, Debug)]
enum Change {
    Leaf(Leaf, Option<Vec<u8>>),
    /// One more name for the leaf that is so far in the list.
    Link(prop::sample::Index),
    Lower,
    Whiteout,
    Directory(Metadata, bool),
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => any_leaf().prop_map(|(leaf, content)| Change::Leaf(leaf, content)),
        3 => any::<prop::sample::Index>().prop_map(Change::Link),
        1 => Just(Change::Lower),
        2 => Just(Change::Whiteout),
        3 => (any_metadata(), any::<bool>()).prop_map(|(m, opaque)| Change::Directory(m, opaque)),
    ]
}

/// Makes the directories of the path; a leaf on the way is replaced.
fn directory<'d>(delta: &'d mut Delta, path: &[Name]) -> &'d mut DeltaDirectory {
    path.iter().fold(&mut delta.root, |directory, name| {
        let empty = || DeltaEntry::Directory(DeltaDirectory::default());
        let entry = directory.entries.entry(name.clone()).or_insert_with(empty);
        if !matches!(entry, DeltaEntry::Directory(_)) {
            *entry = empty();
        }
        match entry {
            DeltaEntry::Directory(child) => child,
            _ => unreachable!(),
        }
    })
}

fn build(changes: Vec<(Vec<Name>, Change)>, root: Option<Metadata>) -> (Delta, MemoryBlobs) {
    let (mut delta, mut blobs) = (Delta::default(), MemoryBlobs::default());
    let mut leaves: Vec<Leaf> = Vec::new();
    for (path, change) in changes {
        let (name, parent) = path.split_last().unwrap();
        let directory = directory(&mut delta, parent);
        let entry = match change {
            Change::Leaf(mut leaf, content) => {
                content.map(|content| blobs.put(&content));
                leaf.link = Some(LinkId::derive(b"test", &leaves.len().to_le_bytes()));
                leaves.push(leaf.clone());
                DeltaEntry::Leaf(leaf)
            }
            Change::Link(_) if leaves.is_empty() => continue,
            Change::Link(index) => DeltaEntry::Leaf(index.get(&leaves).clone()),
            Change::Lower => DeltaEntry::Link(RelPath::strict(b"lower/\xfffile").unwrap()),
            Change::Whiteout => DeltaEntry::Whiteout,
            Change::Directory(metadata, opaque) => {
                let mut child = match directory.entries.remove(name) {
                    Some(DeltaEntry::Directory(child)) => child,
                    _ => DeltaDirectory::default(),
                };
                child.metadata = Some(metadata);
                child.opaque = opaque;
                DeltaEntry::Directory(child)
            }
        };
        directory.entries.insert(name.clone(), entry);
    }
    delta.root.metadata = root;
    (delta, blobs)
}

/// Every directory on the way to something is in the tar; one with neither attributes nor entries
/// is not, so the tests have none.
fn prune(directory: &mut DeltaDirectory) {
    directory.entries.retain(|_, entry| match entry {
        DeltaEntry::Directory(child) => {
            prune(child);
            child.opaque || child.metadata.is_some() || !child.entries.is_empty()
        }
        _ => true,
    });
}

/// Numbers the link groups in the order in which they are met, and drops those of one name.
fn renumber(delta: &Delta) -> Delta {
    fn each(directory: &mut DeltaDirectory, visit: &mut dyn FnMut(&mut Leaf)) {
        for entry in directory.entries.values_mut() {
            match entry {
                DeltaEntry::Directory(child) => each(child, visit),
                DeltaEntry::Leaf(leaf) => visit(leaf),
                _ => {}
            }
        }
    }
    let mut delta = delta.clone();
    let mut groups: BTreeMap<LinkId, (usize, LinkId)> = BTreeMap::new();
    each(&mut delta.root, &mut |leaf| {
        if let Some(link) = leaf.link {
            let next = LinkId::derive(b"number", &groups.len().to_le_bytes());
            groups.entry(link).or_insert((0, next)).0 += 1;
        }
    });
    each(&mut delta.root, &mut |leaf| {
        let group = leaf.link.map(|link| groups[&link]);
        leaf.link = group.and_then(|(names, number)| (names > 1).then_some(number));
    });
    // Groups that were dropped took numbers, too.
    let mut order = BTreeMap::new();
    each(&mut delta.root, &mut |leaf| {
        if let Some(link) = leaf.link {
            let next = LinkId::derive(b"order", &order.len().to_le_bytes());
            leaf.link = Some(*order.entry(link).or_insert(next));
        }
    });
    delta
}

fn any_delta() -> impl Strategy<Value = (Delta, MemoryBlobs)> {
    let change = (vec(any_name(), 1..4), any_change());
    (vec(change, 0..25), proptest::option::of(any_metadata())).prop_map(|(changes, root)| {
        let (mut delta, blobs) = build(changes, root);
        prune(&mut delta.root);
        (delta, blobs)
    })
}

fn packed(delta: &Delta, blobs: &MemoryBlobs) -> Vec<u8> {
    let mut tar = Vec::new();
    pack(
        delta,
        &MemoryTrees::new(),
        blobs,
        &PackOptions::default(),
        &mut tar,
    )
    .unwrap();
    tar
}

proptest! {
    #![proptest_config(config(192))]

    #[test]
    fn a_packed_delta_is_read_as_it_was((delta, blobs) in any_delta()) {
        let tar = packed(&delta, &blobs);
        let unpacked = inspect(&tar[..], &Limits::default()).unwrap();
        prop_assert_eq!(renumber(&unpacked.delta), renumber(&delta));
        prop_assert_eq!(&unpacked.warnings, &Vec::<String>::new());
        // And so on for ever: from here even the link groups stay.
        let again = packed(&unpacked.delta, &blobs);
        prop_assert!(again == tar, "packing what was read gives another tar");
        prop_assert_eq!(inspect(&again[..], &Limits::default()).unwrap().delta, unpacked.delta);
    }

    #[test]
    fn a_layer_is_the_same_in_every_compression((delta, blobs) in any_delta()) {
        let tar = packed(&delta, &blobs);
        for encoding in [Encoding::PLAIN, Encoding::GZIP, Encoding::ZSTD] {
            let mut layer = Vec::new();
            let trees = MemoryTrees::new();
            let options = PackOptions::default();
            let packed = pack_layer(&delta, &trees, &blobs, &options, encoding, &mut layer);
            let packed = packed.unwrap();
            prop_assert_eq!(packed.diff_id, crate::Digest::of(&tar));
            prop_assert_eq!(packed.digest, crate::Digest::of(&layer));
            prop_assert_eq!((packed.size, packed.tar_size), (layer.len() as u64, tar.len() as u64));
            let unpacked = inspect(&layer[..], &Limits::default()).unwrap();
            prop_assert_eq!(unpacked.compression, encoding.compression());
            prop_assert_eq!((unpacked.digest, unpacked.diff_id), (packed.digest, packed.diff_id));
            prop_assert_eq!((unpacked.size, unpacked.entries), (packed.size, packed.entries));
        }
    }
}

/// Limits under which no bytes of a test take long.
fn narrow() -> Limits {
    Limits {
        hole_bytes_max: 1 << 20,
        tar_bytes_max: 1 << 22,
        ..Limits::default()
    }
}

/// One tar with everything in it, to be damaged.
fn corpus() -> Vec<u8> {
    let sparse: &[(&str, &[u8])] = &[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"1,2,5,3")];
    let inside: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"10"),
    ];
    Tar::new()
        .directory("./", 0o755)
        .extended(b'g', &[("comment", b"x")])
        .extended(
            b'x',
            &[
                ("path", b"long/name"),
                ("mtime", b"-1.5"),
                ("SCHILY.xattr.user.a", b"b"),
            ],
        )
        .file("a", "one")
        .link("b", "long/name")
        .link("c", "d")
        .link("d", "e")
        .file("e", "two")
        .symlink("s", "../long")
        .file("s/t", "three")
        .file("s/.wh.u", "")
        .file("s/.wh..wh..opq", "")
        .entry("null", Kind::CharDevice(1, 3), &metadata(0o666))
        .extended(b'x', sparse)
        .file("sparse", "abcde")
        .extended(b'x', inside)
        .file("inside", &format!("1\n1\n2\n{}ab", "\0".repeat(506)))
        .special(b'L', b"a/long/name\0")
        .file("f", "four")
        .ended()
}

/// Reads the bytes; whatever comes of it, it comes soon and without a panic.
fn read(bytes: &[u8]) {
    match inspect(bytes, &narrow()) {
        Ok(unpacked) => assert_eq!(unpacked.digest, crate::Digest::of(bytes)),
        Err(error) => assert!(error.is_bad_layer(), "{error}"),
    }
}

/// Makes the checksums right again, so that damage gets further than the first header.
fn reseal(tar: &mut [u8]) {
    for block in tar.chunks_exact_mut(BLOCK) {
        let block: &mut [u8; BLOCK] = block.try_into().unwrap();
        if &block[257..262] == b"ustar" {
            let sum = format!("{:06o}\0 ", crate::archive::header::checksum(block));
            block[148..156].copy_from_slice(sum.as_bytes());
        }
    }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn arbitrary_bytes_never_panic_the_reader(bytes in vec(any::<u8>(), 0..3_000)) {
        read(&bytes);
        for magic in [&b"\x1f\x8b\x08\0\0\0\0\0\0\xff"[..], b"\x28\xb5\x2f\xfd"] {
            read(&[magic, &bytes].concat());
        }
    }

    #[test]
    fn a_damaged_tar_never_panics_the_reader(
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut tar = corpus();
        for (position, value) in damage {
            *position.get_mut(&mut tar[..]) = value;
        }
        read(&tar);
        reseal(&mut tar);
        read(&tar);
        read(&tar[..cut.index(tar.len())]);
    }

    #[test]
    fn blocks_in_any_order_never_panic_the_reader(
        order in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..6),
    ) {
        let tar = corpus();
        let mut blocks: Vec<&[u8]> = tar.chunks_exact(BLOCK).collect();
        for (a, b) in order {
            let (a, b) = (a.index(blocks.len()), b.index(blocks.len()));
            blocks.swap(a, b);
        }
        read(&blocks.concat());
    }
}

#[test]
fn the_corpus_itself_is_read() {
    inspect(&corpus()[..], &narrow()).unwrap();
}

#[test]
fn the_reason_of_a_failed_writer_is_kept() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut blobs = MemoryBlobs::default();
    let content = blobs.put(&[1; 5_000_000]);
    let leaf = Leaf {
        metadata: metadata(0o644),
        content,
        link: None,
    };
    let entries = BTreeMap::from([(Name::new(b"a").unwrap(), DeltaEntry::Leaf(leaf))]);
    let root = DeltaDirectory {
        metadata: None,
        opaque: false,
        entries,
    };
    let (delta, trees, options) = (Delta { root }, MemoryTrees::new(), PackOptions::default());
    for encoding in [Encoding::PLAIN, Encoding::GZIP, Encoding::ZSTD] {
        let error = pack_layer(&delta, &trees, &blobs, &options, encoding, Full).unwrap_err();
        assert!(
            matches!(error, Error::Write { .. }) && error.is_no_space(),
            "{error}"
        );
    }
    let error = pack(&delta, &trees, &blobs, &options, &mut Full).unwrap_err();
    assert!(error.is_no_space(), "{error}");
}
