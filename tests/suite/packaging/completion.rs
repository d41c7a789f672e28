//! Tab in real shells, on a terminal where a shell needs one.

use std::process::Command;

use support::workspace::{Varve, run, run_with_input};

/// Two images, a build, a Dockerfile with stages.
fn shop() -> Varve {
    let varve = Varve::new();
    varve.write("context/file", "text");
    varve.dockerfile("FROM busybox AS compile\nCOPY file /\nFROM compile AS check\nARG LEVEL\n");
    varve
        .build([
            "-q",
            "-t",
            "app:1.0",
            "-t",
            "registry.example:5000/team/app",
        ])
        .succeeded();
    varve
}

/// The id of an image, by its full name.
fn id(varve: &Varve, name: &str) -> String {
    let inspected = varve.varve(["inspect", "--format", "{{.Id}}", name]);
    inspected.success().stdout.trim().to_owned()
}

/// What a terminal shows when `lines` are typed into a shell.
#[track_caller]
fn typed(varve: &Varve, shell: &str, lines: &[&str]) -> String {
    let mut script = varve.command(["-qec", shell, "/dev/null"]);
    let mut on_terminal = Command::new("script");
    on_terminal.args(script.get_args()).env_clear();
    let set = script
        .get_envs()
        .filter_map(|(name, value)| Some((name, value?)));
    on_terminal
        .envs(set)
        .env("TERM", "dumb")
        .env("PATH", path());
    on_terminal.current_dir(
        script
            .current_dir(varve.path("context"))
            .get_current_dir()
            .unwrap(),
    );
    let input = lines.join("\n") + "\nexit\n";
    run_with_input(&mut on_terminal, input.as_bytes()).stdout
}

/// With the varve under test in front.
fn path() -> String {
    let binary = support::varve_binary();
    let directory = binary.parent().unwrap().display();
    format!("{directory}:/usr/local/bin:/usr/bin:/bin")
}

/// That a shell has completed both names of the image and the stage, without a word about errors.
fn assert_completed(varve: &Varve, shown: &str) {
    let id = id(varve, "app:1.0");
    for expect in [
        &format!("first={id}"),
        &format!("second={id}"),
        "--target check",
    ] {
        assert!(shown.contains(expect), "{shown}");
    }
    for error in ["ERROR", "error:"] {
        assert!(!shown.contains(error), "{shown}");
    }
}

#[test]
fn bash_completes_names_with_colons_and_slashes() {
    let varve = shop();
    let shown = typed(
        &varve,
        "bash --norc -i",
        &[
            "source <(varve completion bash)",
            "varve inspect --format 'first={{.Id}}' app:\t",
            "varve inspect --format=\"second={{.Id}}\" registry.example:5000/t\t",
            "varve build --targ\tch\t --help | grep -c Usage",
            "varve history inspect \t | grep -c Duration",
            "varve images \t\t",
        ],
    );
    assert_completed(&varve, &shown);
    assert!(shown.contains("registry.example:5000/team/app"), "{shown}");
}

#[test]
fn zsh_completes_names() {
    let varve = shop();
    let shown = typed(
        &varve,
        "zsh -f -i",
        &[
            "autoload -Uz compinit; compinit -u -D; source <(varve completion zsh)",
            "varve inspect --format 'first={{.Id}}' app:\t",
            "varve inspect --format 'second={{.Id}}' reg\t",
            "varve build --target ch\t --help | grep -c Usage",
        ],
    );
    assert_completed(&varve, &shown);
}

#[test]
fn fish_completes_names_with_what_they_are() {
    let varve = shop();
    let complete = |line: &str| {
        let mut fish = Command::new("fish");
        let own = varve.command(["images"]);
        let set = own
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        fish.env_clear().envs(set).env("PATH", path());
        fish.current_dir(varve.path("context"));
        let script = format!("varve completion fish | source; complete -C '{line}'");
        let outcome = run(fish.args(["--no-config", "-c", &script])).success();
        assert_eq!(outcome.stderr, "", "{line}");
        outcome.stdout
    };
    let images = complete("varve run a");
    assert!(
        images.starts_with("app:1.0\t") && images.lines().count() == 1,
        "{images}"
    );
    let builds = complete("varve history logs ");
    assert!(builds.starts_with("1\tcontext, Completed"), "{builds}");
    assert!(complete("varve build --build-arg L").starts_with("LEVEL=\t"));
    assert!(complete("varve prune --filter id=").lines().count() >= 1);
}

#[test]
fn a_store_that_cannot_be_asked_offers_nothing_and_says_nothing() {
    let varve = Varve::new();
    let ask = |words: &[&str]| {
        let answer = varve.varve([&["__complete", "bash", "--", "varve"], words].concat());
        let answer = answer.success();
        assert_eq!(answer.stderr, "");
        answer.stdout
    };
    assert_eq!(ask(&["run", "a"]), "");
    assert!(!varve.root().exists(), "a look has made a store");
    varve.write("root/db/CURRENT", "nonsense");
    assert_eq!(ask(&["run", "a"]), "");
    assert_eq!(ask(&["pus"]), "push\n");
}
