//! What goes to a registry.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use registry::{BlobBody, BodyReader, Digest, Error, FileBody, MediaType, Pushed, UploadOptions};

use crate::support::docker_registry::DockerRegistry;
use crate::support::fake_server::{End, Fake, Response};
use crate::support::image::{Image, noise};
use crate::support::{Notes, assert_says, builder, client, repository, tag};

fn in_parts(bytes: u64) -> UploadOptions {
    UploadOptions {
        chunk_bytes: Some(bytes),
        ..UploadOptions::default()
    }
}

#[tokio::test]
async fn blobs_are_sent_whole_or_in_parts_and_only_once() {
    let server = DockerRegistry::start();
    let client = client();
    for (seed, options) in [
        (20, UploadOptions::default()),
        (21, in_parts(7_000)),
        (22, in_parts(1)),
    ] {
        let repository = repository(&server.address, &format!("r{seed}"));
        let mut image = Image::new(seed);
        if options.chunk_bytes == Some(1) {
            image.blobs.truncate(3);
        } else {
            let pushed = image.push(&client, &repository, &tag("a"), &options).await;
            assert_eq!(pushed.unwrap(), [Pushed::Uploaded; 5]);
            image.pull(&client, &repository, &tag("a")).await.unwrap();
        }
        for (digest, bytes) in &image.blobs {
            client
                .push_blob(&repository, digest, bytes, &options)
                .await
                .unwrap();
            let again = client.push_blob(&repository, digest, bytes, &options).await;
            assert_eq!(again.unwrap(), Pushed::Existed);
            assert!(client.has_blob(&repository, digest).await.unwrap());
        }
        let absent = Digest::sha256(b"absent");
        assert!(!client.has_blob(&repository, &absent).await.unwrap());
    }
}

#[tokio::test]
async fn a_blob_of_another_repository_is_mounted() {
    let server = DockerRegistry::start();
    let (client, image) = (client(), Image::new(23));
    let first = repository(&server.address, "first");
    image
        .push(&client, &first, &tag("v"), &UploadOptions::default())
        .await
        .unwrap();
    let second = repository(&server.address, "second");
    let from = |name: &str| UploadOptions {
        mount_from: Some(name.to_owned()),
        ..UploadOptions::default()
    };
    let pushed = image
        .push(&client, &second, &tag("v"), &from("first"))
        .await;
    assert_eq!(pushed.unwrap(), [Pushed::Mounted; 5]);
    image.pull(&client, &second, &tag("v")).await.unwrap();
    // Who does not have it is no obstacle.
    let third = repository(&server.address, "third");
    let pushed = image
        .push(&client, &third, &tag("v"), &from("nobody"))
        .await;
    assert_eq!(pushed.unwrap(), [Pushed::Uploaded; 5]);
}

#[tokio::test]
async fn many_blobs_go_at_once() {
    let server = DockerRegistry::start();
    let (client, place) = (client(), repository(&server.address, "a"));
    let blobs: Vec<Bytes> = (0..24).map(|seed| noise(seed, 50_000)).collect();
    let options = UploadOptions::default();
    let pushes = blobs.iter().map(async |bytes| {
        let digest = Digest::sha256(bytes);
        client.push_blob(&place, &digest, bytes, &options).await
    });
    for pushed in join_all(pushes).await {
        assert_eq!(pushed.unwrap(), Pushed::Uploaded);
    }
}

