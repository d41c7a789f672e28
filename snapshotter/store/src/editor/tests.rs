//! Tests of the editor: against a plain model, and its laziness.

use proptest::prelude::*;

use super::*;
use crate::fixtures::random::{self, any_found, any_metadata, any_model, any_path};
use crate::fixtures::{
    self, MemoryTrees, Model, completed, file, metadata, model, name, path, read_model,
    store_model, symlink,
};

#[derive(Clone, Debug)]
enum Edit {
    Insert(RelPath, Found),
    Remove(RelPath),
    SetMetadata(RelPath, Metadata),
    MakeDirectories(RelPath, Metadata),
    Move(RelPath, RelPath),
}

fn any_edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (any_path(), any_found()).prop_map(|(path, found)| Edit::Insert(path, found)),
        2 => any_path().prop_map(Edit::Remove),
        1 => (any_path(), any_metadata()).prop_map(|(path, new)| Edit::SetMetadata(path, new)),
        1 => (any_path(), any_metadata()).prop_map(|(path, new)| Edit::MakeDirectories(path, new)),
        1 => (any_path(), any_path()).prop_map(|(from, to)| Edit::Move(from, to)),
    ]
}

fn is_directory(model: &Model, path: &RelPath) -> bool {
    matches!(model.get(path), Some(Found::Directory(_)))
}

/// What the edit does to a plain model; `false` if it must be refused.
fn edit_model(model: &mut Model, edit: &Edit) -> bool {
    match edit {
        Edit::Insert(path, found) => {
            let parent = path.parent().unwrap_or_default();
            if !is_directory(model, &parent) {
                return false;
            }
            random::insert(model, path.clone(), found.clone());
        }
        Edit::Remove(path) => model.retain(|other, _| !other.starts_with(path)),
        Edit::SetMetadata(path, new) => match model.get_mut(path) {
            Some(Found::Directory(metadata)) => *metadata = new.clone(),
            Some(Found::Leaf(leaf)) => leaf.metadata = new.clone(),
            None => return false,
        },
        Edit::MakeDirectories(path, new) => {
            for depth in 1..=path.components().len() {
                let above: RelPath = path.components()[..depth].iter().cloned().collect();
                match model.get(&above) {
                    Some(Found::Leaf(_)) => return false,
                    Some(Found::Directory(_)) => {}
                    None => {
                        model.insert(above, Found::Directory(new.clone()));
                    }
                }
            }
        }
        Edit::Move(from, to) => {
            let parent = to.parent().unwrap_or_default();
            if !model.contains_key(from) || !is_directory(model, &parent) || to.starts_with(from) {
                return true;
            }
            let moved: Vec<_> = model
                .iter()
                .filter(|(path, _)| path.starts_with(from))
                .map(|(p, f)| (p.clone(), f.clone()))
                .collect();
            random::insert(model, to.clone(), Found::Directory(metadata(0)));
            for (path, found) in moved {
                let tail = path.components()[from.components().len()..]
                    .iter()
                    .cloned()
                    .collect();
                model.insert(to.concat(&tail), found);
            }
            if !from.starts_with(to) {
                model.retain(|path, _| !path.starts_with(from));
            }
        }
    }
    true
}

fn edit_tree(editor: &mut Editor<'_, MemoryTrees>, edit: &Edit) -> Result<()> {
    match edit.clone() {
        Edit::Insert(path, Found::Leaf(leaf)) => editor.insert(&path, Entry::Leaf(leaf)),
        Edit::Insert(path, Found::Directory(new)) => editor.insert_directory(&path, new),
        Edit::Remove(path) => editor.remove(&path).map(drop),
        Edit::SetMetadata(path, new) => editor.set_metadata(&path, new),
        Edit::MakeDirectories(path, new) => editor.make_directories(&path, &new),
        Edit::Move(from, to) => {
            let parent = to.parent().unwrap_or_default();
            let target = matches!(editor.get(&parent)?, Some(Found::Directory(_)));
            let Some(entry) = editor.entry(&from)? else {
                return Ok(());
            };
            if !target || to.starts_with(&from) {
                return Ok(());
            }
            editor.insert(&to, entry)?;
            if !from.starts_with(&to) {
                editor.remove(&from)?;
            }
            Ok(())
        }
    }
}

