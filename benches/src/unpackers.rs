//! The peer that unpacks without building: skopeo fetches an image into a layout, umoci makes a
//! root directory of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::command::{self, DEADLINE, Environment};
use crate::measure::Contestant;
use crate::side::{find_program, version_line};

/// The two programs, and where the present image goes.
#[derive(Debug)]
pub struct SkopeoUmoci {
    place: PathBuf,
}

impl SkopeoUmoci {
    /// Finds the programs on the search path.
    ///
    /// # Errors
    /// Names the one that is missing, and what installs it.
    pub fn find() -> Result<Self> {
        for name in ["skopeo", "umoci"] {
            find_program(name)
                .with_context(|| format!("there is no {name} on PATH: apt install {name}"))?;
        }
        Ok(Self {
            place: PathBuf::new(),
        })
    }

    /// What both say about their versions.
    ///
    /// # Errors
    /// Where one does not run.
    pub fn version(&self) -> Result<String> {
        let skopeo = version_line(Path::new("skopeo"))?;
        Ok(format!("{skopeo}, {}", version_line(Path::new("umoci"))?))
    }

    /// Begins in the new directory.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn begin(&mut self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        self.place = directory.to_owned();
        Ok(())
    }

    /// Fetches and unpacks; how long both took.
    ///
    /// # Errors
    /// Where one fails.
    pub fn unpack(&self, reference: &str) -> Result<Duration> {
        let environment = Environment::new(&self.place);
        let (layout, log) = (self.place.join("layout"), self.place.join("log"));
        let mut skopeo = environment.command("skopeo");
        skopeo
            .args(["--insecure-policy", "copy", "--quiet"])
            .arg("--src-tls-verify=false")
            .arg(format!("docker://{reference}"))
            .arg(format!("oci:{}:latest", layout.display()));
        let fetched = command::run(&mut skopeo, &log, DEADLINE)?;
        let mut umoci = environment.command("umoci");
        umoci
            .args(["unpack", "--image"])
            .arg(format!("{}:latest", layout.display()))
            .arg(self.place.join("bundle"));
        Ok(fetched + command::run(&mut umoci, &log, DEADLINE)?)
    }

    /// What a shell command prints in the root directory that was made.
    ///
    /// # Errors
    /// Where it fails.
    pub fn output(&self, script: &str) -> Result<String> {
        let root = self.place.join("bundle/rootfs");
        let mut shell = Command::new("sh");
        let output = shell.args(["-c", script]).current_dir(root).output()?;
        ensure!(output.status.success(), "{script} fails");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Contestant for SkopeoUmoci {
    fn name(&self) -> &'static str {
        "skopeo+umoci"
    }
}
