//! What every bench binary does around its workloads: understand the command line, list what there
//! is, and go inside the [`confinement`].

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::arguments::usage;
use crate::confinement;
use crate::{Options, report};

/// Runs the bench `target`, whose workloads are `names` with their titles. `measure` does it, in
/// the directory of this run, and may leave anything behind in there. `needs` is for `--help`.
pub fn run<'n>(
    target: &str,
    needs: &str,
    names: impl Iterator<Item = (&'n str, &'n str)>,
    measure: impl FnOnce(&Options, &Path) -> Result<ExitCode>,
) -> ExitCode {
    let names: Vec<_> = names.collect();
    match run_checked(target, needs, &names, measure) {
        Ok(code) => code,
        Err(error) => {
            report::failure(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run_checked(
    target: &str,
    needs: &str,
    names: &[(&str, &str)],
    measure: impl FnOnce(&Options, &Path) -> Result<ExitCode>,
) -> Result<ExitCode> {
    let options = Options::parse(std::env::args().skip(1))?;
    if options.help {
        report::print(&usage(target, needs));
        return Ok(ExitCode::SUCCESS);
    }
    let mut selected = names.iter().filter(|(name, _)| options.selects(name));
    if options.list {
        for (name, title) in selected {
            report::print(&format!("{name:<14} {title}"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    ensure!(
        selected.next().is_some(),
        "no workload has a name like {}; --list shows them",
        options.names.join(" or ")
    );
    match &options.inside {
        None => confinement::run_again_inside(&options),
        Some(directory) => measure(&options, directory),
    }
}
