//! How an image was made: docker's columns, newest layer first.

use serde::Deserialize;
use serde_json::json;
use solver::images::Images;
use solver::images::find::platform;

use crate::args::history::List;
use crate::commands::images::describe::{open_any, open_for, short};
use crate::commands::images::{age, find};
use crate::daemon::Site;
use crate::error::print;
use crate::output::format::Columns;
use crate::output::{harmless, size};

/// Characters of an instruction in a table, as docker shows them.
const INSTRUCTION_CHARACTERS: usize = 45;

/// What docker prints for a layer that is no image of its own.
const MISSING: &str = "<missing>";

/// What is read of an image's config (OCI image-spec, config.md).
#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default)]
    history: Option<Vec<Entry>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Entry {
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    created_by: String,
    #[serde(default)]
    comment: String,
    #[serde(default)]
    empty_layer: bool,
}

/// A line of the list.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    entry_created: Option<String>,
    created_by: String,
    size: u64,
    comment: String,
}

/// Shows how an image of the store was made.
///
/// # Errors
/// There is none of that name; those of the store.
pub(super) fn history(
    site: &Site,
    (name, said): (&str, Option<&str>),
    options: &List,
    is_human: bool,
) -> anyhow::Result<()> {
    if !options.filter.is_empty() {
        anyhow::bail!("--filter is for builds; leave out the image, or the filter");
    }
    let images = Images::new(site.open_snapshots()?);
    let found = find(&images, name, said)?;
    let (called, wanted) = (found.called(), platform(said)?);
    let image = match said {
        Some(_) => open_for(&images, &called, &found.target, &wanted)?,
        None => open_any(&images, &called, &found.target, &wanted)?,
    };
    let config: Config = serde_json::from_slice(&image.config_bytes)?;
    let sizes = images.layer_sizes(&image)?;
    let id = image.manifest.config.digest.to_string();
    let rows = rows(config.history.unwrap_or_default(), &sizes);
    print(&shown(&rows, &id, options, is_human)?)
}

/// The entries with the sizes of their layers, newest first. Layers without an entry come last.
fn rows(entries: Vec<Entry>, sizes: &[u64]) -> Vec<Row> {
    let mut sizes = sizes.iter().copied();
    let mut rows = Vec::new();
    for entry in entries {
        let size = match entry.empty_layer {
            true => 0,
            false => sizes.next().unwrap_or(0),
        };
        rows.push(Row {
            entry_created: entry.created,
            created_by: entry.created_by,
            size,
            comment: entry.comment,
        });
    }
    rows.extend(sizes.map(|size| Row {
        entry_created: None,
        created_by: String::new(),
        size,
        comment: String::new(),
    }));
    rows.reverse();
    rows
}

fn shown(rows: &[Row], id: &str, options: &List, is_human: bool) -> anyhow::Result<String> {
    let id_of = |index: usize| match (index, options.no_trunc) {
        (0, true) => id.to_owned(),
        (0, false) => short(id),
        _ => MISSING.to_owned(),
    };
    if options.quiet {
        return Ok((0..rows.len()).map(|index| id_of(index) + "\n").collect());
    }
    let now = jiff::Timestamp::now();
    let object = |(index, row): (usize, &Row)| {
        let none = || "N/A".to_owned();
        let at = row.entry_created.as_deref();
        let at = at.and_then(|created| created.parse::<jiff::Timestamp>().ok());
        let since = at.map_or_else(none, |at| age(now.as_second() - at.as_second()));
        let created = row.entry_created.clone().unwrap_or_else(none);
        let by = harmless(row.created_by.as_bytes());
        json!({
            "ID": id_of(index),
            "CreatedSince": if is_human { since } else { created.clone() },
            "CreatedAt": created,
            "CreatedBy": if options.no_trunc { by } else { beginning(&by) },
            "Size": if is_human { size(row.size) } else { row.size.to_string() },
            "Comment": harmless(row.comment.as_bytes()),
        })
    };
    let rows: Vec<_> = rows.iter().enumerate().map(object).collect();
    let columns = Columns {
        fields: &[
            ("IMAGE", "ID"),
            ("CREATED", "CreatedSince"),
            ("CREATED BY", "CreatedBy"),
            ("SIZE", "Size"),
            ("COMMENT", "Comment"),
        ],
        right: &[],
    };
    options.format.list(&rows, &columns)
}

/// The beginning of an instruction, with `…` for what is left out.
fn beginning(text: &str) -> String {
    if text.chars().count() <= INSTRUCTION_CHARACTERS {
        return text.to_owned();
    }
    let beginning: String = text.chars().take(INSTRUCTION_CHARACTERS - 1).collect();
    beginning + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(created_by: &str, empty_layer: bool) -> Entry {
        Entry {
            created_by: created_by.into(),
            empty_layer,
            ..Entry::default()
        }
    }

    #[test]
    fn sizes_go_with_the_entries_that_made_layers() {
        let entries = vec![entry("ADD", false), entry("ENV", true), entry("RUN", false)];
        let told = |sizes: &[u64]| -> Vec<(String, u64)> {
            let rows = rows(entries.clone(), sizes);
            rows.into_iter()
                .map(|row| (row.created_by, row.size))
                .collect()
        };
        let expect = [("RUN".into(), 2), ("ENV".into(), 0), ("ADD".into(), 1)];
        assert_eq!(told(&[1, 2]), expect);
        assert_eq!(told(&[1])[0], ("RUN".into(), 0), "too few layers");
        assert_eq!(told(&[1, 2, 3])[0], (String::new(), 3), "too many layers");
    }

    #[test]
    fn instructions_are_cut_as_docker_does() {
        let long = "RUN ".to_owned() + &"漢".repeat(60);
        assert_eq!(beginning(&long).chars().count(), 45);
        assert!(beginning(&long).ends_with('…'));
        assert_eq!(beginning("RUN x"), "RUN x");
    }
}
