//! What varve takes from its environment: read once, here, and handed on.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::caller::Caller;

/// State of root, by the file hierarchy standard.
const ROOT_SYSTEM: &str = "/var/lib/varve";

/// Variables of the process, and who it runs as.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    variables: HashMap<String, OsString>,
    is_root: bool,
}

impl Environment {
    /// That of this process.
    pub(crate) fn of_this_process() -> Self {
        let is_root = rustix::process::geteuid().is_root();
        Environment::of_variables(std::env::vars_os(), is_root)
    }

    /// One with other variables, of the same user.
    pub(crate) fn with_variables(
        &self,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Self {
        Environment::of_variables(variables, self.is_root)
    }

    fn of_variables(variables: impl Iterator<Item = (OsString, OsString)>, is_root: bool) -> Self {
        let named = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value));
        Environment {
            variables: variables.filter_map(named).collect(),
            is_root,
        }
    }

    /// Whether varve was started as root.
    pub(crate) fn is_root(&self) -> bool {
        self.is_root
    }

    /// The value of a variable, if it is set to text.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name)?.to_str()
    }

    /// All variables, for programs that work on the caller's behalf.
    pub(crate) fn all(&self) -> Vec<(OsString, OsString)> {
        let variables = self.variables.iter();
        variables
            .map(|(name, value)| (name.into(), value.clone()))
            .collect()
    }

    /// A path in a variable that is set and not empty.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self.variables.get(name).filter(|value| !value.is_empty())?;
        Some(PathBuf::from(value))
    }

    /// Whether lines may be coloured (<https://no-color.org>).
    pub(crate) fn wants_colour(&self) -> bool {
        let is_dumb = self.get("TERM") == Some("dumb");
        self.variables
            .get("NO_COLOR")
            .is_none_or(|value| value.is_empty())
            && !is_dumb
    }

    /// Directory for files that nobody needs for long.
    pub(crate) fn temporary_directory(&self) -> PathBuf {
        self.path("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"))
    }

    /// Directory of all state, unless another was asked for.
    ///
    /// # Errors
    /// A user without a home.
    pub(crate) fn default_root(&self) -> anyhow::Result<PathBuf> {
        if self.is_root {
            return Ok(PathBuf::from(ROOT_SYSTEM));
        }
        // Relative paths in XDG variables are to be ignored (XDG base directory specification).
        let data = self.path("XDG_DATA_HOME").filter(|path| path.is_absolute());
        let home = || Some(self.path("HOME")?.join(".local/share"));
        let data = data.or_else(home);
        let data = data.ok_or_else(|| {
            anyhow::anyhow!(
                "neither XDG_DATA_HOME nor HOME is set; say where to keep state: --root DIR"
            )
        })?;
        Ok(data.join("varve"))
    }

    /// Directory of the user's configuration, if there is a home.
    pub(crate) fn configuration_directory(&self) -> Option<PathBuf> {
        let named = self.path("XDG_CONFIG_HOME");
        let named = named.filter(|path| path.is_absolute());
        named.or_else(|| Some(self.path("HOME")?.join(".config")))
    }

    /// A path as an absolute one, as the caller means it.
    ///
    /// # Errors
    /// The working directory is gone.
    pub(crate) fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
        use anyhow::Context;
        let absolute = Caller::current().absolute(path);
        absolute.with_context(|| format!("cannot resolve {}", path.display()))
    }
}

#[cfg(test)]
impl Environment {
    /// One for tests.
    pub(crate) fn of(variables: &[(&str, &str)], is_root: bool) -> Self {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        Environment {
            variables: variables.collect(),
            is_root,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_lies_where_the_user_keeps_data() {
        let home = ("HOME", "/home/u");
        for (variables, is_root, expect) in [
            (&[home][..], true, Some("/var/lib/varve")),
            (&[home], false, Some("/home/u/.local/share/varve")),
            (
                &[home, ("XDG_DATA_HOME", "/data")],
                false,
                Some("/data/varve"),
            ),
            (
                &[home, ("XDG_DATA_HOME", "")],
                false,
                Some("/home/u/.local/share/varve"),
            ),
            (
                &[home, ("XDG_DATA_HOME", "rel")],
                false,
                Some("/home/u/.local/share/varve"),
            ),
            (&[], false, None),
        ] {
            let root = Environment::of(variables, is_root).default_root().ok();
            assert_eq!(root.as_deref(), expect.map(Path::new), "{variables:?}");
        }
    }

    #[test]
    fn colours_are_left_out_on_request() {
        for (variables, expect) in [
            (&[][..], true),
            (&[("NO_COLOR", "")], true),
            (&[("NO_COLOR", "1")], false),
            (&[("TERM", "dumb")], false),
            (&[("TERM", "xterm")], true),
        ] {
            assert_eq!(
                Environment::of(variables, false).wants_colour(),
                expect,
                "{variables:?}"
            );
        }
    }
}
