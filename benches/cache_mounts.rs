//! `cargo xtask bench cache_mounts`: how much sooner a step that installs or compiles is done
//! again when it has a cache mount.
//!
//! Each workload of `cache_mounts/workloads.rs` is a Dockerfile in the usual style on a Debian
//! base. It is built twice in each round by `varve build`, in turns: with `RUN --mount=type=cache`,
//! and without. The step's own line is another one in each round, as after a change of
//! requirements, so it always runs; round 0 fills the cache. Packages come from where this machine
//! gets its own.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use benches::figure::{Outcome, Samples, Unit};
use benches::measure::{Contestant, take_turns};
use benches::oci_layout::Layout;
use benches::package_sources::PackageSources;
use benches::report::{self, Row};
use benches::side::{Build, Varve};
use benches::{Options, Side, debian_base, disk, machine, program};

#[path = "cache_mounts/workloads.rs"]
mod workloads;

use workloads::{Step, WORKLOADS, Workload};

/// The name of this bench.
const TARGET: &str = "cache_mounts";

/// Whom varve with the mount is compared with: itself.
const PEER: &str = "without";

/// Stage that is built.
const RESULT: &str = "result";

/// What `--help` says besides the flags.
const NEEDS: &str = "\
VARVE_BIN names the binary to measure. mmdebstrap makes the base images; cargo and rustc are this
machine's own, found by `rustc --print sysroot`.";

fn main() -> ExitCode {
    let names = WORKLOADS.iter().map(|one| (one.name, one.title));
    program::run(TARGET, NEEDS, names, measure_all)
}

fn measure_all(options: &Options, home: &Path) -> Result<ExitCode> {
    let (_disk, home) = &disk::workplace(home, options.keep)?;
    let mut rows = Vec::new();
    let mut described = None;
    for workload in WORKLOADS.iter().filter(|one| options.selects(one.name)) {
        let place = home.join(workload.name);
        let bench = Bench::new(workload, &place)?;
        if described.is_none() {
            let versions = [("varve", bench.varve.version()?)];
            described = Some(machine::describe(home, &versions)?);
        }
        let mut sides = [true, false].map(|is_mounted| Rebuild {
            bench: &bench,
            is_mounted,
        });
        let rounds = 0..=options.rounds;
        let outcomes = take_turns(workload.name, Unit::Seconds, &mut sides, rounds, round);
        let named = sides.iter().map(Contestant::name).zip(outcomes);
        rows.push(Row::new(
            workload.name,
            workload.title,
            workload.target,
            named,
        ));
        // The next one has a base of its own; a disk holds no four of them for nothing.
        if !options.keep {
            fs::remove_dir_all(&place).with_context(|| format!("remove {}", place.display()))?;
        }
    }
    let code = report::finish(PEER, &rows, &described.unwrap_or_default(), options)?;
    for row in &rows {
        if let Some(factor) = speed_up(row) {
            report::print(&format!(
                "{:<6} {factor:.1}x as fast with the cache mount",
                row.name
            ));
        }
    }
    Ok(code)
}

/// How many times the median without the mount is that with it.
fn speed_up(row: &Row) -> Option<f64> {
    let median =
        |outcome: &Option<Outcome>| outcome.as_ref()?.as_ref().ok().and_then(Samples::median);
    Some(median(&row.peer)? / median(&row.varve)?)
}

/// One workload, ready to be built.
struct Bench {
    workload: &'static Workload,
    sources: PackageSources,
    varve: Varve,
    place: std::path::PathBuf,
}

impl Bench {
    fn new(workload: &'static Workload, place: &Path) -> Result<Self> {
        let context = place.join("context");
        fs::create_dir_all(&context).with_context(|| format!("create {}", context.display()))?;
        let base = place.join("base");
        let archive = debian_base::archive(workload.packages)?;
        let layout = Layout::create(&base)?;
        let layer = layout.layer("debian", |out| {
            io::copy(&mut fs::File::open(&archive)?, out)?;
            Ok(())
        })?;
        layout.image("base", &[layer])?;
        let sources = PackageSources::of_this_machine();
        let mut arguments = sources.arguments.clone();
        arguments.extend((workload.contexts)()?);
        let varve = Varve::find(&base)?.with(arguments, sources.variables.clone());
        let mut bench = Bench {
            workload,
            sources,
            varve,
            place: place.to_owned(),
        };
        bench.varve.begin(&place.join("varve"))?;
        Ok(bench)
    }
}

/// The same Dockerfile with the cache mount, or without.
struct Rebuild<'a> {
    bench: &'a Bench,
    is_mounted: bool,
}

impl Contestant for Rebuild<'_> {
    fn name(&self) -> &'static str {
        match self.is_mounted {
            true => "varve",
            false => PEER,
        }
    }
}

fn round(side: &mut Rebuild<'_>, round: usize) -> Result<benches::measure::Sample> {
    let bench = side.bench;
    let workload = bench.workload;
    let caches = match side.is_mounted {
        true => workload.caches,
        false => "",
    };
    let step = Step {
        mounts: format!("{caches} {}", bench.sources.mounts()),
        word: format!("{}-{round}", side.name()),
    };
    let text = format!(
        "FROM base AS {RESULT}\n{}{}",
        bench.sources.environment(),
        (workload.steps)(&step)
    );
    let recipe = bench.place.join(side.name());
    fs::create_dir_all(&recipe)?;
    fs::write(recipe.join("Dockerfile"), text)?;
    let took = bench.varve.build(&Build {
        context: bench.place.join("context"),
        recipe,
        target: RESULT,
        export: None,
    })?;
    Ok(took.into())
}
