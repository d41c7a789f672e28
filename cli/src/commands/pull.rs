//! `varve pull`.

use super::transfer;
use crate::args;
use crate::daemon::Site;

/// Brings images of registries into the store, and prints their names.
///
/// # Errors
/// The registry does not have it or does not answer (nothing is taken in then); those of the store.
pub(super) fn pull(site: &Site, options: &args::Pull) -> anyhow::Result<()> {
    transfer::show(site, (options.quiet, options.progress), async |by| {
        let (solver, registries) = (by.solver, by.registries);
        let names = match options.all_tags {
            true => {
                solver
                    .tags(registries, &options.image, by.progress, by.cancel)
                    .await?
            }
            false => vec![options.image.clone()],
        };
        let mut pulled = Vec::new();
        for name in &names {
            let platforms = match options.all_platforms {
                true => {
                    solver
                        .platforms(registries, name, by.progress, by.cancel)
                        .await?
                }
                false => options.platforms.clone(),
            };
            let platforms: Vec<_> = match platforms.is_empty() {
                true => vec![None],
                false => platforms.iter().map(|one| Some(&**one)).collect(),
            };
            let mut named = None;
            // One comes to the other: the name stands for the same index.
            for platform in &platforms {
                let one = solver.pull(registries, name, *platform, by.progress, by.cancel);
                named = Some(one.await?);
            }
            pulled.extend(named);
        }
        Ok(pulled)
    })
}
