//! `varve mount`, `varve umount`: the files of an image, for the programs of the host.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::json;
use solver::frontend::familiar_tagged;
use solver::images::Images;
use solver::images::find::platform;
use solver::images::mounted::Mounted;

use super::contents::opened;
use super::images::describe::short;
use crate::args::contents as args;
use crate::caller::Caller;
use crate::daemon::Site;
use crate::error::print;
use crate::output::format::Columns;
use crate::rootless::Standing;

/// Mounts and prints where, or lists.
///
/// # Errors
/// There is no such image; it cannot be mounted there.
pub(super) fn mount(site: &Site, options: &args::Mount) -> anyhow::Result<()> {
    let snapshots = site.open_snapshots()?;
    let _work = snapshots.store().work();
    let images = Images::new(snapshots);
    let place = site.place();
    let Some(text) = &options.image else {
        let rows = images.mounted(&place)?.into_iter().map(|one| {
            json!({
                "Image": familiar_tagged(&one.name),
                "ID": short(&one.id),
                "Directory": one.directory.display().to_string(),
            })
        });
        let fields = [
            ("IMAGE", "Image"),
            ("IMAGE ID", "ID"),
            ("DIRECTORY", "Directory"),
        ];
        let columns = Columns {
            fields: &fields,
            right: &[],
        };
        let format = options.format.clone().unwrap_or_default();
        return print(&format.list(&rows.collect::<Vec<_>>(), &columns)?);
    };
    anyhow::ensure!(
        site.standing == Standing::Root,
        "other programs do not see what an ordinary user's varve mounts: run varve as root, or copy \
         the files out: varve cp {text}:/ DIRECTORY"
    );
    let (name, image) = opened(&images, text)?;
    let caller = Caller::current();
    let directory = options.directory.as_deref();
    let directory = directory.map(|path| caller.absolute(path)).transpose()?;
    let mounted = images.mount(&name, &image, directory.as_deref(), &place);
    let directory = mounted.with_context(|| format!("cannot mount {}", familiar_tagged(&name)))?;
    print(&format!("{}\n", directory.display()))
}

/// Unmounts and prints what.
///
/// # Errors
/// Something of it is not mounted or in use; the others are unmounted.
pub(super) fn unmount(site: &Site, options: &args::Unmount) -> anyhow::Result<()> {
    let images = Images::new(site.open_snapshots()?);
    let place = site.place();
    let mounted = images.mounted(&place)?;
    let mut chosen: Vec<&Mounted> = Vec::new();
    if options.all {
        chosen.extend(&mounted);
    }
    for text in &options.what {
        let before = chosen.len();
        chosen.extend(mounted.iter().filter(|one| is_meant(&images, text, one)));
        if chosen.len() == before {
            let there = mounted
                .iter()
                .map(|one| one.directory.display().to_string());
            let there = match mounted.is_empty() {
                true => "nothing is".to_owned(),
                false => format!("there are {}", there.collect::<Vec<_>>().join(", ")),
            };
            bail!("no image {text:?} is mounted; {there}");
        }
    }
    for one in chosen {
        let done = images.unmount(one, options.force, &place);
        done.with_context(|| {
            format!(
                "cannot unmount {}; if something uses it, end that or say --force",
                one.directory.display()
            )
        })?;
        print(&format!("{}\n", one.directory.display()))?;
    }
    Ok(())
}

/// Whether a word means this mount: its directory, its id or its beginning, or a name that the
/// image has or had.
fn is_meant(images: &Images, text: &str, mounted: &Mounted) -> bool {
    let path = Caller::current().absolute(Path::new(text));
    let is_there = |path: PathBuf| {
        // Without symbolic links, as far as this process can tell.
        path == mounted.directory
            || std::fs::canonicalize(path).is_ok_and(|found| found == mounted.directory)
    };
    if path.is_ok_and(is_there) {
        return true;
    }
    let own = platform(None);
    let found = own.and_then(|own| {
        let found = images.meant_by(text, &own)?;
        Ok(images.id(&found.called(), &found.target, &own).to_string())
    });
    match found {
        Ok(id) => id == mounted.id,
        // The image may be gone while it is mounted.
        Err(_) => {
            let named = solver::frontend::normalize(text).is_ok_and(|name| name == mounted.name);
            named || (text.len() >= 4 && short(&mounted.id).starts_with(text))
        }
    }
}