#[tokio::test]
async fn a_file_is_pushed_and_sha512_is_a_name_too() {
    let server = DockerRegistry::start();
    let (client, place) = (client(), repository(&server.address, "a"));
    let bytes = noise(25, 200_000);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("blob");
    std::fs::write(&path, &bytes).unwrap();
    let digest = Digest::sha256(&bytes);
    let body = FileBody::new(&path, 200_000);
    let pushed = client
        .push_blob(&place, &digest, &body, &in_parts(60_000))
        .await;
    assert_eq!(pushed.unwrap(), Pushed::Uploaded);
    let found = client.blob_bytes(&place, &digest, None, 1 << 20).await;
    assert!(found.unwrap() == bytes);

    let digest = Digest::sha256(b"absent");
    let short = FileBody::new(&path, 200_001);
    let pushed = client
        .push_blob(&place, &digest, &short, &UploadOptions::default())
        .await;
    assert_says(
        pushed,
        &[
            "cannot read what is to be pushed",
            "1 bytes before its size",
        ],
    );
    let missing = FileBody::new(directory.path().join("no"), 1);
    let pushed = client
        .push_blob(&place, &digest, &missing, &UploadOptions::default())
        .await;
    assert_says(pushed, &["cannot read", "/no: No such file"]);
}

#[tokio::test]
async fn what_is_not_what_it_says_is_refused() {
    let server = DockerRegistry::start();
    let (client, place) = (client(), repository(&server.address, "a"));
    let digest = Digest::sha256(b"right");
    let wrong = Bytes::from_static(b"wrong");
    let pushed = client
        .push_blob(&place, &digest, &wrong, &UploadOptions::default())
        .await;
    assert_says(pushed, &["400", "DIGEST_INVALID", &digest.to_string()]);
    assert!(!client.has_blob(&place, &digest).await.unwrap());
    let pushed = client
        .push_blob(&place, &digest, &wrong, &in_parts(2))
        .await;
    assert_says(pushed, &["DIGEST_INVALID"]);

    let media_type = MediaType::OciManifest.as_str();
    let pushed = client
        .push_manifest(&place, &digest.into(), media_type, wrong)
        .await;
    assert_says(pushed, &["sent other bytes", &digest.to_string()]);
    let manifest = Image::new(26).manifest;
    let pushed = client
        .push_manifest(&place, &tag("v"), media_type, manifest)
        .await;
    assert_says(
        pushed,
        &["/a:v", "MANIFEST_BLOB_UNKNOWN", "does not accept"],
    );
    let pushed = client
        .push_manifest(&place, &tag("v"), "a\nb", Bytes::new())
        .await;
    assert_says(pushed, &["is not a media type"]);
}

/// Counts how often it is opened.
struct Counted(Bytes, AtomicUsize);

impl BlobBody for Counted {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn open(&self, offset: u64) -> BoxFuture<'_, io::Result<BodyReader>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.open(offset)
    }
}

#[tokio::test]
async fn a_failed_upload_begins_again() {
    let bytes = noise(27, 300_000);
    let digest = Digest::sha256(&bytes);
    let puts = AtomicUsize::new(0);
    let expected = bytes.clone();
    let fake = Fake::start(move |request| match request.method.as_str() {
        "HEAD" => Response::new(404, ""),
        "POST" => Response::new(202, "").header("location", "/up?state=%2Fa%2B&x"),
        _ => {
            assert!(
                request
                    .path
                    .starts_with("/up?state=%2Fa%2B&x&digest=sha256%3A")
            );
            match puts.fetch_add(1, Ordering::SeqCst) {
                0 => Response::new(503, "busy").header("retry-after", 0),
                1 => Response::new(0, "").end(End::Closed),
                2 => Response::new(0, "").end(End::Closed),
                3 => Response::new(404, r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#),
                _ => {
                    assert!(request.body == expected);
                    Response::new(201, "")
                }
            }
        }
    })
    .await;
    let notes = Notes::new();
    let client = builder().observer(notes.clone()).build();
    let place = repository(&fake.address, "a");
    let body = Counted(bytes, AtomicUsize::new(0));
    let pushed = client
        .push_blob(&place, &digest, &body, &UploadOptions::default())
        .await;
    assert_eq!(pushed.unwrap(), Pushed::Uploaded);
    assert_eq!(body.1.load(Ordering::SeqCst), 5);
    let lines = notes.lines();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0].contains("503: busy"), "{lines:?}");
}

