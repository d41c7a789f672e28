//! A registry that wants to know who asks.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use support::registry::Registry;
use support::relay::Relay;
use support::token_server::TokenServer;
use support::workspace::{Outcome, Running, Varve, run_with_input};
use tokio::runtime::Runtime;

use super::interrupted::{BEGINNING, noise};

/// Writes what `docker login` writes; `login` is NAME:PASSWORD in base64.
fn log_in(varve: &Varve, address: &str, login: &str) {
    let logins = serde_json::json!({ "auths": { address: { "auth": login } } });
    varve.write(".docker/config.json", logins.to_string());
}

#[test]
fn without_the_right_login_nothing_is_pulled_or_pushed_and_it_is_told_which_is_missing() {
    let varve = Varve::new();
    let registry = Registry::with_password(&varve.path("registry"));
    let address = registry.address().to_owned();
    let name = format!("{address}/team/app:1");
    varve.dockerfile("FROM busybox\nRUN echo text > /file\n");
    varve.build(["-t", &name]).succeeded();
    let hint = format!("varve login {address}");
    let refused = varve.varve(["push", &name]);
    refused.refused_with(1, &[&address, "team/app", "needs a login", &hint]);
    // me:wrong
    log_in(&varve, &address, "bWU6d3Jvbmc=");
    let refused = varve.varve(["push", &name]);
    refused.refused_with(1, &[&address, "team/app", "401", &hint]);
    // me:secret
    log_in(&varve, &address, "bWU6c2VjcmV0");
    let pushed = varve.varve(["push", &name]).success();
    varve.varve(["rmi", &name]).succeeded();
    varve.varve(["prune", "--all", "--force"]).succeeded();
    varve.dockerfile(&format!("FROM {name}\nRUN cat /file > /copy\n"));
    varve.build(["-t", "child"]).succeeded();
    assert_eq!(varve.shell("child", "cat /copy"), "text\n");
    let pulled = varve.varve(["pull", &name]).success();
    assert_eq!(pulled.stdout, pushed.stdout);
    varve.varve(["rmi", &name]).succeeded();
    log_in(&varve, &address, "bWU6d3Jvbmc=");
    let line = format!(">>> FROM {name}");
    let refused = varve.build(["-t", "other"]);
    let refused = refused.refused(1, &[&address, "needs a login", &hint, &line]);
    for secret in ["secret", "wrong", "bWU6"] {
        assert!(!refused.stderr.contains(secret), "{refused}");
    }
}

/// Logs in with a password on standard input.
fn log_in_by_command(varve: &Varve, address: &str, password: &str) -> Outcome {
    let words = ["login", "--username", "me", "--password-stdin", address];
    run_with_input(&mut varve.command(words), password.as_bytes())
}

/// What a registry accepts is stored, used, found again and forgotten; anything else is not stored.
fn logs_in_and_out(varve: &Varve, address: &str, name: &str) {
    varve.dockerfile("FROM busybox\nRUN echo text > /file\n");
    varve.build(["-t", name]).succeeded();
    let refused = log_in_by_command(varve, address, "wrong\n");
    let words = [address, "does not accept this login", "check the name"];
    assert!(!refused.stderr.contains("wrong"), "{refused}");
    refused.refused_with(1, &words);
    let file = varve.path(".docker/config.json");
    assert!(!file.exists(), "a wrong login was stored");

    let done = log_in_by_command(varve, address, "secret\n").success();
    assert_eq!(done.stdout, "Login Succeeded\n");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    varve.varve(["push", name]).succeeded();
    let again = varve.varve(["login", address]).success();
    assert!(again.stderr.contains("existing credentials"), "{again}");

    let done = varve.varve(["logout", address]).success();
    assert_eq!(
        done.stdout,
        format!("Removing login credentials for {address}\n")
    );
    assert!(!varve.read(".docker/config.json").contains(address));
    let done = varve.varve(["logout", address]).success();
    assert_eq!(done.stdout, format!("Not logged in to {address}\n"));
}

#[test]
fn a_login_is_stored_when_the_registry_accepts_it_and_forgotten_on_demand() {
    let varve = Varve::new();
    let registry = Registry::with_password(&varve.path("registry"));
    let address = registry.address();
    let name = format!("{address}/team/app:1");
    logs_in_and_out(&varve, address, &name);
    let hint = format!("varve login {address}");
    let refused = varve.varve(["pull", &name]);
    refused.refused_with(1, &[address, "needs a login", &hint]);
    // Nobody is there to be asked, and nothing is waited for.
    let refused = varve.varve(["login", address]);
    refused.refused_with(1, &["standard input is no terminal", "--password-stdin"]);
}

