//! Secrets of the caller, for `RUN --mount=type=secret`.
//!
//! A value is read when a step wants it, goes to that step alone, and is written nowhere but to
//! the file system in memory below `run/`. It is in no key: another value is no reason to run a
//! step again, as with BuildKit.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llb::op::SecretMount;
use rustix::fs::{Gid, Mode, Uid};

use crate::error::{Error, Result};

/// Most bytes of a secret; BuildKit's own limit.
pub const SECRET_BYTES_MAX: u64 = 500 * 1024;

/// Bits of a secret's mode that count.
const MODE_MASK: u32 = 0o7777;

/// The bytes of a secret. They are not for printing.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Arc<[u8]>);

impl SecretValue {
    /// These bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        SecretValue(bytes.into())
    }

    /// The value as text, for where nothing else can be; `id` is the secret's.
    ///
    /// # Errors
    /// [`Error::Secret`]: it is none, or holds a NUL byte.
    pub(crate) fn text(&self, id: &str) -> Result<String> {
        let unfit = |reason| Error::Secret {
            id: id.to_owned(),
            reason,
        };
        let text = std::str::from_utf8(&self.0);
        let text = text.map_err(|_| unfit("it is no text, which it must be here"))?;
        match text.contains('\0') {
            true => Err(unfit("it holds a NUL byte, which it cannot here")),
            false => Ok(text.to_owned()),
        }
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A file of the caller, read when it is wanted.
    File(PathBuf),
    /// A value that the caller has, of an environment variable.
    Value(SecretValue),
}

/// The secrets of a build, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<String, SecretSource>);

impl Secrets {
    /// Adds a secret; of two with one id the last one counts.
    pub fn insert(&mut self, id: impl Into<String>, source: SecretSource) {
        self.0.insert(id.into(), source);
    }

    /// The value of a secret; `None` if there is none and that is no error.
    ///
    /// # Errors
    /// [`Error::NoSecret`]; [`Error::Io`]; [`Error::Secret`].
    pub(crate) fn get(&self, id: &str, is_optional: bool) -> Result<Option<SecretValue>> {
        let path = match self.0.get(id) {
            Some(SecretSource::Value(value)) => return Ok(Some(value.clone())),
            Some(SecretSource::File(path)) => path,
            None if is_optional => return Ok(None),
            None => return Err(Error::NoSecret { id: id.to_owned() }),
        };
        let read = || -> std::io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            let file = File::open(path)?;
            file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes = read().map_err(|error| Error::io("read the secret in", path, error))?;
        if bytes.len() as u64 > SECRET_BYTES_MAX {
            return Err(Error::Secret {
                id: id.to_owned(),
                reason: "it has more than 500 KB",
            });
        }
        Ok(Some(SecretValue::new(&bytes)))
    }

    /// The secrets that are text and can be read now, by id: to leave them out of what is
    /// remembered. A file that is no regular one is read by nobody but the step that wants it.
    pub(crate) fn texts(&self) -> Vec<(&str, String)> {
        let is_at_hand = |source: &SecretSource| match source {
            SecretSource::Value(_) => true,
            SecretSource::File(path) => fs::metadata(path).is_ok_and(|found| found.is_file()),
        };
        let text = |(id, source): (&'_ String, &SecretSource)| {
            let value = is_at_hand(source).then(|| self.get(id, true).ok().flatten())??;
            String::from_utf8(value.0.to_vec()).ok()
        };
        let texts = self
            .0
            .iter()
            .map(|(id, source)| (id.as_str(), text((id, source))));
        texts.filter_map(|(id, text)| Some((id, text?))).collect()
    }

    /// `NAME=value` of a variable whose value is a secret.
    ///
    /// # Errors
    /// As [`Secrets::get`]; the value cannot stand in a variable.
    pub(crate) fn variable(&self, wanted: &llb::op::SecretEnv) -> Result<Option<String>> {
        let Some(value) = self.get(&wanted.id, wanted.optional)? else {
            return Ok(None);
        };
        Ok(Some(format!("{}={}", wanted.name, value.text(&wanted.id)?)))
    }
}

/// A file with a secret, in memory. It goes with the value.
#[derive(Debug)]
pub(crate) struct SecretFile(PathBuf);

impl SecretFile {
    /// Writes `value` into a file below `directory`, which is in memory.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn create(
        directory: &Path,
        value: &SecretValue,
        owner: &SecretMount,
    ) -> Result<Self> {
        let path = directory.join("secret");
        let secret = SecretFile(path.clone());
        let write = || -> std::io::Result<()> {
            let mut options = File::options();
            let mut file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?;
            file.write_all(&value.0)?;
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            rustix::fs::fchown(file.as_fd(), Some(uid), Some(gid))?;
            let mode = Mode::from_raw_mode(owner.mode & MODE_MASK);
            Ok(rustix::fs::fchmod(file.as_fd(), mode)?)
        };
        write().map_err(|error| Error::io("write", &path, error))?;
        Ok(secret)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "cannot remove a secret's file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(optional: bool) -> llb::op::SecretEnv {
        llb::op::SecretEnv {
            id: "token".into(),
            name: "TOKEN".into(),
            optional,
        }
    }

    #[test]
    fn a_secret_is_never_printed() {
        let mut secrets = Secrets::default();
        secrets.insert("token", SecretSource::Value(SecretValue::new(b"hunter2")));
        assert!(!format!("{secrets:?}").contains("hunter2"));
        let variable = secrets.variable(&wanted(false)).unwrap();
        assert_eq!(variable.as_deref(), Some("TOKEN=hunter2"));
    }

    #[test]
    fn a_missing_secret_is_an_error_only_where_it_is_required() {
        let secrets = Secrets::default();
        assert_eq!(secrets.variable(&wanted(true)).unwrap(), None);
        let error = secrets.variable(&wanted(false)).unwrap_err().to_string();
        assert!(error.starts_with("secret token: not found; "), "{error}");
        assert!(error.contains("--secret id=token,src=FILE"), "{error}");
    }

    #[test]
    fn what_no_variable_can_hold_is_refused_without_telling_it() {
        for bytes in [&b"a\0b"[..], b"\xff\xfe"] {
            let mut secrets = Secrets::default();
            secrets.insert("token", SecretSource::Value(SecretValue::new(bytes)));
            let error = secrets.variable(&wanted(true)).unwrap_err().to_string();
            assert!(error.starts_with("secret token: it "), "{error}");
        }
    }

    #[test]
    fn a_file_is_read_up_to_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large");
        fs::write(&path, vec![b'x'; SECRET_BYTES_MAX as usize]).unwrap();
        let mut secrets = Secrets::default();
        secrets.insert("token", SecretSource::File(path.clone()));
        assert!(secrets.get("token", false).unwrap().is_some());
        fs::write(&path, vec![b'x'; SECRET_BYTES_MAX as usize + 1]).unwrap();
        let error = secrets.get("token", false).unwrap_err().to_string();
        assert_eq!(error, "secret token: it has more than 500 KB");
    }
}
