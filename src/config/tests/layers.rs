//! Flags win over variables, variables over the file, the file over defaults; and where the file is found.

use pretty_assertions::assert_eq;
use rstest::rstest;

use super::*;

#[test]
fn a_flag_wins_over_a_variable_and_that_over_the_file() {
    let from_file = file("polling-interval-seconds: 10");
    assert_eq!(from_file.shown_line("polling-interval-seconds"), "polling-interval-seconds: 10 # config.yaml:1:27");
    let from_variable = from_file.variable("ANCHORE_K8S_INVENTORY_POLLING_INTERVAL_SECONDS", "20");
    let expected = "polling-interval-seconds: 20 # ANCHORE_K8S_INVENTORY_POLLING_INTERVAL_SECONDS";
    assert_eq!(from_variable.shown_line("polling-interval-seconds"), expected);
    let from_flag = from_variable.flags(|flags| flags.polling_interval_seconds = Some("30".to_owned()));
    let expected = "polling-interval-seconds: 30 # --polling-interval-seconds";
    assert_eq!(from_flag.shown_line("polling-interval-seconds"), expected);
    assert_eq!(from_flag.config().polling_interval, Duration::from_secs(30));
}

/// D13: without a file, url, user and password come from the environment like everything else.
#[test]
fn everything_needed_can_come_from_the_environment_alone() {
    let config = nothing()
        .variable("ANCHORE_K8S_INVENTORY_ANCHORE_URL", "https://anchore.example.com/base/")
        .variable("ANCHORE_K8S_INVENTORY_ANCHORE_USER", "agent")
        .variable("ANCHORE_K8S_INVENTORY_ANCHORE_PASSWORD", "secret")
        .variable("ANCHORE_K8S_INVENTORY_METADATA_COLLECTION_PODS_LABELS", "app, ^team")
        .config();
    let anchore = config.anchore.unwrap();
    let credentials = anchore.credentials.unwrap();
    assert_eq!(anchore.url.as_str(), "https://anchore.example.com/base/");
    assert_eq!((inline(&credentials.user), inline(&credentials.password)), ("agent".to_owned(), "secret".to_owned()));
    assert_eq!(patterns(&config.metadata.pods.labels), ["app", "^team"]);
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let setup = file("mode: periodic").variable("ANCHORE_K8S_INVENTORY_MODE", "");
    assert_eq!(setup.config().mode, Mode::Periodic);
}

#[test]
fn variables_that_kubernetes_injects_for_a_service_are_ignored() {
    let setup = nothing()
        .variable("ANCHORE_K8S_INVENTORY_PORT", "tcp://10.0.0.1:80")
        .variable("ANCHORE_K8S_INVENTORY_SERVICE_HOST", "10.0.0.1");
    assert_eq!(setup.warnings(), Vec::<String>::new());
}

#[test]
fn a_variable_that_is_not_utf8_is_an_error_for_its_key() {
    let mut setup = nothing();
    setup.environment.unreadable.insert("ANCHORE_K8S_INVENTORY_ANCHORE_USER".to_owned());
    assert_eq!(setup.errors(), ["ANCHORE_K8S_INVENTORY_ANCHORE_USER: anchore.user: is not UTF-8"]);
}

#[test]
fn fields_of_an_account_that_the_file_names_can_come_from_the_environment() {
    let config = file("anchore: {url: 'https://a', user: u, password: p}\naccount-routes: {Team-A.x: {user: a}}")
        .variable("ANCHORE_K8S_INVENTORY_ACCOUNT_ROUTES_TEAM_A_X_PASSWORD", "secret")
        .variable("ANCHORE_K8S_INVENTORY_ACCOUNT_ROUTES_TEAM_A_X_NAMESPACES", "one,^two")
        .variable("ANCHORE_K8S_INVENTORY_ACCOUNT_ROUTES_OTHER_PASSWORD", "ignored")
        .config();
    let [route] = config.routing.routes.as_slice() else { panic!("one route expected") };
    let credentials = route.credentials.as_ref().unwrap();
    assert_eq!(route.account, "Team-A.x");
    assert_eq!(inline(&credentials.password), "secret");
    assert_eq!(patterns(&route.namespaces), ["one", "^two"]);
}

#[test]
fn accounts_that_share_their_variables_are_an_error() {
    let expected = "config.yaml:3:3: account-routes.team.a: has the same environment variables as account Team-A. \
                    Account names must differ in more than case and the characters . - _";
    assert_eq!(file("account-routes:\n  Team-A:\n  team.a:\n").errors(), [expected]);
}

/// D41: a `config.yaml` in the working directory may belong to anything.
#[rstest]
#[case(".anchore-k8s-inventory.yaml", true)]
#[case(".anchore-k8s-inventory.yml", true)]
#[case("anchore-k8s-inventory.yaml", true)]
#[case("anchore-k8s-inventory.json", true)]
#[case(".anchore-k8s-inventory/config.yaml", true)]
#[case("xdg/anchore-k8s-inventory/config.yaml", true)]
#[case("dirs/anchore-k8s-inventory/config.yml", true)]
#[case("config.yaml", false)]
#[case("anchore-k8s-inventory/config.yaml", false)]
fn the_file_is_found_at_the_usual_places(#[case] name: &str, #[case] found: bool) {
    let setup = nothing().with_file(name, "{\"mode\": \"periodic\"}");
    let at = |folder: &str| setup.directory.path().join(folder).display().to_string();
    let (xdg, dirs) = (at("xdg"), format!("relative:/nonexistent:{}", at("dirs")));
    let setup = setup.variable("XDG_CONFIG_HOME", &xdg).variable("XDG_CONFIG_DIRS", &dirs);
    let loaded = setup.loaded();
    assert_eq!(loaded.config.mode == Mode::Periodic, found);
    assert_eq!(loaded.file, found.then(|| setup.directory.path().join(name)));
}

