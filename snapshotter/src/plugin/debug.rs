//! `varve.debug.v1.Debug`: what the daemon is doing, for a person who wonders.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use proto::varve::debug::v1 as api;
use proto::varve::debug::v1::debug_server::Debug as Service;
use tonic::{Request, Response, Status};

use super::metrics::Metrics;
use super::{CALL_TIMEOUT, blocking, health, wire};
use crate::Method;

/// Most waiting snapshots that are told of; the count has all.
const WAITING_MAX: usize = 1_000;

/// Serves what a person asks.
#[derive(Clone, Debug)]
pub(super) struct DebugService {
    metrics: Arc<Metrics>,
}

impl DebugService {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        DebugService { metrics }
    }
}

#[tonic::async_trait]
impl Service for DebugService {
    async fn dump(
        &self,
        _request: Request<api::DumpRequest>,
    ) -> Result<Response<api::DumpResponse>, Status> {
        let unhealthy = health::check(self.metrics.containers()).await.err();
        let metrics = self.metrics.clone();
        let dumped = blocking(CALL_TIMEOUT, move || Ok(dump(&metrics)));
        let mut dumped = dumped.await?;
        dumped.unhealthy = unhealthy.unwrap_or_default();
        Ok(Response::new(dumped))
    }
}

fn dump(metrics: &Metrics) -> api::DumpResponse {
    let containers = metrics.containers();
    let manager = containers.manager();
    let under_way = containers.under_way().into_iter();
    let waiting = containers.waiting().into_iter().take(WAITING_MAX);
    let census = containers.census();
    let method = match manager.method() {
        Method::Kernel => "kernel",
        Method::Directories => "dirs",
    };
    api::DumpResponse {
        version: metrics.version().into(),
        started: Some(metrics.started().into()),
        now: Some(SystemTime::now().into()),
        root: manager.store().root().display().to_string(),
        mount_method: method.into(),
        unhealthy: String::new(),
        under_way: under_way
            .map(|work| api::Work {
                what: work.what,
                since: Some(work.since.into()),
            })
            .collect(),
        snapshots: census
            .by_kind()
            .map(|(kind, count)| (kind.into(), count))
            .into(),
        waiting: waiting
            .map(|waiting| api::Waiting {
                snapshotter: waiting.plugin,
                key: waiting.key,
                committed: Some(wire::timestamp(waiting.committed)),
                error: waiting.error.unwrap_or_default(),
            })
            .collect(),
        metrics: numbers(&metrics.text().unwrap_or_default()),
    }
}

/// The samples of a text in Prometheus' format, without the parts of histograms.
fn numbers(text: &str) -> BTreeMap<String, f64> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.filter_map(|line| line.rsplit_once(' '));
    samples
        .filter(|(name, _)| !name.contains("_bucket{"))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}
