//! Proxies between here and registries, as the customary variables name them. Whose variables these
//! are is the caller's to know: several users may share one process.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{Proxy, Url};

use crate::error::{Error, Result};
use crate::hosts::authority;

/// The variables, each also in lower case; those in front go before those behind.
const HTTP: [&str; 2] = ["HTTP_PROXY", "ALL_PROXY"];
const HTTPS: [&str; 2] = ["HTTPS_PROXY", "ALL_PROXY"];
const EXCEPTIONS: &str = "NO_PROXY";

/// Which proxy is asked for which server. The default is none.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For plain HTTP, and for TLS. They may hold passwords.
    http: Option<Url>,
    https: Option<Url>,
    /// Hosts that are asked without: names with all below them, addresses, networks, `*`; each
    /// perhaps with a port.
    exceptions: String,
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |url: &Option<Url>| url.as_ref().map(authority);
        f.debug_struct("Proxies")
            .field("http", &shown(&self.http))
            .field("https", &shown(&self.https))
            .field("exceptions", &self.exceptions)
            .finish()
    }
}

impl Proxies {
    /// Those that an environment names; `get` gives the value of a variable.
    ///
    /// # Errors
    /// [`Error::Proxy`].
    pub fn of<'e>(get: impl Fn(&str) -> Option<&'e str>) -> Result<Self> {
        let get = |name: &str| {
            let value = get(name).or_else(|| get(&name.to_ascii_lowercase()));
            value.map(str::trim).filter(|value| !value.is_empty())
        };
        let first = |names: [&'static str; 2]| {
            let mut values = names.into_iter();
            let found = values.find_map(|name| get(name).map(|value| (name, value)));
            found.map(|(name, value)| address(name, value)).transpose()
        };
        Ok(Proxies {
            http: first(HTTP)?,
            https: first(HTTPS)?,
            exceptions: get(EXCEPTIONS).unwrap_or_default().to_owned(),
        })
    }

    /// For the HTTP library; `None` if there is no proxy at all.
    pub(crate) fn proxy(&self) -> Option<Proxy> {
        if self.http.is_none() && self.https.is_none() {
            return None;
        }
        let (routes, proxies) = (self.routes(), self.clone());
        let of_scheme = move |url: &Url| match url.scheme() {
            "https" => proxies.https.clone(),
            _ => proxies.http.clone(),
        };
        let find = move |url: &Url| routes.proxy(url).and_then(|_| of_scheme(url));
        Some(Proxy::custom(find))
    }

    /// What tells who is behind an answer.
    pub(crate) fn routes(&self) -> Routes {
        let text = |url: &Option<Url>| url.as_ref().map_or(String::new(), Url::to_string);
        let exceptions: Vec<_> = self.exceptions.split(',').flat_map(exception).collect();
        let matcher = |port: Option<u16>| {
            let meant = exceptions
                .iter()
                .filter(|(_, of)| of.is_none() || *of == port);
            let meant: Vec<_> = meant.map(|(host, _)| host.as_str()).collect();
            Matcher::builder()
                .http(text(&self.http))
                .https(text(&self.https))
                .no(meant.join(","))
                .build()
        };
        let ports = exceptions.iter().filter_map(|(_, port)| *port);
        Routes(Some(Arc::new(Matchers {
            of_port: ports.map(|port| (port, matcher(Some(port)))).collect(),
            others: matcher(None),
        })))
    }
}

/// What an exception means to the matching library, and the port that it is for, if for one only:
/// it knows neither ports nor the stars that Go's programs know
/// (golang.org/x/net/http/httpproxy, `Config.NoProxy`).
fn exception(text: &str) -> Vec<(String, Option<u16>)> {
    let text = text.trim();
    if text == "*" {
        let all = ["*", "0.0.0.0/0", "::/0"];
        return all.map(|one| (one.to_owned(), None)).to_vec();
    }
    let (host, port) = match text.rsplit_once(':') {
        // An address of version 6 has colons of its own, unless it is in brackets.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            match port.parse().ok() {
                Some(port) => (host, Some(port)),
                None => (text, None),
            }
        }
        _ => (text, None),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = match host.strip_prefix("*.") {
        Some(domain) => format!(".{domain}"),
        None => host.to_owned(),
    };
    vec![(host, port)]
}

/// By which proxy an address is reached.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes(Option<Arc<Matchers>>);

#[derive(Debug)]
struct Matchers {
    /// For the ports that exceptions name.
    of_port: BTreeMap<u16, Matcher>,
    others: Matcher,
}

