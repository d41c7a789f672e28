//! `RUN --mount`: comma-separated fields to a typed mount.

use super::fields::split_fields;
use crate::directives::parse_bool;
use crate::error::Problem;
use crate::error::suggest::nearest;
use crate::words::WordError;

/// All keys, for suggestions.
const KEYS: [&str; 19] = [
    "destination",
    "dst",
    "env",
    "from",
    "gid",
    "id",
    "mode",
    "readonly",
    "readwrite",
    "required",
    "ro",
    "rw",
    "sharing",
    "size",
    "source",
    "src",
    "target",
    "type",
    "uid",
];

/// One `--mount` flag as written. Its values may hold variables, so it becomes a [`Mount`] only
/// at lowering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    raw: String,
    fields: Vec<String>,
    from: Option<String>,
}

/// A mount of a `RUN` step.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mount {
    /// `type`; bind when not given.
    pub kind: MountKind,
    /// `from`: a stage, an image or a named context.
    pub from: Option<String>,
    /// `source`, `src`.
    pub source: Option<String>,
    /// `target`, `dst`, `destination`.
    pub target: Option<String>,
    /// `readonly`/`ro`, `readwrite`/`rw`. Not given: `false` for cache and tmpfs, else `true`.
    pub read_only: bool,
    /// `size` (tmpfs). Bytes; 0 when not given.
    pub size_limit: u64,
    /// `id`: of a cache, a secret or an ssh agent.
    pub id: Option<String>,
    /// `sharing` (cache).
    pub sharing: Option<SharingMode>,
    /// `required` (secret, ssh).
    pub required: bool,
    /// `env` (secret): the variable to put it in; `Some("")` means the secret's own name.
    pub env: Option<String>,
    /// `mode`: permission bits.
    pub mode: Option<u32>,
    /// `uid`.
    pub uid: Option<u32>,
    /// `gid`.
    pub gid: Option<u32>,
}

/// What a mount shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    #[default]
    Bind,
    /// A directory that survives the build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A file from the client that never enters the image.
    Secret,
    /// A forwarded agent socket.
    Ssh,
}

impl MountKind {
    const NAMES: [&'static str; 5] = ["bind", "cache", "secret", "ssh", "tmpfs"];

    /// The name in `type=`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Cache => "cache",
            Self::Tmpfs => "tmpfs",
            Self::Secret => "secret",
            Self::Ssh => "ssh",
        }
    }

    fn parse(text: &str) -> Result<Self, Problem> {
        Ok(match text.to_lowercase().as_str() {
            "bind" => Self::Bind,
            "cache" => Self::Cache,
            "tmpfs" => Self::Tmpfs,
            "secret" => Self::Secret,
            "ssh" => Self::Ssh,
            _ => {
                return Err(Problem::MountType {
                    value: text.to_owned(),
                    suggestion: nearest(text, &Self::NAMES),
                });
            }
        })
    }
}

/// What builds that use a cache at once do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharingMode {
    /// Use it together.
    Shared,
    /// Get one each.
    Private,
    /// Wait.
    Locked,
}

impl SharingMode {
    const NAMES: [&'static str; 3] = ["locked", "private", "shared"];

    fn parse(text: &str) -> Result<Self, Problem> {
        Ok(match text.to_lowercase().as_str() {
            "shared" => Self::Shared,
            "private" => Self::Private,
            "locked" => Self::Locked,
            _ => {
                return Err(Problem::SharingMode {
                    value: text.to_owned(),
                    suggestion: nearest(text, &Self::NAMES),
                });
            }
        })
    }
}

impl MountFlag {
    /// Cuts the fields. Only `from` is checked already.
    pub(super) fn parse(raw: &str) -> Result<Self, Problem> {
        let fields = split_fields(raw, "mounts")?;
        let mut from = None;
        for field in &fields {
            let Some((key, value)) = field.split_once('=') else {
                continue;
            };
            if !key.eq_ignore_ascii_case("from") {
                continue;
            }
            if value.find('$').is_some_and(|at| at + 1 != value.len()) {
                return Err(Problem::VariableNotSupported { key: "from" });
            }
            from = Some(value.to_owned());
        }
        Ok(Self {
            raw: raw.to_owned(),
            fields,
            from: from.filter(|from| !from.is_empty()),
        })
    }

    /// The text after `--mount=`, flag quoting removed.
    pub fn as_str(&self) -> &str {
        &self.raw
    }

    /// The stage, image or context the mount depends on. Known before expansion, because
    /// variables are refused here.
    pub fn from(&self) -> Option<&str> {
        self.from.as_deref()
    }

