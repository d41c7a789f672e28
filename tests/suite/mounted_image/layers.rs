//! Four layers with everything that makes layers awkward.

use std::io::Write;

use tar::{Builder, EntryType, Header};

/// One layer in the making.
struct Layer(Builder<Vec<u8>>);

/// What an entry has beside its name and kind.
#[derive(Clone, Copy)]
struct Attributes<'a> {
    mode: u32,
    owner: (u64, u64),
    /// Seconds, with a fraction if it is to have one.
    mtime: &'a str,
    xattrs: &'a [(&'a str, &'a [u8])],
}

const PLAIN: Attributes<'_> = Attributes {
    mode: 0o644,
    owner: (0, 0),
    mtime: "1000000000",
    xattrs: &[],
};
const EXECUTABLE: Attributes<'_> = Attributes {
    mode: 0o755,
    ..PLAIN
};

/// A valid `security.capability` (version 2, CAP_NET_BIND_SERVICE).
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

impl Layer {
    fn new() -> Self {
        Layer(Builder::new(Vec::new()))
    }

    fn entry(
        &mut self,
        path: &[u8],
        kind: EntryType,
        body: &[u8],
        of: Attributes<'_>,
    ) -> &mut Self {
        self.add(path, kind, b"", (0, 0), body, of)
    }

    fn file(&mut self, path: &str, body: &str, of: Attributes<'_>) -> &mut Self {
        self.entry(path.as_bytes(), EntryType::Regular, body.as_bytes(), of)
    }

    fn directory(&mut self, path: &str, of: Attributes<'_>) -> &mut Self {
        self.entry(path.as_bytes(), EntryType::Directory, b"", of)
    }

    fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        let of = Attributes {
            mode: 0o777,
            ..PLAIN
        };
        self.add(
            path.as_bytes(),
            EntryType::Symlink,
            target.as_bytes(),
            (0, 0),
            b"",
            of,
        )
    }

    fn hard_link(&mut self, path: &str, target: &str, of: Attributes<'_>) -> &mut Self {
        self.add(
            path.as_bytes(),
            EntryType::Link,
            target.as_bytes(),
            (0, 0),
            b"",
            of,
        )
    }

    fn node(&mut self, path: &str, kind: EntryType, device: (u32, u32)) -> &mut Self {
        self.add(path.as_bytes(), kind, b"", device, b"", PLAIN)
    }

    fn whiteout(&mut self, path: &str) -> &mut Self {
        self.file(path, "", PLAIN)
    }

    /// Everything goes through PAX records, which take any length, any bytes and fractions.
    fn add(
        &mut self,
        path: &[u8],
        kind: EntryType,
        link: &[u8],
        device: (u32, u32),
        body: &[u8],
        of: Attributes<'_>,
    ) -> &mut Self {
        let mut records: Vec<(String, Vec<u8>)> = vec![
            ("path".into(), path.into()),
            ("mtime".into(), of.mtime.into()),
        ];
        if !link.is_empty() {
            records.push(("linkpath".into(), link.into()));
        }
        for (name, value) in of.xattrs {
            records.push((format!("SCHILY.xattr.{name}"), (*value).into()));
        }
        let records = records
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()));
        self.0.append_pax_extensions(records).unwrap();
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(body.len() as u64);
        header.set_mode(of.mode);
        header.set_uid(of.owner.0);
        header.set_gid(of.owner.1);
        let seconds = of.mtime.split('.').next().unwrap();
        header.set_mtime(seconds.parse().unwrap());
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(device.0).unwrap();
            header.set_device_minor(device.1).unwrap();
        }
        header.set_cksum();
        self.0.append(&header, body).unwrap();
        self
    }

    fn finish(&mut self) -> Vec<u8> {
        let builder = std::mem::replace(&mut self.0, Builder::new(Vec::new()));
        let mut bytes = builder.into_inner().unwrap();
        bytes.flush().unwrap();
        bytes
    }
}

/// The layers, lowest first.
pub(in super::super) fn all() -> Vec<Vec<u8>> {
    vec![first(), second(), third(), fourth()]
}

fn dated(mtime: &str) -> Attributes<'_> {
    Attributes { mtime, ..PLAIN }
}

