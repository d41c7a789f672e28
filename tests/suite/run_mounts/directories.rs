//! type=bind and type=tmpfs.

use support::workspace::Varve;

use super::{last_layer, said};

fn with_context() -> Varve {
    let varve = Varve::new();
    varve.write("context/app/main.c", "int main;");
    varve.write("context/app/lib/util.c", "int util;");
    varve.write("context/docs/readme", "read me");
    varve
}

#[test]
fn the_context_is_shown_read_only_in_the_working_directory_and_leaves_nothing() {
    let varve = with_context();
    let lines = "WORKDIR /src\nRUN --mount=target=. find . -type f | sort && \
        ! touch here 2>/dev/null && cp app/main.c /copy\n";
    let output = said(&varve, lines, &[]);
    assert_eq!(
        output,
        [
            "./Dockerfile",
            "./app/lib/util.c",
            "./app/main.c",
            "./docs/readme"
        ]
    );
    assert_eq!(last_layer(&varve), ["copy"]);
    assert_eq!(varve.shell("app", "ls /src | wc -l"), "0\n");
}

#[test]
fn writes_to_a_bind_mount_are_thrown_away() {
    let varve = with_context();
    let lines = "RUN --mount=source=app,target=/src,rw echo new > /src/made && rm /src/main.c && \
        ls /src && echo x > /kept\n\
        RUN --mount=source=app,target=/src,readwrite=true ls /src\n";
    assert_eq!(said(&varve, lines, &[]), ["lib", "main.c"]);
    assert!(varve.path("context/app/main.c").exists());
    assert!(!varve.path("context/app/made").exists());
    assert_eq!(varve.shell("app", "ls / | grep -E 'src|kept'"), "kept\n");
}

#[test]
fn only_what_is_below_the_source_of_a_mount_makes_its_step_run_again() {
    let varve = with_context();
    let dockerfile = "FROM busybox\nCOPY docs /docs\n\
        RUN --mount=source=app/lib,target=/lib1 cat /lib1/util.c > /out\n";
    varve.dockerfile(dockerfile);
    let build = || varve.build(["-t", "app"]).success().transcript();
    build();
    varve.write("context/app/main.c", "changed");
    assert_eq!(build().executed(), [""; 0], "outside of the source");
    varve.write("context/app/lib/util.c", "changed");
    let again = build();
    assert_eq!(again.executed().len(), 1, "{again:#?}");
    assert_eq!(varve.shell("app", "cat /out"), "changed");

    // One stage writes two directories; the mount reads one of them.
    varve.dockerfile(
        "FROM busybox AS made\nCOPY docs/readme /a/readme\nCOPY app/main.c /b/main.c\n\
         FROM busybox\nRUN --mount=from=made,source=/a,target=/a cat /a/readme > /out\n",
    );
    build();
    varve.write("context/app/main.c", "changed again");
    let again = build();
    assert_eq!(
        again.executed(),
        ["COPY app/main.c /b/main.c"],
        "{again:#?}"
    );
}

#[test]
fn stages_and_images_that_only_a_mount_names_are_built_and_others_are_not() {
    let varve = Varve::new();
    varve.write("other/from-other", "other");
    varve.dockerfile(
        "FROM busybox AS tools\nRUN mkdir -p /opt/tools && \
           printf '#!/bin/sh\\necho tool' > /opt/tools/tool && chmod +x /opt/tools/tool\n\
         FROM busybox AS unused\nRUN exit 1\n\
         FROM scratch AS empty\n\
         FROM busybox\n\
         RUN --mount=from=tools,source=opt/tools,target=/t --mount=from=busybox,target=/b \
           --mount=from=named,target=/n --mount=from=empty,target=/e \
           /t/tool && test -x /b/bin/busybox && cat /n/from-other && ls /e | wc -l\n",
    );
    let named = format!("named={}", varve.path("other").display());
    let built = varve.build(["-t", "app", "--build-context", &named]);
    let transcript = built.success().transcript();
    assert_eq!(transcript.step("RUN --mount").output, ["tool", "other0"]);
    assert!(!transcript.has("exit 1"));
}

