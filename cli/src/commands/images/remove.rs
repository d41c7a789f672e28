//! `varve rmi`: names go; an image goes with its last one.

use std::collections::HashSet;

use anyhow::bail;
use snapshotter::{Manager, catalog};
use solver::frontend::{familiar_tagged, normalize};
use solver::images::document::{Descriptor, Platform};
use solver::images::find::platform;
use solver::images::{Images, is_dangling};

use super::{NoSuchImage, find, split};
use crate::args::images as args;
use crate::daemon::Site;
use crate::error::{EXIT_FAILED, Told, print, say, sentence};

use super::describe::short;

/// `varve rmi`.
///
/// # Errors
/// One of the images is not here, or in use (the others are removed); those of the store.
pub(in crate::commands) fn remove(site: &Site, options: &args::Remove) -> anyhow::Result<()> {
    let snapshots = site.open_snapshots()?;
    let images = Images::new(snapshots.clone());
    let own = platform(None)?;
    let mut has_failed = false;
    for text in &options.images {
        let removed = remove_one(&images, &snapshots, &own, text, options.force);
        match removed {
            Ok(told) => print(&told)?,
            Err(error) => {
                say(&format!("ERROR: {}", sentence(error.as_ref())));
                // As docker: --force means that it shall not be there.
                has_failed |= !(options.force && error.is::<NoSuchImage>());
            }
        }
    }
    match has_failed {
        false => Ok(()),
        true => Err(Told { code: EXIT_FAILED }.into()),
    }
}

fn remove_one(
    images: &Images,
    snapshots: &Manager,
    own: &Platform,
    text: &str,
    force: bool,
) -> anyhow::Result<String> {
    // A name with a digest of which nothing is here: it was given to something else.
    if let Ok(name) = normalize(text)
        && name.contains('@')
        && images.resolve(&name)?.is_none()
        && images.remove(&name)?
    {
        return Ok(format!("Untagged: {}\n", familiar_tagged(&name)));
    }
    let found = find(images, text, None)?;
    let id = images.id(&found.called(), &found.target, own);
    let all: Vec<_> = images
        .list()?
        .into_iter()
        .filter(|named| images.id(&named.name, &named.target, own) == id)
        .map(|named| named.name)
        .collect();
    let names = match &found.name {
        // An image may be called by its digest alone: that is one name of it.
        Some(name) if !name.contains('@') || images.has_name(name)? => vec![name.clone()],
        _ => all.clone(),
    };
    // A tag and what goes with it are one name.
    let first = names.iter().find(|name| !name.contains('@'));
    let is_one = names.len() == 1
        || first.is_some_and(|first| with_digests(vec![first.clone()], &all).len() == all.len());
    let names = with_digests(names, &all);
    let is_last = names.len() == all.len();
    if !is_one && !force {
        let names: Vec<_> = names.iter().map(|name| familiar_tagged(name)).collect();
        bail!(
            "conflict: unable to delete {} (must be forced): it has several names: {}",
            short(&id.to_string()),
            names.join(", ")
        );
    }
    if is_last
        && !force
        && let Some(user) = user(images, snapshots, (&found.called(), &found.target), own)?
    {
        bail!(
            "conflict: unable to delete {} (must be forced): it is {user}",
            familiar_tagged(&found.called())
        );
    }
    let mut told = String::new();
    for name in names {
        if images.remove(&name)? && !is_dangling(&name) {
            told.push_str(&format!("Untagged: {}\n", familiar_tagged(&name)));
        }
    }
    if is_last {
        told.push_str(&format!("Deleted: {id}\n"));
    }
    Ok(told)
}

/// As docker: with the last tag that a repository has for an image go its names by digest.
fn with_digests(mut names: Vec<String>, all: &[String]) -> Vec<String> {
    let (digests, tags): (Vec<_>, Vec<_>) = all.iter().partition(|name| name.contains('@'));
    for digest in digests {
        let is_of = |name: &String| split(name).0 == split(digest).0;
        let loses = names.iter().any(|name| !name.contains('@') && is_of(name));
        let keeps = tags.iter().any(|name| is_of(name) && !names.contains(name));
        if loses && !keeps && !names.contains(digest) {
            names.push(digest.clone());
        }
    }
    names
}

/// What uses the files of the image of this name at this moment, in words.
pub(in crate::commands) fn user(
    images: &Images,
    snapshots: &Manager,
    (name, target): (&str, &Descriptor),
    own: &Platform,
) -> anyhow::Result<Option<String>> {
    let image = super::describe::open_any(images, name, target, own);
    let Some(snapshot) = image.ok().and_then(|image| image.snapshot()) else {
        return Ok(None);
    };
    let mut users = HashSet::new();
    for row in catalog::all(snapshots.store()) {
        let info = row?.info;
        if info.parent == snapshot && info.kind != snapshotter::Kind::Committed {
            users.insert(match info.labels.get(solver::images::mounted::DIRECTORY) {
                Some(directory) => format!("mounted at {directory}; `varve umount` it first"),
                None => "used by a container that runs".to_owned(),
            });
        }
    }
    Ok(users.into_iter().min())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_digest_go_with_the_last_tag_of_their_repository() {
        let all = [
            "r/a:1",
            "r/a:2",
            "r/a@sha256:x",
            "r/b@sha256:x",
            "r/b:1@sha256:x",
        ];
        let all = all.map(str::to_owned);
        let check = |removed: &[&str], expect: &[&str]| {
            let removed = removed.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(with_digests(removed, &all), expect);
        };
        check(&["r/a:1"], &["r/a:1"]);
        check(&["r/a:1", "r/a:2"], &["r/a:1", "r/a:2", "r/a@sha256:x"]);
        check(&["r/b@sha256:x"], &["r/b@sha256:x"]);
        let one = &all[1..];
        let names = with_digests(vec!["r/a:2".into()], one);
        assert_eq!(names, ["r/a:2", "r/a@sha256:x"]);
    }
}
