//! `varve images`, `varve tag`.

pub(super) mod describe;
mod filter;
pub(super) mod prune;
pub(super) mod remove;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;
use serde_json::{Value, json};
use snapshotter::gc::Accounting;
use snapshotter::leases::{self, Reference};
use snapshotter::{Manager, catalog};
use solver::frontend::{familiar, familiar_tagged, normalize};
use solver::images::find::{Found, platform};
use solver::images::{Images, is_dangling, lease_id};
use store::Batch;

use self::describe::{Described, short};
use self::filter::Filters;
use crate::args::images as args;
use crate::daemon::Site;
use crate::error::print;
use crate::output::format::Columns;
use crate::output::size;

/// `varve images`.
///
/// # Errors
/// A filter or template that makes no sense; those of the store.
pub(super) fn list(site: &Site, options: &args::Images) -> anyhow::Result<()> {
    tracing::debug!(all = options.all, "there are no intermediate images");
    let images = Images::new(site.open_snapshots()?);
    let filters = Filters::read(options, &images)?;
    let now = jiff::Timestamp::now();
    let mut described: Vec<_> = images
        .list()?
        .iter()
        .map(|named| Described::of(&images, named))
        .filter(|image| filters.fit(image, now))
        .collect();
    without_doubles(&mut described);
    described.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.name.cmp(&b.name)));
    if options.quiet {
        let id = |image: &Described| match options.no_trunc {
            true => image.id.to_string(),
            false => short(&image.id.to_string()),
        };
        let mut ids: Vec<_> = described.iter().map(|image| id(image) + "\n").collect();
        let mut seen = std::collections::HashSet::new();
        ids.retain(|id| seen.insert(id.clone()));
        return print(&ids.concat());
    }
    let rows: Vec<_> = described
        .iter()
        .map(|image| row(image, options.no_trunc, now))
        .collect();
    let mut fields = vec![("REPOSITORY", "Repository"), ("TAG", "Tag")];
    if options.digests {
        fields.push(("DIGEST", "Digest"));
    }
    fields.extend([
        ("IMAGE ID", "ID"),
        ("CREATED", "CreatedSince"),
        ("SIZE", "Size"),
    ]);
    let right = [fields.len() - 1];
    let columns = Columns {
        fields: &fields,
        right: &right,
    };
    print(&options.format.list(&rows, &columns)?)
}

/// How many images there are, each once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    pub(super) total: usize,
    /// Of these, how many are mounted or run.
    pub(super) active: usize,
    /// Bytes on disk that no active one needs.
    pub(super) reclaimable: u64,
}

/// Counts images, and what those take that nobody uses.
///
/// # Errors
/// Those of the store.
pub(super) fn counted(images: &Images, snapshots: &Manager) -> anyhow::Result<Counted> {
    let own = platform(None)?;
    let mut known: BTreeMap<String, (bool, Vec<Reference>)> = BTreeMap::new();
    for named in images.list()? {
        let id = images.id(&named.name, &named.target, &own).to_string();
        let image = (&*named.name, &named.target);
        let is_active = remove::user(images, snapshots, image, &own)?.is_some();
        let lease = lease_id(&named.name);
        let held = leases::all(snapshots.store(), &lease)?;
        let held = held.into_iter().filter(|held| held.id == lease);
        let one = known.entry(id).or_default();
        one.0 |= is_active;
        one.1.extend(held.flat_map(|held| held.references));
    }
    let mut accounting = Accounting::new(snapshots.store())?;
    let mut counted = Counted {
        total: known.len(),
        ..Counted::default()
    };
    for wants_active in [true, false] {
        for (is_active, held) in known.values() {
            if *is_active != wants_active {
                continue;
            }
            let mut bytes = 0;
            for reference in held {
                bytes += match reference {
                    Reference::Blob(blob) => accounting.blob(*blob)?,
                    Reference::Tree(tree) => accounting.tree(*tree)?,
                    Reference::Snapshot(key) => match catalog::find(snapshots.store(), key)? {
                        Some(row) => row.tree().map_or(Ok(0), |tree| accounting.tree(tree.id))?,
                        None => 0,
                    },
                };
            }
            match is_active {
                true => counted.active += 1,
                false => counted.reclaimable += bytes,
            }
        }
    }
    Ok(counted)
}

/// The fields that docker has, of which it too leaves some open, and two more.
fn row(image: &Described, in_full: bool, now: jiff::Timestamp) -> Value {
    let tagged = familiar_tagged(&image.name);
    let (repository, tag) = split(&tagged);
    let id = image.id.to_string();
    let created = image
        .created
        .map(|created| created.strftime("%F %T %z UTC"));
    let since = image
        .created
        .map(|created| now.as_second() - created.as_second());
    json!({
        "Repository": repository,
        "Tag": tag,
        "Digest": image.target.digest.to_string(),
        "ID": if in_full { id } else { short(&id) },
        "CreatedAt": created.map_or_else(|| "N/A".to_owned(), |text| text.to_string()),
        "CreatedSince": since.map_or_else(|| "N/A".to_owned(), age),
        "Size": image.size.map_or_else(|| "N/A".to_owned(), size),
        "VirtualSize": image.size.map_or_else(|| "N/A".to_owned(), size),
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "Containers": "N/A",
        "Bytes": image.size,
        "Name": familiar(&image.name),
    })
}

/// As docker: an image that is pulled by digest is in the list by that only if no tag of the same
/// repository stands for it.
fn without_doubles(described: &mut Vec<Described>) {
    let known = |image: &Described| (split(&image.name).0.to_owned(), image.id.to_string());
    let tagged = described.iter().filter(|image| !image.name.contains('@'));
    let tagged: BTreeSet<_> = tagged.map(known).collect();
    described.retain(|image| !image.name.contains('@') || !tagged.contains(&known(image)));
}