#[tokio::test]
async fn parts_go_on_where_the_registry_is() {
    let bytes = noise(28, 10_000);
    let digest = Digest::sha256(&bytes);
    let state = Arc::new(std::sync::Mutex::new((Vec::<u8>::new(), 0)));
    let held = state.clone();
    let fake = Fake::start(move |request| {
        let (held, patches) = &mut *held.lock().unwrap();
        let place = |status, length: usize| {
            Response::new(status, "")
                .header("location", "/up")
                .header("range", format!("0-{}", length.saturating_sub(1)))
        };
        match request.method.as_str() {
            "HEAD" => Response::new(404, ""),
            "POST" => place(202, 0).header("oci-chunk-min-length", 3_000),
            "GET" => place(204, held.len()),
            "PATCH" => {
                *patches += 1;
                let range = request.header("content-range").unwrap();
                assert!(range.starts_with(&format!("{}-", held.len())), "{range}");
                // The second part arrives, and nobody hears of it; the third only in half.
                let kept = if *patches == 3 {
                    request.body.len() / 2
                } else {
                    request.body.len()
                };
                held.extend_from_slice(&request.body[..kept]);
                if *patches == 2 {
                    return Response::new(0, "").end(End::Closed);
                }
                place(202, held.len())
            }
            _ => Response::new(201, ""),
        }
    })
    .await;
    let place = repository(&fake.address, "a");
    let pushed = client()
        .push_blob(&place, &digest, &bytes, &in_parts(1))
        .await;
    assert_eq!(pushed.unwrap(), Pushed::Uploaded);
    assert!(state.lock().unwrap().0 == bytes);
    assert_eq!(fake.count("GET /up"), 1);
}

/// A body that stops in the middle of the second reading.
struct Stuck;

impl BlobBody for Stuck {
    fn size(&self) -> u64 {
        10
    }

    fn open(&self, _offset: u64) -> BoxFuture<'_, io::Result<BodyReader>> {
        async { Err(io::Error::other("the disk is gone")) }.boxed()
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_not_tried_again() {
    let fake = Fake::start(|request| match request.method.as_str() {
        "HEAD" => Response::new(404, ""),
        _ => Response::new(202, "").header("location", "/up"),
    })
    .await;
    let place = repository(&fake.address, "a");
    let digest = Digest::sha256(b"x");
    let pushed = client()
        .push_blob(&place, &digest, &Stuck, &UploadOptions::default())
        .await;
    assert!(matches!(pushed, Err(Error::Body { .. })), "{pushed:?}");
    assert_says(pushed, &["the disk is gone"]);
    assert_eq!(fake.count("POST"), 1);
}

#[tokio::test]
async fn an_upload_without_a_place_is_an_error() {
    let fake = Fake::start(|request| match request.method.as_str() {
        "HEAD" => Response::new(404, ""),
        _ => Response::new(202, ""),
    })
    .await;
    let place = repository(&fake.address, "a");
    let bytes = Bytes::from_static(b"x");
    let digest = Digest::sha256(&bytes);
    let pushed = client()
        .push_blob(&place, &digest, &bytes, &UploadOptions::default())
        .await;
    assert_says(pushed, &["does not say where to upload to", &fake.address]);
}

#[tokio::test]
async fn storage_that_does_not_tell_what_it_has_is_no_obstacle() {
    let storage = Fake::start(|_| Response::new(403, "signed for GET")).await;
    let address = storage.address.clone();
    let fake = Fake::start(move |request| match request.method.as_str() {
        "HEAD" => Response::new(307, "").header("location", format!("http://{address}/x")),
        "POST" => Response::new(202, "").header("location", "/up"),
        _ => Response::new(201, ""),
    })
    .await;
    let place = repository(&fake.address, "a");
    let bytes = Bytes::from_static(b"x");
    let digest = Digest::sha256(&bytes);
    let pushed = client()
        .push_blob(&place, &digest, &bytes, &UploadOptions::default())
        .await;
    assert_eq!(pushed.unwrap(), Pushed::Uploaded);
}
