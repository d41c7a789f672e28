//! One file for each command (or two that belong together): what it asks the service for, and what
//! it prints.

mod archives;
mod build;
mod cache_list;
mod contents;
mod daemon;
mod debug;
mod doctor;
mod documents;
mod fsck;
mod history;
mod images;
mod import;
mod inspect;
mod login;
mod mount;
mod prune;
mod pull;
mod push;
mod run;
mod snapshots;
mod system;
mod table;
pub(crate) mod times;
mod transfer;
mod usage;

use executor::RuntimeChoice;

use store::Looking;

use crate::args::Command;
use crate::daemon::Site;
use crate::error::say;
use crate::owner::turns::Need;

impl Command {
    /// Whether it can be carried out beside others on the same root directory. Those that cannot
    /// wait until they have it for themselves, or do not use it.
    pub(crate) fn is_shared(&self) -> bool {
        match self {
            Command::Build(_)
            | Command::Run(_)
            | Command::Images(_)
            | Command::Tag(_)
            | Command::Rmi(_)
            | Command::Import(_)
            | Command::Pull(_)
            | Command::Push(_)
            | Command::Inspect(_)
            | Command::Diff(_)
            | Command::Cp(_)
            | Command::Save(_)
            | Command::Load(_)
            | Command::History(_)
            | Command::Du(_)
            | Command::Mount(_)
            | Command::Umount(_)
            | Command::SystemDf(_)
            | Command::ImagePrune(_)
            | Command::Prune(_) => true,
            // What it takes out may be known to others to be there.
            Command::Fsck(options) => !options.repair,
            Command::Login(_)
            | Command::Logout(_)
            | Command::Completion(_)
            | Command::Man(_)
            | Command::Complete(_)
            | Command::Doctor(_)
            | Command::Daemon(_)
            | Command::Debug(_)
            | Command::Snapshots(_) => false,
        }
    }

    /// Whether it opens the root directory itself, without being carried out beside others, and
    /// without mounting anything that is for builds.
    pub(crate) fn uses_root(&self) -> bool {
        matches!(self, Command::Fsck(_))
    }

    /// Beside which other commands of the same owner it can work; `None` if it says so itself.
    fn need(&self) -> Option<Need> {
        match self {
            // Not while somebody is asked.
            Command::Prune(_) | Command::ImagePrune(_) => None,
            Command::Fsck(_) => Some(Need::Alone),
            Command::Images(_)
            | Command::Tag(_)
            | Command::Rmi(_)
            | Command::Inspect(_)
            | Command::Mount(_)
            | Command::Umount(_)
            | Command::Du(_)
            | Command::SystemDf(_) => Some(Need::Moment),
            _ => Some(Need::Beside),
        }
    }

    /// Whether it tells what there is, or takes it away, and keeps none of it.
    fn only_looks(&self) -> bool {
        matches!(
            self,
            Command::Images(_)
                | Command::Rmi(_)
                | Command::Inspect(_)
                | Command::Umount(_)
                | Command::Du(_)
                | Command::SystemDf(_)
        )
    }

    /// What it wants containers made by, if it makes any.
    pub(crate) fn runtime(&self) -> Option<&RuntimeChoice> {
        match self {
            Command::Build(options) => Some(options.runtime.choice()),
            Command::Run(options) => Some(options.runtime.choice()),
            _ => None,
        }
    }
}

/// Carries out a command; gives its exit code.
///
/// # Errors
/// What [`crate::error::report`] tells.
pub(crate) fn dispatch(site: &Site, command: Command) -> anyhow::Result<u8> {
    // Held until the end: what a command has found is not deleted by another one.
    let turn = command.need().map(|need| site.turn(need)).transpose()?;
    let turn = turn.flatten();
    let _looking = command.only_looks().then(Looking::begin);
    if command.runtime().is_some()
        && let Some(warning) = site.standing.warning()
    {
        say(&warning);
    }
    match command {
        Command::Build(options) => build::build(site, *options)?,
        Command::Run(options) => return run::run(site, *options, turn),
        Command::Images(options) => images::list(site, &options)?,
        Command::Inspect(options) => inspect::inspect(site, &options)?,
        Command::Tag(options) => images::tag(site, &options)?,
        Command::Rmi(options) => images::remove::remove(site, &options)?,
        Command::Diff(options) => contents::diff(site, &options)?,
        Command::Cp(options) => contents::copy(site, &options)?,
        Command::Mount(options) => mount::mount(site, &options)?,
        Command::Umount(options) => mount::unmount(site, &options)?,
        Command::Import(options) => import::import(site, &options)?,
        Command::Pull(options) => pull::pull(site, &options)?,
        Command::Push(options) => push::push(site, &options)?,
        Command::Login(options) => login::log_in(site, &options)?,
        Command::Logout(options) => login::log_out(site, &options)?,
        Command::Save(options) => archives::save(site, &options)?,
        Command::Load(options) => archives::load(site, &options)?,
        Command::History(options) => history::history(site, options)?,
        Command::Du(options) => usage::usage(site, &options)?,
        Command::Prune(options) => prune::prune(site, &options)?,
        Command::ImagePrune(options) => images::prune::prune(site, &options)?,
        Command::SystemDf(options) => system::df(site, &options)?,
        Command::Fsck(options) => fsck::fsck(site, &options)?,
        Command::Doctor(options) => doctor::doctor(site, &options)?,
        Command::Completion(options) => documents::completion(&options)?,
        Command::Man(options) => documents::man(&options)?,
        Command::Complete(options) => documents::complete(site, &options)?,
        Command::Daemon(options) => daemon::daemon(site, options)?,
        Command::Debug(options) => debug::debug(&options)?,
        Command::Snapshots(options) => snapshots::snapshots(&options)?,
    }
    Ok(0)
}
