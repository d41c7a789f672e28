//! `varve pull`.

use super::transfer;
use crate::args;
use crate::daemon::Site;

/// Brings images of registries into the store, and prints their names.
///
/// # Errors
/// The registry does not have it or does not answer (nothing is taken in then); those of the store.
pub(super) fn pull(site: &Site, options: &args::Pull) -> anyhow::Result<()> {
    let platform = options.platform.as_deref();
    transfer::show(site, (options.quiet, options.progress), async |by| {
        by.solver
            .pull(
                by.registries,
                &options.image,
                platform,
                by.progress,
                by.cancel,
            )
            .await
    })
}
