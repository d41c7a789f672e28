//! What a registry answers when it does not do what it is asked.

use std::time::SystemTime;

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::error::{Answer, Error, Subject, Thing, shortened};

/// How much of an error's text is read.
pub(crate) const ERROR_BYTES_MAX: usize = 16 * 1024;

/// How many of several errors are quoted.
const ERRORS_QUOTED_MAX: usize = 3;

/// The form of errors in the distribution specification.
#[derive(serde::Deserialize)]
struct Document {
    #[serde(default)]
    errors: Vec<Entry>,
}

#[derive(serde::Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Reads an answer; `body` is at most the first [`ERROR_BYTES_MAX`] bytes of its text.
pub(crate) fn parse(server: String, status: u16, headers: &HeaderMap, body: &[u8]) -> Answer {
    let (codes, text) = match serde_json::from_slice::<Document>(body) {
        Ok(document) if !document.errors.is_empty() => quote(&document.errors),
        _ => (Vec::new(), plain(body)),
    };
    let value = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok());
    Answer {
        server,
        status,
        codes,
        text,
        retry_after: value.and_then(|value| crate::retry::retry_after(value, SystemTime::now())),
    }
}

fn quote(errors: &[Entry]) -> (Vec<String>, String) {
    let errors = &errors[..errors.len().min(ERRORS_QUOTED_MAX)];
    let codes = errors.iter().map(|error| shortened(&error.code)).collect();
    let texts: Vec<String> = errors
        .iter()
        .map(
            |error| match (error.code.as_str(), error.message.as_str()) {
                ("", message) => message.to_owned(),
                (code, "") => code.to_owned(),
                (code, message) => format!("{code}: {message}"),
            },
        )
        .collect();
    (codes, shortened(&texts.join("; ")))
}

/// Pages of proxies are for browsers; their text is not worth a message.
fn plain(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    if text.trim_start().starts_with('<') {
        return String::new();
    }
    shortened(&text)
}

impl Answer {
    fn has(&self, code: &str) -> bool {
        self.codes.iter().any(|found| found == code)
    }

    /// The error that this answer is to a request for `subject`.
    pub(crate) fn into_error(self, subject: &Subject, had_credentials: bool) -> Error {
        let subject = subject.clone();
        let answer = Box::new(self);
        let attempts = 1;
        match answer.status {
            _ if answer.has("TOOMANYREQUESTS") => Error::RateLimited {
                subject,
                answer,
                attempts,
            },
            429 => Error::RateLimited {
                subject,
                answer,
                attempts,
            },
            401 => Error::Unauthorized {
                subject,
                answer,
                had_credentials,
                expired: false,
            },
            403 => Error::Denied { subject, answer },
            404 if answer.has("NAME_UNKNOWN") => Error::RepositoryUnknown { subject, answer },
            404 => match subject.thing() {
                Thing::Blob(_) => Error::BlobUnknown { subject, answer },
                Thing::Manifest(_) => Error::ManifestUnknown { subject, answer },
                Thing::Tags => Error::RepositoryUnknown { subject, answer },
                Thing::Login | Thing::Address(_) => Error::Refused { subject, answer },
            },
            408 | 500..=599 => Error::Server {
                subject,
                answer,
                attempts,
            },
            _ => Error::Refused { subject, answer },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, Repository};

    fn answer(status: u16, body: &str) -> Answer {
        parse("r:5000".into(), status, &HeaderMap::new(), body.as_bytes())
    }

    #[test]
    fn errors_of_the_specification_are_quoted() {
        let check = |body: &str, expect: &str| assert_eq!(answer(404, body).text, expect);
        check(
            r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known","detail":{"name":"x"}}]}"#,
            "NAME_UNKNOWN: repository name not known",
        );
        check(r#"{"errors":[{"code":"A"},{"message":"b"}]}"#, "A; b");
        check(r#"{"errors":[]}"#, r#"{"errors":[]}"#);
        check("404 page not found\n", "404 page not found");
        check("<html>proxy</html>", "");
        check("\x1b[31mred\x1b[0m", "[31mred [0m");
        check("", "");
        let many = format!(r#"{{"errors":[{}{{}}]}}"#, "{\"code\":\"X\"},".repeat(1000));
        check(&many, "X; X; X");
        assert!(answer(404, &"x".repeat(100_000)).text.chars().count() <= 301);
        check("\u{fffd}\u{0}", "\u{fffd}");
    }

    #[test]
    fn a_status_becomes_an_error_that_says_what_to_do() {
        let repository = Repository::new("r:5000", "team/app").unwrap();
        let tag = "v1".parse::<crate::Tag>().unwrap();
        let manifest = Subject::manifest(&repository, &tag.into());
        let blob = Subject::blob(&repository, &Digest::sha256(b""));
        let check =
            |subject: &Subject, status: u16, body: &str, transient: bool, parts: &[&str]| {
                let error = answer(status, body).into_error(subject, false);
                let text = error.to_string();
                assert_eq!(error.is_transient(), transient, "{text}");
                for part in parts.iter().chain(&["r:5000", "team/app"]) {
                    assert!(text.contains(part), "{part} in {text}");
                }
            };
        let unknown = r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#;
        check(&manifest, 404, "", false, &["does not exist", "the tag"]);
        check(
            &manifest,
            404,
            unknown,
            false,
            &["no repository r:5000/team/app"],
        );
        check(&blob, 404, "", false, &["blob sha256:", "push it again"]);
        check(&manifest, 401, "", false, &["`varve login r:5000`"]);
        check(&manifest, 403, "", false, &["denied", "varve login r:5000"]);
        check(&manifest, 429, "", true, &["too many requests", "mirror"]);
        check(
            &manifest,
            400,
            r#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#,
            true,
            &["too many"],
        );
        check(&manifest, 503, "", true, &["503", "try again later"]);
        check(&manifest, 408, "", true, &["408"]);
        check(
            &manifest,
            400,
            "why",
            false,
            &["400: why", "does not accept"],
        );
    }
}
