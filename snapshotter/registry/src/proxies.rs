//! Proxies between here and registries, as the customary variables name them. Whose variables these
//! are is the caller's to know: several users may share one process.

use std::fmt;
use std::sync::Arc;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{NoProxy, Proxy, Url};

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
    /// Hosts that are asked without: names with all below them, addresses, networks, `*`.
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

    /// For the HTTP library.
    pub(crate) fn each(&self) -> Vec<Proxy> {
        let except = || NoProxy::from_string(&self.exceptions);
        let http = self.http.as_ref().map(|url| Proxy::http(url.clone()));
        let https = self.https.as_ref().map(|url| Proxy::https(url.clone()));
        // What is a URL is an address of a proxy.
        let each = [http, https].into_iter().flatten().flatten();
        each.map(|proxy| proxy.no_proxy(except())).collect()
    }

    /// What tells who is behind an answer.
    pub(crate) fn routes(&self) -> Routes {
        let text = |url: &Option<Url>| url.as_ref().map_or(String::new(), Url::to_string);
        let matcher = Matcher::builder()
            .http(text(&self.http))
            .https(text(&self.https))
            .no(self.exceptions.clone());
        Routes(Some(Arc::new(matcher.build())))
    }
}

/// By which proxy an address is reached.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes(Option<Arc<Matcher>>);

impl Routes {
    /// `HOST:PORT` of the proxy, if there is one in between.
    pub(crate) fn proxy(&self, url: &Url) -> Option<String> {
        let intercept = self.0.as_ref()?.intercept(&url.as_str().parse().ok()?)?;
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
