//! One test per property of the format that could go wrong on its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use erofs::{Attributes, Builder, FILE_SIZE_MAX, ImageOptions};

use crate::mounted::Sandbox;
use crate::tree::{Meta, Tree, What, assert_same, walk};

fn file(size: u64) -> What {
    What::File {
        size,
        redirect: None,
    }
}

fn check(tree: &Tree) {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let mount = sandbox.mount_image("image", &tree.image());
    assert_same(&walk(&mount), &tree.expected());
}

#[test]
fn an_empty_image_has_the_attributes_of_its_root() {
    let mut root = Meta::plain(0o1777);
    (root.uid, root.gid) = (u32::MAX - 1, 70_000);
    root.xattrs.insert(b"user.origin".into(), b"test".into());
    check(&Tree::new(root));
}

#[test]
fn every_type_of_inode_keeps_its_attributes() {
    let mut tree = Tree::new(Meta::plain(0o755));
    let device = |major, minor| What::CharacterDevice { major, minor };
    tree.add(0, b"suid", Meta::plain(0o4755), file(1));
    tree.add(0, b"sgid", Meta::plain(0o2755), file(4096));
    tree.add(0, b"empty", Meta::plain(0o644), file(0));
    tree.add(
        0,
        b"link",
        Meta::plain(0o777),
        What::Symlink {
            target: b"../a/b".into(),
        },
    );
    tree.add(0, b"null", Meta::plain(0o666), device(1, 3));
    tree.add(0, b"large", Meta::plain(0o600), device(4095, 0xF_FFFF));
    tree.add(0, b"whiteout", Meta::plain(0), device(0, 0));
    tree.add(
        0,
        b"sda",
        Meta::plain(0o660),
        What::BlockDevice {
            major: 8,
            minor: 300,
        },
    );
    tree.add(0, b"pipe", Meta::plain(0o622), What::Fifo);
    tree.add(0, b"socket", Meta::plain(0o755), What::Socket);
    let directory = tree.add(0, b"opaque", Meta::plain(0o700), What::OpaqueDirectory);
    tree.add(directory, b"inside", Meta::plain(0o644), file(5));
    check(&tree);
}

#[test]
fn times_before_1970_and_after_2106_are_kept_to_the_nanosecond() {
    let mut tree = Tree::new(Meta::plain(0o755));
    let times = [
        (-1, 999_999_999),
        (-1_000_000_000_000, 1),
        (0, 0),
        (1, 0),
        (1 << 31, 5),
        (1 << 34, 999_999_999),
        (i64::MAX, 0),
        (i64::MIN, 0),
    ];
    for (number, (seconds, nanoseconds)) in times.into_iter().enumerate() {
        let meta = Meta {
            seconds,
            nanoseconds,
            ..Meta::plain(0o644)
        };
        tree.add(0, format!("f{number}").as_bytes(), meta, file(1));
    }
    check(&tree);
}

#[test]
fn hard_links_share_an_inode_and_count_their_names() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let mut tree = Tree::new(Meta::plain(0o755));
    let directory = tree.add(0, b"z", Meta::plain(0o755), What::Directory);
    let one = tree.add(directory, b"one", Meta::plain(0o644), file(10));
    tree.link(0, b"a", one);
    tree.link(directory, b"two", one);
    let link = tree.add(
        0,
        b"symlink",
        Meta::plain(0o777),
        What::Symlink {
            target: b"x".into(),
        },
    );
    tree.link(directory, b"symlink", link);
    let mount = sandbox.mount_image("image", &tree.image());
    assert_same(&walk(&mount), &tree.expected());
    let inode = |path: &str| {
        let stat = std::fs::symlink_metadata(mount.join(path)).expect("stat");
        std::os::unix::fs::MetadataExt::ino(&stat)
    };
    assert_eq!(inode("a"), inode("z/one"));
    assert_eq!(inode("a"), inode("z/two"));
    assert_eq!(inode("symlink"), inode("z/symlink"));
    assert_ne!(inode("a"), inode("symlink"));
}

#[test]
fn large_files_have_their_size_and_read_as_zeros_without_a_redirect() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let mut tree = Tree::new(Meta::plain(0o755));
    for size in [1, 4095, 4096, 4097, 1 << 32, (1 << 32) + 1, FILE_SIZE_MAX] {
        tree.add(
            0,
            size.to_string().as_bytes(),
            Meta::plain(0o644),
            file(size),
        );
    }
    let mount = sandbox.mount_image("image", &tree.image());
    assert_same(&walk(&mount), &tree.expected());
    let largest = File::open(mount.join(FILE_SIZE_MAX.to_string())).expect("open");
    let mut buffer = [1; 8192];
    let count = largest
        .read_at(&mut buffer, FILE_SIZE_MAX - 5000)
        .expect("read the end");
    assert!((1..=5000).contains(&count));
    assert!(buffer[..count].iter().all(|byte| *byte == 0));
}

