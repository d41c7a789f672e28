//! Layers read into a store: what is there afterwards, and what is not.

use store::{Batch, BlobId, DeltaEntry, Name};

use super::hostile::compressed;
use super::literal::Tar;
use crate::compress::Encoding;
use crate::digest::Digest;
use crate::error::Error;
use crate::limits::Limits;
use crate::pack::{PackOptions, pack};
use crate::unpack::{inspect, unpack, unpack_verified};

#[test]
fn contents_of_any_length_are_stored_once() {
    let root = tempfile::tempdir().unwrap();
    let store = store::fixtures::memory_store(root.path());
    let contents: Vec<String> = [0, 1, 511, 512, 131_072, 131_073, 700_000]
        .map(|length| "x".repeat(length))
        .into();
    let mut tar = Tar::new();
    for copy in ["a", "b"] {
        for content in &contents {
            tar = tar.file(&format!("{copy}{}", content.len()), content);
        }
    }
    let tar = tar.ended();
    let ingest = store.begin();
    let unpacked = unpack(&tar[..], &ingest, &Limits::default()).unwrap();
    assert_eq!(
        unpacked.delta,
        inspect(&tar[..], &Limits::default()).unwrap().delta
    );
    unpacked.delta.apply(None, &ingest).unwrap();
    ingest.commit(Batch::new()).unwrap();
    for content in &contents {
        let id = BlobId::of(content.as_bytes());
        assert_eq!(store.objects().read_all(id).unwrap(), content.as_bytes());
    }
}

#[test]
fn a_layer_whose_reader_knows_its_digest_is_read_as_any_other() {
    let root = tempfile::tempdir().unwrap();
    let store = store::fixtures::memory_store(root.path());
    let tar = Tar::new().file("a", "a text").ended();
    for encoding in [Encoding::PLAIN, Encoding::GZIP, Encoding::ZSTD] {
        let layer = compressed(encoding, &tar[..]);
        let known = Digest::of(&layer);
        let limits = Limits::default();
        let read = unpack_verified(&layer[..], known, &store.begin(), &limits).unwrap();
        let other = unpack(&layer[..], &store.begin(), &limits).unwrap();
        assert_eq!(read.delta, other.delta);
        assert_eq!((read.digest, read.size), (known, layer.len() as u64));
        assert_eq!((read.diff_id, read.size), (other.diff_id, other.size));
    }
}

#[test]
fn the_name_that_redirects_go_through_is_refused_in_every_way() {
    let root = tempfile::tempdir().unwrap();
    let store = store::fixtures::memory_store(root.path());
    let nonce = store.objects().nonce();
    for tar in [
        Tar::new().file(&format!("{nonce}/ab/cd"), "x"),
        Tar::new().file(nonce, "x"),
        Tar::new().directory(&format!("/./{nonce}/"), 0o755),
        Tar::new().file(&format!(".wh.{nonce}"), ""),
        Tar::new().file("a", "x").link(nonce, "a"),
        Tar::new().symlink(nonce, "/etc"),
        Tar::new()
            .symlink("a", &format!("/{nonce}"))
            .file("a/b", "x"),
    ] {
        let ingest = store.begin();
        let error = unpack(&tar.ended()[..], &ingest, &Limits::default()).unwrap_err();
        assert!(
            matches!(&error, Error::Entry { .. }) && error.is_bad_layer(),
            "{error}"
        );
    }
    let ingest = store.begin();
    let tar = Tar::new().file(&format!("a/{nonce}/b"), "x").ended();
    let unpacked = unpack(&tar[..], &ingest, &Limits::default()).unwrap();
    assert!(matches!(
        unpacked.delta.root.entries.get(&Name::new(b"a").unwrap()),
        Some(DeltaEntry::Directory(_))
    ));
}

#[test]
fn nothing_of_a_refused_layer_can_be_seen() {
    let root = tempfile::tempdir().unwrap();
    let store = store::fixtures::memory_store(root.path());
    let large = "x".repeat(300_000);
    let tar = Tar::new()
        .file("a", "small")
        .file("b", &large)
        .file("../c", "")
        .ended();
    let ingest = store.begin();
    unpack(&tar[..], &ingest, &Limits::default()).unwrap_err();
    drop(ingest);
    for content in ["small", &large] {
        assert_eq!(
            store.blob_size(BlobId::of(content.as_bytes())).unwrap(),
            None
        );
    }
    assert_eq!(
        std::fs::read_dir(root.path().join("ingest"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_store_that_cannot_be_written_stops_the_reading() {
    let root = tempfile::tempdir().unwrap();
    let store = store::fixtures::memory_store(root.path());
    for directory in ["ingest", "objects"] {
        std::fs::remove_dir_all(root.path().join(directory)).unwrap();
    }
    let files = (0..500).fold(Tar::new(), |tar, i| {
        tar.file(&i.to_string(), &i.to_string())
    });
    for tar in [files, Tar::new().file("large", &"x".repeat(300_000))] {
        let ingest = store.begin();
        let error = unpack(&tar.ended()[..], &ingest, &Limits::default()).unwrap_err();
        assert!(
            matches!(error, Error::Store(_)) && !error.is_bad_layer(),
            "{error}"
        );
    }
}

#[test]
fn the_deepest_directory_can_be_applied_and_packed() {
    let root = tempfile::tempdir().unwrap();
    let store = store::fixtures::memory_store(root.path());
    let depth = Limits::default().path_depth_max - 1;
    let tar = Tar::new()
        .file(&format!("{}f", "d/".repeat(depth)), "x")
        .ended();
    let ingest = store.begin();
    let unpacked = unpack(&tar[..], &ingest, &Limits::default()).unwrap();
    let tree = unpacked.delta.apply(None, &ingest).unwrap();
    assert_eq!(tree.inodes, depth as u64 + 2);
    let (mut packed, options) = (Vec::new(), PackOptions::default());
    pack(
        &unpacked.delta,
        &ingest,
        store.objects(),
        &options,
        &mut packed,
    )
    .unwrap();
    assert_eq!(
        inspect(&packed[..], &Limits::default()).unwrap().delta,
        unpacked.delta
    );
    let tar = Tar::new()
        .file(&format!("{}f", "d/".repeat(depth + 1)), "x")
        .ended();
    let error = unpack(&tar[..], &ingest, &Limits::default()).unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error}");
}
