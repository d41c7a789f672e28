//! `cargo xtask bench end_to_end`: whole builds, as a person starts them, by varve and by BuildKit.
//!
//! Each workload of `end_to_end/workloads.rs` is built by `varve build` and, where they are on
//! PATH, by `buildctl build` with a `buildkitd` of its own: in turns, on the same file system, with
//! every result checked. `--help` lists the flags.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use benches::arguments::{Sides, USAGE};
use benches::measure::{Outcome, measure};
use benches::report::{self, Row};
use benches::side::{Buildkit, Varve};
use benches::{Options, Side, Workload, base_image, confinement};
use serde_json::{Value, json};

#[path = "end_to_end/workloads.rs"]
mod workloads;

use workloads::WORKLOADS;

/// More runnable processes than this, for each processor, before we begin: not a quiet machine.
const QUIET_LOAD: f64 = 0.5;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            report::failure(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let options = Options::parse(std::env::args().skip(1))?;
    if options.help {
        report::print(USAGE);
        return Ok(ExitCode::SUCCESS);
    }
    let selected: Vec<&Workload> = WORKLOADS
        .iter()
        .filter(|workload| options.selects(workload.name))
        .collect();
    ensure!(
        !selected.is_empty(),
        "no workload has a name like {}; --list shows them",
        options.names.join(" or ")
    );
    if options.list {
        for workload in selected {
            report::print(&format!("{:<14} {}", workload.name, workload.title));
        }
        return Ok(ExitCode::SUCCESS);
    }
    match &options.inside {
        None => confinement::run_again_inside(&options),
        Some(directory) => measure_all(&options, &selected, directory),
    }
}

fn measure_all(options: &Options, selected: &[&Workload], home: &Path) -> Result<ExitCode> {
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
    let machine = describe(home, &sides)?;

    let mut rows = Vec::new();
    for workload in selected {
        let place = home.join(workload.name);
        let outcomes = measure(workload, &mut sides, &place, options.rounds)?;
        let row = row(**workload, &sides, outcomes);
        if workload.bulky && !options.keep {
            std::fs::remove_dir_all(&place)
                .with_context(|| format!("remove {}", place.display()))?;
        }
        rows.push(row);
    }
    report::print(&format!("\n{}", report::table(&rows)));
    report::print(&format!(
        "medians of {} rounds in seconds; ratio = varve / buildkit",
        options.rounds
    ));
    if let Some(file) = &options.json {
        report::write_json(file, &machine, &rows)?;
    }
    let has_failed = |outcome: &Option<Outcome>| matches!(outcome, Some(Err(_)));
    let failed = rows
        .iter()
        .any(|row| has_failed(&row.peer) || has_failed(&row.varve));
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn row(workload: Workload, sides: &[Box<dyn Side>], outcomes: Vec<Outcome>) -> Row {
    let mut row = Row {
        workload,
        peer: None,
        varve: None,
    };
    for (side, outcome) in sides.iter().zip(outcomes) {
        match side.name() {
            "varve" => row.varve = Some(outcome),
            _ => row.peer = Some(outcome),
        }
    }
    row
}

/// Says, and returns for the JSON, where and with what we measure.
fn describe(home: &Path, sides: &[Box<dyn Side>]) -> Result<Value> {
    let load = load_average()?;
    let cpus = std::thread::available_parallelism()?.get();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let filesystem = filesystem_of(home);
    let versions = sides
        .iter()
        .map(|side| Ok((side.name(), side.version()?)))
        .collect::<Result<Vec<_>>>()?;
    for (name, version) in &versions {
        report::note(&format!("{name}: {version}"));
    }
    report::note(&format!(
        "Linux {}, {cpus} processors, {filesystem}, load {load:.2}",
        kernel.trim()
    ));
    // The number of processors is small enough for a float.
    #[allow(clippy::cast_precision_loss)]
    if load > QUIET_LOAD * cpus as f64 {
        report::note("the machine is not quiet: expect noise, and look at ratios only");
    }
    Ok(json!({
        "kernel": kernel.trim(),
        "processors": cpus,
        "filesystem": filesystem,
        "load_before": load,
        "versions": versions.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
    }))
}

/// Of the last minute, from /proc/loadavg.
fn load_average() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    let first = text.split_whitespace().next().unwrap_or_default();
    first.parse().context("understand /proc/loadavg")
}

fn filesystem_of(directory: &Path) -> String {
    let output = Command::new("stat")
        .args(["--file-system", "--format=%T"])
        .arg(directory)
        .output();
    output.map_or_else(
        |_| "unknown file system".into(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