/// One of everything.
fn first() -> Vec<u8> {
    let long = "long/".to_owned() + &"n".repeat(200);
    let xattrs: &[(&str, &[u8])] = &[("user.note", b"a\nb\0c"), ("trusted.mine", b"t")];
    let mut layer = Layer::new();
    layer
        .directory("bin", EXECUTABLE)
        .file("bin/sh", "#!shell", EXECUTABLE)
        .hard_link("bin/ash", "bin/sh", EXECUTABLE)
        .file(
            "bin/su",
            "su",
            Attributes {
                mode: 0o6755,
                owner: (0, 42),
                ..PLAIN
            },
        )
        .file(
            "bin/ping",
            "ping",
            Attributes {
                xattrs: &[("security.capability", CAPABILITY)],
                ..EXECUTABLE
            },
        )
        .directory(
            "tmp",
            Attributes {
                mode: 0o1777,
                mtime: "1234567890.000000001",
                ..PLAIN
            },
        )
        .directory(
            "etc",
            Attributes {
                xattrs,
                ..EXECUTABLE
            },
        )
        .file("etc/dated", "d", dated("1234567890.123456789"))
        .file("etc/old", "o", dated("1"))
        .file("etc/noted", "n", Attributes { xattrs, ..PLAIN })
        .file("etc/empty", "", PLAIN)
        .file(
            "etc/secret",
            "s",
            Attributes {
                mode: 0,
                owner: (4_000_000, 1_000_000),
                ..PLAIN
            },
        )
        .symlink("etc/link", "../bin/sh")
        .symlink("etc/dangling", "/no/where")
        .directory("dev", EXECUTABLE)
        .node("dev/null", EntryType::Char, (1, 3))
        .node("dev/disk", EntryType::Block, (259, 70_000))
        .node("dev/pipe", EntryType::Fifo, (0, 0))
        .directory("long", EXECUTABLE)
        .file(&long, "long", PLAIN)
        .entry(b"long/\xff\xfe odd", EntryType::Regular, b"odd", PLAIN);
    to_be_changed(&mut layer);
    layer.finish()
}

/// What the layers above change.
fn to_be_changed(layer: &mut Layer) {
    layer
        .directory("kinds", EXECUTABLE)
        .file("kinds/file", "becomes a directory", PLAIN)
        .directory("kinds/directory", EXECUTABLE)
        .file("kinds/directory/inside", "hidden", PLAIN)
        .symlink("kinds/symlink", "file")
        .directory("opaque", EXECUTABLE)
        .file("opaque/one", "1", PLAIN)
        .directory("opaque/sub", EXECUTABLE)
        .file("opaque/sub/two", "2", PLAIN)
        .directory("gone", EXECUTABLE)
        .file("gone/file", "gone", PLAIN)
        .directory("links", EXECUTABLE)
        .file("links/a", "linked", PLAIN)
        .hard_link("links/b", "links/a", PLAIN)
        .hard_link("links/c", "links/a", PLAIN)
        .file("links/single", "single", PLAIN);
}

/// Changes of every kind, and hard links to files below.
fn second() -> Vec<u8> {
    Layer::new()
        .directory("kinds", EXECUTABLE)
        .directory("kinds/file", EXECUTABLE)
        .file("kinds/file/inside", "new", PLAIN)
        .file("kinds/directory", "now a file", PLAIN)
        .file("kinds/symlink", "now a file", PLAIN)
        .directory(
            "opaque",
            Attributes {
                mode: 0o700,
                ..PLAIN
            },
        )
        .whiteout("opaque/.wh..wh..opq")
        .file("opaque/three", "3", PLAIN)
        .whiteout(".wh.gone")
        .directory(
            "links",
            Attributes {
                mtime: "1100000000.5",
                ..EXECUTABLE
            },
        )
        .whiteout("links/.wh.b")
        .hard_link("links/of single", "links/single", PLAIN)
        .hard_link("of a", "links/a", PLAIN)
        .directory(
            "etc",
            Attributes {
                mode: 0o750,
                owner: (7, 8),
                ..PLAIN
            },
        )
        .file("etc/noted", "n", PLAIN)
        .whiteout("etc/.wh.dangling")
        .directory("dev", EXECUTABLE)
        .whiteout("dev/.wh.pipe")
        .node("dev/null", EntryType::Char, (1, 5))
        .finish()
}

/// What was deleted comes back as something else; links to links.
fn third() -> Vec<u8> {
    Layer::new()
        .directory("gone", EXECUTABLE)
        .directory("gone/again", EXECUTABLE)
        .file("gone/again/file", "back", PLAIN)
        .directory("opaque", EXECUTABLE)
        .directory("opaque/sub", EXECUTABLE)
        .file("opaque/sub/four", "4", PLAIN)
        .directory("kinds", EXECUTABLE)
        .symlink("kinds/file", "/etc")
        .directory("kinds/directory", EXECUTABLE)
        .file("kinds/directory/inside", "new inside", PLAIN)
        .directory("links", EXECUTABLE)
        .file("links/a", "no longer linked", PLAIN)
        .hard_link("links/third of single", "links/of single", PLAIN)
        .hard_link("links/of the second", "kinds/symlink", PLAIN)
        .symlink("links/to be linked", "a")
        .hard_link(
            "links/linked link",
            "links/to be linked",
            Attributes {
                mode: 0o777,
                ..PLAIN
            },
        )
        .finish()
}

/// Deletes half of it.
fn fourth() -> Vec<u8> {
    Layer::new()
        .directory("links", EXECUTABLE)
        .whiteout("links/.wh.single")
        .directory("bin", EXECUTABLE)
        .whiteout("bin/.wh.sh")
        .directory("kinds", EXECUTABLE)
        .whiteout("kinds/.wh.directory")
        .whiteout("kinds/.wh.file")
        .directory("long", EXECUTABLE)
        .whiteout("long/.wh..wh..opq")
        .whiteout(".wh.never there")
        .directory("etc", EXECUTABLE)
        .file("etc/dated", "d", dated("1234567890.123456789"))
        .finish()
}
