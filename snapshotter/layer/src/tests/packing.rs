//! What a packed layer looks like, entry by entry, and that it does what the delta does.

use std::collections::BTreeMap;

use store::fixtures::MemoryTrees;
use store::{
    Content, Delta, DeltaDirectory, DeltaEntry, Entry, Leaf, LinkId, Metadata, Name, RelPath,
    Timestamp, Tree, TreeRef, TreeSink,
};

use super::delta_text::text;
use super::literal::metadata;
use super::random::MemoryBlobs;
use crate::compress::Encoding;
use crate::digest::Digest;
use crate::error::Error;
use crate::limits::Limits;
use crate::pack::{Below, PackOptions, pack, pack_layer};
use crate::unpack::inspect;

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn leaf(content: Content) -> Leaf {
    Leaf {
        metadata: metadata(0o644),
        content,
        link: None,
    }
}

fn directory<const N: usize>(mode: u16, entries: [(&str, DeltaEntry); N]) -> DeltaDirectory {
    let entries = entries.map(|(text, entry)| (name(text), entry)).into();
    DeltaDirectory {
        metadata: Some(metadata(mode)),
        opaque: false,
        entries,
    }
}

fn delta<const N: usize>(entries: [(&str, DeltaEntry); N]) -> Delta {
    Delta {
        root: DeltaDirectory {
            metadata: None,
            ..directory(0, entries)
        },
    }
}

fn tree<const N: usize>(trees: &MemoryTrees, mode: u16, entries: [(&str, Entry); N]) -> TreeRef {
    let entries = entries.map(|(text, entry)| (name(text), entry)).into();
    trees
        .put_tree(Tree {
            metadata: metadata(mode),
            entries,
        })
        .unwrap()
}

fn packed(
    delta: &Delta,
    trees: &MemoryTrees,
    blobs: &MemoryBlobs,
    options: &PackOptions,
) -> Vec<u8> {
    let mut tar = Vec::new();
    pack(delta, trees, blobs, options, &mut tar).unwrap();
    tar
}

/// Names in the order of the tar, as another reader sees them.
fn names(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap();
    entries
        .map(|e| String::from_utf8_lossy(&e.unwrap().path_bytes()).into_owned())
        .collect()
}

#[test]
fn entries_stand_in_the_order_that_containerd_writes() {
    let mut blobs = MemoryBlobs::default();
    let file = leaf(blobs.put(b"x"));
    let opaque = DeltaDirectory {
        opaque: true,
        ..directory(
            0o755,
            [
                ("!", DeltaEntry::Leaf(file.clone())),
                ("z", DeltaEntry::Whiteout),
            ],
        )
    };
    let delta = Delta {
        root: directory(
            0o755,
            [
                ("b", DeltaEntry::Directory(opaque)),
                ("b-a", DeltaEntry::Leaf(file.clone())),
                ("a", DeltaEntry::Whiteout),
                ("B", DeltaEntry::Leaf(file)),
                ("c", DeltaEntry::Link(RelPath::strict(b"usr/c").unwrap())),
            ],
        ),
    };
    let tar = packed(&delta, &MemoryTrees::new(), &blobs, &PackOptions::default());
    let expected = [
        "./",
        "B",
        ".wh.a",
        "b/",
        "b/.wh..wh..opq",
        "b/!",
        "b/.wh.z",
        "b-a",
        "c",
    ];
    assert_eq!(names(&tar), expected);
}

#[test]
fn the_bytes_are_those_of_gos_writer() {
    let mut blobs = MemoryBlobs::default();
    let attributes = Metadata {
        mode: 0o4755,
        uid: 3_000_000,
        gid: 100,
        mtime: Timestamp {
            seconds: -2,
            nanoseconds: 250_000_000,
        },
        xattrs: BTreeMap::from([(b"user.a"[..].into(), b"\x01\0\n"[..].into())]),
    };
    let file = Leaf {
        metadata: attributes,
        content: blobs.put(b"hello"),
        link: None,
    };
    let link = leaf(Content::Symlink {
        target: "ziel/für/alle".as_bytes().into(),
    });
    let device = leaf(Content::CharDevice { major: 1, minor: 3 });
    let mut inner = directory(0o755, [("file", DeltaEntry::Leaf(file))]);
    for _ in 0..30 {
        inner = directory(0o755, [("directory", DeltaEntry::Directory(inner))]);
    }
    inner.entries.insert(name("ä"), DeltaEntry::Leaf(link));
    inner.entries.insert(name("null"), DeltaEntry::Leaf(device));
    let delta = Delta {
        root: DeltaDirectory {
            metadata: None,
            ..inner
        },
    };
    let tar = packed(&delta, &MemoryTrees::new(), &blobs, &PackOptions::default());
    // Written once with Go 1.26's archive/tar, FormatPAX, from the same entries.
    let expected = "sha256:2a205e28509581ec7bc48982f5cf27bc994eff2e88b45c9f34c97ffafe4b16f2";
    assert_eq!(Digest::of(&tar).to_string(), expected);
}

