//! `varve fsck`: verifies the store, and repairs it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use snapshotter::{repair, restore};
use solver::exporters::damage::{self, Damaged};
use solver::frontend::familiar_tagged;
use solver::images::Images;
use store::Store;
use store::fsck::{self, Broken, Finding, Options, Progress, Report};

use crate::args;
use crate::caller::Caller;
use crate::daemon::Site;
use crate::error::{EXIT_FAILED, Told, print};
use crate::output::size;

/// Where containerd keeps the layers of images, as it comes.
const CONTAINERD_CONTENT: &str = "/var/lib/containerd/io.containerd.content.v1.content/blobs";

/// Findings of one kind that are printed one by one; a lost disk block can hit thousands.
const FINDINGS_SHOWN: usize = 20;

/// Time between two reports of progress on a terminal.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Checks, and repairs if asked to.
///
/// # Errors
/// [`Told`] with exit code 1 if something is damaged and was not repaired; those of the database.
pub(super) fn fsck(site: &Site, options: &args::Fsck) -> anyhow::Result<()> {
    let started = Instant::now();
    let progress = ProgressLine::new();
    let show = |step: Progress| progress.show(step);
    let thorough = Options {
        quick: options.quick,
        progress: &show,
    };
    if !options.repair {
        let store = site.open_store()?;
        let report = fsck::check(&store, &thorough)?;
        drop(store);
        progress.clear();
        let images = damaged_images(&Images::new(site.open_snapshots()?))?;
        print(&images)?;
        print(&text(&report, started.elapsed(), options.quick))?;
        return match is_damaged(&report) {
            false if images.is_empty() => Ok(()),
            // The store has what it says it has.
            false => Err(Told { code: EXIT_FAILED }.into()),
            true => {
                print("run `varve fsck --repair` to take it out; the next build makes it again\n")?;
                Err(Told { code: EXIT_FAILED }.into())
            }
        };
    }
    let snapshots = site.open_snapshots()?;
    let checked = fsck::check(snapshots.store(), &thorough)?;
    let restored = restore_from(&sources(options), snapshots.store(), &checked.broken)?;
    let again = Options {
        // What was read and found sound a moment ago need not be read again.
        quick: options.quick || checked.broken == Broken::default(),
        progress: &show,
    };
    let mut repaired = repair::repair(&snapshots, &again)?;
    repaired.report.bytes_read = repaired.report.bytes_read.max(checked.bytes_read);
    progress.clear();
    print(&text(&repaired.report, started.elapsed(), options.quick))?;
    let mut done = restored;
    let lost = &repaired.snapshots;
    for snapshot in lost.iter().take(FINDINGS_SHOWN) {
        done.push_str(&format!("gave up snapshot {snapshot}\n"));
    }
    if lost.len() > FINDINGS_SHOWN {
        done.push_str(&format!(
            "… and {} more snapshots\n",
            lost.len() - FINDINGS_SHOWN
        ));
    }
    if !repaired.report.is_clean() {
        done.push_str(
            "repaired: what is still damaged is gone, and made again when it is needed\n",
        );
    }
    done.push_str(&damaged_images(&Images::new(snapshots))?);
    print(&done)
}

/// What to say about images of which something is lost.
fn damaged_images(images: &Images) -> anyhow::Result<String> {
    let mut text = String::new();
    for Damaged { name, lost } in damage::damaged(images)? {
        let name = familiar_tagged(&name);
        text.push_str(&format!(
            "image {name}: {lost} of it is lost: build, pull or load it again, or take its name \
             away with `varve rmi {name}`\n"
        ));
    }
    Ok(text)
}

/// Where copies may be: what was named, and what containerd keeps of images.
fn sources(options: &args::Fsck) -> Vec<PathBuf> {
    let content = PathBuf::from(CONTAINERD_CONTENT);
    let content = Some(content).filter(|path| path.is_dir());
    options.source.iter().cloned().chain(content).collect()
}

/// Brings back what other copies have; what to say about it.
fn restore_from(sources: &[PathBuf], store: &Store, broken: &Broken) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut broken = broken.clone();
    for source in sources {
        if broken.blobs.is_empty() {
            break;
        }
        let count = restore::restore(store, &mut broken, source)?;
        if count > 0 {
            let source = source.display();
            text.push_str(&format!("brought back {count} files from {source}\n"));
        }
    }
    Ok(text)
}

/// Strays are untidy, not damaged: a killed varve leaves them, and `varve prune` takes them.
fn is_damaged(report: &Report) -> bool {
    report
        .findings
        .iter()
        .any(|finding| !matches!(finding, Finding::Stray { .. }))
}

