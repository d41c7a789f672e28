//! A graph as text for people: `Display` of [`Graph`]. Tests compare it, `varve debug` prints it.
//!
//! Vertices are numbered in their order; digests are left out, so that a change of one step does
//! not change every line after it. Only what differs from the usual is printed.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter, Write};

use crate::digest::VertexDigest;
use crate::graph::Graph;
use crate::metadata::Metadata;
use crate::op::{
    Copy, CopyMode, Exec, FileAction, FileInput, FileStep, Mount, MountKind, Network, Op, Owner,
    Security, UserRef,
};
use crate::vertex::{Edge, Vertex};

/// Longest inline file that is printed whole, in bytes.
const DATA_PRINTED_MAX: usize = 512;

impl Display for Graph {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let numbers: HashMap<_, _> = self
            .vertices()
            .iter()
            .enumerate()
            .map(|(at, vertex)| (vertex.digest(), at))
            .collect();
        for (at, vertex) in self.vertices().iter().enumerate() {
            write!(out, "%{at} {}", vertex.op().kind())?;
            if let Some(platform) = vertex.platform() {
                write!(out, " {platform}")?;
            }
            for filter in vertex.worker_filters() {
                write!(out, " worker={filter:?}")?;
            }
            out.write_char('\n')?;
            metadata(out, vertex.metadata())?;
            op(out, vertex, &numbers)?;
        }
        match self.result() {
            None => out.write_str("result scratch\n"),
            Some(result) => writeln!(out, "result {}", edge(result, &numbers)),
        }
    }
}

fn edge(edge: Edge, numbers: &HashMap<VertexDigest, usize>) -> String {
    let number = numbers.get(&edge.vertex).copied().unwrap_or_default();
    match edge.output {
        0 => format!("%{number}"),
        output => format!("%{number}.{output}"),
    }
}

fn metadata(out: &mut Formatter<'_>, metadata: &Metadata) -> fmt::Result {
    for (key, value) in &metadata.description {
        writeln!(out, "  {key}: {value:?}")?;
    }
    if metadata.ignore_cache {
        writeln!(out, "  ignore-cache")?;
    }
    if let Some(export) = metadata.export_cache {
        writeln!(out, "  export-cache: {export}")?;
    }
    if let Some(group) = &metadata.progress_group {
        writeln!(
            out,
            "  progress-group: {:?} {:?} weak={}",
            group.id, group.name, group.weak
        )?;
    }
    if let Some(resources) = &metadata.resources {
        writeln!(out, "  resources: {resources:?}")?;
    }
    for location in &metadata.locations {
        write!(out, "  at {}:", location.file)?;
        for range in &location.ranges {
            write!(out, " {}-{}", range.start.line, range.end.line)?;
        }
        out.write_char('\n')?;
    }
    Ok(())
}

fn op(
    out: &mut Formatter<'_>,
    vertex: &Vertex,
    numbers: &HashMap<VertexDigest, usize>,
) -> fmt::Result {
    let number = |at: crate::op::InputIndex| edge(vertex.input(at), numbers);
    let optional = |at: Option<_>| at.map_or_else(|| "scratch".to_owned(), number);
    match vertex.op() {
        Op::Source(source) => {
            writeln!(out, "  {}", source.identifier)?;
            for (name, value) in &source.attributes {
                writeln!(out, "  {name}={value}")?;
            }
            Ok(())
        }
        Op::Exec(found) => {
            exec(out, found)?;
            found
                .mounts
                .iter()
                .try_for_each(|found| mount(out, found, &optional(found.input)))
        }
        Op::File(file) => {
            let input = |input: FileInput| match input {
                FileInput::Empty => "scratch".to_owned(),
                FileInput::Input(at) => number(at),
                FileInput::Step(step) => format!("#{step}"),
            };
            for (at, found) in file.steps.iter().enumerate() {
                write!(out, "  #{at} {}", input(found.input))?;
                step(out, found, &input)?;
                if let Some(output) = found.output.filter(|output| *output != 0) {
                    write!(out, " output={output}")?;
                }
                out.write_char('\n')?;
            }
            Ok(())
        }
        Op::Merge(merge) => {
            let inputs: Vec<_> = merge.inputs.iter().map(|at| number(*at)).collect();
            writeln!(out, "  {}", inputs.join(" "))
        }
        Op::Diff(diff) => writeln!(
            out,
            "  {} -> {}",
            optional(diff.lower),
            optional(diff.upper)
        ),
        Op::Build(build) => {
            let inputs: Vec<_> = build
                .inputs
                .iter()
                .map(|(name, at)| format!("{name}={}", number(*at)))
                .collect();
            writeln!(
                out,
                "  {:?} {} {:?}",
                build.builder,
                inputs.join(" "),
                build.attributes
            )
        }
    }
}