#[test]
fn a_token_server_is_shown_a_login_before_it_is_stored() {
    let varve = Varve::new();
    let runtime = Runtime::new().unwrap();
    let tokens = runtime.block_on(TokenServer::start());
    let registry = Registry::with_tokens(&varve.path("registry"), &tokens.realm());
    let address = registry.address();
    logs_in_and_out(&varve, address, &format!("{address}/team/app:1"));
}

/// The login that the token server accepts, and another one: in base64.
const ME: &str = "bWU6c2VjcmV0";
const WRONG: &str = "bWU6d3Jvbmc=";

/// A registry that takes the tokens of a server, with an image of a layer of several megabytes, and
/// the relay through which it is asked; the image's name.
fn with_tokens(varve: &Varve, tokens: &TokenServer) -> (Registry, Relay, String) {
    let registry = Registry::with_tokens(&varve.path("registry"), &tokens.realm());
    let relay = Relay::start(registry.address());
    let name = format!("{}/team/app:1", relay.address());
    log_in(varve, relay.address(), ME);
    let noise = [noise(0), noise(1)].concat();
    varve.write("context/noise", noise);
    varve.dockerfile("FROM busybox\nCOPY noise /\n");
    varve.build(["--push", "-t", &name]).succeeded();
    forget(varve, &name);
    varve.dockerfile(&format!("FROM {name}\nRUN wc -c < /noise > /size\n"));
    (registry, relay, name)
}

fn forget(varve: &Varve, name: &str) {
    varve.varve(["rmi", name]).succeeded();
    varve.varve(["prune", "--all", "--force"]).succeeded();
}

#[test]
fn tokens_are_fetched_and_a_new_one_where_one_ends_midway() {
    let varve = Varve::new();
    let runtime = Runtime::new().unwrap();
    let tokens = runtime.block_on(TokenServer::start());
    let (_registry, relay, name) = with_tokens(&varve, &tokens);
    varve.build(["-t", "child"]).succeeded();
    assert_eq!(varve.shell("child", "cat /size"), format!("{}\n", 4 << 20));
    varve.varve(["rmi", "child"]).succeeded();
    forget(&varve, &name);

    // The registry forgives a minute, so that this one is good for six seconds.
    tokens.lifetime.store(-54, Ordering::Relaxed);
    let before = tokens.fake.seen().len();
    relay.hold_after(2 * BEGINNING);
    let running = Running::start(&mut varve.build_command(["-t", "child"]));
    relay.wait_until_held();
    thread::sleep(Duration::from_secs(8));
    tokens.lifetime.store(300, Ordering::Relaxed);
    relay.cut_after(0);
    relay.release();
    let built = running.wait().success();
    assert!(built.stderr.contains("trying again in"), "{built}");
    assert_eq!(
        tokens.fake.seen().len() - before,
        2,
        "one that ended, and one in its place"
    );
    assert_eq!(varve.shell("child", "cat /size"), format!("{}\n", 4 << 20));
    varve.varve(["rmi", "child"]).succeeded();
    forget(&varve, &name);

    // A server that gives only such as have ended.
    tokens.lifetime.store(-120, Ordering::Relaxed);
    let refused = varve.varve(["pull", &name]);
    let hint = format!("varve login {}", relay.address());
    refused.refused_with(1, &[&name, "needs a login", &hint]);
    tokens.lifetime.store(300, Ordering::Relaxed);
    log_in(&varve, relay.address(), WRONG);
    let refused = varve.build(["-t", "child"]);
    let words = [
        &*name,
        "incorrect username",
        "stored login is not accepted",
        &hint,
    ];
    let refused = refused.refused(1, &words);
    for secret in ["secret", "wrong", ME, WRONG] {
        assert!(!refused.stderr.contains(secret), "{refused}");
    }
    // Everybody may pull there, and not push.
    varve.write(".docker/config.json", "{}");
    varve.varve(["pull", &name]).succeeded();
    let refused = varve.varve(["push", &name]);
    refused.refused_with(1, &["team/app", &hint]);
}
