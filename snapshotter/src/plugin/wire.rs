//! Our values as containerd's messages, and back.

use proto::containerd::services::snapshots::v1 as api;
use proto::containerd::types;
use store::Timestamp;

use crate::error::{Error, Result};
use crate::snapshots::{Info, Kind};

pub(super) fn info(info: Info) -> api::Info {
    api::Info {
        name: info.key,
        parent: info.parent,
        kind: match info.kind {
            Kind::View => api::Kind::View,
            Kind::Active => api::Kind::Active,
            Kind::Committed => api::Kind::Committed,
        }
        .into(),
        created_at: Some(timestamp(info.created)),
        updated_at: Some(timestamp(info.updated)),
        labels: info.labels,
    }
}

pub(super) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.seconds,
        // Below 10^9.
        nanos: time.nanoseconds as i32,
    }
}

pub(super) fn mounts(mounts: &[mount::Mount]) -> Result<Vec<types::Mount>> {
    mounts.iter().map(mount).collect()
}

fn mount(mount: &mount::Mount) -> Result<types::Mount> {
    let text = |path: &std::path::Path| match path.to_str() {
        Some(path) => Ok(path.to_owned()),
        None => Err(Error::InvalidArgument {
            reason: format!("{} is not UTF-8: choose another --root", path.display()),
        }),
    };
    Ok(types::Mount {
        r#type: mount.kind.as_str().into(),
        source: text(&mount.source)?,
        target: mount
            .target
            .as_deref()
            .map(text)
            .transpose()?
            .unwrap_or_default(),
        options: mount.options.clone(),
    })
}

/// Mounts that containerd got from us or from somebody else.
pub(super) fn parse_mounts(mounts: &[types::Mount]) -> Result<Vec<mount::Mount>> {
    let parse = |mount: &types::Mount| {
        let kind = mount.r#type.parse::<mount::Kind>();
        Ok(mount::Mount {
            kind: kind.map_err(|error| Error::Unsupported {
                what: error.to_string(),
            })?,
            source: mount.source.clone().into(),
            target: Some(&mount.target)
                .filter(|target| !target.is_empty())
                .map(Into::into),
            options: mount.options.clone(),
        })
    };
    mounts.iter().map(parse).collect()
}
