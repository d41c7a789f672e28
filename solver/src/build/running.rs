//! Containers of images: the image is brought here if it is not, its files are mounted, a process
//! runs on them, and what it wrote is thrown away.

use std::collections::BTreeMap;
use std::sync::Arc;

use dockerfile::config::DEFAULT_PATH;
use engine::CancelToken;
use executor::{Cancel, Exit, ExtraMount, HostEntry, Network, Process, ResourceLimit, Stdio};
use mount::Mount;
use snapshotter::{Labels, Manager, Snapshots};

use super::{Solver, blocking};
use crate::error::{Error, Result};
use crate::exec_mounts::{self, Shown, ShownKind};
use crate::executing::Execution;
use crate::frontend;
use crate::images::document::{Platform, RunConfig};
use crate::images::intake::Intake;
use crate::images::{Image, Images};
use crate::ops;
use crate::progress::{Progress, Reporter};
use crate::sources::registry::{Registries, Remote};

/// When a registry is asked for the image of a container: docker's `--pull`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Pull {
    /// If it is not here.
    #[default]
    Missing,
    /// Each time.
    Always,
    /// Not at all.
    Never,
}

/// Which image a container is of.
#[derive(Clone, Debug)]
pub struct RunImage {
    /// Its name or id.
    pub reference: String,
    /// Its platform; `None` is this machine's.
    pub platform: Option<String>,
    /// When it is pulled.
    pub pull: Pull,
}

/// A directory of a container's own, with what the image has there. It goes with the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Where, inside the container.
    pub target: String,
    /// Whether the process may not write to it.
    pub is_read_only: bool,
}

/// How to run a container of an image.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Command in place of the image's.
    pub args: Vec<String>,
    /// Entry point in place of the image's; an empty one removes it.
    pub entrypoint: Option<Vec<String>>,
    /// More environment, `NAME=value`.
    pub env: Vec<String>,
    /// User in place of the image's.
    pub user: Option<String>,
    /// Working directory in place of the image's.
    pub cwd: Option<String>,
    /// The network.
    pub network: Network,
    /// The host name.
    pub hostname: String,
    /// Further lines of /etc/hosts.
    pub hosts: Vec<HostEntry>,
    /// What is mounted besides.
    pub mounts: Vec<ExtraMount>,
    /// Further volumes than the image's.
    pub volumes: Vec<Volume>,
    /// Whether its own files cannot be changed.
    pub is_read_only: bool,
    /// Limits of the processes.
    pub limits: Vec<ResourceLimit>,
    /// Gives it a terminal of this size.
    pub terminal: Option<executor::WindowSize>,
    /// Rights, ceilings, devices, name servers.
    pub extras: executor::Extras,
}

/// A container that can be run. Its files stay in the store as long as this exists.
#[derive(Debug)]
pub struct ReadyContainer {
    name: String,
    config: RunConfig,
    mounts: Vec<Mount>,
    execution: Arc<Execution>,
    /// The platform of the image and this machine's, if they differ and nobody named one.
    unlike: Option<(String, String)>,
    snapshot: TransientSnapshot,
}

/// An open snapshot, removed with this value.
#[derive(Debug)]
struct TransientSnapshot {
    key: String,
    snapshots: Arc<Manager>,
}

impl Drop for TransientSnapshot {
    fn drop(&mut self) {
        if let Err(error) = self.snapshots.remove(&self.key) {
            tracing::warn!(key = self.key, %error, "cannot remove the files of a container");
        }
    }
}

impl Solver {
    /// Whether a registry will be asked for the image of a container.
    ///
    /// # Errors
    /// Those of looking for it here.
    pub async fn is_pulled_for(&self, wanted: &RunImage) -> Result<bool> {
        let platform = frontend::platform(wanted.platform.as_deref())?;
        let platform = ops::source_platform(&platform.unwrap_or_else(llb::Platform::host));
        let (images, wanted) = (self.images.clone(), wanted.clone());
        blocking(move || Ok(find(&images, &wanted, &platform)?.is_none())).await
    }

