//! Words with the values that BuildKit gives them.

use proptest::prelude::*;

use super::{EXPANSION_SIZE_MAX, Lexer, NoVariables, WordProblem};

/// What most cases know.
const VARIABLES: [(&str, &str); 9] = [
    ("HOME", "/root"),
    ("EMPTY", ""),
    ("FILE", "/a/b.c/d.tar.gz"),
    ("LIST", "  ab  c "),
    ("STARS", "a*b?c\\d"),
    ("NAME_1", "one"),
    ("한", "국어"),
    ("REF", "$HOME"),
    ("BRACES", "()[]{}^$.|+x"),
];

fn variables() -> Vec<(String, String)> {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    VARIABLES.into_iter().map(owned).collect()
}

/// Each case is a word and its value, or the message after "failed to process ...: ".
fn check(lexer: Lexer, cases: &[(&str, Result<&str, &str>)]) {
    let variables = variables();
    for (word, expected) in cases {
        let found = lexer.process_word(word, &variables[..]);
        let found = found.map_err(|error| error.problem.to_string());
        let expected = expected.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(found, expected, "{word}");
    }
}

#[test]
fn quotes_and_escapes_are_removed() {
    let single = "unexpected end of statement while looking for matching single-quote";
    let double = "unexpected end of statement while looking for matching double-quote";
    check(
        Lexer::new('\\'),
        &[
            ("", Ok("")),
            ("plain text", Ok("plain text")),
            ("he'll'o", Ok("hello")),
            ("he'llo", Err(single)),
            ("he\\'llo", Ok("he'llo")),
            ("he\\\\'llo", Err(single)),
            ("abc\\tdef", Ok("abctdef")),
            ("\"abc\\tdef\"", Ok("abc\\tdef")),
            ("\"abc\\\\tdef\"", Ok("abc\\tdef")),
            ("'abc\\tdef'", Ok("abc\\tdef")),
            ("trailing\\", Ok("trailing")),
            ("trailing\\\\", Ok("trailing\\")),
            ("\"open", Err(double)),
            ("\"open\\\"", Err(double)),
            ("\"it's\"", Ok("it's")),
            ("'say \"x\"'", Ok("say \"x\"")),
            ("안'녕'하\\세", Ok("안녕하세")),
            ("안녕'하", Err(single)),
        ],
    );
}

#[test]
fn the_escape_character_can_be_a_backtick() {
    check(
        Lexer::new('`'),
        &[
            ("a`$HOME", Ok("a$HOME")),
            ("c:\\$HOME\\x", Ok("c:\\/root\\x")),
            ("\"a`\"b``\"", Ok("a\"b`")),
            ("'a`b'", Ok("a`b")),
        ],
    );
}

#[test]
fn variables_are_replaced() {
    check(
        Lexer::new('\\'),
        &[
            ("$HOME", Ok("/root")),
            ("x${HOME}y", Ok("x/rooty")),
            ("$HOMEy", Ok("")),
            ("$NAME_1.", Ok("one.")),
            ("\"$HOME\"", Ok("/root")),
            ("\"'$HOME'\"", Ok("'/root'")),
            ("'$HOME'", Ok("$HOME")),
            ("\\$HOME", Ok("$HOME")),
            ("\\\\$HOME", Ok("\\/root")),
            ("\"\\$HOME\"", Ok("$HOME")),
            ("'\\$HOME'", Ok("\\$HOME")),
            ("$REF", Ok("$HOME")),
            ("$한", Ok("국어")),
            ("$.", Ok("$.")),
            ("a$", Ok("a$")),
            ("$1x$999y", Ok("xy")),
            ("$@@$*$#$?$-$$x$!", Ok("@x")),
            ("${1:-a}${@:-b}${-:-c}", Ok("abc")),
            ("a<b <<c", Ok("a<b <<c")),
        ],
    );
}

