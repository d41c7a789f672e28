//! `RUN --mount`: what a step sees beside its root file system.
//!
//! Targets, defaults and ids are those of BuildKit's frontend, so that a cache mount or a secret
//! of one builder's Dockerfile is that of the other's.

use llb::op::{
    CacheMount, CacheSharing, Exec, Mkdir, Mount as LlbMount, MountKind as LlbKind, Owner,
    SecretEnv, SecretMount, SshMount, UserRef,
};
use llb::{ExecMount, FileChain, Metadata, Output};

use super::arguments::at;
use super::stage::StageState;
use super::{Lowerer, paths};
use crate::ast::RunCommand;
use crate::error::quote::quote;
use crate::error::{Error, Span};
use crate::instruction::mount::{Mount, MountKind, SharingMode};
use crate::stages::Command;
use crate::words::Variables;

/// Build argument that keeps the cache mounts of one project apart from those of others.
const CACHE_NAMESPACE: &str = "BUILDKIT_CACHE_MOUNT_NS";

/// The directory that is mounted when a cache mount asks for an owner or a mode.
const CACHE_DIRECTORY: &str = "/cache";

/// Mode of a cache mount that asks for an owner only.
const CACHE_MODE: u32 = 0o755;

/// Where secrets are shown that name no target.
const SECRET_DIRECTORY: &str = "/run/secrets/";

/// Mode of a secret that names none.
const SECRET_MODE: u32 = 0o400;

/// Name of the agent that is meant without an id.
const AGENT_DEFAULT: &str = "default";

/// Where the n-th agent's socket is shown if it names no target, without the number.
const AGENT_SOCKET: &str = "/run/buildkit/ssh_agent.";

/// Mode of an agent's socket that names none.
const AGENT_MODE: u32 = 0o600;

/// Variable that ssh finds its agent by.
const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";

/// Where POSIX shared memory lies.
const SHARED_MEMORY: &str = "/dev/shm";

/// The mounts of one step.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    pub(super) mounts: Vec<ExecMount>,
    secret_env: Vec<SecretEnv>,
    /// Where the agents' sockets are shown.
    agents: Vec<String>,
}

impl Mounts {
    /// Takes over what is said beside the list of mounts: secret variables, the agent's address.
    pub(super) fn complete(&mut self, exec: &mut Exec) {
        exec.secret_env = std::mem::take(&mut self.secret_env);
        let prefix = format!("{AGENT_VARIABLE}=");
        if let Some(socket) = self.agents.first()
            && !exec.env.iter().any(|entry| entry.starts_with(&prefix))
        {
            exec.env.push(format!("{prefix}{socket}"));
        }
    }

    /// What the name of the step shows in place of the value of a variable that is a secret.
    pub(super) fn masked<'a>(&'a self, variables: &'a impl Variables) -> impl Variables + 'a {
        Masked {
            secrets: &self.secret_env,
            variables,
        }
    }
}

/// Variables of which some are secret.
struct Masked<'a, V> {
    secrets: &'a [SecretEnv],
    variables: &'a V,
}

impl<V: Variables> Variables for Masked<'_, V> {
    fn get(&self, name: &str) -> Option<&str> {
        match self.secrets.iter().any(|secret| secret.name == name) {
            true => Some("****"),
            false => self.variables.get(name),
        }
    }
}

