//! `varve inspect`, and ids in the place of names.

use serde_json::Value;
use support::workspace::Varve;

fn built() -> Varve {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox\nENV A=1\nLABEL stage=test\nEXPOSE 80\nWORKDIR /w\nRUN echo x > f\nCMD [\"id\"]\n",
    );
    varve.build(["-t", "team/app:1", "-t", "other"]).succeeded();
    varve
}

fn inspected(varve: &Varve, name: &str) -> Value {
    let text = varve.varve(["inspect", name]).success().stdout;
    serde_json::from_str::<Vec<Value>>(&text).unwrap().remove(0)
}

fn id(varve: &Varve, name: &str) -> String {
    let shown = varve.varve(["inspect", "-f", "{{.Id}}", name]).success();
    shown.stdout.trim().to_owned()
}

#[test]
fn inspect_prints_what_docker_image_inspect_prints() {
    let varve = built();
    let image = inspected(&varve, "team/app:1");
    assert_eq!(
        image["RepoTags"],
        serde_json::json!(["other:latest", "team/app:1"])
    );
    let digests = image["RepoDigests"].as_array().unwrap();
    assert!(
        digests[1].as_str().unwrap().starts_with("team/app@sha256:"),
        "{digests:?}"
    );
    let config = &image["Config"];
    let env: Vec<_> = config["Env"].as_array().unwrap().iter().collect();
    assert!(env.contains(&&Value::from("A=1")), "{env:?}");
    assert_eq!(config["Labels"]["stage"], "test");
    assert_eq!(config["WorkingDir"], "/w");
    assert_eq!(config["Cmd"], serde_json::json!(["id"]));
    assert!(config["ExposedPorts"]["80/tcp"].is_object(), "{config}");
    assert_eq!(image["Os"], "linux");
    assert_eq!(image["RootFS"]["Type"], "layers");
    let layers = image["RootFS"]["Layers"].as_array().unwrap().len();
    let layout = varve.image(["-t", "x"]);
    let varves = layout.manifest();
    assert_eq!(layers, varves["layers"].as_array().unwrap().len());
    assert_eq!(
        image["Id"], varves["config"]["digest"],
        "the id is that of the config"
    );
    assert!(image["Size"].as_u64().unwrap() > 500_000, "{image}");
    assert!(
        image["Created"].as_str().unwrap().starts_with("20"),
        "{image}"
    );
}

#[test]
fn templates_choose_what_is_printed_and_mistakes_are_told() {
    let varve = built();
    let shown = |template: &str| varve.varve(["inspect", "--format", template, "other"]);
    assert_eq!(shown("{{.Config.Labels.stage}}").success().stdout, "test\n");
    assert_eq!(shown("{{json .Config.Cmd}}").success().stdout, "[\"id\"]\n");
    let variables = shown("{{range .Config.Env}}{{println .}}{{end}}").success();
    assert!(variables.stdout.contains("A=1\n"), "{variables}");
    let whole: Value = serde_json::from_str(&shown("json").success().stdout).unwrap();
    assert_eq!(whole["Os"], "linux");
    let wrong = shown("{{.Config").code(2);
    assert!(wrong.stderr.contains("unclosed action"), "{wrong}");
    let wrong = shown("{{.Nope}}").code(1);
    assert!(wrong.stderr.contains("field Nope"), "{wrong}");
}

#[test]
fn fields_that_are_typed_in_docker_print_as_there() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox AS plain\nFROM plain\nHEALTHCHECK --interval=90s --retries=3 CMD true\n\
         EXPOSE 80\n",
    );
    varve.build(["-t", "checked"]).succeeded();
    varve
        .build(["-t", "plain", "--target", "plain"])
        .succeeded();
    let format = "{{.Config.Healthcheck}} {{.Config.StopTimeout}} {{.Config.ExposedPorts}}";
    for (image, expected) in [
        ("plain", "<nil> <nil> map[]\n"),
        (
            "checked",
            "{[CMD-SHELL true] 1m30s 0s 0s 0s 3} <nil> map[80/tcp:{}]\n",
        ),
    ] {
        let words = ["inspect", "--type", "image", "-s", "-f", format, image];
        assert_eq!(varve.varve(words).success().stdout, expected);
    }
    let format = "{{printf \"%T\" .RepoTags}} {{json .Config.Healthcheck.Interval}}";
    let shown = varve.varve(["inspect", "-f", format, "checked"]);
    assert_eq!(shown.success().stdout, "[]string 90000000000\n");
    for command in ["inspect", "history"] {
        let refused = varve.varve([command, "--platform", "linux/s390x", "plain"]);
        refused.refused_with(1, &["no match for platform linux/s390x"]);
    }
    let refused = varve.varve(["inspect", "--type", "container", "plain"]);
    refused.refused_with(2, &["varve has no containers to inspect"]);
}

#[test]
fn what_is_there_is_shown_and_what_is_not_is_told() {
    let varve = built();
    let outcome = varve.varve(["inspect", "other", "nothing"]).code(1);
    let shown: Vec<Value> = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(shown.len(), 1);
    assert!(
        outcome.stderr.contains("no such image: \"nothing\""),
        "{outcome}"
    );
    assert!(outcome.stderr.contains("team/app:1"), "{outcome}");
    assert_eq!(varve.varve(["inspect", "nothing"]).code(1).stdout, "[]\n");
}

