//! What templates print, as Go would.

use serde_json::{Value, json};

use super::{Template, visible};

fn value() -> Value {
    json!({
        "Id": "sha256:0123456789abcdef",
        "Size": 4096,
        "Names": ["a:1", "b:2"],
        "None": null,
        "Config": {
            "Env": ["PATH=/bin", "A=1"],
            "Labels": {"org.x": "y", "b": "2", "a": "1"},
            "Cmd": [],
        },
    })
}

fn render(template: &str) -> Result<String, String> {
    template.parse::<Template>()?.render(&value())
}

#[test]
fn templates_print_what_go_would() {
    for (template, expected) in [
        ("", ""),
        ("plain } text", "plain } text"),
        (
            "{{.Id}}{{.ID}}",
            "sha256:0123456789abcdefsha256:0123456789abcdef",
        ),
        ("{{ .Size }}B", "4096B"),
        ("{{.Config.Env}}", "[PATH=/bin A=1]"),
        ("{{.Config.Labels}}", "map[a:1 b:2 org.x:y]"),
        ("{{.Config.Labels.a}}", "1"),
        ("{{.Config.Labels.missing}}", "<no value>"),
        (r#"{{index .Config.Labels "org.x"}}"#, "y"),
        (r#"[{{index .Config.Labels "missing"}}]"#, "[]"),
        ("{{index .Names 1}}", "b:2"),
        ("{{json .Config.Env}}", r#"["PATH=/bin","A=1"]"#),
        ("{{.Config.Env | json}}", r#"["PATH=/bin","A=1"]"#),
        ("{{range .Names}}<{{.}}>{{end}}", "<a:1><b:2>"),
        (
            "{{range $i, $n := .Names}}{{$i}}={{$n}};{{end}}",
            "0=a:1;1=b:2;",
        ),
        (
            "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}",
            "a=1 b=2 org.x=y ",
        ),
        ("{{range .Config.Cmd}}x{{else}}nothing{{end}}", "nothing"),
        ("{{range .None}}x{{end}}", ""),
        ("{{if .Config.Cmd}}yes{{else}}no{{end}}", "no"),
        (
            "{{if eq .Size 1}}1{{else if gt .Size 4000}}big{{else}}small{{end}}",
            "big",
        ),
        ("{{with .Config}}{{len .Env}}{{end}}", "2"),
        (
            "{{with $c := .Config}}{{len $c.Env}}{{$.Size}}{{end}}",
            "24096",
        ),
        ("{{$x := .Size}}{{range .Names}}{{$x}}{{end}}", "40964096"),
        ("{{$n := 0}}{{range .Names}}{{$n = .}}{{end}}{{$n}}", "b:2"),
        ("a {{- /* trimmed */ -}} b", "ab"),
        ("a\n{{- .Size -}}\n b", "a4096b"),
        (r#"{{join .Names ", "}}"#, "a:1, b:2"),
        (r#"{{index (split .Id ":") 1}}"#, "0123456789abcdef"),
        (r#"{{(index .Names 0) | upper}}"#, "A:1"),
        ("{{truncate .Id 9}}", "sha256:01"),
        ("{{slice .Id 7 19}}", "0123456789ab"),
        (
            r#"{{printf "%-6s|%4d|%q" "ab" .Size "x\"y"}}"#,
            r#"ab    |4096|"x\"y""#,
        ),
        (r#"{{println "a" 1}}"#, "a 1\n"),
        ("{{title \"hello big world\"}}", "Hello Big World"),
        ("{{pad \"x\" 1 2}}|", " x  |"),
        ("{{and .Size .None}}", "<no value>"),
        ("{{or .None .Size}}", "4096"),
        ("{{not .None}}", "true"),
        (r#"{{"}}"}}"#, "}}"),
        ("{{`raw \\n`}}", "raw \\n"),
        (r#"{{eq "a" "b" "a"}}"#, "true"),
        (
            "{{.}}",
            "map[Config:map[Cmd:[] Env:[PATH=/bin A=1] Labels:map[a:1 b:2 org.x:y]] \
            Id:sha256:0123456789abcdef Names:[a:1 b:2] None:<nil> Size:4096]",
        ),
    ] {
        assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn functions_print_what_go_would() {
    for (template, expected) in [
        (
            r#"{{printf "%.10s|%x|%x|%-4.1s|" .Id "ab" .Size "xy"}}"#,
            "sha256:012|6162|1000|x   |",
        ),
        (
            r#"{{html "<a b='c' & \"d\">"}}"#,
            "&lt;a b=&#39;c&#39; &amp; &#34;d&#34;&gt;",
        ),
    ] {
        assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn a_wrong_template_is_told_with_what_is_wrong() {
    for (template, reason) in [
        ("{{.Id", "unclosed action"),
        ("{{if .Id}}x", "{{end}} is missing"),
        ("{{if .Id}}x{{else}}y", "{{end}} is missing"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{}}", "a value is missing"),
        ("{{frob .Id}}", "\"frob\" not defined"),
        ("{{.Id .Size}}", "only a function"),
        ("{{(.Id}}", "a ) is missing"),
        ("{{\"abc}}", "unclosed action"),
        ("{{12x}}", "bad number"),
        ("{{#}}", "unexpected '#'"),
        ("{{define \"x\"}}", "not supported"),
        (
            "{{.Nope}}",
            "can't evaluate field Nope; there are .Config, .Id",
        ),
        ("{{$.Nope}}", "can't evaluate field Nope"),
        ("{{.Id.X}}", "can't evaluate field X"),
        ("{{$x}}", "undefined variable \"$x\""),
        ("{{index .Names 7}}", "out of range"),
        ("{{range .Size}}{{end}}", "can't iterate"),
        ("{{printf \"%s\"}}", "no argument"),
        ("{{printf \"%.3d\" .Size}}", "no precision"),
        ("{{printf \"%x\" .Names}}", "%x of"),
        ("{{lt .Id .Size}}", "incompatible types"),
        ("{{slice .Id 5 99}}", "out of range"),
        ("{{.Id | .Size}}", "through a pipe"),
    ] {
        let error = render(template).unwrap_err();
        assert!(error.contains(reason), "{template}: {error}");
    }
}

#[test]
fn deep_nesting_is_refused_and_does_not_overflow() {
    for (open, close) in [("(", ")"), ("{{if true}}", "{{end}}")] {
        let nested = open.repeat(100_000) + &close.repeat(100_000);
        let template = match open {
            "(" => format!("{{{{{nested}}}}}"),
            _ => nested,
        };
        assert!(render(&template).unwrap_err().contains("nested deeper"));
    }
}

#[test]
fn control_characters_of_values_are_printed_as_escapes() {
    let hostile = json!({"L": "a\u{1b}[31mred\u{7}\tb\nc\u{9b}\u{202e}"});
    let template: Template = "{{.L}}".parse().unwrap();
    let shown = template.render(&hostile).unwrap();
    assert_eq!(shown, "a\\x1b[31mred\\x07\tb\nc\\x9b\\u{202e}");
    let exact: Template = "{{json .L}}".parse().unwrap();
    assert_eq!(
        exact.render(&hostile).unwrap(),
        "\"a\\u001b[31mred\\u0007\\tb\\nc\\u009b\\u202e\""
    );
    assert_eq!(visible("a\tb\n", true), "a\\tb\\n");
}

#[test]
fn columns_are_headed_by_the_fields_they_print() {
    let template: Template = "{{.ID}}\t{{.CreatedSince}}: {{.X}}\tplain".parse().unwrap();
    let known = |field: &str| (field == "ID").then_some("IMAGE ID");
    assert_eq!(template.headings(known), ["IMAGE ID", "CREATED SINCE", ""]);
}
