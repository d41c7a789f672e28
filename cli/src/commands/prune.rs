//! `varve prune`: frees the space of what nothing needs any more.

use snapshotter::{Manager, cache_mounts, gc, leases};
use store::{Batch, Durability, Table};

use crate::args;
use crate::daemon::Site;
use crate::error::print;
use crate::output::size;

/// Leases of remembered steps, of base images of layouts and of cache mounts: the build cache.
const CACHE_LEASES: [&str; 3] = ["record/", "layout/", cache_mounts::PREFIX];

/// Collects, and empties the trash.
///
/// # Errors
/// Those of the store; nothing that is needed is lost whenever it ends.
pub(super) fn prune(site: &Site, options: &args::Prune) -> anyhow::Result<()> {
    let snapshots = site.open_snapshots()?;
    if options.all && options.dry_run {
        anyhow::bail!(
            "--all cannot be tried with --dry-run: what it frees depends on what it forgets"
        );
    }
    let forgotten = if options.all {
        forget_cache(&snapshots)?
    } else {
        0
    };
    let collected = gc::collect(&snapshots, options.dry_run)?;
    let mut reaped = 0;
    if !options.dry_run {
        reaped = snapshots.store().trash().reap(u64::MAX)?.bytes;
    }
    let report = &collected.store;
    let mut text = String::new();
    if forgotten > 0 {
        text.push_str(&format!(
            "forgot {forgotten} remembered steps, base images and cache mounts\n"
        ));
    }
    let (verb, bytes) = match options.dry_run {
        true => ("would remove", report.bytes + report.stray_bytes),
        false => ("removed", reaped + collected.image_bytes),
    };
    text.push_str(&format!(
        "{verb} {} snapshots, {} directories, {} files and {} strays: {}\n",
        collected.snapshots,
        report.trees,
        report.blobs,
        report.strays,
        size(bytes),
    ));
    print(&text)
}

/// Drops the build cache: its records and what keeps their results. What the images of the store
/// need is kept by their own leases.
///
/// # Errors
/// Those of the store.
pub(super) fn forget_cache(snapshots: &Manager) -> snapshotter::Result<usize> {
    let store = snapshots.store();
    let mut batch = Batch::new();
    let mut count = 0;
    for prefix in CACHE_LEASES {
        for lease in leases::all(store, prefix)? {
            leases::delete(&mut batch, &lease.id);
            count += 1;
        }
    }
    for row in store.rows().scan(Table::Record, b"") {
        batch.delete(Table::Record, row?.0);
    }
    store.write(batch, Durability::Disk)?;
    Ok(count)
}
