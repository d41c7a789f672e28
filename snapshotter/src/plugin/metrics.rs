//! What is counted, as Prometheus reads it. The values of every label are few and known here: no
//! key, no digest, no name of a plugin.
//!
//! Calls are counted as they end; everything else is looked up when somebody asks.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tonic::{Code, Status};

use crate::containers::Containers;

/// Upper bounds of the histogram of calls, in seconds: from a look into memory to a layer of some
/// gigabytes. containerd gives up on none of them.
const CALL_SECONDS: [f64; 13] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0, 600.0,
];

/// Counts calls, and knows where the rest is to be looked up.
#[derive(Debug)]
pub struct Metrics {
    containers: Arc<Containers>,
    calls: Family<CallLabels, Histogram, fn() -> Histogram>,
    registry: Registry,
    version: &'static str,
    started: SystemTime,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    method: &'static str,
    code: &'static str,
}

impl Metrics {
    /// Starts to count for these snapshots. `version` is that of the program.
    #[must_use]
    pub fn new(containers: Arc<Containers>, version: &'static str) -> Arc<Self> {
        let calls: Family<CallLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(CALL_SECONDS));
        let started = SystemTime::now();
        let mut registry = Registry::default();
        let help = "Time that calls on the socket took, by method and gRPC code";
        registry.register_with_unit("varve_rpc_duration", help, Unit::Seconds, calls.clone());
        registry.register_collector(Box::new(Standing {
            containers: containers.clone(),
            version,
            started,
        }));
        Arc::new(Metrics {
            containers,
            calls,
            registry,
            version,
            started,
        })
    }

    /// The snapshots that all of it is of.
    #[must_use]
    pub fn containers(&self) -> &Arc<Containers> {
        &self.containers
    }

    /// The version of the program.
    #[must_use]
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// When the counting began.
    #[must_use]
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// Counts a call, whatever becomes of it.
    pub(super) async fn call<T>(
        &self,
        method: &'static str,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let mut call = Call {
            metrics: self,
            method,
            code: Code::Cancelled,
            started: Instant::now(),
        };
        let done = work.await;
        call.code = done.as_ref().map_or_else(Status::code, |_| Code::Ok);
        done
    }

    /// All of it in the text format of OpenMetrics 1.0.
    ///
    /// # Errors
    /// None is known of.
    pub fn open_metrics(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }

    /// All of it in the older text format of Prometheus, 0.0.4, in which a counter's description
    /// has the whole name of its samples.
    ///
    /// # Errors
    /// None is known of.
    pub fn text(&self) -> Result<String, fmt::Error> {
        Ok(older_text(&self.open_metrics()?))
    }
}

/// A call under way. One whose caller has left is dropped, and counted as that.
struct Call<'m> {
    metrics: &'m Metrics,
    method: &'static str,
    code: Code,
    started: Instant,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let (method, code, taken) = (self.method, code_name(self.code), self.started.elapsed());
        let labels = CallLabels { method, code };
        let calls = self.metrics.calls.get_or_create(&labels);
        calls.observe(taken.as_secs_f64());
        tracing::debug!(method, code, milliseconds = taken.as_millis(), "answered");
    }
}

/// The names that gRPC's own metrics have for codes.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// What is looked up when somebody asks.
#[derive(Debug)]
struct Standing {
    containers: Arc<Containers>,
    version: &'static str,
    started: SystemTime,
}

impl Collector for Standing {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.snapshots(&mut out)?;
        self.work(&mut out)?;
        self.store(&mut out)?;
        self.process(&mut out)
    }
}

impl Standing {
    fn snapshots(&self, out: &mut Out<'_>) -> fmt::Result {
        let census = self.containers.census();
        let help = "Snapshots of all plugins by kind; committed ones that are not ingested yet \
                    have a kind of their own";
        out.gauges("varve_snapshots", help, "kind", &census.by_kind())
    }

    fn work(&self, out: &mut Out<'_>) -> fmt::Result {
        let done = self.containers.done();
        let help = "Committed directories that became trees";
        out.counter("varve_ingestions", help, done.ingestions)?;
        let help = "Tries to make a tree of a committed directory that failed";
        out.counter("varve_ingestions_failed", help, done.ingestions_failed)?;
        let help = "Time that ingestions took";
        out.time("varve_ingestion", help, done.ingestion_time)?;
        let help = "Layers that the differ unpacked";
        out.counter("varve_layers_applied", help, done.layers)?;
        let help = "Bytes of the tars of layers that the differ unpacked, uncompressed";
        out.bytes("varve_layers_applied", help, done.layer_bytes)?;
        let help = "Collections of garbage";
        out.counter("varve_gc_runs", help, done.collections)?;
        let help = "Collections of garbage that ended with an error";
        out.counter("varve_gc_runs_failed", help, done.collections_failed)?;
        let help = "Time that collections of garbage took";
        out.time("varve_gc", help, done.collection_time)?;
        let help = "Bytes of disk that collections of garbage gave back";
        out.bytes("varve_gc_freed", help, done.freed_bytes)
    }

