//! Which ids a container can have: all for root, and for an ordinary user those of the user
//! namespace that varve is in.

use mount::{IdMapping, IdRanges};

use crate::error::{Error, Result};
use crate::user::User;

/// The ids of this process's user namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ids {
    /// `None`: all.
    mapping: Option<IdMapping>,
    may_set_groups: bool,
}

impl Ids {
    /// All of them.
    #[cfg(test)]
    pub(crate) fn all() -> Self {
        Ids {
            mapping: None,
            may_set_groups: true,
        }
    }

    /// Those that there are here.
    pub(crate) fn here() -> Self {
        Ids {
            mapping: mount::own_ids(),
            may_set_groups: mount::may_set_groups(),
        }
    }

    /// Whether every id is there, as on a host.
    pub(crate) fn are_all(&self) -> bool {
        self.mapping.is_none()
    }

    pub(crate) fn has_group(&self, group: u32) -> bool {
        let mapping = self.mapping.as_ref();
        mapping.is_none_or(|mapping| mapping.groups.outside(group).is_some())
    }

    /// The supplementary groups that a process can be given.
    pub(crate) fn groups<'g>(&self, groups: &'g [u32]) -> &'g [u32] {
        match self.may_set_groups {
            true => groups,
            false => &[],
        }
    }

    /// Refuses a user that cannot be here.
    ///
    /// # Errors
    /// [`Error::NoSuchId`].
    pub(crate) fn check(&self, user: &User) -> Result<()> {
        let Some(mapping) = &self.mapping else {
            return Ok(());
        };
        let lacks = |kind, ids: &IdRanges, id| match ids.outside(id) {
            Some(_) => Ok(()),
            None => Err(Error::NoSuchId { kind, id }),
        };
        lacks("user", &mapping.users, user.uid)?;
        lacks("group", &mapping.groups, user.gid)?;
        let mut groups = self.groups(&user.groups).iter();
        groups.try_for_each(|group| lacks("group", &mapping.groups, *group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32, groups: &[u32]) -> User {
        User {
            uid,
            gid: uid,
            groups: groups.to_vec(),
            home: "/".to_owned(),
        }
    }

    #[test]
    fn who_is_not_in_the_namespace_is_named() {
        let ids = |may_set_groups| {
            let ranges: IdRanges = "0:1000:1,1:100000:99".parse().unwrap();
            Ids {
                mapping: Some(IdMapping {
                    users: ranges.clone(),
                    groups: ranges,
                }),
                may_set_groups,
            }
        };
        ids(true).check(&user(99, &[1, 2])).unwrap();
        ids(false).check(&user(0, &[500])).unwrap();
        Ids::all().check(&user(70_000, &[70_000])).unwrap();
        let refused = ids(true).check(&user(100, &[])).unwrap_err().to_string();
        assert!(refused.contains("user id 100 "), "{refused}");
        let refused = ids(true).check(&user(0, &[500])).unwrap_err().to_string();
        assert!(refused.contains("group id 500 "), "{refused}");
    }
}
