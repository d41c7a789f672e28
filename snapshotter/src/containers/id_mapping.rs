//! Snapshots whose owners are mapped for a user namespace: containerd's `remap-ids`.
//!
//! What lies below is shown by an id-mapped mount; what the container writes has the outer ids on
//! disk, as with containerd's own overlayfs snapshotter.

use mount::{IdMapping, IdRanges};
use store::{Metadata, Store, TreeRef};

use super::row::{Row, State};
use crate::error::{Error, Result};
use crate::snapshots::Labels;

/// Labels by which containerd asks for mounts with other owners, of plugins that promise them.
const USERS: &str = "containerd.io/snapshot/uidmapping";
const GROUPS: &str = "containerd.io/snapshot/gidmapping";

/// What the labels of a snapshot ask for.
pub(super) fn of_labels(labels: &Labels) -> Result<Option<IdMapping>> {
    let ranges = |name: &str| -> Result<Option<IdRanges>> {
        let Some(text) = labels.get(name) else {
            return Ok(None);
        };
        let ranges = text.parse().map_err(|reason| Error::InvalidArgument {
            reason: format!("label {name}={text:?}: {reason}"),
        })?;
        Ok(Some(ranges))
    };
    match (ranges(USERS)?, ranges(GROUPS)?) {
        (None, None) => Ok(None),
        (Some(users), Some(groups)) => Ok(Some(IdMapping { users, groups })),
        _ => Err(Error::InvalidArgument {
            reason: format!("of the labels {USERS} and {GROUPS} one is missing"),
        }),
    }
}

/// The attributes of a root directory, with the owner outside.
pub(super) fn mapped(root: Metadata, mapping: &IdMapping) -> Result<Metadata> {
    let outside = |ranges: &IdRanges, id: u32| {
        ranges.outside(id).ok_or_else(|| Error::InvalidArgument {
            reason: format!("the root directory belongs to {id}, which is not mapped"),
        })
    };
    Ok(Metadata {
        uid: outside(&mapping.users, root.uid)?,
        gid: outside(&mapping.groups, root.gid)?,
        ..root
    })
}

/// What the mounts of all open snapshots show with mapped owners.
pub(crate) fn mapped_trees(store: &Store) -> Result<Vec<(TreeRef, IdMapping)>> {
    let mut trees = Vec::new();
    for row in super::rows(store) {
        let row: Row = row?;
        // Labels that are wrong were never mounted by.
        if let State::Open { .. } = row.state
            && let Ok(Some(mapping)) = of_labels(&row.info.labels)
        {
            trees.extend(row.roots().map(|tree| (tree, mapping.clone())));
        }
    }
    Ok(trees)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn both_labels_together_are_a_mapping() {
        let both = [(USERS, "0:1000:10"), (GROUPS, "0:2000:10")];
        let mapping = of_labels(&labels(&both)).unwrap().unwrap();
        assert_eq!(mapping.users.outside(3), Some(1003));
        assert_eq!(mapping.groups.outside(3), Some(2003));
        assert_eq!(of_labels(&Labels::new()).unwrap(), None);
        for wrong in [
            &both[..1],
            &both[1..],
            &[(USERS, "0:1"), (GROUPS, "0:2000:10")],
        ] {
            let error = of_labels(&labels(wrong)).unwrap_err();
            assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
        }
        let root = Metadata::default_directory();
        let seen = mapped(root.clone(), &mapping).unwrap();
        assert_eq!((seen.uid, seen.gid, seen.mode), (1000, 2000, root.mode));
        let stranger = Metadata { uid: 10, ..root };
        mapped(stranger, &mapping).unwrap_err();
    }
}
