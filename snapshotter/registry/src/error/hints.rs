//! What a person can do about an error, and the small words of messages.

use std::time::Duration;

use super::{Answer, Subject, Thing, TlsCause};
use crate::names::ManifestReference;

pub(super) fn unknown_hint(subject: &Subject) -> &'static str {
    match subject.thing() {
        Thing::Manifest(ManifestReference::Tag(_)) => "check the spelling of the tag",
        _ => "it may have been deleted there: use its tag, or push it again",
    }
}

/// What a registry says that does not let somebody in.
pub(super) fn unauthorized(subject: &Subject) -> &'static str {
    match subject.thing() {
        Thing::Login => "does not accept this login",
        Thing::Manifest(_) | Thing::Blob(_) | Thing::Tags => "needs a login",
    }
}

pub(super) fn login_hint(subject: &Subject, had_credentials: bool, expired: bool) -> String {
    let host = subject.repository().host();
    if *subject.thing() == Thing::Login {
        "check the name and the password; some registries want a token as password".to_owned()
    } else if expired {
        format!(
            "the token has expired and no new one is to be had: log in again with `varve login {host}`"
        )
    } else if had_credentials {
        format!("the stored login is not accepted: log in again with `varve login {host}`")
    } else {
        format!("check its spelling, and log in with `varve login {host}`")
    }
}

pub(super) fn rate_hint(subject: &Subject, answer: &Answer) -> String {
    let host = subject.repository().host();
    let when = match answer.retry_after {
        Some(wait) => format!("in {} s", seconds(wait)),
        None => "later".to_owned(),
    };
    format!("try again {when}, log in with `varve login {host}`, or use a mirror")
}

pub(super) fn tls_hint(cause: TlsCause, server: &str) -> String {
    let (file, table) = (hosts_file(server), table(server));
    match cause {
        TlsCause::UnknownIssuer => format!(
            "if the registry has a CA of its own, name its certificate as `ca` in {file}, or in \
             {table}"
        ),
        TlsCause::WrongName => "use the name that the certificate is for".to_owned(),
        TlsCause::Expired => "renew the certificate, and check the clock of this host".to_owned(),
        TlsCause::ClientCertificate => {
            format!("name a certificate and its key as `client` in {file}")
        }
        TlsCause::PlainHttp => format!(
            "it seems to speak plain HTTP: to allow that, write `server = \"http://{server}\"` \
             into {file}, or `http = true` into {table}"
        ),
        TlsCause::Other => "check that the port is the right one".to_owned(),
    }
}

/// How often something was tried, where that was more than once.
pub(super) fn after(attempts: u32) -> String {
    match attempts {
        0 | 1 => String::new(),
        more => format!(", after {more} attempts"),
    }
}

pub(super) fn https_hint(server: &str) -> String {
    format!(
        "write `server = \"https://{server}\"` into {}, or `http = false` into {}",
        hosts_file(server),
        table(server)
    )
}

/// Where a person configures a host; see the crate's users for other places that are read.
fn hosts_file(server: &str) -> String {
    format!("/etc/varve/certs.d/{server}/hosts.toml")
}

fn table(server: &str) -> String {
    format!("[registry.\"{server}\"] of /etc/varve/varve.toml")
}

/// For a person: no fractions unless they are all there is.
pub(super) fn seconds(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{:.1}", duration.as_secs_f64()),
        whole => whole.to_string(),
    }
}

pub(super) fn known(size: Option<u64>) -> String {
    size.map_or("an unknown number of".to_owned(), |size| size.to_string())
}
