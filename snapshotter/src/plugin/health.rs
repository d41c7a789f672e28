//! Whether the storage can do its work, for whoever restarts what cannot: `grpc.health.v1.Health`
//! on the socket, and the same answer for other doors.

use std::sync::Arc;
use std::time::Duration;

use proto::containerd::services::diff::v1::diff_server::SERVICE_NAME as DIFF;
use proto::containerd::services::snapshots::v1::snapshots_server::SERVICE_NAME as SNAPSHOTS;
use store::{Table, layout};
use tokio::time::MissedTickBehavior;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::HealthReporter;

use super::blocking;
use crate::containers::Containers;
use crate::error::Result;

/// A store that takes longer for one row does not answer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the answer for gRPC is renewed.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Looks whether the store answers and takes changes.
///
/// # Errors
/// The reason why not.
pub async fn check(containers: &Arc<Containers>) -> Result<(), String> {
    let containers = containers.clone();
    let checked = blocking(CHECK_TIMEOUT, move || answers(&containers));
    checked.await.map_err(|status| status.message().to_owned())
}

fn answers(containers: &Containers) -> Result<()> {
    let store = containers.manager().store();
    store.rows().get(Table::Meta, layout::META_FORMAT)?;
    Ok(store.check_poison()?)
}

/// The service; what it says is renewed as long as tokio runs.
pub(super) fn service(containers: Arc<Containers>) -> HealthServer<impl Health> {
    let (reporter, service) = tonic_health::server::health_reporter();
    tokio::spawn(keep_reporting(containers, reporter));
    service
}

async fn keep_reporting(containers: Arc<Containers>, reporter: HealthReporter) {
    let mut ticks = tokio::time::interval(CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let status = match check(&containers).await {
            Ok(()) => ServingStatus::Serving,
            Err(_) => ServingStatus::NotServing,
        };
        for name in ["", SNAPSHOTS, DIFF] {
            reporter.set_service_status(name, status).await;
        }
    }
}
