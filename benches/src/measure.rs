//! Lets the sides take turns at a workload, and keeps the times.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::figure::{Outcome, Samples, Unit};
use crate::image_archive;
use crate::report;
use crate::side::{Build, Export, Side};
use crate::workload::{CHECK, Content, Moment, Place, RESULT, Workload};

/// Somebody who takes turns.
pub trait Contestant {
    /// What the table calls it.
    fn name(&self) -> &'static str;
}

impl<T: Contestant + ?Sized> Contestant for Box<T> {
    fn name(&self) -> &'static str {
        (**self).name()
    }
}

/// One sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// In the unit of the workload.
    pub value: f64,
    /// Bytes of the largest layer, where an archive was written.
    pub layer_bytes: Option<u64>,
}

impl From<Duration> for Sample {
    fn from(took: Duration) -> Self {
        Self {
            value: took.as_secs_f64(),
            layer_bytes: None,
        }
    }
}

/// Has the sides do `one_round` in turns: in `rounds`, the numbers of the rounds. Round 0 does not
/// count. A side that fails takes no further part; the others go on. The outcomes stand in the
/// order of `sides`.
pub fn take_turns<S: Contestant>(
    workload: &str,
    unit: Unit,
    sides: &mut [S],
    rounds: RangeInclusive<usize>,
    mut one_round: impl FnMut(&mut S, usize) -> Result<Sample>,
) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = sides.iter().map(|_| Ok(Samples::default())).collect();
    for round in rounds {
        // Whoever comes second finds the disk as the first has left it.
        let mut order: Vec<usize> = (0..sides.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let Ok(samples) = &mut outcomes[index] else {
                continue;
            };
            let side = &mut sides[index];
            let name = side.name();
            let outcome = one_round(side, round)
                .with_context(|| format!("{name} fails at {workload} in round {round}"));
            match outcome {
                // Also for what begins cold: the programs themselves are read from disk once.
                Ok(_) if round == 0 => {}
                Ok(sample) => {
                    report::progress(workload, name, round, &unit.shown(sample.value));
                    samples.values.push(sample.value);
                    samples.layer_bytes = sample.layer_bytes;
                }
                Err(error) => {
                    report::failure(&format!("{error:#}"));
                    outcomes[index] = Err(format!("{error:#}"));
                }
            }
        }
    }
    outcomes
}

/// Runs one round that is not timed and `rounds` that are, in the new directory `home`. A side that
/// fails takes no further part; the others go on. The outcomes stand in the order of `sides`.
///
/// # Errors
/// Where the context of the workload cannot be made.
pub fn measure(
    workload: &Workload,
    sides: &mut [Box<dyn Side>],
    home: &Path,
    rounds: usize,
) -> Result<Vec<Outcome>> {
    let place = workload.set_up(home)?;
    let turn =
        |side: &mut Box<dyn Side>, round| one_round(workload, side.as_mut(), home, &place, round);
    let outcomes = take_turns(workload.name, Unit::Seconds, sides, 0..=rounds, turn);
    for side in sides {
        side.end();
    }
    Ok(outcomes)
}

/// One side's part of a round: the time of the timed build, and the size of the layer it exported.
fn one_round(
    workload: &Workload,
    side: &mut dyn Side,
    home: &Path,
    place: &Place,
    round: usize,
) -> Result<Sample> {
    if round == 0 || workload.cold {
        let state = format!("{}-{round}", side.name());
        side.begin(&home.join(state))?;
    }
    let word = format!("round-{round}");
    workload.begin_round(place, &word)?;
    let plain = Build {
        context: place.context.clone(),
        recipe: place.recipe.clone(),
        target: RESULT,
        export: None,
    };
    let timed = Build {
        export: workload.export.map(|exported| Export {
            file: home.join(format!("{}.tar", side.name())),
            compression: exported.compression,
        }),
        ..plain.clone()
    };
    match workload.export.map(|exported| exported.moment) {
        None | Some(Moment::Building) => {}
        Some(Moment::Built) => drop(side.build(&plain)?),
        Some(Moment::Exported) => {
            side.build(&timed)?;
            timed.export.iter().try_for_each(Export::remove)?;
        }
    }
    // What others have left to write would be written in our time.
    rustix::fs::sync();
    let took = side.build(&timed)?;
    let check = Build {
        recipe: place.check_recipe.clone(),
        target: CHECK,
        ..plain
    };
    side.build(&check).context("the result is not right")?;
    let layer_bytes = timed
        .export
        .map(|export| check_archive(workload, &export))
        .transpose()?;
    Ok(Sample {
        layer_bytes,
        ..Sample::from(took)
    })
}

