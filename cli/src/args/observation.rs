//! What is said to watch a daemon.

use std::path::PathBuf;
use std::str::FromStr;

/// `--metrics-address`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MetricsAddress {
    /// `HOST:PORT`.
    Tcp(String),
    /// `unix:///PATH`.
    Unix(PathBuf),
}

impl FromStr for MetricsAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix://") {
            return match path.starts_with('/') {
                true => Ok(MetricsAddress::Unix(path.into())),
                false => Err("the path of the socket must be absolute: unix:///run/x.sock".into()),
            };
        }
        let port = text
            .rsplit_once(':')
            .map(|(host, port)| (host, port.parse::<u16>()));
        match port {
            Some((host, Ok(_))) if !host.is_empty() && !host.contains('/') => {
                Ok(MetricsAddress::Tcp(text.into()))
            }
            _ => Err("expected HOST:PORT, as 127.0.0.1:9109, or unix:///PATH".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_port_or_a_socket() {
        for (text, expected) in [
            (
                "127.0.0.1:9109",
                Some(MetricsAddress::Tcp("127.0.0.1:9109".into())),
            ),
            ("[::1]:0", Some(MetricsAddress::Tcp("[::1]:0".into()))),
            (
                "localhost:80",
                Some(MetricsAddress::Tcp("localhost:80".into())),
            ),
            ("unix:///run/m", Some(MetricsAddress::Unix("/run/m".into()))),
            ("unix://run/m", None),
            (":9109", None),
            ("9109", None),
            ("http://127.0.0.1:80", None),
            ("127.0.0.1:70000", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }
}
