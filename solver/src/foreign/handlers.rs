//! What is registered with binfmt_misc (the kernel's Documentation/admin-guide/binfmt-misc.rst),
//! and what a person should do when a program did not run.

use std::fs;
use std::path::Path;

use super::program::Architecture;

/// Bytes of a file that the kernel compares.
const HEADER_BYTES: usize = 128;

/// A registered emulator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Handler {
    name: String,
    is_enabled: bool,
    interpreter: String,
    /// `F`: the interpreter was opened when it was registered, so it works in any root.
    is_fixed: bool,
    offset: usize,
    magic: Vec<u8>,
    mask: Option<Vec<u8>>,
}

impl Handler {
    fn parse(name: &str, text: &str) -> Option<Self> {
        let value = |key: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(key)).map(str::trim)
        };
        Some(Handler {
            name: name.into(),
            is_enabled: text.lines().next() == Some("enabled"),
            interpreter: value("interpreter ")?.into(),
            is_fixed: value("flags:").is_some_and(|flags| flags.contains('F')),
            offset: value("offset ")?.parse().ok()?,
            magic: bytes(value("magic ")?)?,
            mask: match value("mask ") {
                Some(mask) => Some(bytes(mask)?),
                None => None,
            },
        })
    }

    fn takes(&self, program: &[u8]) -> bool {
        let mut header = program.to_vec();
        header.resize(HEADER_BYTES, 0);
        let Some(found) = header.get(self.offset..self.offset.saturating_add(self.magic.len()))
        else {
            return false;
        };
        let mask = |at: usize| self.mask.as_ref().and_then(|mask| mask.get(at).copied());
        let compared = found.iter().zip(&self.magic).enumerate();
        compared.fold(true, |same, (at, (found, magic))| {
            same && (found ^ magic) & mask(at).unwrap_or(0xff) == 0
        })
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// The handlers in a directory like /proc/sys/fs/binfmt_misc; `None` if none can be seen there.
pub(super) fn read(directory: &Path) -> Option<Vec<Handler>> {
    fs::metadata(directory.join("status")).ok()?;
    let mut handlers = Vec::new();
    for entry in fs::read_dir(directory).ok()?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Ok(text) = fs::read_to_string(entry.path()) {
            handlers.extend(Handler::parse(&name, &text));
        }
    }
    Some(handlers)
}

/// Whether the kernel hands a program to an interpreter that is not found in other roots.
pub(super) fn is_lost_in_roots(handlers: &[Handler], program: &[u8]) -> bool {
    handlers
        .iter()
        .any(|handler| handler.is_enabled && !handler.is_fixed && handler.takes(program))
}

/// What to do about programs of an architecture that do not run.
pub(super) fn advice(handlers: Option<&[Handler]>, architecture: &Architecture) -> String {
    let emulator = architecture.emulator;
    let install = format!(
        "install qemu-user-static and binfmt-support (`apt install qemu-user-static \
         binfmt-support`), or register qemu-{emulator}-static with the flag F yourself; or do the \
         work in a stage that starts FROM --platform=$BUILDPLATFORM"
    );
    let program = architecture.program();
    let all = handlers.unwrap_or_default();
    let fitting = all.iter().filter(|handler| handler.takes(&program));
    let fitting: Vec<_> = fitting.collect();
    if let Some(handler) = fitting.iter().find(|handler| handler.is_enabled) {
        let (name, interpreter) = (&handler.name, &handler.interpreter);
        return match handler.is_fixed {
            true => format!(
                "the kernel hands them to {interpreter} (binfmt_misc's {name}), which failed; \
                 install qemu-user-static again"
            ),
            false => format!(
                "binfmt_misc's {name} is registered without the flag F, so its interpreter \
                 {interpreter} is not found in the root of a step; register it again with F, as \
                 Debian's qemu-user-static does"
            ),
        };
    }
    match (fitting.first(), handlers) {
        (Some(handler), _) => format!(
            "binfmt_misc's {name} is disabled; enable it with `echo 1 > \
             /proc/sys/fs/binfmt_misc/{name}`",
            name = handler.name
        ),
        (None, Some(_)) => format!("no emulator is registered with binfmt_misc; {install}"),
        (None, None) => format!("no emulator is registered, or none that can be seen; {install}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux 6.18 shows what Debian 12 registers.
    const QEMU: &str = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\n\
        flags: POCF\noffset 0\nmagic 7f454c460201010000000000000000000200b700\n\
        mask ffffffffffffff00fffffffffffffffffeffffff\n";

    fn arm64() -> Architecture {
        Architecture::of("arm64").unwrap()
    }

    fn advise(files: &[(&str, &str)]) -> String {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        advice(read(directory.path()).as_deref(), &arm64())
    }

    #[test]
    fn a_handler_takes_the_programs_of_its_architecture_only() {
        let handler = Handler::parse("qemu-aarch64", QEMU).unwrap();
        for name in ["arm64", "arm", "amd64", "386", "riscv64", "s390x"] {
            let program = Architecture::of(name).unwrap().program();
            assert_eq!(handler.takes(&program), name == "arm64", "{name}");
        }
        assert!(handler.is_fixed && handler.is_enabled);
    }

    #[test]
    fn what_is_missing_is_told_with_what_to_do() {
        let status = ("status", "enabled\n");
        let without_f = QEMU.replace("POCF", "POC");
        let disabled = QEMU.replace("enabled", "disabled");
        let by_extension = "enabled\ninterpreter /x\nflags: \nextension .exe\n";
        for (files, words) in [
            (&[][..], "none that can be seen; install qemu-user-static"),
            (&[status], "no emulator is registered with binfmt_misc"),
            (
                &[status, ("exe", by_extension)],
                "no emulator is registered",
            ),
            (
                &[status, ("q", &without_f)],
                "q is registered without the flag F",
            ),
            (&[status, ("q", &disabled)], "/proc/sys/fs/binfmt_misc/q"),
            (&[status, ("q", QEMU)], "which failed"),
        ] {
            let text = advise(files);
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn handlers_that_make_no_sense_are_passed_over() {
        for text in [
            "",
            "enabled\n",
            &QEMU.replace("offset 0", "offset -1"),
            &QEMU.replace("magic 7f", "magic zz"),
            &QEMU.replace("offset 0", "offset 18446744073709551615"),
        ] {
            let handler = Handler::parse("q", text);
            assert!(
                handler.is_none_or(|handler| !handler.takes(&arm64().program())),
                "{text}"
            );
        }
    }
}
