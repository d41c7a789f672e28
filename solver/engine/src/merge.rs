//! Equal steps run once: who leads, who follows, and who goes on when a leader's jobs leave.
//!
//! Two vertices with different ids may be the same step: two stages that say the same, two builds
//! of one Dockerfile with other labels above. A vertex *claims* its merge key when its value is
//! first wanted, and its content key when that becomes known. One that finds its key claimed
//! *follows* the claimant: it does nothing and takes the claimant's values. The claim comes before
//! the look-up, so between a look-up and a save no equal step can slip through; it lasts as long
//! as the claimant has, or works on, its values.
//!
//! No circle of waiting is possible. A follower waits for one with an equal key. An input's merge
//! key goes into its reader's key, so waiting by merge key never leads from a key to a larger one;
//! and one that follows by its content key, or leads by it, has all its inputs already.
//!
//! What fresh vertices (`ignore_cache`, own or an ancestor's) may follow is fresh as well: their
//! merge key is another one. One that ignores the cache itself follows by its content key nobody:
//! what it says once more, after a step that changed nothing, is to be done once more. But fresh
//! ones claim the plain keys too: somebody who would take an old result may as well take the one
//! that is being made.

use std::collections::HashMap;

use crate::cache_key::CacheKey;
use crate::scheduler::Scheduler;
use crate::state::{Evaluated, Keys, NodeId, State, Step, Turn};

/// Which node stands for a key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    leaders: HashMap<CacheKey, NodeId>,
    keys: HashMap<NodeId, Vec<CacheKey>>,
}

impl Claims {
    /// Who stands for the key, if it is not the asker.
    fn leader(&self, key: &CacheKey, asker: NodeId) -> Option<NodeId> {
        self.leaders
            .get(key)
            .copied()
            .filter(|leader| *leader != asker)
    }

    /// Lets the node stand for the key, unless another one does.
    fn claim(&mut self, key: CacheKey, node: NodeId) {
        if let std::collections::hash_map::Entry::Vacant(entry) = self.leaders.entry(key) {
            entry.insert(node);
            self.keys.entry(node).or_default().push(key);
        }
    }

    /// The node stands for nothing any more.
    pub(crate) fn release(&mut self, node: NodeId) {
        for key in self.keys.remove(&node).unwrap_or_default() {
            self.leaders.remove(&key);
        }
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn is_empty(&self) -> bool {
        self.leaders.is_empty() && self.keys.is_empty()
    }
}

impl<V: Clone> Scheduler<V> {
    /// The value of a keyed node is wanted: follow an equal step, or begin.
    pub(crate) fn activate(&mut self, id: NodeId, keys: Keys) {
        if let Some(leader) = self.claims.leader(&keys.merge(), id) {
            self.follow(id, leader, keys, None);
            return;
        }
        self.claim_classic(id, &keys);
        self.begin_leading(id, keys, keys.fresh.is_some());
    }

    /// The operation gave its content key: follow an equal step, or look it up, or run.
    pub(crate) fn with_content(&mut self, id: NodeId, keys: Keys, evaluated: Evaluated<V>) {
        let Evaluated { content, .. } = evaluated;
        let ignore_cache = self.node(id).ignore_cache;
        if !ignore_cache && let Some(leader) = self.claims.leader(&content, id) {
            self.follow(id, leader, keys, Some(evaluated));
            return;
        }
        self.claims.claim(content, id);
        let step = match ignore_cache {
            true => Step::Execute {
                content: Some(content),
            },
            false => Step::Lookup { content },
        };
        let inputs = evaluated.inputs;
        self.node_mut(id).state = State::Evaluated {
            keys,
            inputs,
            step,
            turn: Turn::Queued,
        };
        self.queue(id);
    }

    fn claim_classic(&mut self, id: NodeId, keys: &Keys) {
        self.claims.claim(keys.merge(), id);
        self.claims.claim(keys.classic, id);
    }

