//! `varve push`.

use super::transfer;
use crate::args;
use crate::daemon::Site;

/// Brings an image of the store to its registry, and prints its name and digest there.
///
/// # Errors
/// The image is not here; the registry does not take it or does not answer.
pub(super) fn push(site: &Site, options: &args::Push) -> anyhow::Result<()> {
    let platform = options.platform.as_deref();
    transfer::show(site, (options.quiet, options.progress), async |by| {
        let names = match options.all_tags {
            true => by.solver.tags_here(&options.image)?,
            false => vec![options.image.clone()],
        };
        let mut pushed = Vec::new();
        for name in &names {
            let one = by
                .solver
                .push(by.registries, name, platform, by.progress, by.cancel);
            pushed.push(one.await?);
        }
        Ok(pushed)
    })
}
