//! Domain types → wire form.

use proto::pb;

use super::Parts;
use crate::definition::Definition;
use crate::metadata::{Location, Metadata, SourceFile};
use crate::op::{
    Build, Builder, CacheSharing, ContentCache, Copy, CopyMode, Exec, File, FileAction, FileInput,
    InputIndex, Mount, MountKind, Network, Op, Owner, Security, UserRef,
};
use crate::platform::Platform;
use crate::vertex::Edge;

/// "None" in fields that hold a position.
const NONE: i64 = -1;

pub(super) fn op(parts: &Parts<'_>) -> pb::Op {
    let inputs = parts.inputs.len();
    let kind = match parts.op {
        Op::Source(source) => pb::op::Op::Source(pb::SourceOp {
            identifier: source.identifier.clone(),
            attrs: source.attributes.clone(),
        }),
        Op::Exec(found) => pb::op::Op::Exec(exec(found)),
        Op::File(found) => pb::op::Op::File(file(found, inputs)),
        Op::Merge(merge) => pb::op::Op::Merge(pb::MergeOp {
            inputs: merge
                .inputs
                .iter()
                .map(|at| pb::MergeInput { input: at.0.into() })
                .collect(),
        }),
        Op::Diff(diff) => pb::op::Op::Diff(pb::DiffOp {
            lower: Some(pb::LowerDiffInput {
                input: position(diff.lower),
            }),
            upper: Some(pb::UpperDiffInput {
                input: position(diff.upper),
            }),
        }),
        Op::Build(found) => pb::op::Op::Build(build(found)),
    };
    pb::Op {
        inputs: parts.inputs.iter().copied().map(input).collect(),
        platform: parts.platform.map(platform),
        // Always present, even when empty: BuildKit's clients write it so, and a digest covers it.
        constraints: Some(pb::WorkerConstraints {
            filter: parts.worker_filters.to_vec(),
        }),
        op: Some(kind),
    }
}

pub(super) fn input(edge: Edge) -> pb::Input {
    pb::Input {
        digest: edge.vertex.to_string(),
        index: edge.output.into(),
    }
}

fn platform(platform: &Platform) -> pb::Platform {
    pb::Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        os_version: platform.os_version.clone(),
        os_features: platform.os_features.clone(),
    }
}

fn position(index: Option<InputIndex>) -> i64 {
    index.map_or(NONE, |index| index.0.into())
}

fn output(index: Option<u32>) -> i64 {
    index.map_or(NONE, i64::from)
}

fn exec(exec: &Exec) -> pb::ExecOp {
    let meta = pb::Meta {
        args: exec.args.clone(),
        env: exec.env.clone(),
        cwd: exec.cwd.clone(),
        user: exec.user.clone(),
        proxy_env: exec.proxy.as_ref().map(|proxy| pb::ProxyEnv {
            http_proxy: proxy.http.clone(),
            https_proxy: proxy.https.clone(),
            ftp_proxy: proxy.ftp.clone(),
            no_proxy: proxy.no.clone(),
            all_proxy: proxy.all.clone(),
        }),
        extra_hosts: exec
            .extra_hosts
            .iter()
            .map(|line| pb::HostIp {
                host: line.host.clone(),
                ip: line.ip.clone(),
            })
            .collect(),
        hostname: exec.hostname.clone(),
        ulimit: exec
            .ulimits
            .iter()
            .map(|limit| pb::Ulimit {
                name: limit.name.clone(),
                soft: limit.soft,
                hard: limit.hard,
            })
            .collect(),
        cgroup_parent: exec.cgroup_parent.clone(),
        remove_mount_stubs_recursive: exec.remove_mount_stubs_recursive,
        valid_exit_codes: exec.valid_exit_codes.clone(),
    };
    pb::ExecOp {
        meta: Some(meta),
        mounts: exec.mounts.iter().map(mount).collect(),
        network: match exec.network {
            Network::Sandbox => pb::NetMode::Unset,
            Network::Host => pb::NetMode::Host,
            Network::None => pb::NetMode::None,
        }
        .into(),
        security: match exec.security {
            Security::Sandbox => pb::SecurityMode::Sandbox,
            Security::Insecure => pb::SecurityMode::Insecure,
        }
        .into(),
        secretenv: exec
            .secret_env
            .iter()
            .map(|secret| pb::SecretEnv {
                id: secret.id.clone(),
                name: secret.name.clone(),
                optional: secret.optional,
            })
            .collect(),
        cdi_devices: exec
            .devices
            .iter()
            .map(|device| pb::CdiDevice {
                name: device.name.clone(),
                optional: device.optional,
            })
            .collect(),
    }
}