#[test]
fn the_first_name_of_an_inode_has_its_content() {
    let mut blobs = MemoryBlobs::default();
    let mut file = leaf(blobs.put(b"one"));
    file.link = Some(LinkId::derive(b"", b"1"));
    let inner = directory(0o755, [("a", DeltaEntry::Leaf(file.clone()))]);
    let delta = delta([
        ("b", DeltaEntry::Leaf(file.clone())),
        ("a", DeltaEntry::Directory(inner)),
    ]);
    let tar = packed(&delta, &MemoryTrees::new(), &blobs, &PackOptions::default());
    let mut archive = tar::Archive::new(&tar[..]);
    let kinds = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        (
            entry.header().entry_type(),
            entry.link_name_bytes().map(|name| name.into_owned()),
        )
    });
    let expected = [
        (tar::EntryType::Directory, None),
        (tar::EntryType::Regular, None),
        (tar::EntryType::Link, Some(b"a/a".to_vec())),
    ];
    assert_eq!(kinds.collect::<Vec<_>>(), expected);
}

#[test]
fn members_of_a_link_group_that_differ_are_packed_apart() {
    let mut blobs = MemoryBlobs::default();
    let link = Some(LinkId::derive(b"", b"1"));
    let one = Leaf {
        link,
        ..leaf(blobs.put(b"one"))
    };
    let two = Leaf {
        link,
        ..leaf(blobs.put(b"two"))
    };
    let delta = delta([("a", DeltaEntry::Leaf(one)), ("b", DeltaEntry::Leaf(two))]);
    let tar = packed(&delta, &MemoryTrees::new(), &blobs, &PackOptions::default());
    let unpacked = inspect(&tar[..], &Limits::default()).unwrap();
    let expected = "/ dir -\n/a file \"one\" 644\n/b file \"two\" 644\n";
    assert_eq!(text(&unpacked.delta, &["one", "two"]), expected);
}

#[test]
fn grafted_trees_are_packed_whole() {
    let (trees, mut blobs) = (MemoryTrees::new(), MemoryBlobs::default());
    let mut linked = leaf(blobs.put(b"one"));
    linked.link = Some(LinkId::derive(b"", b"1"));
    let inner = tree(&trees, 0o700, [("x", Entry::Leaf(linked.clone()))]);
    let outer = tree(
        &trees,
        0o711,
        [
            ("d", Entry::Directory(inner)),
            ("e", Entry::Leaf(linked)),
            ("f", Entry::Leaf(leaf(Content::Fifo))),
        ],
    );
    let delta = delta([("g", DeltaEntry::Graft(outer))]);
    let options = PackOptions {
        below: Below::Nothing,
        ..PackOptions::default()
    };
    let tar = packed(&delta, &trees, &blobs, &options);
    let unpacked = inspect(&tar[..], &Limits::default()).unwrap();
    assert_eq!(
        text(&unpacked.delta, &["one"]),
        "/ dir -\n/g/ dir 711\n/g/d/ dir 700\n/g/d/x file \"one\" 644 linked\n\
         /g/e file \"one\" 644 linked\n/g/f fifo 644\n"
    );
}