/// Checks the archive, and removes it so that the next one is a new file.
fn check_archive(workload: &Workload, export: &Export) -> Result<u64> {
    // Compressed, the payload keeps three quarters of its size.
    let layer_bytes_min = match workload.content {
        Content::Payload(mebibytes) => u64::try_from(mebibytes)? * (1 << 20) / 2,
        // Its texts become a third.
        Content::Application(mebibytes) => u64::try_from(mebibytes)? * (1 << 20) / 4,
        Content::Tree(_) | Content::Nothing => 1,
    };
    let bytes = image_archive::check(&export.file, export.compression, layer_bytes_min)?;
    export.remove()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fs;
    use std::rc::Rc;

    use anyhow::bail;

    use super::*;
    use crate::figure::Target;

    /// Writes down what it is told to do; fails in the given build.
    struct Fake {
        name: &'static str,
        said: Rc<RefCell<Vec<String>>>,
        builds: RefCell<usize>,
        fails_at: Option<usize>,
    }

    impl Contestant for Fake {
        fn name(&self) -> &'static str {
            self.name
        }
    }

    impl Side for Fake {
        fn version(&self) -> Result<String> {
            Ok(String::new())
        }

        fn begin(&mut self, _: &Path) -> Result<()> {
            self.said.borrow_mut().push(format!("{} begins", self.name));
            Ok(())
        }

        fn build(&self, build: &Build) -> Result<Duration> {
            *self.builds.borrow_mut() += 1;
            if Some(*self.builds.borrow()) == self.fails_at {
                bail!("a reason");
            }
            let text = fs::read_to_string(build.recipe.join("Dockerfile"))?;
            let word = text.lines().next().unwrap_or_default();
            let line = format!("{} builds {} of {word}", self.name, build.target);
            self.said.borrow_mut().push(line);
            Ok(Duration::from_millis(7))
        }

        fn end(&mut self) {
            self.said.borrow_mut().push(format!("{} ends", self.name));
        }
    }

    const WORKLOAD: Workload = Workload {
        name: "fake",
        title: "",
        content: Content::Nothing,
        dockerfile: str::to_owned,
        check: str::to_owned,
        edit: false,
        cold: false,
        export: None,
        bulky: false,
        target: Target::Ratio(1.0),
        budget: Target::Ratio(1.0),
    };

    fn run(workload: &Workload, fails_at: Option<usize>) -> (Vec<Outcome>, Vec<String>) {
        let said = Rc::new(RefCell::new(Vec::new()));
        let fake = |name, fails_at| -> Box<dyn Side> {
            Box::new(Fake {
                name,
                said: Rc::clone(&said),
                builds: RefCell::new(0),
                fails_at,
            })
        };
        let mut sides = [fake("a", None), fake("b", fails_at)];
        let home = tempfile::tempdir().unwrap();
        let outcomes = measure(workload, &mut sides, home.path(), 1).unwrap();
        drop(sides);
        (outcomes, Rc::into_inner(said).unwrap().into_inner())
    }

    #[test]
    fn sides_take_turns_and_each_result_is_checked() {
        let (outcomes, said) = run(&WORKLOAD, None);
        let expect = [
            "a begins",
            "a builds result of round-0",
            "a builds check of round-0",
            "b begins",
            "b builds result of round-0",
            "b builds check of round-0",
            "b builds result of round-1",
            "b builds check of round-1",
            "a builds result of round-1",
            "a builds check of round-1",
            "a ends",
            "b ends",
        ];
        assert_eq!(said, expect);
        for outcome in outcomes {
            assert_eq!(outcome.unwrap().values, [0.007]);
        }
    }

    #[test]
    fn a_cold_workload_begins_anew_in_each_round() {
        let cold = Workload {
            cold: true,
            ..WORKLOAD
        };
        let (_, said) = run(&cold, None);
        assert_eq!(said.iter().filter(|line| *line == "a begins").count(), 2);
    }

    #[test]
    fn a_side_that_fails_says_why_and_does_not_stop_the_other() {
        // The third build of b is the timed one of round 1; the fourth is its check.
        for build in [3, 4] {
            let (outcomes, _) = run(&WORKLOAD, Some(build));
            assert!(outcomes[0].is_ok());
            let message = outcomes[1].as_ref().unwrap_err();
            assert!(message.contains("b fails at fake in round 1"), "{message}");
            assert!(message.contains("a reason"), "{message}");
        }
    }
}