    /// Makes a container of an image ready, after bringing the image here if that is wanted.
    ///
    /// # Errors
    /// [`Error::NoImage`]; [`Error::Registry`] and what else a pull can fail with;
    /// [`Error::ForeignPlatform`]; [`Error::Cancelled`].
    pub async fn container(
        &self,
        wanted: &RunImage,
        registries: &Registries,
        progress: &Progress,
        cancel: &CancelToken,
    ) -> Result<ReadyContainer> {
        let llb_platform = frontend::platform(wanted.platform.as_deref())?;
        let llb_platform = llb_platform.unwrap_or_else(llb::Platform::host);
        let platform = ops::source_platform(&llb_platform);
        // Until the container's snapshot keeps what is below it.
        let work = self.snapshots.store().work();
        let found = {
            let (images, wanted) = (self.images.clone(), wanted.clone());
            let platform = platform.clone();
            blocking(move || find(&images, &wanted, &platform)).await?
        };
        let (name, image) = match found {
            Some(found) => found,
            None => {
                let pull = self.pull(
                    registries,
                    &wanted.reference,
                    wanted.platform.as_deref(),
                    progress,
                    cancel,
                );
                let named = pull.await?;
                let image = self.images.open(&named.name, &named.target, &platform)?;
                (named.name, image)
            }
        };
        if wanted.platform.is_some() {
            self.execution.check_platform(&llb_platform).await?;
        }
        // An image of one platform is taken whatever that is.
        let own = image
            .config
            .platform()
            .filter(|_| wanted.platform.is_none());
        let unlike = own.filter(|own| own.architecture != platform.architecture);
        let unlike = unlike.map(|own| (own.to_string(), platform.to_string()));
        let remote = (wanted.pull != Pull::Never).then(|| Remote::new(registries, progress));
        let (images, cancel) = (self.images.clone(), cancel.clone());
        let (snapshots, checked) = (self.snapshots.clone(), self.checked.clone());
        let execution = self.execution.clone();
        blocking(move || {
            let _work = work;
            // Layers that were lost come again from where the image came from.
            let layers = match remote.filter(|_| images.has_name(&name).unwrap_or_default()) {
                Some(remote) => remote
                    .layers(&name, Reporter::silent(), cancel.clone())
                    .ok(),
                None => None,
            };
            let intake = Intake {
                source: layers.as_ref().map(|layers| layers as _),
                cancel,
                ..Intake::local()
            };
            let value = images.take_in(&name, &image, &intake)?;
            if let Some(tree) = value.tree()
                && let Some(id) = ops::missing_object(tree, snapshots.store(), &checked)?
            {
                return Err(Error::Store(store::Error::BlobMissing { id }));
            }
            let key = exec_mounts::transient_key("container/");
            let mounts = snapshots.prepare(&key, value.name(), Labels::new())?;
            Ok(ReadyContainer {
                name,
                config: image.config.config,
                mounts,
                execution,
                unlike,
                snapshot: TransientSnapshot { key, snapshots },
            })
        })
        .await
    }
}

impl ReadyContainer {
    /// The platform of the image and this machine's, if they differ and nobody has asked for that.
    #[must_use]
    pub fn unlike(&self) -> Option<(&str, &str)> {
        let (own, host) = self.unlike.as_ref()?;
        Some((own, host))
    }

    /// Runs a process in it until that ends. What it writes is thrown away. Nothing else of the
    /// store is used meanwhile, so that a collection may run.
    ///
    /// # Errors
    /// [`Error::BadImage`] if nothing says what to run; [`Error::Executor`]. A process that fails
    /// is an [`Exit`].
    pub async fn run(self, options: RunOptions, stdio: Stdio, cancel: Cancel) -> Result<Exit> {
        let volumes = volumes(&self.config, &options.volumes);
        let process = process(&self.name, self.config, options)?;
        let ran = self
            .execution
            .run(&self.mounts, &volumes, process, stdio, cancel);
        let exit = ran.await;
        let snapshot = self.snapshot;
        blocking(move || {
            drop(snapshot);
            Ok(())
        })
        .await?;
        exit
    }
}