#[test]
fn defaults_alternatives_and_demands_are_honoured() {
    check(
        Lexer::new('\\'),
        &[
            ("${NO:-a b}", Ok("a b")),
            ("${NO-}", Ok("")),
            ("${EMPTY:-a}${EMPTY-b}", Ok("a")),
            ("${HOME:-a}${HOME-b}", Ok("/root/root")),
            ("${NO:+a}${NO+b}", Ok("")),
            ("${EMPTY:+a}${EMPTY+b}", Ok("b")),
            ("${HOME:+a}${HOME+b}", Ok("ab")),
            ("${NO:-${NO2:-${HOME}}}", Ok("/root")),
            ("${NO:-\"a}b\"}", Ok("a}b")),
            ("${NO:-a\\}b}", Ok("a}b")),
            ("${NO:-'$HOME'}", Ok("$HOME")),
            ("${NO:-\\$HOME}", Ok("$HOME")),
            ("${NO:-\\${HOME}z}", Ok("${HOMEz}")),
            ("${NO:-{x}", Ok("{x")),
            ("${NO:-b}}", Ok("b}")),
            ("${HOME?}${HOME:?}${EMPTY?}", Ok("/root/root")),
            ("${NO?}", Err("NO: is not allowed to be unset")),
            ("${NO:?}", Err("NO: is not allowed to be unset")),
            ("${EMPTY:?}", Err("EMPTY: is not allowed to be empty")),
            ("${EMPTY:?say $HOME}", Err("EMPTY: say /root")),
            ("${NO?why}", Err("NO: why")),
        ],
    );
}

#[test]
fn prefixes_and_suffixes_are_removed() {
    check(
        Lexer::new('\\'),
        &[
            ("${FILE#*/}", Ok("a/b.c/d.tar.gz")),
            ("${FILE##*/}", Ok("d.tar.gz")),
            ("${FILE%.*}", Ok("/a/b.c/d.tar")),
            ("${FILE%%.*}", Ok("/a/b")),
            ("${FILE#x}${FILE%x}", Ok("/a/b.c/d.tar.gz/a/b.c/d.tar.gz")),
            ("${FILE#}${EMPTY%}", Ok("/a/b.c/d.tar.gz")),
            ("${FILE##}", Ok("/a/b.c/d.tar.gz")),
            ("${FILE#$HOME}", Ok("/a/b.c/d.tar.gz")),
            ("${FILE#/?/}", Ok("b.c/d.tar.gz")),
            ("${STARS#a\\*}", Ok("b?c\\d")),
            ("${STARS#a\\**\\?}", Ok("c\\d")),
            ("${STARS##*\\\\}", Ok("d")),
            ("${STARS%\\\\d}", Ok("a*b?c")),
            ("${STARS%%\\**}", Ok("a")),
            (
                "${BRACES#()[]{\\}^\\$.|+}",
                Err("invalid pattern (()[]{\\}^\\$.|+) in substitution: \
                invalid escape '\\$'"),
            ),
            ("${BRACES#()[]{\\}^$.|+}", Ok("x")),
            ("${NO#a}", Ok("")),
            ("${FILE#'/a'}", Ok("/b.c/d.tar.gz")),
            (
                "${FILE%\\x}",
                Err("invalid pattern (\\x) in substitution: invalid escape '\\x'"),
            ),
        ],
    );
}

#[test]
fn matches_are_replaced() {
    check(
        Lexer::new('\\'),
        &[
            ("${FILE/b/X}", Ok("/a/X.c/d.tar.gz")),
            ("${FILE//\\//-}", Ok("-a-b.c-d.tar.gz")),
            ("${FILE//\\//\\/}", Ok("\\/a\\/b.c\\/d.tar.gz")),
            ("${FILE/.*/}", Ok("/a/b")),
            ("${FILE//[bc]/X}", Ok("/a/b.c/d.tar.gz")),
            ("${FILE//?.?/<$NAME_1>}", Ok("/a/<one>/<one>a<one>z")),
            ("${FILE//a/\\$1}", Ok("/\\$1/b.c/d.t\\$1r.gz")),
            ("${EMPTY/x/y}${NO/x/y}", Ok("")),
            ("${NAME_1//$EMPTY/-}", Ok("-o-n-e-")),
            ("${NAME_1///}", Ok("one")),
            ("${FILE//x}", Err("syntax error: missing '/' in ${}")),
            ("${FILE/x/y", Err("syntax error: missing '}'")),
        ],
    );
}

