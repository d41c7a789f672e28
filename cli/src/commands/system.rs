//! `varve system df`: what images, containers and the build cache take, in docker's columns.

use serde_json::{Value, json};
use solver::gc::survey::survey;
use solver::images::Images;

use super::{cache_list, images};
use crate::args::images::Images as ImagesOptions;
use crate::args::space::SystemDf;
use crate::daemon::Site;
use crate::error::print;
use crate::output::format::{Columns, Format};
use crate::output::size;

const COLUMNS: Columns<'_> = Columns {
    fields: &[
        ("TYPE", "Type"),
        ("TOTAL", "TotalCount"),
        ("ACTIVE", "Active"),
        ("SIZE", "Size"),
        ("RECLAIMABLE", "Reclaimable"),
    ],
    right: &[1, 2, 3],
};

/// Prints the table.
///
/// # Errors
/// Those of the store.
pub(super) fn df(site: &Site, options: &SystemDf) -> anyhow::Result<()> {
    let snapshots = site.open_snapshots()?;
    solver::build::release_leases(&snapshots)?;
    let store = Images::new(snapshots.clone());
    let surveyed = survey(&snapshots)?;
    let shared = surveyed.entries.iter().filter(|entry| entry.is_shared);
    let of_images = surveyed.image_bytes + shared.map(|entry| entry.bytes).sum::<u64>();
    let counted = images::counted(&store, &snapshots)?;
    let open: Vec<_> = surveyed
        .entries
        .iter()
        .filter(|entry| entry.is_mutable)
        .collect();
    let cache: Vec<_> = surveyed
        .entries
        .iter()
        .filter(|entry| !entry.is_shared && !entry.is_mutable)
        .collect();
    let cache_bytes: u64 = cache.iter().map(|entry| entry.bytes).sum();
    let open_bytes: u64 = open.iter().map(|entry| entry.bytes).sum();
    let in_use = cache.iter().filter(|entry| entry.is_in_use).count();
    let rows = [
        row(
            "Images",
            [counted.total, counted.active],
            of_images,
            counted.reclaimable,
        ),
        row("Containers", [open.len(), open.len()], open_bytes, 0),
        row("Local Volumes", [0, 0], 0, 0),
        row(
            "Build Cache",
            [cache.len(), in_use],
            cache_bytes,
            surveyed.reclaimable(),
        ),
    ];
    let format = options.format.clone().unwrap_or_default();
    let table = format.list(&rows, &COLUMNS)?;
    if !options.verbose {
        return print(&table);
    }
    print("Images space usage:\n\n")?;
    // What was opened is closed before it is opened again.
    drop((store, snapshots));
    images::list(site, &ImagesOptions::everything())?;
    print("\nBuild cache usage: ")?;
    print(&format!("{}\n\n", size(cache_bytes)))?;
    print(&cache_list::listed(&cache, &Format::Table)?)
}

fn row(kind: &str, [total, active]: [usize; 2], bytes: u64, reclaimable: u64) -> Value {
    let part = match bytes {
        0 => String::new(),
        bytes => format!(" ({}%)", (reclaimable.min(bytes)) * 100 / bytes),
    };
    json!({
        "Type": kind,
        "TotalCount": total.to_string(),
        "Active": active.to_string(),
        "Size": size(bytes),
        "Bytes": bytes,
        "Reclaimable": format!("{}{part}", size(reclaimable.min(bytes))),
    })
}
