//! `disk-20`: what the state of each side takes on the disk after an image of 500 MB was built and
//! built again twenty times, with one file in a hundred edited before each time. Nothing is
//! exported, nothing is cleaned up: this is what a cache of builds costs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use benches::figure::{Outcome, Samples, Target, Unit};
use benches::report::{self, Row};
use benches::side::Build;
use benches::workload::RESULT;
use benches::{Side, files};

/// To select it by.
pub(crate) const NAME: &str = "disk-20";

/// What the table says.
pub(crate) const TITLE: &str = "disk after 20 rebuilds of a 500 MB image, 1 % edited each";

const MEBIBYTES: usize = 500;

const REBUILDS: usize = 20;

/// What must be reached.
const TARGET: Target = Target::Ratio(0.4);

const DOCKERFILE: &str = "FROM base AS result\nCOPY . /app\n";

/// Builds, all sides in each round, in the new directory `home`. A side that fails takes no further
/// part.
pub(crate) fn measure(sides: &mut [Box<dyn Side>], home: &Path) -> Row {
    let mut failures: Vec<Option<String>> = sides.iter().map(|_| None).collect();
    if let Err(error) = build_all(sides, &mut failures, home) {
        let text = format!("{error:#}");
        report::failure(&text);
        failures.fill(Some(text));
    }
    let outcome = |(side, failure): (&mut Box<dyn Side>, Option<String>)| {
        side.end();
        let outcome = match failure {
            Some(text) => Err(text),
            None => taken(side.name(), &home.join(side.name())).map_err(|e| format!("{e:#}")),
        };
        (side.name(), outcome)
    };
    let outcomes: Vec<(&'static str, Outcome)> =
        sides.iter_mut().zip(failures).map(outcome).collect();
    Row {
        unit: Unit::Megabytes,
        budget: Some(TARGET),
        ..Row::new(NAME, TITLE, TARGET, outcomes)
    }
}

fn build_all(
    sides: &mut [Box<dyn Side>],
    failures: &mut [Option<String>],
    home: &Path,
) -> Result<()> {
    check_room(home)?;
    let (context, recipe) = (home.join("context"), home.join("recipe"));
    for directory in [&context, &recipe] {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
    }
    files::write_application(&context, MEBIBYTES)?;
    fs::write(recipe.join("Dockerfile"), DOCKERFILE)?;
    let build = Build {
        context: context.clone(),
        recipe,
        target: RESULT,
        export: None,
    };
    for round in 0..=REBUILDS {
        if round > 0 {
            files::edit_one_percent(&context, round)?;
        }
        for (side, failure) in sides.iter_mut().zip(failures.iter_mut()) {
            if failure.is_some() {
                continue;
            }
            let begun = match round {
                0 => side.begin(&home.join(side.name())),
                _ => Ok(()),
            };
            if let Err(error) = begun.and_then(|()| side.build(&build)) {
                let name = side.name();
                let text = format!("{name} fails at {NAME} in round {round}: {error:#}");
                report::failure(&text);
                *failure = Some(text);
            }
        }
    }
    Ok(())
}

/// A side may keep the whole image each time, and one more is the context.
const ROOM_BYTES: u64 = ((REBUILDS + 4) * MEBIBYTES) as u64 * (1 << 20);

/// A disk that runs full in the middle would be everybody's trouble.
fn check_room(home: &Path) -> Result<()> {
    fs::create_dir_all(home).with_context(|| format!("create {}", home.display()))?;
    let disk = rustix::fs::statvfs(home)?;
    let free = disk.f_bavail * disk.f_frsize;
    ensure!(
        free >= ROOM_BYTES,
        "{NAME} needs {} MB below {}, and {} MB are free there; free some, or name another place by \
         --scratch",
        ROOM_BYTES / 1_000_000,
        home.display(),
        free / 1_000_000,
    );
    Ok(())
}

/// What the directory takes once all of it is on the disk.
fn taken(side: &str, state: &Path) -> Result<Samples> {
    rustix::fs::sync();
    // Far below 2^52.
    let megabytes = files::disk_bytes(state)? as f64 / 1e6;
    report::progress(NAME, side, REBUILDS, &Unit::Megabytes.shown(megabytes));
    Ok(Samples {
        values: vec![megabytes],
        layer_bytes: None,
    })
}
