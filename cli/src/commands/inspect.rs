//! `varve inspect`: everything that is known of images.

use serde_json::Value;
use solver::images::Images;
use solver::images::find::platform;

use super::images::describe::{for_templates, inspected};
use super::images::find;
use crate::args::images as args;
use crate::daemon::Site;
use crate::error::{EXIT_FAILED, Told, print, say, sentence};
use crate::output::template::functions::harmless_json;

/// Prints what there is; what is not there is told afterwards.
///
/// # Errors
/// An image is not there or broken; the template does not fit; those of the store.
pub(super) fn inspect(site: &Site, options: &args::Inspect) -> anyhow::Result<()> {
    let images = Images::new(site.open_snapshots()?);
    let said = options.platform.as_deref();
    let wanted = platform(said)?;
    let (mut shown, mut failed) = (Vec::new(), Vec::new());
    for name in &options.images {
        let found = find(&images, name, said);
        match found.and_then(|found| inspected(&images, &found, &wanted, said.is_some())) {
            Ok(image) => shown.push(image),
            Err(error) => failed.push(error),
        }
    }
    let text = match &options.format {
        None => {
            let text = serde_json::to_string_pretty(&Value::Array(shown))?;
            harmless_json(&text) + "\n"
        }
        Some(template) => {
            let shown = shown.into_iter().map(for_templates);
            let shown = shown.collect::<Result<Vec<_>, _>>()?;
            let lines = shown.iter().map(|image| template.render(image));
            let lines = lines.map(|line| line.map(|line| line + "\n"));
            let text = lines.collect::<Result<String, _>>();
            text.map_err(|reason| anyhow::anyhow!("template error: {reason}"))?
        }
    };
    print(&text)?;
    for error in &failed {
        say(&format!("ERROR: {}", sentence(error.as_ref())));
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(Told { code: EXIT_FAILED }.into()),
    }
}
