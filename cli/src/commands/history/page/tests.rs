//! Pages of builds, also of hostile ones.

use solver::history::record::{Asked, LayerRecord, LogExcerpt, LogLine, PartRecord, StepRecord};

use super::*;

/// Breaks out of text, attributes, comments and scripts wherever it is not escaped.
const HOSTILE: &str = "\"'--></pre></title></script><script>alert(1)</script><img src=x onerror=y>\
    \u{1b}[2J&lt;";

fn hostile() -> BuildRecord {
    let text = || HOSTILE.to_owned();
    let step = StepRecord {
        digest: text(),
        name: text(),
        in_graph: true,
        inputs: vec![0, 7],
        started_us: Some(1),
        ended_us: Some(2_000_000),
        outcome: StepOutcome::Failed,
        error: Some(text()),
        parts: vec![PartRecord {
            id: text(),
            ..PartRecord::default()
        }],
        warnings: vec![text()],
        log: LogExcerpt {
            lines: vec![LogLine {
                text: text(),
                ..LogLine::default()
            }],
            ..LogExcerpt::default()
        },
    };
    let asked = Asked {
        context: Some(format!("/src/{HOSTILE}")),
        dockerfile: text(),
        target: Some(text()),
        platforms: vec![text()],
        build_args: vec![text()],
        named_contexts: vec![text()],
        tags: vec![text()],
    };
    let layer = LayerRecord {
        digest: text(),
        size: 1,
        created_by: text(),
        is_base: false,
        platform: Some(text()),
    };
    BuildRecord {
        summary: Summary {
            number: 3,
            duration_us: 2_000_000,
            status: Status::Error,
            asked,
            ..Summary::default()
        },
        details: Details {
            steps: vec![step],
            error: Some(text()),
            excerpt: Some(text()),
            warnings: vec![text()],
            image_id: Some(text()),
            manifest: Some(text()),
            names: vec![text()],
            layers: vec![layer],
            ..Details::default()
        },
    }
}

#[test]
fn nothing_that_a_build_says_is_markup() {
    let page = page(&hostile());
    assert_eq!(page.matches("<script").count(), 1, "only our own");
    assert_eq!(page.matches("</script").count(), 1);
    for forbidden in ["<img", "<script>alert", "\u{1b}", "&lt;&lt;", "\"'--"] {
        assert!(!page.contains(forbidden), "{forbidden:?} in {page}");
    }
    let told = "&lt;script&gt;alert(1)&lt;/script&gt;";
    assert!(
        page.matches(told).count() > 15,
        "it is shown as text everywhere"
    );
}

#[test]
fn a_page_needs_nothing_from_elsewhere_and_allows_only_its_own_script() {
    let page = page(&BuildRecord {
        summary: Summary::default(),
        details: Details::default(),
    });
    for forbidden in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    assert!(page.contains("default-src 'none'"));
    // `printf %s "$script" | openssl dgst -sha256 -binary | base64`, by another way.
    let script = page
        .split("<script>")
        .nth(1)
        .unwrap()
        .split("</script>")
        .next()
        .unwrap();
    let digest = STANDARD.encode(Digest::of(script.as_bytes()).as_bytes());
    assert!(page.contains(&format!("script-src 'sha256-{digest}'")));
}

#[test]
fn a_page_is_never_written_over_or_through_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("target");
    std::os::unix::fs::symlink(&target, directory.path().join("varve-build-3.html")).unwrap();
    let first = write_new(directory.path(), 3, "one").unwrap();
    let second = write_new(directory.path(), 3, "two").unwrap();
    assert!(first.ends_with("varve-build-3-1.html") && second.ends_with("varve-build-3-2.html"));
    assert_eq!(std::fs::read_to_string(first).unwrap(), "one");
    assert!(!target.exists());
}
