//! `varve prune`: frees the space of what nothing needs any more.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use snapshotter::gc::{self, Forgotten};
use snapshotter::{Manager, cache_mounts, leases};
use solver::gc::policy::{Rule, choose};
use solver::gc::survey::{Entry, survey};
use solver::images::find::platform;
use solver::images::{Images, is_dangling, lease_id, lookups};
use store::{Batch, Durability, Looking, Table, Timestamp};

use super::cache_list::{self, Chosen};
use super::images::remove::user;
use crate::args::{DiskSpace, space as args};
use crate::caller::Caller;
use crate::daemon::Site;
use crate::error::{print, say};
use crate::output::format::Format;
use crate::output::size;
use crate::owner::turns::Need;

/// Leases of remembered steps and of base images of layouts: the build cache.
const CACHE_LEASES: [&str; 3] = ["record/", "layout/", lookups::LEASE_PREFIX];

/// Longest answer to a question that is read.
const ANSWER_BYTES_MAX: u64 = 1024;

/// Collects, and empties the trash.
///
/// # Errors
/// Those of the store; nothing that is needed is lost whenever it ends.
pub(super) fn prune(site: &Site, options: &args::Prune) -> anyhow::Result<()> {
    tracing::debug!(volumes = options.volumes, "there are no volumes");
    let mut chosen = Chosen::read(&options.filter)?;
    if let Some(duration) = &options.keep_duration {
        chosen.keep_for(duration)?;
    }
    let has_rule = !options.filter.is_empty()
        || options.keep_duration.is_some()
        || options.reserved_space.is_some()
        || options.max_used_space.is_some()
        || options.min_free_space.is_some();
    // Before the question: who has read standard input cannot be carried out elsewhere any more.
    let snapshots = site.open_snapshots()?;
    if !confirmed(options, has_rule)? {
        return Ok(());
    }
    // Beside builds: what they rely on stays.
    let _turn = site.turn(Need::Beside)?;
    let _looking = Looking::begin();
    // On a full disk nothing can be written, and what is only to be removed makes room.
    let first = match snapshots.store().is_full()? && !options.dry_run {
        true => snapshots.store().trash().reap(u64::MAX)?.bytes,
        false => 0,
    };
    // Builds and mounts that are gone keep nothing.
    solver::build::release_leases(&snapshots)?;
    Images::new(snapshots.clone()).mounted(&site.place())?;
    let trash = first + snapshots.store().trash_bytes()?;
    let mut gone: Vec<Entry> = Vec::new();
    let (forgotten, images, collected) = if has_rule {
        let rule = rule(options, chosen, &snapshots)?;
        let (free, _) = snapshots.store().disk_bytes()?;
        gone = choose(&survey(&snapshots)?, &[rule], &snapshots, (now(), free))?;
        let entries: Vec<_> = gone.iter().collect();
        let collected = solver::gc::collect(&snapshots, &entries, options.dry_run)?;
        (0, 0, collected)
    } else {
        let which = (options.all, options.keeps_images);
        let (forgotten, steps, images) = forgotten(&snapshots, which)?;
        let collected = gc::collect_without(&snapshots, &forgotten, options.dry_run)?;
        (steps, images, collected)
    };
    let bytes = match options.dry_run {
        true => collected.store.disk_bytes + collected.image_bytes + trash,
        false => first + snapshots.store().trash().reap(u64::MAX)?.bytes,
    };
    let gone: Vec<_> = gone.iter().collect();
    if options.verbose {
        print(&cache_list::verbose(&gone))?;
    } else if !gone.is_empty() {
        print(&cache_list::listed(&gone, &Format::Table)?)?;
    }
    print(&told(
        options.dry_run,
        (forgotten, images),
        &collected,
        (trash, bytes),
    ))
}

/// What a prune without rules gives up, and how many remembered steps and unnamed images that is.
fn forgotten(
    snapshots: &Arc<Manager>,
    (all, keeps_images): (bool, bool),
) -> anyhow::Result<(Forgotten, usize, usize)> {
    let mut forgotten = match all {
        true => whole_cache(snapshots)?,
        false => Forgotten::default(),
    };
    let steps = forgotten.leases.len();
    let images = match keeps_images {
        true => 0,
        false => forget_unnamed(snapshots, &mut forgotten)?,
    };
    Ok((forgotten, steps, images))
}

/// Bytes on disk that `varve prune` would free, without what is in the trash already; and how many
/// more `varve prune --all` would.
///
/// # Errors
/// Those of the store.
pub(super) fn would_free(snapshots: &Arc<Manager>) -> anyhow::Result<(u64, u64)> {
    let _looking = Looking::begin();
    let bytes = |all| -> anyhow::Result<u64> {
        let (forgotten, ..) = forgotten(snapshots, (all, false))?;
        let collected = gc::collect_without(snapshots, &forgotten, true)?;
        Ok(collected.store.disk_bytes + collected.image_bytes)
    };
    let (some, all) = (bytes(false)?, bytes(true)?);
    Ok((some, all.saturating_sub(some)))
}

