//! Where and with what is measured.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::report;

/// More runnable processes than this, for each processor, before we begin: not a quiet machine.
const QUIET_LOAD: f64 = 0.5;

/// Says, and returns for the JSON, where and with what we measure.
///
/// # Errors
/// Where /proc does not tell.
pub fn describe(home: &Path, versions: &[(&str, String)]) -> Result<Value> {
    let load = load_average()?;
    let cpus = std::thread::available_parallelism()?.get();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let filesystem = filesystem_of(home);
    for (name, version) in versions {
        report::note(&format!("{name}: {version}"));
    }
    report::note(&format!(
        "Linux {}, {cpus} processors, {filesystem}, load {load:.2}",
        kernel.trim()
    ));
    // The number of processors is small enough for a float.
    #[allow(clippy::cast_precision_loss)]
    if load > QUIET_LOAD * cpus as f64 {
        report::note("the machine is not quiet: expect noise, and look at ratios only");
    }
    Ok(json!({
        "kernel": kernel.trim(),
        "processors": cpus,
        "filesystem": filesystem,
        "load_before": load,
        "versions": versions.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
    }))
}

/// Of the last minute, from /proc/loadavg.
fn load_average() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    let first = text.split_whitespace().next().unwrap_or_default();
    first.parse().context("understand /proc/loadavg")
}

fn filesystem_of(directory: &Path) -> String {
    let output = Command::new("stat")
        .args(["--file-system", "--format=%T"])
        .arg(directory)
        .output();
    output.map_or_else(
        |_| "unknown file system".into(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
