//! What the filters guarantee: the cases of containerd's own suite, each operator, each escape,
//! and what is refused.

use proptest::prelude::*;

use super::*;
use crate::snapshots::Labels;

fn snapshot(key: &str, parent: &str, kind: Kind, labels: &[(&str, &str)]) -> Info {
    let labels = labels
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    Info {
        key: key.into(),
        parent: parent.into(),
        kind,
        created: Default::default(),
        updated: Default::default(),
        labels: labels.collect::<Labels>(),
    }
}

/// The snapshots that containerd's suite walks, and one that it does not know.
fn snapshots() -> Vec<Info> {
    let root = ("containerd.io/gc.root", "check-walk");
    vec![
        snapshot("a-np", "", Kind::Active, &[root]),
        snapshot("p", "", Kind::Committed, &[root]),
        snapshot("a", "p", Kind::Active, &[root]),
        snapshot("v", "p", Kind::View, &[root]),
        snapshot("p-wl", "", Kind::Committed, &[root, ("l", "1")]),
        snapshot("a-wl", "p-wl", Kind::Active, &[root, ("l", "2")]),
        snapshot("v-wl", "p-wl", Kind::View, &[root, ("l", "3")]),
        snapshot("a-np-wl", "", Kind::Active, &[root, ("l", "2")]),
        snapshot("other", "p", Kind::Active, &[("empty", ""), ("a.b/c", "2")]),
    ]
}

fn parse(texts: &[&str]) -> Result<Filters> {
    let texts: Vec<String> = texts.iter().map(|text| text.to_string()).collect();
    Filters::parse(&texts)
}

/// Keys of the matching [`snapshots`], in their order, with blanks between them.
fn found(texts: &[&str]) -> String {
    let filters = parse(texts).unwrap_or_else(|error| panic!("{texts:?}: {error}"));
    let mut found = snapshots();
    found.retain(|info| filters.matches(info));
    let keys: Vec<String> = found.into_iter().map(|info| info.key).collect();
    keys.join(" ")
}

fn check(text: &str, expect: &str) {
    assert_eq!(found(&[text]), expect, "{text}");
}

/// Whether the filter picks a snapshot of that name.
fn matches_name(filter: &str, name: &str) -> bool {
    let info = snapshot(name, "", Kind::Active, &[]);
    parse(&[filter])
        .unwrap_or_else(|error| panic!("{filter}: {error}"))
        .matches(&info)
}

fn refusal(texts: &[&str]) -> String {
    match parse(texts) {
        Err(Error::InvalidArgument { reason }) => reason,
        other => panic!("{texts:?}: {other:?}"),
    }
}

const EVERYTHING: &str = "a-np p a v p-wl a-wl v-wl a-np-wl other";

#[test]
fn no_filter_and_an_empty_one_ask_for_everything() {
    assert_eq!(found(&[]), EVERYTHING);
    assert_eq!(found(&[""]), EVERYTHING);
    assert_eq!(found(&["name==p", ""]), EVERYTHING);
}

