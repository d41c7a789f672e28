//! The smallest program of an architecture: an ELF file that ends at once with exit code 0.

/// Where the program lies in memory; no machine forbids it.
const BASE: u64 = 0x1_0000;

/// An architecture that a program can be made for (System V ABI, "ELF header").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Architecture {
    /// GOARCH value.
    pub(super) name: &'static str,
    /// As qemu and Debian's package call it.
    pub(super) emulator: &'static str,
    is_64_bit: bool,
    is_little_endian: bool,
    /// `e_machine`.
    machine: u16,
    /// `e_flags`.
    flags: u32,
    /// `exit(0)`.
    code: &'static [u8],
}

const fn little(
    name: &'static str,
    emulator: &'static str,
    machine: u16,
    flags: u32,
    code: &'static [u8],
) -> Architecture {
    Architecture {
        name,
        emulator,
        is_64_bit: true,
        is_little_endian: true,
        machine,
        flags,
        code,
    }
}

/// What images are made for.
#[rustfmt::skip]
const ARCHITECTURES: [Architecture; 9] = [
    // mov eax, 60; xor edi, edi; syscall
    little("amd64", "x86_64", 62, 0, &[0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]),
    // mov w8, 93; mov x0, 0; svc 0
    little("arm64", "aarch64", 183, 0,
        &[0xa8, 0x0b, 0x80, 0x52, 0, 0, 0x80, 0xd2, 1, 0, 0, 0xd4]),
    // li a7, 93; li a0, 0; ecall
    little("riscv64", "riscv64", 243, 0, &[0x93, 8, 0xd0, 5, 0x13, 5, 0, 0, 0x73, 0, 0, 0]),
    // li 0, 1; li 3, 0; sc
    little("ppc64le", "ppc64le", 21, 2, &[1, 0, 0, 0x38, 0, 0, 0x60, 0x38, 2, 0, 0, 0x44]),
    // ori a7, zero, 93; move a0, zero; syscall 0
    little("loong64", "loongarch64", 258, 0x43,
        &[0x0b, 0x74, 0xc1, 2, 4, 0, 0x80, 2, 0, 0, 0x2b, 0]),
    // ori v0, at, 5058 (n64); move a0, zero; syscall
    little("mips64le", "mips64el", 8, 0x8000_0007,
        &[0xc2, 0x13, 2, 0x34, 0x25, 0x20, 0, 0, 0x25, 0x20, 0, 0, 0x0c, 0, 0, 0]),
    // mov eax, 1; xor ebx, ebx; int 0x80
    Architecture { is_64_bit: false,
        ..little("386", "i386", 3, 0, &[0xb8, 1, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80]) },
    // mov r7, 1; mov r0, 0; svc 0
    Architecture { is_64_bit: false,
        ..little("arm", "arm", 40, 0x0500_0000,
            &[1, 0x70, 0xa0, 0xe3, 0, 0, 0xa0, 0xe3, 0, 0, 0, 0xef]) },
    // lghi r2, 0; svc 1
    Architecture { is_little_endian: false,
        ..little("s390x", "s390x", 22, 0, &[0xa7, 0x29, 0, 0, 0x0a, 1]) },
];

impl Architecture {
    /// All of them.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        ARCHITECTURES.into_iter()
    }

    /// The architecture of that GOARCH value.
    pub(super) fn of(name: &str) -> Option<Self> {
        Self::all().find(|one| one.name == name)
    }

    /// The program.
    pub(super) fn program(&self) -> Vec<u8> {
        let (header, segment) = match self.is_64_bit {
            true => (64u16, 56u16),
            false => (52, 32),
        };
        let start = u64::from(header + segment);
        let size = start + self.code.len() as u64;
        let mut elf = Elf {
            architecture: self,
            bytes: Vec::new(),
        };
        let class = if self.is_64_bit { 2 } else { 1 };
        let data = if self.is_little_endian { 1 } else { 2 };
        elf.bytes
            .extend([0x7f, b'E', b'L', b'F', class, data, 1, 0]);
        elf.bytes.extend([0; 8]);
        // An executable, of this machine, version 1.
        elf.half(2).half(self.machine).word(1);
        elf.address(BASE + start).address(header.into()).address(0);
        elf.word(self.flags);
        elf.half(header)
            .half(segment)
            .half(1)
            .half(0)
            .half(0)
            .half(0);
        // One segment to be loaded, readable and executable: the whole file.
        elf.word(1);
        if self.is_64_bit {
            elf.word(5);
        }
        elf.address(0).address(BASE).address(BASE);
        elf.address(size).address(size);
        if !self.is_64_bit {
            elf.word(5);
        }
        elf.address(BASE);
        elf.bytes.extend(self.code);
        elf.bytes
    }
}

/// A file that grows.
struct Elf<'a> {
    architecture: &'a Architecture,
    bytes: Vec<u8>,
}

impl Elf<'_> {
    fn put<const N: usize>(&mut self, mut little_endian: [u8; N]) -> &mut Self {
        if !self.architecture.is_little_endian {
            little_endian.reverse();
        }
        self.bytes.extend(little_endian);
        self
    }

    fn half(&mut self, value: u16) -> &mut Self {
        self.put(value.to_le_bytes())
    }

    fn word(&mut self, value: u32) -> &mut Self {
        self.put(value.to_le_bytes())
    }

    /// As wide as the architecture's addresses.
    fn address(&mut self, value: u64) -> &mut Self {
        match self.architecture.is_64_bit {
            true => self.put(value.to_le_bytes()),
            false => self.word(u32::try_from(value).unwrap_or(u32::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_program_for_this_machine_runs_and_ends_well() {
        let host = llb::Platform::host().architecture;
        let program = Architecture::of(&host).unwrap().program();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        std::fs::write(&path, program).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let status = std::process::Command::new(&path).status().unwrap();
        assert_eq!(status.code(), Some(0));
    }

    #[test]
    fn headers_are_as_long_as_their_class_says() {
        for architecture in ARCHITECTURES {
            let program = architecture.program();
            let headers = if architecture.is_64_bit { 120 } else { 84 };
            assert_eq!(program.len(), headers + architecture.code.len());
            assert!(program.ends_with(architecture.code), "{architecture:?}");
            let machine = [program[18], program[19]];
            let machine = match architecture.is_little_endian {
                true => u16::from_le_bytes(machine),
                false => u16::from_be_bytes(machine),
            };
            assert_eq!(machine, architecture.machine);
        }
    }
}
