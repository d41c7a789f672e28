//! What `varve run` mounts: `-v`, `--mount` and `--tmpfs`, in docker's words.

use std::path::PathBuf;

use crate::args::csv;
use crate::args::steps::size;

/// Something to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MountChoice {
    /// Where: an absolute path in the container.
    pub(crate) target: String,
    /// Whether the process may not write to it.
    pub(crate) is_read_only: bool,
    /// What.
    pub(crate) from: MountFrom,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MountFrom {
    /// A file or directory of this machine.
    Path {
        /// Absolute, or relative to where the caller is.
        path: PathBuf,
        /// Whether a directory is made if nothing is there.
        is_made: bool,
        /// Whether what is mounted there later on this machine comes in.
        is_slave: bool,
    },
    /// A directory in memory.
    Memory {
        /// Most that it holds.
        size_bytes: Option<u64>,
        /// Permissions of the directory itself.
        mode: u32,
        /// Whether programs in it can be started.
        has_programs: bool,
    },
    /// What the image has there, and what is written to it: docker's anonymous volume.
    Own,
}

/// Reads `-v`.
pub(super) fn volume(text: &str) -> Result<MountChoice, String> {
    let parts: Vec<_> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => {
            return Ok(MountChoice {
                target: checked(target)?,
                is_read_only: false,
                from: MountFrom::Own,
            });
        }
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return Err("it is not SOURCE:TARGET or SOURCE:TARGET:ro".to_owned()),
    };
    if !source.contains('/') && source != "." && source != ".." {
        return Err(format!(
            "{source:?} is the name of a volume, and varve keeps no volumes; name a directory: \
             ./{source}:{target}"
        ));
    }
    let (mut is_read_only, mut is_slave) = (false, false);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => is_read_only = true,
            // docker's defaults, and words that mean something on other systems only: z and Z are
            // for SELinux.
            "rw" | "private" | "rprivate" | "cached" | "delegated" | "consistent" | "z" | "Z" => {}
            "slave" | "rslave" => is_slave = true,
            "shared" | "rshared" => return Err(unshared(option)),
            _ => {
                return Err(format!(
                    "unsupported option {option:?}: there are ro, rw, z, Z, rprivate and rslave"
                ));
            }
        }
    }
    Ok(MountChoice {
        target: checked(target)?,
        is_read_only,
        from: MountFrom::Path {
            path: source.into(),
            is_made: true,
            is_slave,
        },
    })
}

fn unshared(option: &str) -> String {
    format!(
        "unsupported option {option:?}: what a container mounts is not seen on this machine, because \
         the mounts of varve are its own; rslave lets mounts of this machine in"
    )
}

/// Reads `--tmpfs`.
pub(super) fn tmpfs(text: &str) -> Result<MountChoice, String> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let (mut is_read_only, mut has_programs) = (false, false);
    let (mut size_bytes, mut mode) = (None, executor::TMPFS_MODE_DEFAULT);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=').unwrap_or((option, "")) {
            ("ro", "") => is_read_only = true,
            ("exec", "") => has_programs = true,
            ("rw" | "noexec" | "nosuid" | "nodev", "") => {}
            ("size", value) => size_bytes = Some(size(value)?),
            ("mode", value) => mode = octal(value)?,
            _ => {
                return Err(format!(
                    "unsupported option {option:?}: there are size=, mode=, exec, ro"
                ));
            }
        }
    }
    Ok(MountChoice {
        target: checked(target)?,
        is_read_only,
        from: MountFrom::Memory {
            size_bytes,
            mode,
            has_programs,
        },
    })
}

/// Reads `--mount`.
pub(super) fn mount(text: &str) -> Result<MountChoice, String> {
    let (mut kind, mut source, mut target) = (None, None, None);
    let (mut size_bytes, mut mode) = (None, None);
    let (mut is_read_only, mut is_slave) = (false, false);
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        match (key.to_lowercase().as_str(), value) {
            ("type", Some(value)) => kind = Some(value.to_owned()),
            ("source" | "src", Some(value)) => source = Some(PathBuf::from(value)),
            ("target" | "dst" | "destination", Some(value)) => target = Some(checked(value)?),
            ("readonly" | "ro", None | Some("true" | "1")) => is_read_only = true,
            ("readonly" | "ro", Some("false" | "0")) => is_read_only = false,
            ("bind-propagation", Some("private" | "rprivate")) => {}
            ("bind-propagation", Some("slave" | "rslave")) => is_slave = true,
            ("bind-propagation", Some(option @ ("shared" | "rshared"))) => {
                return Err(unshared(option));
            }
            ("tmpfs-size", Some(value)) => size_bytes = Some(size(value)?),
            ("tmpfs-mode", Some(value)) => mode = Some(octal(value)?),
            _ => {
                return Err(format!(
                    "invalid field '{field}': there are type=, source=, target=, readonly, \
                     tmpfs-size=, tmpfs-mode="
                ));
            }
        }
    }
    let target = target.ok_or("target is required")?;
    let kind = kind.as_deref().unwrap_or("volume");
    if kind != "tmpfs" && (size_bytes.is_some() || mode.is_some()) {
        return Err("tmpfs-size and tmpfs-mode are for type=tmpfs".to_owned());
    }
    if kind != "bind" && is_slave {
        return Err("bind-propagation is for type=bind".to_owned());
    }
    let from = match (kind, source) {
        ("bind", Some(path)) => MountFrom::Path {
            path,
            is_made: false,
            is_slave,
        },
        ("bind", None) => return Err("type=bind needs source=PATH".to_owned()),
        ("tmpfs", None) => MountFrom::Memory {
            size_bytes,
            mode: mode.unwrap_or(executor::TMPFS_MODE_DEFAULT),
            has_programs: false,
        },
        ("tmpfs", Some(_)) => return Err("type=tmpfs has no source".to_owned()),
        ("volume", None) => MountFrom::Own,
        ("volume", Some(_)) => {
            return Err(
                "type=volume, which is the default, takes no source: varve keeps no volumes; \
                 use type=bind,source=DIR"
                    .to_owned(),
            );
        }
        _ => {
            return Err(format!(
                "unsupported type {kind:?}: there are bind, tmpfs and volume"
            ));
        }
    };
    Ok(MountChoice {
        target,
        is_read_only,
        from,
    })
}