impl Lowerer<'_> {
    /// Lowers all `--mount` flags of a step.
    pub(super) fn mounts(
        &mut self,
        stage: &StageState,
        run: &RunCommand,
        command: &Command,
    ) -> Result<Mounts, Error> {
        let span = command.instruction.origin.span;
        let mut mounts = Mounts::default();
        for (index, flag) in run.mounts.iter().enumerate() {
            let lexer = &self.globals.lexer;
            let mut bytes = 0;
            let resolved = flag.resolve(|value| {
                let text = lexer.process_word(value, &stage.environment)?;
                bytes += text.len();
                Ok(text)
            });
            let mount = resolved.map_err(|problem| at(span, problem))?;
            self.spend(bytes, span)?;
            let from = command.mounts_from.get(index).copied().flatten();
            match mount.kind {
                MountKind::Secret => secret(&mut mounts, stage, &mount, span)?,
                MountKind::Ssh => agent(&mut mounts, stage, &mount, span)?,
                MountKind::Bind | MountKind::Cache | MountKind::Tmpfs => {
                    let mount = self.directory(stage, &mount, from, span)?;
                    mounts.mounts.push(mount);
                }
            }
        }
        let is_shm = |mount: &ExecMount| mount.mount.dest == SHARED_MEMORY;
        if let Some(size) = self.options.shm_size_bytes
            && !mounts.mounts.iter().any(is_shm)
        {
            let size_bytes = i64::try_from(size).unwrap_or(i64::MAX);
            let kind = LlbKind::Tmpfs { size_bytes };
            mounts.mounts.push(plain(SHARED_MEMORY.to_owned(), kind));
        }
        Ok(mounts)
    }

    /// A mount that shows a directory.
    fn directory(
        &mut self,
        stage: &StageState,
        mount: &Mount,
        from: Option<usize>,
        span: Span,
    ) -> Result<ExecMount, Error> {
        let target = mount.target.as_deref().unwrap_or_default();
        let dest = target_path(stage, target);
        if dest == "/" {
            return Err(at(span, format!("invalid mount target {}", quote(target))));
        }
        let mut source = self.mount_source(mount, from, span)?;
        let path = paths::join("/", mount.source.as_deref().unwrap_or_default());
        let mut selector = String::new();
        let has_owner = mount.uid.is_some() || mount.gid.is_some() || mount.mode.is_some();
        if path != "/" {
            selector.clone_from(&path);
        } else if has_owner {
            source = Some(self.owned_directory(source, mount));
            CACHE_DIRECTORY.clone_into(&mut selector);
        }
        self.note_mounted(mount, from, path);
        let llb = LlbMount {
            dest,
            selector,
            readonly: mount.read_only,
            kind: self.mount_kind(mount),
            ..LlbMount::default()
        };
        Ok(ExecMount {
            source,
            mount: llb,
            // Whatever is written to the files of somebody else is thrown away.
            discards: mount.kind == MountKind::Bind,
        })
    }

    fn mount_kind(&self, mount: &Mount) -> LlbKind {
        match mount.kind {
            MountKind::Tmpfs => LlbKind::Tmpfs {
                size_bytes: i64::try_from(mount.size_limit).unwrap_or(i64::MAX),
            },
            MountKind::Cache => {
                let namespace = self.globals.build_args.get(CACHE_NAMESPACE);
                let namespace = namespace.map_or("", String::as_str);
                let target = || paths::clean(mount.target.as_deref().unwrap_or_default());
                let id = mount.id.clone().unwrap_or_else(target);
                LlbKind::Cache(CacheMount {
                    id: format!("{namespace}/{id}"),
                    sharing: match mount.sharing {
                        None | Some(SharingMode::Shared) => CacheSharing::Shared,
                        Some(SharingMode::Private) => CacheSharing::Private,
                        Some(SharingMode::Locked) => CacheSharing::Locked,
                    },
                })
            }
            MountKind::Bind | MountKind::Secret | MountKind::Ssh => LlbKind::Bind,
        }
    }

    /// The file system that a mount shows a directory of.
    fn mount_source(
        &mut self,
        mount: &Mount,
        from: Option<usize>,
        span: Span,
    ) -> Result<Option<Output>, Error> {
        match (mount.kind, from) {
            (MountKind::Tmpfs, _) | (MountKind::Cache, None) => Ok(None),
            (_, None) => Ok(Some(self.context)),
            (_, Some(stage)) => match self.states.get(&stage) {
                Some(source) => Ok(source.root),
                None => {
                    let from = quote(mount.from.as_deref().unwrap_or_default());
                    let target = quote(mount.target.as_deref().unwrap_or_default());
                    let message = format!(
                        "cannot mount from stage {from} to {target}, stage needs to be defined \
                         before current command"
                    );
                    Err(at(span, message))
                }
            },
        }
    }

    /// Remembers which path is read of the source.
    fn note_mounted(&mut self, mount: &Mount, from: Option<usize>, path: String) {
        match from.and_then(|from| self.states.get(&from)) {
            Some(source) => {
                self.path_sets[source.path_set].insert(path);
            }
            None if mount.kind == MountKind::Bind => {
                self.context_paths.insert(path);
            }
            None => {}
        }
    }

    /// An empty directory of that owner and mode: what a cache mount begins with.
    fn owned_directory(&mut self, source: Option<Output>, mount: &Mount) -> Output {
        let id = |id: Option<u32>| Some(UserRef::Id(id.unwrap_or_default()));
        let owner = Owner {
            user: id(mount.uid),
            group: id(mount.gid),
        };
        let chain = FileChain::on(source).mkdir(Mkdir {
            path: CACHE_DIRECTORY.to_owned(),
            mode: mount.mode.unwrap_or(CACHE_MODE),
            owner: Some(owner),
            ..Mkdir::default()
        });
        let name = Metadata::named("[internal] settings cache mount permissions");
        self.graph.file(chain, name)
    }
}

