//! Logins and tokens, against a real registry and against one that changes its mind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use registry::{Client, DockerConfig, Pushed, UploadOptions};

use crate::support::docker_registry::DockerRegistry;
use crate::support::fake_server::{Fake, Response};
use crate::support::image::Image;
use crate::support::token_server::TokenServer;
use crate::support::{assert_says, builder, client, repository, tag};

fn with_entry(host: &str, entry: &str) -> Client {
    let config = format!(r#"{{"auths":{{"{host}":{entry}}}}}"#);
    let config = DockerConfig::parse(config.as_bytes(), "config.json").unwrap();
    builder().credentials(Arc::new(config)).build()
}

/// `me:secret`
const ME: &str = r#"{"auth":"bWU6c2VjcmV0"}"#;
/// `me:wrong`
const WRONG: &str = r#"{"auth":"bWU6d3Jvbmc="}"#;

#[tokio::test]
async fn a_password_opens_a_registry_with_basic_auth() {
    let server = DockerRegistry::with_password();
    let repository = repository(&server.address, "team/app");
    let image = Image::new(1);
    let me = with_entry(&server.address, ME);
    image
        .push(&me, &repository, &tag("v1"), &UploadOptions::default())
        .await
        .unwrap();
    image.pull(&me, &repository, &tag("v1")).await.unwrap();

    let login = format!("`varve login {}`", server.address);
    let subject = format!("{}/team/app:v1", server.address);
    let anonymous = client().manifest(&repository, &tag("v1")).await;
    assert_says(anonymous, &[&subject, "needs a login", "401", &login]);
    let wrong = with_entry(&server.address, WRONG);
    let wrong = wrong.resolve(&repository, &tag("v1")).await;
    assert_says(
        wrong,
        &[&subject, "the stored login is not accepted", &login],
    );
}

#[tokio::test]
async fn tokens_are_fetched_with_a_password_a_refresh_token_or_nothing() {
    let tokens = TokenServer::start().await;
    let server = DockerRegistry::with_tokens(&tokens.realm());
    let repository = repository(&server.address, "team/app");
    let image = Image::new(2);
    let me = with_entry(&server.address, ME);
    image
        .push(&me, &repository, &tag("v1"), &UploadOptions::default())
        .await
        .unwrap();
    assert_eq!(tokens.fake.seen().len(), 1, "one scope, one token");

    let refresh = with_entry(&server.address, r#"{"identitytoken":"refresh"}"#);
    image.pull(&refresh, &repository, &tag("v1")).await.unwrap();
    assert_eq!(tokens.fake.count("POST /token"), 1);

    image
        .pull(&client(), &repository, &tag("v1"))
        .await
        .unwrap();

    let pushed = Image::new(3)
        .push(
            &client(),
            &repository,
            &tag("v2"),
            &UploadOptions::default(),
        )
        .await;
    assert_says(pushed, &["team/app", "varve login", &server.address]);
    let wrong = with_entry(&server.address, WRONG);
    let wrong = wrong.manifest(&repository, &tag("v1")).await;
    assert_says(
        wrong,
        &[
            "team/app:v1",
            "incorrect username",
            "the stored login is not accepted",
        ],
    );
}

#[tokio::test]
async fn many_tasks_share_one_token() {
    let tokens = TokenServer::start().await;
    let server = DockerRegistry::with_tokens(&tokens.realm());
    let repository = repository(&server.address, "a");
    let image = Image::new(4);
    let me = with_entry(&server.address, ME);
    image
        .push(&me, &repository, &tag("v1"), &UploadOptions::default())
        .await
        .unwrap();
    let before = tokens.fake.seen().len();
    let reader = with_entry(&server.address, ME);
    let v1 = tag("v1");
    let pulls = (0..16).map(|_| image.pull(&reader, &repository, &v1));
    for pulled in join_all(pulls).await {
        pulled.unwrap();
    }
    assert_eq!(tokens.fake.seen().len() - before, 1);
}

#[tokio::test]
async fn a_token_that_ends_is_replaced() {
    let tokens = TokenServer::start().await;
    let server = DockerRegistry::with_tokens(&tokens.realm());
    let repository = repository(&server.address, "a");
    let image = Image::new(5);
    let me = with_entry(&server.address, ME);
    // The registry forgives a minute.
    tokens.lifetime.store(-54, Ordering::Relaxed);
    image
        .push(&me, &repository, &tag("v1"), &UploadOptions::default())
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(7)).await;
    let before = tokens.fake.seen().len();
    tokens.lifetime.store(300, Ordering::Relaxed);
    let pushed = me
        .push_blob(
            &repository,
            &image.blobs[2].0,
            &image.blobs[2].1,
            &UploadOptions::default(),
        )
        .await;
    assert_eq!(pushed.unwrap(), Pushed::Existed);
    assert_eq!(tokens.fake.seen().len(), before + 1);

    tokens.lifetime.store(-300, Ordering::Relaxed);
    let stale = with_entry(&server.address, ME);
    let stale = stale.manifest(&repository, &tag("v1")).await;
    assert_says(stale, &["a:v1", "varve login"]);
}

/// A registry that accepts the tokens from `first` on, and gives them out by number.
async fn numbered_tokens(accepted: Arc<AtomicUsize>) -> Fake {
    let given = AtomicUsize::new(0);
    let address = Arc::new(std::sync::OnceLock::<String>::new());
    let own = address.clone();
    let fake = Fake::start(move |request| {
        if request.path.starts_with("/token") {
            let number = given.fetch_add(1, Ordering::SeqCst);
            return Response::new(200, format!(r#"{{"access_token":"t{number}"}}"#));
        }
        let wanted = accepted.load(Ordering::SeqCst);
        let number = request
            .header("authorization")
            .and_then(|value| value.strip_prefix("Bearer t"))
            .and_then(|number| number.parse::<usize>().ok());
        if number.is_some_and(|number| number >= wanted) {
            return Response::new(200, r#"{"schemaVersion":2,"layers":[]}"#);
        }
        let challenge = format!(
            "Basic realm=\"x, y\", Bearer realm=\"http://{}/token\",error=\"invalid_token\"",
            own.get().unwrap()
        );
        Response::new(401, "").header("www-authenticate", challenge)
    })
    .await;
    address.set(fake.address.clone()).unwrap();
    fake
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let accepted = Arc::new(AtomicUsize::new(0));
    let fake = numbered_tokens(accepted.clone()).await;
    let repository = repository(&fake.address, "a");
    let client = with_entry(
        &fake.address,
        r#"{"registrytoken":"","username":"u","password":"p"}"#,
    );
    client.manifest(&repository, &tag("v")).await.unwrap();
    accepted.store(1, Ordering::SeqCst);
    client.manifest(&repository, &tag("v")).await.unwrap();
    assert_eq!(fake.count("GET /token"), 2);
    let asked = &fake.seen()[1].path;
    assert!(asked.contains("scope=repository%3Aa%3Apull"), "{asked}");
    assert!(asked.contains("account=u"), "{asked}");

    accepted.store(1000, Ordering::SeqCst);
    let refused = client.manifest(&repository, &tag("v")).await;
    assert_says(refused, &["/a:v needs a login", "401", "varve login"]);
    assert_eq!(fake.count("GET /token"), 3, "one new token, and no more");
}

#[tokio::test]
async fn a_registry_token_needs_no_token_server() {
    let accepted = Arc::new(AtomicUsize::new(7));
    let fake = numbered_tokens(accepted).await;
    let repository = repository(&fake.address, "a");
    let client = with_entry(&fake.address, r#"{"registrytoken":"t7"}"#);
    client.manifest(&repository, &tag("v")).await.unwrap();
    assert_eq!(fake.count("GET /token"), 0);
}

#[tokio::test]
async fn a_token_server_without_get_is_asked_by_post() {
    let address = Arc::new(std::sync::OnceLock::<String>::new());
    let own = address.clone();
    let fake = Fake::start(move |request| {
        if request.line().starts_with("GET /token") {
            return Response::new(405, "");
        }
        if request.line() == "POST /token?x=y" {
            let form = String::from_utf8(request.body.clone()).unwrap();
            assert!(
                form.contains("grant_type=password&username=me&password=secret"),
                "{form}"
            );
            assert!(form.contains("service=s%26t"), "{form}");
            return Response::new(200, r#"{"access_token":"good","expires_in":3600}"#);
        }
        if request.header("authorization") == Some("Bearer good") {
            return Response::new(200, r#"{"schemaVersion":2,"layers":[]}"#);
        }
        let realm = own.get().unwrap();
        let challenge = format!("Bearer realm=\"http://{realm}/token?x=y\",service=\"s&t\"");
        Response::new(401, "").header("WWW-Authenticate", challenge)
    })
    .await;
    address.set(fake.address.clone()).unwrap();
    let me = with_entry(&fake.address, ME);
    let repository = repository(&fake.address, "a");
    me.manifest(&repository, &tag("v")).await.unwrap();
}

#[tokio::test]
async fn hostile_challenges_and_tokens_are_errors() {
    let check = async |challenge: &'static str, token: &'static str, parts: &[&str]| {
        let address = Arc::new(std::sync::OnceLock::<String>::new());
        let own = address.clone();
        let fake = Fake::start(move |request| {
            if request.path.starts_with("/token") {
                return Response::new(200, token);
            }
            let challenge = challenge.replace("SELF", own.get().unwrap());
            Response::new(401, "no").header("www-authenticate", challenge)
        })
        .await;
        address.set(fake.address.clone()).unwrap();
        let repository = repository(&fake.address, "a");
        let me = with_entry(&fake.address, ME);
        assert_says(me.manifest(&repository, &tag("v")).await, parts);
    };
    let bearer = "Bearer realm=\"http://SELF/token\"";
    check("", "", &["needs a login"]).await;
    check("Negotiate", "", &["needs a login"]).await;
    check(
        "Bearer realm=\"nonsense\"",
        "",
        &["\"nonsense\" has no valid address"],
    )
    .await;
    check(
        "Bearer realm=\"file:///etc\"",
        "",
        &["has no valid address"],
    )
    .await;
    check(bearer, "<html>", &["not JSON"]).await;
    check(bearer, "{}", &["has no token"]).await;
    check(bearer, r#"{"token":"a\nb"}"#, &["cannot be sent"]).await;
    check(
        bearer,
        r#"{"token":"x","expires_in":-1}"#,
        &["needs a login"],
    )
    .await;
}

#[tokio::test]
async fn a_token_server_in_trouble_is_asked_as_often_as_a_registry() {
    let fake = Fake::start(|request| {
        if request.path.starts_with("/token") {
            return Response::new(503, "busy");
        }
        let host = request.header("host").unwrap();
        let challenge = format!("Bearer realm=\"http://{host}/token\"");
        Response::new(401, "").header("www-authenticate", challenge)
    })
    .await;
    let repository = repository(&fake.address, "a");
    let result = client().manifest(&repository, &tag("v")).await;
    assert_says(result, &["/a:v", "503: busy", "after 5 attempts"]);
    assert_eq!(fake.count("GET /token"), 5);
}

#[tokio::test]
async fn a_credential_helper_is_not_run_for_each_request() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("docker-credential-test");
    let runs = directory.path().join("runs");
    let script = format!(
        "#!/bin/sh\necho run >>{}\necho '{{\"Username\":\"me\",\"Secret\":\"secret\"}}'\n",
        runs.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = DockerConfig::parse(br#"{"credsStore":"test"}"#, "config.json")
        .unwrap()
        .with_helper_directories(vec![directory.path().to_owned()]);
    let server = DockerRegistry::with_password();
    let client = builder().credentials(Arc::new(config)).build();
    let repository = repository(&server.address, "a");
    let image = Image::new(6);
    image
        .push(&client, &repository, &tag("v"), &UploadOptions::default())
        .await
        .unwrap();
    image.pull(&client, &repository, &tag("v")).await.unwrap();
    assert_eq!(std::fs::read_to_string(&runs).unwrap(), "run\n");
}

#[tokio::test]
async fn a_blob_is_mounted_with_a_token_for_both_repositories() {
    let tokens = TokenServer::start().await;
    let server = DockerRegistry::with_tokens(&tokens.realm());
    let me = with_entry(&server.address, ME);
    let (image, v1) = (Image::new(7), tag("v1"));
    let first = repository(&server.address, "team/first");
    image
        .push(&me, &first, &v1, &UploadOptions::default())
        .await
        .unwrap();
    let second = repository(&server.address, "team/second");
    let options = UploadOptions {
        mount_from: Some("team/first".to_owned()),
        ..UploadOptions::default()
    };
    let pushed = image.push(&me, &second, &v1, &options).await;
    assert_eq!(pushed.unwrap(), [Pushed::Mounted; 5]);
    image.pull(&me, &second, &v1).await.unwrap();
}