    fn store(&self, out: &mut Out<'_>) -> fmt::Result {
        let store = self.containers.manager().store();
        let brought = store.brought();
        let help = "Files that were written to the store";
        out.counter("varve_store_files_written", help, brought.blobs_written)?;
        let help = "Bytes of files that were written to the store";
        out.bytes("varve_store_written", help, brought.bytes_written)?;
        let help = "Files that were in the store already when they were ingested";
        out.counter("varve_store_files_deduplicated", help, brought.blobs_known)?;
        let help = "Bytes of files that were in the store already when they were ingested";
        out.bytes("varve_store_deduplicated", help, brought.bytes_known)?;
        let help = "1 since a flush to disk has failed: the store takes no changes any more";
        let poisoned = u64::from(store.check_poison().is_err());
        out.gauge("varve_store_poisoned", help, None, poisoned)?;
        let (quota, space) = self.containers.space();
        let help = "What the root directory takes and may take; 0 is no limit, and not measured";
        let bytes = [
            ("used", space.used),
            ("max_used", quota.max_used.unwrap_or(0)),
            ("reserved", quota.reserved),
            ("min_free", quota.min_free),
        ];
        out.gauges("varve_space_bytes", help, "kind", &bytes)?;
        match store.free_bytes() {
            Ok(free) => {
                let help = "Free bytes of the file system of the root directory";
                out.gauge("varve_root_free", help, Some(Unit::Bytes), free)
            }
            Err(error) => {
                tracing::warn!(%error, "no free bytes among the metrics");
                Ok(())
            }
        }
    }

    fn process(&self, out: &mut Out<'_>) -> fmt::Result {
        if let Some(resident) = resident_bytes() {
            let help = "Resident memory of the process";
            out.gauge("process_resident_memory", help, Some(Unit::Bytes), resident)?;
        }
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let help = "Start of the process, in seconds since 1970";
        let unit = Some(Unit::Seconds);
        out.gauge("process_start_time", help, unit, started.as_secs())?;
        let help = "1, with the version of the program";
        out.gauges("varve_build_info", help, "version", &[(self.version, 1)])
    }
}

/// Writes values of one metric each. The names are without unit and `_total`, which are put behind
/// them.
struct Out<'e>(DescriptorEncoder<'e>);

impl Out<'_> {
    fn put(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        value: &impl EncodeMetric,
    ) -> fmt::Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, unit.as_ref(), value.metric_type())?;
        value.encode(encoder)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.put(name, help, None, &ConstCounter::new(value))
    }

    fn bytes(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.put(name, help, Some(Unit::Bytes), &ConstCounter::new(value))
    }

    fn time(&mut self, name: &str, help: &str, value: Duration) -> fmt::Result {
        let value = ConstCounter::new(value.as_secs_f64());
        self.put(name, help, Some(Unit::Seconds), &value)
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<Unit>, value: u64) -> fmt::Result {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.put(name, help, unit, &ConstGauge::new(value))
    }

    /// One value for each value of a label.
    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: &[(&str, u64)],
    ) -> fmt::Result {
        let kind = ConstGauge::<i64>::new(0).metric_type();
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (name, value) in values {
            let value = i64::try_from(*value).unwrap_or(i64::MAX);
            ConstGauge::new(value).encode(family.encode_family(&[(label, *name)])?)?;
        }
        Ok(())
    }
}

/// Memory of this process that is in RAM (proc(5), `VmRSS` of `status`).
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// OpenMetrics as the format before it.
fn older_text(text: &str) -> String {
    let type_of = |line: &str| -> Option<(String, bool)> {
        let (name, kind) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
        Some((name.to_owned(), kind == "counter"))
    };
    let types: std::collections::HashMap<_, _> = text.lines().filter_map(type_of).collect();
    let mut older = String::new();
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("EOF" | "UNIT"), ..) => {}
            (Some("#"), Some(what), Some(name), Some(rest)) if types.get(name) == Some(&true) => {
                older.push_str(&format!("# {what} {name}_total {rest}\n"));
            }
            _ => {
                older.push_str(line);
                older.push('\n');
            }
        }
    }
    older
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_describes_counters_by_the_names_of_their_samples() {
        let open = "# HELP a_seconds What it is\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\n\
                    a_seconds_total 1.5\n# HELP b Another\n# TYPE b gauge\nb{c=\"d\"} 1\n# EOF\n";
        let older = "# HELP a_seconds_total What it is\n# TYPE a_seconds_total counter\n\
                     a_seconds_total 1.5\n# HELP b Another\n# TYPE b gauge\nb{c=\"d\"} 1\n";
        assert_eq!(older_text(open), older);
    }
}