fn checked(target: &str) -> Result<String, String> {
    match target.strip_prefix('/') {
        Some(rest) if !rest.trim_matches('/').is_empty() => Ok(target.to_owned()),
        _ => Err(format!(
            "{target:?} is no absolute path below / to mount at"
        )),
    }
}

fn octal(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| format!("{text:?} is no file mode, as 1777"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str, target: &str, is_read_only: bool, is_made: bool) -> MountChoice {
        MountChoice {
            target: target.into(),
            is_read_only,
            from: MountFrom::Path {
                path: path.into(),
                is_made,
                is_slave: false,
            },
        }
    }

    fn slave(mut choice: MountChoice) -> MountChoice {
        if let MountFrom::Path { is_slave, .. } = &mut choice.from {
            *is_slave = true;
        }
        choice
    }

    fn memory(target: &str, size_bytes: Option<u64>, mode: u32) -> MountChoice {
        MountChoice {
            target: target.into(),
            is_read_only: false,
            from: MountFrom::Memory {
                size_bytes,
                mode,
                has_programs: false,
            },
        }
    }

    fn own(target: &str, is_read_only: bool) -> MountChoice {
        MountChoice {
            target: target.to_owned(),
            is_read_only,
            from: MountFrom::Own,
        }
    }

    #[test]
    fn volumes_are_paths() {
        for (text, expect) in [
            ("/a:/b", path("/a", "/b", false, true)),
            ("./a:/b:ro", path("./a", "/b", true, true)),
            (".:/src:rw", path(".", "/src", false, true)),
            ("/a:/b:z", path("/a", "/b", false, true)),
            ("/a:/b:ro,Z", path("/a", "/b", true, true)),
            ("/a:/b:private", path("/a", "/b", false, true)),
            ("/a:/b:ro,rslave", slave(path("/a", "/b", true, true))),
            ("/data", own("/data", false)),
        ] {
            assert_eq!(volume(text), Ok(expect), "{text}");
        }
        for (text, part) in [
            ("data", "no absolute path"),
            ("data:/data", "./data:/data"),
            ("/a:b", "no absolute path"),
            ("/a:/", "no absolute path"),
            ("/a:/b:x", "there are ro, rw, z, Z, rprivate and rslave"),
            ("/a:/b:rshared", "rslave lets mounts of this machine in"),
            ("/a:/b:ro:x", "SOURCE:TARGET"),
        ] {
            let error = volume(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn mounts_are_read_field_by_field() {
        for (text, expect) in [
            (
                "type=bind,source=/a,target=/b",
                path("/a", "/b", false, false),
            ),
            (
                "type=bind,src=a,dst=/b,readonly",
                path("a", "/b", true, false),
            ),
            ("type=tmpfs,target=/t", memory("/t", None, 0o1777)),
            ("type=volume,target=/v", own("/v", false)),
            ("dst=/v,ro", own("/v", true)),
            (
                "type=tmpfs,destination=/t,tmpfs-size=1m,tmpfs-mode=700",
                memory("/t", Some(1 << 20), 0o700),
            ),
        ] {
            assert_eq!(mount(text), Ok(expect), "{text}");
        }
        for (text, part) in [
            ("type=bind,source=/a", "target is required"),
            ("type=bind,target=/a", "source=PATH"),
            ("source=a,target=/a", "keeps no volumes"),
            ("target=/a,tmpfs-size=1m", "are for type=tmpfs"),
            ("type=npipe,target=/a", "bind, tmpfs and volume"),
            (
                "type=bind,source=/a,target=/b,bind-propagation=shared",
                "rslave lets mounts of this machine in",
            ),
            (
                "type=tmpfs,target=/b,bind-propagation=rslave",
                "bind-propagation is for type=bind",
            ),
            ("type=tmpfs,target=/t,tmpfs-mode=9", "no file mode"),
        ] {
            let error = mount(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn directories_in_memory_have_dockers_options() {
        assert_eq!(tmpfs("/t"), Ok(memory("/t", None, 0o1777)));
        let expect = memory("/t", Some(64 << 20), 0o755);
        assert_eq!(tmpfs("/t:rw,noexec,size=64m,mode=755"), Ok(expect));
        for text in ["t", "/t:size=x", "/t:uid=1"] {
            tmpfs(text).unwrap_err();
        }
    }
}
