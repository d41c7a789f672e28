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
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::measure::{Outcome, Samples};
use crate::workload::Workload;

/// One line about what is going on.
pub fn note(text: &str) {
    eprintln!("    {text}");
}

/// One sample.
pub fn progress(workload: &str, side: &str, round: usize, took: Duration) {
    note(&format!(
        "{workload} {round}: {side} {:.3} s",
        took.as_secs_f64()
    ));
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
    /// The workload.
    pub workload: Workload,
    /// Of BuildKit.
    pub peer: Option<Outcome>,
    /// Of varve.
    pub varve: Option<Outcome>,
}

impl Row {
    fn medians(&self) -> (Option<Duration>, Option<Duration>) {
        (median(self.peer.as_ref()), median(self.varve.as_ref()))
    }

    fn ratio(&self) -> Option<f64> {
        let (peer, varve) = self.medians();
        Some(varve?.as_secs_f64() / peer?.as_secs_f64())
    }

    /// The row of the table, cell by cell.
    fn cells(&self) -> Vec<String> {
        let (peer, varve) = self.medians();
        let verdict = match varve.and_then(|own| self.workload.target.is_met(own, peer)) {
            Some(true) => "reached",
            Some(false) => "missed",
            None => "",
        };
        vec![
            self.workload.title.to_owned(),
            shown(self.peer.as_ref()),
            shown(self.varve.as_ref()),
            self.ratio()
                .map_or_else(|| "-".into(), |ratio| format!("{ratio:.3}x")),
            self.workload.target.to_string(),
            self.workload.budget.to_string(),
            verdict.to_owned(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "name": self.workload.name,
            "title": self.workload.title,
            "buildkit": self.peer.as_ref().map(outcome_json),
            "varve": self.varve.as_ref().map(outcome_json),
            "ratio": self.ratio(),
            "target": self.workload.target.to_string(),
            "budget": self.workload.budget.to_string(),
        })
    }
}

/// All rows as a table: medians in seconds.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let head = [
        "workload",
        "buildkit s",
        "varve s",
        "ratio",
        "target <=",
        "budget <=",
        "",
    ];
    let mut lines: Vec<Vec<String>> = vec![head.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(Row::cells));
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate();
        let padded: Vec<String> = cells
            .map(|(column, (cell, &width))| match column {
                // Words to the left, numbers to the right.
                0 | 6 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        text += padded.join("  ").trim_end();
        text += "\n";
    }
    text
}

/// Writes everything to a file; `machine` says where and with what it was measured.
///
/// # Errors
/// Where the file cannot be written.
pub fn write_json(path: &Path, machine: &Value, rows: &[Row]) -> Result<()> {
    let rows: Vec<Value> = rows.iter().map(Row::json).collect();
    let document = json!({ "machine": machine, "workloads": rows });
    let text = serde_json::to_string_pretty(&document)? + "\n";
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

fn median(outcome: Option<&Outcome>) -> Option<Duration> {
    outcome?.as_ref().ok()?.median()
}

fn shown(outcome: Option<&Outcome>) -> String {
    match outcome {
        None => "-".into(),
        Some(Err(_)) => "failed".into(),
        Some(Ok(samples)) => samples
            .median()
            .map_or_else(|| "-".into(), |time| format!("{:.3}", time.as_secs_f64())),
    }
}

fn outcome_json(outcome: &Outcome) -> Value {
    let samples: &Samples = match outcome {
        Ok(samples) => samples,
        Err(message) => return json!({ "error": message }),
    };
    let seconds: Vec<f64> = samples.times.iter().map(Duration::as_secs_f64).collect();
    json!({
        "seconds": seconds,
        "median_s": samples.median().as_ref().map(Duration::as_secs_f64),
        "layer_bytes": samples.layer_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Content, Target};

    const WORKLOAD: Workload = Workload {
        name: "fake",
        title: "a fake",
        content: Content::Nothing,
        dockerfile: str::to_owned,
        check: str::to_owned,
        edit: false,
        cold: false,
        export: None,
        bulky: false,
        target: Target::Ratio(0.8),
        budget: Target::Ratio(0.5),
    };

    fn samples(ms: u64) -> Option<Outcome> {
        let times = vec![Duration::from_millis(ms)];
        Some(Ok(Samples {
            times,
            layer_bytes: None,
        }))
    }

    fn row(peer: Option<Outcome>, varve: Option<Outcome>) -> Row {
        Row {
            workload: WORKLOAD,
            peer,
            varve,
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_workload() {
        let rows = [
            row(samples(1000), samples(500)),
            row(samples(1000), samples(900)),
            row(samples(1000), None),
            row(None, samples(500)),
            row(samples(12_345), Some(Err("why".into()))),
        ];
        let expect = "\
workload  buildkit s  varve s   ratio  target <=  budget <=
a fake         1.000    0.500  0.500x       0.8x       0.5x  reached
a fake         1.000    0.900  0.900x       0.8x       0.5x  missed
a fake         1.000        -       -       0.8x       0.5x
a fake             -    0.500       -       0.8x       0.5x
a fake        12.345   failed       -       0.8x       0.5x
";
        assert_eq!(table(&rows), expect);
    }

    #[test]
    fn the_json_has_every_sample_and_the_reason_of_a_failure() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let rows = [row(samples(1000), Some(Err("why".into())))];
        write_json(file.path(), &json!({ "cpus": 2 }), &rows).unwrap();
        let text = fs::read_to_string(file.path()).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["machine"]["cpus"], 2);
        assert_eq!(value["workloads"][0]["buildkit"]["seconds"], json!([1.0]));
        assert_eq!(value["workloads"][0]["varve"]["error"], "why");
    }
}
