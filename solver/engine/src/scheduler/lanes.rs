//! Bounded parallelism: work queues by kind, each with its own limit, fair between jobs.

use std::collections::{BTreeMap, HashMap};

use crate::job::{JobId, Limits};
use crate::state::{NodeId, State, Step};

/// The kinds of work that are bounded apart from each other, so that a slow registry does not keep
/// look-ups waiting, nor look-ups a compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum LaneKind {
    CacheMap,
    Probe,
    Exec,
}

impl LaneKind {
    pub(crate) const ALL: [LaneKind; 3] = [LaneKind::CacheMap, LaneKind::Probe, LaneKind::Exec];

    /// The lane of the work that this state does or waits to do.
    pub(crate) fn of<V>(state: &State<V>) -> Option<Self> {
        match state {
            State::Mapping { .. } => Some(Self::CacheMap),
            State::Evaluated {
                step: Step::Execute { .. },
                ..
            } => Some(Self::Exec),
            State::Probing { .. } | State::Evaluated { .. } | State::Rebasing { .. } => {
                Some(Self::Probe)
            }
            _ => None,
        }
    }
}

/// All lanes.
#[derive(Clone, Debug)]
pub(crate) struct Lanes {
    lanes: [Lane; 3],
    /// Grows with every arrival: the order of the queues.
    arrivals: u64,
}

#[derive(Clone, Debug)]
struct Lane {
    limit: usize,
    /// What runs, and the job on whose account it runs.
    running: BTreeMap<NodeId, JobId>,
    queues: BTreeMap<JobId, BTreeMap<u64, NodeId>>,
    places: HashMap<NodeId, (JobId, u64)>,
}

impl Lanes {
    pub(crate) fn new(limits: &Limits) -> Self {
        let lane = |limit: usize| Lane {
            // A limit of 0 would be a deadlock.
            limit: limit.max(1),
            running: BTreeMap::new(),
            queues: BTreeMap::new(),
            places: HashMap::new(),
        };
        let limits = [
            limits.max_parallel_cache_maps,
            limits.max_parallel_probes,
            limits.max_parallel_execs,
        ];
        Self {
            lanes: limits.map(lane),
            arrivals: 0,
        }
    }

    /// Puts the node at the end of the job's queue.
    pub(crate) fn enqueue(&mut self, kind: LaneKind, node: NodeId, account: JobId) {
        self.arrivals += 1;
        let arrival = self.arrivals;
        self.lane(kind).insert(node, account, arrival);
    }

    /// Takes the node out of whatever queue it is in.
    pub(crate) fn withdraw(&mut self, node: NodeId) {
        for lane in &mut self.lanes {
            lane.remove(node);
        }
    }

    /// Takes note that the node's work has ended; its place is free.
    pub(crate) fn ended(&mut self, kind: LaneKind, node: NodeId) {
        self.lane(kind).running.remove(&node);
    }

    /// The next node that may start, if there is a place: of the jobs with waiting work the one
    /// with the least running, among equals the one whose work waits longest.
    pub(crate) fn next(&mut self, kind: LaneKind) -> Option<NodeId> {
        let lane = self.lane(kind);
        if lane.running.len() >= lane.limit {
            return None;
        }
        let (_, _, account, node) = lane
            .queues
            .iter()
            .filter_map(|(job, queue)| {
                let (arrival, node) = queue.first_key_value()?;
                let running = lane
                    .running
                    .values()
                    .filter(|account| *account == job)
                    .count();
                Some((running, *arrival, *job, *node))
            })
            .min()?;
        lane.remove(node);
        lane.running.insert(node, account);
        Some(node)
    }

    /// The nodes that wait on the account of the given job.
    pub(crate) fn queued_for(&self, job: JobId) -> Vec<NodeId> {
        let queues = self.lanes.iter().filter_map(|lane| lane.queues.get(&job));
        queues.flat_map(|queue| queue.values().copied()).collect()
    }

    /// Lets a waiting node wait on another job's account, without losing its turn.
    pub(crate) fn transfer(&mut self, node: NodeId, account: JobId) {
        for lane in &mut self.lanes {
            if let Some(arrival) = lane.remove(node) {
                lane.insert(node, account, arrival);
            }
        }
    }

    /// Whether nothing runs and nothing waits.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn is_empty(&self) -> bool {
        self.lanes
            .iter()
            .all(|lane| lane.running.is_empty() && lane.places.is_empty())
    }

    fn lane(&mut self, kind: LaneKind) -> &mut Lane {
        &mut self.lanes[kind as usize]
    }
}

impl Lane {
    fn insert(&mut self, node: NodeId, account: JobId, arrival: u64) {
        self.queues
            .entry(account)
            .or_default()
            .insert(arrival, node);
        self.places.insert(node, (account, arrival));
    }

    fn remove(&mut self, node: NodeId) -> Option<u64> {
        let (account, arrival) = self.places.remove(&node)?;
        if let Some(queue) = self.queues.get_mut(&account) {
            queue.remove(&arrival);
            if queue.is_empty() {
                self.queues.remove(&account);
            }
        }
        Some(arrival)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vertex::VertexId;

    fn node(number: u8) -> NodeId {
        NodeId::of(VertexId::from_bytes([number; 32]), false, &[])
    }

    fn lanes(execs: usize) -> Lanes {
        Lanes::new(&Limits {
            max_parallel_execs: execs,
            ..Limits::default()
        })
    }

    #[test]
    fn a_late_small_job_does_not_wait_behind_an_early_large_one() {
        let mut lanes = lanes(2);
        for number in 0..6 {
            lanes.enqueue(LaneKind::Exec, node(number), JobId(1));
        }
        assert_eq!(lanes.next(LaneKind::Exec), Some(node(0)));
        assert_eq!(lanes.next(LaneKind::Exec), Some(node(1)));
        lanes.enqueue(LaneKind::Exec, node(9), JobId(2));
        assert_eq!(lanes.next(LaneKind::Exec), None, "the bound holds");
        lanes.ended(LaneKind::Exec, node(0));
        assert_eq!(lanes.next(LaneKind::Exec), Some(node(9)));
        lanes.ended(LaneKind::Exec, node(9));
        assert_eq!(lanes.next(LaneKind::Exec), Some(node(2)));
    }

    #[test]
    fn a_transferred_node_keeps_its_turn_and_a_withdrawn_one_is_gone() {
        let mut lanes = lanes(1);
        for (number, job) in [(1, 1), (2, 1), (3, 2)] {
            lanes.enqueue(LaneKind::Exec, node(number), JobId(job));
        }
        assert_eq!(lanes.queued_for(JobId(1)), [node(1), node(2)]);
        lanes.transfer(node(1), JobId(2));
        lanes.withdraw(node(2));
        assert_eq!(lanes.queued_for(JobId(1)), []);
        assert_eq!(lanes.next(LaneKind::Exec), Some(node(1)));
        lanes.ended(LaneKind::Exec, node(1));
        assert_eq!(lanes.next(LaneKind::Exec), Some(node(3)));
        assert!(!lanes.is_empty());
        lanes.ended(LaneKind::Exec, node(3));
        assert!(lanes.is_empty());
    }
}
