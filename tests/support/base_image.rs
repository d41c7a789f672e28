//! A base image made of the host's static busybox, as an OCI image layout: no network, no other
//! tool.
//!
//! Tests and benches use it from here; `xtask`, which may import no workspace crate, compiles this
//! file as a module of its demo. So it leans on nothing beside it.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// Where the package busybox-static puts it.
const BUSYBOX: &str = "/bin/busybox";

/// What the OCI image specification (image-layout.md) wants in `oci-layout`.
const LAYOUT_VERSION: &str = "1.0.0";

const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// Directories of the image and their modes.
const DIRECTORIES: &[(&str, u32)] = &[
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("sys", 0o755),
    ("tmp", 0o1777),
];

/// Users and groups by name, for `USER` and `--chown`.
const FILES: &[(&str, &str)] = &[
    ("etc/group", "root:x:0:\nnobody:x:65534:\n"),
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n",
    ),
];

/// Writes the layout to the new directory `layout`, its only image tagged `latest`. The same
/// busybox gives the same digests.
///
/// # Errors
/// Where busybox is missing or does not run, or a file cannot be written.
pub fn write(layout: &Path) -> io::Result<()> {
    let layer = layer()?;
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(|cause| at("create", &blobs, &cause))?;

    let layer_descriptor = put_blob(&blobs, LAYER_TYPE, &layer)?;
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": { "Env": ["PATH=/bin"], "Cmd": ["sh"] },
        "rootfs": { "type": "layers", "diff_ids": [layer_descriptor["digest"]] },
        "history": [{ "created_by": "busybox-static of this host" }],
    });
    let config_descriptor = put_blob(&blobs, CONFIG_TYPE, config.to_string().as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config_descriptor,
        "layers": [layer_descriptor],
    });
    let mut manifest_descriptor = put_blob(&blobs, MANIFEST_TYPE, manifest.to_string().as_bytes())?;
    manifest_descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });

    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [manifest_descriptor],
    });
    put_file(&layout.join("index.json"), index.to_string().as_bytes())?;
    let version = json!({ "imageLayoutVersion": LAYOUT_VERSION });
    put_file(&layout.join("oci-layout"), version.to_string().as_bytes())
}

/// Stores `content` under its digest and returns its descriptor.
fn put_blob(blobs: &Path, media_type: &str, content: &[u8]) -> io::Result<Value> {
    let digest: String = Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    put_file(&blobs.join(&digest), content)?;
    Ok(json!({
        "mediaType": media_type,
        "digest": format!("sha256:{digest}"),
        "size": content.len(),
    }))
}

fn put_file(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::write(path, content).map_err(|cause| at("write", path, &cause))
}

/// The same kind of error, with what was being done in front of the cause.
fn at(doing: &str, path: &Path, cause: &io::Error) -> io::Error {
    let text = format!("cannot {doing} {}: {cause}", path.display());
    io::Error::new(cause.kind(), text)
}

/// The one layer: busybox, a link for each of its applets, and what a shell expects around it.
fn layer() -> io::Result<Vec<u8>> {
    let path = Path::new(BUSYBOX);
    let busybox = fs::read(path).map_err(|cause| at("read", path, &cause))?;
    let listing = Command::new(path)
        .arg("--list")
        .output()
        .map_err(|cause| at("run", path, &cause))?;
    if !listing.status.success() {
        return Err(io::Error::other(format!(
            "`{BUSYBOX} --list` ended with {}",
            listing.status
        )));
    }
    let applets = String::from_utf8_lossy(&listing.stdout);
    pack(&busybox, applets.lines())
}

fn pack<'a>(busybox: &[u8], applets: impl Iterator<Item = &'a str>) -> io::Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    for (name, mode) in DIRECTORIES {
        let mut header = header(EntryType::Directory, *mode, 0);
        tar.append_data(&mut header, format!("{name}/"), io::empty())?;
    }
    tar.append_data(
        &mut header(EntryType::Regular, 0o755, busybox.len()),
        "bin/busybox",
        busybox,
    )?;
    for applet in applets.filter(|name| *name != "busybox") {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    for (name, text) in FILES {
        let mut header = header(EntryType::Regular, 0o644, text.len());
        tar.append_data(&mut header, name, text.as_bytes())?;
    }
    tar.into_inner()
}

/// Owner root, and the epoch as time, so that the digest depends on nothing but the content.
fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// This machine's architecture in Go's words, which OCI uses.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn the_layer_holds_busybox_its_applets_and_the_user_files() {
        let layer = pack(b"\x7fELF", ["busybox", "cat", "sh"].into_iter()).unwrap();
        let mut seen = Vec::new();
        for entry in tar::Archive::new(layer.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let link = entry
                .link_name()
                .unwrap()
                .map(|target| target.display().to_string());
            let mut body = Vec::new();
            entry.read_to_end(&mut body).unwrap();
            seen.push((name, entry.header().mode().unwrap(), link, body.len()));
        }
        assert!(seen.contains(&("tmp/".into(), 0o1777, None, 0)), "{seen:?}");
        assert!(
            seen.contains(&("bin/busybox".into(), 0o755, None, 4)),
            "{seen:?}"
        );
        assert!(
            seen.contains(&("bin/sh".into(), 0o777, Some("busybox".into()), 0)),
            "{seen:?}"
        );
        assert!(
            seen.iter().any(|(name, ..)| name == "etc/passwd"),
            "{seen:?}"
        );
        let busybox_entries = seen
            .iter()
            .filter(|(name, ..)| name == "bin/busybox")
            .count();
        assert_eq!(
            busybox_entries, 1,
            "the applet list names busybox itself; it must stay a file"
        );
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        let pack = || pack(b"busybox", ["ls"].into_iter()).unwrap();
        assert_eq!(pack(), pack());
    }
}
