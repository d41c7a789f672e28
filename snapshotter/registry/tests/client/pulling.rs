//! What comes from a registry that works, and from one that lies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use registry::{Digest, Error, ManifestReference, MediaType, UploadOptions};
use tokio::io::AsyncReadExt as _;

use crate::support::docker_registry::DockerRegistry;
use crate::support::fake_server::{End, Fake, Response};
use crate::support::image::{Image, noise};
use crate::support::{Notes, assert_says, builder, client, impatient, repository, tag};

const INDEX: &str = r#"{"schemaVersion":2,"manifests":[]}"#;

#[tokio::test]
async fn an_image_comes_back_as_it_was_pushed() {
    let server = DockerRegistry::start();
    let repository = repository(&server.address, "team/app");
    let (client, image) = (client(), Image::new(10));
    image
        .push(&client, &repository, &tag("v1"), &UploadOptions::default())
        .await
        .unwrap();
    image.pull(&client, &repository, &tag("v1")).await.unwrap();

    let digest = Digest::sha256(&image.manifest);
    let resolved = client.resolve(&repository, &tag("v1")).await.unwrap();
    assert_eq!(resolved.digest, digest);
    assert_eq!(resolved.media_type, MediaType::OciManifest);
    assert_eq!(resolved.size, Some(image.manifest.len() as u64));
    image
        .pull(&client, &repository, &ManifestReference::Digest(digest))
        .await
        .unwrap();

    let (digest, bytes) = &image.blobs[4];
    let mut reader = client.blob(&repository, digest, None).await.unwrap();
    assert_eq!(reader.size(), Some(bytes.len() as u64));
    let mut read = Vec::new();
    reader.read_to_end(&mut read).await.unwrap();
    assert!(read == *bytes);
    let whole = client.blob_bytes(&repository, digest, None, 1 << 20).await;
    assert!(whole.unwrap() == *bytes);
    let limited = client.blob_bytes(&repository, digest, None, 1000).await;
    assert_says(limited, &["more than the 1000 bytes", &digest.to_string()]);

    let ranges = client.range_reader(&repository, digest);
    for (offset, length) in [(0, 1), (1000, 5000), (299_999, 1), (7, 0)] {
        let part = ranges.read(offset, length).await.unwrap();
        assert!(part == bytes[offset as usize..][..length as usize]);
    }
    assert_says(ranges.read(299_999, 2).await, &["expected are 2"]);
    assert_says(ranges.read(400_000, 1).await, &["expected are 1"]);
    assert_says(ranges.read(0, u64::MAX).await, &["more than"]);
}

#[tokio::test]
async fn what_does_not_exist_is_said_with_its_name() {
    let server = DockerRegistry::start();
    let there = repository(&server.address, "team/app");
    let client = client();
    Image::new(11)
        .push(&client, &there, &tag("v1"), &UploadOptions::default())
        .await
        .unwrap();
    let host = &server.address;
    let missing = client.manifest(&there, &tag("v2")).await;
    let subject = format!("{host}/team/app:v2 does not exist");
    assert_says(
        missing,
        &[&subject, "404", "MANIFEST_UNKNOWN", "spelling of the tag"],
    );
    let missing = client.resolve(&there, &tag("v2")).await;
    assert!(missing.as_ref().unwrap_err().is_not_found());
    assert_says(missing, &[&subject, "MANIFEST_UNKNOWN"]);
    let nowhere = repository(host, "nobody/nothing");
    let missing = client.manifest(&nowhere, &tag("v1")).await;
    assert_says(missing, &["nobody/nothing"]);
    let digest = Digest::sha256(b"nobody has this");
    let missing = client.blob(&there, &digest, None).await;
    assert_says(
        missing,
        &[&digest.to_string(), host, "BLOB_UNKNOWN", "push it again"],
    );
}

#[tokio::test]
async fn resolve_asks_by_head_and_falls_back_to_get() {
    let digest = Digest::sha256(INDEX.as_bytes());
    let check = async |head: Response, gets: usize| {
        let fake = Fake::start(move |request| match request.method.as_str() {
            "HEAD" => head.clone(),
            _ => Response::new(200, INDEX),
        })
        .await;
        let repository = repository(&fake.address, "a");
        let resolved = client().resolve(&repository, &tag("v")).await.unwrap();
        assert_eq!(
            (resolved.digest, resolved.media_type),
            (digest, MediaType::OciIndex)
        );
        assert_eq!(fake.count("GET"), gets);
    };
    let typed = || Response::new(200, "").header("content-type", MediaType::OciIndex);
    check(typed().header("docker-content-digest", digest), 0).await;
    check(typed(), 1).await;
    check(
        Response::new(200, "").header("docker-content-digest", digest),
        1,
    )
    .await;
    check(Response::new(405, ""), 1).await;
    check(Response::new(404, ""), 1).await;
}

