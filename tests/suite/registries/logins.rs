//! A registry that wants to know who asks.

use support::registry::Registry;
use support::workspace::Varve;

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
    let hint = format!("docker login {address}");
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
    varve.varve(["prune", "--all"]).succeeded();
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
