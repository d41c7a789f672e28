//! A delta as text, one line for each entry, so that tests can say what they expect.

use std::fmt::Write;

use store::{BlobId, Content, Delta, DeltaDirectory, DeltaEntry, Leaf, Metadata};

/// `known` are contents whose ids are shown as the contents themselves.
pub(super) fn text(delta: &Delta, known: &[&str]) -> String {
    let mut text = String::new();
    directory(&mut text, "/", &delta.root, known);
    text
}

fn directory(text: &mut String, path: &str, directory_: &DeltaDirectory, known: &[&str]) {
    let attributes = directory_.metadata.as_ref().map_or("-".into(), attributes);
    let opaque = if directory_.opaque { " opaque" } else { "" };
    writeln!(text, "{path} dir {attributes}{opaque}").unwrap();
    for (name, entry) in &directory_.entries {
        let path = format!("{path}{name}");
        match entry {
            DeltaEntry::Whiteout => writeln!(text, "{path} whiteout").unwrap(),
            DeltaEntry::Directory(child) => directory(text, &format!("{path}/"), child, known),
            DeltaEntry::Leaf(leaf) => writeln!(text, "{path} {}", self::leaf(leaf, known)).unwrap(),
            DeltaEntry::Link(target) => writeln!(text, "{path} lower {target}").unwrap(),
            DeltaEntry::Graft(tree) => writeln!(text, "{path} graft {}", tree.id).unwrap(),
        }
    }
}

fn leaf(leaf: &Leaf, known: &[&str]) -> String {
    let content = match &leaf.content {
        Content::File { blob, size } => {
            match known
                .iter()
                .find(|content| BlobId::of(content.as_bytes()) == *blob)
            {
                Some(content) => format!("file {content:?}"),
                None => format!("file of {size} {blob}"),
            }
        }
        Content::Symlink { target } => format!("-> {}", String::from_utf8_lossy(target)),
        Content::CharDevice { major, minor } => format!("char {major}:{minor}"),
        Content::BlockDevice { major, minor } => format!("block {major}:{minor}"),
        Content::Fifo => "fifo".into(),
        Content::Socket => "socket".into(),
    };
    let linked = if leaf.link.is_some() { " linked" } else { "" };
    format!("{content} {}{linked}", attributes(&leaf.metadata))
}

fn attributes(metadata: &Metadata) -> String {
    let mut text = format!("{:o}", metadata.mode);
    if (metadata.uid, metadata.gid) != (0, 0) {
        write!(text, " {}:{}", metadata.uid, metadata.gid).unwrap();
    }
    if metadata.mtime.seconds != 1 || metadata.mtime.nanoseconds != 0 {
        write!(
            text,
            " @{}.{:09}",
            metadata.mtime.seconds, metadata.mtime.nanoseconds
        )
        .unwrap();
    }
    for (name, value) in &metadata.xattrs {
        let [name, value] = [name, value].map(|bytes| String::from_utf8_lossy(bytes));
        write!(text, " {name}={value}").unwrap();
    }
    text
}
