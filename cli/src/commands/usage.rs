//! `varve du`: what takes space, as `du -sB1` counts it: blocks on disk, hard links once.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;
use solver::gc::survey::{Entry, survey};
use store::space::{self, BLOCK_BYTES};

use super::cache_list::{self, Chosen};
use super::prune;
use super::table::table;
use crate::args::space as args;
use crate::daemon::Site;
use crate::error::print;
use crate::output::format::Format;
use crate::output::size;

/// What lies where, for the entries of the root directory.
const KINDS: [(&str, &str); 7] = [
    ("objects", "file contents, each once"),
    ("db", "database"),
    ("meta", "metadata images"),
    ("checkouts", "plain directories"),
    ("snapshots", "writable layers"),
    ("ingest", "being taken in"),
    ("trash", "waiting to be deleted"),
];

/// Prints the build cache and what lies where.
///
/// # Errors
/// The root directory cannot be read; those of the store.
pub(super) fn usage(site: &Site, options: &args::Usage) -> anyhow::Result<()> {
    fs::metadata(&site.root).with_context(|| format!("nothing is in {}", site.root.display()))?;
    let chosen = Chosen::read(&options.filter)?;
    let (surveyed, reclaimable) = {
        let snapshots = site.open_snapshots()?;
        solver::build::release_leases(&snapshots)?;
        let surveyed = survey(&snapshots)?;
        (surveyed, prune::would_free(&snapshots)?)
        // Closed here: an open database still changes its size.
    };
    let now = jiff::Timestamp::now().as_second();
    let entries = surveyed.entries.iter();
    let entries: Vec<_> = entries.filter(|entry| chosen.means(entry, now)).collect();
    if let Some(format) = &options.format {
        return print(&cache_list::listed(&entries, format)?);
    }
    match options.verbose {
        true => print(&cache_list::verbose(&entries))?,
        false if entries.is_empty() => {}
        false => print(&(cache_list::listed(&entries, &Format::Table)? + "\n"))?,
    }
    if !options.filter.is_empty() {
        let sum = |wanted: &dyn Fn(&Entry) -> bool| {
            let wanted = entries.iter().filter(|entry| wanted(entry));
            size(wanted.map(|entry| entry.bytes).sum())
        };
        let reclaimable = sum(&Entry::is_reclaimable);
        return print(&format!(
            "Reclaimable: {reclaimable}\nTotal: {}\n",
            sum(&|_| true)
        ));
    }
    let taken = Taken::below(&site.root)
        .with_context(|| format!("cannot measure {}", site.root.display()))?;
    print(&taken.text(reclaimable))
}

/// Bytes on disk, by entry of a directory.
#[derive(Debug, Default, PartialEq, Eq)]
struct Taken {
    entries: BTreeMap<String, u64>,
    /// The directory itself and files in it.
    other: u64,
    /// Of the trash, its contents.
    trash: u64,
}

impl Taken {
    /// Measures a directory. File systems that are mounted below do not count.
    fn below(root: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(root)?;
        let mut taken = Taken {
            other: found.blocks() * BLOCK_BYTES,
            ..Taken::default()
        };
        let mut linked = HashSet::new();
        for entry in fs::read_dir(root)? {
            let entry = entry?;
            let bytes = space::taken(&entry.path(), found.dev(), &mut linked)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == store::layout::TRASH {
                taken.trash = bytes.saturating_sub(entry.metadata()?.blocks() * BLOCK_BYTES);
            }
            match KINDS.iter().any(|(kind, _)| *kind == name) {
                true => *taken.entries.entry(name).or_default() += bytes,
                false => taken.other += bytes,
            }
        }
        Ok(taken)
    }

    fn total(&self) -> u64 {
        self.entries.values().sum::<u64>() + self.other
    }

    fn text(&self, (reclaimable, more): (u64, u64)) -> String {
        let row = |name: &str, bytes: u64, what: &str| {
            vec![
                name.to_owned(),
                size(bytes),
                bytes.to_string(),
                what.to_owned(),
            ]
        };
        let mut rows: Vec<_> = KINDS
            .iter()
            .filter_map(|(kind, what)| Some(row(kind, *self.entries.get(*kind)?, what)))
            .collect();
        rows.push(row("other", self.other, "directories, locks, notes"));
        rows.push(row("total", self.total(), "as `du -sB1` counts"));
        let reclaimable = reclaimable + self.trash;
        rows.push(row("reclaimable", reclaimable, "by `varve prune`"));
        rows.push(row("build cache", more, "more, by `varve prune --all`"));
        table(&["WHAT", "SIZE", "BYTES", ""], &rows, &[1, 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_that_of_du() {
        let root = tempfile::tempdir().unwrap();
        for directory in ["objects/a/b", "db", "meta", "elsewhere"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        let file = root.path().join("objects/a/b/file");
        fs::write(&file, vec![1; 100_000]).unwrap();
        fs::hard_link(&file, root.path().join("meta/again")).unwrap();
        fs::write(root.path().join("db/log"), "x").unwrap();
        fs::write(root.path().join("lock"), "1").unwrap();
        std::os::unix::fs::symlink("/nowhere", root.path().join("elsewhere/link")).unwrap();
        let sparse = fs::File::create(root.path().join("objects/sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
        let du = std::process::Command::new("du")
            .arg("-sB1")
            .arg(root.path())
            .output()
            .unwrap();
        let du = String::from_utf8(du.stdout).unwrap();
        let du: u64 = du.split_whitespace().next().unwrap().parse().unwrap();
        let taken = Taken::below(root.path()).unwrap();
        assert_eq!(taken.total(), du);
        assert!(taken.entries["objects"] >= 100_000 && taken.entries.contains_key("db"));
        assert!(!taken.entries.contains_key("elsewhere"));
    }

    #[test]
    fn the_contents_of_the_trash_count_as_reclaimable() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("trash/x")).unwrap();
        fs::create_dir(root.path().join("db")).unwrap();
        let taken = Taken::below(root.path()).unwrap();
        let directory = fs::metadata(root.path().join("trash/x")).unwrap().blocks() * BLOCK_BYTES;
        assert_eq!(taken.trash, directory);
        let text = taken.text((1_000, 0));
        let line = text.lines().find(|line| line.starts_with("reclaimable"));
        let bytes = format!(" {} ", directory + 1_000);
        assert!(line.unwrap().contains(&bytes), "{text}");
    }
}
