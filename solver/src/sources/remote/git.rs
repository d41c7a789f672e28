//! A revision of a git repository, as a build context or for `ADD`, by the machine's own `git`.

mod checkout;
mod messages;
mod program;

use std::ffi::OsString;

use dockerfile::repository::GitReference;
use engine::{CacheKey, CancelToken};
use llb::op::LocalSource;
use store::codec::{Decoder, Encoder};
use store::{
    Batch, Durability, Editor, RelPath, Store, Table, TreeId, TreeRef, TreeSource, layout,
};

pub(crate) use self::checkout::Resolved;
use self::program::Git;
use super::without_secrets;
use crate::agents::Agents;
use crate::error::{Error, Result};
use crate::progress::Reporter;
use crate::secrets::Secrets;
use crate::sources::local;

/// Variables of the caller that git gets where a Dockerfile names the repository: where programs
/// are and what is between here and there, but nobody's keys and settings.
const NEUTRAL_VARIABLES: [&str; 12] = [
    "PATH",
    "LANG",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];

/// The agent that is asked where nobody names one.
const USUAL_AGENT: &str = "default";

/// Where ssh finds its agent.
const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";

/// Version byte of a row.
const ROW_VERSION: u8 = 1;

/// A revision of a repository, or a directory in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitSource {
    /// What is meant.
    pub reference: GitReference,
    /// Variables for git, all of them: the caller's, not this process's.
    pub environment: Vec<(OsString, OsString)>,
}

/// What git may be told of who asks, and who wants to know how far it is.
#[derive(Debug)]
pub(crate) struct GitCall<'g> {
    pub(crate) store: &'g Store,
    pub(crate) secrets: &'g Secrets,
    pub(crate) reporter: &'g Reporter,
    pub(crate) cancel: &'g CancelToken,
}

impl GitSource {
    /// Understands what docker takes for a repository as a build context; `Ok(None)` for anything
    /// else. The variables are not filled in.
    ///
    /// # Errors
    /// It is one, and its queries mean nothing.
    pub fn parse(text: &str) -> std::result::Result<Option<Self>, String> {
        let reference = GitReference::parse(text)?;
        Ok(reference.map(|reference| GitSource {
            reference,
            environment: Vec::new(),
        }))
    }

    /// The repository that a graph names, with what its author may use of the caller: the agent
    /// that was given to the build, and none of the caller's own files.
    ///
    /// # Errors
    /// [`Error::NoAgent`].
    pub(crate) fn of_graph(
        source: &llb::op::GitSource,
        caller: &[(OsString, OsString)],
        agents: &Agents,
    ) -> Result<Self> {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let reference = GitReference {
            remote: source.remote.clone(),
            revision: given(&source.revision),
            directory: given(&source.directory),
            checksum: given(&source.checksum),
            keeps_git_directory: Some(source.keeps_git_directory),
            skips_submodules: source.skips_submodules,
            is_like_path: false,
        };
        let is_neutral = |name: &OsString| NEUTRAL_VARIABLES.iter().any(|known| name == known);
        let known = caller.iter().filter(|(name, _)| is_neutral(name)).cloned();
        let mut environment: Vec<_> = known.collect();
        let mut set = |name: &str, value: OsString| environment.push((name.into(), value));
        set("HOME", "/nonexistent".into());
        set("GIT_CONFIG_NOSYSTEM", "1".into());
        if !source.ssh_agent.is_empty() {
            let agent = agents.find(&source.ssh_agent);
            let agent = agent.ok_or_else(|| Error::NoAgent {
                id: source.ssh_agent.clone(),
            })?;
            set(AGENT_VARIABLE, agent.into());
            set("GIT_SSH_COMMAND", ssh_command(caller).into());
        }
        Ok(GitSource {
            reference,
            environment,
        })
    }

