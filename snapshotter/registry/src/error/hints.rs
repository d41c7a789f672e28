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
        Thing::Manifest(_) | Thing::Blob(_) | Thing::Tags | Thing::Address(_) => "needs a login",
    }
}

/// Who is asked.
pub(super) fn peer(subject: &Subject) -> &'static str {
    match subject.thing() {
        Thing::Address(_) => "server",
        _ => "registry",
    }
}

/// What is to be done again.
pub(super) fn attempt(subject: &Subject) -> &'static str {
    match subject.thing() {
        Thing::Address(_) => "try",
        _ => "pull",
    }
}

/// Which rules an answer breaks, and what to look at.
pub(super) fn protocol(subject: &Subject) -> (&'static str, &'static str) {
    match subject.thing() {
        Thing::Address(_) => ("rules", "check the address, and the proxies before it"),
        _ => (
            "distribution protocol",
            "check that the address is a registry, and the proxies before it",
        ),
    }
}

pub(super) fn refused_hint(subject: &Subject) -> &'static str {
    match subject.thing() {
        Thing::Address(_) => "check the address",
        _ => "the registry does not accept the request",
    }
}

pub(super) fn denied_hint(subject: &Subject) -> String {
    let host = subject.repository().host();
    match subject.thing() {
        Thing::Address(_) => format!("check the address, and {}", secret_hint(host)),
        _ => format!(
            "check its spelling, ask its owner for access, or log in as somebody else with \
             `varve login {host}`"
        ),
    }
}

/// How a server of the web is told who asks.
fn secret_hint(server: &str) -> String {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    format!("give a token with `--secret id=HTTP_AUTH_TOKEN_{host},src=FILE`")
}

pub(super) fn login_hint(subject: &Subject, had_credentials: bool, expired: bool) -> String {
    let host = subject.repository().host();
    if matches!(subject.thing(), Thing::Address(_)) {
        match had_credentials {
            true => "the login that was given for it is not accepted".to_owned(),
            false => secret_hint(host),
        }
    } else if *subject.thing() == Thing::Login {
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
    match subject.thing() {
        Thing::Address(_) => format!("try again {when}"),
        _ => format!("try again {when}, log in with `varve login {host}`, or use a mirror"),
    }
}

pub(super) fn tls_hint(subject: &Subject, cause: TlsCause, server: &str) -> String {
    if matches!(subject.thing(), Thing::Address(_)) {
        let hint = match cause {
            TlsCause::UnknownIssuer => {
                "if the server has a CA of its own, add it to those that this machine trusts"
            }
            TlsCause::WrongName => "use the name that the certificate is for",
            TlsCause::Expired => "check the clock of this host",
            TlsCause::PlainHttp => "it seems to speak plain HTTP: write http://",
            TlsCause::ClientCertificate | TlsCause::Other => "check the address",
        };
        return hint.to_owned();
    }
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
