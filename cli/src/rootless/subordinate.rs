//! The ids of an ordinary user: its own, and those of /etc/subuid and /etc/subgid (subuid(5)).

use std::fs;

use mount::{IdMapping, IdRanges};

use crate::environment::Environment;

const PASSWD: &str = "/etc/passwd";
const SUBUID: &str = "/etc/subuid";
const SUBGID: &str = "/etc/subgid";

/// What to give a user who has no range.
const RANGE_EXAMPLE: &str = "100000-165535";

/// A user of this machine.
#[derive(Clone, Debug)]
pub(super) struct Account {
    uid: u32,
    gid: u32,
    name: String,
}

impl Account {
    /// Whoever runs this process.
    pub(super) fn of_this_process(environment: &Environment) -> Self {
        let uid = rustix::process::geteuid().as_raw();
        // Users of a directory service are in no file.
        let told = || environment.get("USER").map(ToOwned::to_owned);
        Account {
            uid,
            gid: rustix::process::getegid().as_raw(),
            name: user_name(uid)
                .or_else(told)
                .unwrap_or_else(|| uid.to_string()),
        }
    }

    /// Its name, or its number.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Root inside is the user, and there is nobody else.
    pub(super) fn own_ids(&self) -> IdMapping {
        let only = |id: u32| mapping_of(id, &[]).expect("a single id overlaps with none");
        IdMapping {
            users: only(self.uid),
            groups: only(self.gid),
        }
    }

    /// Root inside is the user, and the ids above are the subordinate ones, in the order of the
    /// files. Tells how many users there are inside.
    ///
    /// # Errors
    /// Why there are none, and what to do.
    pub(super) fn mapping(&self) -> Result<(IdMapping, u32), String> {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        self.mapping_from(&read(SUBUID), &read(SUBGID))
    }

    fn mapping_from(&self, subuid: &str, subgid: &str) -> Result<(IdMapping, u32), String> {
        let ranges = |own: u32, file: &str, text: &str, option: &str| {
            let ranges = ranges_of(text, &self.name, self.uid);
            if ranges.is_empty() {
                return Err(format!(
                    "{} has no range of ids in {file}: sudo usermod {option} {RANGE_EXAMPLE} {}",
                    self.name, self.name
                ));
            }
            let mapping = mapping_of(own, &ranges);
            let mapping = mapping.map_err(|why| {
                format!("the ranges of {} in {file} are unusable: {why}", self.name)
            })?;
            let count = ranges.iter().map(|(_, count)| count).sum::<u32>();
            Ok((mapping, count.saturating_add(1)))
        };
        let (users, ids) = ranges(self.uid, SUBUID, subuid, "--add-subuids")?;
        let (groups, _) = ranges(self.gid, SUBGID, subgid, "--add-subgids")?;
        Ok((IdMapping { users, groups }, ids))
    }
}

/// Id 0 inside is `own`, the others follow.
fn mapping_of(own: u32, ranges: &[(u32, u32)]) -> Result<IdRanges, &'static str> {
    let mut text = format!("0:{own}:1");
    let mut inside = 1u32;
    for (first, count) in ranges {
        text.push_str(&format!(",{inside}:{first}:{count}"));
        inside = inside.checked_add(*count).ok_or("there are too many ids")?;
    }
    text.parse()
}

/// First id and count of each range of a user, by name or by number. What cannot be understood is
/// left out, as newuidmap(1) does.
fn ranges_of(text: &str, name: &str, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        if owner != name && owner != number {
            return None;
        }
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (count > 0).then_some((first, count))
    };
    text.lines().filter_map(range).collect()
}

/// The name of a user, if a file has it.
pub(super) fn user_name(uid: u32) -> Option<String> {
    let text = fs::read(PASSWD).ok()?;
    let text = String::from_utf8_lossy(&text);
    let number = uid.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anna() -> Account {
        Account {
            uid: 1000,
            gid: 1001,
            name: "anna".to_owned(),
        }
    }

    #[test]
    fn own_ids_come_first_and_subordinate_ones_in_order() {
        let subuid = "bob:1:5\nanna:100000:65536\n# anna:7:7\nanna:x:1\n1000:300000:10\n";
        let (mapping, ids) = anna().mapping_from(subuid, "anna:200000:65536\n").unwrap();
        assert_eq!(ids, 65547);
        assert_eq!(
            mapping.users.to_string(),
            "0 1000 1\n1 100000 65536\n65537 300000 10\n"
        );
        assert_eq!(mapping.groups.to_string(), "0 1001 1\n1 200000 65536\n");
        let alone = anna().own_ids();
        assert_eq!(alone.groups.to_string(), "0 1001 1\n");
    }

    #[test]
    fn a_missing_range_is_told_with_the_command_that_gives_one() {
        for (subuid, subgid, expect) in [
            ("", "anna:1:5", "usermod --add-subuids 100000-165535 anna"),
            (
                "anna:1:5",
                "bob:1:5",
                "usermod --add-subgids 100000-165535 anna",
            ),
            ("anna:1:0", "anna:1:5", "/etc/subuid"),
            ("anna:1000:5", "anna:5000:5", "unusable"),
            ("anna:1:4294967295\nanna:2:9", "anna:5000:5", "unusable"),
        ] {
            let refused = anna().mapping_from(subuid, subgid).unwrap_err();
            assert!(refused.contains(expect), "{refused}");
        }
    }

    #[test]
    fn root_has_a_name() {
        assert_eq!(user_name(0).as_deref(), Some("root"));
        assert_eq!(user_name(u32::MAX), None);
    }
}
