//! The user of a step: `name|uid[:group|gid]` looked up in the image's own passwd and group files.
//!
//! The rules and the error texts are those of BuildKit (`executor/oci/user.go` and the
//! `moby/sys/user` package): the first matching line wins, a number is never taken for a name,
//! supplementary groups count only when the user was found by name or number and no group was
//! given, and an empty specification is root even in an image without passwd file.

use std::path::Path;

use crate::rootfs::RootDir;

/// Size of /etc/passwd and /etc/group that is read, in bytes; BuildKit's `maxUserFileBytes`.
const USER_FILE_BYTES_MAX: u64 = 10 << 20;

/// The largest id a name or number may stand for; runc's limit.
const ID_MAX: i64 = i32::MAX as i64;

/// A user as the kernel knows it, and its home directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All groups of the process; the primary one is always among them.
    pub groups: Vec<u32>,
    /// The home directory of the passwd line, `/` when there is none.
    pub home: String,
}

/// Why a user specification is not usable.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UserError {
    /// The user is in no line of /etc/passwd.
    #[error("unable to find user {user}: no matching entries in passwd file")]
    NoUser {
        /// The name as given.
        user: String,
    },
    /// The group is in no line of /etc/group.
    #[error("unable to find group {group}: no matching entries in group file")]
    NoGroup {
        /// The name as given.
        group: String,
    },
    /// A number outside of what the kernel accepts.
    #[error("uids and gids must be in range 0-{ID_MAX}")]
    OutOfRange,
    /// /etc/passwd or /etc/group exists but could not be read.
    #[error("unable to find user {user}: {cause}")]
    Unreadable {
        /// The name as given.
        user: String,
        /// Cause, in words.
        cause: String,
    },
}

