//! `varve pull`.

use solver::frontend::familiar;
use solver::progress::Progress;
use solver::sources::registry::Puller;

use crate::args;
use crate::daemon::{Service, Site};
use crate::error::print;
use crate::output::{Mode, Output};
use crate::registries;

/// Brings images of registries into the store, and prints their names.
///
/// # Errors
/// The registry does not have it or does not answer (nothing is taken in then); those of the store.
pub(super) fn pull(site: &Site, options: &args::Pull) -> anyhow::Result<()> {
    let client = registries::client(&site.environment)?;
    let service = Service::open(site, &executor::RuntimeChoice::Auto)?;
    let mode = match options.quiet {
        true => Mode::Quiet,
        false => options.progress,
    };
    let output = Output::start(mode, &site.environment)?;
    let progress = Progress::new(output.display());
    let pulled = service.block_on(async {
        let puller = Puller::new(client, tokio::runtime::Handle::current());
        let platform = options.platform.as_deref();
        service
            .solver()
            .pull(puller, &options.image, platform, &progress)
            .await
    });
    output.finish();
    let pulled = pulled?;
    print(&format!(
        "{}  {}\n",
        familiar(&pulled.name),
        pulled.target.digest
    ))
}
