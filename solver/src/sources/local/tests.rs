//! Scans of real directories into a store in memory.

use std::time::Duration;

use store::fixtures::memory_store;
use store::{Editor, Found, RelPath};

use super::*;

struct Context {
    store: Store,
    directory: tempfile::TempDir,
    _root: tempfile::TempDir,
}

impl Context {
    fn new(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let context = Context {
            store: memory_store(root.path()),
            directory,
            _root: root,
        };
        files
            .iter()
            .for_each(|(path, content)| context.write(path, content));
        context
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn scan(&self, source: &LocalSource) -> (TreeRef, Scanned) {
        scan(&self.store, self.directory.path(), source, &|_| {}).unwrap()
    }

    fn has(&self, tree: TreeRef, path: &str) -> bool {
        let path = RelPath::lenient(path.as_bytes()).unwrap();
        Editor::open(&self.store, tree)
            .get(&path)
            .unwrap()
            .is_some()
    }
}

/// Long enough for a file to count as settled.
fn settle() {
    std::thread::sleep(Duration::from_millis(60));
}

#[test]
fn everything_belongs_to_root_and_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt;
    let context = Context::new(&[("bin/tool", "x")]);
    let tool = context.directory.path().join("bin/tool");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o751)).unwrap();
    let (tree, _) = context.scan(&LocalSource::new("context"));
    let path = RelPath::lenient(b"bin/tool").unwrap();
    let Some(Found::Leaf(leaf)) = Editor::open(&context.store, tree).get(&path).unwrap() else {
        panic!("the tool is missing");
    };
    let metadata = leaf.metadata;
    assert_eq!((metadata.uid, metadata.gid, metadata.mode), (0, 0, 0o751));
}

#[test]
fn hard_links_stay_links_if_several_of_the_names_are_in_the_context() {
    let context = Context::new(&[("a", "one"), ("z/b", "two"), ("z/c", "one")]);
    let link = |from: &str, to: &str| {
        let place = context.directory.path();
        fs::hard_link(place.join(from), place.join(to)).unwrap();
    };
    link("a", "z/a");
    link("z/b", "outside");
    let source = LocalSource {
        exclude_patterns: vec!["outside".into()],
        ..LocalSource::new("context")
    };
    let links = |tree: TreeRef| {
        ["a", "z/a", "z/b", "z/c"].map(|path| {
            let path = RelPath::lenient(path.as_bytes()).unwrap();
            match Editor::open(&context.store, tree).get(&path).unwrap() {
                Some(Found::Leaf(leaf)) => leaf.link,
                other => panic!("{path}: {other:?}"),
            }
        })
    };
    settle();
    let (first, _) = context.scan(&source);
    let [one, other, alone, equal] = links(first);
    assert!(one.is_some() && one == other, "{one:?} {other:?}");
    assert_eq!((alone, equal), (None, None));
    let (again, read) = context.scan(&source);
    assert_eq!(
        (again, read.bytes_read),
        (first, 0),
        "also of files that are known"
    );
    fs::remove_file(context.directory.path().join("z/a")).unwrap();
    context.write("z/a", "one");
    settle();
    let (apart, _) = context.scan(&source);
    assert_eq!(links(apart), [None; 4]);
    assert_eq!(apart.key, first.key, "no key tells them apart");
}

#[test]
fn unchanged_files_are_not_read_again_and_changed_ones_are() {
    let context = Context::new(&[("a", "one"), ("d/b", "two"), ("d/c", "three")]);
    settle();
    let source = LocalSource::new("context");
    let (first, read) = context.scan(&source);
    assert_eq!(
        read,
        Scanned {
            files: 3,
            bytes_read: 11
        }
    );
    let (again, read) = context.scan(&source);
    assert_eq!((again, read.bytes_read), (first, 0));
    context.write("d/b", "TWO");
    settle();
    let (changed, read) = context.scan(&source);
    assert_eq!(read.bytes_read, 3, "only the changed file");
    assert_ne!(changed.key, first.key);
    let (_, read) = context.scan(&source);
    assert_eq!(read.bytes_read, 0, "its neighbours are still known");
}

#[test]
fn a_file_that_was_only_touched_keeps_the_content_key() {
    let context = Context::new(&[("a", "one")]);
    let source = LocalSource::new("context");
    let (before, _) = context.scan(&source);
    settle();
    context.write("a", "one");
    let (after, _) = context.scan(&source);
    assert_eq!(before.key, after.key);
    assert_ne!(before.id, after.id, "the new mtime is stored");
}

#[test]
fn ignored_paths_are_left_out_and_exceptions_come_back() {
    let context = Context::new(&[
        ("keep", "1"),
        ("log/a", "2"),
        ("log/b", "3"),
        ("tmp/x/y", "4"),
    ]);
    let source = LocalSource {
        exclude_patterns: vec!["log".into(), "!log/b".into(), "tmp".into()],
        ..LocalSource::new("context")
    };
    let (tree, read) = context.scan(&source);
    for (path, expected) in [
        ("keep", true),
        ("log/a", false),
        ("log/b", true),
        ("tmp", false),
    ] {
        assert_eq!(context.has(tree, path), expected, "{path}");
    }
    assert_eq!(read.files, 2);
}

#[test]
fn only_followed_paths_are_part_of_the_context() {
    let context = Context::new(&[("src/a", "1"), ("src/b", "2"), ("other", "3")]);
    let source = LocalSource {
        follow_paths: vec!["src/a".into()],
        ..LocalSource::new("context")
    };
    let (tree, _) = context.scan(&source);
    assert!(context.has(tree, "src/a"));
    assert!(!context.has(tree, "src/b") && !context.has(tree, "other"));
}

#[test]
fn symbolic_links_are_taken_as_links_wherever_they_lead() {
    let context = Context::new(&[("a", "1")]);
    std::os::unix::fs::symlink("/etc/passwd", context.directory.path().join("out")).unwrap();
    let (tree, _) = context.scan(&LocalSource::new("context"));
    let path = RelPath::lenient(b"out").unwrap();
    let found = Editor::open(&context.store, tree).get(&path).unwrap();
    let Some(Found::Leaf(Leaf {
        content: Content::Symlink { target },
        ..
    })) = found
    else {
        panic!("{found:?}");
    };
    assert_eq!(&*target, b"/etc/passwd");
}

#[test]
fn a_context_that_is_missing_is_named() {
    let context = Context::new(&[]);
    let missing = context.directory.path().join("missing");
    let source = LocalSource::new("context");
    let error = scan(&context.store, &missing, &source, &|_| {})
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("open context") && error.contains("missing"),
        "{error}"
    );
}
