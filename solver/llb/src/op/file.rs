//! Change files without running a process.

use super::InputIndex;

/// Steps that run in order; each may use the results of those before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct File {
    /// Not empty.
    pub steps: Vec<FileStep>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStep {
    /// The file system that is changed.
    pub input: FileInput,
    /// The file system that is copied from; only of [`FileAction::Copy`].
    pub secondary: FileInput,
    /// Output of the operation; `None` when only later steps use the result.
    pub output: Option<u32>,
    /// The change.
    pub action: FileAction,
}

/// A file system that a step uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum FileInput {
    /// An empty one.
    #[default]
    Empty,
    /// An input of the vertex.
    Input(InputIndex),
    /// The result of an earlier step, by position.
    Step(u32),
}

/// The change of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileAction {
    /// Copy from the secondary input.
    Copy(Copy),
    /// Write a new file.
    Mkfile(Mkfile),
    /// Make a directory.
    Mkdir(Mkdir),
    /// Remove.
    Rm(Rm),
    /// Make a symbolic link.
    Symlink(Symlink),
}

/// Copy files. Paths are absolute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copy {
    /// What is copied.
    pub src: String,
    /// Where to. A trailing `/` means "into this directory".
    pub dest: String,
    /// Owner of all that is copied; kept when `None`.
    pub owner: Option<Owner>,
    /// Permission bits of all that is copied.
    pub mode: CopyMode,
    /// A symbolic link as source means its target.
    pub follow_symlink: bool,
    /// A directory as source means its entries.
    pub dir_copy_contents: bool,
    /// A local archive as source means its entries.
    pub attempt_unpack: bool,
    /// Make missing directories above the destination.
    pub create_dest_path: bool,
    /// `src` may be a pattern.
    pub allow_wildcard: bool,
    /// A pattern that matches nothing is no error.
    pub allow_empty_wildcard: bool,
    /// Modification time, nanoseconds since the epoch; kept when `None`.
    pub timestamp_ns: Option<i64>,
    /// Only what matches one of these; everything when empty.
    pub include_patterns: Vec<String>,
    /// Nothing that matches one of these.
    pub exclude_patterns: Vec<String>,
    /// A destination of another type than the source is replaced.
    pub always_replace_existing: bool,
    /// Paths that must be among what is copied.
    pub required_paths: Vec<String>,
}

/// What happens to permission bits in a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CopyMode {
    /// They are kept.
    #[default]
    Keep,
    /// They become these.
    Bits(u32),
    /// They are changed as chmod(1) would, such as `u=rwX,go=rX`.
    Symbolic(String),
}

/// Write a new file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mkfile {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Content.
    pub data: Vec<u8>,
    /// Owner; root when `None`.
    pub owner: Option<Owner>,
    /// Modification time, nanoseconds since the epoch; now when `None`.
    pub timestamp_ns: Option<i64>,
}

/// Make a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mkdir {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Make those above as well; one that exists is no error.
    pub make_parents: bool,
    /// Owner; root when `None`.
    pub owner: Option<Owner>,
    /// Modification time, nanoseconds since the epoch; now when `None`.
    pub timestamp_ns: Option<i64>,
}

/// Make a symbolic link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Symlink {
    /// What the link says.
    pub target: String,
    /// Where the link is.
    pub path: String,
    /// Owner; root when `None`.
    pub owner: Option<Owner>,
    /// Modification time, nanoseconds since the epoch; now when `None`.
    pub timestamp_ns: Option<i64>,
}

/// Remove a file or a directory with all that is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rm {
    /// Absolute path.
    pub path: String,
    /// Absent is no error.
    pub allow_not_found: bool,
    /// `path` may be a pattern.
    pub allow_wildcard: bool,
}

/// An owner. What is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: Option<UserRef>,
    /// The group.
    pub group: Option<UserRef>,
}

/// A user or a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserRef {
    /// By number.
    Id(u32),
    /// By a name that stands in /etc/passwd or /etc/group of a file system.
    Name {
        /// The name.
        name: String,
        /// The file system.
        input: FileInput,
    },
}

impl Owner {
    /// Reads `user[:group]`. `root` and numbers are ids; other names are looked up in `names`.
    pub fn parse(text: &str, names: FileInput) -> Self {
        let reference = |part: &str| match part.parse::<i32>() {
            _ if part == "root" => UserRef::Id(0),
            // As BuildKit: read as signed, written as unsigned, so -1 means 4294967295.
            Ok(id) => UserRef::Id(id.cast_unsigned()),
            Err(_) if part.is_empty() => UserRef::Id(0),
            Err(_) => UserRef::Name {
                name: part.to_owned(),
                input: names,
            },
        };
        let mut parts = text.splitn(2, ':').map(reference);
        Self {
            user: parts.next(),
            group: parts.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_numbers_root_or_names() {
        let names = FileInput::Input(InputIndex(0));
        let named = |name: &str| {
            Some(UserRef::Name {
                name: name.into(),
                input: names,
            })
        };
        let check = |text, user, group| {
            assert_eq!(
                Owner::parse(text, names),
                Owner { user, group },
                "of {text:?}"
            );
        };
        check("1000", Some(UserRef::Id(1000)), None);
        check("root:0", Some(UserRef::Id(0)), Some(UserRef::Id(0)));
        check("app:staff", named("app"), named("staff"));
        check(":7", Some(UserRef::Id(0)), Some(UserRef::Id(7)));
        check("a:b:c", named("a"), named("b:c"));
    }
}
