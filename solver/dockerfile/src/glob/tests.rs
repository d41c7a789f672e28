//! Patterns against names, with the answers of Go's `filepath.Match` and docker's
//! `patternmatcher`.

use super::{Glob, has_wildcards, matches};
use crate::error::Problem;

#[test]
fn names_match_as_in_filepath_match() {
    let cases = [
        ("abc", "abc", true),
        ("*", "abc", true),
        ("*c", "abc", true),
        ("a*", "a", true),
        ("a*", "ab/c", false),
        ("a*/b", "abc/b", true),
        ("a*/b", "a/c/b", false),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
        ("a*b?c*x", "abxbbxdbxebxczzx", true),
        ("a*b?c*x", "abxbbxdbxebxczzy", false),
        ("ab[c]", "abc", true),
        ("ab[b-d]", "abc", true),
        ("ab[e-g]", "abc", false),
        ("ab[^c]", "abc", false),
        ("ab[^b-d]", "abc", false),
        ("ab[^e-g]", "abc", true),
        ("a\\*b", "a*b", true),
        ("a\\*b", "ab", false),
        ("a?b", "a☺b", true),
        ("a[^a]b", "a☺b", true),
        ("a???b", "a☺b", false),
        ("[a-ζ]*", "α", true),
        ("*[a-ζ]", "A", false),
        ("a?b", "a/b", false),
        ("a*b", "a/b", false),
        ("[\\]a]", "]", true),
        ("[\\-]", "-", true),
        ("[x\\-]", "x", true),
        ("[x\\-]", "z", false),
        ("[\\-x]", "a", false),
        ("*x", "xxx", true),
        ("**", "a/b", false),
        ("a[z-a]", "ab", false),
        ("[!a]", "!", true),
        ("[*]", "*", true),
        ("a^", "a^", true),
        ("", "", true),
        ("", "a", false),
    ];
    for (pattern, name, expected) in cases {
        assert_eq!(matches(pattern, name), Ok(expected), "{pattern} {name}");
    }
}

#[test]
fn malformed_patterns_are_refused() {
    for pattern in [
        "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "a\\", "[a\\",
    ] {
        assert_eq!(matches(pattern, "a"), Err(Problem::BadPattern), "{pattern}");
    }
    assert!(matches!(
        matches("a".repeat(5000), "a"),
        Err(Problem::PatternTooLong { .. })
    ));
}

#[test]
fn double_stars_match_directories() {
    let cases = [
        ("**", "file", true),
        ("**", "dir/file", true),
        ("**/", "dir/file", true),
        ("**/**", "dir/file", true),
        ("dir/**", "dir/file", true),
        ("dir/**", "dir/dir2/file", true),
        ("dir/**", "dir", false),
        ("**/dir", "dir", true),
        ("**/dir", "a/dir", true),
        ("**/dir2/*", "dir/dir2/file", true),
        ("**/dir2/*", "dir/dir2/dir2/file", true),
        ("**file", "file", true),
        ("**file", "dir/file", true),
        ("**file", "dir/xfile", true),
        ("**/file", "dir/dirfile", false),
        ("**file*", "dir/xfile", false),
        ("**file*", "dir/file.txt", true),
        ("**/*.txt", "dir/file.txt", true),
        ("**/*.txt", "file.txt", true),
        ("**/*.txt", "dir/file.txt.bak", false),
        ("a**/*.txt", "a/dir/file.txt", true),
        ("a/**/*.txt", "a/file.txt", true),
        ("a/**/*.txt", "a/dir/file.txt", true),
        ("a/**/*.txt", "a/dir/dir/file.txt", true),
        ("a/**/b/**/c", "a/b/c", true),
        ("a/**/b/**/c", "a/x/b/y/z/c", true),
        ("a/**/b/**/c", "a/x/y/c", false),
        ("ab**cd", "abcd", true),
        ("ab**cd", "ab/x/cd", true),
        ("ab**cd", "abxcd", false),
        ("ab*cd**", "abxcd/e", true),
        ("abc**", "abcd/e", true),
        (".*", ".foo", true),
        (".*", "foo", false),
        ("a.*", "ab", false),
        ("?:x", "c:x", true),
        ("abc[z-ab]", "abcd", false),
        ("a[b-d]e", "ace", true),
        ("a\\*b", "a*b", true),
    ];
    for (pattern, path, expected) in cases {
        let glob = Glob::with_double_star(pattern).expect(pattern);
        assert_eq!(glob.is_match(path), expected, "{pattern} {path}");
    }
}

/// As regular expressions, which `patternmatcher` makes of its patterns.
#[test]
fn expressions_show_through() {
    for (pattern, path, expected) in [
        ("\\a.txt", "a.txt", false),
        ("x\\dy", "x5y", true),
        ("\\S*", "src", true),
        ("\\s*", "src", false),
        ("bin\\Debug", "bin\\Debug", false),
        ("a\\b", "ab", false),
        ("\\[a\\]\\{\\}\\!", "[a]{}!", true),
        ("[[:alpha:]]*", "abc", true),
        ("[[:alpha:]_]", "_", true),
        ("[[:^digit:]]x", "ax", true),
        ("[[:^digit:]]x", "4x", false),
        ("[^[:digit:]]x", "4x", false),
        ("[[:punct:]]", "#", true),
    ] {
        let glob = Glob::with_double_star(pattern).expect(pattern);
        assert_eq!(glob.is_match(path), expected, "{pattern} {path}");
    }
    for pattern in ["we\\ird", "\\1", "\\é", "[[:none:]]"] {
        let refused = Glob::with_double_star(pattern);
        assert_eq!(refused, Err(Problem::BadPattern), "{pattern}");
    }
}

#[test]
fn bytes_that_are_not_utf8_match_only_themselves_and_wildcards() {
    assert_eq!(matches(b"a\xff", b"a\xff"), Ok(true));
    assert_eq!(matches(b"a\xff", b"a\xfe"), Ok(false));
    assert_eq!(matches("a?", b"a\xff"), Ok(true));
    assert_eq!(matches("a*", b"a\xff\xfe"), Ok(true));
    assert_eq!(matches("a\u{fffd}", b"a\xff"), Ok(false));
}

#[test]
fn a_hostile_pattern_takes_no_exponential_time() {
    let pattern = "*a".repeat(300) + "b";
    assert_eq!(matches(&pattern, "a".repeat(2000)), Ok(false));
    let pattern = "**/".repeat(300) + "b";
    let glob = Glob::with_double_star(&pattern).expect("valid");
    assert!(!glob.is_match("a/".repeat(1000)));
}

#[test]
fn only_patterns_have_meta_characters() {
    for pattern in ["a*", "[a]", "?", r"\\*", r"a\b*"] {
        assert!(has_wildcards(pattern), "{pattern}");
    }
    for name in ["a/b.c]^!", r"a\b", r"a\*", "a\\"] {
        assert!(!has_wildcards(name), "{name}");
    }
}
