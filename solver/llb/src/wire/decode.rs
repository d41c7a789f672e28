//! Wire form → domain types, checked.

use std::sync::Arc;

use prost::Message;
use proto::pb;

use crate::definition::Definition;
use crate::digest::VertexDigest;
use crate::error::Error;
use crate::metadata::{
    LinuxResources, Location, Metadata, Position, ProgressGroup, Range, SourceFile,
};
use crate::op::{
    Build, Builder, CacheMount, CacheSharing, ContentCache, Copy, CopyMode, Device, Diff, Exec,
    File, FileAction, FileInput, FileStep, HostIp, InputIndex, Merge, Mkdir, Mkfile, Mount,
    MountKind, Network, Op, Owner, ProxyEnv, Rm, SecretEnv, SecretMount, Security, Source,
    SshMount, Symlink, Ulimit, UserRef,
};
use crate::platform::Platform;
use crate::vertex::{Edge, Vertex};

/// Largest marshalled operation, in bytes. Inline files are part of an operation.
const OP_BYTES_MAX: usize = 16 << 20;

/// Most inputs, mounts or file actions of one operation. The largest seen are merges of some
/// hundred layers.
const PARTS_MAX: usize = 16_384;

pub(super) fn message(marshalled: &[u8]) -> Result<pb::Op, Error> {
    if marshalled.len() > OP_BYTES_MAX {
        let count = marshalled.len();
        return Err(Error::TooLarge {
            what: "op (bytes)",
            count,
            limit: OP_BYTES_MAX,
        });
    }
    pb::Op::decode(marshalled).map_err(|source| Error::Malformed { what: "op", source })
}

/// Reads one operation. Metadata is left empty.
pub(crate) fn unmarshal_vertex(
    digest: VertexDigest,
    marshalled: Arc<[u8]>,
) -> Result<Vertex, Error> {
    let message = message(&marshalled)?;
    let Some(kind) = message.op else {
        let reason = "an op without a kind stands before the last one".to_owned();
        return Err(Error::InvalidOp {
            digest,
            kind: "terminal",
            reason,
        });
    };
    let reader = Reader {
        digest,
        kind: kind_name(&kind),
        inputs: message.inputs.len(),
    };
    reader.bounded("inputs", message.inputs.len())?;
    let inputs = message
        .inputs
        .iter()
        .map(|found| input(digest, reader.kind, found))
        .collect::<Result<_, _>>()?;
    let op = reader.op(kind)?;
    Ok(Vertex {
        digest,
        marshalled,
        op,
        inputs,
        platform: message.platform.map(platform),
        worker_filters: message.constraints.unwrap_or_default().filter,
        metadata: Metadata::default(),
    })
}

pub(super) fn input(
    vertex: VertexDigest,
    kind: &'static str,
    input: &pb::Input,
) -> Result<Edge, Error> {
    let output = u32::try_from(input.index).map_err(|_| Error::InvalidOp {
        digest: vertex,
        kind,
        reason: format!("invalid input output index {}", input.index),
    })?;
    Ok(Edge {
        vertex: input.digest.parse()?,
        output,
    })
}

fn kind_name(kind: &pb::op::Op) -> &'static str {
    match kind {
        pb::op::Op::Exec(_) => "exec",
        pb::op::Op::Source(_) => "source",
        pb::op::Op::File(_) => "file",
        pb::op::Op::Build(_) => "build",
        pb::op::Op::Merge(_) => "merge",
        pb::op::Op::Diff(_) => "diff",
        pb::op::Op::Passthrough(_) => "passthrough",
    }
}

fn platform(message: pb::Platform) -> Platform {
    Platform {
        os: message.os,
        architecture: message.architecture,
        variant: message.variant,
        os_version: message.os_version,
        os_features: message.os_features,
    }
}

/// Reads the parts of one operation; knows what to say when one is wrong.
struct Reader {
    digest: VertexDigest,
    kind: &'static str,
    inputs: usize,
}

impl Reader {
    fn invalid(&self, reason: impl Into<String>) -> Error {
        Error::InvalidOp {
            digest: self.digest,
            kind: self.kind,
            reason: reason.into(),
        }
    }