    /// The same with the agent that the build was given, if there is one.
    pub(crate) fn with_agent(&self, agents: &Agents) -> Self {
        let mut git = self.clone();
        if let Some(agent) = agents.find(USUAL_AGENT) {
            git.environment.retain(|(name, _)| name != AGENT_VARIABLE);
            git.environment.push((AGENT_VARIABLE.into(), agent.into()));
        }
        git
    }

    /// As people write it, without passwords.
    pub(super) fn name(&self) -> String {
        let GitReference {
            remote,
            revision,
            directory,
            ..
        } = &self.reference;
        let mut name = without_secrets(remote);
        if revision.is_some() || directory.is_some() {
            name.push('#');
            name.push_str(revision.as_deref().unwrap_or_default());
        }
        if let Some(directory) = directory {
            name.push(':');
            name.push_str(directory);
        }
        name
    }

    fn failed(&self, reason: impl Into<String>) -> Error {
        Error::Context {
            name: self.name(),
            reason: reason.into(),
        }
    }

    /// Asks which commit the revision is.
    ///
    /// # Errors
    /// [`Error::Context`]; [`Error::Cancelled`].
    pub(crate) fn resolve(&self, call: &GitCall<'_>) -> Result<Resolved> {
        let directory = scratch(call.store)?;
        Git::new(self, directory.path(), call)?.resolve()
    }

    /// Brings the revision into the store, unless it is there from an earlier build.
    ///
    /// # Errors
    /// [`Error::Context`]; [`Error::Cancelled`]; those of the store.
    pub(crate) fn fetch(&self, resolved: &Resolved, call: &GitCall<'_>) -> Result<TreeRef> {
        if let Some(tree) = self.recall(resolved, call.store)? {
            return Ok(tree);
        }
        let (store, directory) = (call.store, scratch(call.store)?);
        Git::new(self, directory.path(), call)?.check_out(resolved)?;
        let mut wanted = LocalSource::new("context");
        if self.reference.keeps_git_directory != Some(true) {
            wanted.exclude_patterns = vec!["**/.git".to_owned()];
        }
        let read = |bytes| call.reporter.status(super::TRANSFER, bytes, None, false);
        let (tree, scanned) = local::scan(store, directory.path(), &wanted, &read)?;
        let total = Some(scanned.bytes_read);
        call.reporter
            .status(super::TRANSFER, scanned.bytes_read, total, true);
        local::forget(store, directory.path())?;
        let tree = self.select(store, tree)?;
        self.remember(resolved, tree, store)?;
        Ok(tree)
    }

    /// The key of the row with the tree of a commit; `None` where nobody knew which it is.
    fn key(&self, resolved: &Resolved) -> Option<Vec<u8>> {
        let asked = &self.reference;
        let keeps = asked.keeps_git_directory == Some(true);
        let key = CacheKey::builder("varve solver: tree of a commit v1")
            .bytes(&asked.remote)
            .bytes(resolved.commit.as_ref()?)
            .bytes(asked.directory.as_deref().unwrap_or_default())
            .bytes(asked.checksum.as_deref().unwrap_or_default())
            .bytes([u8::from(keeps), u8::from(asked.skips_submodules)])
            .finish();
        Some(key.as_bytes().to_vec())
    }

    fn remember(&self, resolved: &Resolved, tree: TreeRef, store: &Store) -> Result<()> {
        let Some(key) = self.key(resolved) else {
            return Ok(());
        };
        let mut row = Encoder::new();
        row.byte(ROW_VERSION).raw(tree.id.as_bytes());
        let mut batch = Batch::new();
        batch.put(Table::Context, key, row.finish());
        Ok(store.write(batch, Durability::Process)?)
    }

    /// The tree of an earlier build. A row that cannot be read knows nothing.
    fn recall(&self, resolved: &Resolved, store: &Store) -> Result<Option<TreeRef>> {
        let Some(key) = self.key(resolved) else {
            return Ok(None);
        };
        let read = || store.rows().get(Table::Context, &key);
        let row = read()?;
        let Some(id) = row.as_deref().and_then(|row| decode(row).ok()) else {
            return Ok(None);
        };
        // A collection deletes the row before it deletes the tree: what was claimed while it was
        // still there stays.
        store.claim_tree(id);
        match read()? == row {
            true => Ok(Some(store.tree(id)?.reference().0)),
            false => Ok(None),
        }
    }

