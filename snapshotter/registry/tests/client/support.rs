//! Servers to test against, and images to put there.

pub(crate) mod docker_registry;
pub(crate) mod image;

// What the integration tests have too; a dependency on their package would be one on everything.
#[path = "../../../../tests/support/fake_server.rs"]
#[allow(unreachable_pub, reason = "it is the module of a library elsewhere")]
pub(crate) mod fake_server;
#[path = "../../../../tests/support/faulty_proxy.rs"]
#[allow(unreachable_pub, reason = "it is the module of a library elsewhere")]
pub(crate) mod faulty_proxy;
#[path = "../../../../tests/support/token_server.rs"]
#[allow(unreachable_pub, reason = "it is the module of a library elsewhere")]
pub(crate) mod token_server;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use registry::{
    Client, ClientBuilder, Limits, ManifestReference, Next, Observer, Repository, Retry,
};

/// Limits under which a failing test does not take long.
pub(crate) fn quick() -> Limits {
    Limits {
        backoff_first: Duration::from_millis(2),
        backoff_max: Duration::from_millis(20),
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(4),
        commit_timeout: Duration::from_secs(5),
        ..Limits::default()
    }
}

/// The same for tests in which somebody hangs.
pub(crate) fn impatient() -> Limits {
    Limits {
        stall_timeout: Duration::from_millis(500),
        ..quick()
    }
}

pub(crate) fn builder() -> ClientBuilder {
    Client::builder().limits(quick())
}

pub(crate) fn client() -> Client {
    builder().build()
}

pub(crate) fn repository(host: &str, name: &str) -> Repository {
    Repository::new(host, name).unwrap()
}

pub(crate) fn tag(text: &str) -> ManifestReference {
    ManifestReference::Tag(text.parse().unwrap())
}

/// A file of `tests/fixtures`: certificates of a CA that nobody trusts.
pub(crate) fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(name)
}

/// Remembers what it is told.
#[derive(Default)]
pub(crate) struct Notes(Mutex<Vec<String>>);

impl Notes {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Observer for Notes {
    fn retrying(&self, retry: &Retry<'_>) {
        let next = match retry.next {
            Next::Again { .. } => "again".to_owned(),
            Next::Server(server) => format!("then {server}"),
        };
        let (subject, attempt) = (retry.subject, retry.attempt);
        let line = format!("{subject} {attempt} {next}: {}", retry.cause);
        self.0.lock().unwrap().push(line);
    }
}

/// The error says all that a person needs.
#[track_caller]
pub(crate) fn assert_says<T: std::fmt::Debug>(result: Result<T, registry::Error>, parts: &[&str]) {
    let text = result.expect_err("an error").to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
    assert!(!text.contains(char::is_control), "{text:?}");
}