#[test]
fn wrong_substitutions_are_refused() {
    let missing = Err("syntax error: missing '}'");
    let bad = Err("syntax error: bad substitution");
    check(
        Lexer::new('\\'),
        &[
            ("${", missing),
            ("${HOME", missing),
            ("${HOME:", missing),
            ("${HOME:-a", missing),
            ("${NO:-a ${HOME}", missing),
            ("${HOME:}", missing),
            ("${}", bad),
            ("a${}b", bad),
            ("${{HOME}", bad),
            ("${:-a}", bad),
            ("${.}", Err("unsupported modifier (.) in substitution")),
            ("${HOME=a}", Err("unsupported modifier (=) in substitution")),
            (
                "${HOME:=a}",
                Err("unsupported modifier (:=) in substitution"),
            ),
            (
                "${HOME:a}",
                Err("unsupported modifier (:a) in substitution"),
            ),
            (
                "${HOME:#a}",
                Err("unsupported modifier (:#) in substitution"),
            ),
            (
                "${HOME:%%a}",
                Err("unsupported modifier (:%) in substitution"),
            ),
            ("${#HOME}", Err("unsupported modifier (H) in substitution")),
        ],
    );
    let error = Lexer::new('\\')
        .process_word("x\t${", &NoVariables)
        .expect_err("wrong");
    let message = "failed to process \"x\\t${\": syntax error: missing '}'";
    assert_eq!(error.to_string(), message);
    let long = "a".repeat(1000) + "'";
    let error = Lexer::new('\\')
        .process_word(&long, &NoVariables)
        .expect_err("wrong");
    assert!(
        error.to_string().len() < 400,
        "a message does not repeat a long word"
    );
}

#[test]
fn words_are_split_after_expansion() {
    let cases: [(&str, &[&str]); 18] = [
        ("hello", &["hello"]),
        ("hello${NO}bye", &["hellobye"]),
        ("a ${NO} b", &["a", "b"]),
        ("x${LIST}y", &["x", "ab", "c", "y"]),
        ("x\"${LIST}\"y", &["x  ab  c y"]),
        ("x \"${LIST}\"y", &["x", "  ab  c y"]),
        ("x$LIST y", &["x", "ab", "c", "y"]),
        ("hel\"lo$LIST\"", &["hello  ab  c "]),
        ("a\" b  \"", &["a b  "]),
        ("a  b ", &["a", "b"]),
        ("a\\ b", &["a b"]),
        ("a\\\" b", &["a\"", "b"]),
        ("a'\\ b'", &["a\\ b"]),
        ("'' \"\" a", &["a"]),
        ("80${NO:-80}/tcp", &["8080/tcp"]),
        ("a ${NO:-b c} d", &["a", "b", "c", "d"]),
        ("<<  EOF >x", &["<<  EOF", ">x"]),
        ("a\u{a0}b\u{3000}c", &["a", "b", "c"]),
    ];
    let variables = variables();
    for (word, expected) in cases {
        let found = Lexer::new('\\')
            .process_words(word, &variables[..])
            .expect(word);
        assert_eq!(found, expected, "{word}");
    }
}