    fn follow(&mut self, id: NodeId, leader: NodeId, keys: Keys, evaluated: Option<Evaluated<V>>) {
        self.node_mut(id).state = State::Following {
            keys,
            leader,
            evaluated,
        };
        let root = self.root(leader);
        if self.node(root).state.is_executing() {
            let heard = self.audience(root);
            for (job, vertex) in self.audience(id) {
                if !heard.contains_key(&job) {
                    self.report_started(job, vertex);
                }
            }
        }
        self.node_mut(leader).followers.push(id);
        self.audience_epoch += 1;
        if self.collects(id) {
            self.want_inputs(id);
        }
        self.agenda.push_back(id);
    }

    /// The node at the end of the chain of followers: the one that does the work.
    pub(crate) fn root(&self, id: NodeId) -> NodeId {
        let mut root = id;
        while let State::Following { leader, .. } = self.node(root).state {
            root = leader;
        }
        root
    }

    /// No live job has this node in its own graph, so there is no operation to go on with. If
    /// others follow, the first of them becomes the leader and goes on from where this one stood;
    /// inputs that were evaluated stay evaluated, since equal keys mean equal inputs.
    pub(crate) fn hand_over(&mut self, id: NodeId) {
        let followers = std::mem::take(&mut self.node_mut(id).followers);
        let stand = self.revert(id);
        self.audience_epoch += 1;
        let Some((&first, others)) = followers.split_first() else {
            return;
        };
        for other in others {
            if let State::Following { leader, .. } = &mut self.node_mut(*other).state {
                *leader = first;
            }
        }
        self.node_mut(first).followers.extend_from_slice(others);
        let state = std::mem::replace(&mut self.node_mut(first).state, State::Unkeyed);
        let State::Following {
            keys, evaluated, ..
        } = state
        else {
            unreachable!("a follower is in the state Following until its leader lets it go");
        };
        self.claim_classic(first, &keys);
        let (inputs, step) = match (stand, evaluated) {
            (
                State::Evaluated {
                    step: Step::Execute { .. },
                    ..
                },
                Some(own),
            ) => (
                own.inputs,
                Step::Execute {
                    content: Some(own.content),
                },
            ),
            (_, Some(own)) => (
                own.inputs,
                Step::Lookup {
                    content: own.content,
                },
            ),
            (State::Evaluated { inputs, step, .. }, None) => (inputs, step),
            (State::Rebasing { evaluated, .. }, None) => (
                evaluated.inputs,
                Step::Lookup {
                    content: evaluated.content,
                },
            ),
            (stand, None) => {
                let collects = matches!(stand, State::Collecting { .. }) || keys.fresh.is_some();
                self.begin_leading(first, keys, collects);
                return;
            }
        };
        if let Step::Lookup { content }
        | Step::Execute {
            content: Some(content),
        } = step
        {
            self.claims.claim(content, first);
        }
        self.node_mut(first).state = State::Evaluated {
            keys,
            inputs,
            step,
            turn: Turn::Queued,
        };
        self.queue(first);
    }

    /// Works on the value: by a look-up, or beyond it.
    fn begin_leading(&mut self, id: NodeId, keys: Keys, collects: bool) {
        if collects {
            self.begin_collecting(id, keys);
        } else {
            self.node_mut(id).state = State::Probing {
                keys,
                turn: Turn::Queued,
            };
            self.queue(id);
        }
    }

    /// Back to `Keyed`, standing for nothing; gives the state that was left. What was in flight
    /// must have ended, or be withdrawn here from its queue.
    pub(crate) fn revert(&mut self, id: NodeId) -> State<V> {
        self.lanes.withdraw(id);
        self.claims.release(id);
        let node = self.node_mut(id);
        let keys = *node
            .state
            .keys()
            .expect("only a node with keys can be reverted");
        std::mem::replace(&mut node.state, State::Keyed { keys })
    }
}