fn exec(out: &mut Formatter<'_>, exec: &Exec) -> fmt::Result {
    writeln!(out, "  args {:?}", exec.args)?;
    exec.env
        .iter()
        .try_for_each(|variable| writeln!(out, "  env {variable:?}"))?;
    let mut text = |name: &str, value: &str| match value {
        "" => Ok(()),
        value => writeln!(out, "  {name} {value}"),
    };
    text("cwd", &exec.cwd)?;
    text("user", &exec.user)?;
    text("hostname", &exec.hostname)?;
    text("cgroup-parent", &exec.cgroup_parent)?;
    let network = match exec.network {
        Network::Sandbox => "",
        Network::Host => "host",
        Network::None => "none",
    };
    text("network", network)?;
    text(
        "security",
        if exec.security == Security::Insecure {
            "insecure"
        } else {
            ""
        },
    )?;
    if let Some(proxy) = &exec.proxy {
        writeln!(
            out,
            "  proxy http={:?} https={:?} ftp={:?} no={:?} all={:?}",
            proxy.http, proxy.https, proxy.ftp, proxy.no, proxy.all
        )?;
    }
    for line in &exec.extra_hosts {
        writeln!(out, "  host {} {}", line.host, line.ip)?;
    }
    for limit in &exec.ulimits {
        writeln!(out, "  ulimit {} {}:{}", limit.name, limit.soft, limit.hard)?;
    }
    for secret in &exec.secret_env {
        writeln!(
            out,
            "  secret-env {} {} optional={}",
            secret.name, secret.id, secret.optional
        )?;
    }
    for device in &exec.devices {
        writeln!(out, "  device {} optional={}", device.name, device.optional)?;
    }
    if !exec.valid_exit_codes.is_empty() {
        writeln!(out, "  valid-exit-codes {:?}", exec.valid_exit_codes)?;
    }
    Ok(())
}

fn mount(out: &mut Formatter<'_>, mount: &Mount, source: &str) -> fmt::Result {
    write!(out, "  mount {} {source}", mount.dest)?;
    if !mount.selector.is_empty() {
        write!(out, " selector={}", mount.selector)?;
    }
    if mount.readonly {
        write!(out, " readonly")?;
    }
    match &mount.kind {
        MountKind::Bind => {}
        MountKind::Secret(secret) => {
            write!(out, " secret={}", secret.id)?;
            owned(out, (secret.uid, secret.gid, secret.mode), secret.optional)?;
        }
        MountKind::Ssh(ssh) => {
            write!(out, " ssh={}", ssh.id)?;
            owned(out, (ssh.uid, ssh.gid, ssh.mode), ssh.optional)?;
        }
        MountKind::Cache(cache) => write!(out, " cache={} {:?}", cache.id, cache.sharing)?,
        MountKind::Tmpfs { size_bytes } => write!(out, " tmpfs={size_bytes}")?,
    }
    match mount.output {
        Some(output) => writeln!(out, " output={output}"),
        None => out.write_char('\n'),
    }
}