    fn bounded(&self, what: &str, count: usize) -> Result<(), Error> {
        if count <= PARTS_MAX {
            return Ok(());
        }
        Err(self.invalid(format!("{count} {what}, the limit is {PARTS_MAX}")))
    }

    fn op(&self, kind: pb::op::Op) -> Result<Op, Error> {
        match kind {
            pb::op::Op::Source(source) if source.identifier.is_empty() => {
                Err(self.invalid("source identifier can't be empty"))
            }
            pb::op::Op::Source(source) => Ok(Op::Source(Source {
                identifier: source.identifier,
                attributes: source.attrs,
            })),
            pb::op::Op::Exec(exec) => Ok(Op::Exec(Box::new(self.exec(exec)?))),
            pb::op::Op::File(file) => Ok(Op::File(self.file(file)?)),
            pb::op::Op::Merge(merge) => {
                let inputs = merge
                    .inputs
                    .into_iter()
                    .map(|found| self.index(found.input));
                Ok(Op::Merge(Merge {
                    inputs: inputs.collect::<Result<_, _>>()?,
                }))
            }
            pb::op::Op::Diff(diff) => {
                let missing = || self.invalid("diff op without lower or upper input");
                let lower = diff.lower.ok_or_else(missing)?.input;
                let upper = diff.upper.ok_or_else(missing)?.input;
                let (lower, upper) = (self.optional_index(lower)?, self.optional_index(upper)?);
                Ok(Op::Diff(Diff { lower, upper }))
            }
            pb::op::Op::Build(build) => Ok(Op::Build(self.build(build)?)),
            pb::op::Op::Passthrough(_) => Err(self.invalid("this kind of op is not supported")),
        }
    }

    fn index(&self, index: i64) -> Result<InputIndex, Error> {
        self.optional_index(index)?
            .ok_or_else(|| self.invalid("an input is missing"))
    }

    /// A position in the inputs; -1 means none.
    fn optional_index(&self, index: i64) -> Result<Option<InputIndex>, Error> {
        match u32::try_from(index) {
            Ok(found) if (found as usize) < self.inputs => Ok(Some(InputIndex(found))),
            Err(_) if index == -1 => Ok(None),
            _ => Err(self.invalid(format!("input {index} of {} inputs", self.inputs))),
        }
    }

    /// An output; -1 means none.
    fn output(&self, output: i64) -> Result<Option<u32>, Error> {
        match u32::try_from(output) {
            Ok(found) if (found as usize) < PARTS_MAX => Ok(Some(found)),
            Err(_) if output == -1 => Ok(None),
            _ => Err(self.invalid(format!("output index {output} is out of range"))),
        }
    }

    fn value<T>(&self, what: &str, found: i32, known: Option<T>) -> Result<T, Error> {
        known.ok_or_else(|| self.invalid(format!("unknown {what} {found}")))
    }

    fn exec(&self, exec: pb::ExecOp) -> Result<Exec, Error> {
        let meta = exec
            .meta
            .ok_or_else(|| self.invalid("exec op with no meta"))?;
        if meta.args.is_empty() {
            return Err(self.invalid("exec op with no args"));
        }
        self.bounded("mounts", exec.mounts.len())?;
        if !exec.mounts.iter().any(|mount| mount.dest == "/") {
            return Err(self.invalid("exec op with no rootfs"));
        }
        let network = pb::NetMode::try_from(exec.network).ok();
        let network = match self.value("network mode", exec.network, network)? {
            pb::NetMode::Unset => Network::Sandbox,
            pb::NetMode::Host => Network::Host,
            pb::NetMode::None => Network::None,
        };
        let security = pb::SecurityMode::try_from(exec.security).ok();
        let security = match self.value("security mode", exec.security, security)? {
            pb::SecurityMode::Sandbox => Security::Sandbox,
            pb::SecurityMode::Insecure => Security::Insecure,
        };
        let mounts: Vec<_> = exec
            .mounts
            .into_iter()
            .map(|found| self.mount(found))
            .collect::<Result<_, _>>()?;
        self.distinct(mounts.iter().filter_map(|mount| mount.output))?;
        let secret_env = exec
            .secretenv
            .into_iter()
            .map(|secret| SecretEnv {
                id: secret.id,
                name: secret.name,
                optional: secret.optional,
            })
            .collect();
        let device = |found: pb::CdiDevice| Device {
            name: found.name,
            optional: found.optional,
        };
        let devices = exec.cdi_devices.into_iter().map(device).collect();
        Ok(Exec {
            mounts,
            network,
            security,
            secret_env,
            devices,
            ..process(meta)
        })
    }

