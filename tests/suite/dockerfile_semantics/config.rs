//! Instructions that change the config of the image, seen in what is exported.

use serde_json::{Value, json};
use support::workspace::Varve;

/// The config of an image built of these lines on the base image.
fn config(lines: &str) -> Value {
    let varve = Varve::new();
    varve.dockerfile(&format!("FROM busybox\n{lines}"));
    varve.image([""; 0]).config().clone()
}

#[test]
fn every_instruction_of_the_config_is_in_the_exported_image() {
    let config = config(
        r#"
ARG V=7
ENV A=1 B="two words"
ENV C old value
ENV D=${C}s E=$A$V
SHELL ["/bin/sh", "-ec"]
ENTRYPOINT ["/bin/echo", "entry"]
CMD command $line
LABEL a=1 "b c"="d e"
EXPOSE 80 443/tcp 53/udp 8000-8002
VOLUME /data /more
VOLUME ["/with space"]
STOPSIGNAL SIGUSR1
HEALTHCHECK --interval=5s --timeout=1m30s --start-period=2s --retries=4 CMD wget -q $A
USER nobody:nobody
MAINTAINER Some Body
"#,
    );
    let container = &config["config"];
    let expect = [
        (
            "Env",
            json!([
                "PATH=/bin",
                "A=1",
                "B=two words",
                "C=old value",
                "D=old values",
                "E=17"
            ]),
        ),
        ("Shell", json!(["/bin/sh", "-ec"])),
        ("Entrypoint", json!(["/bin/echo", "entry"])),
        ("Cmd", json!(["/bin/sh", "-ec", "command $line"])),
        ("Labels", json!({ "a": "1", "b c": "d e" })),
        (
            "ExposedPorts",
            json!({
                "80/tcp": {}, "443/tcp": {}, "53/udp": {},
                "8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {},
            }),
        ),
        (
            "Volumes",
            json!({ "/data": {}, "/more": {}, "/with space": {} }),
        ),
        ("StopSignal", json!("SIGUSR1")),
        (
            "Healthcheck",
            json!({
                "Test": ["CMD-SHELL", "wget -q $A"],
                "Interval": 5_000_000_000_u64,
                "Timeout": 90_000_000_000_u64,
                "StartPeriod": 2_000_000_000_u64,
                "Retries": 4,
            }),
        ),
        ("User", json!("nobody:nobody")),
    ];
    for (key, value) in expect {
        assert_eq!(container[key], value, "{key} in {container:#}");
    }
    assert_eq!(config["author"], "Some Body");
    assert_eq!(config["os"], "linux");
}

#[test]
fn working_directories_add_up_and_are_made() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox\nENV SUB=sub\nWORKDIR /a\nWORKDIR b\nWORKDIR ./${SUB}/../c\nRUN pwd > here\n",
    );
    let image = varve.image([""; 0]);
    assert_eq!(image.config()["config"]["WorkingDir"], "/a/b/c");
    let last = image.last_layer();
    let here = last
        .iter()
        .find(|entry| entry.path == "a/b/c/here")
        .unwrap();
    assert_eq!(here.body, b"/a/b/c\n");
}

#[test]
fn a_new_entrypoint_drops_the_command_of_the_base_but_not_one_of_its_own_stage() {
    // The base has the command `sh`.
    assert_eq!(config("ENTRYPOINT [\"a\"]\n")["config"]["Cmd"], Value::Null);
    let both = config("CMD [\"b\"]\nENTRYPOINT [\"a\"]\n");
    assert_eq!(both["config"]["Cmd"], json!(["b"]));
    assert_eq!(config("LABEL a=1\n")["config"]["Cmd"], json!(["sh"]));
    // An empty list is left out of the document.
    assert_eq!(config("CMD []\n")["config"]["Cmd"], Value::Null);
}

#[test]
fn triggers_and_a_health_check_that_was_turned_off_are_kept_in_the_config() {
    let config = config("ONBUILD RUN echo $HOME\nONBUILD COPY . /src\nHEALTHCHECK NONE\n");
    assert_eq!(
        config["config"]["OnBuild"],
        json!(["RUN echo $HOME", "COPY . /src"])
    );
    assert_eq!(config["config"]["Healthcheck"]["Test"], json!(["NONE"]));
}

#[test]
fn variables_are_expanded_in_all_documented_forms() {
    let config = config(
        r#"
ARG EMPTY=
ENV SET=value
ENV R1=${SET:-w} R2=${UNSET:-w} R3=${EMPTY:-w} R4=${EMPTY-w} R5=${SET:+w} R6=${UNSET:+w}x
ENV R7=\$SET R8='$SET' R9="$SET" PATHS=/a.tar.gz
ENV R10=${PATHS#/} R11=${PATHS%.*} R12=${PATHS%%.*} R13=${SET/l/L} R14=${PATHS//./_}
ENV SET=new R15=$SET
"#,
    );
    let environment: Vec<_> = config["config"]["Env"].as_array().unwrap().iter().collect();
    for (name, value) in [
        ("R1", "value"),
        ("R2", "w"),
        ("R3", "w"),
        ("R4", ""),
        ("R5", "w"),
        ("R6", "x"),
        ("R7", "$SET"),
        ("R8", "$SET"),
        ("R9", "value"),
        ("R10", "a.tar.gz"),
        ("R11", "/a.tar"),
        ("R12", "/a"),
        ("R13", "vaLue"),
        ("R14", "/a_tar_gz"),
        ("R15", "value"),
        ("SET", "new"),
    ] {
        let expect = Value::from(format!("{name}={value}"));
        assert!(
            environment.contains(&&expect),
            "{expect} in {environment:?}"
        );
    }
}
