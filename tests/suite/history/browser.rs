//! The page of a build in a real browser. `cargo xtask test` leaves this module out where there is
//! no `chromium`.

use std::process::Command;

use support::workspace::{Varve, run};

/// The page as the browser has it when its script has run.
fn shown(varve: &Varve, page: &str) -> String {
    let mut chromium = Command::new("chromium");
    chromium
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!(
            "--user-data-dir={}",
            varve.path("profile").display()
        ))
        .arg(format!("file://{}", varve.path(page).display()))
        .env("HOME", varve.path(""));
    run(&mut chromium).success().stdout
}

#[test]
fn a_browser_shows_every_step_and_runs_nothing_that_a_build_wrote() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox AS a\n\
         RUN sleep 0.3; echo '<script>document.title=\"owned\"</script><img src=x onerror=\"document.title=1\">'\n\
         FROM busybox\nRUN echo '</pre><script>document.body.remove()</script>' > /f; sleep 0.2\n\
         COPY --from=a /etc/passwd /p\n",
    );
    varve.build(["-t", "app"]).succeeded();
    let opened = varve
        .varve(["history", "open", "-o", "page.html"])
        .success();
    assert_eq!(opened.stdout, "page.html\n");
    let dom = shown(&varve, "page.html");
    assert!(
        dom.contains("class=\"js\""),
        "the page's own script ran: {dom}"
    );
    assert!(dom.contains("<title>build 1 · context</title>"), "{dom}");
    for step in [
        "RUN sleep 0.3",
        "RUN echo &#39;&lt;/pre",
        "COPY --from=a",
        "exporting to image",
    ] {
        // The browser writes the text its own way.
        let step = step.replace("&#39;", "'");
        assert!(dom.contains(&step), "{step} in {dom}");
    }
    assert_eq!(
        dom.matches("<img").count() + dom.matches("<script").count(),
        1,
        "{dom}"
    );
    assert!(dom.contains("class=\"bar s-done"), "{dom}");
    let directory = varve.path("");
    let named = varve.tool(
        "env",
        [
            "DISPLAY=:99".to_owned(),
            format!("TMPDIR={}", directory.display()),
            support::varve_binary().display().to_string(),
            "history".to_owned(),
            "open".to_owned(),
            "--no-open".to_owned(),
        ],
    );
    let named = named.success();
    assert!(named.stdout.ends_with("/varve-build-1.html\n"), "{named}");
    assert!(named.stderr.is_empty(), "{named}");
}
