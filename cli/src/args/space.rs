//! What is said about the space that things take: `varve du`, `varve prune`, `varve system df`.

use clap::Args;

use super::DiskSpace;
use super::images::Filter;
use crate::output::format::Format;

/// Which filters there are.
const FILTER_HELP: &str = "\
Filters: until=24h (not used since then), id=BEGINNING, type=regular, type=source.local or
type=exec.cachemount, description~=PATTERN, inuse, shared, private, mutable, parents=ID; with != for
what is not so. All of them must hold.";

/// `varve du`.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Equal content counts once: SIZE is what comes back if everything goes that was used longer ago.
Below the list of the build cache stands what lies where, as `du -sB1` counts.

{FILTER_HELP}
Fields for --format: .ID .Reclaimable .Size .Bytes .LastAccessed .CreatedAt .Type .Description
.UsageCount .Shared .InUse .Mutable .Parents

Examples:
  varve du
  varve du --verbose --filter type=exec.cachemount
  varve du --format '{{{{.Size}}}}\\t{{{{.Description}}}}'"))]
pub(crate) struct Usage {
    /// Only what fits, see below (repeatable)
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// Form of the list: table, json, or a template
    #[arg(long, value_name = "FORMAT", conflicts_with = "verbose")]
    pub(crate) format: Option<Format>,
    /// Show all that is known of each
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// `varve prune`.
#[derive(Debug, Args)]
#[command(after_help = format!("\
Without options: what nothing needs, neither an image nor the build cache. With filters or amounts:
also what they choose of the build cache, the least recently used first. What an image, a mount or
a container needs stays in any case.

{FILTER_HELP}
Amounts: 10GB, 512MB, or a part of the disk: 20%.

Examples:
  varve prune --dry-run --all
  varve prune --filter until=168h
  varve prune --filter type=exec.cachemount --force
  varve prune --max-used-space 20GB                 until the cache takes no more than that"))]
pub(crate) struct Prune {
    /// Only tell what would be freed
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Forget the build cache too: only what named images need stays
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Only what fits of the build cache, see below (repeatable)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<String>,
    /// So much of the build cache stays
    #[arg(long, value_name = "SPACE", alias = "keep-storage")]
    #[arg(help = "So much of the build cache stays (also: --keep-storage)")]
    pub(crate) reserved_space: Option<DiskSpace>,
    /// The build cache takes no more than this afterwards
    #[arg(long, value_name = "SPACE")]
    pub(crate) max_used_space: Option<DiskSpace>,
    /// So much of the disk is free afterwards, if the build cache can make it so
    #[arg(long, value_name = "SPACE")]
    pub(crate) min_free_space: Option<DiskSpace>,
    /// What was used since then stays, as with --filter until=… (24h, 7d)
    #[arg(long, value_name = "DURATION")]
    pub(crate) keep_duration: Option<String>,
    /// Show all that is known of what goes
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Volumes too: varve has none, so nothing more goes
    #[arg(long)]
    pub(crate) volumes: bool,
    /// Images without a name stay: `varve builder prune`
    #[arg(skip)]
    pub(crate) keeps_images: bool,
}

/// `varve system df`.
#[derive(Debug, Args)]
#[command(after_help = "\
Fields for --format: .Type .TotalCount .Active .Size .Reclaimable

Examples:
  varve system df
  varve system df -v
  varve system df --format json")]
pub(crate) struct SystemDf {
    /// Form of the list: table, json, or a template
    #[arg(long, value_name = "FORMAT", conflicts_with = "verbose")]
    pub(crate) format: Option<Format>,
    /// List images and build cache
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// As a filter that containerd's and docker's users write: a key alone stands for "true".
pub(crate) fn until(filter: &str) -> Option<String> {
    let parsed: Option<Filter> = filter.parse().ok();
    let parsed = parsed.filter(|filter| matches!(&*filter.key, "until" | "unused-for"));
    parsed.map(|filter| filter.value)
}