/// The image, if it is here and need not be asked for.
fn find(
    images: &Images,
    wanted: &RunImage,
    platform: &Platform,
) -> Result<Option<(String, Image)>> {
    if wanted.pull == Pull::Always {
        return Ok(None);
    }
    let found = match images.meant_by(&wanted.reference, platform) {
        Err(Error::NoImage { .. }) if wanted.pull == Pull::Missing => return Ok(None),
        found => found?,
    };
    let name = found.called();
    let image = images.open(&name, &found.target, platform);
    let is_wanted = |image: &Image| wanted.platform.is_none() || image.config.is_for(platform);
    if wanted.pull == Pull::Missing
        && found.name.is_some()
        // Of an index the store has what was pulled.
        && !image.as_ref().is_ok_and(is_wanted)
    {
        return Ok(None);
    }
    let image = image?;
    if !is_wanted(&image) {
        return Err(Error::NoPlatform {
            what: frontend::familiar(&name).to_owned(),
            platform: platform.to_string(),
            there: image
                .config
                .platform()
                .map(|there| there.to_string())
                .unwrap_or_default(),
        });
    }
    Ok(Some((name, image)))
}

/// The volumes of an image and the caller's, which take the place of the image's.
fn volumes(config: &RunConfig, given: &[Volume]) -> Vec<Shown> {
    let shown = |path: &str, read_only| Shown {
        target: format!("/{}", path.trim_matches('/')),
        read_only,
        kind: ShownKind::Own,
    };
    let mut volumes: Vec<_> = given
        .iter()
        .map(|volume| shown(&volume.target, volume.is_read_only))
        .collect();
    for path in config.volumes.iter().flat_map(BTreeMap::keys) {
        let volume = shown(path, false);
        if !volumes.iter().any(|given| given.target == volume.target) {
            volumes.push(volume);
        }
    }
    volumes
}

/// The process of a container: the image's, with what the caller replaces.
fn process(name: &str, config: RunConfig, options: RunOptions) -> Result<Process> {
    // As docker: another entry point drops the image's arguments with the image's entry point.
    let cmd = if options.entrypoint.is_some() {
        None
    } else {
        config.cmd
    };
    let mut args = options.entrypoint.or(config.entrypoint).unwrap_or_default();
    match options.args.is_empty() {
        true => args.extend(cmd.unwrap_or_default()),
        false => args.extend(options.args),
    }
    if args.is_empty() {
        let reason = "it has neither CMD nor ENTRYPOINT; name a command to run";
        return Err(Error::bad_image(frontend::familiar(name), reason));
    }
    // What docker gives to all; what the image and the caller say comes later and counts.
    let mut env = vec![
        format!("PATH={DEFAULT_PATH}"),
        format!("HOSTNAME={}", options.hostname),
    ];
    env.extend(options.terminal.is_some().then(|| "TERM=xterm".to_owned()));
    env.extend(config.env.unwrap_or_default());
    env.extend(options.env);
    let cwd = options.cwd.unwrap_or(config.working_dir);
    Ok(Process {
        args,
        env,
        user: options.user.unwrap_or(config.user),
        cwd: if cwd.is_empty() { "/".into() } else { cwd },
        network: options.network,
        hostname: Some(options.hostname),
        extra_hosts: options.hosts,
        mounts: options.mounts,
        read_only_root: options.is_read_only,
        limits: options.limits,
        terminal: options.terminal,
        extras: options.extras,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(image: &[&str], given: &[&str]) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let config = RunConfig {
            env: Some(words(image)),
            ..RunConfig::default()
        };
        let options = RunOptions {
            args: words(&["true"]),
            entrypoint: None,
            env: words(given),
            user: None,
            cwd: None,
            network: Network::None,
            hostname: "box".to_owned(),
            hosts: Vec::new(),
            mounts: Vec::new(),
            volumes: Vec::new(),
            is_read_only: false,
            limits: Vec::new(),
            terminal: None,
            extras: executor::Extras::default(),
        };
        process("app", config, options).unwrap().env
    }

    #[test]
    fn an_image_that_names_no_path_gets_the_usual_one() {
        let usual = format!("PATH={DEFAULT_PATH}");
        assert_eq!(environment(&[], &[]), [&*usual, "HOSTNAME=box"]);
        // Of equal names the last one counts.
        let found = environment(&["PATH=/bin"], &["HOSTNAME=other"]);
        let expected = [&*usual, "HOSTNAME=box", "PATH=/bin", "HOSTNAME=other"];
        assert_eq!(found, expected);
    }
}
