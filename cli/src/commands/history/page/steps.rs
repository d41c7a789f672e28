//! The steps of a build one below the other, each with what it wrote.

use solver::history::record::{LogExcerpt, LogLine, StepOutcome, StepRecord};

use super::markup::{escape, percent};
use super::timeline::class;
use crate::commands::history::inspect::outcome;
use crate::output::{seconds, size};

/// Lines of a failed step that stand at the top of the page.
const END_LINES: usize = 20;

/// All steps, in the order in which they began; those that never did come last.
pub(super) fn steps(steps: &[StepRecord], path: &[usize], total_us: u64) -> String {
    let mut order: Vec<usize> = (0..steps.len()).collect();
    order.sort_by_key(|index| steps[*index].started_us.unwrap_or(u64::MAX));
    let one = |index: usize| step(steps, index, path.contains(&index), total_us);
    order.into_iter().map(one).collect()
}

fn step(steps: &[StepRecord], index: usize, is_critical: bool, total_us: u64) -> String {
    let step = &steps[index];
    let track = match step.started_us {
        None => String::new(),
        Some(started) => format!(
            "<i style=\"left:{};width:{}\"></i>",
            percent(started, total_us),
            percent(step.duration_us(), total_us)
        ),
    };
    // What a person can do without who looks for what took long.
    let is_quiet = !step.in_graph || step.outcome == StepOutcome::Cached;
    let took = match step.started_us {
        Some(_) => seconds(step.duration_us()),
        None => "–".to_owned(),
    };
    format!(
        "<details class=\"step {class}{critical}\" id=\"step-{index}\" data-step=\"{index}\" \
         data-quiet=\"{quiet}\"{open}>\n<summary><span class=\"name mono\" title=\"{name}\">{name}</span>\
         <span class=\"track\">{track}</span><span class=\"right\">{took}</span>\
         <span><span class=\"pill\">{outcome}</span></span></summary>\n\
         <div class=\"more\">{more}</div>\n</details>\n",
        class = class(step),
        critical = if is_critical { " critical" } else { "" },
        quiet = u8::from(is_quiet),
        open = if step.error.is_some() { " open" } else { "" },
        name = escape(&step.name),
        outcome = outcome(step),
        more = more(step, steps),
    )
}

fn more(step: &StepRecord, steps: &[StepRecord]) -> String {
    let mut html = String::new();
    if let Some(started) = step.started_us {
        html.push_str(&format!("<p>began after {}</p>", seconds(started)));
    }
    let inputs: Vec<_> = step
        .inputs
        .iter()
        .filter_map(|input| Some((input, steps.get(*input)?)))
        .map(|(index, input)| format!("<a href=\"#step-{index}\">{}</a>", escape(&input.name)))
        .collect();
    if !inputs.is_empty() {
        html.push_str(&format!("<p>reads {}</p>", inputs.join(", ")));
    }
    for part in &step.parts {
        let took = part.ended_us.saturating_sub(part.started_us);
        let amount = match (part.current, part.total) {
            (0, None) => String::new(),
            (current, None) => format!(" · {}", size(current)),
            (current, Some(total)) if current == total => format!(" · {}", size(total)),
            (current, Some(total)) => format!(" · {} of {}", size(current), size(total)),
        };
        let took = match took {
            0 => String::new(),
            took => format!(" · {}", seconds(took)),
        };
        html.push_str(&format!("<p>{}{amount}{took}</p>", escape(&part.id)));
    }
    for warning in &step.warnings {
        html.push_str(&format!("<p><b>warning:</b> {}</p>", escape(warning)));
    }
    if let Some(error) = &step.error {
        html.push_str(&format!("<p><b>error:</b> {}</p>", escape(error)));
    }
    html.push_str(&log(&step.log, step.started_us.unwrap_or_default()));
    html.push_str(&format!("<p class=\"mono\">{}</p>", escape(&step.digest)));
    html
}

/// The lines of a log with their times since the step began.
fn log(log: &LogExcerpt, since_us: u64) -> String {
    if log.lines.is_empty() {
        return String::new();
    }
    let mut html = String::from("<pre>");
    for (index, one) in log.lines.iter().enumerate() {
        if index == log.gap_at && log.left_out > 0 {
            let note = format!("… {} lines left out …", log.left_out);
            html.push_str(&format!("<span class=\"gap\">{note}</span>\n"));
        }
        html.push_str(&line(one, since_us));
    }
    html.push_str("</pre>");
    html
}

/// The last lines of the log of a step that failed: what a person wants to see first.
pub(super) fn end_of_log(step: &StepRecord) -> String {
    let since_us = step.started_us.unwrap_or_default();
    let skipped = step.log.lines.len().saturating_sub(END_LINES);
    let last = step.log.lines.iter().skip(skipped);
    let lines: String = last.map(|one| line(one, since_us)).collect();
    match lines.is_empty() {
        true => lines,
        false => format!("<pre>{lines}</pre>"),
    }
}

fn line(line: &LogLine, since_us: u64) -> String {
    let at = line.at_us.saturating_sub(since_us) as f64 / 1_000_000.0;
    format!(
        "<span class=\"t\">{at:>8.3} </span>{}\n",
        escape(&line.text)
    )
}
