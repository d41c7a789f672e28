//! Owners by number or by a name of /etc/passwd and /etc/group of some file system.

use llb::op::{FileInput, Owner, UserRef};
use store::{Content, Editor, Found, Leaf, RelPath, TreeRef};

use crate::error::Error;
use crate::ops::Environment;

/// Longest account file that is read, in bytes: a hostile image must not fill memory.
const ACCOUNT_FILE_MAX_BYTES: u64 = 8 * 1024 * 1024;

/// The file systems in which names of this owner are looked up.
pub(super) fn inputs(owner: &Owner) -> impl Iterator<Item = FileInput> {
    [&owner.user, &owner.group]
        .into_iter()
        .flatten()
        .filter_map(|part| match part {
            UserRef::Id(_) => None,
            UserRef::Name { input, .. } => Some(*input),
        })
}

/// User and group id. No owner is root; a user by name brings its own group if none is given, a
/// user by number brings the group of the same number, as docker's `--chown` does.
///
/// As in BuildKit an account that the file system does not know is nobody's mistake but a 0, or the
/// group of the user: people have files like that and build them. `warn` is told.
///
/// # Errors
/// [`Error::UnknownAccount`] where there is no file system to look in.
pub(super) fn resolve(
    owner: Option<&Owner>,
    tree_of: &dyn Fn(FileInput) -> Option<TreeRef>,
    environment: &Environment,
    warn: &dyn Fn(String),
) -> Result<(u32, u32), Error> {
    let Some(owner) = owner else {
        return Ok((0, 0));
    };
    let account = |name: &str, input, kind| {
        let (file, path) = match kind {
            "user" => ("passwd", "/etc/passwd"),
            _ => ("group", "/etc/group"),
        };
        let unknown = Error::UnknownAccount {
            kind,
            name: name.to_owned(),
            file,
        };
        let Some(tree) = tree_of(input) else {
            return Err(unknown);
        };
        Ok(find(&account_file(tree, path, environment)?, name).ok_or(unknown))
    };
    let (uid, own_gid) = match &owner.user {
        None => (0, 0),
        Some(UserRef::Id(id)) => (*id, *id),
        Some(UserRef::Name { name, input }) => match account(name, *input, "user")? {
            Ok([uid, gid]) => (uid, gid),
            Err(unknown) => {
                warn(format!("{unknown}; the files belong to user 0"));
                (0, 0)
            }
        },
    };
    let gid = match &owner.group {
        None => own_gid,
        Some(UserRef::Id(id)) => *id,
        Some(UserRef::Name { name, input }) => match account(name, *input, "group")? {
            Ok([gid, _]) => gid,
            Err(unknown) => {
                warn(format!("{unknown}; the files belong to group {own_gid}"));
                own_gid
            }
        },
    };
    Ok((unchanged(uid), unchanged(gid)))
}

/// chown(2) leaves an owner of -1 as it is, and what is copied is root's before.
fn unchanged(id: u32) -> u32 {
    match id {
        u32::MAX => 0,
        id => id,
    }
}

/// The third and the fourth field of the line that begins with `name:`.
fn find(text: &str, name: &str) -> Option<[u32; 2]> {
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let fields = lines.find(|fields| fields.len() > 2 && fields[0] == name)?;
    let number = |index: usize| fields.get(index).and_then(|field| field.parse().ok());
    Some([2, 3].map(|index| number(index).unwrap_or_default()))
}

/// The text of an account file; none is as good as an empty one.
fn account_file(tree: TreeRef, path: &str, environment: &Environment) -> Result<String, Error> {
    let store = &**environment.store();
    let mut editor = Editor::open(store, tree);
    let path = editor.resolve(&RelPath::lenient(path.as_bytes())?, true)?;
    match editor.get(&path)? {
        Some(Found::Leaf(Leaf {
            content: Content::File { blob, size },
            ..
        })) if size <= ACCOUNT_FILE_MAX_BYTES => {
            Ok(String::from_utf8_lossy(&store.objects().read_all(blob)?).into_owned())
        }
        Some(Found::Leaf(Leaf {
            content: Content::File { .. },
            ..
        })) => Err(Error::file_op(&path, "it is larger than 8 MiB")),
        Some(_) => Err(Error::file_op(&path, "it is not a regular file")),
        None => Ok(String::new()),
    }
}
