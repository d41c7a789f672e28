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
pub(super) fn resolve(
    owner: Option<&Owner>,
    tree_of: &dyn Fn(FileInput) -> Option<TreeRef>,
    environment: &Environment,
) -> Result<(u32, u32), Error> {
    let Some(owner) = owner else {
        return Ok((0, 0));
    };
    let (uid, own_gid) = match &owner.user {
        None => (0, 0),
        Some(UserRef::Id(id)) => (*id, *id),
        Some(UserRef::Name { name, input }) => {
            let text = account_file(tree_of(*input), "/etc/passwd", environment)?;
            let fields = find(&text, name).ok_or_else(|| Error::UnknownAccount {
                kind: "user",
                name: name.clone(),
                file: "passwd",
            })?;
            let number = |index: usize| fields.get(index).and_then(|field| field.parse().ok());
            (number(2).unwrap_or_default(), number(3).unwrap_or_default())
        }
    };
    let gid = match &owner.group {
        None => own_gid,
        Some(UserRef::Id(id)) => *id,
        Some(UserRef::Name { name, input }) => {
            let text = account_file(tree_of(*input), "/etc/group", environment)?;
            let fields = find(&text, name).ok_or_else(|| Error::UnknownAccount {
                kind: "group",
                name: name.clone(),
                file: "group",
            })?;
            fields
                .get(2)
                .and_then(|field| field.parse().ok())
                .unwrap_or_default()
        }
    };
    Ok((uid, gid))
}

/// The fields of the line that begins with `name:`.
fn find<'t>(text: &'t str, name: &str) -> Option<Vec<&'t str>> {
    text.lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.len() > 2 && fields[0] == name)
}

fn account_file(
    tree: Option<TreeRef>,
    path: &str,
    environment: &Environment,
) -> Result<String, Error> {
    let Some(tree) = tree else {
        return Ok(String::new());
    };
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
        _ => Ok(String::new()),
    }
}