proptest! {
    #[test]
    fn random_edits_do_what_they_do_to_a_map(
        start in any_model(),
        edits in proptest::collection::vec(any_edit(), 0..25),
    ) {
        let trees = MemoryTrees::new();
        let base = store_model(&start, &trees).unwrap();
        let mut editor = Editor::open(&trees, base);
        let mut expected = start;
        for edit in &edits {
            let fine = edit_model(&mut expected, edit);
            prop_assert_eq!(edit_tree(&mut editor, edit).is_ok(), fine, "{:?}", edit);
        }
        for (path, found) in &expected {
            let present = editor.get(path).unwrap();
            prop_assert_eq!(present.as_ref(), Some(found), "{}", path);
        }
        let edited = editor.finish().unwrap();
        prop_assert_eq!(&read_model(edited, &trees).unwrap(), &expected);
        prop_assert_eq!(edited, store_model(&expected, &trees).unwrap(), "ids do not tell history");
    }

    #[test]
    fn looking_around_changes_nothing(
        start in any_model(),
        paths in proptest::collection::vec(any_path(), 0..9),
    ) {
        let trees = MemoryTrees::new();
        let base = store_model(&start, &trees).unwrap();
        let before = trees.writes();
        let mut editor = Editor::open(&trees, base);
        for path in &paths {
            editor.get(path).unwrap();
            editor.list(path).unwrap();
            editor.entry(path).unwrap();
        }
        prop_assert_eq!(editor.finish().unwrap(), base);
        prop_assert_eq!(trees.writes(), before, "nothing is stored again");
    }
}

fn stored(trees: &MemoryTrees, model: &Model) -> TreeRef {
    store_model(model, trees).unwrap()
}

#[test]
fn only_what_is_touched_is_read_and_stored() {
    let trees = MemoryTrees::new();
    let mut wide = Model::new();
    for directory in 0..100 {
        wide.insert(
            path(&format!("{directory}/sub/file")),
            Found::Leaf(file(b"x")),
        );
    }
    let base = stored(&trees, &wide);
    let (reads, writes) = (trees.reads(), trees.writes());
    let mut editor = Editor::open(&trees, base);
    editor
        .insert(&path("7/sub/new"), Entry::Leaf(file(b"y")))
        .unwrap();
    let edited = editor.finish().unwrap();
    assert_eq!(
        (trees.reads() - reads, trees.writes() - writes),
        (3, 3),
        "the root, 7 and 7/sub"
    );
    assert_eq!(edited.inodes, base.inodes + 1);
}

#[test]
fn a_directory_is_removed_without_being_read() {
    let trees = MemoryTrees::new();
    let base = stored(
        &trees,
        &model([("gone/deep/file", Found::Leaf(file(b"x")))]),
    );
    let root = trees.tree(base.id).unwrap();
    let Some(Entry::Directory(gone)) = root.entries.get(&name("gone")) else {
        panic!("{root:?}")
    };
    trees.lose(gone.id);
    let mut editor = Editor::open(&trees, base);
    assert!(editor.remove(&path("gone")).unwrap());
    assert!(!editor.remove(&path("gone")).unwrap());
    assert!(!editor.remove(&path("never/there")).unwrap());
    assert_eq!(editor.finish().unwrap().inodes, 1);
}

#[test]
fn a_change_that_is_taken_back_gives_the_old_tree() {
    let trees = MemoryTrees::new();
    let base = stored(&trees, &fixtures::one_of_everything());
    let mut editor = Editor::open(&trees, base);
    editor
        .insert(&path("etc/new"), Entry::Leaf(file(b"y")))
        .unwrap();
    editor.remove(&path("etc/new")).unwrap();
    assert_eq!(editor.finish().unwrap(), base);
}

#[test]
fn a_missing_tree_is_an_error_where_it_is_entered() {
    let trees = MemoryTrees::new();
    let base = stored(&trees, &fixtures::one_of_everything());
    trees.lose(base.id);
    let error = Editor::open(&trees, base).get(&path("bin")).unwrap_err();
    assert!(
        matches!(error, Error::TreeMissing { id } if id == base.id),
        "{error}"
    );
}

#[test]
fn the_root_can_be_emptied_and_replaced_but_is_no_leaf() {
    let trees = MemoryTrees::new();
    let base = stored(&trees, &fixtures::one_of_everything());
    let mut editor = Editor::open(&trees, base);
    assert!(
        editor
            .insert(&RelPath::root(), Entry::Leaf(file(b"")))
            .is_err()
    );
    assert!(editor.remove(&RelPath::root()).unwrap());
    assert_eq!(editor.list(&RelPath::root()).unwrap(), Some(vec![]));
    editor
        .insert(&RelPath::root(), Entry::Directory(base))
        .unwrap();
    assert_eq!(editor.finish().unwrap(), base);
}

