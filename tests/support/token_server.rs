//! A token server as docker's: tokens are signed with the key of `fixtures/server.pem`, which
//! `docker-registry` trusts by its CA.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

use super::fake_server::{Fake, Request, Response};
use super::fixture;

/// The server. It ends with the value.
#[derive(Debug)]
pub struct TokenServer {
    /// What answers.
    pub fake: Fake,
    /// Seconds until tokens end; what clients are told is five minutes.
    pub lifetime: Arc<AtomicI64>,
}

impl TokenServer {
    /// Gives everything to `me` with `secret` or the refresh token `refresh`; nobody else may push.
    /// Needs a tokio runtime, and lives in it.
    pub async fn start() -> Self {
        let lifetime = Arc::new(AtomicI64::new(300));
        let seconds = lifetime.clone();
        let fake =
            Fake::start(move |request| answer(request, seconds.load(Ordering::Relaxed))).await;
        TokenServer { fake, lifetime }
    }

    /// What a registry names as its realm.
    #[must_use]
    pub fn realm(&self) -> String {
        format!("http://{}/token", self.fake.address)
    }
}

fn answer(request: &Request, lifetime: i64) -> Response {
    let query = match request.method.as_str() {
        "POST" => String::from_utf8_lossy(&request.body).into_owned(),
        _ => request
            .path
            .split_once('?')
            .map_or("", |(_, query)| query)
            .to_owned(),
    };
    let mut scopes = Vec::new();
    let mut has_refresh_token = false;
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("scope", value)) => {
                let value = value.replace('+', " ").replace("%20", " ");
                let value = value
                    .replace("%3A", ":")
                    .replace("%2F", "/")
                    .replace("%2C", ",");
                scopes.extend(value.split(' ').map(str::to_owned).collect::<Vec<_>>());
            }
            Some(("refresh_token", "refresh")) => has_refresh_token = true,
            Some(("service", service)) => assert_eq!(service, "the-registry"),
            _ => {}
        }
    }
    let login = request.header("authorization");
    let is_me = login == Some("Basic bWU6c2VjcmV0") || has_refresh_token;
    if !is_me && (login.is_some() || request.method == "POST") {
        return Response::new(401, r#"{"details":"incorrect username or password"}"#);
    }
    let token = sign(&scopes, is_me, lifetime);
    let name = if request.method == "POST" {
        "access_token"
    } else {
        "token"
    };
    Response::new(200, format!(r#"{{"{name}":"{token}","expires_in":300}}"#))
}

fn pem(name: &str) -> String {
    let text = std::fs::read_to_string(fixture(name)).expect("a fixture");
    text.lines()
        .filter(|line| !line.starts_with("---"))
        .collect()
}

fn sign(scopes: &[String], is_me: bool, lifetime: i64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let now = i64::try_from(now).expect("before the end of time");
    let access: Vec<String> = scopes
        .iter()
        .filter_map(|scope| {
            let (kind, rest) = scope.split_once(':')?;
            let (name, actions) = rest.rsplit_once(':')?;
            let allowed: Vec<String> = actions
                .split(',')
                .filter(|action| is_me || *action == "pull")
                .map(|action| format!("\"{action}\""))
                .collect();
            let actions = allowed.join(",");
            Some(format!(
                r#"{{"type":"{kind}","name":"{name}","actions":[{actions}]}}"#
            ))
        })
        .collect();
    let header = format!(
        r#"{{"typ":"JWT","alg":"ES256","x5c":["{}"]}}"#,
        pem("server.pem")
    );
    let claims = format!(
        r#"{{"iss":"varve-test","sub":"me","aud":"the-registry","jti":"1","iat":{},"nbf":{},"exp":{},"access":[{}]}}"#,
        now - 600,
        now - 600,
        now + lifetime,
        access.join(",")
    );
    let encode = |text: &[u8]| URL_SAFE_NO_PAD.encode(text);
    let message = format!(
        "{}.{}",
        encode(header.as_bytes()),
        encode(claims.as_bytes())
    );
    let key = STANDARD.decode(pem("server.key")).expect("a key");
    let random = SystemRandom::new();
    let key =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key, &random).expect("a key");
    let signature = key.sign(&random, message.as_bytes()).expect("a signature");
    format!("{message}.{}", encode(signature.as_ref()))
}
