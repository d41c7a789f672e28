//! `varve image prune`: images without a name, or all that nobody uses.

use std::collections::{BTreeSet, HashSet};

use snapshotter::gc::{self, Forgotten};
use snapshotter::leases;
use solver::frontend::familiar_tagged;
use solver::images::find::platform;
use solver::images::{Images, is_dangling, lease_id};
use store::{Looking, Table};

use super::describe::Described;
use super::filter::Filters;
use super::remove::user;
use crate::args::groups::Prune;
use crate::commands::prune::agreed;
use crate::daemon::Site;
use crate::error::print;
use crate::output::size;
use crate::owner::turns::Need;

/// Removes images, and what only they need.
///
/// # Errors
/// A filter that makes no sense; those of the store, and then nothing is lost that is needed.
pub(in crate::commands) fn prune(site: &Site, options: &Prune) -> anyhow::Result<()> {
    let filters = Filters::of_prune(&options.filter, options.all)?;
    // Before the question: who has read standard input cannot be carried out elsewhere any more.
    let snapshots = site.open_snapshots()?;
    let what = match options.all {
        true => "all images that are neither mounted nor run",
        false => "all images without a name",
    };
    if !options.force && !agreed(what)? {
        return Ok(());
    }
    // Beside builds: what they rely on stays.
    let _turn = site.turn(Need::Beside)?;
    let _looking = Looking::begin();
    // Builds and mounts that are gone keep nothing.
    solver::build::release_leases(&snapshots)?;
    let images = Images::new(snapshots.clone());
    images.mounted(&site.place())?;
    let (own, now) = (platform(None)?, jiff::Timestamp::now());
    let mut forgotten = Forgotten::default();
    let mut told = String::new();
    let mut gone = BTreeSet::new();
    let mut kept = HashSet::new();
    for named in images.list()? {
        let described = Described::of(&images, &named);
        let id = described.id.to_string();
        let image = (&*named.name, &named.target);
        if !filters.fit(&described, now) || user(&images, &snapshots, image, &own)?.is_some() {
            kept.insert(id);
            continue;
        }
        if !is_dangling(&named.name) {
            told.push_str(&format!("untagged: {}\n", familiar_tagged(&named.name)));
        }
        gone.insert(id);
        if let Some(lease) = leases::find(snapshots.store(), &lease_id(&named.name))? {
            let row = (Table::Image, named.name.into_bytes());
            forgotten.unchanged.push((lease, row));
        }
    }
    for id in gone.iter().filter(|id| !kept.contains(*id)) {
        told.push_str(&format!("deleted: {id}\n"));
    }
    // What others have thrown away goes too, and is not counted.
    let before = snapshots.store().trash_bytes()?;
    gc::collect_without(&snapshots, &forgotten, false)?;
    let reaped = snapshots.store().trash().reap(u64::MAX)?.bytes;
    let bytes = reaped.saturating_sub(before);
    if !told.is_empty() {
        told = format!("Deleted Images:\n{told}\n");
    }
    print(&format!("{told}Total reclaimed space: {}\n", size(bytes)))
}