#[test]
fn a_graft_hides_the_directory_below_it_and_is_marked_only_then() {
    let (trees, blobs) = (MemoryTrees::new(), MemoryBlobs::default());
    let fifo = || Entry::Leaf(leaf(Content::Fifo));
    let new = tree(&trees, 0o700, [("new", fifo())]);
    let old = tree(&trees, 0o700, [("old", fifo())]);
    let base = tree(
        &trees,
        0o755,
        [("dir", Entry::Directory(old)), ("leaf", fifo())],
    );
    let graft = DeltaEntry::Graft(new);
    let delta = delta([
        ("absent", graft.clone()),
        ("dir", graft.clone()),
        ("leaf", graft),
    ]);
    let marks = |below| {
        let options = PackOptions {
            below,
            ..PackOptions::default()
        };
        let tar = packed(&delta, &trees, &blobs, &options);
        let marked = names(&tar)
            .into_iter()
            .filter(|name| name.ends_with(".wh..wh..opq"));
        let marked: Vec<_> = marked
            .map(|name| name.replace("/.wh..wh..opq", ""))
            .collect();
        // Whatever marks there are: on this base the layer does what the delta does.
        let unpacked = inspect(&tar[..], &Limits::default()).unwrap();
        if below != Below::Nothing {
            let applied = unpacked.delta.apply(Some(base), &trees).unwrap();
            assert_eq!(applied, delta.apply(Some(base), &trees).unwrap());
        }
        marked
    };
    assert_eq!(marks(Below::Unknown), ["absent", "dir", "leaf"]);
    assert_eq!(marks(Below::Tree(base)), ["dir"]);
    assert_eq!(marks(Below::Nothing), Vec::<String>::new());
}

#[test]
fn a_directory_of_which_only_the_time_is_another_is_no_change() {
    let (trees, blobs) = (MemoryTrees::new(), MemoryBlobs::default());
    let base = tree(&trees, 0o755, []);
    let base = tree(&trees, 0o755, [("tmp", Entry::Directory(base))]);
    let later = |mode, entries| {
        let mut later = directory::<1>(mode, entries);
        later.metadata.as_mut().unwrap().mtime = Timestamp::from_seconds(9);
        later
    };
    let fifo = [("f", DeltaEntry::Leaf(leaf(Content::Fifo)))];
    let names_of = |root: DeltaDirectory, below| {
        let options = PackOptions {
            below,
            ..PackOptions::default()
        };
        names(&packed(&Delta { root }, &trees, &blobs, &options))
    };
    let empty = |mode| DeltaDirectory {
        entries: BTreeMap::new(),
        ..later(mode, fifo.clone())
    };
    let with_tmp = |tmp| later(0o755, [("tmp", DeltaEntry::Directory(tmp))]);
    let below = Below::Tree(base);
    assert_eq!(
        names_of(with_tmp(empty(0o755)), below),
        Vec::<String>::new()
    );
    assert_eq!(names_of(with_tmp(empty(0o700)), below), ["tmp/"]);
    let fifo = [("f", DeltaEntry::Leaf(leaf(Content::Fifo)))];
    assert_eq!(
        names_of(with_tmp(later(0o755, fifo.clone())), below),
        ["tmp/", "tmp/f"]
    );
    // On nothing, a root is as usual or not; what lies there is not known otherwise.
    assert_eq!(names_of(later(0o755, fifo.clone()), Below::Nothing), ["f"]);
    assert_eq!(
        names_of(later(0o700, fifo.clone()), Below::Nothing),
        ["./", "f"]
    );
    assert_eq!(names_of(later(0o755, fifo), Below::Unknown), ["./", "f"]);
    assert_eq!(
        names_of(with_tmp(empty(0o755)), Below::Unknown),
        ["./", "tmp/"]
    );
}

#[test]
fn a_link_to_a_lower_file_has_the_attributes_of_that_file() {
    let (trees, mut blobs) = (MemoryTrees::new(), MemoryBlobs::default());
    let mut file = leaf(blobs.put(b"one"));
    file.metadata.mode = 0o4750;
    file.metadata.uid = 7;
    let usr = tree(&trees, 0o755, [("f", Entry::Leaf(file))]);
    let base = tree(&trees, 0o755, [("usr", Entry::Directory(usr))]);
    let delta = delta([("l", DeltaEntry::Link(RelPath::strict(b"usr/f").unwrap()))]);
    for (below, expected) in [
        (Below::Tree(base), (0o4750, 7)),
        (Below::Unknown, (0o644, 0)),
    ] {
        let options = PackOptions {
            below,
            ..PackOptions::default()
        };
        let tar = packed(&delta, &trees, &blobs, &options);
        let mut archive = tar::Archive::new(&tar[..]);
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        let header = entry.header();
        assert_eq!((header.mode().unwrap(), header.uid().unwrap()), expected);
        assert_eq!(entry.link_name_bytes().unwrap()[..], b"usr/f"[..]);
    }
}