fn links() -> Model {
    let link = |target| Found::Leaf(symlink(target));
    model([
        ("usr/bin/sh", Found::Leaf(file(b"sh"))),
        ("bin", link("usr/bin")),
        ("absolute", link("/usr/bin")),
        ("usr/deep/absolute", link("/bin/sh")),
        ("usr/back", link("../bin/sh")),
        ("above", link("../../../usr")),
        ("chain", link("bin")),
        ("dangling", link("nowhere/at/all")),
        ("self", link("self")),
        ("ping", link("pong")),
        ("pong", link("ping/deeper")),
        ("dots", link("./usr/../usr/./bin/..")),
        ("odd", link("")),
    ])
}

#[test]
fn symbolic_links_are_followed_as_in_a_chroot() {
    let trees = MemoryTrees::new();
    let base = stored(&trees, &links());
    let cases = [
        ("usr/bin/sh", true, "/usr/bin/sh"),
        ("bin/sh", true, "/usr/bin/sh"),
        ("absolute/sh", true, "/usr/bin/sh"),
        ("usr/deep/absolute", true, "/usr/bin/sh"),
        ("usr/back", true, "/usr/bin/sh"),
        ("usr/back", false, "/usr/back"),
        ("bin", true, "/usr/bin"),
        ("bin", false, "/bin"),
        ("chain/sh", false, "/usr/bin/sh"),
        ("above/bin", true, "/usr/bin"),
        ("dots", true, "/usr"),
        ("dangling/file", true, "/nowhere/at/all/file"),
        ("new/file", true, "/new/file"),
        ("bin/new", true, "/usr/bin/new"),
        ("usr/bin/sh/below", true, "/usr/bin/sh/below"),
        ("odd", true, "/"),
        ("", true, "/"),
    ];
    let mut editor = Editor::open(&trees, base);
    for (given, follow, expected) in cases {
        let resolved = editor.resolve(&path(given), follow).unwrap();
        assert_eq!(resolved.to_string(), expected, "{given}");
    }
    for given in ["self", "ping", "pong/x"] {
        let error = editor.resolve(&path(given), true).unwrap_err().to_string();
        assert!(error.contains("too many levels"), "{given}: {error}");
    }
    assert_eq!(editor.finish().unwrap(), base);
}

#[test]
fn links_that_blow_a_path_up_are_refused() {
    let trees = MemoryTrees::new();
    let long = "d/".repeat(1_500);
    let base = stored(
        &trees,
        &model([
            ("a", Found::Leaf(symlink(&format!("{long}b")))),
            ("d", Found::Leaf(symlink("e"))),
        ]),
    );
    let mut editor = Editor::open(&trees, base);
    let deep: RelPath = std::iter::repeat_n(name("x"), PATH_DEPTH_MAX).collect();
    assert!(
        editor.resolve(&path("a"), true).is_err(),
        "more than 40 links"
    );
    assert!(editor.resolve(&deep, true).is_ok());
    let deeper = deep.concat(&path("x/y/z"));
    assert!(matches!(
        editor.resolve(&deeper, true),
        Err(Error::Path { .. })
    ));
    assert!(editor.make_directories(&deeper, &metadata(0o755)).is_err());
}

#[test]
fn the_deepest_path_needs_no_deep_stack() {
    // As deep as it gets, in a thread with the stack of a tokio worker, in a debug build.
    let work = || {
        let trees = MemoryTrees::new();
        let deepest: RelPath = std::iter::repeat_n(name("d"), PATH_DEPTH_MAX).collect();
        let mut editor = Editor::empty(&trees, metadata(0o755));
        editor.make_directories(&deepest, &metadata(0o700)).unwrap();
        let tree = editor.finish().unwrap();
        assert_eq!(tree.inodes, PATH_DEPTH_MAX as u64 + 1);
        let mut editor = Editor::open(&trees, tree);
        editor.set_metadata(&deepest, metadata(0o711)).unwrap();
        drop(editor);
    };
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(work)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn directories_are_made_only_where_nothing_is() {
    let trees = MemoryTrees::new();
    let base = stored(
        &trees,
        &model([
            ("a", fixtures::directory(0o700)),
            ("a/file", Found::Leaf(file(b"x"))),
        ]),
    );
    let mut editor = Editor::open(&trees, base);
    editor
        .make_directories(&path("a/b/c"), &metadata(0o750))
        .unwrap();
    let error = editor
        .make_directories(&path("a/file/c"), &metadata(0o750))
        .unwrap_err();
    assert_eq!(error.to_string(), "/a/file: it is not a directory");
    let made = read_model(editor.finish().unwrap(), &trees).unwrap();
    let expected = completed(model([
        ("a", fixtures::directory(0o700)),
        ("a/file", Found::Leaf(file(b"x"))),
        ("a/b", fixtures::directory(0o750)),
        ("a/b/c", fixtures::directory(0o750)),
    ]));
    assert_eq!(made, expected);
}