fn mount(mount: &Mount) -> pb::Mount {
    let mut message = pb::Mount {
        input: position(mount.input),
        selector: mount.selector.clone(),
        dest: mount.dest.clone(),
        output: output(mount.output),
        readonly: mount.readonly,
        result_id: mount.result_id.clone(),
        content_cache: match mount.content_cache {
            ContentCache::Default => pb::MountContentCache::Default,
            ContentCache::On => pb::MountContentCache::On,
            ContentCache::Off => pb::MountContentCache::Off,
        }
        .into(),
        ..pb::Mount::default()
    };
    let kind = match &mount.kind {
        MountKind::Bind => pb::MountType::Bind,
        MountKind::Secret(secret) => {
            // BuildKit's clients leave the output of secrets and sockets at 0 although it is none.
            message.output = 0;
            message.secret_opt = Some(pb::SecretOpt {
                id: secret.id.clone(),
                uid: secret.uid,
                gid: secret.gid,
                mode: secret.mode,
                optional: secret.optional,
            });
            pb::MountType::Secret
        }
        MountKind::Ssh(ssh) => {
            message.output = 0;
            message.ssh_opt = Some(pb::SshOpt {
                id: ssh.id.clone(),
                uid: ssh.uid,
                gid: ssh.gid,
                mode: ssh.mode,
                optional: ssh.optional,
            });
            pb::MountType::Ssh
        }
        MountKind::Cache(cache) => {
            let sharing = match cache.sharing {
                CacheSharing::Shared => pb::CacheSharingOpt::Shared,
                CacheSharing::Private => pb::CacheSharingOpt::Private,
                CacheSharing::Locked => pb::CacheSharingOpt::Locked,
            };
            let id = cache.id.clone();
            message.cache_opt = Some(pb::CacheOpt {
                id,
                sharing: sharing.into(),
            });
            pb::MountType::Cache
        }
        MountKind::Tmpfs { size_bytes } => {
            message.tmpfs_opt = Some(pb::TmpfsOpt { size: *size_bytes });
            pb::MountType::Tmpfs
        }
    };
    message.mount_type = kind.into();
    message
}

/// Positions of steps count on after those of the inputs.
fn file_input(found: FileInput, inputs: usize) -> i64 {
    match found {
        FileInput::Empty => NONE,
        FileInput::Input(index) => index.0.into(),
        FileInput::Step(step) => inputs as i64 + i64::from(step),
    }
}

fn file(file: &File, inputs: usize) -> pb::FileOp {
    let owner = |owner: &Option<Owner>| {
        owner.as_ref().map(|owner| pb::ChownOpt {
            user: owner.user.as_ref().map(|found| user(found, inputs)),
            group: owner.group.as_ref().map(|found| user(found, inputs)),
        })
    };
    let time = |time: Option<i64>| time.unwrap_or(-1);
    let action = |action: &FileAction| match action {
        FileAction::Copy(found) => pb::file_action::Action::Copy(copy(
            found,
            owner(&found.owner),
            time(found.timestamp_ns),
        )),
        FileAction::Mkfile(mkfile) => pb::file_action::Action::Mkfile(pb::FileActionMkFile {
            path: mkfile.path.clone(),
            mode: mkfile.mode.cast_signed(),
            data: mkfile.data.clone(),
            owner: owner(&mkfile.owner),
            timestamp: time(mkfile.timestamp_ns),
        }),
        FileAction::Mkdir(mkdir) => pb::file_action::Action::Mkdir(pb::FileActionMkDir {
            path: mkdir.path.clone(),
            mode: mkdir.mode.cast_signed(),
            make_parents: mkdir.make_parents,
            owner: owner(&mkdir.owner),
            timestamp: time(mkdir.timestamp_ns),
        }),
        FileAction::Rm(rm) => pb::file_action::Action::Rm(pb::FileActionRm {
            path: rm.path.clone(),
            allow_not_found: rm.allow_not_found,
            allow_wildcard: rm.allow_wildcard,
        }),
        FileAction::Symlink(link) => pb::file_action::Action::Symlink(pb::FileActionSymlink {
            oldpath: link.target.clone(),
            newpath: link.path.clone(),
            owner: owner(&link.owner),
            timestamp: time(link.timestamp_ns),
        }),
    };
    let step = |step: &crate::op::FileStep| pb::FileAction {
        input: file_input(step.input, inputs),
        secondary_input: file_input(step.secondary, inputs),
        output: output(step.output),
        action: Some(action(&step.action)),
    };
    pb::FileOp {
        actions: file.steps.iter().map(step).collect(),
    }
}