#[test]
fn a_source_that_is_not_there_is_named_with_its_line() {
    let varve = with_context();
    for (mount, path) in [
        ("source=app/missing,target=/x", "/app/missing"),
        ("from=stage,source=/nowhere/here,target=/x", "/nowhere/here"),
        ("from=empty,source=/any,target=/x", "/any"),
        ("source=docs/readme/below,target=/x", "/docs/readme/below"),
    ] {
        varve.dockerfile(&format!(
            "FROM busybox AS stage\nFROM scratch AS empty\nFROM busybox\n\
             RUN --mount={mount} true\n"
        ));
        let failed = varve.build(["-t", "x"]).code(1);
        let expect = format!("\"{path}\": not found");
        assert!(failed.stderr.contains(&expect), "{mount}: {failed}");
        assert!(failed.stderr.contains("   4 | >>> RUN --mount"), "{failed}");
    }
}

#[test]
fn a_single_file_is_mounted_over_a_file_and_where_there_is_none() {
    let varve = with_context();
    let lines = "RUN echo of the image > /etc/motd\n\
        RUN --mount=source=docs/readme,target=/etc/motd \
          --mount=source=app/main.c,target=/deep/new/file cat /etc/motd /deep/new/file && \
          ! echo x 2>/dev/null > /etc/motd\n";
    assert_eq!(said(&varve, lines, &[]), ["read meint main;"]);
    assert_eq!(last_layer(&varve), [""; 0]);
    assert_eq!(
        varve.shell("app", "cat /etc/motd; ls / | grep -c deep || true"),
        "of the image\n0\n"
    );
}

#[test]
fn mounts_lie_inside_of_each_other() {
    let varve = with_context();
    let lines = "RUN --mount=type=tmpfs,target=/src/build/tmp --mount=target=/src \
        --mount=source=docs/readme,target=/src/app/lib/note \
        touch /src/build/tmp/x && cat /src/app/lib/note && ls /src/app/lib\n";
    assert_eq!(said(&varve, lines, &[]), ["read menote", "util.c"]);
    assert_eq!(last_layer(&varve), [""; 0]);
    assert!(!varve.path("context/build").exists());
}

#[test]
fn memory_is_writable_bounded_and_empty() {
    let varve = Varve::new();
    let lines = "ARG SIZE=1m\nRUN mkdir /t && echo hidden > /t/f\n\
        RUN --mount=type=tmpfs,target=/t,size=${SIZE} ls /t | wc -l && stat -c %a /t && \
          printf '#!/bin/sh\\necho runs' > /t/x && chmod +x /t/x && /t/x && \
          ! head -c 2000000 /dev/zero > /t/large 2>/dev/null && \
          test $(stat -c %s /t/large) -lt 1048577\n";
    assert_eq!(said(&varve, lines, &[]), ["0", "1777", "runs"]);
    assert_eq!(varve.shell("app", "ls /t"), "f\n");
}

#[test]
fn targets_of_the_container_itself_are_refused() {
    let varve = Varve::new();
    for target in [
        "/proc",
        "/proc/self",
        "/sys/fs",
        "/dev",
        "/link/x",
        "/top",
        "../../proc/1",
    ] {
        for mount in ["type=tmpfs", "source=Dockerfile"] {
            varve.dockerfile(&format!(
                "FROM busybox\nRUN ln -s /proc /link && ln -s / /top\n\
                 RUN --mount={mount},target={target} true\n"
            ));
            let failed = varve.build(["-t", "x"]).code(1);
            let expect = "which belongs to the container itself; choose another target";
            assert!(failed.stderr.contains(expect), "{target}: {failed}");
            assert!(failed.stderr.contains("   3 | >>> RUN --mount"), "{failed}");
        }
    }
}

#[test]
fn a_link_of_the_image_leads_a_mount_to_no_place_outside() {
    let varve = with_context();
    std::fs::create_dir(varve.path("outside")).unwrap();
    let here = varve.path("").display().to_string();
    let lines = format!(
        "RUN ln -s {here}outside /link && ln -s ../../../../../..{here}new /relative\n\
         RUN --mount=source=docs,target=/link --mount=source=app,target=/relative \
           --mount=source=docs,target=../../x/../up ls /link/ /relative/ /up && ls {here}\n"
    );
    let output = said(&varve, &lines, &[]);
    assert_eq!(output[output.len() - 2..], ["new", "outside"], "{output:?}");
    assert!(!varve.path("new").exists());
    assert_eq!(std::fs::read_dir(varve.path("outside")).unwrap().count(), 0);
    assert_eq!(last_layer(&varve), [""; 0]);
}
