//! What the HTTP library reports, as an error that a person can act upon.

use std::error::Error as StdError;

use rustls::{AlertDescription, CertificateError, InvalidMessage};

use crate::error::{Error, Subject, TlsCause, shortened};

/// What the HTTP libraries say of a connection that ended before it took a request. In TLS 1.3 the
/// alert of a server that misses a certificate comes after the handshake, and is lost there.
const CLOSED: [&str; 2] = [
    "connection closed",
    "stream closed because of a broken pipe",
];

/// The error that a failed exchange is. Addresses are left out of it: they may hold signatures.
pub(crate) fn connection_error(subject: &Subject, server: String, error: &reqwest::Error) -> Error {
    let subject = subject.clone();
    if let Some(tls) = find::<rustls::Error>(error) {
        return Error::Tls {
            subject,
            server,
            cause: tls_cause(tls),
            reason: shortened(&tls.to_string()),
        };
    }
    let reason = if error.is_connect() && error.is_timeout() {
        "no connection in time".to_owned()
    } else {
        shortened(&innermost(error).to_string())
    };
    let is_tls = error.url().is_some_and(|url| url.scheme() == "https");
    // The alert itself is seen now and then, where it comes before the request is written.
    let is_refused = ["BadCertificate", "CertificateRequired"]
        .iter()
        .any(|alert| reason.ends_with(alert));
    let reason = if is_tls && (CLOSED.contains(&reason.as_str()) || is_refused) {
        format!(
            "{reason} after the TLS handshake, as by a server that wants a client certificate \
             (name one as `client` in /etc/varve/certs.d/{server}/hosts.toml)"
        )
    } else {
        reason
    };
    Error::Connection {
        subject,
        server,
        reason,
        attempts: 1,
        is_unreachable: error.is_connect(),
    }
}

fn tls_cause(error: &rustls::Error) -> TlsCause {
    match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                TlsCause::UnknownIssuer
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsCause::WrongName
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => TlsCause::Expired,
            // A self-signed server certificate that is no CA.
            CertificateError::Other(_) => TlsCause::UnknownIssuer,
            _ => TlsCause::Other,
        },
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => TlsCause::PlainHttp,
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown,
        ) => TlsCause::ClientCertificate,
        _ => TlsCause::Other,
    }
}

/// The error of this type among the causes; `io::Error` hides its own one from `source`.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let inner = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        cause = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The last of the causes, which says most.
pub(super) fn innermost<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last
}
