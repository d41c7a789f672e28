//! Registries that break off, refuse for a while, hang, or send something else.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::fake_server::{End, Fake, Response};
use support::faulty_proxy::{Fault, FaultyProxy};
use support::registry::Registry;
use support::workspace::{Outcome, Running, Varve, run};
use tokio::runtime::Runtime;

use super::interrupted::{BEGINNING, behind_relay, put_large};

/// Change it to see other faults; a failure names it.
const SEED: u64 = 20_261_121;

/// Pulls through the proxy, and how many at a time.
const PULLS: usize = 24;
const AT_ONCE: usize = 6;

/// Of which so many exchanges break.
const SHARES: [f64; 2] = [0.15, 0.4];

/// The command with little patience: a second of silence, so many attempts.
fn impatient(varve: &Varve, attempts: u32, arguments: &[&str]) -> Outcome {
    let text = format!("registryTimeout = \"1s\"\nregistryAttempts = {attempts}\n");
    let file = varve.write(format!("patience-{attempts}.toml"), text);
    run(varve.command(arguments).env("VARVE_CONFIG", file))
}

/// That a root has no image, nothing damaged, and no file of the network.
#[track_caller]
fn has_nothing(varve: &Varve, root: &str) {
    let listed = varve.varve(["--root", root, "images", "-q"]).success();
    assert_eq!(listed.stdout, "", "{listed}");
    let checked = varve.varve(["--root", root, "fsck"]).success();
    let said = format!("{}{}", checked.stdout, checked.stderr);
    assert!(!said.contains("DAMAGED"), "{checked}");
    varve
        .varve(["--root", root, "prune", "--all", "--force"])
        .succeeded();
    // A file of what was pulled would be of some hundred KB.
    let left = files_of(&varve.path(root), 100_000, "db");
    assert!(left.is_empty(), "{left:?}");
}

/// Files of more than so many bytes below a directory, except those of its directory `without`.
fn files_of(directory: &Path, bytes: u64, without: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = vec![directory.to_owned()];
    while let Some(path) = rest.pop() {
        for entry in fs::read_dir(path).unwrap().flatten() {
            let about = entry.metadata().unwrap();
            if about.is_dir() && entry.file_name() != without {
                rest.push(entry.path());
            } else if about.is_file() && about.len() > bytes {
                found.push(entry.path().display().to_string());
            }
        }
    }
    found
}