#[test]
fn an_id_or_its_beginning_stands_for_an_image_wherever_a_name_does() {
    let varve = built();
    let id = id(&varve, "other");
    let short = &id["sha256:".len()..][..12];
    for text in [&*id, short, &id["sha256:".len()..]] {
        assert_eq!(inspected(&varve, text)["Id"], Value::from(&*id), "{text}");
        assert_eq!(varve.shell(text, "cat /w/f"), "x\n", "{text}");
    }
    varve.varve(["tag", short, "third:3"]).succeeded();
    assert_eq!(inspected(&varve, "third:3")["Id"], Value::from(&*id));
    // A name goes before an id.
    varve.dockerfile("FROM busybox\nRUN echo named > /f\n");
    varve.build(["-t", short]).succeeded();
    assert_eq!(varve.shell(short, "cat /f"), "named\n");
}

#[test]
fn removing_by_id_takes_docker_words_and_docker_care() {
    let varve = built();
    let id = id(&varve, "other");
    let short = &id["sha256:".len()..][..12];
    let refused = varve.varve(["rmi", short]).code(1);
    assert!(refused.stderr.contains("must be forced"), "{refused}");
    assert!(refused.stderr.contains("team/app:1"), "{refused}");
    let removed = varve.varve(["rmi", "other"]).success();
    assert_eq!(removed.stdout, "Untagged: other:latest\n");
    let removed = varve.varve(["rmi", short]).success();
    assert_eq!(
        removed.stdout,
        format!("Untagged: team/app:1\nDeleted: {id}\n")
    );
    let gone = varve.varve(["rmi", short]).code(1);
    assert!(gone.stderr.contains("no such image"), "{gone}");
    let forced = varve.varve(["rmi", "-f", short]).success();
    assert!(forced.stderr.contains("no such image"), "{forced}");

    varve.build(["-t", "a", "-t", "b"]).succeeded();
    let removed = varve.varve(["rmi", "--force", short]).success();
    assert_eq!(
        removed.stdout,
        format!("Untagged: a:latest\nUntagged: b:latest\nDeleted: {id}\n")
    );
}

#[test]
fn a_name_with_a_digest_is_given_by_nobody() {
    let varve = built();
    let zeros = format!("w@sha256:{}", "0".repeat(64));
    let words = ["refusing to create a tag with a digest reference", &zeros];
    varve
        .varve(["tag", "other", &zeros])
        .refused_with(1, &words);
    let archive = varve.path("other.tar");
    let archive = archive.to_str().unwrap();
    varve.varve(["save", "-o", archive, "other"]).succeeded();
    varve
        .varve(["import", archive, &zeros])
        .refused_with(1, &words);
    varve.build(["-t", &zeros]).refused_with(1, &words);
    assert_eq!(
        varve
            .varve(["images", "-q"])
            .success()
            .stdout
            .lines()
            .count(),
        1
    );
}

#[test]
fn commands_that_take_images_from_the_store_alone_say_what_is_missing() {
    let varve = built();
    for words in [
        &["save", "-o", "x.tar", "none"][..],
        &["run", "--rm", "--pull=never", "none", "true"],
    ] {
        let outcome = varve.varve(words);
        assert!(outcome.stderr.contains("no such image: none"), "{outcome}");
        assert!(outcome.stderr.contains("varve pull"), "{outcome}");
        assert!(!outcome.stderr.contains("--build-context"), "{outcome}");
    }
}

#[test]
fn what_is_loaded_has_the_id_that_is_listed_and_what_is_no_archive_is_harmless() {
    let varve = Varve::new();
    varve.dockerfile("FROM busybox\nRUN echo x > f\n");
    let built = varve.build(["-q", "-o", "type=docker,dest=nameless.tar"]);
    let id = built.success().stdout.trim().to_owned();
    let loaded = varve.varve(["load", "-i", "nameless.tar"]).success();
    assert_eq!(loaded.stdout, format!("Loaded image ID: {id}\n"));
    let noise: Vec<u8> = (0..4096u32).map(|n| (n * 151 % 253) as u8 | 128).collect();
    varve.write("noise", &noise);
    let refused = varve.varve(["load", "-i", "noise"]).code(1);
    let is_harmless = |c: char| c == '\n' || !c.is_control();
    assert!(
        refused.stderr.chars().all(is_harmless),
        "{:?}",
        refused.stderr
    );
}

/// Scripts for docker ask for these whatever an image says.
#[test]
fn fields_that_an_image_does_not_set_are_empty_in_templates() {
    let varve = built();
    let shown = |format: &str| {
        let shown = varve.varve(["inspect", "-f", format, "other"]).success();
        shown.stdout.trim_end_matches('\n').to_owned()
    };
    for (format, expected) in [
        ("<{{.Config.StopSignal}}>", "<>"),
        ("{{.Config.Volumes}}", "map[]"),
        ("{{.Config.Shell}}", "[]"),
        ("{{.Config.Tty}}", "false"),
        ("<{{.Parent}}{{.DockerVersion}}>", "<>"),
        ("{{.GraphDriver.Name}}", "varve"),
        ("{{eq .Size .VirtualSize}}", "true"),
        ("{{.Config.ExposedPorts}}", "map[80/tcp:{}]"),
    ] {
        assert_eq!(shown(format), expected, "{format}");
    }
    let format = "{{.Containers}} {{.SharedSize}} {{eq .Size .VirtualSize}}";
    let listed = varve.varve(["images", "--format", format, "other"]);
    assert_eq!(listed.success().stdout, "N/A N/A true\n");
}
