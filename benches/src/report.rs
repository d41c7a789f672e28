//! What a run prints: a line for each sample while it goes, the table at its end, and everything
//! again as JSON for programs.
//!
//! The table goes to standard output, all else to standard error.
#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "printing is what this module is for"
)]

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::Options;
use crate::figure::{Outcome, Samples, Target, Unit};

/// One line about what is going on.
pub fn note(text: &str) {
    eprintln!("    {text}");
}

/// One sample.
pub fn progress(workload: &str, side: &str, round: usize, value: &str) {
    note(&format!("{workload} {round}: {side} {value}"));
}

/// Something that failed.
pub fn failure(text: &str) {
    eprintln!("error: {text}");
}

/// For another program or a person who asked: to standard output as it is.
pub fn print(text: &str) {
    println!("{text}");
}

/// What happened at one workload; `None` is a side that was not measured.
#[derive(Debug)]
pub struct Row {
    /// One word.
    pub name: &'static str,
    /// What the table says.
    pub title: &'static str,
    /// What the samples count.
    pub unit: Unit,
    /// Of the peer.
    pub peer: Option<Outcome>,
    /// Of varve.
    pub varve: Option<Outcome>,
    /// What must be reached now.
    pub target: Target,
    /// What shall be reached, where that is something else.
    pub budget: Option<Target>,
}

impl Row {
    /// A row of what the sides called `names` have done; the one called varve is ours.
    pub fn new(
        name: &'static str,
        title: &'static str,
        target: Target,
        outcomes: impl IntoIterator<Item = (&'static str, Outcome)>,
    ) -> Self {
        let mut row = Self {
            name,
            title,
            unit: match target {
                Target::Own(unit, _) => unit,
                Target::Ratio(_) | Target::Time(_) => Unit::Seconds,
            },
            peer: None,
            varve: None,
            target,
            budget: None,
        };
        for (side, outcome) in outcomes {
            match side {
                "varve" => row.varve = Some(outcome),
                _ => row.peer = Some(outcome),
            }
        }
        row
    }

    /// Whether a side was measured and failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        let failed = |side: &Option<Outcome>| matches!(side, Some(Err(_)));
        failed(&self.peer) || failed(&self.varve)
    }

    /// One figure of both sides' samples: the peer's, and varve's.
    fn both(&self, figure: fn(&Samples) -> Option<f64>) -> (Option<f64>, Option<f64>) {
        let of = |side: &Option<Outcome>| figure(side.as_ref()?.as_ref().ok()?);
        (of(&self.peer), of(&self.varve))
    }

    fn ratio(&self, figure: fn(&Samples) -> Option<f64>) -> Option<f64> {
        let (peer, varve) = self.both(figure);
        Some(varve? / peer?)
    }

    /// The row of the table, cell by cell.
    fn cells(&self) -> Vec<String> {
        let (peer, varve) = self.both(Samples::median);
        let verdict = match varve.and_then(|own| self.target.is_met(own, peer)) {
            Some(true) => "reached",
            Some(false) => "missed",
            None => "",
        };
        let ratio = |figure| {
            self.ratio(figure)
                .map_or_else(|| "-".into(), |ratio| format!("{ratio:.3}x"))
        };
        vec![
            self.title.to_owned(),
            self.shown(self.peer.as_ref()),
            self.shown(self.varve.as_ref()),
            ratio(Samples::median),
            ratio(Samples::best),
            self.target.to_string(),
            self.budget.unwrap_or(self.target).to_string(),
            verdict.to_owned(),
        ]
    }

    fn shown(&self, outcome: Option<&Outcome>) -> String {
        match outcome {
            None => "-".into(),
            Some(Err(_)) => "failed".into(),
            Some(Ok(samples)) => samples
                .median()
                .map_or_else(|| "-".into(), |value| self.unit.shown(value)),
        }
    }

    fn json(&self, peer: &str) -> Value {
        json!({
            "name": self.name,
            "title": self.title,
            peer: self.peer.as_ref().map(|outcome| self.outcome_json(outcome)),
            "varve": self.varve.as_ref().map(|outcome| self.outcome_json(outcome)),
            "ratio": self.ratio(Samples::median),
            "ratio_of_best": self.ratio(Samples::best),
            "target": self.target.to_string(),
            "budget": self.budget.unwrap_or(self.target).to_string(),
        })
    }

    fn outcome_json(&self, outcome: &Outcome) -> Value {
        let samples: &Samples = match outcome {
            Ok(samples) => samples,
            Err(message) => return json!({ "error": message }),
        };
        json!({
            self.unit.field(): samples.values,
            "median": samples.median(),
            "layer_bytes": samples.layer_bytes,
        })
    }
}

