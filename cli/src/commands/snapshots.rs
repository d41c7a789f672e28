//! `varve snapshots`: what a daemon has for containerd, in the words of `ctr snapshots`.

use std::collections::{BTreeMap, HashSet};

use anyhow::bail;
use serde::Serialize;
use snapshotter::{Info, Kind, Labels};
use store::{Timestamp, Usage};

use super::images::age;
use super::table::table;
use crate::args::ListFormat;
use crate::args::observation::{self, SnapshotsCommand};
use crate::connect::Daemon;
use crate::error::print;
use crate::output::size;

/// A snapshot as it is listed for programs.
#[derive(Debug, Serialize)]
struct Listed {
    key: String,
    /// Empty for none.
    parent: String,
    kind: &'static str,
    /// Bytes, without the parents.
    size: u64,
    /// Files and directories, without the parents.
    inodes: u64,
    /// RFC 3339.
    created: String,
    /// RFC 3339.
    updated: String,
    labels: Labels,
}

/// `varve snapshots`.
///
/// # Errors
/// No daemon runs; those of the daemon.
pub(super) fn snapshots(options: &observation::Snapshots) -> anyhow::Result<()> {
    let daemon = Daemon::connect(&options.daemon.address)?;
    let snapshotter = options.snapshotter.as_str();
    match &options.command {
        SnapshotsCommand::Ls { format } => list(&daemon, snapshotter, *format),
        SnapshotsCommand::Tree => print(&tree(&daemon.snapshots(snapshotter)?)),
        SnapshotsCommand::Usage { key, bytes } => {
            usage(&daemon, snapshotter, key.as_deref(), *bytes)
        }
    }
}

/// The snapshots and what they take; those that are removed meanwhile are left out.
fn all(daemon: &Daemon, snapshotter: &str) -> anyhow::Result<Vec<(Info, Usage)>> {
    let mut found = Vec::new();
    for info in daemon.snapshots(snapshotter)? {
        if let Some(usage) = daemon.usage(snapshotter, &info.key)? {
            found.push((info, usage));
        }
    }
    Ok(found)
}

fn list(daemon: &Daemon, snapshotter: &str, format: ListFormat) -> anyhow::Result<()> {
    let found = all(daemon, snapshotter)?;
    if format == ListFormat::Json {
        let listed: Vec<_> = found.into_iter().map(listed).collect();
        return print(&(serde_json::to_string_pretty(&listed)? + "\n"));
    }
    let now = jiff::Timestamp::now().as_second();
    let row = |(info, usage): (Info, Usage)| {
        vec![
            info.key,
            info.parent,
            word(info.kind).to_owned(),
            size(usage.bytes),
            age(now - info.created.seconds),
        ]
    };
    let rows: Vec<_> = found.into_iter().map(row).collect();
    let header = ["KEY", "PARENT", "KIND", "SIZE", "CREATED"];
    print(&table(&header, &rows, &[3]))
}

fn listed((info, usage): (Info, Usage)) -> Listed {
    Listed {
        kind: word(info.kind),
        size: usage.bytes,
        inodes: usage.inodes,
        created: rfc_3339(info.created),
        updated: rfc_3339(info.updated),
        key: info.key,
        parent: info.parent,
        labels: info.labels,
    }
}

fn rfc_3339(time: Timestamp) -> String {
    let nanoseconds = i32::try_from(time.nanoseconds).unwrap_or_default();
    let time = jiff::Timestamp::new(time.seconds, nanoseconds);
    time.unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// containerd's word for a kind.
fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::View => "View",
        Kind::Active => "Active",
        Kind::Committed => "Committed",
    }
}

fn usage(
    daemon: &Daemon,
    snapshotter: &str,
    key: Option<&str>,
    in_bytes: bool,
) -> anyhow::Result<()> {
    let found: Vec<(String, Usage)> = match key {
        None => {
            let all = all(daemon, snapshotter)?.into_iter();
            all.map(|(info, usage)| (info.key, usage)).collect()
        }
        Some(key) => match daemon.usage(snapshotter, key)? {
            Some(usage) => vec![(key.to_owned(), usage)],
            None => bail!(
                "snapshotter {snapshotter:?} has no snapshot {key:?}; see `varve snapshots ls`"
            ),
        },
    };
    let row = |(key, usage): (String, Usage)| {
        let size = match in_bytes {
            true => usage.bytes.to_string(),
            false => size(usage.bytes),
        };
        vec![key, size, usage.inodes.to_string()]
    };
    let rows: Vec<_> = found.into_iter().map(row).collect();
    print(&table(&["KEY", "SIZE", "INODES"], &rows, &[1, 2]))
}

/// One line for each snapshot below that of its parent.
fn tree(found: &[Info]) -> String {
    let keys: HashSet<&str> = found.iter().map(|info| info.key.as_str()).collect();
    let mut children: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for info in found {
        // A parent that was removed between two messages of the list is none.
        let parent = keys.get(info.parent.as_str()).copied().unwrap_or("");
        children.entry(parent).or_default().push(&info.key);
    }
    let below = |key: &str, level: usize| {
        let keys = children.get(key).into_iter().flatten().rev();
        keys.map(move |key| (*key, level)).collect::<Vec<_>>()
    };
    let mut text = String::new();
    let mut rest = below("", 0);
    while let Some((key, level)) = rest.pop() {
        let mark = if level == 0 { "" } else { "\\_" };
        text.push_str(&format!("{:width$}{mark} {key}\n", "", width = 2 * level));
        rest.extend(below(key, level + 1));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_drawn_as_ctr_draws_it() {
        let info = |(key, parent): (&str, &str)| Info {
            key: key.into(),
            parent: parent.into(),
            kind: Kind::Committed,
            created: Timestamp::default(),
            updated: Timestamp::default(),
            labels: Labels::new(),
        };
        let found = [
            ("a", "base"),
            ("base", ""),
            ("c", "a"),
            ("d", "base"),
            ("e", "gone"),
        ];
        let expected = " base\n  \\_ a\n    \\_ c\n  \\_ d\n e\n";
        assert_eq!(tree(&found.map(info)), expected);
        assert_eq!(tree(&[]), "");
    }
}
