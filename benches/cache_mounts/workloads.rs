//! What is installed or compiled, with which caches, and how much sooner it should be done again.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use benches::figure::Target;

/// One Dockerfile.
pub(crate) struct Workload {
    /// One word to select it by.
    pub(crate) name: &'static str,
    /// What the table says.
    pub(crate) title: &'static str,
    /// Debian packages that the base has.
    pub(crate) packages: &'static [&'static str],
    /// Further arguments of `varve build`.
    pub(crate) contexts: fn() -> Result<Vec<String>>,
    /// The flags of RUN that are measured.
    pub(crate) caches: &'static str,
    /// The instructions on top of the base.
    pub(crate) steps: fn(&Step) -> String,
    /// Time with the mount, as a part of that without.
    pub(crate) target: Target,
}

/// What is different in each round.
pub(crate) struct Step {
    /// Flags of RUN.
    pub(crate) mounts: String,
    /// A word of this side and round.
    pub(crate) word: String,
}

/// All of them.
pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "apt",
        title: "apt-get install gcc make",
        packages: &[],
        contexts: none,
        caches: "--mount=type=cache,target=/var/cache/apt,sharing=locked \
                 --mount=type=cache,target=/var/lib/apt,sharing=locked",
        steps: apt,
        target: Target::Ratio(0.9),
    },
    Workload {
        name: "pip",
        title: "pip install, built from source",
        packages: &["python3-venv"],
        contexts: none,
        caches: "--mount=type=cache,target=/root/.cache/pip",
        steps: pip,
        target: Target::Ratio(0.5),
    },
    Workload {
        name: "npm",
        title: "npm install, 60 packages",
        packages: &["nodejs", "npm"],
        contexts: none,
        caches: "--mount=type=cache,target=/root/.npm",
        steps: npm,
        target: Target::Ratio(0.5),
    },
    Workload {
        name: "cargo",
        title: "cargo build, 30 crates",
        packages: &["gcc", "libc6-dev"],
        contexts: toolchain,
        caches: "--mount=type=cache,target=/root/.cargo/registry \
                 --mount=type=cache,target=/src/target",
        steps: cargo,
        target: Target::Ratio(0.2),
    },
];

fn none() -> Result<Vec<String>> {
    Ok(Vec::new())
}

/// This machine's own compiler, as a context.
fn toolchain() -> Result<Vec<String>> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output();
    let output = output.context("run rustc, to find the toolchain")?;
    ensure!(output.status.success(), "rustc does not tell its sysroot");
    let sysroot = String::from_utf8(output.stdout)?;
    Ok(vec![
        "--build-context".to_owned(),
        format!("rust={}", sysroot.trim()),
    ])
}

fn apt(step: &Step) -> String {
    let Step { mounts, word } = step;
    format!(
        "ENV DEBIAN_FRONTEND=noninteractive\n\
         RUN {mounts} : {word}; apt-get update && \
           apt-get install -y --no-install-recommends gcc libc6-dev make && gcc --version\n"
    )
}

/// Packages that have no wheel at the registry. Whether pip keeps what it downloads depends on the
/// registry's answers; what it has built it always keeps.
fn pip(step: &Step) -> String {
    let Step { mounts, word } = step;
    format!(
        "RUN python3 -m venv /venv\n\
         RUN {mounts} : {word}; /venv/bin/pip install --use-pep517 \
           docopt==0.6.2 sgmllib3k==1.0.0 pyperclip==1.8.2 && /venv/bin/python -c 'import docopt'\n"
    )
}

fn npm(step: &Step) -> String {
    let Step { mounts, word } = step;
    format!(
        "WORKDIR /app\n\
         RUN {mounts} : {word}; npm install --no-audit --no-fund --prefer-offline \
           express@4.18.2 && node -e \"require('express')\"\n"
    )
}

fn cargo(step: &Step) -> String {
    let Step { mounts, word } = step;
    format!(
        "WORKDIR /src\n\
         COPY <<EOF Cargo.toml\n\
         [package]\nname = \"app\"\nversion = \"1.0.0\"\nedition = \"2021\"\n\
         [dependencies]\nserde_json = \"1\"\nregex = \"1\"\nserde = {{ version = \"1\", \
         features = [\"derive\"] }}\n\
         EOF\n\
         COPY <<EOF src/main.rs\n\
         fn main() {{ println!(\"{word} {{:?}}\", regex::Regex::new(\"a+\").unwrap().find(\"xaa\")); \
         }}\n\
         EOF\n\
         RUN --mount=from=rust,source=bin,target=/rust/bin \
           --mount=from=rust,source=lib,target=/rust/lib {mounts} \
           PATH=/rust/bin:$PATH cargo build --release && cp target/release/app /app && /app | grep {word}\n"
    )
}