/// `team/app:1` as `team/app` and `1`. With a digest, that is what the name means, and not the tag.
pub(super) fn split(name: &str) -> (&str, &str) {
    let (name, has_digest) = match name.split_once('@') {
        Some((name, _)) => (name, true),
        None => (name, false),
    };
    match name.rsplit_once(':') {
        Some((repository, tag)) if has_digest && !tag.contains('/') => (repository, "<none>"),
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "<none>"),
    }
}

/// A time in the past, roughly, in docker's words.
pub(super) fn age(seconds: i64) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    // Docker rounds to whole hours and counts days from these.
    let hours = (seconds + HOUR / 2) / HOUR;
    let (count, unit) = match seconds {
        ..1 => return "Less than a second ago".to_owned(),
        1 => return "1 second ago".to_owned(),
        2..MINUTE => (seconds, "seconds"),
        MINUTE..120 => return "About a minute ago".to_owned(),
        120..HOUR => (seconds / MINUTE, "minutes"),
        _ if hours == 1 => return "About an hour ago".to_owned(),
        _ if hours < 48 => (hours, "hours"),
        _ if hours < 24 * 14 => (hours / 24, "days"),
        _ if hours < 24 * 60 => (hours / 24 / 7, "weeks"),
        _ if hours < 24 * 730 => (hours / 24 / 30, "months"),
        _ => (seconds / DAY / 365, "years"),
    };
    format!("{count} {unit} ago")
}

/// `varve tag`.
///
/// # Errors
/// There is no such image; the new name is none; those of the store.
pub(super) fn tag(site: &Site, options: &args::Tag) -> anyhow::Result<()> {
    let new = new_name(&options.name)?;
    let snapshots = site.open_snapshots()?;
    let images = Images::new(snapshots.clone());
    let store = snapshots.store();
    // Keeps a collection away between reading what the old name holds and holding it again.
    let ingest = store.begin();
    let found = find(&images, &options.image, None)?;
    let lease = lease_id(&found.called());
    let held = leases::all(store, &lease)?
        .into_iter()
        .find(|found| found.id == lease);
    let Some(held) = held else {
        // By its digest alone: content that no name holds.
        return Err(unknown(&images, &options.image));
    };
    let mut batch = Batch::new();
    images.name(&mut batch, &new, &found.target, held.references);
    Ok(ingest.commit(batch)?)
}

/// A name that an image can be given, in full. What a digest stands for nobody decides.
///
/// # Errors
/// It is none.
pub(super) fn new_name(text: &str) -> anyhow::Result<String> {
    let name = normalize(text)?;
    ensure!(
        !name.contains('@'),
        "refusing to create a tag with a digest reference: {text}"
    );
    Ok(name)
}

/// The image that a person means.
///
/// # Errors
/// There is none: told with those that there are; or several.
pub(super) fn find(images: &Images, text: &str, wanted: Option<&str>) -> anyhow::Result<Found> {
    match images.meant_by(text, &platform(wanted)?) {
        Err(solver::Error::NoImage { .. }) => Err(unknown(images, text)),
        found => Ok(found?),
    }
}

/// The error of a command that is told to take an image from this store alone.
pub(super) fn not_here(error: solver::Error) -> anyhow::Error {
    match error {
        solver::Error::NoImage { reference } => anyhow::anyhow!(
            "no such image: {reference}; fetch it with `varve pull {reference}`, or see with \
             `varve images` what there is"
        ),
        other => other.into(),
    }
}

/// No image is called so.
#[derive(Debug, thiserror::Error)]
#[error("no such image: {name:?}; {known}")]
pub(super) struct NoSuchImage {
    name: String,
    known: String,
}

fn unknown(images: &Images, name: &str) -> anyhow::Error {
    let known = images.list().unwrap_or_default();
    let known = known.iter().filter(|named| !is_dangling(&named.name));
    let mut known: Vec<_> = known.map(|named| familiar(&named.name)).collect();
    let more = known.len().saturating_sub(KNOWN_TOLD_MAX);
    known.truncate(KNOWN_TOLD_MAX);
    let known = match (known.as_slice(), more) {
        ([], _) => "the store has no images".to_owned(),
        (some, 0) => format!("the store has {}", some.join(", ")),
        (some, more) => format!("the store has {} and {more} more", some.join(", ")),
    };
    let name = name.to_owned();
    NoSuchImage { name, known }.into()
}

/// Most names that a message lists.
const KNOWN_TOLD_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_as_docker_does() {
        for (seconds, text) in [
            (-5, "Less than a second ago"),
            (0, "Less than a second ago"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (119, "About a minute ago"),
            (3_599, "59 minutes ago"),
            (5_399, "About an hour ago"),
            (7_200, "2 hours ago"),
            (86_400 + 3_600, "25 hours ago"),
            (86_400 * 13, "13 days ago"),
            (86_400 * 40, "5 weeks ago"),
            (86_400 * 70, "2 months ago"),
            (86_400 * 365 * 56, "56 years ago"),
        ] {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn a_port_is_no_tag() {
        for (name, expected) in [
            ("busybox:latest", ("busybox", "latest")),
            ("localhost:5000/app:1", ("localhost:5000/app", "1")),
            ("localhost:5000/app", ("localhost:5000/app", "<none>")),
            ("app@sha256:ab", ("app", "<none>")),
            ("app:1@sha256:ab", ("app", "<none>")),
            (
                "localhost:5000/app@sha256:ab",
                ("localhost:5000/app", "<none>"),
            ),
        ] {
            assert_eq!(split(name), expected);
        }
    }
}