fn text(report: &Report, took: Duration, is_quick: bool) -> String {
    let mut text = String::new();
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for finding in &report.findings {
        let count = left.entry(kind(finding)).or_default();
        *count += 1;
        if *count <= FINDINGS_SHOWN {
            text.push_str(&format!("{finding}\n"));
        }
    }
    for (kind, count) in left {
        if count > FINDINGS_SHOWN {
            text.push_str(&format!("… and {} more: {kind}\n", count - FINDINGS_SHOWN));
        }
    }
    let read = if is_quick {
        "their lengths compared".to_owned()
    } else {
        format!("{} read", size(report.bytes_read))
    };
    let verdict = match (is_damaged(report), report.is_clean()) {
        (true, _) => "DAMAGED",
        (false, false) => "sound, but untidy",
        (false, true) => "sound",
    };
    text.push_str(&format!(
        "{verdict}: {} directories and {} files, {read}, in {:.1}s\n",
        report.trees,
        report.blobs,
        took.as_secs_f64(),
    ));
    text
}

fn kind(finding: &Finding) -> &'static str {
    match finding {
        Finding::KeyInvalid { .. } => "keys that are no ids",
        Finding::TreeDamaged { .. } => "damaged trees",
        Finding::ChildMissing { .. } => "missing directories",
        Finding::ChildDiffers { .. } => "directories summed up wrongly",
        Finding::BlobUnknown { .. } => "missing contents",
        Finding::SizeDiffers { .. } => "wrong lengths",
        Finding::BlobRowDamaged { .. } => "damaged rows of blobs",
        Finding::ObjectMissing { .. } => "missing objects",
        Finding::ObjectCorrupt { .. } => "corrupt objects",
        Finding::Stray { .. } => "files that belong to nothing",
    }
}

/// One line on a terminal that says how far the check is.
struct ProgressLine {
    /// Whoever checks does so on many threads.
    caller: Arc<Caller>,
    is_terminal: bool,
    shown: Mutex<Option<Instant>>,
}

impl ProgressLine {
    fn new() -> Self {
        let caller = Caller::current();
        ProgressLine {
            is_terminal: caller.stderr().is_terminal(),
            caller,
            shown: Mutex::default(),
        }
    }

    /// Called from several threads, for every row and file: whoever finds it busy goes on.
    fn show(&self, progress: Progress) {
        if !self.is_terminal {
            return;
        }
        let Ok(mut shown) = self.shown.try_lock() else {
            return;
        };
        if shown.is_some_and(|at| at.elapsed() < PROGRESS_INTERVAL) {
            return;
        }
        *shown = Some(Instant::now());
        let text = match progress {
            Progress::Blobs { done, total } => {
                format!("reading files: {} of {}", size(done), size(total))
            }
            Progress::Trees { done } => format!("reading directories: {done}"),
        };
        self.write(&format!("\r\x1b[2K{text}"));
    }

    fn clear(&self) {
        if self.is_terminal {
            self.write("\r\x1b[2K");
        }
    }

    fn write(&self, text: &str) {
        if let Err(error) = self.caller.stderr().write_all(text.as_bytes()) {
            tracing::debug!(%error, "cannot show progress");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(findings: Vec<Finding>) -> Report {
        Report {
            findings,
            trees: 2,
            blobs: 3,
            bytes_read: 1_000,
            ..Report::default()
        }
    }

    #[test]
    fn a_sound_store_is_told_in_one_line() {
        let told = text(&report(vec![]), Duration::from_millis(1_240), false);
        assert_eq!(
            told,
            "sound: 2 directories and 3 files, 1.00kB read, in 1.2s\n"
        );
        let told = text(&report(vec![]), Duration::ZERO, true);
        assert!(told.contains("their lengths compared"), "{told}");
    }

    #[test]
    fn strays_are_no_damage() {
        let report = report(vec![Finding::Stray {
            path: "/r/objects/x".into(),
        }]);
        assert!(!is_damaged(&report));
        let told = text(&report, Duration::ZERO, false);
        assert!(
            told.starts_with("/r/objects/x belongs to nothing\nsound, but untidy"),
            "{told}"
        );
    }

    #[test]
    fn of_many_findings_the_first_are_told_and_the_others_counted() {
        let blob = |n: u8| store::BlobId::from_bytes([n; 32]);
        let findings = (0..100)
            .map(|n| Finding::ObjectMissing { blob: blob(n) })
            .collect();
        let report = report(findings);
        assert!(is_damaged(&report));
        let told = text(&report, Duration::ZERO, false);
        assert_eq!(told.matches(" is missing\n").count(), FINDINGS_SHOWN);
        assert!(
            told.contains("… and 80 more: missing objects\nDAMAGED"),
            "{told}"
        );
    }
}
