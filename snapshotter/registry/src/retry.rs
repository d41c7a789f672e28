//! How long and how often: limits, waiting between attempts, and who is told of it.

use std::time::Duration;

use rand::RngExt as _;

use crate::error::{Error, Subject};

/// Bounds on time and size. All of them hold for each request, and none for a whole image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How often a request is sent to a registry before its failure is final. A blob counts
    /// attempts that brought no byte.
    pub attempts_max: u32,
    /// The same where no connection comes about to a server that has never answered: a wrong name
    /// stays wrong. One that has answered is being started again, and gets `attempts_max`.
    pub connect_attempts_max: u32,
    /// The same for a mirror, behind which there is somebody else to ask.
    pub mirror_attempts_max: u32,
    /// How often the rest of one blob may be asked for, whatever it brought.
    pub resumes_max: u32,
    /// The wait before the second attempt; it doubles for each one more.
    pub backoff_first: Duration,
    /// The longest wait that is not the registry's own wish.
    pub backoff_max: Duration,
    /// The longest wish (`Retry-After`) that is granted; a longer one is an error at once.
    pub retry_after_max: Duration,
    /// Until TCP and TLS are connected.
    pub connect_timeout: Duration,
    /// Without a byte in either direction.
    pub stall_timeout: Duration,
    /// From the last byte of an upload to the answer: the registry may hash or move it meanwhile.
    pub commit_timeout: Duration,
    /// The bytes of a manifest or index; registries refuse more as well.
    pub manifest_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            attempts_max: 5,
            connect_attempts_max: 2,
            mirror_attempts_max: 2,
            resumes_max: 200,
            backoff_first: Duration::from_millis(500),
            backoff_max: Duration::from_secs(20),
            retry_after_max: Duration::from_secs(120),
            connect_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(30),
            commit_timeout: Duration::from_secs(300),
            manifest_bytes_max: 4 << 20,
        }
    }
}

impl Limits {
    /// How long to wait after the failure of attempt number `attempt`, counted from 1; `None` if
    /// the registry wants more patience than there is.
    pub(crate) fn wait(&self, attempt: u32, cause: &Error) -> Option<Duration> {
        let doubled = self
            .backoff_first
            .saturating_mul(1 << attempt.saturating_sub(1).min(16));
        let longest = doubled.min(self.backoff_max);
        // Tasks that failed together shall not come back together.
        let wait = longest.mul_f64(rand::rng().random_range(0.5..=1.0));
        match cause.answer().and_then(|answer| answer.retry_after) {
            Some(wish) if wish > self.retry_after_max => None,
            Some(wish) => Some(wait.max(wish)),
            None => Some(wait),
        }
    }
}

/// A failure that is not the end.
#[derive(Debug)]
pub struct Retry<'a> {
    /// What is wanted.
    pub subject: &'a Subject,
    /// Host and port that failed.
    pub server: &'a str,
    /// How.
    pub cause: &'a Error,
    /// How many attempts have failed, this one included.
    pub attempt: u32,
    /// After how many the failure is final.
    pub attempts_max: u32,
    /// What is done about it.
    pub next: Next<'a>,
}

/// What follows a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next<'a> {
    /// The same server is asked again.
    Again {
        /// After this time.
        wait: Duration,
    },
    /// Another server is asked at once.
    Server(&'a str),
}

/// Who is told of failures that are not the end, so that a person sees why it takes so long. Called
/// from many tasks, and must not block.
pub trait Observer: Send + Sync {
    /// Something failed and is tried again.
    fn retrying(&self, retry: &Retry<'_>);
}

/// Tells nobody; the log has it at the level `debug` whoever observes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn retrying(&self, _retry: &Retry<'_>) {}
}

/// The time that a `Retry-After` names: seconds, or a date.
pub(crate) fn retry_after(value: &str, now: std::time::SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::error::Answer;
    use crate::{Digest, Repository};

    fn limited(retry_after: Option<u64>) -> Error {
        let repository = Repository::new("r", "a").unwrap();
        Error::RateLimited {
            subject: Subject::blob(&repository, &Digest::sha256(b"")),
            answer: Box::new(Answer {
                server: "r".into(),
                status: 429,
                codes: Vec::new(),
                text: String::new(),
                retry_after: retry_after.map(Duration::from_secs),
            }),
            attempts: 1,
        }
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let limits = Limits::default();
        for (attempt, longest) in [
            (1, 500),
            (2, 1000),
            (5, 8000),
            (7, 20_000),
            (u32::MAX, 20_000),
        ] {
            for _ in 0..50 {
                let wait = limits.wait(attempt, &limited(None)).unwrap().as_millis();
                assert!((longest / 2..=longest).contains(&wait), "{attempt}: {wait}");
            }
        }
    }

    #[test]
    fn a_wish_of_the_registry_is_granted_within_reason() {
        let limits = Limits::default();
        let wait = |seconds| limits.wait(1, &limited(Some(seconds)));
        assert_eq!(wait(60), Some(Duration::from_secs(60)));
        assert!(wait(0).unwrap() >= Duration::from_millis(250));
        assert_eq!(wait(3600), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let check = |value: &str, expect: Option<u64>| {
            let found = retry_after(value, now);
            assert_eq!(found, expect.map(Duration::from_secs), "{value:?}");
        };
        check("0", Some(0));
        check(" 120 ", Some(120));
        check("Sun, 06 Nov 1994 08:49:47 GMT", Some(10));
        check("Sun, 06 Nov 1994 08:00:00 GMT", Some(0));
        for value in ["", "-1", "1.5", "soon", "99999999999999999999999"] {
            check(value, None);
        }
    }
}
