//! Spellings that files in use have.

use pretty_assertions::assert_eq;
use rstest::rstest;

use super::*;

#[rstest]
#[case::keys_in_any_case("Anchore: {HTTP: {Timeout-Seconds: 7}}")]
#[case::dotted_key("anchore.http.timeout-seconds: 7")]
#[case::half_dotted_key("anchore: {http.timeout-seconds: 7}")]
#[case::dotted_beside_nested("anchore.http.timeout-seconds: 7\nanchore: {http: {insecure: false}}")]
#[case::quoted_number("anchore: {http: {timeout-seconds: '7'}}")]
#[case::float("anchore: {http: {timeout-seconds: 7.0}}")]
#[case::exponent("anchore: {http: {timeout-seconds: 7e+00}}")]
#[case::anchor("x: &t 7\nanchore: {http: {timeout-seconds: *t}}")]
#[case::merge("x: &h {timeout-seconds: 7, retry-seconds: 1}\nanchore: {http: {<<: *h, Retry-Seconds: 2}}")]
#[case::merge_list("x: [&a {timeout-seconds: 7}, &b {timeout-seconds: 8}]\nanchore: {http: {<<: [*a, *b]}}")]
#[case::json("{\"anchore\":{\"http\":{\"timeout-seconds\":7}}}")]
#[case::json_with_tabs("{\n\t\"anchore\": {\n\t\t\"http\": {\n\t\t\t\"timeout-seconds\": 7\n\t\t}\n\t}\n}\n")]
#[case::windows_line_ends("anchore:\r\n  http:\r\n    timeout-seconds: 7\r\n")]
#[case::byte_order_mark("\u{feff}anchore: {http: {timeout-seconds: 7}}")]
#[case::variable("anchore: {http: {timeout-seconds: $SEVEN}}")]
#[case::variable_in_braces("anchore: {http: {timeout-seconds: '${SEVEN}'}}")]
#[case::tag("anchore: {http: {timeout-seconds: !!int 7}}")]
fn a_key_can_be_written_in_many_ways(#[case] text: &str) {
    assert_eq!(
        file(text).variable("SEVEN", "7").shown_line("timeout-seconds").split(" #").next(),
        Some("timeout-seconds: 7")
    );
    assert_eq!(file(text).variable("SEVEN", "7").errors(), Vec::<String>::new());
}

#[rstest]
#[case("true", true)]
#[case("\"false\"", false)]
#[case("1", true)]
#[case("0", false)]
#[case("TRUE", true)]
#[case("off", false)]
#[case("null", false)]
#[case("~", false)]
#[case("", false)]
#[case("''", false)]
fn a_boolean_can_be_written_in_many_ways(#[case] text: &str, #[case] expected: bool) {
    assert_eq!(file(format!("quiet: {text}")).config().log.quiet, expected);
}

#[rstest]
#[case("[a, b]", &["a", "b"])]
#[case("a, b,,", &["a", "b"])]
#[case("a", &["a"])]
#[case("[a, null, '']", &["a"])]
#[case("[]", &[])]
#[case("null", &[])]
#[case("''", &[])]
#[case("[$NAMES]", &["x"])]
#[case("[$ANCHORE_K8S_INVENTORY_UNSET, a]", &["a"])]
#[case("[a, b, a]", &["a", "b"])]
fn a_list_can_be_written_in_many_ways(#[case] text: &str, #[case] expected: &[&str]) {
    let setup = file(format!("namespace-selectors:\n  include: {text}")).variable("NAMES", "x");
    assert_eq!(setup.config().selectors.include, expected);
}

#[rstest]
#[case("0123", "0123")]
#[case("1e5", "1e5")]
#[case("true", "true")]
#[case("1.50", "1.50")]
#[case("'null'", "null")]
#[case("!!str null", "null")]
#[case("$$NAME", "$NAME")]
#[case("$${NAME}", "${NAME}")]
#[case("$NAME", "from the environment")]
#[case("$name", "$name")]
#[case("$NAME-x", "$NAME-x")]
#[case("$9", "$9")]
#[case("|-\n    two\n    lines", "two\nlines")]
fn a_text_is_what_the_file_says(#[case] text: &str, #[case] expected: &str) {
    let setup = file(format!("anchore:\n  url: https://a\n  user: u\n  password: {text}\n"));
    let anchore = setup.variable("NAME", "from the environment").config().anchore.unwrap();
    assert_eq!(inline(&anchore.credentials.unwrap().password), expected);
}