/// Looks `specification` up in the root file system at `root`.
///
/// # Errors
/// See [`UserError`]. A missing passwd or group file is an empty one.
pub fn lookup(root: &Path, specification: &str) -> Result<User, UserError> {
    let unreadable = |cause: std::io::Error| UserError::Unreadable {
        user: specification.to_owned(),
        cause: cause.to_string(),
    };
    let root = RootDir::open(root).map_err(unreadable)?;
    let read = |path: &str| match root.read_file(Path::new(path), USER_FILE_BYTES_MAX) {
        Ok(content) => Ok(String::from_utf8_lossy(&content).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(unreadable(error)),
    };
    if specification.is_empty() {
        // The default user is root whatever the image's files look like.
        let files = read("/etc/passwd").and_then(|passwd| Ok((passwd, read("/etc/group")?)));
        let (passwd, group) = files.unwrap_or_default();
        return Ok(parse("0", &passwd, &group).unwrap_or_else(|_| plain(0, 0, "/root")));
    }
    parse(specification, &read("/etc/passwd")?, &read("/etc/group")?)
}

/// The look-up itself, on the texts of the two files.
fn parse(specification: &str, passwd: &str, group: &str) -> Result<User, UserError> {
    let (user_part, group_part) = match specification.split_once(':') {
        Some((user, rest)) => (user, rest.split(':').next().unwrap_or_default()),
        None => (specification, ""),
    };
    if let Some((uid, gid)) = both_numbers(specification) {
        let home = passwd_lines(passwd).find(|line| line.uid == i64::from(uid));
        return Ok(plain(uid, gid, home.as_ref().map_or("/", |line| line.home)));
    }
    let uid_number = number(user_part)?;
    let gid_number = number(group_part)?;

    let entry = passwd_lines(passwd).find(|line| match (user_part, uid_number) {
        ("", _) => line.uid == 0,
        (_, Some(uid)) => line.uid == uid,
        (name, None) => line.name == name,
    });
    let (uid, mut gid, home, name) = match (&entry, uid_number) {
        (Some(entry), _) => (entry.uid, entry.gid, entry.home, entry.name),
        (None, Some(uid)) => (uid, 0, "/", ""),
        (None, None) if user_part.is_empty() => (0, 0, "/", ""),
        (None, None) => {
            return Err(UserError::NoUser {
                user: user_part.to_owned(),
            });
        }
    };

    let mut groups = Vec::new();
    if !group_part.is_empty() {
        let found = group_lines(group).find(|line| match gid_number {
            Some(gid) => line.gid == gid,
            None => line.name == group_part,
        });
        gid = match (found, gid_number) {
            (Some(line), _) => line.gid,
            (None, Some(gid)) => gid,
            (None, None) => {
                return Err(UserError::NoGroup {
                    group: group_part.to_owned(),
                });
            }
        };
    } else if !name.is_empty() {
        for line in group_lines(group).filter(|line| line.members.split(',').any(|m| m == name)) {
            groups.push(id(line.gid)?);
        }
    }
    let (uid, gid) = (id(uid)?, id(gid)?);
    if !groups.contains(&gid) {
        groups.insert(0, gid);
    }
    Ok(User {
        uid,
        gid,
        groups,
        home: home_or_root(home),
    })
}

fn plain(uid: u32, gid: u32, home: &str) -> User {
    User {
        uid,
        gid,
        groups: vec![gid],
        home: home_or_root(home),
    }
}

fn home_or_root(home: &str) -> String {
    if home.is_empty() {
        "/".to_owned()
    } else {
        home.to_owned()
    }
}

/// Adds groups to those of a user: numbers, or names of the image in `root`.
///
/// # Errors
/// [`UserError`].
pub(crate) fn add_groups(root: &Path, user: &mut User, given: &[String]) -> Result<(), UserError> {
    if given.is_empty() {
        return Ok(());
    }
    let unreadable = |cause: std::io::Error| UserError::Unreadable {
        user: given.join(", "),
        cause: cause.to_string(),
    };
    let root = RootDir::open(root).map_err(unreadable)?;
    let file = match root.read_file(Path::new("/etc/group"), USER_FILE_BYTES_MAX) {
        Ok(content) => String::from_utf8_lossy(&content).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(unreadable(error)),
    };
    for group in given {
        let found = group_lines(&file).find(|line| line.name == group);
        let gid = match (found, number(group)?) {
            (Some(line), _) => line.gid,
            (None, Some(gid)) => gid,
            (None, None) => {
                let group = group.clone();
                return Err(UserError::NoGroup { group });
            }
        };
        let gid = id(gid)?;
        if !user.groups.contains(&gid) {
            user.groups.push(gid);
        }
    }
    Ok(())
}

/// `uid:gid` when both are given as numbers (or as `root`); such a pair needs no files.
fn both_numbers(specification: &str) -> Option<(u32, u32)> {
    let number = |text: &str| {
        if text == "root" {
            Some(0)
        } else {
            text.parse().ok()
        }
    };
    let (user, group) = specification.split_once(':')?;
    Some((number(user)?, number(group)?))
}

/// A decimal number in range, or `None` for a name.
fn number(text: &str) -> Result<Option<i64>, UserError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<i64>() {
        Ok(value) if (0..=ID_MAX).contains(&value) => Ok(Some(value)),
        _ => Err(UserError::OutOfRange),
    }
}

fn id(value: i64) -> Result<u32, UserError> {
    u32::try_from(value).map_err(|_| UserError::OutOfRange)
}

struct PasswdLine<'a> {
    name: &'a str,
    uid: i64,
    gid: i64,
    home: &'a str,
}

struct GroupLine<'a> {
    name: &'a str,
    gid: i64,
    members: &'a str,
}

/// Lines of passwd(5). A malformed number counts as 0, as it does for every Go container tool.
fn passwd_lines(text: &str) -> impl Iterator<Item = PasswdLine<'_>> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| {
            let mut fields = line.split(':');
            let mut next = || fields.next().unwrap_or_default();
            let (name, _password, uid, gid, _gecos, home) =
                (next(), next(), next(), next(), next(), next());
            PasswdLine {
                name,
                uid: uid.parse().unwrap_or(0),
                gid: gid.parse().unwrap_or(0),
                home,
            }
        })
}

