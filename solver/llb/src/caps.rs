//! Names of abilities: what a daemon must understand to run a vertex (BuildKit's
//! solver/pb/caps.go). A client that sends a graph lists them in the metadata; a daemon that does
//! not know one refuses the graph instead of building something else.

use crate::op::{
    ContentCache, CopyMode, Exec, File, FileAction, MountKind, Network, Op, Security, Source,
    attribute,
};

/// The terminal op uses worker constraints.
pub const CONSTRAINTS: &str = "constraints";
/// The terminal op uses platforms.
pub const PLATFORM: &str = "platform";
/// Some vertex ignores the cache.
pub const META_IGNORE_CACHE: &str = "meta.ignorecache";
/// Some vertex has a description.
pub const META_DESCRIPTION: &str = "meta.description";
/// Some vertex speaks of cache export.
pub const META_EXPORT_CACHE: &str = "meta.exportcache";

/// The abilities that an operation needs.
pub fn needed_by(op: &Op) -> Vec<&'static str> {
    let mut caps = match op {
        Op::Source(source) => of_source(source),
        Op::Exec(exec) => of_exec(exec),
        Op::File(file) => of_file(file),
        Op::Merge(_) => vec!["mergeop"],
        Op::Diff(_) => vec!["diffop"],
        Op::Build(build) if build.attributes.contains_key(attribute::BUILD_FILE_NAME) => {
            vec!["source.buildop.llbfilename"]
        }
        Op::Build(_) => Vec::new(),
    };
    caps.sort_unstable();
    caps.dedup();
    caps
}

fn of_source(source: &Source) -> Vec<&'static str> {
    /// Attributes that need an ability of their own.
    const ATTRIBUTES: [(&str, &str); 21] = [
        (attribute::LOCAL_SESSION, "source.local.sessionid"),
        (attribute::LOCAL_UNIQUE, "source.local.unique"),
        (
            attribute::LOCAL_INCLUDE_PATTERNS,
            "source.local.includepatterns",
        ),
        (attribute::LOCAL_FOLLOW_PATHS, "source.local.followpaths"),
        (
            attribute::LOCAL_EXCLUDE_PATTERNS,
            "source.local.excludepatterns",
        ),
        (
            attribute::LOCAL_SHARED_KEY_HINT,
            "source.local.sharedkeyhint",
        ),
        (attribute::IMAGE_LAYER_LIMIT, "source.image.layerlimit"),
        (attribute::IMAGE_CHECKSUM, "source.image.checksum"),
        (attribute::HTTP_CHECKSUM, "source.http.checksum"),
        (attribute::HTTP_PERM, "source.http.perm"),
        // The name was misspelt when it was given.
        (attribute::HTTP_UID, "soruce.http.uidgid"),
        (attribute::HTTP_GID, "soruce.http.uidgid"),
        (attribute::HTTP_AUTH_HEADER_SECRET, "source.http.auth"),
        (attribute::HTTP_SIGNATURE_KEY, "source.http.signatureverify"),
        (attribute::HTTP_SIGNATURE, "source.http.signatureverify"),
        (attribute::GIT_KEEP_GIT_DIR, "source.git.keepgitdir"),
        (attribute::GIT_FULL_URL, "source.git.fullurl"),
        (attribute::GIT_KNOWN_SSH_HOSTS, "source.git.knownsshhosts"),
        (attribute::GIT_MOUNT_SSH_SOCK, "source.git.mountsshsock"),
        (attribute::GIT_CHECKSUM, "source.git.checksum"),
        (attribute::GIT_SKIP_SUBMODULES, "source.git.skipsubmodules"),
    ];
    let mut caps = match source.scheme() {
        "docker-image" => vec!["source.image"],
        "local" => vec!["source.local"],
        "oci-layout" => vec!["source.ocilayout"],
        "git" => vec!["source.git"],
        "http" | "https" => vec!["source.http"],
        _ => Vec::new(),
    };
    let given = ATTRIBUTES
        .into_iter()
        .filter(|(name, _)| source.attributes.contains_key(*name));
    caps.extend(given.map(|(_, cap)| cap));
    let mut names = source.attributes.keys();
    if names.any(|name| name.starts_with(attribute::HTTP_HEADER_PREFIX)) {
        caps.push("source.http.header");
    }
    // Only a mode that must not be relaxed needs the ability.
    if source
        .attributes
        .get(attribute::IMAGE_RESOLVE_MODE)
        .is_some_and(|mode| mode == "pull")
    {
        caps.push("source.image.resolvemode");
    }
    caps
}

fn of_exec(exec: &Exec) -> Vec<&'static str> {
    let mut caps = vec!["exec.meta.base"];
    let mut when = |needed: bool, cap| {
        if needed {
            caps.push(cap);
        }
    };
    when(exec.network != Network::Sandbox, "exec.meta.network");
    when(exec.security == Security::Insecure, "exec.meta.security");
    when(exec.proxy.is_some(), "exec.meta.proxyenv");
    when(!exec.ulimits.is_empty(), "exec.meta.ulimit");
    when(!exec.cgroup_parent.is_empty(), "exec.meta.cgroup.parent");
    when(!exec.valid_exit_codes.is_empty(), "exec.validexitcode");
    when(!exec.secret_env.is_empty(), "exec.secretenv");
    when(!exec.devices.is_empty(), "exec.meta.cdi");
    for mount in &exec.mounts {
        when(!mount.selector.is_empty(), "exec.mount.selector");
        when(
            mount.content_cache != ContentCache::Default,
            "exec.mount.cache.content",
        );
        match &mount.kind {
            MountKind::Bind => when(mount.input.is_some(), "exec.mount.bind"),
            MountKind::Secret(_) => when(true, "exec.mount.secret"),
            MountKind::Ssh(_) => when(true, "exec.mount.ssh"),
            MountKind::Cache(_) => {
                when(true, "exec.mount.cache");
                when(true, "exec.mount.cache.sharing");
            }
            MountKind::Tmpfs { size_bytes } => {
                when(true, "exec.mount.tmpfs");
                when(*size_bytes > 0, "exec.mount.tmpfs.size");
            }
        }
    }
    caps
}

fn of_file(file: &File) -> Vec<&'static str> {
    let mut caps = vec!["file.base"];
    for step in &file.steps {
        match &step.action {
            FileAction::Copy(copy) => {
                if !copy.include_patterns.is_empty() || !copy.exclude_patterns.is_empty() {
                    caps.push("file.copy.includeexcludepatterns");
                }
                if !copy.required_paths.is_empty() {
                    caps.push("file.copy.requiredpaths");
                }
                if copy.always_replace_existing {
                    caps.push("file.copy.alwaysreplaceexistingdestpaths");
                }
                if matches!(copy.mode, CopyMode::Symbolic(_)) {
                    caps.push("file.copy.modestring");
                }
            }
            FileAction::Rm(rm) if rm.allow_wildcard => caps.push("file.rm.wildcard"),
            FileAction::Symlink(_) => caps.push("file.symlink.create"),
            FileAction::Mkfile(_) | FileAction::Mkdir(_) | FileAction::Rm(_) => {}
        }
    }
    caps
}
