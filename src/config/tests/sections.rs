//! The rules of single sections, beyond the kinds of their keys.

use pretty_assertions::assert_eq;
use rstest::rstest;

use super::*;
use crate::config::anchore::ProxySetting;
use crate::config::images::MissingTagPolicy;
use crate::config::kubernetes::{ClusterAccess, ExplicitUser};
use crate::config::secret::TextSource;

/// "-----BEGIN CERTIFICATE-----" in base64.
const PEM: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t";

const CREDENTIALS: &str = "user: u, password: p";

#[test]
fn without_url_user_and_password_nothing_is_sent() {
    assert!(file("anchore: {account: x, http: {insecure: true}}").config().anchore.is_none());
}

#[rstest]
#[case("url: 'https://a'", "anchore.user")]
#[case("url: 'https://a', user: u", "anchore.password")]
#[case("user: u, password: p", "anchore.url")]
#[case("url: 'https://a', password-file: p", "anchore.user")]
fn some_but_not_all_of_url_user_and_password_are_an_error(#[case] given: &str, #[case] missing: &str) {
    let errors = file(format!("anchore: {{{given}}}")).errors();
    assert!(errors.iter().any(|error| error.contains(&format!("{missing}: is missing, while"))), "{errors:?}");
}

#[test]
fn global_credentials_may_be_missing_when_every_route_has_its_own() {
    let text = "anchore: {url: 'https://a', account: A}\naccount-routes: {A: {user: u, password: p}, B: {user: u, password: p}}";
    let loaded = file(text).loaded();
    assert!(loaded.config.anchore.unwrap().credentials.is_none());
    assert_eq!(loaded.warnings, []);
}

#[test]
fn a_default_account_without_any_credentials_is_a_hint() {
    let setup = file("anchore: {url: 'https://a'}\naccount-routes: {A: {user: u, password: p}}");
    let expected = "configuration file: config.yaml\n\
                    hint: config.yaml:1:16: anchore.url: anchore.user and anchore.password are not both set, so \
                    accounts without a route cannot be sent to. What nothing routes goes to the account admin\n\
                    1 hint\n";
    assert_eq!(setup.check().text, expected);
}

#[test]
fn global_credentials_are_needed_when_a_route_has_none() {
    let setup = file("anchore: {url: 'https://a'}\naccount-routes: {A: {user: u, password: p}, B: {namespaces: b}}");
    assert_eq!(setup.errors().len(), 2);
}

/// D6: a route without credentials uses the global ones; half of them are a mistake.
#[test]
fn a_route_with_only_a_user_is_an_error() {
    let setup =
        file(format!("anchore: {{url: 'https://a', {CREDENTIALS}}}\naccount-routes: {{A: {{user: u}}, B: {{}}}}"));
    let expected = "config.yaml:2:18: account-routes.A.password: is missing, while the account has a user of its own. \
                    Set both, or none to use the global ones";
    assert_eq!(setup.errors(), [expected]);
}

#[test]
fn a_secret_and_its_file_together_are_an_error() {
    let setup = file("anchore: {url: 'https://a', user: u, password: p, password-file: f}");
    let expected = "config.yaml:1:66: anchore.password-file: cannot be set together with anchore.password. \
                    Remove one of the two";
    assert_eq!(setup.errors(), [expected]);
}

#[test]
fn secrets_from_files_are_found_from_the_working_directory_and_the_home() {
    let mut setup = file("anchore: {url: 'https://a', user-file: u, password-file: ~/p}");
    setup.environment.home = Some("/home/x".into());
    let credentials = setup.config().anchore.unwrap().credentials.unwrap();
    let TextSource::File(user) = credentials.user else { panic!("a file is expected") };
    let TextSource::File(password) = credentials.password else { panic!("a file is expected") };
    assert_eq!((user, password), (setup.directory.path().join("u"), "/home/x/p".into()));
}

#[rstest]
#[case("anchore.example.com:8228", "is not an address that begins with http:// or https://")]
#[case("<your anchore api url>", "is not an address that begins with http:// or https://")]
#[case("https://u:p@a", "must not hold a user or password")]
#[case("https://a/?x=1", "must not hold a query or fragment")]
fn an_address_that_cannot_be_used_is_an_error(#[case] url: &str, #[case] what: &str) {
    let errors = file(format!("anchore: {{url: '{url}', {CREDENTIALS}}}")).errors();
    assert!(matches!(errors.as_slice(), [error] if error.contains(what)), "{errors:?}");
}

