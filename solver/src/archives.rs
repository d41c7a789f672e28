//! Images in and out of archives and layouts, as they are: `import`, `load`, `save`.

use std::fs::File;
use std::path::Path;

use snapshotter::leases;
use store::Batch;

use crate::build::Solver;
use crate::error::{Error, Result};
use crate::exporters;
use crate::exporters::save::Saved;
use crate::frontend;
use crate::images::Named;
use crate::images::document::{Descriptor, Platform};
use crate::images::find::platform;
use crate::progress::Progress;
use crate::sources::layout::{Copied, Layout, Taken};
use crate::sources::spool::Spooled;

impl Solver {
    /// Brings the images of a layout or archive, plain or compressed, into the store. `name` is for
    /// an image that the layout does not name, or for its only one.
    ///
    /// # Errors
    /// [`Error::BadImage`], [`Error::Io`]; nothing is visible then.
    pub fn import(&self, path: &Path, name: Option<&str>) -> Result<Vec<Named>> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let unnamed = |_: &Descriptor, tag: &str| {
            frontend::normalize(&format!("{}:{tag}", stem.to_lowercase()))
        };
        let what = path.display().to_string();
        if path.is_dir() {
            return self.take_in(&Layout::open(path)?, (&what, &[]), name, &unnamed);
        }
        let input = File::open(path).map_err(|e| Error::io("read", path, e))?;
        let spooled = Spooled::new(input, &what, self.snapshots().store().root())?;
        let layout = Layout::open_as(&spooled.path(), &what)?;
        self.take_in(&layout, (&what, &[]), name, &unnamed)
    }

    /// Brings the images of an archive into the store, from a file or pipe, plain or compressed.
    /// `what` is what it is called; of `platforms`, if there are any, is all that is taken of each
    /// image. An image that has no name there gets `<none>@<digest>`.
    ///
    /// # Errors
    /// As [`Solver::import`].
    pub fn load(&self, input: File, what: &str, platforms: &[String]) -> Result<Vec<Named>> {
        let wanted = platforms.iter().map(|text| platform(Some(text)));
        let wanted = wanted.collect::<Result<Vec<_>>>()?;
        let spooled = Spooled::new(input, what, self.snapshots().store().root())?;
        let layout = Layout::open_as(&spooled.path(), what)?;
        let unnamed = |target: &Descriptor, _: &str| Ok(format!("<none>@{}", target.digest));
        self.take_in(&layout, (what, &wanted), None, &unnamed)
    }

    /// Writes images of the store into an archive or layout, with the digests that they have here.
    ///
    /// # Errors
    /// [`Error::NoImage`], [`Error::BadImage`]; [`Error::Io`]: nothing half-written stays.
    pub fn save(&self, saved: &Saved, progress: &Progress) -> Result<()> {
        // Nothing that it has found is collected meanwhile.
        let _work = self.snapshots().store().work();
        let step = progress.step("saving images");
        let done = exporters::save::save(saved, self.images(), &step);
        step.end(done)
    }

    fn take_in(
        &self,
        layout: &Layout,
        (what, platforms): (&str, &[Platform]),
        name: Option<&str>,
        unnamed: &dyn Fn(&Descriptor, &str) -> Result<String>,
    ) -> Result<Vec<Named>> {
        let (images, content) = (self.images(), self.images().content());
        let ingest = content.begin();
        let mut batch = Batch::new();
        let taken = Taken {
            are_used: false,
            platforms,
        };
        let listed = layout.list()?;
        let mut found = Vec::new();
        for image in &listed {
            let blobs = layout.copy(&image.target, content, (&ingest, &mut batch), taken)?;
            let names = image.name.iter().cloned().collect();
            found.push(Copied {
                names,
                target: image.target.clone(),
                blobs,
            });
        }
        if listed.is_empty() {
            found = layout.copy_docker(content, &ingest, &mut batch, platforms)?;
        }
        if name.is_some() && found.len() != 1 {
            let reason = format!("it holds {} images; import it without a name", found.len());
            return Err(Error::bad_image(what, reason));
        }
        let mut names = Vec::new();
        for copied in found {
            let given = name.map_or(copied.names, |name| vec![name.to_owned()]);
            // A bare tag is no name: `umoci` and `skopeo` write those.
            let full = given
                .iter()
                .filter(|given| name.is_some() || given.contains([':', '/']));
            let full = full.map(|name| frontend::normalize(name));
            let mut full = full.collect::<Result<Vec<_>>>()?;
            if full.is_empty() {
                let tag = given.first().map_or("latest", String::as_str);
                full.push(unnamed(&copied.target, tag)?);
            }
            for name in full {
                let held = copied.blobs.iter();
                let held = held.map(|blob| leases::Reference::Blob(*blob)).collect();
                images.name(&mut batch, &name, &copied.target, held);
                names.push(name);
            }
        }
        ingest.commit(batch)?;
        let mut all = images.list()?;
        all.retain(|named| names.contains(&named.name));
        Ok(all)
    }
}
