//! Connection pools: one for each way of speaking TLS.

use std::path::Path;
use std::sync::Once;

use crate::error::{Error, Result, shortened};
use crate::hosts::{Endpoint, TlsSettings, read};
use crate::proxies::{Proxies, Routes};
use crate::retry::Limits;

/// How varve names itself to servers.
const USER_AGENT: &str = concat!("varve/", env!("CARGO_PKG_VERSION"));

/// The pools for one endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    own: reqwest::Client,
    /// For hosts that the endpoint redirects to: they are not shown the client's certificate.
    elsewhere: reqwest::Client,
    /// How each of them goes.
    own_routes: Routes,
    routes: Routes,
}

impl Connections {
    pub(crate) fn new(endpoint: &Endpoint, limits: &Limits, proxies: &Proxies) -> Result<Self> {
        install_crypto();
        let host = endpoint.base.host_str().unwrap_or_default();
        let own_machine = crate::hosts::is_loopback(host);
        // No proxy reaches this machine's own addresses.
        let direct = Proxies::default();
        let own_proxies = if own_machine { &direct } else { proxies };
        let (own_routes, routes) = (own_proxies.routes(), proxies.routes());
        let own = build(&endpoint.tls, own_proxies, endpoint, limits)?;
        if endpoint.tls.keypairs.is_empty() && !own_machine {
            let elsewhere = own.clone();
            return Ok(Connections {
                own,
                elsewhere,
                own_routes,
                routes,
            });
        }
        let without_keys = TlsSettings {
            keypairs: Vec::new(),
            ..endpoint.tls.clone()
        };
        let elsewhere = build(&without_keys, proxies, endpoint, limits)?;
        Ok(Connections {
            own,
            elsewhere,
            own_routes,
            routes,
        })
    }

    /// The same for requests that go to another host from the start.
    pub(crate) fn elsewhere(&self) -> Self {
        Connections {
            own: self.elsewhere.clone(),
            elsewhere: self.elsewhere.clone(),
            own_routes: self.routes.clone(),
            routes: self.routes.clone(),
        }
    }

    /// The proxy through which an address is reached, if there is one.
    pub(crate) fn proxy(&self, is_own: bool, url: &reqwest::Url) -> Option<String> {
        let routes = if is_own {
            &self.own_routes
        } else {
            &self.routes
        };
        routes.proxy(url)
    }

    pub(crate) fn client(&self, is_own: bool) -> &reqwest::Client {
        if is_own { &self.own } else { &self.elsewhere }
    }
}

/// rustls wants one provider for the process; without, every client panics. Another one that is
/// installed already is as good.
fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if rustls::crypto::ring::default_provider()
            .install_default()
            .is_err()
        {
            tracing::debug!("rustls has a crypto provider already");
        }
    });
}

fn build(
    tls: &TlsSettings,
    proxies: &Proxies,
    endpoint: &Endpoint,
    limits: &Limits,
) -> Result<reqwest::Client> {
    let configured = || -> Result<reqwest::ClientBuilder> {
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(limits.connect_timeout)
            .http2_adaptive_window(true)
            .tls_danger_accept_invalid_certs(tls.skip_verify)
            // Those of this process's environment are not meant.
            .no_proxy();
        if let Some(proxy) = proxies.proxy() {
            builder = builder.proxy(proxy);
        }
        for pair in &tls.keypairs {
            let mut pem = read(&pair.key)?;
            if pair.cert != pair.key {
                pem.push(b'\n');
                pem.extend(read(&pair.cert)?);
            }
            let identity = reqwest::Identity::from_pem(&pem)
                .map_err(|error| unusable(&pair.cert, "certificate with its key", &error))?;
            builder = builder.identity(identity);
        }
        Ok(builder)
    };
    let mut authorities = Vec::new();
    for path in &tls.ca {
        let found = reqwest::Certificate::from_pem_bundle(&read(path)?)
            .map_err(|error| unusable(path, "certificate", &error))?;
        if found.is_empty() {
            return Err(Error::Config {
                path: path.clone(),
                reason: "there is no PEM certificate in it".to_owned(),
            });
        }
        authorities.extend(found);
    }
    let mut builder = configured()?;
    if !authorities.is_empty() {
        builder = builder.tls_certs_merge(authorities.clone());
    }
    // A host without any CA certificates can still use plain HTTP, and what `ca` names.
    let system = builder.build();
    if let Ok(client) = system {
        return Ok(client);
    }
    configured()?
        .tls_certs_only(authorities)
        .build()
        .map_err(|error| Error::Config {
            path: endpoint.server().into(),
            reason: format!("its TLS settings cannot be used: {}", causes(&error)),
        })
}

fn unusable(path: &Path, what: &str, error: &reqwest::Error) -> Error {
    Error::Config {
        path: path.to_owned(),
        reason: format!("it is not a PEM {what}: {}", causes(error)),
    }
}

fn causes(error: &reqwest::Error) -> String {
    let innermost = super::failure::innermost(error);
    shortened(&innermost.to_string())
}