#[test]
fn the_first_file_in_order_is_read_and_no_other() {
    let setup = nothing()
        .home_here()
        .with_file(".config/anchore-k8s-inventory/config.yaml", "mode: [broken")
        .with_file("anchore-k8s-inventory.yaml", "health-report-interval-seconds: 40")
        .with_file(".anchore-k8s-inventory.json", r#"{"health-report-interval-seconds": 30}"#);
    assert_eq!(setup.config().periodic.health_report_interval, Duration::from_secs(30));
}

#[test]
fn the_home_is_searched_too() {
    let mut setup = nothing().with_file("home/.anchore-k8s-inventory.yaml", "mode: periodic");
    setup.environment.home = Some(setup.directory.path().join("home"));
    assert_eq!(setup.config().mode, Mode::Periodic);
}

#[test]
fn flags_for_namespaces_replace_what_is_included_but_not_what_is_excluded() {
    let setup = file("namespaces: [old]\nnamespace-selectors: {include: [a, b], exclude: [c]}")
        .flags(|flags| flags.namespaces = vec!["d,e".to_owned(), "d".to_owned()]);
    let selectors = setup.config().selectors;
    assert_eq!(selectors.include, ["d", "e"]);
    assert_eq!(patterns(&selectors.exclude), ["c"]);
    assert_eq!(setup.shown_line("include"), "include: [d, e] # --namespaces");
}

#[test]
fn the_word_all_means_all_namespaces_as_a_flag_too() {
    let setup = file("namespace-selectors: {include: [a]}").flags(|flags| flags.namespaces = vec!["all".to_owned()]);
    assert_eq!(setup.config().selectors.include, Vec::<String>::new());
    assert_eq!(setup.shown_line("include"), "include: [] # --namespaces");
}

#[test]
fn empty_flags_count_as_not_given() {
    let setup = file("namespace-selectors: {include: [a]}\nmode: periodic").flags(|flags| {
        flags.namespaces = vec![String::new()];
        flags.mode = Some(String::new());
    });
    let config = setup.config();
    assert_eq!((config.selectors.include, config.mode), (vec!["a".to_owned()], Mode::Periodic));
}

/// D47: `-v` together with `log.level`.
#[rstest]
#[case("error", 0, tracing::Level::ERROR)]
#[case("info", 1, tracing::Level::DEBUG)]
#[case("info", 2, tracing::Level::TRACE)]
#[case("info", 9, tracing::Level::TRACE)]
#[case("trace", 1, tracing::Level::TRACE)]
fn verbosity_makes_the_log_no_less_detailed(
    #[case] level: &str,
    #[case] verbosity: u8,
    #[case] expected: tracing::Level,
) {
    let log = file(format!("log: {{level: {level}}}")).flags(|flags| flags.verbosity = verbosity).config().log;
    assert_eq!((log.level, log.verbose), (expected, verbosity > 0));
}

#[test]
fn a_boolean_flag_can_switch_off_what_the_file_switches_on() {
    let setup = file("quiet: true\nverbose-inventory-reports: true").flags(|flags| {
        flags.quiet = Some(false);
        flags.verbose_inventory_reports = Some(false);
    });
    let config = setup.config();
    assert_eq!((config.log.quiet, config.verbose_inventory_reports), (false, false));
}

#[test]
fn the_settings_shown_can_be_read_back_as_the_same_settings() {
    let setup = file(
        "log: {file: 'my log', level: Warning}\n\
         namespace-selectors: {exclude: ['^kube-', '$LITERAL', 'a,b#\"x']}\n\
         missing-tag-policy: {policy: insert, tag: '123'}\n\
         anchore: {account: $$ACCOUNT}\n\
         account-routes: {Team.A: {namespaces: a}, 'no': {}}\n",
    );
    let without_origins = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.rsplit_once(" # ").map_or(line, |(line, _)| line).to_owned()).collect()
    };
    let shown = setup.shown();
    assert_eq!(without_origins(&file(&shown).shown()), without_origins(&shown));
}

#[test]
fn secrets_are_never_shown() {
    let setup = file(
        "anchore: {url: 'https://a', user: agent, password: S3CRET}\n\
         account-routes: {a: {user: u, password: S3CRET}}\n\
         anchore.http.proxy: http://user:S3CRET@proxy:3128\n\
         kubeconfig: {path: x, user: {token: S3CRET, private-key: S3CRET}}\n",
    )
    .variable("ANCHORE_K8S_INVENTORY_KUBECONFIG_USER_TOKEN", "S3CRET");
    let loaded = setup.loaded();
    let environment = setup.environment.clone();
    let texts = [setup.shown(), setup.check().text, format!("{loaded:?}{environment:?}"), setup.warnings().concat()];
    assert_eq!(texts.map(|text| text.contains("S3CRET")), [false; 4]);
    assert_eq!(setup.shown_line("password"), "password: \"<redacted>\" # config.yaml:1:52");
}
