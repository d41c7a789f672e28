//! What `varve pull` and `varve push` have in common: an image on its way, which can be watched and
//! stopped.

use solver::frontend::familiar;
use solver::images::Named;
use solver::progress::Progress;
use solver::request::Registries;
use solver::{CancelToken, Solver};

use crate::daemon::{Service, Site};
use crate::error::print;
use crate::interrupt::Interrupts;
use crate::output::{Mode, Output};
use crate::registries;

/// What a transfer is done with.
#[derive(Debug)]
pub(super) struct Means<'m> {
    pub(super) solver: &'m Solver,
    pub(super) registries: &'m Registries,
    pub(super) progress: &'m Progress,
    pub(super) cancel: &'m CancelToken,
}

/// Carries a transfer out, shows how far it is, and prints what the images are called.
///
/// # Errors
/// Those of the transfer and of the store.
pub(super) fn show(
    site: &Site,
    (is_quiet, mode): (bool, Mode),
    transfer: impl AsyncFnOnce(Means<'_>) -> solver::Result<Vec<Named>>,
) -> anyhow::Result<()> {
    let registries = registries::configured(&site.environment)?;
    let service = Service::open(site, &executor::RuntimeChoice::Auto)?;
    let mode = if is_quiet { Mode::Quiet } else { mode };
    let output = Output::start(mode, &site.environment)?;
    let progress = Progress::new(output.display());
    let (done, interrupted) = service.block_on(async {
        let cancel = CancelToken::new();
        let switch = cancel.clone();
        let interrupts = Interrupts::watch(move || switch.cancel());
        let means = Means {
            solver: service.solver(),
            registries: &registries,
            progress: &progress,
            cancel: &cancel,
        };
        let done = transfer(means).await;
        (done, interrupts.came())
    });
    output.finish();
    let transferred = match (done, interrupted) {
        (Ok(transferred), _) => transferred,
        (Err(_), Some(interrupted)) => return Err(interrupted.into()),
        (Err(error), None) => return Err(error.into()),
    };
    let line = |named: &Named| match is_quiet {
        // As docker.
        true => format!("{}\n", named.name),
        false => format!("{}  {}\n", familiar(&named.name), named.target.digest),
    };
    print(&transferred.iter().map(line).collect::<String>())
}
