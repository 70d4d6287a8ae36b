//! What cannot be used ends in clear sentences that name the place, and never in a panic or a leak.

use pretty_assertions::assert_eq;
use proptest::prelude::*;
use rstest::rstest;

use super::*;

#[test]
fn a_named_file_that_does_not_exist_is_an_error() {
    let setup = nothing().flags(|flags| flags.config_file = Some("b.yaml".into()));
    let expected =
        "b.yaml: the configuration file does not exist. Name another file with --config, or correct this one";
    assert_eq!(setup.errors(), [expected]);
}

#[test]
fn a_directory_in_place_of_the_file_is_an_error() {
    let setup = nothing().with_file("anchore-k8s-inventory.yaml/x", "");
    let expected = "./anchore-k8s-inventory.yaml: the configuration file is a directory. \
                    Name another file with --config, or correct this one";
    assert_eq!(setup.errors(), [expected]);
}

#[test]
fn a_link_that_leads_nowhere_is_an_error() {
    let setup = nothing();
    let link = setup.directory.path().join("anchore-k8s-inventory.yaml");
    std::os::unix::fs::symlink("nowhere", link).unwrap();
    let expected = "./anchore-k8s-inventory.yaml: the configuration file is a link to a file that does not exist. \
                    Name another file with --config, or correct this one";
    assert_eq!(setup.errors(), [expected]);
}

#[test]
fn other_formats_are_refused_by_name() {
    let setup = nothing().with_file("c.toml", "").flags(|flags| flags.config_file = Some("c.toml".into()));
    assert_eq!(setup.errors(), ["c.toml: files of the kind toml are not read. Write it as YAML or JSON"]);
}

#[rstest]
#[case::binary(b"quiet: true\nab\0".as_slice(), "config.yaml:2:3: the configuration file is not UTF-8 text. Check that it is the right file, and save it as UTF-8")]
#[case::latin1(b"anchore:\n  user: J\xfcrgen".as_slice(), "config.yaml:2:10: the configuration file is not UTF-8 text. Check that it is the right file, and save it as UTF-8")]
#[case::tab(b"a:\n\tb: 1".as_slice(), "config.yaml:2:2: not valid YAML: tabs disallowed within this context (block indentation)")]
#[case::list(b"- a".as_slice(), "config.yaml:1:1: the file holds no keys. It should consist of lines such as \"key: value\"")]
#[case::text(b"hello".as_slice(), "config.yaml:1:1: the file holds no keys. It should consist of lines such as \"key: value\"")]
#[case::two_documents(b"quiet: true\n---\nquiet: false".as_slice(), "config.yaml:2:1: a second document begins here; a configuration file holds one")]
#[case::unclosed(b"anchore: {password: S3CRET".as_slice(), "config.yaml:1:10: not valid YAML: unclosed bracket '{'")]
#[case::unquoted(b"quiet: @S3CRET".as_slice(), "config.yaml:1:8: not valid YAML: the character '@' cannot stand here unless the text is quoted")]
#[case::unknown_alias(b"quiet: *a".as_slice(), "config.yaml:1:8: not valid YAML: while parsing node, found unknown anchor")]
#[case::alias_in_itself(b"a: &a [*a]".as_slice(), "config.yaml:1:8: this alias stands inside what it names")]
#[case::odd_tag(b"anchore: {password: !!binary UzNDUkVU}".as_slice(), "config.yaml:1:30: a text that begins with ! must be quoted, and tags other than those of JSON are not understood")]
#[case::odd_key(b"? [a]\n: b".as_slice(), "config.yaml:1:3: a key must be a text, not a list or a map")]
#[case::odd_merge(b"anchore: {<<: 7}".as_slice(), "config.yaml:1:15: only a map, or a list of maps, can be merged with <<")]
fn d12_a_file_that_is_no_configuration_is_one_error_with_its_place(#[case] text: &[u8], #[case] expected: &str) {
    assert_eq!(file(text).errors(), [expected]);
}

