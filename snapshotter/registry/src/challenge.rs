//! `WWW-Authenticate`: what a registry wants to see before it answers. RFC 9110, 11.6.1.
//!
//! One header may hold several challenges, and commas part both challenges and parameters; a value
//! may be quoted, with commas and escapes in it.

/// Headers of hostile servers: more is not read.
const LENGTH_MAX: usize = 16 * 1024;

/// One challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// Name and password in each request.
    Basic,
    /// A token of the server `realm`.
    Bearer(Bearer),
}

/// The parameters of a bearer challenge (distribution, "Token Authentication Specification").
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Bearer {
    /// Address of the token server.
    pub(crate) realm: String,
    /// Who the token is for.
    pub(crate) service: Option<String>,
    /// What was asked for, parted by blanks.
    pub(crate) scope: Option<String>,
    /// Why the token that was sent is not enough.
    pub(crate) error: Option<String>,
}

/// All challenges of these header values that this crate can meet, the strongest first.
pub(crate) fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<Challenge> {
    let mut found = Vec::new();
    for value in values {
        let value = match value.char_indices().nth(LENGTH_MAX) {
            Some((end, _)) => &value[..end],
            None => value,
        };
        Parser { rest: value }.challenges(&mut found);
    }
    found.sort_by_key(|challenge| match challenge {
        Challenge::Bearer(_) => 0,
        Challenge::Basic => 1,
    });
    found
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn challenges(&mut self, found: &mut Vec<Challenge>) {
        loop {
            self.skip(|c| c == ',' || c.is_ascii_whitespace());
            let scheme = self.token();
            if scheme.is_empty() {
                return;
            }
            let parameters = self.parameters();
            if scheme.eq_ignore_ascii_case("basic") {
                found.push(Challenge::Basic);
            } else if scheme.eq_ignore_ascii_case("bearer") {
                let bearer = bearer(parameters);
                if !bearer.realm.is_empty() {
                    found.push(Challenge::Bearer(bearer));
                }
            }
        }
    }

    /// `name=value` pairs up to the next scheme, which is a word without `=`.
    fn parameters(&mut self) -> Vec<(&'a str, String)> {
        let mut parameters = Vec::new();
        loop {
            let before = self.rest;
            self.skip(|c| c == ',' || c.is_ascii_whitespace());
            let name = self.token();
            self.skip(|c| c.is_ascii_whitespace());
            let Some(rest) = self.rest.strip_prefix('=').filter(|_| !name.is_empty()) else {
                // A token68, as in `Negotiate abc==`, belongs to no scheme that is used here.
                self.rest = if name.is_empty() { self.rest } else { before };
                return parameters;
            };
            self.rest = rest;
            self.skip(|c| c.is_ascii_whitespace());
            let value = match self.rest.strip_prefix('"') {
                Some(rest) => self.quoted(rest),
                None => self.token().to_owned(),
            };
            self.skip(|c| c == '=');
            parameters.push((name, value));
        }
    }

    fn quoted(&mut self, text: &'a str) -> String {
        let mut value = String::new();
        let mut characters = text.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.rest = &text[at + 1..];
                    return value;
                }
                '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                other => value.push(other),
            }
        }
        self.rest = "";
        value
    }

    fn token(&mut self) -> &'a str {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/?@".contains(c);
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        token
    }

    fn skip(&mut self, is_skipped: impl Fn(char) -> bool) {
        self.rest = self.rest.trim_start_matches(is_skipped);
    }
}

fn bearer(parameters: Vec<(&str, String)>) -> Bearer {
    let mut bearer = Bearer::default();
    for (name, value) in parameters {
        match name.to_ascii_lowercase().as_str() {
            "realm" => bearer.realm = value,
            "service" => bearer.service = Some(value),
            "scope" => bearer.scope = Some(value),
            "error" => bearer.error = Some(value),
            _ => {}
        }
    }
    bearer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[&str], expect: &[Challenge]) {
        assert_eq!(parse(values.iter().copied()), expect, "{values:?}");
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer(Bearer {
            realm: realm.into(),
            service: service.map(Into::into),
            scope: scope.map(Into::into),
            error: None,
        })
    }

    #[test]
    fn challenges_are_parted_from_their_parameters() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let docker = bearer(
            "https://auth.docker.io/token",
            Some("registry.docker.io"),
            Some("repository:a/b:pull,push"),
        );
        check(&[hub], std::slice::from_ref(&docker));
        check(&["Basic realm=\"a, Bearer realm=b\""], &[Challenge::Basic]);
        check(&["basic"], &[Challenge::Basic]);
        check(&["Basic realm=x", hub], &[docker.clone(), Challenge::Basic]);
        check(
            &[&format!("Basic realm=\"x\", {hub}")],
            &[docker.clone(), Challenge::Basic],
        );
        check(
            &[&format!("{hub}, Basic realm=\"x\"")],
            &[docker, Challenge::Basic],
        );
        check(
            &["BEARER Realm = https://a/token , SERVICE=\"q\\\"\\\\\""],
            &[bearer("https://a/token", Some("q\"\\"), None)],
        );
        check(
            &["Negotiate abc==, Bearer realm=x"],
            &[bearer("x", None, None)],
        );
        check(&["Digest qop=\"a,b\", nonce=1, Basic"], &[Challenge::Basic]);
    }

    #[test]
    fn why_a_token_was_refused_is_kept() {
        let values = [r#"Bearer realm="r",error="invalid_token""#];
        let Challenge::Bearer(found) = &parse(values)[0] else {
            panic!("a bearer challenge");
        };
        assert_eq!(found.error.as_deref(), Some("invalid_token"));
    }

    #[test]
    fn hostile_headers_are_read_to_their_end() {
        check(&[""], &[]);
        check(&["Bearer"], &[]);
        check(&["Bearer realm="], &[]);
        check(&["Bearer service=x"], &[]);
        check(&["=", "==,==", ",,,", "\"", "Bearer =x"], &[]);
        check(
            &["Bearer realm=\"never closed"],
            &[bearer("never closed", None, None)],
        );
        check(
            &["Bearer realm=\"ends in \\"],
            &[bearer("ends in ", None, None)],
        );
        check(&["Bearer realm=é"], &[]);
        let long = format!("Bearer realm=\"{}\"", "é".repeat(100_000));
        assert_eq!(parse([long.as_str()]).len(), 1);
        let many = "Basic,".repeat(100_000);
        assert!(parse([many.as_str()]).len() <= LENGTH_MAX);
    }

    #[test]
    fn headers_of_any_form_are_read_without_harm() {
        use rand::{RngExt as _, SeedableRng as _};
        let mut random = rand::rngs::StdRng::seed_from_u64(7);
        let parts = [
            "Bearer", "Basic", "realm", "scope", "=", "\"", "\\", ",", " ", "a", "é", "==", "\t",
        ];
        for _ in 0..20_000 {
            let length = random.random_range(0..24);
            let text: String = (0..length)
                .map(|_| parts[random.random_range(0..parts.len())])
                .collect();
            let found = parse([text.as_str()]);
            assert!(found.len() <= length, "{text:?}: {found:?}");
        }
    }
}
