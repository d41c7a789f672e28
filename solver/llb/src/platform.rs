//! What a vertex is built for: an OCI platform, its specifier syntax and its normal form
//! (containerd's `platforms` package sets the rules that clients rely on).

use std::fmt;

use crate::error::Error;

/// Operating systems that a one-word specifier is recognised as; any other word is an
/// architecture.
const SYSTEMS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];

/// Architectures that a one-word specifier may name.
const ARCHITECTURES: [&str; 24] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "ppc64",
    "ppc64le",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

/// An OCI platform. Empty text means "not said".
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// `linux`, `windows`, …
    pub os: String,
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// Such as `v7` of `arm`.
    pub variant: String,
    /// Such as `10.0.17763` of `windows`.
    pub os_version: String,
    /// Such as `win32k`.
    pub os_features: Vec<String>,
}

impl Platform {
    /// A platform without variant.
    pub fn new(os: &str, architecture: &str) -> Self {
        Self {
            os: os.into(),
            architecture: architecture.into(),
            ..Self::default()
        }
    }

    /// What this program was compiled for.
    pub fn host() -> Self {
        let architecture = match () {
            () if cfg!(target_arch = "x86_64") => "amd64",
            () if cfg!(target_arch = "aarch64") => "arm64",
            () if cfg!(target_arch = "arm") => "arm",
            () if cfg!(target_arch = "x86") => "386",
            () if cfg!(target_arch = "riscv64") => "riscv64",
            () if cfg!(target_arch = "s390x") => "s390x",
            () if cfg!(target_arch = "loongarch64") => "loong64",
            () if cfg!(all(target_arch = "powerpc64", target_endian = "little")) => "ppc64le",
            () => "unknown",
        };
        Self::new("linux", architecture)
    }

    /// Reads `os[(version[+feature…])][/architecture[/variant]]` or an architecture alone; what is
    /// left out comes from `default`.
    ///
    /// # Errors
    /// [`Error::InvalidPlatform`] names the part that does not follow the syntax.
    pub fn parse(text: &str, default: &Platform) -> Result<Self, Error> {
        let invalid = |reason| Error::InvalidPlatform {
            text: text.chars().take(128).collect(),
            reason,
        };
        if text.contains('*') {
            return Err(invalid("wildcards not yet supported"));
        }
        let parts: Vec<&str> = text.splitn(4, '/').collect();
        let mut platform = parse_system(parts[0], default).map_err(invalid)?;
        if parts[1..].iter().any(|part| !is_word(part, "_.-")) {
            return Err(invalid(
                "a component must be made of letters, digits, '_', '.' and '-'",
            ));
        }
        match parts[1..] {
            [] if SYSTEMS.contains(&platform.os.as_str()) => {
                platform.architecture = default.architecture.clone();
                platform.variant = default.variant.clone();
            }
            [] => {
                (platform.architecture, platform.variant) = normal_architecture(parts[0], "");
                if !ARCHITECTURES.contains(&platform.architecture.as_str()) {
                    return Err(invalid("unknown operating system or architecture"));
                }
                platform.os = default.os.clone();
                platform.drop_default_arm_variant();
            }
            [architecture] => {
                (platform.architecture, platform.variant) = normal_architecture(architecture, "");
                platform.drop_default_arm_variant();
            }
            [architecture, variant] => {
                (platform.architecture, platform.variant) =
                    normal_architecture(architecture, variant);
                if platform.architecture == "arm64" && platform.variant.is_empty() {
                    platform.variant = "v8".into();
                }
            }
            _ => return Err(invalid("cannot parse platform specifier")),
        }
        Ok(platform)
    }

    fn drop_default_arm_variant(&mut self) {
        if self.architecture == "arm" && self.variant == "v7" {
            self.variant.clear();
        }
    }

    /// The one spelling of this platform: `aarch64` becomes `arm64`, `arm64/v8` loses its variant,
    /// `arm` gets `v7`.
    pub fn normalized(&self) -> Self {
        let (architecture, variant) = normal_architecture(&self.architecture, &self.variant);
        let os = normal_system(&self.os, &self.os);
        let mut os_features = self.os_features.clone();
        os_features.sort();
        os_features.dedup();
        Self {
            os,
            architecture,
            variant,
            os_version: self.os_version.clone(),
            os_features,
        }
    }