fn told(
    dry_run: bool,
    (forgotten, images): (usize, usize),
    collected: &gc::Collected,
    (trash, bytes): (u64, u64),
) -> String {
    let mut text = String::new();
    let report = &collected.store;
    let (forgot, verb, total) = match dry_run {
        true => ("would forget", "would remove", "reclaimable"),
        false => ("forgot", "removed", "reclaimed"),
    };
    if forgotten > 0 {
        text.push_str(&format!(
            "{forgot} {forgotten} remembered steps and base images\n"
        ));
    }
    if images > 0 {
        let plural = if images == 1 { "" } else { "s" };
        text.push_str(&format!("{verb} {images} image{plural} without a name\n"));
    }
    text.push_str(&format!(
        "{verb} {} snapshots, {} directories, {} files and {} strays\n",
        collected.snapshots, report.trees, report.blobs, report.strays,
    ));
    if trash > 0 {
        let freed = if dry_run { "would free" } else { "freed" };
        text.push_str(&format!(
            "{freed} {} of what was removed before\n",
            size(trash)
        ));
    }
    text.push_str(&format!("Total {total} space: {}\n", size(bytes)));
    text
}

/// Asks before the build cache goes, as docker does: also where no person is, and then no answer is
/// a no.
fn confirmed(options: &args::Prune, has_rule: bool) -> anyhow::Result<bool> {
    if options.force || options.dry_run || !(options.all || has_rule) {
        return Ok(true);
    }
    agreed(match has_rule {
        true => "the part of the build cache that was chosen",
        false => "all build cache",
    })
}

/// Asks whether that is to be removed.
///
/// # Errors
/// Standard input cannot be read.
pub(super) fn agreed(what: &str) -> anyhow::Result<bool> {
    let caller = Caller::current();
    say(&format!(
        "WARNING! This will remove {what}.\nAre you sure you want to continue? [y/N]"
    ));
    let mut answer = Vec::new();
    BufReader::new(caller.stdin().take(ANSWER_BYTES_MAX)).read_until(b'\n', &mut answer)?;
    let is_yes = matches!(answer.trim_ascii(), b"y" | b"Y" | b"yes");
    if !is_yes && !caller.stdin().is_terminal() {
        // Who wrote a script has to learn why nothing happens.
        say("Nothing was removed: there was no \"y\" on standard input; --force does not ask");
    }
    Ok(is_yes)
}

fn now() -> Timestamp {
    Timestamp::from_seconds(jiff::Timestamp::now().as_second())
}

fn rule(options: &args::Prune, chosen: Chosen, snapshots: &Manager) -> anyhow::Result<Rule> {
    let (_, total) = snapshots.store().disk_bytes()?;
    let bytes = |space: Option<DiskSpace>| space.map_or(0, |space| space.of(total));
    Ok(Rule {
        filters: match chosen.conditions.is_empty() {
            true => Vec::new(),
            false => vec![chosen.conditions],
        },
        keep_seconds: chosen.keep_seconds,
        reserved: bytes(options.reserved_space),
        max_used: bytes(options.max_used_space),
        min_free: bytes(options.min_free_space),
    })
}

/// All of the build cache, except what a step uses at this moment.
fn whole_cache(snapshots: &Manager) -> anyhow::Result<Forgotten> {
    let mut forgotten = remembered(snapshots)?;
    for one in cache_mounts::list(snapshots)? {
        if !one.is_in_use {
            let lease = format!("{}{}", cache_mounts::PREFIX, one.identity);
            forgotten.leases.insert(lease);
        }
    }
    Ok(forgotten)
}

/// Adds the images without a name that nobody uses, as `docker image prune` does; tells how many.
fn forget_unnamed(snapshots: &Arc<Manager>, forgotten: &mut Forgotten) -> anyhow::Result<usize> {
    let images = Images::new(snapshots.clone());
    let own = platform(None)?;
    let mut count = 0;
    for named in images.list()? {
        let image = (&*named.name, &named.target);
        let is_free = || anyhow::Ok(user(&images, snapshots, image, &own)?.is_none());
        if is_dangling(&named.name) && is_free()? {
            if let Some(lease) = leases::find(snapshots.store(), &lease_id(&named.name))? {
                let row = (Table::Image, named.name.into_bytes());
                forgotten.unchanged.push((lease, row));
            }
            count += 1;
        }
    }
    Ok(count)
}

/// All records, and what keeps their results.
fn remembered(snapshots: &Manager) -> snapshotter::Result<Forgotten> {
    let store = snapshots.store();
    let mut forgotten = Forgotten::default();
    for prefix in CACHE_LEASES {
        let found = leases::all(store, prefix)?.into_iter();
        forgotten.leases.extend(found.map(|lease| lease.id));
    }
    for row in store.rows().scan(Table::Record, b"") {
        forgotten.rows.push((Table::Record, row?.0.to_vec()));
    }
    Ok(forgotten)
}

/// Drops the build cache: its records and what keeps their results. What the images of the store
/// need is kept by their own leases.
///
/// # Errors
/// Those of the store.
pub(super) fn forget_cache(snapshots: &Manager) -> snapshotter::Result<usize> {
    let forgotten = remembered(snapshots)?;
    let mut batch = Batch::new();
    for lease in &forgotten.leases {
        leases::delete(&mut batch, lease);
    }
    for (table, key) in forgotten.rows {
        batch.delete(table, key);
    }
    snapshots.store().write(batch, Durability::Disk)?;
    Ok(forgotten.leases.len())
}