#[test]
fn a_directory_of_100_000_entries_lists_and_finds_each() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let plain = Attributes {
        mode: 0o644,
        ..Attributes::default()
    };
    let mut builder = Builder::new(&plain).expect("a root");
    let directory = builder
        .directory(builder.root(), b"many", &plain)
        .expect("many");
    // 7919 is prime to 100,000, so this visits every number once, out of order.
    for step in 0..100_000_u64 {
        let number = step * 7919 % 100_000;
        let name = format!("file-{number}");
        builder
            .file(directory, name.as_bytes(), &plain, number, None)
            .expect("a file");
    }
    let mount = sandbox.mount_image("image", &builder.finish().expect("an image"));
    let many = mount.join("many");
    let mut seen = vec![false; 100_000];
    for entry in std::fs::read_dir(&many).expect("list") {
        let name = entry
            .expect("an entry")
            .file_name()
            .into_string()
            .expect("ascii");
        let number: usize = name
            .strip_prefix("file-")
            .expect("prefix")
            .parse()
            .expect("number");
        assert!(
            !std::mem::replace(&mut seen[number], true),
            "{name} is listed twice"
        );
    }
    assert!(seen.iter().all(|seen| *seen));
    for number in (0..100_000).step_by(97) {
        let stat = std::fs::metadata(many.join(format!("file-{number}"))).expect("find");
        assert_eq!(stat.len(), number);
    }
    assert!(!many.join("file-100000").exists());
    assert!(!many.join("a").exists());
    assert!(!many.join("z").exists());
}

/// Directories whose contents end just before, at and just after a block's end, behind inodes
/// with and without extended attributes: all ways in which contents can be laid out.
#[test]
fn directories_and_links_of_every_size_around_a_block_are_read_back() {
    let mut tree = Tree::new(Meta::plain(0o755));
    for xattr_size in [None, Some(100), Some(3900), Some(4100), Some(60_000)] {
        let mut meta = Meta::plain(0o755);
        if let Some(size) = xattr_size {
            let value = (0..size).map(|byte| byte as u8).collect();
            meta.xattrs.insert(b"trusted.large".into(), value);
        }
        let name = format!("d{}", xattr_size.unwrap_or(0));
        let parent = tree.add(0, name.as_bytes(), meta.clone(), What::Directory);
        for padding in [0, 1, 63, 64, 65, 200, 255] {
            let name = format!("p{padding}");
            let directory = tree.add(parent, name.as_bytes(), meta.clone(), What::Directory);
            for number in 0..15 {
                let name = format!("{number:0255}");
                tree.add(directory, name.as_bytes(), Meta::plain(0o600), file(0));
            }
            if padding > 0 {
                let name = "x".repeat(padding);
                tree.add(directory, name.as_bytes(), Meta::plain(0o600), file(0));
            }
        }
        for length in [1, 100, 2000, 3900, 4032, 4033, 4095] {
            let target = vec![b't'; length];
            let name = format!("s{length}");
            tree.add(
                parent,
                name.as_bytes(),
                meta.clone(),
                What::Symlink { target },
            );
        }
    }
    check(&tree);
}