    /// Two writers of one output would leave open which of them wins.
    fn distinct(&self, outputs: impl Iterator<Item = u32>) -> Result<(), Error> {
        let mut seen = std::collections::HashSet::new();
        for output in outputs {
            if !seen.insert(output) {
                return Err(self.invalid(format!("output {output} is written twice")));
            }
        }
        Ok(())
    }

    fn mount(&self, mount: pb::Mount) -> Result<Mount, Error> {
        let mount_type = pb::MountType::try_from(mount.mount_type).ok();
        let kind = match self.value("mount type", mount.mount_type, mount_type)? {
            pb::MountType::Bind => MountKind::Bind,
            pb::MountType::Secret => {
                let secret = mount.secret_opt.unwrap_or_default();
                MountKind::Secret(SecretMount {
                    id: secret.id,
                    uid: secret.uid,
                    gid: secret.gid,
                    mode: secret.mode,
                    optional: secret.optional,
                })
            }
            pb::MountType::Ssh => {
                let ssh = mount.ssh_opt.unwrap_or_default();
                MountKind::Ssh(SshMount {
                    id: ssh.id,
                    uid: ssh.uid,
                    gid: ssh.gid,
                    mode: ssh.mode,
                    optional: ssh.optional,
                })
            }
            pb::MountType::Cache => {
                let cache = mount.cache_opt.unwrap_or_default();
                let sharing = pb::CacheSharingOpt::try_from(cache.sharing).ok();
                let sharing = match self.value("cache sharing", cache.sharing, sharing)? {
                    pb::CacheSharingOpt::Shared => CacheSharing::Shared,
                    pb::CacheSharingOpt::Private => CacheSharing::Private,
                    pb::CacheSharingOpt::Locked => CacheSharing::Locked,
                };
                MountKind::Cache(CacheMount {
                    id: cache.id,
                    sharing,
                })
            }
            pb::MountType::Tmpfs => MountKind::Tmpfs {
                size_bytes: mount.tmpfs_opt.unwrap_or_default().size,
            },
        };
        let content_cache = pb::MountContentCache::try_from(mount.content_cache).ok();
        let content_cache = match self.value("content cache", mount.content_cache, content_cache)? {
            pb::MountContentCache::Default => ContentCache::Default,
            pb::MountContentCache::On => ContentCache::On,
            pb::MountContentCache::Off => ContentCache::Off,
        };
        // Clients leave the output of secrets and sockets at 0 although there is none.
        let output = match kind {
            MountKind::Bind => self.output(mount.output)?,
            _ => None,
        };
        Ok(Mount {
            input: self.optional_index(mount.input)?,
            selector: mount.selector,
            dest: mount.dest,
            output,
            readonly: mount.readonly,
            kind,
            content_cache,
            result_id: mount.result_id,
        })
    }

    fn file(&self, file: pb::FileOp) -> Result<File, Error> {
        if file.actions.is_empty() {
            return Err(self.invalid("file op with no actions"));
        }
        self.bounded("actions", file.actions.len())?;
        let step = |(at, found)| self.step(at, found);
        let steps: Vec<_> = file
            .actions
            .into_iter()
            .enumerate()
            .map(step)
            .collect::<Result<_, _>>()?;
        self.distinct(steps.iter().filter_map(|step| step.output))?;
        Ok(File { steps })
    }

