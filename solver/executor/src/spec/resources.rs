//! What a container may take and which devices it has: the `resources` and `devices` of a
//! configuration.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use serde_json::{Map, Value, json};

use crate::cgroup::Cgroups;
use crate::error::{Error, Result};
use crate::extras::{CPU_PERIOD_US, Ceilings, Device, Extras, Swap};

/// A device of the host as a container gets it.
#[derive(Debug)]
pub(super) struct Node {
    path: String,
    kind: &'static str,
    major: u32,
    minor: u32,
    mode: u32,
    owner: (u32, u32),
    access: String,
}

/// Looks devices up on the host.
///
/// # Errors
/// [`Error::Unavailable`] for what is no device.
pub(super) fn devices(wanted: &[Device]) -> Result<Vec<Node>> {
    let node = |device: &Device| {
        let unavailable = |reason: String| Error::Unavailable {
            what: format!("add the device {}", device.source.display()),
            reason,
        };
        let found = std::fs::metadata(&device.source);
        let found = found.map_err(|error| unavailable(error.to_string()))?;
        let kind = match found.file_type() {
            kind if kind.is_char_device() => "c",
            kind if kind.is_block_device() => "b",
            _ => return Err(unavailable("it is none; -v mounts files".to_owned())),
        };
        Ok(Node {
            path: device.target.clone(),
            kind,
            major: rustix::fs::major(found.rdev()),
            minor: rustix::fs::minor(found.rdev()),
            mode: found.mode() & 0o777,
            owner: (found.uid(), found.gid()),
            access: device.access.clone(),
        })
    };
    wanted.iter().map(node).collect()
}

impl Node {
    /// As a member of `linux.devices`.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "path": self.path,
            "type": self.kind,
            "major": self.major,
            "minor": self.minor,
            "fileMode": self.mode,
            "uid": self.owner.0,
            "gid": self.owner.1,
        })
    }

    fn rule(&self) -> Value {
        json!({
            "allow": true,
            "type": self.kind,
            "major": self.major,
            "minor": self.minor,
            "access": self.access,
        })
    }
}

/// `linux.resources`. No device may be opened but those that every runtime adds (null, zero, tty
/// and the like), and those that were asked for.
pub(super) fn resources(extras: &Extras, devices: &[Node], cgroups: &Cgroups) -> Value {
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    rules.extend(devices.iter().map(Node::rule));
    let mut resources = json!({ "devices": rules });
    let ceilings = &extras.ceilings;
    for (name, part) in [
        ("memory", memory(ceilings, cgroups)),
        ("cpu", cpu(ceilings)),
    ] {
        if !part.is_empty() {
            resources[name] = Value::Object(part);
        }
    }
    if let Some(most) = ceilings.pids {
        resources["pids"] = json!({ "limit": most });
    }
    resources
}

fn memory(ceilings: &Ceilings, cgroups: &Cgroups) -> Map<String, Value> {
    let mut memory = Map::new();
    let Some(limit) = ceilings.memory_bytes else {
        return memory;
    };
    memory.insert("limit".into(), limit.into());
    let swap = match ceilings.swap {
        // Where it is not counted, there is nothing to be said about it.
        Swap::AsMemory => cgroups
            .counts_swap()
            .then(|| limit.saturating_mul(2).into()),
        Swap::Total(bytes) => Some(bytes.into()),
        Swap::Unlimited => cgroups.counts_swap().then(|| (-1).into()),
    };
    memory.extend(swap.map(|swap: Value| ("swap".to_owned(), swap)));
    memory
}

fn cpu(ceilings: &Ceilings) -> Map<String, Value> {
    let mut cpu = Map::new();
    if let Some(quota) = ceilings.cpu_quota_us {
        cpu.insert("quota".into(), quota.into());
        cpu.insert("period".into(), CPU_PERIOD_US.into());
    }
    cpu.extend(
        ceilings
            .cpu_shares
            .map(|shares| ("shares".to_owned(), shares.into())),
    );
    let set = ceilings.cpu_set.as_ref();
    cpu.extend(set.map(|set| ("cpus".to_owned(), set.clone().into())));
    cpu
}