    /// The directory that is meant; links in the repository lead nowhere outside of it.
    fn select(&self, store: &Store, tree: TreeRef) -> Result<TreeRef> {
        let Some(directory) = &self.reference.directory else {
            return Ok(tree);
        };
        let mut editor = Editor::open(store, tree);
        let path = RelPath::lenient(directory.as_bytes())?;
        let path = editor.resolve(&path, true)?;
        let found = editor.untouched(&path)?;
        found.ok_or_else(|| self.failed(format!("it has no directory {directory}")))
    }
}

fn decode(bytes: &[u8]) -> store::Result<TreeId> {
    let mut row = Decoder::new("row of a commit", bytes);
    if row.byte()? != ROW_VERSION {
        return Err(row.error("it has an unknown version"));
    }
    let id = TreeId::from_bytes(row.id()?);
    row.finish()?;
    Ok(id)
}

/// What a killed process leaves there goes with the next start.
fn scratch(store: &Store) -> Result<tempfile::TempDir> {
    let directory = store.root().join(layout::INGEST);
    tempfile::Builder::new()
        .prefix("git-")
        .tempdir_in(&directory)
        .map_err(|error| Error::io("create a directory in", &directory, error))
}

/// ssh with the keys of the agent and no other ones. Hosts that the caller knows must be who they
/// were, others are believed, as BuildKit believes them.
fn ssh_command(caller: &[(OsString, OsString)]) -> String {
    let home = caller.iter().find(|(name, _)| name == "HOME");
    let home = home.and_then(|(_, home)| home.to_str());
    let is_plain = |home: &&str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        home.chars().all(allowed)
    };
    let known = home
        .filter(is_plain)
        .map(|home| format!("{home}/.ssh/known_hosts"));
    format!(
        "ssh -F none -o BatchMode=yes -o IdentityFile=none \
         -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile='/dev/null {}'",
        known.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_password_in_it() {
        let name = |text| GitSource::parse(text).unwrap().unwrap().name();
        assert_eq!(
            name("https://me:secret@h/a.git#b:c"),
            "https://xxxxx:xxxxx@h/a.git#b:c"
        );
        assert_eq!(name("ssh://git@h/a"), "ssh://git@h/a");
        assert_eq!(name("git@h:a"), "git@h:a");
    }

    #[test]
    fn a_dockerfile_uses_no_keys_and_settings_of_the_caller() {
        let caller = [
            "HOME",
            "SSH_AUTH_SOCK",
            "GIT_ASKPASS",
            "PATH",
            "GIT_CONFIG_COUNT",
        ];
        let caller = caller.map(|name| (name.into(), "/home/me".into()));
        let source = llb::op::GitSource {
            remote: "git@h:a".to_owned(),
            ..llb::op::GitSource::default()
        };
        let agents = Agents::default();
        let git = GitSource::of_graph(&source, &caller, &agents).unwrap();
        let names: Vec<_> = git
            .environment
            .iter()
            .filter_map(|(name, _)| name.to_str())
            .collect();
        assert_eq!(names, ["PATH", "HOME", "GIT_CONFIG_NOSYSTEM"]);
        let source = llb::op::GitSource {
            ssh_agent: "default".to_owned(),
            ..source
        };
        let error = GitSource::of_graph(&source, &caller, &agents).unwrap_err();
        assert!(matches!(error, Error::NoAgent { .. }), "{error}");
        let mut agents = agents;
        agents.insert("default", "/agent".into());
        let git = GitSource::of_graph(&source, &caller, &agents).unwrap();
        let agent = ("SSH_AUTH_SOCK".into(), "/agent".into());
        assert!(git.environment.contains(&agent), "{:?}", git.environment);
    }
}
