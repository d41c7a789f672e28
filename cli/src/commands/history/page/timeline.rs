//! The steps of a build in lanes over time.

use solver::history::record::{StepOutcome, StepRecord};

use super::markup::{escape, percent};
use crate::output::seconds;

/// A bar takes at least so much of the width, as a divisor: shorter steps get room too.
const SHORTEST: u64 = 160;

/// Bars narrower than this share of the width (as a divisor) have no text.
const TEXTLESS: u64 = 28;

/// About so many marks stand on the axis.
const TICKS: u64 = 9;

/// The class that paints a step.
pub(super) fn class(step: &StepRecord) -> &'static str {
    match step.outcome {
        StepOutcome::Failed => "s-failed",
        StepOutcome::Canceled => "s-canceled",
        _ if !step.in_graph => "s-beside",
        StepOutcome::Cached => "s-cached",
        StepOutcome::Done => "s-done",
    }
}

/// Which lane each step that began is in: steps of one lane do not overlap.
pub(super) fn lanes(steps: &[StepRecord], total_us: u64) -> Vec<Vec<usize>> {
    let shortest = total_us / SHORTEST;
    let mut order: Vec<usize> = (0..steps.len()).collect();
    order.retain(|index| steps[*index].started_us.is_some());
    order.sort_by_key(|index| steps[*index].started_us);
    let mut lanes: Vec<(u64, Vec<usize>)> = Vec::new();
    for index in order {
        let start = steps[index].started_us.unwrap_or_default();
        let end = start + steps[index].duration_us().max(shortest).max(1);
        match lanes.iter_mut().find(|(free, _)| *free <= start) {
            Some((free, lane)) => {
                *free = end;
                lane.push(index);
            }
            None => lanes.push((end, vec![index])),
        }
    }
    lanes.into_iter().map(|(_, lane)| lane).collect()
}

/// Times of the marks of an axis, in microseconds: round, and not too many.
pub(super) fn ticks(total_us: u64) -> Vec<u64> {
    let rough = (total_us / TICKS).max(1);
    let power = 10_u64.pow(rough.ilog10());
    let step = [1, 2, 5, 10]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough);
    let step = step.unwrap_or(power * 10);
    (0..)
        .map(|tick| tick * step)
        .take_while(|tick| *tick < total_us.max(1))
        .collect()
}

/// The chart.
pub(super) fn chart(steps: &[StepRecord], path: &[usize], total_us: u64) -> String {
    let mut html = String::from("<div class=\"scroll\"><div class=\"chart\" id=\"chart\">\n");
    for tick in ticks(total_us) {
        let left = percent(tick, total_us);
        html.push_str(&format!(
            "<div class=\"tick\" style=\"left:{left}\">{}</div>\n",
            time(tick)
        ));
    }
    for lane in lanes(steps, total_us) {
        html.push_str("<div class=\"lane\">");
        for index in lane {
            html.push_str(&bar(&steps[index], index, path.contains(&index), total_us));
        }
        html.push_str("</div>\n");
    }
    html.push_str("</div></div>\n");
    html
}

fn bar(step: &StepRecord, index: usize, is_critical: bool, total_us: u64) -> String {
    let (start, took) = (step.started_us.unwrap_or_default(), step.duration_us());
    let name = escape(&step.name);
    let is_thin = took < total_us / TEXTLESS;
    let text = if is_thin { "" } else { name.as_str() };
    let critical = if is_critical { " critical" } else { "" };
    let thin = if is_thin { " thin" } else { "" };
    format!(
        "<a class=\"bar {class}{critical}{thin}\" id=\"bar-{index}\" href=\"#step-{index}\" \
         style=\"left:{left};width:{width}\" title=\"{name} ({took})\">{text}</a>",
        class = class(step),
        left = percent(start, total_us),
        width = percent(took, total_us),
        took = seconds(took),
    )
}

/// `0`, `250ms`, `2.5s`, `3m`.
fn time(micros: u64) -> String {
    match micros {
        0 => "0".to_owned(),
        1..1_000_000 => format!("{}ms", micros as f64 / 1_000.0),
        1_000_000..60_000_000 => format!("{}s", micros as f64 / 1_000_000.0),
        _ => seconds(micros).replace(" 0.0s", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(start: u64, end: u64) -> StepRecord {
        StepRecord {
            started_us: Some(start),
            ended_us: Some(end),
            ..StepRecord::default()
        }
    }

    #[test]
    fn steps_of_a_lane_do_not_overlap() {
        let steps = [
            step(0, 1_000),
            step(0, 500),
            step(500, 900),
            StepRecord::default(),
            step(1_000, 1_000),
            step(1_001, 1_002),
        ];
        // The last two are so short that they would be drawn over each other.
        assert_eq!(lanes(&steps, 1_600), [vec![0, 4], vec![1, 2, 5]]);
        assert_eq!(lanes(&[], 0).len(), 0);
    }

    #[test]
    fn marks_are_round_and_few() {
        assert_eq!(
            ticks(3_600_000),
            [
                0, 500_000, 1_000_000, 1_500_000, 2_000_000, 2_500_000, 3_000_000, 3_500_000
            ]
        );
        for total in [0, 1, 7, 999, 12_345, 86_400_000_000] {
            assert!(
                (1..=10).contains(&ticks(total).len()),
                "{total}: {:?}",
                ticks(total)
            );
        }
        let texts: Vec<_> = [0, 500, 250_000, 2_500_000, 120_000_000].map(time).into();
        assert_eq!(texts, ["0", "0.5ms", "250ms", "2.5s", "2m"]);
    }
}
