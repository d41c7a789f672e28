//! `varve save` and `varve load`.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use solver::exporters::save::Saved;
use solver::frontend::familiar_tagged;
use solver::images::Images;
use solver::images::find::platform;
use solver::progress::{Display, Event, EventKind, Progress};
use solver::request::{Destination, ImageFormat};

use super::images::not_here;
use crate::args::archives::{Load, Save, SaveFormat};
use crate::caller::{Caller, open_stdout};
use crate::daemon::{Service, Site};
use crate::environment::Environment;
use crate::error::{print, say};

/// Writes images into one archive or layout.
///
/// # Errors
/// An image is not here, or not whole (nothing is written then); the file cannot be written.
pub(super) fn save(site: &Site, options: &Save) -> anyhow::Result<()> {
    let destination = match &options.output {
        Some(path) if path.as_os_str() != "-" => {
            let absolute = Environment::absolute(path)?;
            // docker makes none either.
            anyhow::ensure!(
                absolute.parent().is_none_or(Path::is_dir),
                "cannot write {}: there is no such directory",
                path.display()
            );
            Destination::Path(absolute)
        }
        _ if options.format == SaveFormat::OciDir => bail!("--format oci-dir needs -o DIR"),
        _ if Caller::current().stdout().is_terminal() => bail!(
            "cowardly refusing to save to a terminal: use the -o flag or redirect standard output"
        ),
        _ => Destination::Open(open_stdout()?),
    };
    let saved = Saved {
        images: options.images.clone(),
        format: match options.format {
            SaveFormat::DockerArchive => ImageFormat::Docker,
            SaveFormat::OciArchive | SaveFormat::OciDir => ImageFormat::Oci,
        },
        is_directory: options.format == SaveFormat::OciDir,
        destination,
        platforms: options.platforms.clone(),
    };
    let service = Service::open(site, &executor::RuntimeChoice::Auto)?;
    let done = service
        .solver()
        .save(&saved, &Progress::new(Arc::new(Warnings)));
    done.map_err(not_here)
}

/// Shows nothing but what a person has to know.
struct Warnings;

impl Display for Warnings {
    fn show(&self, event: Event) {
        if let EventKind::Warning { message } = event.kind {
            say(&format!("WARNING: {message}"));
        }
    }
}

/// Takes in the images of an archive, and prints their names.
///
/// # Errors
/// It is none or is damaged (nothing is taken in then); those of the store.
pub(super) fn load(site: &Site, options: &Load) -> anyhow::Result<()> {
    let (input, what) = match &options.input {
        Some(path) if path.as_os_str() != "-" => {
            let what = path.display().to_string();
            let file = File::open(Environment::absolute(path)?);
            let file = file.with_context(|| format!("cannot load {what}"))?;
            if file.metadata()?.is_dir() {
                bail!("{what} is a directory: take it in with `varve import {what}`");
            }
            (file, what)
        }
        _ => {
            let caller = Caller::current();
            if caller.terminal_of_stdin().is_terminal() {
                bail!("requested load from a terminal: name an archive with -i, or redirect one");
            }
            // Before that: who has read standard input cannot be carried out elsewhere any more.
            site.open_store()?;
            let input = caller.stdin_file().context("cannot read standard input")?;
            (input, "standard input".to_owned())
        }
    };
    let service = Service::open(site, &executor::RuntimeChoice::Auto)?;
    let loaded = service.solver().load(input, &what, &options.platforms)?;
    let images = Images::new(site.open_snapshots()?);
    let own = platform(None)?;
    let mut text = String::new();
    for named in loaded {
        text.push_str(&match named.name.starts_with("<none>@") {
            // The same that `varve images` shows.
            true => {
                let id = images.id(&named.name, &named.target, &own);
                format!("Loaded image ID: {id}\n")
            }
            false => format!("Loaded image: {}\n", familiar_tagged(&named.name)),
        });
    }
    print(&text)
}
