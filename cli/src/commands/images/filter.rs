//! `varve images --filter`.

use anyhow::{bail, ensure};
use jiff::Timestamp;
use solver::frontend::{familiar, familiar_tagged, matches_pattern, normalize};
use solver::images::{Images, is_dangling};

use super::describe::Described;
use super::{find, split};
use crate::args::booleans::boolean;
use crate::args::images as args;
use crate::commands::times;

/// What an image must be to be listed.
#[derive(Debug, Default)]
pub(super) struct Filters {
    /// One of these, if there are any.
    references: Vec<String>,
    /// All of these: a key, and perhaps its value.
    labels: Vec<(String, Option<String>)>,
    /// None of these.
    labels_not: Vec<(String, Option<String>)>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    /// With a name or without.
    dangling: Option<bool>,
}

impl Filters {
    /// Reads what was said.
    ///
    /// # Errors
    /// An unknown key; an image that is not there.
    pub(super) fn read(options: &args::Images, images: &Images) -> anyhow::Result<Self> {
        let mut filters = Filters::default();
        filters.references.extend(options.name.clone());
        let mut references = Vec::new();
        for args::Filter { key, value } in &options.filter {
            match key.as_str() {
                "reference" => references.push(value.clone()),
                "label" => filters.labels.push(label(value)),
                "before" => narrow(&mut filters.before, created(images, value)?, Timestamp::min),
                "until" => narrow(&mut filters.before, times::past(value)?, Timestamp::min),
                "since" => narrow(&mut filters.since, created(images, value)?, Timestamp::max),
                "dangling" => filters.dangling = Some(dangling(value)?),
                key => bail!(
                    "--filter {key}=…: unknown key; there are reference, label, before, since, \
                     until and dangling"
                ),
            }
        }
        ensure!(
            references.is_empty() || filters.references.is_empty(),
            "a NAME and --filter reference=… say the same; give one of them"
        );
        filters.references.append(&mut references);
        Ok(filters)
    }

    /// Reads what was said of the images that are to go; nothing is known of a name then.
    ///
    /// # Errors
    /// An unknown key.
    pub(super) fn of_prune(said: &[args::Filter], all: bool) -> anyhow::Result<Self> {
        let mut filters = Filters {
            dangling: (!all).then_some(true),
            ..Filters::default()
        };
        for args::Filter { key, value } in said {
            match key.as_str() {
                "label" => filters.labels.push(label(value)),
                "label!" => filters.labels_not.push(label(value)),
                "until" => narrow(&mut filters.before, times::past(value)?, Timestamp::min),
                // docker's older word for --all.
                "dangling" => filters.dangling = dangling(value)?.then_some(true),
                key => bail!(
                    "--filter {key}=…: unknown key; there are until, label, label! and dangling"
                ),
            }
        }
        Ok(filters)
    }

    /// Whether an image is to be listed.
    pub(super) fn fit(&self, image: &Described, now: Timestamp) -> bool {
        let created = image.created.unwrap_or(now);
        let has = |(key, value): &(String, Option<String>)| match (image.labels.get(key), value) {
            (Some(found), Some(value)) => found == value,
            (found, _) => found.is_some(),
        };
        self.dangling
            .is_none_or(|dangling| dangling == is_dangling(&image.name))
            && (self.references.is_empty()
                || self
                    .references
                    .iter()
                    .any(|one| is_called(&image.name, one)))
            && self.labels.iter().all(has)
            && !self.labels_not.iter().any(has)
            && self.before.is_none_or(|before| created < before)
            && self.since.is_none_or(|since| created > since)
    }
}

fn label(value: &str) -> (String, Option<String>) {
    match value.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (value.to_owned(), None),
    }
}

fn dangling(value: &str) -> anyhow::Result<bool> {
    let Some(is_dangling) = boolean(value) else {
        bail!("--filter dangling={value}: expected true or false");
    };
    Ok(is_dangling)
}

fn narrow(
    slot: &mut Option<Timestamp>,
    time: Timestamp,
    choose: fn(Timestamp, Timestamp) -> Timestamp,
) {
    *slot = Some(slot.map_or(time, |known| choose(known, time)));
}

fn created(images: &Images, name: &str) -> anyhow::Result<Timestamp> {
    let found = find(images, name, None)?;
    let Some(named) = found.names.first() else {
        bail!("nothing is known of when {name} was made");
    };
    let described = Described::of(images, named);
    match described.created {
        Some(created) => Ok(created),
        None => bail!("{name} does not say when it was made"),
    }
}

/// Whether a pattern, as docker reads it, means a name: with or without its tag, and with or
/// without what is filled in by default.
fn is_called(name: &str, pattern: &str) -> bool {
    let tagged = familiar_tagged(name);
    let (full, _) = split(name);
    let forms = [name, full, &tagged, split(&tagged).0, &familiar(name)];
    let same = normalize(pattern).is_ok_and(|pattern| pattern == name);
    same || forms.iter().any(|form| matches_pattern(pattern, form))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_docker_means() {
        for (name, pattern, expected) in [
            ("docker.io/library/busybox:latest", "busybox", true),
            ("docker.io/library/busybox:latest", "busybox:latest", true),
            ("docker.io/library/busybox:latest", "busybox:1", false),
            ("docker.io/library/busybox:latest", "busy*", true),
            ("docker.io/library/busybox:latest", "*:latest", true),
            (
                "docker.io/library/busybox:latest",
                "docker.io/library/busybox",
                true,
            ),
            ("docker.io/team/app:1.2", "team/*", true),
            ("docker.io/team/app:1.2", "*", false),
            ("docker.io/team/app:1.2", "team/app:1.?", true),
            ("docker.io/team/app:1.2", "*/*:1.*", true),
            ("docker.io/team/app:1.2", "team/ap", false),
            ("localhost:5000/a/b:1", "localhost:5000/*/*", true),
            ("docker.io/team/app:1.2", "team/[a-c]pp:1.[23]", true),
            ("docker.io/team/app:1.2", "team/[^a]pp", false),
            ("docker.io/team/app:1.2", "team[/]app", true),
            ("docker.io/team/app:1.2", "team/app[", false),
            ("docker.io/team/app:1.2", "team/ap\\p", true),
        ] {
            assert_eq!(is_called(name, pattern), expected, "{name} {pattern}");
        }
        let long = "a".repeat(10_000);
        assert!(!is_called(&long, "*a*a*a*a*a*b"));
    }
}