#[test]
fn an_account_that_no_header_can_carry_is_an_error() {
    assert_eq!(file("anchore: {account: Jürgen}\naccount-routes: {\"a\\nb\": {}}").errors().len(), 2);
}

#[test]
fn a_timeout_of_0_is_no_bound() {
    let setup = file(format!("anchore: {{url: 'https://a', {CREDENTIALS}, http: {{timeout-seconds: 0}}}}"));
    assert_eq!(setup.config().anchore.unwrap().http.timeout, None);
}

#[test]
fn a_client_certificate_without_its_key_is_an_error() {
    let expected = "config.yaml:1:40: anchore.http.client-key-file: is missing, while anchore.http.client-cert-file \
                    is set. Set both or none";
    assert_eq!(file("anchore: {http: {   client-cert-file:  c}}").errors(), [expected]);
}

#[rstest]
#[case("direct", "Direct")]
#[case("Direct", "Direct")]
#[case("http://proxy:3128", "Url(\"http://proxy:3128/\")")]
#[case("proxy:3128", "Url(\"http://proxy:3128/\")")]
#[case("http://user:pass@proxy:3128", "Url(\"http://REDACTED@proxy:3128/\")")]
#[case("''", "Environment")]
fn a_proxy_is_an_address_or_none(#[case] text: &str, #[case] expected: &str) {
    let setup = file(format!("anchore: {{url: 'https://a', {CREDENTIALS}, http: {{proxy: {text}}}}}"));
    let proxy: ProxySetting = setup.config().anchore.unwrap().http.proxy;
    assert_eq!(format!("{proxy:?}"), expected);
}

#[rstest]
#[case("", "admin")]
#[case("anchore: {account: ''}", "admin")]
#[case("anchore: {account: a}", "a")]
#[case("anchore: {account: a}\naccount-route-by-namespace-label: {default-account: d}", "a")]
#[case("anchore: {account: a}\naccount-route-by-namespace-label: {default-account: d, key: k}", "d")]
#[case("anchore: {account: a}\naccount-route-by-namespace-label: {default-account: d}\naccount-routes: {x: }", "d")]
#[case("anchore: {account: a}\naccount-routes: {x: }", "a")]
fn the_default_account_is_the_routing_one_where_there_is_routing(#[case] text: &str, #[case] expected: &str) {
    assert_eq!(file(text).config().routing.default_account, expected);
}

/// D11: the documented name, and the one that the peer's program reads.
#[rstest]
#[case("ignore-namespace-missing-label")]
#[case("ignore-missing-label")]
fn label_routing_is_read(#[case] name: &str) {
    let text = format!("account-route-by-namespace-label: {{key: k, {name}: true, allowed-accounts: [A, b]}}");
    let by_label = file(text).config().routing.by_label.unwrap();
    assert_eq!((by_label.key.as_str(), by_label.ignore_missing), ("k", true));
    assert_eq!(by_label.allowed_accounts, ["A", "b"]);
}

#[rstest]
#[case("namespaces: [a, b]", &["a", "b"])]
#[case("namespaces: [all]", &[])]
#[case("namespaces: [a, All]", &[])]
#[case("namespaces: [a]\nnamespace-selectors: {include: []}", &["a"])]
#[case("namespaces: [a]\nnamespace-selectors: {include: [b]}", &["b"])]
#[case("namespace-selectors: {include: [all]}", &["all"])]
fn the_old_namespaces_are_used_when_nothing_is_included(#[case] text: &str, #[case] expected: &[&str]) {
    assert_eq!(file(text).config().selectors.include, expected);
}

#[test]
fn an_included_name_that_no_namespace_can_have_is_a_warning() {
    let setup = file("namespace-selectors: {include: ['^kube-', ok]}");
    let expected = "config.yaml:1:33: namespace-selectors.include: \"^kube-\" cannot be the name of a namespace. \
                    Only exact names can be included, not expressions";
    assert_eq!(setup.warnings(), [expected]);
}

#[rstest]
#[case("kubernetes-request-timeout-seconds: 5", 5)]
#[case("kubernetes-request-timeout-seconds: 5\nkubernetes: {request-timeout-seconds: 7}", 5)]
#[case("kubernetes-request-timeout-seconds: 0\nkubernetes: {request-timeout-seconds: 7}", 7)]
#[case("kubernetes-request-timeout-seconds: -1\nkubernetes: {request-timeout-seconds: 7}", 7)]
#[case("kubernetes-request-timeout-seconds:\n", 60)]
fn the_old_request_timeout_wins_when_it_is_above_0(#[case] text: &str, #[case] seconds: u64) {
    let setup = file(text);
    assert_eq!(setup.config().kubernetes.request_timeout, Duration::from_secs(seconds));
    assert!(setup.shown_line("request-timeout-seconds").starts_with(&format!("request-timeout-seconds: {seconds} ")));
}

