//! What whoever watches is told when something fails.

use std::fs;
use std::sync::Arc;

use store::key_value::faulty::Rates;

use super::sandbox::{Sandbox, stacking};
use crate::Method;
use crate::containers::Containers;
use crate::containers::activity::Census;
use crate::plugin::health;
use crate::plugin::metrics::Metrics;
use crate::snapshots::{Labels, Snapshots};

#[test]
fn a_poisoned_store_is_not_healthy_and_says_why() {
    let rates = Rates {
        sync: 1_000,
        ..Rates::default()
    };
    let Some((sandbox, rows)) = Sandbox::faulty(stacking(Method::Kernel), 1, rates) else {
        return;
    };
    let containers = Containers::open(Arc::new(sandbox.manager)).unwrap();
    let metrics = Metrics::new(containers.clone(), "1.0");
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio.block_on(health::check(&containers)).unwrap();
    let text = metrics.text().unwrap();
    assert!(text.contains("\nvarve_store_poisoned 0\n"), "{text}");
    rows.arm();
    let plugin = containers.plugin("varve").unwrap();
    plugin.prepare("key", "", Labels::new()).unwrap();
    plugin.commit("name", "key", Labels::new()).unwrap_err();
    plugin.prepare("other", "", Labels::new()).unwrap_err();
    let reason = tokio.block_on(health::check(&containers)).unwrap_err();
    assert!(reason.contains("No space left on device"), "{reason}");
    let text = metrics.text().unwrap();
    assert!(text.contains("\nvarve_store_poisoned 1\n"), "{text}");
}

#[test]
fn what_cannot_be_ingested_is_told_with_the_reason_until_it_can() {
    let rates = Rates {
        get: 1_000,
        ..Rates::default()
    };
    let Some((sandbox, rows)) = Sandbox::faulty(stacking(Method::Kernel), 1, rates) else {
        return;
    };
    let containers = Containers::open(Arc::new(sandbox.manager)).unwrap();
    let plugin = containers.plugin("varve").unwrap();
    let mounts = plugin.prepare("key", "", Labels::new()).unwrap();
    fs::write(mounts[0].source.join("file"), "file").unwrap();
    plugin.commit("layer", "key", Labels::new()).unwrap();
    let waiting = containers.waiting();
    assert_eq!(
        (waiting[0].key.as_str(), &waiting[0].error),
        ("layer", &None)
    );
    rows.arm();
    containers.ingest_all(&|| false);
    rows.disarm();
    let waiting = containers.waiting();
    let reason = waiting[0].error.as_deref().unwrap();
    assert!(reason.contains("No space left on device"), "{reason}");
    let done = containers.done();
    assert_eq!((done.ingestions, done.ingestions_failed), (0, 1));
    let census = Census {
        waiting: 1,
        ..Census::default()
    };
    assert_eq!(containers.census(), census);
    containers.ingest_all(&|| false);
    assert_eq!(containers.waiting(), []);
    assert_eq!(containers.done().ingestions, 1);
    let census = Census {
        committed: 1,
        ..Census::default()
    };
    assert_eq!(containers.census(), census);
}