#[test]
fn mtimes_are_clamped_from_above() {
    let times = [(-5, 1), (99, 999_999_999), (100, 0), (100, 1), (2_000, 5)];
    let entries = times.map(|(seconds, nanoseconds)| {
        let mut leaf = leaf(Content::Fifo);
        leaf.metadata.mtime = Timestamp {
            seconds,
            nanoseconds,
        };
        (
            Name::new(format!("{seconds}.{nanoseconds}").as_bytes()).unwrap(),
            DeltaEntry::Leaf(leaf),
        )
    });
    let root = DeltaDirectory {
        entries: entries.into(),
        ..DeltaDirectory::default()
    };
    let options = PackOptions {
        clamp_mtime: Some(100),
        ..PackOptions::default()
    };
    let tar = packed(
        &Delta { root },
        &MemoryTrees::new(),
        &MemoryBlobs::default(),
        &options,
    );
    let unpacked = inspect(&tar[..], &Limits::default()).unwrap();
    for ((seconds, nanoseconds), expected) in
        times
            .into_iter()
            .zip([(-5, 1), (99, 999_999_999), (100, 0), (100, 0), (100, 0)])
    {
        let entry = &unpacked.delta.root.entries[&name(&format!("{seconds}.{nanoseconds}"))];
        let DeltaEntry::Leaf(leaf) = entry else {
            panic!("{entry:?}")
        };
        let mtime = leaf.metadata.mtime;
        assert_eq!((mtime.seconds, mtime.nanoseconds), expected);
    }
}

#[test]
fn sockets_are_left_out_and_told() {
    let (trees, blobs) = (MemoryTrees::new(), MemoryBlobs::default());
    let link = Some(LinkId::derive(b"", b"1"));
    let socket = DeltaEntry::Leaf(Leaf {
        link,
        ..leaf(Content::Socket)
    });
    let run = directory(0o755, [("s", socket.clone()), ("t", socket)]);
    let delta = delta([("run", DeltaEntry::Directory(run))]);
    let mut layer = Vec::new();
    let options = PackOptions::default();
    let packed = pack_layer(&delta, &trees, &blobs, &options, Encoding::GZIP, &mut layer).unwrap();
    assert_eq!(
        (packed.entries, &packed.skipped[..]),
        (1, &["/run/s".to_owned(), "/run/t".into()][..])
    );
}

#[test]
fn what_a_layer_cannot_say_is_refused_by_name() {
    let mut blobs = MemoryBlobs::default();
    let Content::File { blob, .. } = blobs.put(b"one") else {
        panic!("a file is a file")
    };
    let size = |size| DeltaEntry::Leaf(leaf(Content::File { blob, size }));
    let mut attribute = leaf(Content::Fifo);
    attribute
        .metadata
        .xattrs
        .insert(b"user.a=b"[..].into(), b"c"[..].into());
    for (file, entry, word) in [
        (".wh.a", DeltaEntry::Leaf(leaf(Content::Fifo)), "deletions"),
        (
            ".wh..wh..opq",
            DeltaEntry::Leaf(leaf(Content::Fifo)),
            "deletions",
        ),
        (
            ".wh.d",
            DeltaEntry::Directory(directory(0, [])),
            "deletions",
        ),
        ("short", size(4), "shorter"),
        ("long", size(2), "longer"),
        ("empty", size(0), "longer"),
        (
            "attribute",
            DeltaEntry::Leaf(attribute),
            "extended attribute",
        ),
        (
            "device",
            DeltaEntry::Leaf(leaf(Content::BlockDevice {
                major: 1,
                minor: 1 << 21,
            })),
            "too large",
        ),
    ] {
        let delta = delta([(file, entry)]);
        let mut tar = Vec::new();
        let trees = MemoryTrees::new();
        let error = pack(&delta, &trees, &blobs, &PackOptions::default(), &mut tar).unwrap_err();
        assert!(matches!(error, Error::Unpackable { .. }), "{file}: {error}");
        let error = error.to_string();
        assert!(
            error.contains(word) && error.contains(&format!("/{file} ")),
            "{file}: {error}"
        );
    }
}

#[test]
fn a_missing_content_is_the_stores_error() {
    let mut elsewhere = MemoryBlobs::default();
    let delta = delta([("a", DeltaEntry::Leaf(leaf(elsewhere.put(b"one"))))]);
    let (trees, blobs) = (MemoryTrees::new(), MemoryBlobs::default());
    let error = pack(
        &delta,
        &trees,
        &blobs,
        &PackOptions::default(),
        &mut Vec::new(),
    )
    .unwrap_err();
    assert!(
        matches!(error, Error::Store(store::Error::BlobMissing { .. })),
        "{error}"
    );
}
