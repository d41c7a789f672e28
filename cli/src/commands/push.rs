//! `varve push`.

use solver::CancelToken;
use solver::frontend::familiar;
use solver::progress::Progress;

use crate::args;
use crate::daemon::{Service, Site};
use crate::error::print;
use crate::interrupt::Interrupts;
use crate::output::{Mode, Output};
use crate::registries;

/// Brings an image of the store to its registry, and prints its name and digest there.
///
/// # Errors
/// The image is not here; the registry does not take it or does not answer.
pub(super) fn push(site: &Site, options: &args::Push) -> anyhow::Result<()> {
    let registries = registries::configured(&site.environment)?;
    let service = Service::open(site, &executor::RuntimeChoice::Auto)?;
    let mode = match options.quiet {
        true => Mode::Quiet,
        false => options.progress,
    };
    let output = Output::start(mode, &site.environment)?;
    let progress = Progress::new(output.display());
    let pushed = service.block_on(async {
        let cancel = CancelToken::new();
        let switch = cancel.clone();
        let interrupts = Interrupts::watch(move || switch.cancel());
        let platform = options.platform.as_deref();
        let pushed = service
            .solver()
            .push(&registries, &options.image, platform, &progress, &cancel)
            .await;
        anyhow::Ok((pushed, interrupts.came()))
    });
    output.finish();
    let pushed = match pushed? {
        (Ok(pushed), _) => pushed,
        (Err(_), Some(interrupted)) => return Err(interrupted.into()),
        (Err(error), None) => return Err(error.into()),
    };
    print(&format!(
        "{}  {}\n",
        familiar(&pushed.name),
        pushed.target.digest
    ))
}