#[rstest]
#[case::empty("")]
#[case::comment("# nothing")]
#[case::null("null")]
#[case::marker("---\n")]
#[case::empty_map("{}")]
#[case::null_sections("anchore:\nlog: ~\naccount-routes:\n")]
#[case::empty_sections("anchore: []\nlog: ''\naccount-routes: {a: []}\n")]
fn a_file_that_sets_nothing_is_valid(#[case] text: &str) {
    assert_eq!(file(text).warnings(), Vec::<String>::new());
}

#[test]
fn a_file_of_ten_megabytes_is_refused_by_size() {
    let text = "# filler\n".repeat(10 * 1024 * 1024 / 9);
    assert_eq!(
        file(text).errors(),
        ["config.yaml: the configuration file is larger than 2 MiB. Check that it is the right file"]
    );
}

#[rstest]
#[case::flow("[".repeat(100_000))]
#[case::flow_maps("{a: ".repeat(100_000))]
#[case::block((0..1000).fold(String::new(), |text, depth| text + &" ".repeat(depth) + "a:\n"))]
#[case::sequences("- ".repeat(1000))]
#[case::aliases((1..1000).fold("a0: &a0 [x]\n".to_owned(), |text, n| text + &format!("a{n}: &a{n} [*a{}]\n", n - 1)))]
fn deep_nesting_is_refused(#[case] text: String) {
    let errors = file(text).errors();
    assert!(matches!(errors.as_slice(), [error] if error.ends_with("nested more than 32 levels deep")), "{errors:?}");
}

#[test]
fn aliases_that_multiply_are_refused() {
    let bomb = (1..20).fold("a0: &a0 [x, x]\n".to_owned(), |text, n| {
        text + &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "))
    });
    let errors = file(bomb).errors();
    assert!(
        matches!(errors.as_slice(), [error] if error.ends_with("more than 100000 values, aliases included")),
        "{errors:?}"
    );
}

#[test]
fn aliases_that_multiply_one_long_text_are_refused() {
    let text = "x".repeat(1 << 19);
    let bomb = format!("a: &a {{key: {text}}}\nb: [{}]\n", vec!["*a"; 1000].join(", "));
    let errors = file(bomb).errors();
    let expected = "more than 8 MiB of text, aliases included";
    assert!(matches!(errors.as_slice(), [error] if error.ends_with(expected)), "{} errors", errors.len());
}

/// D43 (a misspelt mode) and D42 (unknown keys) among them.
#[test]
fn all_problems_are_found_at_once_in_the_order_of_the_file() {
    let setup = file(
        "polling-interval-seconds: soon\n\
         mode: peridic\n\
         anchor: {url: x}\n\
         quiet: maybe\n\
         health-report-interval-seconds: 10\n\
         namespace-selectors: {exclude: ['*-prod']}\n\
         kubernetes: 7\n\
         log: {level: [info]}\n\
         anchore: {account: {a: b}}\n",
    )
    .variable("ANCHORE_K8S_INVENTORY_SPOOL_MAX_BYTES", "0");
    let expected = "the configuration cannot be used:
  error: config.yaml:1:27: polling-interval-seconds: \"soon\" is not a whole number. Write a whole number from 1 to 31536000
  error: config.yaml:2:7: mode: \"peridic\" is not one of the words for this key. Write one of adhoc, periodic
  warning: config.yaml:3:1: anchor: is not a known key. Did you mean anchore?
  error: config.yaml:4:8: quiet: \"maybe\" is neither true nor false. Write true or false
  error: config.yaml:5:33: health-report-interval-seconds: \"10\" is out of range. Write a whole number from 30 to 600
  error: config.yaml:6:33: namespace-selectors.exclude: \"*-prod\" is not a regular expression: repetition operator missing expression at character 1. For any text write .*, and put \\ before a character that is meant literally
  error: config.yaml:7:1: kubernetes: must be a map of further keys
  error: config.yaml:8:14: log.level: is a list where one value is expected. Write one of trace, debug, info, warn, warning, error, panic, fatal
  error: config.yaml:9:20: anchore.account: is a map where one value is expected. Write a text
  error: ANCHORE_K8S_INVENTORY_SPOOL_MAX_BYTES: spool.max-bytes: \"0\" is out of range. Write a whole number from 1";
    assert_eq!(setup.load().unwrap_err().to_string(), expected);
}