#[test]
fn the_modes_keep_what_they_say() {
    let lexer = Lexer::new('\\');
    check(
        lexer.raw_quotes(),
        &[("'a b'\"$HOME\"", Ok("'a b'\"/root\"")), ("\\'a", Ok("'a"))],
    );
    check(
        lexer.raw_escapes(),
        &[
            ("a\\'b", Ok("a\\'b")),
            ("\"a\\\"b\"", Ok("a\\\"b")),
            ("a\\", Ok("a\\")),
        ],
    );
    check(
        lexer.skip_process_quotes(),
        &[(
            "it's \"$HOME\" '$HOME' \\$x",
            Ok("it's \"/root\" '/root' $x"),
        )],
    );
    check(
        lexer.skip_unset(),
        &[
            ("$NO ${NO} $HOME", Ok("$NO ${NO} /root")),
            ("${NO:-a$HOME}", Ok("${NO:-a/root}")),
            (
                "${NO?}${NO%%x}${NO/a/b}${NO//a/b}",
                Ok("${NO?}${NO%%x}${NO/a/b}${NO//a/b}"),
            ),
            ("${HOME:-x}", Ok("/root")),
        ],
    );
}

#[test]
fn used_and_unmatched_variables_are_reported() {
    let variables = variables();
    let word = "$HOME ${NO:-${NO2:-$EMPTY}} '$SINGLE' \"$HOME\" ${NAME_1+$NO3}";
    let result = Lexer::new('\\')
        .process(word, &variables[..])
        .expect("valid");
    assert_eq!(result.text, "/root  $SINGLE /root ");
    assert_eq!(Vec::from_iter(result.used), ["EMPTY", "HOME", "NAME_1"]);
    assert_eq!(Vec::from_iter(result.unmatched), ["NO", "NO2", "NO3"]);
}

#[test]
fn the_last_of_two_equal_names_counts() {
    let pairs = [("A", "1"), ("A", "2")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    let found = Lexer::new('\\').process_word("$A", &pairs[..]);
    assert_eq!(found.as_deref(), Ok("2"));
}

#[test]
fn nesting_and_size_are_limited() {
    let lexer = Lexer::new('\\');
    let nested = |depth: usize| "${a:-".repeat(depth) + "x" + &"}".repeat(depth);
    assert_eq!(
        lexer.process_word(&nested(100), &NoVariables).as_deref(),
        Ok("x")
    );
    for word in [nested(101), "${a:-".repeat(100_000), "${a/".repeat(1000)] {
        let error = lexer.process_word(&word, &NoVariables).expect_err("deep");
        assert_eq!(error.problem, WordProblem::TooDeep);
    }

    let word = format!("${{A#{}}}", "x".repeat(20_000));
    let error = lexer
        .process_word(&word, &NoVariables)
        .expect_err("long pattern");
    assert!(
        error
            .problem
            .to_string()
            .ends_with("longer than 16384 bytes"),
        "{error}"
    );

    let big = [("A".to_owned(), "x".repeat(EXPANSION_SIZE_MAX / 2))];
    assert!(lexer.process_word("$A$A", &big[..]).is_ok());
    for word in ["$A$A$A", "\"$A$A$A\"", "${A//x/$A}", "${B:-$A$A$A}"] {
        let error = lexer.process_word(word, &big[..]).expect_err(word);
        assert_eq!(error.problem, WordProblem::TooLarge, "{word}");
    }
}

proptest! {
    #[test]
    fn no_word_panics(word in any::<String>(), escape in "[\\\\`]") {
        let lexer = Lexer::new(escape.chars().next().unwrap_or('\\'));
        let _expanded = lexer.process(&word, &NoVariables);
    }

    #[test]
    fn no_substitution_panics(word in "(\\$|\\{|\\}|[:?+#%/*<'\"\\\\`-]|A|B|é| ){0,30}") {
        let variables = [("A".to_owned(), "é*x/y z".to_owned())];
        for lexer in [Lexer::new('\\'), Lexer::new('`').raw_quotes().raw_escapes().skip_unset()] {
            let _expanded = lexer.process(&word, &variables[..]);
        }
    }

    #[test]
    fn a_single_quoted_text_stays_as_it_is(text in "[^']*") {
        let word = format!("'{text}'");
        let result = Lexer::new('\\').process_word(&word, &NoVariables);
        prop_assert_eq!(result.as_deref(), Ok(text.as_str()));
    }
}
