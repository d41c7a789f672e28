//! The ids of an ordinary user: its own, and those of /etc/subuid and /etc/subgid (subuid(5)).

use std::fs;

use mount::{IdMapping, IdRanges};

use crate::environment::Environment;

const PASSWD: &str = "/etc/passwd";
const SUBUID: &str = "/etc/subuid";
const SUBGID: &str = "/etc/subgid";

/// Where subordinate ids usually begin, and how many a user gets (login.defs(5)).
const RANGE_FIRST: u32 = 100_000;
const RANGE_IDS: u32 = 65_536;

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
        let lacking: Vec<_> = [
            (SUBUID, subuid, "--add-subuids"),
            (SUBGID, subgid, "--add-subgids"),
        ]
        .into_iter()
        .filter(|(_, text, _)| ranges_of(text, &self.name, self.uid).is_empty())
        .collect();
        if !lacking.is_empty() {
            let files: Vec<_> = lacking.iter().map(|(file, ..)| *file).collect();
            let range = free_range(&[subuid, subgid]);
            let options = lacking
                .iter()
                .map(|(.., option)| format!("{option} {range}"));
            let options: Vec<_> = options.collect();
            return Err(format!(
                "{name} has no range of ids in {}: sudo usermod {} {name}",
                files.join(" and "),
                options.join(" "),
                name = self.name
            ));
        }
        let ranges = |own: u32, file: &str, text: &str| {
            let ranges = ranges_of(text, &self.name, self.uid);
            let mapping = mapping_of(own, &ranges);
            let mapping = mapping.map_err(|why| {
                format!("the ranges of {} in {file} are unusable: {why}", self.name)
            })?;
            let count = ranges.iter().map(|(_, count)| count).sum::<u32>();
            Ok::<_, String>((mapping, count.saturating_add(1)))
        };
        let (users, ids) = ranges(self.uid, SUBUID, subuid)?;
        let (groups, _) = ranges(self.gid, SUBGID, subgid)?;
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

/// First id and count of each range of a user, by name or by number.
fn ranges_of(text: &str, name: &str, uid: u32) -> Vec<(u32, u32)> {
    let number = uid.to_string();
    let is_own = |owner: &str| owner == name || owner == number;
    ranges_where(text, is_own)
}

/// The ranges whose owner is of that kind. What cannot be understood is left out, as newuidmap(1)
/// does.
fn ranges_where(text: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<(u32, u32)> {
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        if !is_wanted(fields.next()?) {
            return None;
        }
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (count > 0).then_some((first, count))
    };
    text.lines().filter_map(range).collect()
}

/// The first range that nobody has in any of the files, as usermod(8) is told.
fn free_range(files: &[&str]) -> String {
    let mut taken: Vec<(u32, u32)> = Vec::new();
    for text in files {
        taken.extend(ranges_where(text, |_| true));
    }
    taken.sort_unstable();
    let mut first = RANGE_FIRST;
    for (other, count) in taken {
        if other < first.saturating_add(RANGE_IDS) {
            first = first.max(other.saturating_add(count));
        }
    }
    format!("{first}-{}", first.saturating_add(RANGE_IDS - 1))
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
                "bob:100000:65536",
                "usermod --add-subgids 165536-231071 anna",
            ),
            (
                "eve:231072:65536\nbob:100000:65536\n",
                "bob:100000:65536\n7:400000:9\n",
                "/etc/subuid and /etc/subgid: sudo usermod --add-subuids 165536-231071 \
                 --add-subgids 165536-231071 anna",
            ),
            (
                "bob:100000:65536\neve:170000:65536\n",
                "",
                "--add-subgids 235536-301071 anna",
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