#[test]
fn the_variable_that_both_request_timeouts_share_wins_over_the_file() {
    let setup = file("kubernetes-request-timeout-seconds: 5")
        .variable("ANCHORE_K8S_INVENTORY_KUBERNETES_REQUEST_TIMEOUT_SECONDS", "9");
    assert_eq!(setup.config().kubernetes.request_timeout, Duration::from_secs(9));
}

#[rstest]
#[case("", MissingTagPolicy::Digest)]
#[case("{policy: Drop}", MissingTagPolicy::Drop)]
#[case("{policy: insert}", MissingTagPolicy::Insert("UNKNOWN".to_owned()))]
#[case("{policy: dummy, tag: 1.0}", MissingTagPolicy::Insert("1.0".to_owned()))]
#[case("{policy: digest, tag: 'no tag'}", MissingTagPolicy::Digest)]
fn the_missing_tag_policy_is_read(#[case] text: &str, #[case] expected: MissingTagPolicy) {
    assert_eq!(file(format!("missing-tag-policy: {text}")).config().images.missing_tag, expected);
}

#[test]
fn a_tag_that_no_image_can_have_is_an_error_where_it_is_used() {
    assert_eq!(file("missing-tag-policy: {policy: insert, tag: 'no tag'}").errors().len(), 1);
}

#[rstest]
#[case("registry.example.com:5000///", Some("registry.example.com:5000"))]
#[case("Registry/team/a_b", Some("Registry/team/a_b"))]
#[case("'[::1]:5000'", Some("[::1]:5000"))]
#[case("/", None)]
#[case("''", None)]
fn a_registry_is_read_without_trailing_slashes(#[case] text: &str, #[case] expected: Option<&str>) {
    let images = file(format!("missing-registry-override: {text}")).config().images;
    assert_eq!(images.missing_registry_override.as_deref(), expected);
}

#[rstest]
#[case("https://registry.example.com")]
#[case("registry.example.com/Upper")]
#[case("'a b'")]
#[case("'registry@x'")]
fn a_registry_that_cannot_begin_a_reference_is_an_error(#[case] text: &str) {
    assert_eq!(file(format!("missing-registry-override: {text}")).errors().len(), 1);
}

#[rstest]
#[case::token("type: token, token: t", true)]
#[case::key("type: Private_Key, client-cert: PEM, private-key: PEM", false)]
#[case::no_type("client-cert: PEM, private-key: PEM", false)]
fn explicit_access_is_read_when_it_is_complete(#[case] user: &str, #[case] token: bool) {
    let user = user.replace("PEM", PEM);
    let text = format!("kubeconfig: {{cluster: c, server: 'https://k:6443', cluster-cert: {PEM}, user: {{{user}}}}}");
    let ClusterAccess::Explicit(access) = file(text).config().kubeconfig.access else {
        panic!("explicit access expected")
    };
    assert_eq!(access.server, "https://k:6443");
    assert_eq!(access.cluster_certificate, b"-----BEGIN CERTIFICATE-----");
    assert_eq!(matches!(access.user, ExplicitUser::Token(_)), token);
}

/// D45: the peer silently reports whatever cluster `~/.kube/config` names.
#[rstest]
#[case(
    "server: 'https://k'",
    "kubeconfig.server: is part of explicit access, which lacks kubeconfig.cluster-cert, kubeconfig.user.client-cert, kubeconfig.user.private-key. Set what is missing, or remove the rest to use a kubeconfig file"
)]
#[case(
    "user: {type: token, token: t}",
    "kubeconfig.user.token: is part of explicit access, which lacks kubeconfig.server, kubeconfig.cluster-cert. Set what is missing, or remove the rest to use a kubeconfig file"
)]
#[case(
    "server: 'https://k', cluster-cert: x, user: {token: t}",
    "kubeconfig.server: is part of explicit access, which lacks kubeconfig.user.client-cert, kubeconfig.user.private-key. Set kubeconfig.user.type to token if the token is to be used"
)]
fn incomplete_explicit_access_is_an_error_that_lists_what_is_missing(#[case] text: &str, #[case] expected: &str) {
    let errors = file(format!("kubeconfig: {{cluster: c, {text}}}")).errors();
    assert!(matches!(errors.as_slice(), [error] if error.ends_with(expected)), "{errors:?}");
}

