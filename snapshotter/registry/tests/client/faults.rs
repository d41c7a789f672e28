//! Two hundred pulls and a hundred pushes through a proxy that breaks what passes: each is right,
//! or an error that says what happened.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use registry::{Client, Error, Limits, UploadOptions};

use crate::support::docker_registry::DockerRegistry;
use crate::support::faulty_proxy::FaultyProxy;
use crate::support::image::Image;
use crate::support::{builder, quick, repository, tag};

/// Change it to see other faults; a failure names it.
const SEED: u64 = 20_261_121;

const PULLS: u64 = 200;
const PUSHES: u64 = 40;
const AT_ONCE: usize = 16;

fn impatient() -> Client {
    let limits = Limits {
        stall_timeout: Duration::from_millis(400),
        attempts_max: 4,
        ..quick()
    };
    builder().limits(limits).build()
}

/// The error is one that a person can read, about this repository.
fn assert_clear(error: &Error, address: &str) -> &'static str {
    let text = error.to_string();
    assert!(text.contains("team/app"), "{text}");
    assert!(text.contains(address), "{text}");
    assert!(!text.contains(char::is_control), "{text:?}");
    match error {
        Error::DigestMismatch { .. } => "other bytes",
        Error::SizeMismatch { .. } => "another size",
        Error::Truncated { .. } => "cut off",
        Error::Hang { .. } => "hang",
        Error::RateLimited { .. } => "rate limit",
        Error::Server { .. } => "server",
        Error::Connection { .. } => "connection",
        Error::NotAManifest { .. } => "no manifest",
        Error::Protocol { .. } => "protocol",
        Error::Refused { .. } => "refused",
        other => panic!("an unexpected error: {other:?}"),
    }
}

fn count(results: &[Result<(), &'static str>]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for result in results {
        *counts.entry(result.err().unwrap_or("right")).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_faulty_pulls_are_right_or_clear_errors() {
    let server = DockerRegistry::start();
    let image = Image::new(50);
    let direct = repository(&server.address, "team/app");
    image
        .push(
            &builder().build(),
            &direct,
            &tag("v"),
            &UploadOptions::default(),
        )
        .await
        .unwrap();
    // From now and then to every second exchange.
    let mut results = Vec::new();
    let mut faults = BTreeMap::new();
    for (round, share) in [0.1, 0.3, 0.5, 0.7].into_iter().enumerate() {
        let proxy = FaultyProxy::start(&server.address, SEED + round as u64, share).await;
        let place = repository(&proxy.address, "team/app");
        let (image, place, address) = (&image, &place, &proxy.address);
        let pulls = stream::iter(0..PULLS / 4).map(async |_| {
            // Each with its own connections and memory.
            let pulled = image.pull(&impatient(), place, &tag("v")).await;
            pulled.map_err(|error| assert_clear(&error, address))
        });
        results.extend(pulls.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await);
        for fault in proxy.done() {
            *faults.entry(fault).or_insert(0) += 1;
        }
    }
    let counts = count(&results);
    println!("seed {SEED}: {counts:?} under {faults:?}");
    assert_eq!(results.len() as u64, PULLS);
    assert_eq!(faults.len(), 9, "every fault has been there: {faults:?}");
    // Most faults are overcome; only wrong bytes and bad luck are not.
    assert!(counts["right"] >= 40, "seed {SEED}: {counts:?}");
    assert!(
        counts.contains_key("other bytes"),
        "seed {SEED}: {counts:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faulty_pushes_leave_whole_images_or_clear_errors() {
    let server = DockerRegistry::start();
    let proxy = FaultyProxy::start(&server.address, SEED, 0.2).await;
    let (address, direct) = (&proxy.address, &server.address);
    let pushes = stream::iter(0..PUSHES).map(async |number| {
        let image = Image::new(1_000 + number);
        let name = format!("team/app{number}");
        let options = UploadOptions {
            chunk_bytes: (number % 2 == 0).then_some(50_000),
            ..UploadOptions::default()
        };
        let place = repository(address, &name);
        let pushed = image.push(&impatient(), &place, &tag("v"), &options).await;
        let pushed = pushed.map_err(|error| assert_clear(&error, address));
        if pushed.is_ok() {
            let place = repository(direct, &name);
            image
                .pull(&builder().build(), &place, &tag("v"))
                .await
                .unwrap();
        }
        pushed.map(|_| ())
    });
    let results: Vec<_> = pushes.buffer_unordered(AT_ONCE).collect().await;
    let counts = count(&results);
    println!("seed {SEED}: {counts:?}");
    assert!(
        counts["right"] >= PUSHES as usize / 4,
        "seed {SEED}: {counts:?}"
    );
}