/// D42: a misspelt key is never silent.
#[test]
fn an_unknown_key_is_a_warning_and_with_strict_an_error() {
    let expected =
        "config.yaml:1:1: polling-interval-second: is not a known key. Did you mean polling-interval-seconds?";
    let setup = file("polling-interval-second: 60");
    assert_eq!(setup.warnings(), [expected]);
    let check = setup.check();
    assert_eq!(
        (check.text, check.passed),
        (format!("configuration file: config.yaml\nerror: {expected}\n1 error\n"), false)
    );
    assert_eq!(setup.flags(|flags| flags.strict = true).errors(), [expected]);
}

#[test]
fn an_unknown_field_of_a_route_is_named_with_its_account() {
    let expected =
        "config.yaml:1:22: account-routes.A.pasword: is not a known key. Did you mean account-routes.A.password?";
    assert_eq!(file("account-routes: {A: {pasword: x}}").warnings(), [expected]);
}

#[test]
fn a_blank_that_is_missing_after_a_colon_is_named() {
    let expected = "config.yaml:1:11: anchore.account: has no blank between its colon and its value. Write one";
    assert_eq!(file("anchore: {account:x}").warnings(), [expected]);
}

#[rstest]
#[case::plain("quiet: true\nquiet: false", "config.yaml:2:1: quiet: is set twice, first in line 1. Remove one of them")]
#[case::case("quiet: true\nQuiet: false", "config.yaml:2:1: quiet: is set twice, first in line 1. Remove one of them")]
#[case::section(
    "log:\n  level: info\nLOG:\n  file: x",
    "config.yaml:3:1: log: is set twice, first in line 1. Remove one of them"
)]
#[case::dotted(
    "log.level: info\nlog:\n  level: debug",
    "config.yaml:3:3: log.level: is set twice, first in line 1. Remove one of them"
)]
#[case::unknown("x:\n  y: 1\n  y: 2", "config.yaml:3:3: y: is set twice, first in line 2. Remove one of them")]
#[case::account(
    "account-routes:\n  A: {}\n  A: {}",
    "config.yaml:3:3: A: is set twice, first in line 2. Remove one of them"
)]
fn a_key_that_is_set_twice_is_an_error(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(file(text).errors(), [expected]);
}

#[test]
fn an_entry_of_a_list_that_is_no_text_is_an_error() {
    let expected =
        "config.yaml:1:33: namespace-selectors.include: an entry of the list must be a text, not a list or a map";
    assert_eq!(file("namespace-selectors: {include: [[a]]}").errors(), [expected]);
}

#[test]
fn d38_a_star_that_was_meant_as_a_wildcard_is_a_hint_of_the_check_alone() {
    let setup = file("namespace-selectors: {exclude: ['^kube-*']}");
    let expected = "configuration file: config.yaml\n\
                    hint: config.yaml:1:33: namespace-selectors.exclude: \"^kube-*\" also matches names without the \
                    hyphen, because * repeats it. For names that begin with kube- write ^kube- without the *\n\
                    1 hint\n";
    assert_eq!(setup.warnings(), Vec::<String>::new());
    assert_eq!(setup.check(), Check { text: expected.to_owned(), passed: true });
}

#[test]
fn a_check_without_a_file_says_where_files_are_looked_for() {
    let expected = "configuration file: none. The first of these that exists is read, also as .yml or .json:\n  \
                    ./.anchore-k8s-inventory.yaml\n  ./anchore-k8s-inventory.yaml\n  \
                    ./.anchore-k8s-inventory/config.yaml\n  /nonexistent/anchore-k8s-inventory/config.yaml\n\
                    no problems found\n";
    assert_eq!(nothing().check(), Check { text: expected.to_owned(), passed: true });
}

