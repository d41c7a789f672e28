//! `varve import`.

use anyhow::Context;
use solver::frontend::familiar;

use super::images::new_name;
use crate::args;
use crate::daemon::{Service, Site};
use crate::environment::Environment;
use crate::error::print;

/// Takes in the images of a layout or archive, and prints their names.
///
/// # Errors
/// The layout is none or is damaged (nothing is taken in then); those of the store.
pub(super) fn import(site: &Site, options: &args::Import) -> anyhow::Result<()> {
    let path = Environment::absolute(&options.path)?;
    // Before the store is made or waited for.
    std::fs::metadata(&path)
        .with_context(|| format!("cannot import {}", options.path.display()))?;
    if let Some(name) = &options.name {
        new_name(name)?;
    }
    let service = Service::open(site, &executor::RuntimeChoice::Auto)?;
    for named in service.solver().import(&path, options.name.as_deref())? {
        print(&format!(
            "{}  {}\n",
            familiar(&named.name),
            named.target.digest
        ))?;
    }
    Ok(())
}