/// All rows as a table of medians; `best` is the ratio of each side's smallest sample.
#[must_use]
pub fn table(peer: &str, rows: &[Row]) -> String {
    let head = [
        "workload",
        peer,
        "varve",
        "ratio",
        "best",
        "target <=",
        "budget <=",
        "",
    ];
    let has_budget = rows.iter().any(|row| row.budget.is_some());
    let columns: Vec<usize> = (0..head.len())
        .filter(|column| has_budget || head[*column] != "budget <=")
        .collect();
    let mut lines: Vec<Vec<String>> = vec![head.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(Row::cells));
    let mut text = String::new();
    for line in &lines {
        let padded: Vec<String> = columns
            .iter()
            .map(|&column| {
                let cells = lines.iter().map(|line| line[column].chars().count());
                let (width, cell) = (cells.max().unwrap_or(0), &line[column]);
                match column {
                    // Words to the left, numbers to the right.
                    0 | 7 => format!("{cell:<width$}"),
                    _ => format!("{cell:>width$}"),
                }
            })
            .collect();
        text += padded.join("  ").trim_end();
        text += "\n";
    }
    text
}

/// Prints the table, and writes the file where one is asked for. The exit code tells whether every
/// side did everything.
///
/// # Errors
/// Where the file cannot be written.
pub fn finish(peer: &str, rows: &[Row], machine: &Value, options: &Options) -> Result<ExitCode> {
    print(&format!("\n{}", table(peer, rows)));
    print(&format!(
        "medians of {} rounds; ratio = varve / {peer}, best = that of the smallest samples",
        options.rounds
    ));
    if let Some(file) = &options.json {
        write_json(file, machine, peer, rows)?;
    }
    Ok(match rows.iter().any(Row::has_failed) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

/// Writes everything to a file; `machine` says where and with what it was measured.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_json(path: &Path, machine: &Value, peer: &str, rows: &[Row]) -> Result<()> {
    let rows: Vec<Value> = rows.iter().map(|row| row.json(peer)).collect();
    let document = json!({ "machine": machine, "workloads": rows });
    let text = serde_json::to_string_pretty(&document)? + "\n";
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(value: f64) -> Outcome {
        Ok(Samples {
            values: vec![value],
            layer_bytes: None,
        })
    }

    fn row(outcomes: Vec<(&'static str, Outcome)>) -> Row {
        Row {
            budget: Some(Target::Ratio(0.5)),
            ..Row::new("fake", "a fake", Target::Ratio(0.8), outcomes)
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_workload() {
        let rows = [
            row(vec![("peer", samples(1.0)), ("varve", samples(0.5))]),
            row(vec![("peer", samples(1.0)), ("varve", samples(0.9))]),
            row(vec![("peer", samples(1.0))]),
            row(vec![("varve", samples(0.5))]),
            row(vec![
                ("peer", samples(12.345)),
                ("varve", Err("why".into())),
            ]),
        ];
        let expect = "\
workload      peer    varve   ratio    best  target <=  budget <=
a fake     1.000 s  0.500 s  0.500x  0.500x       0.8x       0.5x  reached
a fake     1.000 s  0.900 s  0.900x  0.900x       0.8x       0.5x  missed
a fake     1.000 s        -       -       -       0.8x       0.5x
a fake           -  0.500 s       -       -       0.8x       0.5x
a fake    12.345 s   failed       -       -       0.8x       0.5x
";
        assert_eq!(table("peer", &rows), expect);
        assert!(rows[4].has_failed() && !rows[3].has_failed());
    }

    #[test]
    fn without_budgets_there_is_no_column_of_them() {
        let target = Target::Own(Unit::Megabytes, 60.0);
        let rows = [Row::new("m", "memory", target, [("varve", samples(45.0))])];
        let expect = "\
workload  peer    varve  ratio  best  target <=
memory       -  45.0 MB      -     -      60 MB  reached
";
        assert_eq!(table("peer", &rows), expect);
    }

    #[test]
    fn the_json_has_every_sample_and_the_reason_of_a_failure() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let rows = [row(vec![
            ("peer", samples(1.0)),
            ("varve", Err("why".into())),
        ])];
        write_json(file.path(), &json!({ "cpus": 2 }), "buildkit", &rows).unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["machine"]["cpus"], 2);
        assert_eq!(value["workloads"][0]["buildkit"]["seconds"], json!([1.0]));
        assert_eq!(value["workloads"][0]["varve"]["error"], "why");
    }
}