    /// Expands each value with `expand` and checks all fields.
    ///
    /// # Errors
    /// The first field that is wrong, or the error of `expand`.
    pub fn resolve(
        &self,
        mut expand: impl FnMut(&str) -> Result<String, WordError>,
    ) -> Result<Mount, Problem> {
        let mut mount = Mount::default();
        let mut read_only = None;
        for field in &self.fields {
            match field.split_once('=') {
                None => mount.set_flag(field, &mut read_only)?,
                Some((key, value)) => {
                    let value = expand(value)?;
                    mount.set_value(key, value, field, &mut read_only)?;
                }
            }
        }
        let is_writable = matches!(mount.kind, MountKind::Cache | MountKind::Tmpfs);
        mount.read_only = read_only.unwrap_or(!is_writable);
        mount.check()?;
        Ok(mount)
    }
}

impl Mount {
    /// A field without a value.
    fn set_flag(&mut self, field: &str, read_only: &mut Option<bool>) -> Result<(), Problem> {
        let key = field.to_lowercase();
        match key.as_str() {
            "readonly" | "ro" => *read_only = Some(true),
            "readwrite" | "rw" => *read_only = Some(false),
            "required" => {
                self.takes(&key, &[MountKind::Secret, MountKind::Ssh])?;
                self.required = true;
            }
            _ => {
                return Err(Problem::FieldWithoutValue {
                    field: field.to_owned(),
                });
            }
        }
        Ok(())
    }

    fn set_value(
        &mut self,
        key: &str,
        value: String,
        field: &str,
        read_only: &mut Option<bool>,
    ) -> Result<(), Problem> {
        let key = key.to_lowercase();
        let text = |value: String| Some(value).filter(|value| !value.is_empty());
        match key.as_str() {
            "type" => self.kind = MountKind::parse(&value)?,
            "from" => self.from = text(value),
            "source" | "src" => self.source = text(value),
            "target" | "dst" | "destination" => self.target = text(value),
            "readonly" | "ro" => *read_only = Some(bool_of(&key, &value)?),
            "readwrite" | "rw" => *read_only = Some(!bool_of(&key, &value)?),
            "required" => {
                self.takes(&key, &[MountKind::Secret, MountKind::Ssh])?;
                self.required = bool_of(&key, &value)?;
            }
            "size" => {
                self.takes(&key, &[MountKind::Tmpfs])?;
                self.size_limit = size_in_bytes(&value).ok_or_else(|| bad_value(&key, &value))?;
            }
            "id" => self.id = text(value),
            "sharing" => self.sharing = Some(SharingMode::parse(&value)?),
            "mode" => self.mode = Some(number("mode", &value, 8)?),
            "uid" => self.uid = Some(number("uid", &value, 10)?),
            "gid" => self.gid = Some(number("gid", &value, 10)?),
            "env" => self.env = Some(value),
            _ => {
                return Err(Problem::UnexpectedKey {
                    suggestion: nearest(&key, &KEYS),
                    key,
                    field: field.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Refuses `key` for other types. Depends on `type` standing in front of it, as in BuildKit.
    fn takes(&self, key: &str, kinds: &[MountKind]) -> Result<(), Problem> {
        if kinds.contains(&self.kind) {
            return Ok(());
        }
        Err(Problem::KeyOfOtherMountType {
            key: key.to_owned(),
            kind: self.kind.as_str(),
        })
    }

    /// What only the whole mount shows.
    fn check(&self) -> Result<(), Problem> {
        let kind = self.kind.as_str();
        if matches!(self.kind, MountKind::Bind | MountKind::Tmpfs) {
            let given = [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)];
            if let Some((key, _)) = given.into_iter().find(|(_, value)| value.is_some()) {
                return Err(Problem::KeyNotAllowed { key, kind });
            }
        }
        if self.kind == MountKind::Secret {
            if self.from.is_some() {
                return Err(Problem::SecretFrom);
            }
            if self.sharing.is_some() {
                return Err(Problem::SecretSharing);
            }
            if self.source.is_none() && self.target.is_none() && self.id.is_none() {
                return Err(Problem::SecretWithoutSource);
            }
            if self.source.is_some() && self.id.is_some() {
                return Err(Problem::SecretSourceAndId);
            }
        }
        if self.sharing.is_some() && self.kind != MountKind::Cache {
            return Err(Problem::SharingOfOtherMountType { kind });
        }
        Ok(())
    }
}

fn bad_value(key: &str, value: &str) -> Problem {
    Problem::FieldValue {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

fn bool_of(key: &str, value: &str) -> Result<bool, Problem> {
    parse_bool(value).ok_or_else(|| bad_value(key, value))
}

fn number(key: &'static str, value: &str, radix: u32) -> Result<u32, Problem> {
    let parsed = u32::from_str_radix(value, radix).ok();
    // Rust takes a plus sign, BuildKit does not.
    let parsed = parsed.filter(|_| !value.starts_with('+'));
    parsed.ok_or_else(|| Problem::FieldNumber {
        key,
        value: value.to_owned(),
    })
}

/// A size as docker writes it: `64m`, `1.5GiB`, `100`. Units are powers of 1,024.
fn size_in_bytes(text: &str) -> Option<u64> {
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | ' ');
    let end = text.rfind(is_number)? + 1;
    let (number, suffix) = (
        text[..end].trim_end_matches(' '),
        text[end..].to_lowercase(),
    );
    if !number.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let number: f64 = number.parse().ok()?;
    let mut letters = suffix.chars();
    let power = match letters.next() {
        None => 0,
        Some('b') => return (suffix == "b").then_some(number as u64),
        Some(unit) => "kmgtp".find(unit)? + 1,
    };
    if !matches!(letters.as_str(), "" | "b" | "ib") {
        return None;
    }
    // `as` saturates: an impossible size is refused by whoever makes the mount.
    Some((number * 1024_f64.powi(power as i32)) as u64)
}

#[cfg(test)]
mod tests;
