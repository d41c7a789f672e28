//! Waiting, repeating, and giving up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use registry::{Digest, Limits, UploadOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::fake_server::{End, Fake, Response};
use crate::support::{Notes, assert_says, builder, client, impatient, quick, repository, tag};

const MANIFEST: &str = r#"{"schemaVersion":2,"layers":[]}"#;

#[tokio::test]
async fn what_may_pass_is_tried_again_and_told() {
    for status in [408, 429, 500, 502, 503, 504] {
        let asked = AtomicUsize::new(0);
        let fake = Fake::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
            0..3 => Response::new(status, "soon"),
            _ => Response::new(200, MANIFEST),
        })
        .await;
        let notes = Notes::new();
        let client = builder().observer(notes.clone()).build();
        let place = repository(&fake.address, "team/app");
        client.manifest(&place, &tag("v")).await.unwrap();
        let lines = notes.lines();
        assert_eq!(lines.len(), 3, "{lines:?}");
        let start = format!("{}/team/app:v 3 again: ", fake.address);
        assert!(lines[2].starts_with(&start), "{lines:?}");
        assert!(lines[2].contains(&format!("{status}: soon")), "{lines:?}");
    }
}

#[tokio::test]
async fn what_does_not_pass_ends_after_so_many_attempts() {
    let check = async |response: Response, attempts: usize, parts: &[&str]| {
        let fake = Fake::start(move |_| response.clone()).await;
        let place = repository(&fake.address, "team/app");
        let result = client().manifest(&place, &tag("v")).await;
        let subject = format!("{}/team/app:v", fake.address);
        assert_says(result, &[parts, &[&subject]].concat());
        assert_eq!(fake.seen().len(), attempts);
    };
    let limited = Response::new(
        429,
        r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow"}]}"#,
    );
    check(
        limited.clone(),
        5,
        &["too many requests", "slow", "after 5 attempts", "mirror"],
    )
    .await;
    let patient = limited.header("retry-after", 7200);
    check(patient, 1, &["too many requests", "try again in 7200 s"]).await;
    check(
        Response::new(503, ""),
        5,
        &["503", "after 5 attempts", "later"],
    )
    .await;
    check(Response::new(400, "bad"), 1, &["400: bad"]).await;
    let closed = Response::new(0, "").end(End::Closed);
    check(
        closed,
        5,
        &["no answer from", "after 5 attempts", "network"],
    )
    .await;
}

#[tokio::test]
async fn a_registry_that_hangs_is_given_up() {
    for end in [End::Silence, End::HangAfter(0), End::HangAfter(10)] {
        let fake = Fake::start(move |_| Response::new(200, MANIFEST).end(end)).await;
        let place = repository(&fake.address, "a");
        let start = Instant::now();
        let client = builder().limits(impatient()).build();
        let result = client.manifest(&place, &tag("v")).await;
        assert_says(
            result,
            &[
                "hangs: not a byte for 0.5 s",
                "after 5 attempts",
                &fake.address,
            ],
        );
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}

#[tokio::test]
async fn an_upload_that_is_not_taken_hangs_too() {
    let fake = Fake::start(|request| match request.method.as_str() {
        "HEAD" => Response::new(404, ""),
        "POST" => Response::new(202, "").header("location", "/up"),
        _ => Response::new(0, "").end(End::Silence),
    })
    .await;
    let mut limits = impatient();
    limits.attempts_max = 2;
    limits.commit_timeout = Duration::from_millis(300);
    let client = builder().limits(limits).build();
    let bytes = Bytes::from(vec![1; 1000]);
    let digest = Digest::sha256(&bytes);
    let place = repository(&fake.address, "a");
    let pushed = client
        .push_blob(&place, &digest, &bytes, &UploadOptions::default())
        .await;
    assert_says(pushed, &["hangs: not a byte for 0.3 s", "after 2 attempts"]);
}

#[tokio::test]
async fn nobody_at_the_address_is_an_error_with_the_cause() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let result = client()
        .manifest(&repository(&address, "a"), &tag("v"))
        .await;
    assert_says(result, &[&address, "refused", "after 2 attempts", "proxy"]);
}

/// Answers the next connection with these bytes, and is gone.
async fn answer_once(listener: tokio::net::TcpListener, answer: &[u8]) {
    let (mut stream, _) = listener.accept().await.unwrap();
    drop(listener);
    let mut request = [0; 4096];
    assert_ne!(stream.read(&mut request).await.unwrap(), 0);
    stream.write_all(answer).await.unwrap();
}

#[tokio::test]
async fn a_registry_that_has_answered_may_be_started_again() {
    let bytes: Vec<u8> = (0..1000u32).map(|n| n as u8).collect();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let part = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
        &bytes[..400],
    ]
    .concat();
    let rest = [
        b"HTTP/1.1 206 Partial Content\r\ncontent-length: 600\r\n\
          content-range: bytes 400-999/1000\r\n\r\n",
        &bytes[400..],
    ]
    .concat();
    let server = async {
        answer_once(listener, &part).await;
        // As long as three refused connections take at least.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        answer_once(listener, &rest).await;
    };
    let limits = Limits {
        backoff_first: Duration::from_millis(100),
        backoff_max: Duration::from_secs(1),
        ..quick()
    };
    let notes = Notes::new();
    let client = builder().limits(limits).observer(notes.clone()).build();
    let place = repository(&address.to_string(), "a");
    let digest = Digest::sha256(&bytes);
    let pull = client.blob_bytes(&place, &digest, None, 10_000);
    let (pulled, ()) = tokio::join!(pull, server);
    let lines = notes.lines();
    assert_eq!(pulled.unwrap(), bytes, "{lines:?}");
    assert!(lines.len() > 2, "{lines:?}");
    assert!(lines[1].contains("refused"), "{lines:?}");
}

#[tokio::test]
async fn a_dropped_request_ends() {
    let fake = Fake::start(|_| Response::new(200, "").end(End::Silence)).await;
    let place = repository(&fake.address, "a");
    let client = client();
    let wanted = tag("v");
    let request = client.manifest(&place, &wanted);
    let ended = tokio::time::timeout(Duration::from_millis(100), request).await;
    assert!(ended.is_err());
    // The client is as good as before.
    let good = Fake::start(|_| Response::new(200, MANIFEST)).await;
    let place = repository(&good.address, "a");
    client.manifest(&place, &wanted).await.unwrap();
}

#[test]
fn clients_and_their_futures_can_be_shared_between_tasks() {
    fn is_shared<T: Send + Sync>(_: &T) {}
    fn is_sent<T: Send>(_: T) {}
    let client = Arc::new(client());
    is_shared(&*client);
    let place = repository("localhost", "a");
    let digest = Digest::sha256(b"");
    let (wanted, body) = (tag("v"), Bytes::new());
    let options = UploadOptions::default();
    is_sent(client.manifest(&place, &wanted));
    is_sent(client.resolve(&place, &wanted));
    is_sent(client.blob(&place, &digest, None));
    is_sent(client.push_blob(&place, &digest, &body, &options));
    is_sent(client.push_manifest(&place, &wanted, "a/b", Bytes::new()));
    let reader = client.range_reader(&place, &digest);
    is_shared(&reader);
    is_sent(reader.read(0, 1));
}
