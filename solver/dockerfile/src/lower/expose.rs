//! `EXPOSE`: ports and ranges of ports.

use super::Lowerer;
use super::arguments::at;
use super::history::{Entry, list};
use super::stage::StageState;
use crate::ast::Word;
use crate::config::Empty;
use crate::error::quote::quote;
use crate::error::{Error, Span};

impl Lowerer<'_> {
    /// Records ports. One word may mean several.
    pub(super) fn expose(
        &mut self,
        stage: &mut StageState,
        ports: &[Word],
        span: Span,
    ) -> Result<(), Error> {
        let mut exposed = Vec::new();
        for word in ports {
            let words = self
                .globals
                .lexer
                .process_words(word.as_str(), &stage.environment);
            for port in words.map_err(|error| at(span, error))? {
                let found = parse(&port).map_err(|message| at(span, message))?;
                self.spend(found.iter().map(String::len).sum(), span)?;
                exposed.extend(found);
            }
        }
        for port in &exposed {
            stage
                .image
                .config
                .exposed_ports
                .insert(port.clone(), Empty {});
        }
        stage.commit(format!("EXPOSE {}", list(&exposed)), Entry::Empty);
        Ok(())
    }
}

/// Reads `[[ip:]host:]port[-port][/protocol]`; gives `port/protocol` of every port.
fn parse(text: &str) -> Result<Vec<String>, String> {
    let mut parts = text.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let host = parts.next().unwrap_or_default();
    let address = parts.next().unwrap_or_default();
    let invalid = |reason: String| format!("invalid port: {}: {reason}", quote(text));
    let (range, protocol) = container.split_once('/').unwrap_or((container, ""));
    if range.is_empty() {
        return Err(invalid("no port specified".to_owned()));
    }
    let lower = protocol.to_lowercase();
    let protocol = match lower.as_str() {
        "" => "tcp",
        known @ ("tcp" | "udp" | "sctp") => known,
        _ => return Err(invalid(format!("invalid proto: {protocol}"))),
    };
    check_address(address)?;
    let (first, last) =
        parse_range(range).ok_or_else(|| format!("invalid containerPort: {range}"))?;
    if !host.is_empty() {
        let (from, to) = parse_range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?;
        if last != first && last - first != to - from {
            return Err(format!(
                "invalid ranges specified for container and host Ports: {range} and {host}"
            ));
        }
    }
    Ok((first..=last)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

fn check_address(address: &str) -> Result<(), String> {
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let bare = bare.unwrap_or(address);
    if address.is_empty() || bare.parse::<core::net::IpAddr>().is_ok() {
        return Ok(());
    }
    Err(format!("invalid IP address: {address}"))
}

/// `80` or `80-90`.
fn parse_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::parse;

    fn check(text: &str, expected: Result<&[&str], &str>) {
        let found = parse(text);
        let found = found
            .as_ref()
            .map(|ports| ports.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(
            found.as_deref().map_err(|error| error.as_str()),
            expected,
            "of {text:?}"
        );
    }

    #[test]
    fn ports_and_ranges_are_read() {
        check("80", Ok(&["80/tcp"]));
        check("53/UDP", Ok(&["53/udp"]));
        check(
            "8000-8002/sctp",
            Ok(&["8000/sctp", "8001/sctp", "8002/sctp"]),
        );
        check("127.0.0.1:8080:80", Ok(&["80/tcp"]));
        check("[::1]:8080:80", Ok(&["80/tcp"]));
        check("8080-8081:80-81", Ok(&["80/tcp", "81/tcp"]));
        check("8080-8090:80", Ok(&["80/tcp"]));
    }

    #[test]
    fn what_is_no_port_is_refused() {
        check("", Err("invalid port: \"\": no port specified"));
        check("/tcp", Err("invalid port: \"/tcp\": no port specified"));
        check(
            "80/icmp",
            Err("invalid port: \"80/icmp\": invalid proto: icmp"),
        );
        check("65536", Err("invalid containerPort: 65536"));
        check("90-80", Err("invalid containerPort: 90-80"));
        check("x:80", Err("invalid hostPort: x"));
        check("localhost:1:80", Err("invalid IP address: localhost"));
        check(
            "1-3:80-81",
            Err("invalid ranges specified for container and host Ports: 80-81 and 1-3"),
        );
    }
}
