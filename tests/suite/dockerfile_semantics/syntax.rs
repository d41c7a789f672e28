//! Forms of the Dockerfile itself: here-documents, directives, continued lines.

use support::workspace::Varve;

use super::text;

#[test]
fn here_documents_are_scripts_and_files() {
    let varve = Varve::new();
    varve.dockerfile(
        "FROM busybox\nARG WHO=world\n\
         RUN <<EOF\nset -e\necho \"hello $WHO\" > /script\nEOF\n\
         RUN <<EOF cat > /piped\n  indented $WHO\nEOF\n\
         RUN <<'FIRST' cat > /first && <<-SECOND cat > /second\n$WHO\nFIRST\n\tstripped\n\tSECOND\n\
         COPY <<one.txt <<\"two.txt\" /c/\n1 $WHO\none.txt\n2 $WHO\ntwo.txt\n\
         COPY --chmod=755 <<EOF /run.sh\n#!/bin/sh\necho ran\nEOF\n\
         RUN /run.sh > /ran\n\
         RUN <<EOF\n#!/bin/cat\nits own interpreter\nEOF\n",
    );
    let built = varve.build(["-o", "files"]).success();
    let files = varve.path("files");
    for (name, expect) in [
        ("script", "hello world\n"),
        ("piped", "  indented world\n"),
        ("first", "$WHO\n"),
        ("second", "stripped\n"),
        ("c/one.txt", "1 world\n"),
        ("c/two.txt", "2 $WHO\n"),
        ("ran", "ran\n"),
    ] {
        assert_eq!(text(&files, name), expect, "{name}");
    }
    assert!(built.stderr.contains(" its own interpreter"), "{built}");
}

#[test]
fn another_escape_character_is_a_matter_of_a_directive() {
    let varve = Varve::new();
    varve.dockerfile(
        "# escape=`\nFROM busybox\nENV A=1 `\n  B=c:\\d\nRUN echo $A `\n  \"$B\" > /f\n",
    );
    assert_eq!(text(&varve.files([""; 0]), "f"), "1 c:\\d\n");
}

#[test]
fn instructions_are_known_in_any_case_with_any_line_ends() {
    let varve = Varve::new();
    varve.dockerfile("from busybox as Base\r\nenv A=1\r\nrun echo $A \\\r\n  b > /f\r\n");
    assert_eq!(text(&varve.files([""; 0]), "f").trim_end(), "1 b");
}
