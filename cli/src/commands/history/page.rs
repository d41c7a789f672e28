//! A build as one HTML page that needs nothing else: no network, no other file, and no script to
//! be read. The script that is in it filters and zooms; the page's own policy allows that script
//! by its digest and no other, so that nothing a build wrote can ever run.

mod markup;
mod steps;
mod timeline;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use solver::content::Digest;
use solver::history::critical_path::critical_path;
use solver::history::record::{BuildRecord, Details, Status, StepOutcome, Summary};

use self::markup::{escape, percent};
use super::inspect::made_by;
use super::list::{status, time};
use crate::commands::images::describe::short;
use crate::output::{seconds, size};

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

/// Looks for steps and zooms: shown only where the script runs.
const TOOLS: &str = "<div class=\"tools\"><button id=\"out\" title=\"zoom out\">−</button>\
    <button id=\"whole\">whole</button><button id=\"in\" title=\"zoom in\">+</button></div>";

const FILTER: &str = "<div class=\"tools\"><label><input type=\"checkbox\" id=\"noise\"> only what \
    ran</label><input type=\"search\" id=\"search\" placeholder=\"filter steps and logs\"></div>";

/// Files that are tried before giving up.
const NAMES_MAX: u32 = 1_000;

/// Writes a page to a new file of a directory that others may write to as well: no file and no
/// link that is there is followed or replaced.
///
/// # Errors
/// The kernel's.
pub(super) fn write_new(directory: &Path, number: u64, page: &str) -> io::Result<PathBuf> {
    for attempt in 0..NAMES_MAX {
        let suffix = match attempt {
            0 => String::new(),
            attempt => format!("-{attempt}"),
        };
        let path = directory.join(format!("varve-build-{number}{suffix}.html"));
        let mut options = OpenOptions::new();
        // What a build wrote is for nobody else.
        options.write(true).create_new(true).mode(0o600);
        match options.open(&path) {
            Ok(mut file) => {
                file.write_all(page.as_bytes())?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// The page.
pub(super) fn page(record: &BuildRecord) -> String {
    let (build, details) = (&record.summary, &record.details);
    let total_us = build.duration_us.max(1_000);
    let path = critical_path(&details.steps);
    let title = format!("build {} · {}", build.number, build.asked.name());
    let script = Digest::of(SCRIPT.as_bytes());
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{}'; base-uri 'none'; \
         form-action 'none'",
        STANDARD.encode(script.as_bytes())
    );
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        escape(&title)
    );
    html.push_str(&header(build));
    html.push_str(&tiles(build, details));
    html.push_str(&failure(details));
    html.push_str(&format!(
        "<section>\n<div class=\"bar-head\"><h2>Timeline</h2>{}{TOOLS}</div>\n{}</section>\n",
        legend(),
        timeline::chart(&details.steps, &path, total_us)
    ));
    html.push_str(&format!(
        "<section>\n<div class=\"bar-head\"><h2>Steps</h2>{FILTER}</div>\n{}{}</section>\n",
        steps::steps(&details.steps, &path, total_us),
        match details.steps_left_out {
            0 => String::new(),
            count => format!("<p>{count} more steps are not kept</p>\n"),
        }
    ));
    html.push_str(&layers(details));
    html.push_str(&facts(build, details));
    html.push_str(&format!(
        "<footer>varve {}</footer>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    ));
    html
}

fn header(build: &Summary) -> String {
    let class = match build.status {
        Status::Completed => "s-cached",
        Status::Error => "s-failed",
        Status::Canceled | Status::Killed => "s-canceled",
        Status::Running => "s-done",
    };
    format!(
        "<header><h1>{}</h1><span class=\"pill {class}\">{}</span>\
         <p>build {} · {} · {}</p></header>\n",
        escape(&build.asked.name()),
        status(build.status),
        build.number,
        time(build.started_ms),
        escape(build.asked.context.as_deref().unwrap_or("no context")),
    )
}

/// Figures; those that are nothing are left out.
fn tiles(build: &Summary, details: &Details) -> String {
    let steps = build.steps;
    let bytes = |bytes: u64| match bytes {
        0 => String::new(),
        bytes => size(bytes),
    };
    let share = match steps.total() {
        0 => String::new(),
        total => format!("{} of {total}", steps.cached),
    };
    let failed = match steps.failed {
        0 => String::new(),
        failed => failed.to_string(),
    };
    let image: u64 = details.layers.iter().map(|layer| layer.size).sum();
    let tiles = [
        (seconds(build.duration_us), "duration"),
        (seconds(build.critical_path_us), "on the critical path"),
        (steps.run.to_string(), "steps run"),
        (share, "steps cached"),
        (failed, "steps failed"),
        (bytes(build.traffic.downloaded), "downloaded"),
        (bytes(build.traffic.written), "written to the store"),
        (bytes(build.traffic.deduplicated), "deduplicated"),
        (bytes(image), "in layers"),
    ];
    let shown = tiles.iter().filter(|(value, _)| !value.is_empty());
    let tiles = shown.map(|(value, title)| {
        format!("<div class=\"tile\"><b>{value}</b><span>{title}</span></div>\n")
    });
    format!(
        "<div class=\"tiles\">\n{}</div>\n",
        tiles.collect::<String>()
    )
}

fn legend() -> String {
    let kinds = [
        ("s-done", "ran"),
        ("s-cached", "cached"),
        ("s-failed", "failed"),
        ("s-canceled", "canceled"),
        ("s-beside", "around the graph"),
    ];
    let kinds = kinds.map(|(class, name)| format!("<span><i class=\"{class}\"></i>{name}</span>"));
    let critical = "<span><i class=\"mark\"></i>critical path</span>";
    format!("<div class=\"legend\">{}{critical}</div>", kinds.concat())
}

/// Why it failed: the sentence, the lines of the Dockerfile, what the step wrote.
fn failure(details: &Details) -> String {
    let Some(error) = &details.error else {
        return String::new();
    };
    let mut html = format!(
        "<section class=\"error\">\n<h2>Failed</h2>\n<p class=\"mono\">{}</p>\n",
        escape(error)
    );
    if let Some(excerpt) = &details.excerpt {
        let lines = excerpt.lines().map(|line| escape(line) + "\n");
        html.push_str(&format!("<pre>{}</pre>\n", lines.collect::<String>()));
    }
    let failed = |step: &&solver::history::record::StepRecord| step.outcome == StepOutcome::Failed;
    for step in details.steps.iter().filter(failed) {
        html.push_str(&steps::end_of_log(step));
    }
    html.push_str("</section>\n");
    html
}

fn layers(details: &Details) -> String {
    let Some(largest) = details.layers.iter().map(|layer| layer.size).max() else {
        return String::new();
    };
    let row = |layer: &solver::history::record::LayerRecord| {
        let class = if layer.is_base { "s-beside" } else { "s-done" };
        let platform = match &layer.platform {
            Some(platform) => format!("{} ", escape(platform)),
            None => String::new(),
        };
        format!(
            "<div class=\"layer {class}\"><span class=\"right\">{}</span>\
             <span class=\"track\"><i style=\"width:{}\"></i></span>\
             <span class=\"mono\">{platform}{}</span>\
             <code title=\"{}\">{}</code></div>\n",
            size(layer.size),
            percent(layer.size, largest),
            escape(&made_by(layer)),
            escape(&layer.digest),
            escape(&short(&layer.digest)),
        )
    };
    let rows: String = details.layers.iter().map(row).collect();
    format!("<section>\n<h2>Layers</h2>\n{rows}</section>\n")
}

fn facts(build: &Summary, details: &Details) -> String {
    let asked = &build.asked;
    let facts = [
        ("Context", asked.context.clone().unwrap_or_default()),
        ("Dockerfile", asked.dockerfile.clone()),
        ("Target", asked.target.clone().unwrap_or_default()),
        ("Platforms", asked.platforms.join(", ")),
        ("Build arguments", asked.build_args.join(", ")),
        ("Named contexts", asked.named_contexts.join(", ")),
        ("Names", details.names.join(", ")),
        ("Image id", details.image_id.clone().unwrap_or_default()),
        ("Manifest", details.manifest.clone().unwrap_or_default()),
        ("Warnings", details.warnings.join("; ")),
    ];
    let shown = facts.iter().filter(|(_, value)| !value.is_empty());
    let rows = shown.map(|(title, value)| {
        format!(
            "<dt>{title}</dt><dd class=\"mono\">{}</dd>\n",
            escape(value)
        )
    });
    format!(
        "<section>\n<h2>What was asked for, what came out</h2>\n<dl>\n{}</dl>\n</section>\n",
        rows.collect::<String>()
    )
}

#[cfg(test)]
mod tests;