#[test]
fn the_walks_of_containerds_suite_find_what_they_want() {
    let root = r#"labels."containerd.io/gc.root"==check-walk"#;
    check(root, "a-np p a v p-wl a-wl v-wl a-np-wl");
    check(&format!("kind==active,{root}"), "a-np a a-wl a-np-wl");
    check(&format!("kind==view,{root}"), "v v-wl");
    check(&format!("kind==committed,{root}"), "p p-wl");
    assert_eq!(found(&["name==p", "name==a-np-wl"]), "p a-np-wl");
    check("name==a-wl,labels.l", "a-wl");
    check("parent==p", "a v other");
    check(&format!(r#"parent!="",{root}"#), "a v a-wl v-wl");
    check("labels.l", "p-wl a-wl v-wl a-np-wl");
    check("labels.l==2", "a-wl a-np-wl");
}

#[test]
fn the_lookup_of_a_remote_snapshot_finds_it() {
    let target = "sha256:0123";
    let info = snapshot(
        "default/7/sha256:0123",
        "default/6/sha256:abcd",
        Kind::Committed,
        &[("containerd.io/snapshot.ref", target)],
    );
    let filter =
        format!(r#"labels."containerd.io/snapshot.ref"=={target},parent=="default/6/sha256:abcd""#);
    assert!(parse(&[&filter]).unwrap().matches(&info));
    let orphan = Info {
        parent: String::new(),
        ..info
    };
    assert!(!parse(&[&filter]).unwrap().matches(&orphan));
}

#[test]
fn kind_name_and_parent_are_present_in_every_snapshot() {
    for field in ["kind", "name", "parent"] {
        check(field, EVERYTHING);
    }
    check(r#"parent=="""#, "a-np p p-wl a-np-wl");
}

#[test]
fn the_name_of_a_label_may_be_parted_at_its_dots() {
    check(r#"labels."a.b/c"==2"#, "other");
    check(r#"labels.a."b/c"==2"#, "other");
    check(r#"labels."a"."b/c""#, "other");
    check(r#""labels".a."b/c""#, "other");
    check(r#"labels."a"."b"."c""#, "");
}

#[test]
fn a_label_with_an_empty_value_is_present() {
    check("labels.empty", "other");
    check(r#"labels.empty=="""#, "other");
}

#[test]
fn what_is_absent_counts_as_empty_but_equals_nothing() {
    for field in ["labels.absent", "size", "labels", r#"labels."\xff""#] {
        check(field, "");
        check(&format!(r#"{field}=="""#), "");
        check(&format!(r#"{field}!="""#), "");
        check(&format!("{field}!=x"), EVERYTHING);
        check(&format!("{field}~=^$"), EVERYTHING);
    }
}

#[test]
fn parts_after_a_field_that_has_none_are_ignored() {
    check("name.first.second==p", "p");
}

#[test]
fn a_regular_expression_finds_itself_anywhere_in_the_value() {
    check("name~=wl", "p-wl a-wl v-wl a-np-wl");
    check("name~=^[av]-wl$", "a-wl v-wl");
    check("name~=/^[av]{1,2}$/,kind!=view", "a");
    check(r"name~=|^a-(np\|wl)$|", "a-np a-wl");
    check(r#"name~="^\\w$""#, "p a v");
    assert!(matches_name(r"name~=^a\.b/c$", "a.b/c"));
    assert!(matches_name(r"name~=/^a\/b\\.c$/", "a/b.c"));
}

#[test]
fn a_broken_regular_expression_matches_nothing_and_is_no_error() {
    for broken in ["(", "*", "[z", r"\p{Nothing}", r#""\xff""#, "(?=a)"] {
        check(&format!("name~={broken}"), "");
        assert_eq!(found(&[&format!("name~={broken}"), "name==p"]), "p");
    }
    check(&format!(r#"name~="{}""#, "(".repeat(4000)), "");
}

#[test]
fn a_value_without_quotes_ends_at_a_comma() {
    for value in [
        "a",
        "1",
        "a.b-c_d/e|f:g@h",
        r#"a"b"#,
        "'a'",
        "a==b",
        "\\",
        "牛",
    ] {
        assert!(matches_name(&format!("name=={value},kind==active"), value));
        assert!(!matches_name(&format!("name!={value},kind==active"), value));
        assert!(!matches_name(&format!("name=={value}"), "else"));
    }
}

#[test]
fn quotes_and_escapes_are_those_of_go() {
    for (quoted, value) in [
        (r#""""#, ""),
        (r#""a, b""#, "a, b"),
        (r#""a/b|c""#, "a/b|c"),
        (r#""\a\b\f\n\r\t\v\\\"""#, "\x07\x08\x0c\n\r\t\x0b\\\""),
        (r#""\101\x42\u0043\U00000044""#, "ABCD"),
        (r#""\xe7\x89\x9b\u725B牛""#, "牛牛牛"),
        (r#""\ud800""#, "\u{fffd}"),
        (r#""\000""#, "\0"),
    ] {
        assert!(matches_name(&format!("name=={quoted}"), value), "{quoted}");
        assert!(!matches_name(&format!("name!={quoted}"), value), "{quoted}");
    }
}

#[test]
fn a_value_that_is_no_utf8_equals_nothing() {
    assert!(!matches_name(r#"name=="\xff""#, "\u{ff}"));
    assert!(!matches_name(r#"name=="\xff""#, "\u{fffd}"));
    assert!(matches_name(r#"name!="\xff""#, "\u{ff}"));
}

#[test]
fn blanks_may_stand_before_a_field_an_operator_and_a_value() {
    check(" name == p", "p");
    check("name==p,\n\tlabels. absent != x", "p");
    check("name\u{2003}==\u{a0}p", "p");
    for text in ["name ", " ", "name==p ", "name==p ,kind", "labels .l"] {
        refusal(&[text]);
    }
}

#[test]
fn what_is_no_filter_is_refused_with_the_place_and_what_was_expected() {
    for (text, place, expected) in [
        ("=", "at byte 0, before \"=\"", "expected a field"),
        ("name==p,", "at its end", "expected a field"),
        (",name", "at byte 0,", "expected a field"),
        ("labels.", "at its end", "expected a field"),
        ("labels.-", "at byte 7, before \"-\"", "expected a field"),
        (
            "labels.a/b==c",
            "at byte 8,",
            "expected one of the operators",
        ),
        ("labels./a==c", "at byte 7,", "double quotes only"),
        ("labels.|a|==c", "at byte 7,", "double quotes only"),
        ("'name'==p", "at byte 0,", "expected a field"),
        ("name=p", "at byte 4, before \"=p\"", "the operators"),
        ("name===p", "at byte 4,", "the operators"),
        ("name==!p", "at byte 4,", "the operators"),
        ("name<p", "at byte 4,", "the operators"),
        ("name==", "at its end", "expected a value"),
        (
            "name==,kind",
            "at byte 6, before \",kind\"",
            "expected a value",
        ),
        ("name==.p", "at byte 6,", "begins with a dot"),
        ("name== =p", "at byte 7,", "begins with ="),
        ("name==/p/", "at byte 6,", "begins with / or |"),
        ("name==|p|", "at byte 6,", "begins with / or |"),
        ("name==p p", "at byte 7,", "expected a comma or the end"),
        ("name==\"p\"p", "at byte 9,", "expected a comma or the end"),
        ("name==\"p\".p", "at byte 9,", "expected a comma or the end"),
        ("name==p\0", "at byte 7,", "expected a comma or the end"),
        ("name==\"p", "at byte 6,", "does not end"),
        ("name==\"p\n\"", "at byte 6,", "does not end"),
        ("name~=/p", "at byte 6,", "does not end"),
        ("name==\"牛\0\"", "at byte 10,", "cannot be part"),
        ("name==\"\u{fffd}\"", "at byte 7,", "cannot be part"),
        ("name==\"\\", "at byte 7,", "within an escape"),
        ("name~=/\\d/", "at byte 7,", "not an escape"),
        ("name~=/\\\"/", "at byte 7,", "not an escape"),
        ("name==\"\\\n\"", "at byte 7,", "not an escape"),
        ("name==\"\\xz\"", "at byte 7,", "2 digits"),
        ("name==\"\\400\"", "at byte 7,", "3 digits"),
        ("name==\"\\18\"", "at byte 7,", "3 digits"),
        ("name==\"\\u12\"", "at byte 7,", "4 digits"),
        ("name==\"\\U00110000\"", "at byte 7,", "of a character"),
        ("name==\"\\UFFFFFFFF\"", "at byte 7,", "of a character"),
    ] {
        let reason = refusal(&["kind", text]);
        assert!(reason.contains(&format!("{text:?}")), "{reason}");
        assert!(reason.contains(place), "{reason}");
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn a_message_about_a_long_filter_is_short() {
    let reason = refusal(&[&format!("name==p,{}", "牛".repeat(100_000))]);
    assert!(reason.contains("at byte 8,"), "{reason}");
    assert!(reason.len() < 10 * SHOWN_LENGTH_MAX, "{reason}");
}

#[test]
fn filters_as_long_as_the_limit_are_read_and_longer_ones_refused() {
    for pattern in ["a,", "a.", "a==\"\\x61\",", "((((", "\"\"."] {
        let mut text = pattern.repeat(FILTERS_LENGTH_MAX / pattern.len());
        text.truncate(FILTERS_LENGTH_MAX - 1);
        let _may_be_refused = parse(&[&text]).is_err();
    }
    let long = format!("name!={}", "x".repeat(FILTERS_LENGTH_MAX - 7));
    check(&long, EVERYTHING);
    let half = &long[..FILTERS_LENGTH_MAX / 2];
    for texts in [vec![half; 2], vec![""; FILTERS_LENGTH_MAX + 1]] {
        assert!(refusal(&texts).contains("filters of"), "{}", texts.len());
    }
}

#[test]
fn regular_expressions_are_bounded_in_number_length_and_size() {
    let many = vec!["name~=p"; EXPRESSION_COUNT_MAX + 1];
    assert_eq!(found(&many[1..]), "a-np p p-wl a-np-wl");
    assert!(refusal(&many).contains("more than 16 regular expressions"));
    let long = format!("name~={}", "x".repeat(EXPRESSION_LENGTH_MAX + 1));
    assert!(refusal(&[&long]).contains("has 4097 bytes"));
    let large = "name~=/(((a{99}){99}){99}){99}/";
    assert!(refusal(&[large]).contains("(((a{99}){99}){99}){99}"));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_text_makes_the_parser_panic(
        noise in "(?s).{0,40}",
        near in r#"(name|labels|[a. "/|\\=!~,x07uU\n牛(*{9]){0,30}"#,
    ) {
        for text in [noise, near] {
            if let Ok(filters) = Filters::parse(&[text]) {
                let _count = snapshots().iter().filter(|info| filters.matches(info)).count();
            }
        }
    }

    #[test]
    fn any_value_is_found_by_its_quoted_form(value in "(?s).{0,20}", other in "(?s).{0,20}") {
        let escaped: String = value.chars().map(|c| format!("\\U{:08x}", u32::from(c))).collect();
        let filter = format!("name==\"{escaped}\"");
        prop_assert!(matches_name(&filter, &value));
        prop_assert_eq!(matches_name(&filter, &other), value == other);
    }
}
