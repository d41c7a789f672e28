//! What is known of a build, for a person.

use std::fmt::Write;

use solver::history::critical_path::critical_path;
use solver::history::record::{BuildRecord, LayerRecord, StepOutcome, StepRecord};

use super::list::{status, time};
use crate::commands::images::describe::short;
use crate::commands::table::table;
use crate::output::{cut, harmless, seconds, size};

/// Columns of a step's name; here-documents can be long.
const NAME_COLUMNS: usize = 120;

/// Facts, steps, layers, and why it failed.
pub(super) fn pretty(record: &BuildRecord) -> String {
    let mut text = facts(record);
    let details = &record.details;
    let path = critical_path(&details.steps);
    let mut rows = Vec::new();
    for (index, step) in details.steps.iter().enumerate() {
        if step.started_us.is_some() || step.in_graph {
            rows.push(step_row(step, path.contains(&index)));
        }
    }
    text.push_str("\nSteps (* on the critical path):\n");
    text.push_str(&table(
        &["", "STARTED", "DURATION", "STATUS", "STEP"],
        &rows,
        &[1, 2],
    ));
    if details.steps_left_out > 0 {
        told(
            &mut text,
            "",
            &format!("{} more steps are not kept", details.steps_left_out),
        );
    }
    if !details.layers.is_empty() {
        let row = |layer: &LayerRecord| {
            let by = made_by(layer);
            vec![short(&layer.digest), size(layer.size), by]
        };
        let rows: Vec<_> = details.layers.iter().map(row).collect();
        text.push_str("\nLayers:\n");
        text.push_str(&table(&["DIGEST", "SIZE", "MADE BY"], &rows, &[1]));
    }
    if let Some(error) = &details.error {
        text.push('\n');
        for line in details.excerpt.iter().flat_map(|excerpt| excerpt.lines()) {
            text.push_str(harmless(line.as_bytes()).trim_end());
            text.push('\n');
        }
        told(&mut text, "Error: ", error);
        let number = record.summary.number;
        told(
            &mut text,
            "",
            &format!("(`varve history logs {number}` prints what the steps wrote)"),
        );
    }
    text
}

/// The instruction of a layer, as far as anybody knows.
pub(super) fn made_by(layer: &LayerRecord) -> String {
    match harmless(layer.created_by.as_bytes()) {
        by if !by.is_empty() && by != "<missing>" => by,
        _ if layer.is_base => "(base image)".to_owned(),
        _ => String::new(),
    }
}

fn told(text: &mut String, title: &str, value: &str) {
    text.push_str(title);
    text.push_str(&harmless(value.as_bytes()));
    text.push('\n');
}

fn facts(record: &BuildRecord) -> String {
    let (build, details) = (&record.summary, &record.details);
    let list = |list: &[String]| list.join(", ");
    let steps = build.steps;
    let counts = format!(
        "{} ({} run, {} cached, {} failed, {} not done)",
        steps.total(),
        steps.run,
        steps.cached,
        steps.failed,
        steps.canceled
    );
    let amount = |bytes: u64| match bytes {
        0 => String::new(),
        bytes => size(bytes),
    };
    let facts = [
        ("Build", build.number.to_string()),
        ("Name", build.asked.name()),
        ("Status", status(build.status).to_owned()),
        ("Started", time(build.started_ms)),
        ("Duration", seconds(build.duration_us)),
        ("Critical path", seconds(build.critical_path_us)),
        ("Context", build.asked.context.clone().unwrap_or_default()),
        ("Dockerfile", build.asked.dockerfile.clone()),
        ("Target", build.asked.target.clone().unwrap_or_default()),
        ("Platforms", list(&build.asked.platforms)),
        ("Build arguments", list(&build.asked.build_args)),
        ("Named contexts", list(&build.asked.named_contexts)),
        ("Steps", counts),
        ("Downloaded", amount(build.traffic.downloaded)),
        ("Written to the store", amount(build.traffic.written)),
        ("Deduplicated", amount(build.traffic.deduplicated)),
        ("Names", list(&details.names)),
        ("Image id", details.image_id.clone().unwrap_or_default()),
        ("Manifest", details.manifest.clone().unwrap_or_default()),
    ];
    let mut text = String::new();
    for (title, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        let title = format!("{title}:");
        let value = harmless(value.as_bytes());
        // A string takes whatever is written.
        writeln!(text, "{title:<22}{value}").expect("memory");
    }
    for warning in &details.warnings {
        told(&mut text, "Warning:              ", warning);
    }
    text
}

/// How a step ended, in a word.
pub(super) fn outcome(step: &StepRecord) -> &'static str {
    match step.outcome {
        StepOutcome::Done => "done",
        StepOutcome::Cached => "cached",
        StepOutcome::Failed => "failed",
        StepOutcome::Canceled if step.started_us.is_none() => "not begun",
        StepOutcome::Canceled => "canceled",
    }
}

fn step_row(step: &StepRecord, is_critical: bool) -> Vec<String> {
    let (started, took) = match step.started_us {
        Some(started) => (seconds(started), seconds(step.duration_us())),
        None => ("-".to_owned(), "-".to_owned()),
    };
    vec![
        if is_critical { "*" } else { "" }.to_owned(),
        started,
        took,
        outcome(step).to_owned(),
        cut(&harmless(step.name.as_bytes()), NAME_COLUMNS),
    ]
}
