//! How a running daemon is asked: the client end of its socket. The messages of the wire end here.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use proto::containerd::services::snapshots::v1 as api;
use proto::containerd::services::snapshots::v1::snapshots_client::SnapshotsClient;
use proto::varve::debug::v1 as debug;
use proto::varve::debug::v1::debug_client::DebugClient;
use serde::Serialize;
use serde_json::Number;
use snapshotter::{Info, Kind};
use store::{Timestamp, Usage};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::environment::Environment;

/// A daemon answers any of these calls within this.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Largest message that is taken, in bytes: as containerd does.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Up to here every whole number is a number of its own in a float.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// A daemon that runs.
#[derive(Debug)]
pub(crate) struct Daemon {
    tokio: Runtime,
    channel: Channel,
    socket: PathBuf,
}

impl Daemon {
    /// The one that serves on this socket.
    ///
    /// # Errors
    /// None does.
    pub(crate) fn connect(socket: &Path) -> anyhow::Result<Self> {
        let socket = Environment::absolute(socket)?;
        // Tried first: what is wrong is told in the kernel's words.
        if let Err(error) = UnixStream::connect(&socket) {
            let place = socket.display();
            match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => bail!(
                    "no daemon serves on {place}; start one with `varve daemon` as root, or name \
                     its socket with --address"
                ),
                ErrorKind::PermissionDenied => {
                    bail!("the socket {place} is for root alone: use sudo")
                }
                _ => return Err(error).context(format!("cannot use the socket {place}")),
            }
        }
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let tokio = tokio.context("cannot start threads")?;
        let endpoint = Endpoint::try_from(format!("unix://{}", socket.display()))
            .with_context(|| format!("{} is no name for a socket", socket.display()))?;
        let channel = tokio.block_on(endpoint.timeout(CALL_TIMEOUT).connect());
        let channel =
            channel.with_context(|| format!("nothing answers on {}", socket.display()))?;
        Ok(Daemon {
            tokio,
            channel,
            socket,
        })
    }

    fn snapshots_client(&self) -> SnapshotsClient<Channel> {
        SnapshotsClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn call<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        self.tokio.block_on(call)
    }

    /// What went wrong, in the daemon's words.
    fn error(&self, status: &Status) -> anyhow::Error {
        let socket = self.socket.display();
        match status.code() {
            Code::Unimplemented => anyhow!(
                "what serves on {socket} does not know this call; it is another version of varve, \
                 or another program"
            ),
            _ => anyhow!("the daemon on {socket}: {}", status.message()),
        }
    }

    /// All snapshots that containerd has by the snapshotter of this name, in the order of keys.
    ///
    /// # Errors
    /// Those of the daemon.
    pub(crate) fn snapshots(&self, snapshotter: &str) -> anyhow::Result<Vec<Info>> {
        let request = api::ListSnapshotsRequest {
            snapshotter: snapshotter.into(),
            filters: Vec::new(),
        };
        let mut client = self.snapshots_client();
        let listed = self.call(async move {
            let mut stream = client.list(request).await?.into_inner();
            let mut found = Vec::new();
            while let Some(batch) = stream.message().await? {
                found.extend(batch.info);
            }
            Ok(found)
        });
        let listed = listed.map_err(|status| self.error(&status))?;
        listed.into_iter().map(info).collect()
    }

    /// What a snapshot takes without its parents; `None` if there is none with this key.
    ///
    /// # Errors
    /// Those of the daemon.
    pub(crate) fn usage(&self, snapshotter: &str, key: &str) -> anyhow::Result<Option<Usage>> {
        let request = api::UsageRequest {
            snapshotter: snapshotter.into(),
            key: key.into(),
        };
        let mut client = self.snapshots_client();
        match self.call(async move { client.usage(request).await }) {
            Ok(usage) => {
                let usage = usage.into_inner();
                Ok(Some(Usage {
                    bytes: usage.size.max(0).unsigned_abs(),
                    inodes: usage.inodes.max(0).unsigned_abs(),
                }))
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.error(&status)),
        }
    }

    /// What the daemon is doing.
    ///
    /// # Errors
    /// Those of the daemon.
    pub(crate) fn dump(&self) -> anyhow::Result<Dump> {
        let mut client = DebugClient::new(self.channel.clone());
        client = client.max_decoding_message_size(MESSAGE_BYTES_MAX);
        let dump = self.call(async move { client.dump(debug::DumpRequest {}).await });
        let dump = dump.map_err(|status| self.error(&status))?;
        Ok(dump.into_inner().into())
    }
}

