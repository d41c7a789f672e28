//! Ignore files against paths.

use proptest::prelude::*;

use super::{Ignore, clean};

fn patterns(text: &str) -> Vec<String> {
    let ignore = Ignore::parse(text.as_bytes()).expect(text);
    let text_of = |pattern| String::from_utf8(pattern).expect("UTF-8");
    ignore.patterns().into_iter().map(text_of).collect()
}

#[test]
fn lines_are_trimmed_and_cleaned() {
    let text = "\u{feff}test1\n/test2\n/a/file/here\n\nlastfile\n# this is a comment\n\
                ! /inverted/abs/path\n!\t/inverted2\n./x/../y/\n  #not a comment\r\n/\n.\n//z\n\
                ! spaces \n../out\n";
    let expected = [
        "test1",
        "test2",
        "a/file/here",
        "lastfile",
        "!inverted/abs/path",
        "!inverted2",
        "y",
        "#not a comment",
        "/",
        ".",
        "z",
        "!spaces",
        "../out",
    ];
    assert_eq!(patterns(text), expected);
}

#[test]
fn paths_are_cleaned_as_in_go() {
    let cases = [
        ("a//b/./c/", "a/b/c"),
        ("a/../..", ".."),
        ("../../a", "../../a"),
        ("/..", "/"),
        ("/../a", "/a"),
        ("./", "."),
        ("a/b/../../c", "c"),
    ];
    for (path, expected) in cases {
        assert_eq!(clean(path.as_bytes()), expected.as_bytes(), "{path}");
    }
}

#[test]
fn malformed_patterns_are_refused_with_their_line() {
    for (text, line, message) in [
        ("a\n!\n", 2, "illegal exclusion pattern: \"!\""),
        ("a\n\n!  \n", 3, "illegal exclusion pattern: \"!\""),
        ("!/\n", 1, "illegal exclusion pattern: \"!\""),
        ("[\n", 1, "syntax error in pattern"),
        ("a\nb[-\n", 2, "syntax error in pattern"),
    ] {
        let error = Ignore::parse(text.as_bytes()).expect_err(text);
        assert_eq!(error.to_string(), message);
        let crate::error::Error::Pattern { line: found, .. } = error else {
            panic!("{error:?} is no pattern error");
        };
        assert_eq!(found, line, "{text:?}");
    }
    assert!(Ignore::parse("a\n".repeat(70_000).as_bytes()).is_err());
    assert!(Ignore::parse("a".repeat(70_000).as_bytes()).is_err());
    assert!(Ignore::parse("#\n".repeat(2 << 20).as_bytes()).is_err());
}

#[test]
fn the_last_match_wins() {
    let cases: [(&str, &[&str], &[&str]); 12] = [
        ("*.md\n!README.md", &["a.md"], &["README.md", "d/a.md"]),
        ("!README.md\n*.md", &["README.md"], &["a.txt"]),
        (
            "**/*.md\n!d/**",
            &["a.md", "e/a.md"],
            &["d/a.md", "d/e/a.md"],
        ),
        ("*\n!a", &["b", "b/c"], &["a", "a/b"]),
        (
            "dir\n!dir/keep",
            &["dir", "dir/a"],
            &["dir/keep", "dir/keep/x"],
        ),
        ("./ a /\n", &["a", "a/b"], &[" a", "b"]),
        ("dir/\n", &["dir", "dir/a/b"], &["dirx", "x/dir"]),
        ("x\n!x/y\nx*", &["x", "x1"], &["x/y", "x/y/z", "y"]),
        (
            "**\n!src/**/*.rs",
            &["src", "src/a.c", "Cargo.toml"],
            &["src/a.rs", "src/b/a.rs"],
        ),
        ("node_modules\n", &["node_modules/a"], &["a/node_modules"]),
        (
            "**/node_modules\n",
            &["node_modules", "a/b/node_modules/c"],
            &["a/b"],
        ),
        (".git\n.*\n!.env", &[".git", ".gitignore"], &[".env", "a"]),
    ];
    for (text, excluded, included) in cases {
        let ignore = Ignore::parse(text.as_bytes()).expect(text);
        for path in excluded {
            assert!(ignore.excludes(path), "{text:?} must exclude {path}");
        }
        for path in included {
            assert!(!ignore.excludes(path), "{text:?} must not exclude {path}");
        }
    }
}

