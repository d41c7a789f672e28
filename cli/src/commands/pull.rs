//! `varve pull`.

use solver::CancelToken;
use solver::frontend::familiar;
use solver::progress::Progress;

use crate::args;
use crate::daemon::{Service, Site};
use crate::error::print;
use crate::interrupt::Interrupts;
use crate::output::{Mode, Output};
use crate::registries;

/// Brings images of registries into the store, and prints their names.
///
/// # Errors
/// The registry does not have it or does not answer (nothing is taken in then); those of the store.
pub(super) fn pull(site: &Site, options: &args::Pull) -> anyhow::Result<()> {
    let registries = registries::configured(&site.environment)?;
    let service = Service::open(site, &executor::RuntimeChoice::Auto)?;
    let mode = match options.quiet {
        true => Mode::Quiet,
        false => options.progress,
    };
    let output = Output::start(mode, &site.environment)?;
    let progress = Progress::new(output.display());
    let pulled = service.block_on(async {
        let cancel = CancelToken::new();
        let switch = cancel.clone();
        let interrupts = Interrupts::watch(move || switch.cancel());
        let platform = options.platform.as_deref();
        let pulled = service
            .solver()
            .pull(&registries, &options.image, platform, &progress, &cancel)
            .await;
        anyhow::Ok((pulled, interrupts.came()))
    });
    output.finish();
    let pulled = match pulled? {
        (Ok(pulled), _) => pulled,
        (Err(_), Some(interrupted)) => return Err(interrupted.into()),
        (Err(error), None) => return Err(error.into()),
    };
    print(&format!(
        "{}  {}\n",
        familiar(&pulled.name),
        pulled.target.digest
    ))
}