    /// A position that counts through the inputs first and then through earlier steps.
    fn file_input(&self, at: usize, index: i64) -> Result<FileInput, Error> {
        let Ok(position) = usize::try_from(index) else {
            let invalid = || self.invalid(format!("input {index} of action {at}"));
            return (index == -1)
                .then_some(FileInput::Empty)
                .ok_or_else(invalid);
        };
        let narrow = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        match position.checked_sub(self.inputs) {
            None => Ok(FileInput::Input(InputIndex(narrow(position)))),
            Some(step) if step < at => Ok(FileInput::Step(narrow(step))),
            Some(step) => {
                Err(self.invalid(format!("action {at} uses the result of action {step}")))
            }
        }
    }

    fn step(&self, at: usize, message: pb::FileAction) -> Result<FileStep, Error> {
        let action = message
            .action
            .ok_or_else(|| self.invalid(format!("action {at} has an unknown kind")))?;
        let action = match action {
            pb::file_action::Action::Copy(copy) => FileAction::Copy(self.copy(at, copy)?),
            pb::file_action::Action::Mkfile(mkfile) => FileAction::Mkfile(Mkfile {
                path: mkfile.path,
                mode: mkfile.mode.cast_unsigned(),
                data: mkfile.data,
                owner: self.owner(at, mkfile.owner)?,
                timestamp_ns: time(mkfile.timestamp),
            }),
            pb::file_action::Action::Mkdir(mkdir) => FileAction::Mkdir(Mkdir {
                path: mkdir.path,
                mode: mkdir.mode.cast_unsigned(),
                make_parents: mkdir.make_parents,
                owner: self.owner(at, mkdir.owner)?,
                timestamp_ns: time(mkdir.timestamp),
            }),
            pb::file_action::Action::Rm(rm) => FileAction::Rm(Rm {
                path: rm.path,
                allow_not_found: rm.allow_not_found,
                allow_wildcard: rm.allow_wildcard,
            }),
            pb::file_action::Action::Symlink(link) => FileAction::Symlink(Symlink {
                target: link.oldpath,
                path: link.newpath,
                owner: self.owner(at, link.owner)?,
                timestamp_ns: time(link.timestamp),
            }),
        };
        Ok(FileStep {
            input: self.file_input(at, message.input)?,
            secondary: self.file_input(at, message.secondary_input)?,
            output: self.output(message.output)?,
            action,
        })
    }

    fn copy(&self, at: usize, copy: pb::FileActionCopy) -> Result<Copy, Error> {
        let mode = match u32::try_from(copy.mode) {
            _ if !copy.mode_str.is_empty() => CopyMode::Symbolic(copy.mode_str),
            Ok(bits) => CopyMode::Bits(bits),
            Err(_) => CopyMode::Keep,
        };
        Ok(Copy {
            src: copy.src,
            dest: copy.dest,
            owner: self.owner(at, copy.owner)?,
            mode,
            follow_symlink: copy.follow_symlink,
            dir_copy_contents: copy.dir_copy_contents,
            attempt_unpack: copy.attempt_unpack_docker_compatibility,
            create_dest_path: copy.create_dest_path,
            allow_wildcard: copy.allow_wildcard,
            allow_empty_wildcard: copy.allow_empty_wildcard,
            timestamp_ns: time(copy.timestamp),
            include_patterns: copy.include_patterns,
            exclude_patterns: copy.exclude_patterns,
            always_replace_existing: copy.always_replace_existing_dest_paths,
            required_paths: copy.required_paths,
        })
    }

    fn owner(&self, at: usize, owner: Option<pb::ChownOpt>) -> Result<Option<Owner>, Error> {
        let Some(owner) = owner else { return Ok(None) };
        let (user, group) = (self.user(at, owner.user)?, self.user(at, owner.group)?);
        Ok(Some(Owner { user, group }))
    }

    fn user(&self, at: usize, user: Option<pb::UserOpt>) -> Result<Option<UserRef>, Error> {
        Ok(match user.and_then(|user| user.user) {
            None => None,
            Some(pb::user_opt::User::ById(id)) => Some(UserRef::Id(id)),
            Some(pb::user_opt::User::ByName(named)) => {
                let input = self.file_input(at, named.input)?;
                Some(UserRef::Name {
                    name: named.name,
                    input,
                })
            }
        })
    }

