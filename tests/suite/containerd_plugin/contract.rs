//! The contract, asked of containerd: what our daemon keeps must still be kept with containerd's
//! metadata before it.

use std::cell::Cell;

use snapshotter::conformance::{self, Reached};
use support::node::Node;
use support::remote_snapshots::RemoteSnapshots;

on_each_containerd! {
    containerd_keeps_the_contract_with_this_snapshotter,
}

/// What the checks make is kept by it, not by a label: they compare labels.
const LEASE: &str = "of-the-suite";

fn containerd_keeps_the_contract_with_this_snapshotter(node: &mut Node) {
    let number = Cell::new(0);
    conformance::check_reached(Reached::ThroughContainerd, &|check| {
        // A namespace each: none sees what belongs to another.
        number.set(number.get() + 1);
        let namespace = format!("{}-{}", node.containerd.namespace(), number.get());
        let words = ["leases", "create", "--id", LEASE];
        node.containerd.ctr_in(&namespace, words).succeeded();
        let address = node.containerd.address();
        check(&RemoteSnapshots::connect_to_containerd(
            &address,
            node.snapshotter(),
            &namespace,
            LEASE,
        ));
    });
}