/// Owner and mode of a file that is made for a mount.
fn owned(
    out: &mut Formatter<'_>,
    (uid, gid, mode): (u32, u32, u32),
    optional: bool,
) -> fmt::Result {
    write!(out, " {uid}:{gid} {mode:04o}")?;
    match optional {
        true => write!(out, " optional"),
        false => Ok(()),
    }
}

fn step(
    out: &mut Formatter<'_>,
    step: &FileStep,
    input: &dyn Fn(FileInput) -> String,
) -> fmt::Result {
    let time = |out: &mut Formatter<'_>, time: Option<i64>| match time {
        None => Ok(()),
        Some(time) => write!(out, " time={time}"),
    };
    match &step.action {
        FileAction::Copy(found) => {
            write!(out, " copy {}", input(step.secondary))?;
            copy(out, found)?;
            owner(out, found.owner.as_ref(), input)?;
            time(out, found.timestamp_ns)
        }
        FileAction::Mkfile(mkfile) => {
            write!(out, " mkfile {} {:04o}", mkfile.path, mkfile.mode)?;
            match str::from_utf8(&mkfile.data) {
                Ok(text) if text.len() <= DATA_PRINTED_MAX => write!(out, " {text:?}")?,
                _ => write!(out, " ({} bytes)", mkfile.data.len())?,
            }
            owner(out, mkfile.owner.as_ref(), input)?;
            time(out, mkfile.timestamp_ns)
        }
        FileAction::Mkdir(mkdir) => {
            write!(out, " mkdir {} {:04o}", mkdir.path, mkdir.mode)?;
            flag(out, "parents", mkdir.make_parents)?;
            owner(out, mkdir.owner.as_ref(), input)?;
            time(out, mkdir.timestamp_ns)
        }
        FileAction::Rm(rm) => {
            write!(out, " rm {}", rm.path)?;
            flag(out, "allow-not-found", rm.allow_not_found)?;
            flag(out, "wildcard", rm.allow_wildcard)
        }
        FileAction::Symlink(link) => {
            write!(out, " symlink {} -> {}", link.path, link.target)?;
            owner(out, link.owner.as_ref(), input)?;
            time(out, link.timestamp_ns)
        }
    }
}

fn copy(out: &mut Formatter<'_>, copy: &Copy) -> fmt::Result {
    write!(out, " {} -> {}", copy.src, copy.dest)?;
    match &copy.mode {
        CopyMode::Keep => {}
        CopyMode::Bits(bits) => write!(out, " mode={bits:04o}")?,
        CopyMode::Symbolic(text) => write!(out, " mode={text}")?,
    }
    flag(out, "follow", copy.follow_symlink)?;
    flag(out, "contents", copy.dir_copy_contents)?;
    flag(out, "unpack", copy.attempt_unpack)?;
    flag(out, "create-dest", copy.create_dest_path)?;
    flag(out, "wildcard", copy.allow_wildcard)?;
    flag(out, "empty-wildcard", copy.allow_empty_wildcard)?;
    flag(out, "replace", copy.always_replace_existing)?;
    let mut list = |name: &str, values: &[String]| match values {
        [] => Ok(()),
        values => write!(out, " {name}={values:?}"),
    };
    list("include", &copy.include_patterns)?;
    list("exclude", &copy.exclude_patterns)?;
    list("required", &copy.required_paths)
}

fn flag(out: &mut Formatter<'_>, name: &str, set: bool) -> fmt::Result {
    if set { write!(out, " {name}") } else { Ok(()) }
}

fn owner(
    out: &mut Formatter<'_>,
    owner: Option<&Owner>,
    input: &dyn Fn(FileInput) -> String,
) -> fmt::Result {
    let Some(owner) = owner else { return Ok(()) };
    let user = |found: &Option<UserRef>| match found {
        None => String::new(),
        Some(UserRef::Id(id)) => id.to_string(),
        Some(UserRef::Name { name, input: names }) => format!("{name}@{}", input(*names)),
    };
    write!(out, " owner={}:{}", user(&owner.user), user(&owner.group))
}