/// Lines of group(5), comments left out.
fn group_lines(text: &str) -> impl Iterator<Item = GroupLine<'_>> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut fields = line.split(':');
            let mut next = || fields.next().unwrap_or_default();
            let (name, _password, gid, members) = (next(), next(), next(), next());
            GroupLine {
                name,
                gid: gid.parse().unwrap_or(0),
                members,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        daemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n\
        \n\
        ada:x:1000:1001:Ada:/home/ada:/bin/sh\n\
        ada:x:7:7:second line never wins:/:/\n\
        77:x:5000:5000:a number for a name:/n:/\n";
    const GROUP: &str = "root:x:0:\n# comment:x:9:ada\nwheel:x:10:root,ada\ndocker:x:999:ada\n\
        ada:x:1001:\nstaff:x:50:bob,adam\n";

    fn check(specification: &str, expect: Result<(u32, u32, &[u32], &str), &str>) {
        let found = parse(specification, PASSWD, GROUP);
        let found = found
            .as_ref()
            .map(|u| (u.uid, u.gid, u.groups.as_slice(), u.home.as_str()));
        let found = found.map_err(ToString::to_string);
        assert_eq!(
            found,
            expect.map_err(ToOwned::to_owned),
            "{specification:?}"
        );
    }

    #[test]
    fn every_form_of_a_user_gives_what_buildkit_gives() {
        check("root", Ok((0, 0, &[0, 10], "/root")));
        check("0", Ok((0, 0, &[0, 10], "/root")));
        check("ada", Ok((1000, 1001, &[1001, 10, 999], "/home/ada")));
        check("1000", Ok((1000, 1001, &[1001, 10, 999], "/home/ada")));
        check("ada:docker", Ok((1000, 999, &[999], "/home/ada")));
        check("ada:", Ok((1000, 1001, &[1001, 10, 999], "/home/ada")));
        check(":docker", Ok((0, 999, &[999], "/root")));
        check("1000:50", Ok((1000, 50, &[50], "/home/ada")));
        check("ada:4242", Ok((1000, 4242, &[4242], "/home/ada")));
        check("4242", Ok((4242, 0, &[0], "/")));
        check("4242:4243", Ok((4242, 4243, &[4243], "/")));
        check(
            "4294967294:4294967294",
            Ok((u32::MAX - 1, u32::MAX - 1, &[u32::MAX - 1], "/")),
        );
        check("root:root", Ok((0, 0, &[0], "/root")));
        check("77", Ok((77, 0, &[0], "/")));
    }

    #[test]
    fn unknown_and_impossible_users_are_named_in_buildkits_words() {
        check(
            "foo",
            Err("unable to find user foo: no matching entries in passwd file"),
        );
        check(
            "foo:wheel",
            Err("unable to find user foo: no matching entries in passwd file"),
        );
        check(
            "ada:bar",
            Err("unable to find group bar: no matching entries in group file"),
        );
        check(
            "2147483648",
            Err("uids and gids must be in range 0-2147483647"),
        );
        check("-1", Err("uids and gids must be in range 0-2147483647"));
        check(
            "ada:99999999999999999999",
            Err("uids and gids must be in range 0-2147483647"),
        );
    }

    #[test]
    fn an_image_without_files_has_root_and_numbers_only() {
        let directory = tempfile::tempdir().unwrap();
        let user = |text| lookup(directory.path(), text);
        assert_eq!(user("").unwrap().uid, 0);
        assert_eq!(user("5:6").unwrap().groups, [6]);
        assert_eq!(user("5").unwrap().uid, 5);
        assert!(matches!(user("ada"), Err(UserError::NoUser { .. })));
    }

    #[test]
    fn a_passwd_link_out_of_the_image_reads_the_images_own_file() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("etc")).unwrap();
        std::fs::create_dir_all(directory.path().join("data")).unwrap();
        std::os::unix::fs::symlink("/data/passwd", directory.path().join("etc/passwd")).unwrap();
        std::fs::write(directory.path().join("data/passwd"), "ada:x:1:2:::").unwrap();
        assert_eq!(lookup(directory.path(), "ada").unwrap().uid, 1);
    }

    #[test]
    fn a_passwd_that_cannot_be_read_fails_named_users_but_not_the_default() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("etc/passwd")).unwrap();
        assert_eq!(lookup(directory.path(), "").unwrap().uid, 0);
        let error = lookup(directory.path(), "ada").unwrap_err().to_string();
        assert_eq!(
            error,
            "unable to find user ada: /etc/passwd is not a regular file"
        );
    }
}