#[rstest]
#[case("cluster: c")]
#[case("cluster: c, user: {type: token}")]
#[case("cluster: docker-desktop, path: , server: , user: {type: , token: }")]
fn a_cluster_name_and_a_type_alone_are_no_explicit_access(#[case] text: &str) {
    assert!(matches!(file(format!("kubeconfig: {{{text}}}")).config().kubeconfig.access, ClusterAccess::Default));
}

#[test]
fn a_path_wins_over_explicit_access_with_a_warning() {
    let setup = file("kubeconfig: {path: k, server: 'https://k'}");
    let ClusterAccess::File(path) = setup.config().kubeconfig.access else { panic!("a file is expected") };
    assert_eq!(path, setup.directory.path().join("k"));
    let expected =
        "config.yaml:1:31: kubeconfig.server: is not used, because kubeconfig.path is set. Remove one of the two";
    assert_eq!(setup.warnings(), [expected]);
}

/// D46: a forgotten name makes clusters overwrite each other.
#[test]
fn in_a_pod_the_name_of_the_cluster_must_be_set() {
    let setup = nothing().flags(|flags| flags.kubeconfig = Some("use-in-cluster".to_owned()));
    let expected = "kubeconfig.cluster: is missing; it is the cluster's name in reports. Set it to a name that no other cluster has";
    assert_eq!(setup.errors(), [expected]);
    let setup = setup.variable("ANCHORE_K8S_INVENTORY_KUBECONFIG_CLUSTER", "prod");
    assert!(matches!(setup.config().kubeconfig.access, ClusterAccess::InCluster));
}

#[test]
fn a_context_without_a_kubeconfig_is_an_error() {
    let setup = file("kubeconfig: {cluster: prod, path: use-in-cluster}");
    let setup = setup.flags(|flags| flags.context = Some("staging".to_owned()));
    let expected = "--context: kubeconfig.context: names a context of a kubeconfig, but none is read. \
                    Remove it, or set kubeconfig.path to that kubeconfig";
    assert_eq!(setup.errors(), [expected]);
}

#[test]
fn what_is_not_pem_is_an_error_that_does_not_show_it() {
    let text =
        "kubeconfig: {cluster: c, server: 'https://k', cluster-cert: '-----BEGIN', user: {type: token, token: t}}";
    let expected = "config.yaml:1:61: kubeconfig.cluster-cert: is not base64 of PEM. \
                    Encode the PEM file, including its BEGIN line, with base64";
    assert_eq!(file(text).errors(), [expected]);
}

#[rstest]
#[case("/state/x", "", "/state/x/anchore-k8s-inventory")]
#[case("relative", "/home/x", "/home/x/.local/state/anchore-k8s-inventory")]
#[case("", "", "/var/lib/anchore-k8s-inventory")]
fn unsent_reports_wait_in_the_state_directory(#[case] xdg: &str, #[case] home: &str, #[case] expected: &str) {
    let mut setup = nothing().variable("XDG_STATE_HOME", xdg);
    setup.environment.home = (!home.is_empty()).then(|| home.into());
    assert_eq!(setup.config().periodic.state_directory, Path::new(expected));
}

#[rstest]
#[case("admin: {listen: '8080'}")]
#[case("admin: {listen: 'localhost:8080'}")]
#[case("leader-election: {lease-name: 'Not A Name'}")]
#[case("health-report-interval-seconds: 601")]
#[case("polling-interval-seconds: 0")]
#[case("kubernetes: {request-timeout-seconds: 0}")]
#[case("kubernetes: {worker-pool-size: 0}")]
#[case("inventory-collection: {method: guess}")]
#[case("inventory-collection: {informer: {cache-sync-timeout-seconds: 0}}")]
fn d44_values_out_of_range_are_errors_in_every_mode(#[case] text: &str) {
    assert_eq!(file(text).errors().len(), 1);
}

#[test]
fn leader_election_is_off_unless_enabled() {
    let lease = |text: &str| file(text).config().periodic.lease_name;
    assert_eq!(lease("leader-election: {lease-name: x}"), None);
    assert_eq!(lease("leader-election: {enabled: true}").as_deref(), Some("anchore-k8s-inventory"));
}