/// What a daemon is and does.
#[derive(Debug, Serialize)]
pub(crate) struct Dump {
    version: String,
    /// RFC 3339.
    started: String,
    uptime_seconds: u64,
    root: String,
    mount_method: String,
    /// Why it cannot do its work.
    unhealthy: Option<String>,
    under_way: Vec<Work>,
    snapshots: BTreeMap<String, u64>,
    waiting: Vec<Waiting>,
    metrics: BTreeMap<String, Option<Number>>,
}

#[derive(Debug, Serialize)]
struct Work {
    what: String,
    milliseconds: u64,
}

#[derive(Debug, Serialize)]
struct Waiting {
    snapshotter: String,
    key: String,
    /// RFC 3339.
    committed: String,
    error: Option<String>,
}

impl From<debug::DumpResponse> for Dump {
    fn from(dump: debug::DumpResponse) -> Self {
        let now = moment(dump.now);
        let since = |time| now.duration_since(moment(time)).as_millis().max(0) as u64;
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        Dump {
            started: moment(dump.started).to_string(),
            uptime_seconds: since(dump.started) / 1_000,
            unhealthy: some(dump.unhealthy),
            under_way: dump
                .under_way
                .into_iter()
                .map(|work| Work {
                    milliseconds: since(work.since),
                    what: work.what,
                })
                .collect(),
            waiting: dump
                .waiting
                .into_iter()
                .map(|waiting| Waiting {
                    snapshotter: waiting.snapshotter,
                    key: waiting.key,
                    committed: moment(waiting.committed).to_string(),
                    error: some(waiting.error),
                })
                .collect(),
            metrics: dump
                .metrics
                .into_iter()
                .map(|(name, value)| (name, number(value)))
                .collect(),
            version: dump.version,
            root: dump.root,
            mount_method: dump.mount_method,
            snapshots: dump.snapshots,
        }
    }
}

/// A time for people; one that is none is the beginning of all.
fn moment(time: Option<prost_types::Timestamp>) -> jiff::Timestamp {
    let time = time.unwrap_or_default();
    jiff::Timestamp::new(time.seconds, time.nanos).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

/// A whole number without a point behind it.
fn number(value: f64) -> Option<Number> {
    let is_whole = value.fract() == 0.0 && value.abs() <= WHOLE_MAX;
    match is_whole {
        true => Some((value as i64).into()),
        false => Number::from_f64(value),
    }
}

fn info(info: api::Info) -> anyhow::Result<Info> {
    let strange = |what: &dyn Display| anyhow!("the daemon lists {:?} with {what}", info.name);
    let kind = match info.kind() {
        api::Kind::View => Kind::View,
        api::Kind::Active => Kind::Active,
        api::Kind::Committed => Kind::Committed,
        api::Kind::Unknown => return Err(strange(&format!("the unknown kind {}", info.kind))),
    };
    let time = |time: &Option<prost_types::Timestamp>| {
        let time = time.ok_or_else(|| strange(&"no time"))?;
        Ok::<_, anyhow::Error>(Timestamp {
            seconds: time.seconds,
            nanoseconds: time.nanos.max(0).unsigned_abs(),
        })
    };
    let (created, updated) = (time(&info.created_at)?, time(&info.updated_at)?);
    Ok(Info {
        key: info.name,
        parent: info.parent,
        kind,
        created,
        updated,
        labels: info.labels,
    })
}
