//! Which steps a build's time went to.

use std::collections::HashSet;

use super::record::StepRecord;

/// A step that begins so much later than its last input ended has waited for something else.
const PLACE_WAIT_US: u64 = 20_000;

/// The chain of steps that ends with the build and begins with it, each waiting for the one
/// before: making any of them faster can make the build faster. Indexes, in order of time.
///
/// What a step of the graph waited for is the last of its inputs to end; or, if it began a good
/// while later because as many steps ran as may, the step whose end made room for it. Steps around
/// the graph have no inputs; they follow whatever ended last before them. Steps that never began
/// are not part of it.
pub fn critical_path(steps: &[StepRecord]) -> Vec<usize> {
    let ended = |index: &usize| steps[*index].ended_us;
    let mut by_end: Vec<usize> = (0..steps.len()).collect();
    by_end.retain(|index| steps[*index].started_us.is_some());
    by_end.sort_by_key(ended);
    let mut next = by_end.last().copied();
    let (mut path, mut seen) = (Vec::new(), HashSet::new());
    while let Some(index) = next {
        path.push(index);
        seen.insert(index);
        let step = &steps[index];
        let inputs = step.inputs.iter().copied().filter(|input| {
            let input_step = steps.get(*input);
            !seen.contains(input) && input_step.is_some_and(|step| step.started_us.is_some())
        });
        let input = inputs.max_by_key(ended);
        let earlier = by_end.partition_point(|other| ended(other) <= step.started_us);
        let mut before = by_end[..earlier].iter().rev().copied();
        let before = before.find(|index| !seen.contains(index));
        let end_of = |index: Option<usize>| index.and_then(|index| ended(&index)).unwrap_or(0);
        let has_waited = end_of(before) > end_of(input) + PLACE_WAIT_US;
        next = if has_waited { before } else { input.or(before) };
    }
    path.reverse();
    path
}

/// The time in which a step of the path ran, in microseconds. Steps that another build ran may have
/// begun before their turn here: what two of them have in common counts once.
pub fn length_us(steps: &[StepRecord], path: &[usize]) -> u64 {
    let (mut length, mut covered_until) = (0, 0);
    for step in path.iter().map(|index| &steps[*index]) {
        if let (Some(started), Some(ended)) = (step.started_us, step.ended_us) {
            length += ended.saturating_sub(started.max(covered_until));
            covered_until = covered_until.max(ended);
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(started: u64, ended: u64, inputs: &[usize]) -> StepRecord {
        StepRecord {
            started_us: Some(started),
            ended_us: Some(ended),
            inputs: inputs.to_vec(),
            in_graph: true,
            ..StepRecord::default()
        }
    }

    fn check(steps: &[StepRecord], path: &[usize], length: u64) {
        let found = critical_path(steps);
        assert_eq!(found, path);
        assert_eq!(length_us(steps, &found), length);
    }

    #[test]
    fn the_slower_of_two_branches_is_on_the_path() {
        let steps = [
            step(0, 1, &[]),
            step(1, 4, &[0]),
            step(1, 9, &[0]),
            step(9, 10, &[1, 2]),
        ];
        check(&steps, &[0, 2, 3], 10);
    }

    #[test]
    fn a_step_that_waited_for_room_follows_the_one_that_made_it() {
        let second = 1_000_000;
        let steps = [
            step(0, 1, &[]),
            step(1, 4 * second, &[0]),
            step(1, 6 * second, &[0]),
            // Its input was ready long ago.
            step(4 * second + 1_000, 7 * second, &[0]),
        ];
        check(&steps, &[0, 1, 3], 7 * second - 1_001 + 1);
    }

    #[test]
    fn steps_around_the_graph_are_joined_by_time() {
        let mut load = step(0, 2, &[]);
        load.in_graph = false;
        let steps = [load, step(3, 7, &[]), step(7, 8, &[])];
        check(&steps, &[0, 1, 2], 7);
    }

    #[test]
    fn steps_that_never_began_and_forged_inputs_do_no_harm() {
        let idle = StepRecord {
            inputs: vec![0, 99],
            ..StepRecord::default()
        };
        check(&[], &[], 0);
        check(std::slice::from_ref(&idle), &[], 0);
        // A circle, and inputs that are not there.
        let steps = [step(5, 5, &[1]), step(5, 5, &[0, 77]), idle];
        assert_eq!(critical_path(&steps).len(), 2);
    }

    #[test]
    fn the_path_is_never_longer_than_the_time_it_took() {
        let steps = [step(0, 30, &[]), step(10, 50, &[0]), step(60, 70, &[1])];
        assert_eq!(length_us(&steps, &[0, 1, 2]), 60);
    }
}