/// D13: the peer then sends the variable's name as the password.
#[test]
fn a_variable_of_our_own_that_is_not_set_leaves_the_key_unset() {
    let setup = file("anchore: {url: 'https://a', user: u, password: $ANCHORE_K8S_INVENTORY_ANCHORE_PASSWORD}");
    let expected = "config.yaml:1:48 ($ANCHORE_K8S_INVENTORY_ANCHORE_PASSWORD): anchore.password: is missing, while \
                    anchore.url is set, because the variable it is taken from is not set. \
                    Set all of anchore.url, anchore.user and anchore.password, or none";
    assert_eq!(setup.errors(), [expected]);
}

#[test]
fn another_variable_that_is_not_set_is_taken_literally_with_a_warning_that_does_not_show_it() {
    let setup = file("anchore: {url: 'https://a', user: u, password: $SECRET}");
    let expected = "config.yaml:1:48: anchore.password: looks like an environment variable that is not set, and is \
                    taken literally. Set the variable, or write $$ for a literal $";
    assert_eq!(setup.warnings(), [expected]);
    assert_eq!(inline(&setup.config().anchore.unwrap().credentials.unwrap().password), "$SECRET");
}

#[test]
fn a_value_from_a_variable_shows_which() {
    let setup = file("anchore: {account: $WHO}").variable("WHO", "team");
    assert_eq!(setup.shown_line("account"), "account: team # config.yaml:1:20 ($WHO)");
}

/// D9: the peer lowers the case of accounts.
#[rstest]
#[case("account-routes: {TeamA: {namespaces: [a]}}", "TeamA")]
#[case("Account-Routes: {TeamA: {Namespaces: [a]}}", "TeamA")]
#[case("account-routes.TeamA.namespaces: a", "TeamA")]
#[case("account-routes: {Team.A: {namespaces: a}}", "Team.A")]
#[case("account-routes: {Team.A.namespaces: a}", "Team.A")]
fn names_of_accounts_keep_their_case_and_dots(#[case] text: &str, #[case] account: &str) {
    let routes = file(text).config().routing.routes;
    let routes: Vec<_> = routes.iter().map(|route| (route.account.as_str(), patterns(&route.namespaces))).collect();
    assert_eq!(routes, [(account, vec!["a"])]);
}

/// D10, D11: documented names, and those that the peer's program reads instead.
#[rstest]
#[case("metadata-collection: {pods: {labels: [a]}}")]
#[case("metadata-collection: {pods: {include-labels: [a]}}")]
#[case("metadata-collection: {pods: {labels: [], include-labels: [a]}}")]
#[case("metadata-collection: {pods: {labels: [a], include-labels: [a]}}")]
fn synonyms_of_the_metadata_lists_are_understood(#[case] text: &str) {
    let setup = file(text);
    assert_eq!(patterns(&setup.config().metadata.pods.labels), ["a"]);
    assert_eq!(setup.warnings(), Vec::<String>::new());
}

#[test]
fn two_names_of_one_key_with_different_values_are_a_warning() {
    let setup = file("metadata-collection: {pods: {labels: [a], include-labels: [b]}}");
    let expected = "config.yaml:1:59: metadata-collection.pods.labels: both metadata-collection.pods.labels and \
                    metadata-collection.pods.include-labels are set, which mean the same; \
                    metadata-collection.pods.include-labels is used. Remove one of them";
    assert_eq!(setup.warnings(), [expected]);
}

#[test]
fn a_variable_wins_over_a_synonym_in_the_file() {
    let setup = file("metadata-collection: {pods: {include-labels: [a]}}")
        .variable("ANCHORE_K8S_INVENTORY_METADATA_COLLECTION_PODS_LABELS", "b");
    assert_eq!(patterns(&setup.config().metadata.pods.labels), ["b"]);
    assert_eq!(setup.warnings(), Vec::<String>::new());
}

#[test]
fn an_entry_with_blanks_in_a_metadata_list_is_several() {
    let setup = file("metadata-collection: {nodes: {annotations: [a b]}}");
    assert_eq!(patterns(&setup.config().metadata.nodes.annotations), ["a", "b"]);
    let expected = "config.yaml:1:44: metadata-collection.nodes.annotations: holds an entry with blanks, which is \
                    read as several entries. Write each entry on its own line, or with commas between them";
    assert_eq!(setup.warnings(), [expected]);
}