#[test]
fn control_characters_and_long_texts_are_shown_harmlessly() {
    let long = "x".repeat(100_000);
    let setup = file(format!("mode: \"\\e[31m{long}\"\n\"bad\\nkey\": 1\n"));
    let cut = "x".repeat(75);
    let problems = setup.load().unwrap_err().problems;
    let expected = [
        format!(
            "config.yaml:1:7: mode: \"\\u{{1b}}[31m{cut}…\" is not one of the words for this key. Write one of adhoc, periodic"
        ),
        "config.yaml:2:1: \"bad\\nkey\": is not a known key. Remove it".to_owned(),
    ];
    assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
}

#[rstest]
#[case("anchore: {url: 'S3CRET', user: u, password: p}")]
#[case("anchore: {url: 'https://u:S3CRET@a', user: u, password: p}")]
#[case("anchore: {password: [S3CRET]}")]
#[case("anchore: {password: {S3CRET: S3CRET}}")]
#[case("anchore: {password: !S3CRET}")]
#[case("anchore: {passwd: S3CRET}")]
#[case("anchore: {password:S3CRET}")]
#[case("account-routes: {a: {password:S3CRET}}")]
#[case("anchore.http.proxy: 'ftp://u:S3CRET@p'")]
#[case("kubeconfig: {user: {token: S3CRET}}")]
#[case("kubeconfig: {user: {type: token, token: t}, cluster-cert: S3CRET, server: 'u:S3CRET@h'}")]
#[case("mode: $VARIABLE")]
#[case("polling-interval-seconds: $VARIABLE")]
#[case("namespace-selectors: {exclude: $VARIABLE}")]
#[case("anchore: {password: \"S3CRET\nmode: x}")]
fn no_message_quotes_what_may_be_a_secret(#[case] text: &str) {
    let setup = file(text).variable("VARIABLE", "(S3CRET");
    let messages = match setup.load() {
        Ok(loaded) => format!("{:?}", loaded.warnings),
        Err(error) => format!("{error}{error:?}"),
    };
    assert!(!messages.contains("S3CRET"), "{messages}");
}

#[test]
fn very_many_problems_are_cut_short() {
    let text: String = (0..40_000).fold(String::new(), |text, n| text + &format!("unknown-key-{n}: 1\n"));
    let error = file(text).flags(|flags| flags.strict = true).load().unwrap_err();
    let message = error.to_string();
    assert_eq!((error.problems.len(), message.lines().count()), (40_000, 102));
    assert!(message.ends_with("\n  and 39900 more"), "{message}");
}

#[test]
fn a_warning_fails_the_check() {
    let check = file("dev: {profile-cpu: true}").check();
    assert!(!check.passed, "{}", check.text);
}

proptest! {
    #[test]
    fn any_bytes_load_or_fail_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let setup = file(bytes);
        prop_assert_eq!(setup.load().is_ok(), setup.errors().is_empty());
    }

    /// Pieces of YAML and of the settings, put together at random, reach far more states than random bytes.
    #[test]
    fn any_text_made_of_yaml_loads_or_fails_without_a_panic(
        pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..60),
    ) {
        let setup = file(pieces.concat());
        prop_assert_eq!(setup.load().is_ok(), setup.errors().is_empty());
        prop_assert!(setup.check().text.ends_with('\n'));
    }

    #[test]
    fn any_pattern_compiles_or_is_refused_in_one_line(pattern in r"[\\\[\]{}()a&~<>^$*+?|.,:b0-9-]{0,30}") {
        if let Err(error) = pattern::Pattern::namespace(&pattern) {
            prop_assert!(!error.to_string().contains('\n'));
        }
    }
}

const PIECES: &[&str] = &[
    "anchore",
    "account-routes",
    "namespace-selectors",
    "include",
    "labels",
    "quiet",
    "mode",
    "adhoc",
    "kubeconfig",
    "metadata-collection",
    "user",
    ".",
    ": ",
    ":",
    "\n",
    "\n  ",
    "\n    ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "&a ",
    "*a",
    "<<: *a",
    "\"",
    "'",
    "null",
    "true",
    "7",
    "1e9",
    "|\n",
    ">\n",
    "# x\n",
    "!!str ",
    "!x ",
    "? ",
    "---\n",
    "%",
    "\t",
    "$HOME",
    "$$A",
    "é",
    "\u{0}",
    "\u{feff}",
];