    /// `os/architecture[/variant]`, without version and features; `unknown` without a system.
    pub fn short(&self) -> String {
        if self.os.is_empty() {
            return "unknown".into();
        }
        self.join(&self.os)
    }

    /// Joins as a path does: empty parts leave no slash behind.
    fn join(&self, os: &str) -> String {
        [os, &self.architecture, &self.variant]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("/")
    }
}

/// The full specifier: `os[(version+feature…)]/architecture[/variant]`.
impl fmt::Display for Platform {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.os.is_empty() || (self.os_version.is_empty() && self.os_features.is_empty()) {
            return out.write_str(&self.short());
        }
        let mut options = self.os_version.clone();
        for feature in &self.os_features {
            options.push('+');
            options.push_str(feature);
        }
        out.write_str(&self.join(&format!("{}({options})", self.os)))
    }
}

/// Reads `os[(version[+feature…])]`.
fn parse_system(part: &str, default: &Platform) -> Result<Platform, &'static str> {
    const SYNTAX: &str = "the operating system must be a word, with its version in parentheses";
    let (os, options) = match part.split_once('(') {
        None => (part, ""),
        Some((os, rest)) => (os, rest.strip_suffix(')').ok_or(SYNTAX)?),
    };
    if !is_word(os, "_-") {
        return Err(SYNTAX);
    }
    let mut pieces = options.split('+');
    let os_version = pieces.next().unwrap_or_default();
    let os_features: Vec<String> = pieces.map(str::to_owned).collect();
    if !os_version.is_empty() && !is_word(os_version, "_.-") {
        return Err(SYNTAX);
    }
    if os_features.iter().any(|feature| !is_word(feature, "_.-")) {
        return Err("a feature of the operating system must be a word");
    }
    Ok(Platform {
        os: normal_system(os, &default.os),
        os_version: os_version.into(),
        os_features,
        ..Platform::default()
    })
}

fn is_word(text: &str, also: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || also.contains(c))
}

fn normal_system(os: &str, default: &str) -> String {
    match os.to_ascii_lowercase().as_str() {
        "" => default.to_owned(),
        "macos" => "darwin".to_owned(),
        os => os.to_owned(),
    }
}

fn normal_architecture(architecture: &str, variant: &str) -> (String, String) {
    let architecture = architecture.to_ascii_lowercase();
    let variant = variant.to_ascii_lowercase();
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    };
    (architecture.to_owned(), variant.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let default = Platform::new("linux", "amd64");
        let platform = Platform::parse(text, &default);
        let printed = platform.map_or_else(|error| error.to_string(), |found| found.to_string());
        assert_eq!(printed, expected, "of {text:?}");
    }

    #[test]
    fn specifiers_are_completed_and_spelled_one_way() {
        check("linux/amd64", "linux/amd64");
        check("linux", "linux/amd64");
        check("arm64", "linux/arm64");
        check("aarch64", "linux/arm64");
        check("linux/aarch64", "linux/arm64");
        check("linux/arm64/v8", "linux/arm64/v8");
        check("linux/arm", "linux/arm");
        check("linux/arm/7", "linux/arm/v7");
        check("armhf", "linux/arm");
        check("linux/x86_64", "linux/amd64");
        check("macos/arm64", "darwin/arm64");
        check(
            "windows(10.0.17763+win32k)/amd64",
            "windows(10.0.17763+win32k)/amd64",
        );
        check("haiku/riscv64", "haiku/riscv64");
    }

    #[test]
    fn what_is_no_specifier_is_refused_with_the_part_that_is_wrong() {
        for text in [
            "",
            "*",
            "linux/",
            "li nux/amd64",
            "nosuch",
            "a/b/c/d",
            "linux(/amd64",
            "l/é",
        ] {
            let default = Platform::new("linux", "amd64");
            let error = Platform::parse(text, &default).unwrap_err().to_string();
            assert!(error.starts_with("invalid platform "), "{error}");
        }
    }

    #[test]
    fn normalized_platforms_of_one_machine_are_equal() {
        let of = |architecture: &str, variant: &str| {
            let mut platform = Platform::new("linux", architecture);
            platform.variant = variant.into();
            platform.normalized()
        };
        assert_eq!(of("aarch64", "v8"), of("arm64", ""));
        assert_eq!(of("arm", ""), of("armhf", "v7"));
        assert_ne!(of("arm", "v6"), of("arm", "v7"));
    }
}