impl Routes {
    /// `HOST:PORT` of the proxy, if there is one in between.
    pub(crate) fn proxy(&self, url: &Url) -> Option<String> {
        let matchers = self.0.as_ref()?;
        let port = url.port_or_known_default()?;
        let matcher = matchers.of_port.get(&port).unwrap_or(&matchers.others);
        let intercept = matcher.intercept(&url.as_str().parse().ok()?)?;
        let authority = intercept.uri().authority()?;
        let text = authority.as_str();
        // A login goes before the host.
        Some(text.rsplit('@').next().unwrap_or(text).to_owned())
    }
}

/// `proxy:3128` is one without TLS.
fn address(variable: &'static str, value: &str) -> Result<Url> {
    let refused = |reason: &str| Error::Proxy {
        variable,
        reason: reason.to_owned(),
    };
    let full = match value.contains("://") {
        true => value.to_owned(),
        false => format!("http://{value}"),
    };
    let url = Url::parse(&full).map_err(|error| refused(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refused("varve speaks to proxies by HTTP and HTTPS only"));
    }
    match url.has_host() {
        true => Ok(url),
        false => Err(refused("it has no host")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &'static str)]) -> Result<Proxies> {
        Proxies::of(|name| {
            let mut known = variables.iter();
            known.find_map(|(known, value)| (*known == name).then_some(*value))
        })
    }

    #[test]
    fn the_customary_variables_name_them() {
        let check = |variables: &[(&str, &'static str)], url: &str, expect: Option<&str>| {
            let found = of(variables).unwrap().routes().proxy(&url.parse().unwrap());
            assert_eq!(found.as_deref(), expect, "{variables:?} {url}");
        };
        let (http, https) = ("http://r.example/v2/", "https://r.example:5000/v2/");
        check(&[], https, None);
        let both = [
            ("HTTP_PROXY", "plain:1"),
            ("https_proxy", "https://me:pw@tls:2/"),
        ];
        check(&both, http, Some("plain:1"));
        check(&both, https, Some("tls:2"));
        check(&[("ALL_PROXY", "http://all:3")], https, Some("all:3"));
        check(&[("HTTP_PROXY", ""), ("http_proxy", "")], http, None);
        for exception in ["*", "example", ".r.example", "x, r.example"] {
            let variables = [("HTTPS_PROXY", "p:1"), ("NO_PROXY", exception)];
            check(&variables, https, None);
        }
        for (exception, url) in [
            ("r.example:5000", "https://r.example:5000/v2/"),
            ("*.example:5000", "https://r.example:5000/v2/"),
            ("*.example", "https://r.example/v2/"),
            ("example:443", "https://r.example/v2/"),
            ("*", "https://192.0.2.2:5743/v2/"),
            ("192.0.2.2:5743", "https://192.0.2.2:5743/v2/"),
            ("x,192.0.2.0/24", "https://192.0.2.2:5743/v2/"),
            ("*", "https://[2001:db8::1]/v2/"),
            ("[2001:db8::1]:443", "https://[2001:db8::1]/v2/"),
            ("2001:db8::1", "https://[2001:db8::1]:5/v2/"),
        ] {
            let variables = [("HTTPS_PROXY", "p:1"), ("NO_PROXY", exception)];
            check(&variables, url, None);
        }
        for (exception, url) in [
            ("r.example:5001", "https://r.example:5000/v2/"),
            ("192.0.2.2:5743", "https://192.0.2.2/v2/"),
            ("192.0.2.3", "https://192.0.2.2/v2/"),
        ] {
            let variables = [("HTTPS_PROXY", "p:1"), ("NO_PROXY", exception)];
            check(&variables, url, Some("p:1"));
        }
        check(
            &[("HTTPS_PROXY", "p:1"), ("no_proxy", "other")],
            https,
            Some("p:1"),
        );
    }

    #[test]
    fn what_is_no_address_is_refused_without_its_password() {
        for value in [
            "http://",
            "socks5://p:1",
            "http://me:pw@p:port",
            "http://[::1",
        ] {
            let text = of(&[("HTTPS_PROXY", value)]).unwrap_err().to_string();
            assert!(
                text.contains("HTTPS_PROXY") && !text.contains("pw"),
                "{text}"
            );
        }
        let proxies = of(&[("HTTP_PROXY", "http://me:pw@p:1")]).unwrap();
        assert!(!format!("{proxies:?}").contains("pw"));
    }
}