#[tokio::test]
async fn manifests_that_are_not_what_they_should_be_are_refused() {
    let check = async |response: Response, reference: ManifestReference, parts: &[&str]| {
        let fake = Fake::start(move |_| response.clone()).await;
        let repository = repository(&fake.address, "team/app");
        let result = client().manifest(&repository, &reference).await;
        assert_says(result, &[parts, &["team/app", &fake.address]].concat());
    };
    let other = Digest::sha256(b"other");
    let promised = Response::new(200, INDEX).header("docker-content-digest", other);
    check(
        promised.clone(),
        tag("v"),
        &["sent other bytes", &other.to_string()],
    )
    .await;
    check(
        promised,
        other.into(),
        &["sent other bytes", &other.to_string()],
    )
    .await;
    let sha512 = Digest::sha512(b"other");
    check(
        Response::new(200, INDEX),
        sha512.into(),
        &["sent other bytes", "sha512:"],
    )
    .await;
    let nonsense = Response::new(200, INDEX).header("docker-content-digest", "sha256:x");
    check(nonsense, tag("v"), &["\"sha256:x\" is no digest"]).await;
    let large = Response::new(200, " ".repeat(5 << 20));
    check(large.clone(), tag("v"), &["more than the 4194304 bytes"]).await;
    check(
        large.end(End::Chunked),
        tag("v"),
        &["more than the 4194304 bytes"],
    )
    .await;
    check(
        Response::new(200, r#"{"schemaVersion":1}"#),
        tag("v"),
        &["schema version 1"],
    )
    .await;
    check(
        Response::new(200, "<html>"),
        tag("v"),
        &["is no image manifest"],
    )
    .await;
    let escape = Response::new(418, "\x1b[2J\x1b]0;owned\x07");
    check(escape, tag("v"), &["418: [2J ]0;owned"]).await;
    let elsewhere = Response::new(302, "").header("location", "file:///etc/passwd");
    check(elsewhere, tag("v"), &["a redirect without an address"]).await;
    let circle = Response::new(307, "").header("location", "/again");
    check(circle, tag("v"), &["more than 10 redirects"]).await;
}

#[tokio::test]
async fn unknown_digest_algorithms_in_headers_say_nothing() {
    let fake =
        Fake::start(|_| Response::new(200, INDEX).header("docker-content-digest", "blake3:abc"))
            .await;
    let manifest = client()
        .manifest(&repository(&fake.address, "a"), &tag("v"))
        .await;
    assert_eq!(manifest.unwrap().digest, Digest::sha256(INDEX.as_bytes()));
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_ended() {
    let bytes = noise(12, 100_000);
    let digest = Digest::sha256(&bytes);
    // How the server continues: by range, by starting again, by starting a little earlier.
    for way in ["range", "whole", "earlier"] {
        let (content, asked) = (bytes.clone(), AtomicUsize::new(0));
        let fake = Fake::start(move |request| {
            let attempt = asked.fetch_add(1, Ordering::SeqCst);
            let start = request
                .header("range")
                .and_then(|range| {
                    range
                        .strip_prefix("bytes=")?
                        .strip_suffix('-')?
                        .parse()
                        .ok()
                })
                .unwrap_or(0_usize);
            let start = match way {
                "whole" => 0,
                "earlier" => start.saturating_sub(100),
                _ => start,
            };
            let rest = content[start..].to_vec();
            let end = match attempt {
                0..5 => End::CutAfter(if way == "whole" {
                    attempt * 9_000
                } else {
                    9_000
                }),
                5 => End::HangAfter(50_000),
                _ => End::Whole,
            };
            if start == 0 {
                return Response::new(200, rest).end(end);
            }
            let last = content.len() - 1;
            Response::new(206, rest)
                .header(
                    "content-range",
                    format!("bytes {start}-{last}/{}", last + 1),
                )
                .end(end)
        })
        .await;
        let notes = Notes::new();
        let client = builder()
            .limits(impatient())
            .observer(notes.clone())
            .build();
        let repository = repository(&fake.address, "a");
        let mut blob = client
            .blob(&repository, &digest, Some(100_000))
            .await
            .unwrap();
        let mut found = Vec::new();
        blob.read_to_end(&mut found).await.unwrap();
        assert!(found == bytes, "{way}");
        let lines = notes.lines();
        assert!(lines.len() >= 5, "{way}: {lines:?}");
        assert!(
            lines.iter().any(|line| line.contains("is cut off")),
            "{lines:?}"
        );
        assert!(lines.iter().any(|line| line.contains("hangs")), "{lines:?}");
    }
}

#[tokio::test]
async fn wrong_bytes_and_sizes_never_reach_the_end() {
    let bytes = noise(13, 10_000);
    let mut wrong = bytes.to_vec();
    wrong[9_999] ^= 1;
    let check = async |response: Response, size: Option<u64>, digest: Digest, parts: &[&str]| {
        let fake = Fake::start(move |_| response.clone()).await;
        let repository = repository(&fake.address, "team/app");
        let client = client();
        let result = async {
            let mut blob = client.blob(&repository, &digest, size).await?;
            let mut found = Vec::new();
            while let Some(chunk) = blob.chunk().await? {
                found.extend_from_slice(&chunk);
            }
            Ok::<_, Error>(found)
        };
        let digest = digest.to_string();
        let common = ["team/app", fake.address.as_str(), digest.as_str()];
        assert_says(result.await, &[parts, &common].concat());
    };
    let digest = Digest::sha256(&bytes);
    let size = Some(10_000);
    let whole = || Response::new(200, bytes.clone());
    check(
        Response::new(200, wrong.clone()),
        size,
        digest,
        &["sent other bytes"],
    )
    .await;
    check(
        Response::new(200, wrong).end(End::Chunked),
        None,
        digest,
        &["sent other bytes"],
    )
    .await;
    check(whole(), size, Digest::sha512(b"x"), &["sent other bytes"]).await;
    check(
        whole(),
        Some(9_999),
        digest,
        &["sends 10000 bytes, expected are 9999"],
    )
    .await;
    let chunked = whole().end(End::Chunked);
    check(chunked.clone(), Some(9_999), digest, &["expected are 9999"]).await;
    check(
        chunked,
        Some(10_001),
        digest,
        &["is cut off", "10000 of 10001 bytes"],
    )
    .await;
    let empty = Response::new(200, "");
    check(
        empty.clone().end(End::Chunked),
        None,
        digest,
        &["sent other bytes"],
    )
    .await;
    let cut = whole().end(End::CutAfter(0));
    check(cut, size, digest, &["0 of 10000 bytes", "after 5 attempts"]).await;
    let ranged = Response::new(206, bytes.clone());
    check(ranged.clone(), size, digest, &["without its range"]).await;
    let late = ranged.header("content-range", "bytes 5-9999/10000");
    check(late, size, digest, &["begins behind"]).await;
}

#[tokio::test]
async fn an_error_of_a_reader_can_be_had_back() {
    let fake = Fake::start(|_| Response::new(200, "wrong")).await;
    let repository = repository(&fake.address, "a");
    let digest = Digest::sha256(b"right");
    let mut blob = client().blob(&repository, &digest, Some(5)).await.unwrap();
    let error = blob.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert!(matches!(
        Error::of_io(&error),
        Some(Error::DigestMismatch { .. })
    ));
}

#[tokio::test]
async fn secrets_do_not_follow_a_redirect_to_another_host() {
    let bytes = noise(14, 5_000);
    let (digest, content) = (Digest::sha256(&bytes), bytes.clone());
    let storage = Fake::start(move |request| match request.header("range") {
        Some("bytes=10-19") => {
            Response::new(206, &content[10..20]).header("content-range", "bytes 10-19/5000")
        }
        _ => Response::new(200, content.clone()),
    })
    .await;
    let address = storage.address.clone();
    let registry = Fake::start(move |request| {
        if request.header("authorization") != Some("Basic bWU6c2VjcmV0") {
            return Response::new(401, "").header("www-authenticate", "Basic realm=x");
        }
        assert_eq!(request.header("x-own"), Some("secret"));
        Response::new(307, "").header("location", format!("http://{address}/x?signed=1"))
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join(&registry.address);
    std::fs::create_dir(&place).unwrap();
    std::fs::write(place.join("hosts.toml"), "header = { x-own = \"secret\" }").unwrap();
    let config = format!(
        r#"{{"auths":{{"{}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#,
        registry.address
    );
    let credentials = registry::DockerConfig::parse(config.as_bytes(), "c").unwrap();
    let client = builder()
        .credentials(Arc::new(credentials))
        .hosts(registry::Hosts {
            certs_directories: vec![directory.path().to_owned()],
            ..registry::Hosts::default()
        })
        .build();
    let repository = repository(&registry.address, "a");
    let whole = client.blob_bytes(&repository, &digest, None, 10_000).await;
    assert!(whole.unwrap() == bytes);
    let reader = client.range_reader(&repository, &digest);
    let before = registry.seen().len();
    for _ in 0..3 {
        assert!(reader.read(10, 10).await.unwrap() == bytes[10..20]);
    }
    assert_eq!(registry.seen().len() - before, 1, "the place is remembered");
    assert_eq!(storage.seen().len(), 4);
    for request in storage.seen() {
        assert_eq!(request.header("authorization"), None);
        assert_eq!(request.header("x-own"), None);
    }
}