    fn build(&self, build: pb::BuildOp) -> Result<Build, Error> {
        let inputs = build
            .inputs
            .into_iter()
            .map(|(name, found)| Ok((name, self.index(found.input)?)))
            .collect::<Result<_, Error>>()?;
        let definition = build
            .def
            .map(Definition::try_from)
            .transpose()?
            .map(Box::new);
        let builder = self
            .optional_index(build.builder)?
            .map_or(Builder::Llb, Builder::Input);
        Ok(Build {
            builder,
            inputs,
            definition,
            attributes: build.attrs,
        })
    }
}

/// The process of an exec op; the rest is left at its default.
fn process(meta: pb::Meta) -> Exec {
    let proxy = |found: pb::ProxyEnv| ProxyEnv {
        http: found.http_proxy,
        https: found.https_proxy,
        ftp: found.ftp_proxy,
        no: found.no_proxy,
        all: found.all_proxy,
    };
    let host = |line: pb::HostIp| HostIp {
        host: line.host,
        ip: line.ip,
    };
    let limit = |found: pb::Ulimit| Ulimit {
        name: found.name,
        soft: found.soft,
        hard: found.hard,
    };
    Exec {
        args: meta.args,
        env: meta.env,
        cwd: meta.cwd,
        user: meta.user,
        proxy: meta.proxy_env.map(proxy),
        extra_hosts: meta.extra_hosts.into_iter().map(host).collect(),
        hostname: meta.hostname,
        ulimits: meta.ulimit.into_iter().map(limit).collect(),
        cgroup_parent: meta.cgroup_parent,
        remove_mount_stubs_recursive: meta.remove_mount_stubs_recursive,
        valid_exit_codes: meta.valid_exit_codes,
        ..Exec::default()
    }
}

/// -1 means that no time is set.
fn time(nanoseconds: i64) -> Option<i64> {
    (nanoseconds != -1).then_some(nanoseconds)
}

pub(super) fn metadata(message: pb::OpMetadata) -> Metadata {
    let group = |found: pb::ProgressGroup| ProgressGroup {
        id: found.id,
        name: found.name,
        weak: found.weak,
    };
    let resources = |found: pb::LinuxResources| LinuxResources {
        memory_bytes: found.memory,
        memory_swap_bytes: found.memory_swap,
        cpu_shares: found.cpu_shares,
        cpu_period_us: found.cpu_period,
        cpu_quota_us: found.cpu_quota,
        cpuset_cpus: found.cpuset_cpus,
        cpuset_mems: found.cpuset_mems,
    };
    Metadata {
        ignore_cache: message.ignore_cache,
        description: message.description,
        export_cache: message.export_cache.map(|export| export.value),
        caps: message.caps,
        progress_group: message.progress_group.map(group),
        resources: message.linux_resources.map(resources),
        locations: Vec::new(),
    }
}

pub(super) fn source_file(info: pb::SourceInfo) -> Result<SourceFile, Error> {
    let definition = info
        .definition
        .map(Definition::try_from)
        .transpose()?
        .map(Box::new);
    Ok(SourceFile {
        name: info.filename,
        data: info.data,
        language: info.language,
        definition,
    })
}

pub(super) fn locations(
    vertex: VertexDigest,
    message: pb::Locations,
    files: usize,
) -> Result<Vec<Location>, Error> {
    let place = |found: Option<pb::Position>| {
        let found = found.unwrap_or_default();
        Position {
            line: found.line,
            character: found.character,
        }
    };
    let area = |found: pb::Range| Range {
        start: place(found.start),
        end: place(found.end),
    };
    let location = |found: pb::Location| {
        let index = found.source_index;
        let file = usize::try_from(index).ok().filter(|file| *file < files);
        let file = file.ok_or(Error::MissingSourceFile { vertex, index })?;
        Ok(Location {
            file,
            ranges: found.ranges.into_iter().map(area).collect(),
        })
    };
    message.locations.into_iter().map(location).collect()
}