#[test]
fn extended_attributes_of_all_kinds_and_sizes_are_read_back() {
    let mut tree = Tree::new(Meta::plain(0o755));
    // Version 2; user::rw-, user:1000:r--, group::r--, mask::r--, other::r--.
    let acl: Vec<u8> = [
        vec![2, 0, 0, 0],
        vec![1, 0, 6, 0, 255, 255, 255, 255],
        vec![2, 0, 4, 0, 232, 3, 0, 0],
        vec![4, 0, 4, 0, 255, 255, 255, 255],
        vec![16, 0, 4, 0, 255, 255, 255, 255],
        vec![32, 0, 4, 0, 255, 255, 255, 255],
    ]
    .concat();
    // Revision 2, cap_net_raw permitted and effective.
    let capability = [&[1, 0, 0, 2, 0, 32, 0, 0], [0u8; 12].as_slice()].concat();
    let mut meta = Meta::plain(0o644);
    meta.xattrs = BTreeMap::from([
        (b"security.capability".to_vec(), capability),
        (b"security.other".to_vec(), b"\0\xff".to_vec()),
        (b"system.posix_acl_access".to_vec(), acl.clone()),
        (b"trusted.t".to_vec(), Vec::new()),
        (b"user.large".to_vec(), vec![7; 65_535]),
        (
            [b"user.".as_slice(), &[b'n'; 250]].concat(),
            b"value".to_vec(),
        ),
    ]);
    tree.add(0, b"file", meta.clone(), file(3));
    meta.xattrs.insert(b"system.posix_acl_default".into(), acl);
    let directory = tree.add(0, b"directory", meta, What::Directory);
    tree.add(directory, b"child", Meta::plain(0o644), file(1));
    let mut full = Meta::plain(0o644);
    for number in 0..4 {
        let name = format!("trusted.{number:0<3}");
        full.xattrs.insert(name.into_bytes(), vec![number; 65_525]);
    }
    // 12 + 4 x (4 + 3 + 65,525) + (4 + 1 + 3 of padding) = XATTR_AREA_SIZE_MAX
    full.xattrs.insert(b"trusted.z".into(), Vec::new());
    tree.add(0, b"full", full, file(1));
    check(&tree);
}

#[test]
fn a_flipped_bit_in_the_superblock_is_refused_by_the_kernel() {
    let Some(sandbox) = Sandbox::new() else {
        return;
    };
    let tree = Tree::new(Meta::plain(0o755));
    let mut image = tree.image();
    image[1024 + 64] ^= 1; // volume name
    assert!(sandbox.try_mount_image("bad", &image).is_err());
    let options = ImageOptions {
        checksum: false,
        ..ImageOptions::default()
    };
    let mut unchecked = tree.builder().finish_with(&options).expect("an image");
    unchecked[1024 + 64] ^= 1;
    sandbox.mount_image("unchecked", &unchecked);
}

#[test]
fn equal_trees_give_equal_bytes_in_any_order() {
    let mut tree = Tree::new(Meta::plain(0o755));
    let mut meta = Meta::plain(0o644);
    meta.xattrs = BTreeMap::from([(b"user.a".into(), b"1".into()), (b"user.b".into(), vec![])]);
    let usr = tree.add(0, b"usr", meta.clone(), What::Directory);
    let etc = tree.add(0, b"etc", Meta::plain(0o700), What::Directory);
    for number in 0..40 {
        let parent = if number % 3 == 0 { usr } else { etc };
        tree.add(
            parent,
            format!("f{number}").as_bytes(),
            meta.clone(),
            file(number),
        );
    }
    let linked = tree.names[10].2;
    tree.link(0, b"link", linked);
    let mut reversed = tree.clone();
    reversed.names[2..].reverse();
    reversed.names.swap(0, 1);
    assert_eq!(tree.image(), reversed.image());
    let mut other = tree.clone();
    other.nodes[5].0.nanoseconds += 1;
    assert_ne!(
        tree.image()[1024..][48..64],
        other.image()[1024..][48..64],
        "UUIDs differ"
    );
}

#[test]
fn erofs_utils_find_nothing_wrong_with_an_image() {
    if Sandbox::new().is_none() {
        return;
    }
    let mut tree = Tree::new(Meta::plain(0o755));
    let mut meta = Meta::plain(0o644);
    meta.xattrs.insert(b"user.name".into(), b"value".into());
    for directory in 0..20 {
        let name = format!("d{directory}");
        let parent = tree.add(0, name.as_bytes(), meta.clone(), What::Directory);
        for number in 0..directory * 20 {
            let what = match number % 4 {
                0 => file(number),
                1 => What::Symlink {
                    target: b"somewhere/else".into(),
                },
                2 => What::CharacterDevice { major: 0, minor: 0 },
                _ => What::File {
                    size: number,
                    redirect: Some(b"/nonce/ab/cdef".into()),
                },
            };
            tree.add(
                parent,
                format!("entry{number}").as_bytes(),
                meta.clone(),
                what,
            );
        }
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let image = directory.path().join("image.erofs");
    std::fs::write(&image, tree.image()).expect("write the image");
    let inodes = tree.nodes.len().to_string();
    run("fsck.erofs", &["-d3"], &image, "No errors found");
    run("dump.erofs", &["-s"], &image, &inodes);
}

fn run(program: &str, arguments: &[&str], image: &Path, expect: &str) {
    let output = Command::new(program)
        .args(arguments)
        .arg(image)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error} (apt-get install erofs-utils)"));
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains(expect),
        "{program}: {text}"
    );
}
