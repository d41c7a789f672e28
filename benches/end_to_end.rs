//! `cargo xtask bench end_to_end`: whole builds, as a person starts them, by varve and by BuildKit.
//!
//! Each workload of `end_to_end/workloads.rs` is built by `varve build` and, where they are on
//! PATH, by `buildctl build` with a `buildkitd` of its own: in turns, on the same file system, with
//! every result checked. `--help` lists the flags.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use benches::arguments::Sides;
use benches::measure::measure;
use benches::report::{self, Row};
use benches::side::{Buildkit, Varve};
use benches::{Options, Side, Workload, base_image, disk, machine, program};

#[path = "end_to_end/growth.rs"]
mod growth;
#[path = "end_to_end/workloads.rs"]
mod workloads;

use workloads::WORKLOADS;

/// The name of this bench.
const TARGET: &str = "end_to_end";

/// Whom varve is compared with.
const PEER: &str = "buildkit";

/// What `--help` says besides the flags.
const NEEDS: &str =
    "VARVE_BIN names the binary to measure; buildctl, buildkitd and runc are looked for on PATH.";

fn main() -> ExitCode {
    let names = WORKLOADS.iter().map(|one| (one.name, one.title));
    let names = names.chain([(growth::NAME, growth::TITLE)]);
    program::run(TARGET, NEEDS, names, measure_all)
}

fn measure_all(options: &Options, home: &Path) -> Result<ExitCode> {
    let (_disk, home) = &disk::workplace(home, options.keep)?;
    let base = home.join("base");
    base_image::write(&base)?;
    let peer = match options.sides {
        Sides::Varve => None,
        Sides::Peer => Some(Buildkit::find(&base)?),
        Sides::Both => Buildkit::find(&base)
            .inspect_err(|reason| report::note(&format!("without BuildKit: {reason:#}")))
            .ok(),
    };
    let varve = match options.sides {
        Sides::Peer => None,
        Sides::Both | Sides::Varve => Some(Varve::find(&base)?),
    };
    let mut sides: Vec<Box<dyn Side>> = Vec::new();
    sides.extend(peer.map(|side| Box::new(side) as Box<dyn Side>));
    sides.extend(varve.map(|side| Box::new(side) as Box<dyn Side>));
    let versions = sides
        .iter()
        .map(|side| Ok((side.name(), side.version()?)))
        .collect::<Result<Vec<_>>>()?;
    let machine = machine::describe(home, &versions)?;

    let mut rows = Vec::new();
    let selected = |workload: &&Workload| options.selects(workload.name);
    for workload in WORKLOADS.iter().filter(selected) {
        let place = home.join(workload.name);
        let outcomes = measure(workload, &mut sides, &place, options.rounds)?;
        let named = sides.iter().map(|side| side.name()).zip(outcomes);
        let row = Row {
            budget: Some(workload.budget),
            ..Row::new(workload.name, workload.title, workload.target, named)
        };
        if workload.bulky && !options.keep {
            std::fs::remove_dir_all(&place)
                .with_context(|| format!("remove {}", place.display()))?;
        }
        rows.push(row);
    }
    if options.selects(growth::NAME) {
        let place = home.join(growth::NAME);
        rows.push(growth::measure(&mut sides, &place));
        if !options.keep {
            std::fs::remove_dir_all(&place)
                .with_context(|| format!("remove {}", place.display()))?;
        }
    }
    report::finish(PEER, &rows, &machine, options)
}