/// The place of a mount: relative ones lie in the working directory, which is also the default.
fn target_path(stage: &StageState, target: &str) -> String {
    match target.starts_with('/') {
        true => paths::clean(target),
        false => paths::clean(&format!("/{}/{target}", stage.directory)),
    }
}

/// A file with a secret, a variable with one, or both.
fn secret(mounts: &mut Mounts, stage: &StageState, mount: &Mount, span: Span) -> Result<(), Error> {
    let target = mount.target.as_deref();
    let base = |path: &str| {
        path.rsplit('/')
            .find(|part| !part.is_empty())
            .map(str::to_owned)
    };
    let named = mount.source.clone().or_else(|| mount.id.clone());
    let id = named.or_else(|| target.and_then(base));
    let id = id.ok_or_else(|| at(span, "one of source, target required"))?;
    let optional = !mount.required;
    if let Some(name) = &mount.env {
        let name = if name.is_empty() { &id } else { name };
        mounts.secret_env.push(SecretEnv {
            id: id.clone(),
            name: name.clone(),
            optional,
        });
    }
    let target = match (target, &mount.env) {
        (Some(target), _) => target_path(stage, target),
        (None, Some(_)) => return Ok(()),
        (None, None) => {
            let name = base(&id).unwrap_or_else(|| id.clone());
            paths::clean(&format!("{SECRET_DIRECTORY}{name}"))
        }
    };
    if target == "/" {
        return Err(at(span, "invalid mount target \"/\""));
    }
    let kind = LlbKind::Secret(SecretMount {
        id,
        uid: mount.uid.unwrap_or_default(),
        gid: mount.gid.unwrap_or_default(),
        mode: mount.mode.unwrap_or(SECRET_MODE),
        optional,
    });
    mounts.mounts.push(plain(target, kind));
    Ok(())
}

/// The socket of an agent.
fn agent(mounts: &mut Mounts, stage: &StageState, mount: &Mount, span: Span) -> Result<(), Error> {
    if mount.source.is_some() {
        return Err(at(span, "ssh does not support source"));
    }
    let target = match &mount.target {
        Some(target) => target_path(stage, target),
        None => format!("{AGENT_SOCKET}{}", mounts.agents.len()),
    };
    if target == "/" {
        return Err(at(span, "invalid mount target \"/\""));
    }
    let kind = LlbKind::Ssh(SshMount {
        id: mount.id.clone().unwrap_or_else(|| AGENT_DEFAULT.to_owned()),
        uid: mount.uid.unwrap_or_default(),
        gid: mount.gid.unwrap_or_default(),
        mode: mount.mode.unwrap_or(AGENT_MODE),
        optional: !mount.required,
    });
    mounts.agents.push(target.clone());
    mounts.mounts.push(plain(target, kind));
    Ok(())
}

/// A mount without a file system behind it.
fn plain(dest: String, kind: LlbKind) -> ExecMount {
    let mount = LlbMount {
        dest,
        kind,
        ..LlbMount::default()
    };
    mount.with_source(None)
}