fn copy(copy: &Copy, owner: Option<pb::ChownOpt>, timestamp: i64) -> pb::FileActionCopy {
    let (mode, mode_str) = match &copy.mode {
        CopyMode::Keep => (-1, String::new()),
        CopyMode::Bits(bits) => (bits.cast_signed(), String::new()),
        CopyMode::Symbolic(text) => (0, text.clone()),
    };
    pb::FileActionCopy {
        src: copy.src.clone(),
        dest: copy.dest.clone(),
        owner,
        mode,
        follow_symlink: copy.follow_symlink,
        dir_copy_contents: copy.dir_copy_contents,
        attempt_unpack_docker_compatibility: copy.attempt_unpack,
        create_dest_path: copy.create_dest_path,
        allow_wildcard: copy.allow_wildcard,
        allow_empty_wildcard: copy.allow_empty_wildcard,
        timestamp,
        include_patterns: copy.include_patterns.clone(),
        exclude_patterns: copy.exclude_patterns.clone(),
        always_replace_existing_dest_paths: copy.always_replace_existing,
        mode_str,
        required_paths: copy.required_paths.clone(),
    }
}

fn user(user: &UserRef, inputs: usize) -> pb::UserOpt {
    let user = match user {
        UserRef::Id(id) => pb::user_opt::User::ById(*id),
        UserRef::Name { name, input } => pb::user_opt::User::ByName(pb::NamedUserOpt {
            name: name.clone(),
            input: file_input(*input, inputs),
        }),
    };
    pb::UserOpt { user: Some(user) }
}

fn build(build: &Build) -> pb::BuildOp {
    pb::BuildOp {
        builder: match build.builder {
            Builder::Llb => NONE,
            Builder::Input(index) => index.0.into(),
        },
        inputs: build
            .inputs
            .iter()
            .map(|(name, at)| (name.clone(), pb::BuildInput { input: at.0.into() }))
            .collect(),
        def: build.definition.as_deref().map(definition),
        attrs: build.attributes.clone(),
    }
}

pub(super) fn definition(definition: &Definition) -> pb::Definition {
    let mut source = pb::Source {
        infos: definition.files.iter().map(source_file).collect(),
        ..pb::Source::default()
    };
    for (digest, known) in &definition.metadata {
        if !known.locations.is_empty() {
            let locations = known.locations.iter().map(location).collect();
            source
                .locations
                .insert(digest.to_string(), pb::Locations { locations });
        }
    }
    pb::Definition {
        def: definition.ops.iter().map(|op| op.to_vec()).collect(),
        metadata: definition
            .metadata
            .iter()
            .map(|(digest, known)| (digest.to_string(), metadata(known)))
            .collect(),
        source: (source != pb::Source::default()).then_some(source),
    }
}

fn metadata(known: &Metadata) -> pb::OpMetadata {
    pb::OpMetadata {
        ignore_cache: known.ignore_cache,
        description: known.description.clone(),
        export_cache: known.export_cache.map(|value| pb::ExportCache { value }),
        caps: known.caps.clone(),
        progress_group: known
            .progress_group
            .as_ref()
            .map(|group| pb::ProgressGroup {
                id: group.id.clone(),
                name: group.name.clone(),
                weak: group.weak,
            }),
        linux_resources: known.resources.as_ref().map(|limits| pb::LinuxResources {
            memory: limits.memory_bytes,
            memory_swap: limits.memory_swap_bytes,
            cpu_shares: limits.cpu_shares,
            cpu_period: limits.cpu_period_us,
            cpu_quota: limits.cpu_quota_us,
            cpuset_cpus: limits.cpuset_cpus.clone(),
            cpuset_mems: limits.cpuset_mems.clone(),
        }),
    }
}

fn source_file(file: &SourceFile) -> pb::SourceInfo {
    pb::SourceInfo {
        filename: file.name.clone(),
        data: file.data.clone(),
        definition: file.definition.as_deref().map(definition),
        language: file.language.clone(),
    }
}

fn location(location: &Location) -> pb::Location {
    let at = |place: crate::metadata::Position| {
        Some(pb::Position {
            line: place.line,
            character: place.character,
        })
    };
    let ranges = location.ranges.iter();
    pb::Location {
        source_index: i32::try_from(location.file).unwrap_or(i32::MAX),
        ranges: ranges
            .map(|area| pb::Range {
                start: at(area.start),
                end: at(area.end),
            })
            .collect(),
    }
}