/// What BuildKit 0.32 was seen to send of such contexts.
#[test]
fn exceptions_bring_back_what_was_taken_away_itself() {
    let cases: [(&str, &[&str], &[&str]); 7] = [
        (
            "src/sub/**\n!src/sub/",
            &["src/sub/x.c", "src/sub/deep/z.c"],
            &["src/sub"],
        ),
        (
            "src/sub/**\n!src/sub/x.c",
            &["src/sub/y.h"],
            &["src/sub/x.c"],
        ),
        (
            "**/*.c\n!src/sub",
            &["src/main.c", "src/sub/x.c"],
            &["src/sub/y.h"],
        ),
        ("src\n!src/sub", &["src/main.c"], &["src/sub/deep/z.c"]),
        (
            "*\n!src/sub/deep/",
            &["src", "src/sub/x.c"],
            &["src/sub/deep/z.c"],
        ),
        ("foo/**\n!foo/bar/", &["foo/a.txt"], &["foo/bar/baz"]),
        (
            "foo\n!foo/bar\nfoo/bar/baz",
            &["foo/bar/baz"],
            &["foo/bar/qux.txt"],
        ),
    ];
    for (text, excluded, included) in cases {
        let ignore = Ignore::parse(text.as_bytes()).expect(text);
        for path in excluded {
            assert!(ignore.excludes(path), "{text:?} must exclude {path}");
        }
        for path in included {
            assert!(!ignore.excludes(path), "{text:?} must not exclude {path}");
        }
    }
}

#[test]
fn the_root_is_never_excluded() {
    let ignore = Ignore::parse(b"*\n.\n**\n/\n").expect("valid");
    for root in ["", ".", "/", "./"] {
        assert!(
            !ignore.excludes(root) && !ignore.excludes_all_below(root),
            "{root:?}"
        );
    }
    assert!(ignore.excludes("./a") && ignore.excludes("/a/"));
}

#[test]
fn a_directory_is_skipped_only_if_no_later_exception_reaches_below() {
    let cases = [
        ("dir", "dir", true),
        ("dir", "other", false),
        ("dir\n!dir/keep", "dir", false),
        ("dir\n!dir/keep", "dir/a", true),
        ("!dir/keep\ndir", "dir", true),
        ("*\n!src", "target", true),
        ("*\n!src", "src", false),
        ("*\n!src/*/x", "src", false),
        ("*\n!src/*/x", "src/a", false),
        ("*\n!src/*/x", "src/a/b", true),
        ("*\n!*/x", "a", false),
        ("*\n!*/x", "a/b", true),
        ("**\n!**/*.rs", "a/b/c", false),
        ("**\n!src/**/*.rs", "target", true),
        ("**\n!src/**/*.rs", "src/a/b", false),
        ("*\n![a-z]x", "q/r", false),
        ("*\n!a\\/b", "a", false),
    ];
    for (text, dir, expected) in cases {
        let ignore = Ignore::parse(text.as_bytes()).expect(text);
        assert_eq!(ignore.excludes_all_below(dir), expected, "{text:?} {dir}");
    }
}

#[test]
fn patterns_without_a_file_keep_their_leading_slash() {
    let ignore = Ignore::from_patterns(["*.txt", " !a.txt ", "", "/x"]).expect("valid");
    assert!(ignore.excludes("b.txt") && !ignore.excludes("a.txt"));
    assert!(!ignore.excludes("x"));
    assert!(Ignore::from_patterns(["!"]).is_err());
    assert!(Ignore::default().is_empty() && !ignore.is_empty());
}

proptest! {
    #[test]
    fn no_ignore_file_panics(data in proptest::collection::vec(any::<u8>(), 0..200), path in ".*") {
        let ignore = Ignore::parse(&data).unwrap_or_default();
        prop_assert!(!ignore.excludes_all_below(&path) || ignore.excludes(&path));
    }

    #[test]
    fn what_is_skipped_holds_nothing_that_is_wanted(
        lines in proptest::collection::vec("!?[ab*?][ab*?/]{0,5}|!?(a|b)/\\*\\*/(a|b)", 1..6),
        dir in "[ab](/[ab]){0,2}",
        below in "[ab](/[ab]){0,2}",
    ) {
        let ignore = Ignore::parse(lines.join("\n").as_bytes()).expect("valid patterns");
        if ignore.excludes_all_below(&dir) {
            prop_assert!(ignore.excludes(&dir));
            let below = format!("{dir}/{below}");
            prop_assert!(ignore.excludes(&below), "{} of {:?}", below, lines);
        }
    }
}
