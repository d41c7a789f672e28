//! `varve images`, `varve tag`, `varve rmi`.

use serde::Serialize;
use snapshotter::leases;
use solver::frontend::{familiar, normalize};
use solver::images::document::Platform;
use solver::images::{Images, Named};
use store::Batch;

use super::table::table;
use crate::args::{self, ListFormat};
use crate::daemon::Site;
use crate::error::{print, say};
use crate::output::size;

/// Digits of an id that a person sees, as docker shows them.
const ID_DIGITS: usize = 12;

/// An image as it is listed.
#[derive(Debug, Serialize)]
struct Listed {
    /// As a person writes it.
    name: String,
    /// In full.
    reference: String,
    /// Digest of the manifest or index that the name stands for.
    digest: String,
    /// Digest of the config for this machine's platform; absent if it has none for it.
    id: Option<String>,
    /// Bytes of the layers as they are stored.
    size: Option<u64>,
    /// When the name was given, RFC 3339.
    created: String,
    #[serde(skip)]
    age: String,
}

/// `varve images`.
///
/// # Errors
/// Those of the store.
pub(super) fn list(site: &Site, options: &args::Images) -> anyhow::Result<()> {
    let images = Images::new(site.open_snapshots()?);
    let now = jiff::Timestamp::now();
    let listed: Vec<_> = images
        .list()?
        .iter()
        .map(|named| describe(&images, named, now))
        .collect();
    if options.quiet {
        let ids = listed.iter().filter_map(|image| image.id.as_ref());
        return print(&ids.map(|id| format!("{id}\n")).collect::<String>());
    }
    match options.format {
        ListFormat::Json => print(&(serde_json::to_string_pretty(&listed)? + "\n")),
        ListFormat::Table => {
            let row = |image: Listed| {
                let id = image.id.as_deref().map_or("-".to_owned(), short);
                let size = image.size.map_or("-".to_owned(), size);
                vec![image.name, id, image.age, size]
            };
            let rows: Vec<_> = listed.into_iter().map(row).collect();
            print(&table(
                &["NAME", "IMAGE ID", "CREATED", "SIZE"],
                &rows,
                &[3],
            ))
        }
    }
}

fn describe(images: &Images, named: &Named, now: jiff::Timestamp) -> Listed {
    let image = images.open(&named.name, &named.target, &own_platform());
    // An image of another platform, or a damaged one, is listed all the same.
    let image = image
        .inspect_err(|error| tracing::debug!(%error, "cannot open an image"))
        .ok();
    let created =
        jiff::Timestamp::from_second(named.created).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    Listed {
        name: familiar(&named.name),
        reference: named.name.clone(),
        digest: named.target.digest.to_string(),
        id: image
            .as_ref()
            .map(|image| image.manifest.config.digest.to_string()),
        size: image.map(|image| image.manifest.layers.iter().map(|layer| layer.size).sum()),
        created: created.to_string(),
        age: age(now.as_second() - named.created),
    }
}

/// `sha256:0123456789ab…` as `0123456789ab`.
fn short(digest: &str) -> String {
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.chars().take(ID_DIGITS).collect()
}

/// A time in the past, roughly.
pub(super) fn age(seconds: i64) -> String {
    let units = [
        (86_400, "day"),
        (3_600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let unit = units.into_iter().find(|(length, _)| seconds >= *length);
    match unit.map(|(length, name)| (seconds / length, name)) {
        None => "just now".to_owned(),
        Some((1, name)) => format!("1 {name} ago"),
        Some((count, name)) => format!("{count} {name}s ago"),
    }
}

/// This machine's platform, in Go's words (OCI image-spec, config.md).
fn own_platform() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", ""),
        "aarch64" => ("arm64", "v8"),
        "x86" => ("386", ""),
        "powerpc64" => ("ppc64le", ""),
        "loongarch64" => ("loong64", ""),
        other => (other, ""),
    };
    Platform {
        architecture: architecture.into(),
        os: "linux".into(),
        variant: variant.into(),
    }
}

/// `varve tag`.
///
/// # Errors
/// There is no such image; the new name is none; those of the store.
pub(super) fn tag(site: &Site, options: &args::Tag) -> anyhow::Result<()> {
    let (old, new) = (normalize(&options.image)?, normalize(&options.name)?);
    let snapshots = site.open_snapshots()?;
    let images = Images::new(snapshots.clone());
    let store = snapshots.store();
    // Keeps a collection away between reading what the old name holds and holding it again.
    let ingest = store.begin();
    let lease = format!("image/{old}");
    let held = leases::all(store, &lease)?
        .into_iter()
        .find(|found| found.id == lease);
    let (Some(target), Some(held)) = (images.resolve(&old)?, held) else {
        return Err(unknown(&images, &old));
    };
    let mut batch = Batch::new();
    images.name(&mut batch, &new, &target, held.references);
    Ok(ingest.commit(batch)?)
}

/// `varve rmi`.
///
/// # Errors
/// One of the names is none here (the others are removed); those of the store.
pub(super) fn remove(site: &Site, options: &args::Remove) -> anyhow::Result<()> {
    let images = Images::new(site.open_snapshots()?);
    let mut failed = Vec::new();
    for name in &options.names {
        let full = normalize(name)?;
        match images.remove(&full)? {
            true => say(&format!("removed {}", familiar(&full))),
            false => failed.push(full),
        }
    }
    match failed.first() {
        None => Ok(()),
        Some(name) => Err(unknown(&images, name)),
    }
}

fn unknown(images: &Images, name: &str) -> anyhow::Error {
    let known = images.list().unwrap_or_default();
    let known: Vec<_> = known.iter().map(|named| familiar(&named.name)).collect();
    let known = match known.as_slice() {
        [] => "the store has no images".to_owned(),
        some => format!("the store has {}", some.join(", ")),
    };
    anyhow::anyhow!("no image is called {:?}; {known}", familiar(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_in_the_largest_unit() {
        for (seconds, text) in [
            (-5, "just now"),
            (0, "just now"),
            (1, "1 second ago"),
            (119, "1 minute ago"),
            (7_200, "2 hours ago"),
            (86_400 * 40, "40 days ago"),
        ] {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn ids_are_shortened_as_docker_does() {
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789ab");
    }
}