#[test]
fn pulls_through_a_faulty_proxy_are_whole_or_clear_errors_and_leave_nothing() {
    let varve = Varve::new();
    let registry = Registry::start(&varve.path("registry"));
    put_large(&varve, &registry);
    let runtime = Runtime::new().unwrap();
    let proxies: Vec<_> = SHARES
        .iter()
        .map(|share| runtime.block_on(FaultyProxy::start(registry.address(), SEED, *share)))
        .collect();
    let (next, whole) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= PULLS {
                        return;
                    }
                    let address = &proxies[number % proxies.len()].address;
                    if one_faulty_pull(&varve, address, number) {
                        whole.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let whole = whole.into_inner();
    let faults = proxies.iter().flat_map(FaultyProxy::done);
    let faults = faults.filter(|fault| *fault != Fault::None).count();
    println!("seed {SEED}: {whole} of {PULLS} pulls are whole, with {faults} faults");
    // Most is overcome; the rest is wrong bytes twice, and bad luck.
    assert!(whole >= PULLS / 3, "seed {SEED}: {whole} of {PULLS}");
    assert!(faults >= PULLS, "seed {SEED}: {faults} faults");
}

/// Pulls into a new root; whether that succeeded.
fn one_faulty_pull(varve: &Varve, address: &str, number: usize) -> bool {
    let (root, name) = (format!("root-{number}"), format!("{address}/large:latest"));
    let arguments = ["--root", &root, "pull", "--progress=plain", &name];
    let pulled = impatient(varve, 5, &arguments);
    let is_whole = pulled.code == 0;
    if is_whole {
        let script = "cat /noise-* | sha256sum";
        let run = ["run", "--entrypoint", "/bin/sh", &name, "-c", script];
        let ran = varve
            .varve([&["--root", &*root], &run[..]].concat())
            .success();
        assert_eq!(
            ran.stdout,
            super::interrupted::large_digest(),
            "seed {SEED}: {pulled}"
        );
        varve.varve(["--root", &root, "fsck"]).succeeded();
    } else {
        let words = [&*format!("{address}/large"), "ERROR: ", ";"];
        pulled.refused_with(1, &words);
        has_nothing(varve, &root);
    }
    fs::remove_dir_all(varve.path(&root)).unwrap();
    is_whole
}

#[test]
fn a_registry_that_never_answers_is_given_up_and_it_is_told_meanwhile() {
    let varve = Varve::new();
    let runtime = Runtime::new().unwrap();
    let silent = |_: &_| Response::new(200, "").end(End::Silence);
    let fake = runtime.block_on(Fake::start(silent));
    let name = format!("{}/team/app:v1", fake.address);
    varve.dockerfile(&format!("FROM {name}\nRUN true\n"));
    let (line, hang) = (
        format!(">>> FROM {name}"),
        "hangs: not a byte for 1 s, after 2 attempts",
    );
    for (arguments, more) in [
        (&["pull", "--progress=plain", &name][..], ""),
        (&["build", "--progress=plain", "context"], &line),
    ] {
        let began = Instant::now();
        let refused = impatient(&varve, 2, arguments);
        assert!(began.elapsed() < Duration::from_secs(60), "{refused}");
        let told = format!("(2/2): {name}: not a byte from {} for 1 s", fake.address);
        refused.refused_with(
            1,
            &[
                &name,
                hang,
                &told,
                "trying again in",
                "try again later",
                more,
            ],
        );
    }
    has_nothing(&varve, "root");
}

#[test]
fn a_layer_that_stops_midway_is_asked_for_again_and_then_given_up() {
    let varve = Varve::new();
    let (_registry, relay, reference) = behind_relay(&varve);
    relay.hold_after(2 * BEGINNING);
    let arguments = ["pull", "--progress=plain", &reference];
    let refused = impatient(&varve, 2, &arguments);
    let (host, repository) = (relay.address(), format!("{}/large", relay.address()));
    let words = [
        host,
        &repository,
        "hangs",
        "after 2 attempts",
        "trying again in",
    ];
    refused.refused_with(1, &words);
    has_nothing(&varve, "root");
    relay.release();
    // It comes back in time.
    relay.hold_after(2 * BEGINNING);
    let file = varve.write(
        "patience.toml",
        "registryTimeout = 1\nregistryAttempts = 20\n",
    );
    let running = Running::start(varve.command(arguments).env("VARVE_CONFIG", file));
    relay.wait_until_held();
    thread::sleep(Duration::from_secs(3));
    relay.release();
    let pulled = running.wait().success();
    assert!(pulled.stderr.contains("not a byte from"), "{pulled}");
}

#[test]
fn a_layer_of_other_bytes_is_asked_for_once_more_and_then_refused() {
    let varve = Varve::new();
    let (registry, reference) = super::registry(&varve);
    let layer = registry.layers("app")[0].clone();
    let file = registry.blob_file(&layer);
    let whole = fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(&file, &damaged).unwrap();
    varve.dockerfile(&format!("FROM {reference}\nRUN true\n"));
    for arguments in [
        &["pull", "--progress=plain", &reference][..],
        &["build", "--progress=plain", "context"],
    ] {
        let before = registry.requests().len();
        let refused = varve.varve(arguments);
        let (name, host) = (reference.replace(":latest", ""), registry.address());
        let words = [
            &*layer,
            &name,
            host,
            "sent other bytes",
            "once more",
            "pull again",
        ];
        let refused = refused.code(1);
        for word in words {
            let text = refused.stderr.to_lowercase();
            assert!(text.contains(word), "{word:?} in {refused}");
        }
        let asked = registry.requests().split_off(before);
        let asked = asked.iter().filter(|line| line.ends_with(&layer)).count();
        assert_eq!(asked, 2, "{refused}");
        has_nothing(&varve, "root");
    }
    // A shorter file has another length than the manifest says.
    fs::write(&file, &whole[..whole.len() / 3]).unwrap();
    let refused = varve.varve(["pull", &reference]);
    let sizes = format!(
        "sends {} bytes, expected are {}",
        whole.len() / 3,
        whole.len()
    );
    refused.refused_with(1, &[&layer, registry.address(), &sizes, "push it again"]);
    has_nothing(&varve, "root");
    fs::remove_file(&file).unwrap();
    let refused = varve.varve(["pull", &reference]);
    refused.refused_with(1, &[&layer, registry.address(), "incomplete"]);
    has_nothing(&varve, "root");
    fs::write(&file, &whole).unwrap();
    varve.varve(["pull", &reference]).succeeded();
}

#[test]
fn a_manifest_of_other_bytes_is_asked_for_once_more_and_then_refused() {
    let varve = Varve::new();
    let runtime = Runtime::new().unwrap();
    let promised = format!("sha256:{}", "0".repeat(64));
    let answer = move |_: &_| {
        let body = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        Response::new(200, body)
            .header("content-type", media_type)
            .header("docker-content-digest", &promised)
    };
    let fake = runtime.block_on(Fake::start(answer));
    let name = format!("{}/app:v1", fake.address);
    let refused = varve.varve(["pull", "--progress=plain", &name]);
    let words = [
        &*fake.address,
        "/app@sha256:0000",
        "sent other bytes",
        "once more",
    ];
    refused.refused_with(1, &words);
    assert_eq!(fake.count("GET "), 2);
    has_nothing(&varve, "root");
}

#[test]
fn a_registry_that_wants_fewer_requests_is_asked_later() {
    let varve = Varve::new();
    let runtime = Runtime::new().unwrap();
    let limited = |_: &_| {
        let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;
        Response::new(429, body).header("retry-after", 1)
    };
    let fake = runtime.block_on(Fake::start(limited));
    let name = format!("{}/app:v1", fake.address);
    let refused = impatient(&varve, 3, &["pull", "--progress=plain", &name]);
    let login = format!("varve login {}", fake.address);
    let words = [
        "too many requests",
        "after 3 attempts",
        &login,
        "trying again in 1.0s",
    ];
    refused.refused_with(1, &[&[&*name], &words[..]].concat());
    let broken = |_: &_| Response::new(503, "maintenance");
    let fake = runtime.block_on(Fake::start(broken));
    let name = format!("{}/app:v1", fake.address);
    varve.dockerfile("FROM busybox\nRUN true\n");
    varve.build(["-t", &name]).succeeded();
    let refused = impatient(&varve, 3, &["push", "--progress=plain", &name]);
    let words = ["503", "after 3 attempts", "try again later", "(3/3)"];
    refused.refused_with(1, &[&[&*fake.address], &words[..]].concat());
}
