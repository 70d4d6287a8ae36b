//! The command line of the built program: what a person or a script at a shell sees. Each test runs in an empty folder
//! of its own, without any of the environment's settings.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::pipe;

use assert_cmd::Command;
use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::Value;
use tempfile::TempDir;
use testbed::cluster::Cluster;
use testbed::kubernetes::KubernetesApi;
use testbed::kubernetes::access::User;
use testbed::server::fault::{Fault, Requests};

const PROGRAM: &str = env!("CARGO_BIN_EXE_anchore-k8s-inventory");

const KUBECONFIG: &str = r#"{
  "apiVersion": "v1", "kind": "Config", "current-context": "production",
  "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
  "users": [{"name": "u", "user": {}}],
  "contexts": [
    {"name": "production", "context": {"cluster": "c", "user": "u"}},
    {"name": "staging", "context": {"cluster": "c", "user": "u"}},
    {"name": "staging-eu", "context": {"cluster": "c", "user": "u"}}
  ]
}"#;

/// An empty folder, and the program in it.
struct Place {
    folder: TempDir,
}

/// What a run of the program left behind.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn with(file: &str, content: &str) -> Self {
        let place = Self::new();
        std::fs::write(place.folder.path().join(file), content).unwrap();
        place
    }

    fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.env_clear().env("HOME", self.folder.path()).current_dir(self.folder.path());
        command
    }

    fn run(&self, line: &str) -> Outcome {
        outcome(self.command().args(line.split_whitespace()))
    }

    /// What bash is offered when the tab key is pressed at the end of `anchore-k8s-inventory LINE`.
    fn bash_offers(&self, line: &str) -> Vec<String> {
        let words: Vec<String> = line.split(' ').map(|word| format!("'{word}'")).collect();
        let press_tab = format!(
            "source <({PROGRAM} completion bash); COMP_WORDS=({PROGRAM} {words}); COMP_CWORD={last}; COMP_TYPE=9; \
             _clap_complete_anchore_k8s_inventory {PROGRAM} \"${{COMP_WORDS[COMP_CWORD]}}\" ''; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            last = words.len(),
            words = words.join(" "),
        );
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", &press_tab]).env_clear().env("HOME", self.folder.path());
        let Outcome { stdout, stderr, .. } = outcome(bash.current_dir(self.folder.path()));
        assert_eq!(stderr, "");
        stdout.lines().filter(|offer| !offer.is_empty()).map(str::to_owned).collect()
    }
}

fn outcome(command: &mut Command) -> Outcome {
    let output = command.output().unwrap();
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn shows(outcome: &Outcome, expected: &str) {
    let shown = outcome.stdout.lines().any(|line| line.trim() == expected);
    assert!(shown, "{expected} is missing in {outcome:#?}");
}

#[test]
fn version_is_json_with_these_keys_in_this_order() {
    let Outcome { code, stdout, stderr } = Place::new().run("version");

    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let keys = ["version", "gitCommit", "gitTreeState", "buildDate", "rustVersion", "platform", "application"];
    let at: Vec<Option<usize>> = keys.iter().map(|key| stdout.find(&format!("\"{key}\": \""))).collect();
    assert!(at.iter().all(Option::is_some) && at.is_sorted(), "{stdout}");
    let version: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(version.as_object().unwrap().len(), keys.len());
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["application"], "anchore-k8s-inventory");
    assert_eq!(version["rustVersion"].as_str().unwrap().split('.').count(), 3);
}

#[test]
fn version_reads_no_configuration() {
    let place = Place::with("anchore-k8s-inventory.yaml", "this: [is not: yaml");

    assert_eq!(place.run("version").code, Some(0));
    assert_eq!(place.run("config show").code, Some(2));
}

#[rstest]
#[case("-V")]
#[case("--version")]
fn the_version_flag_prints_one_line(#[case] flag: &str) {
    let expected = format!("anchore-k8s-inventory {}\n", env!("CARGO_PKG_VERSION"));

    assert_eq!(Place::new().run(flag), Outcome { code: Some(0), stdout: expected, stderr: String::new() });
}

#[test]
fn help_has_groups_examples_and_exit_codes() {
    let Outcome { code, stdout, stderr } = Place::new().run("--help");

    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for heading in ["Cluster:", "Run:", "Output:", "Configuration:", "Logging:", "Examples:", "Exit codes:"] {
        assert!(stdout.lines().any(|line| line == heading), "{heading} is missing in:\n{stdout}");
    }
}

#[rstest]
#[case("KUBECONFIG_PATH", "some/kubeconfig", "path: some/kubeconfig")]
#[case("KUBECONFIG_CONTEXT", "staging", "context: staging")]
#[case("NAMESPACE_SELECTORS_INCLUDE", "shop,payment", "include: [shop, payment]")]
#[case("MODE", "periodic", "mode: periodic")]
#[case("POLLING_INTERVAL_SECONDS", "60", "polling-interval-seconds: 60")]
#[case("VERBOSE_INVENTORY_REPORTS", "true", "verbose-inventory-reports: true")]
#[case("QUIET", "true", "quiet: true")]
#[case("LOG_LEVEL", "debug", "level: debug")]
fn help_names_the_environment_variable_that_sets_the_same(#[case] key: &str, #[case] value: &str, #[case] set: &str) {
    let place = Place::new();
    let variable = format!("ANCHORE_K8S_INVENTORY_{key}");

    let help = place.run("--help").stdout;
    let effective = outcome(place.command().args(["config", "show"]).env(&variable, value));

    assert!(help.contains(&format!("Environment: {variable}")), "{variable} is missing in:\n{help}");
    shows(&effective, &format!("{set} # {variable}"));
}

#[rstest]
#[case("surplus", "error: unrecognized subcommand 'surplus'")]
#[case("--no-such-flag", "error: unexpected argument '--no-such-flag' found")]
#[case("-o xml", "error: invalid value 'xml' for '--output <FORMAT>'")]
#[case("-o json version", "error: --output and --dry-run are for collecting and reporting")]
fn wrong_usage_ends_with_2_and_says_so_on_standard_error(#[case] line: &str, #[case] expected: &str) {
    let Outcome { code, stdout, stderr } = Place::new().run(line);

    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.starts_with(expected), "{stderr}");
}

#[test]
fn help_is_also_a_command() {
    let place = Place::new();

    assert_eq!(place.run("help"), place.run("--help"));
    assert!(place.run("help config check").stdout.contains("Usage: anchore-k8s-inventory config check"));
}

#[rstest]
#[case("config show --quiet=false", "quiet: false # --quiet")]
#[case("-q=true config show", "quiet: true # --quiet")]
#[case("config -q show", "quiet: true # --quiet")]
#[case("config show", "quiet: false # default")]
fn a_boolean_flag_may_be_given_either_value(#[case] line: &str, #[case] expected: &str) {
    shows(&Place::new().run(line), expected);
}

#[test]
fn config_check_prints_problems_on_standard_output_and_ends_with_2() {
    let place = Place::with("c.yaml", "anchore:\n  urll: https://anchore.example.com\n");

    let Outcome { code, stdout, stderr } = place.run("-c c.yaml config check");

    assert_eq!((code, stderr.as_str()), (Some(2), ""));
    assert!(stdout.contains("c.yaml:2:3: anchore.urll"), "{stdout}");
}

#[test]
fn config_check_of_good_settings_ends_with_0() {
    let place = Place::with("c.yaml", "log:\n  level: debug\n");

    assert_eq!(place.run("config check -c c.yaml").code, Some(0));
}

#[test]
fn a_wrong_configuration_ends_with_2_before_anything_is_contacted() {
    let place = Place::with("c.yaml", "mode: sometimes\n");

    let Outcome { code, stdout, stderr } = place.run("-c c.yaml");

    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.starts_with("error: the configuration cannot be used: c.yaml:1:7: mode"), "{stderr}");
}

#[test]
fn verbose_names_the_configuration_file_that_was_found() {
    let place = Place::with("anchore-k8s-inventory.yaml", "kubeconfig:\n  path: no-such-file\n");

    let Outcome { stderr, .. } = place.run("-v");

    let line = stderr.lines().find(|line| line.contains("configuration file read"));
    assert!(line.is_some_and(|line| line.ends_with("/anchore-k8s-inventory.yaml")), "{stderr}");
}

#[rstest]
#[case("-m periodic -o json")]
#[case("-m periodic --dry-run")]
fn looking_at_one_report_needs_adhoc_mode(#[case] line: &str) {
    let stderr = "error: --output and --dry-run look at one report: use them with --mode adhoc\n".to_owned();

    assert_eq!(Place::new().run(line), Outcome { code: Some(2), stdout: String::new(), stderr });
}

#[test]
fn a_log_file_that_cannot_be_opened_ends_with_2() {
    let place = Place::with("c.yaml", "log:\n  file: no-such-folder/agent.log\n");

    let Outcome { code, stderr, .. } = place.run("-c c.yaml");

    assert_eq!(code, Some(2));
    assert!(stderr.starts_with("error: the log file ") && stderr.contains("no-such-folder/agent.log"), "{stderr}");
}

#[rstest]
#[case("version")]
#[case("--help")]
#[case("completion bash")]
#[case("config show")]
fn a_reader_that_has_seen_enough_is_no_failure(#[case] line: &str) {
    let place = Place::new();
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut command = std::process::Command::new(PROGRAM);
    command.env_clear().current_dir(place.folder.path()).args(line.split_whitespace()).stdout(writer);

    let output = command.output().unwrap();

    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
}

#[rstest]
#[case("version")]
#[case("--help")]
fn a_full_disk_under_standard_output_ends_with_1(#[case] line: &str) {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = std::process::Command::new(PROGRAM);

    let output = command.env_clear().args(line.split_whitespace()).stdout(full).output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("error: standard output cannot be written"), "{stderr}");
}

#[rstest]
#[case("bash", "complete -o nospace -o bashdefault")]
#[case("zsh", "#compdef anchore-k8s-inventory")]
#[case("fish", "complete --keep-order --exclusive --command anchore-k8s-inventory")]
#[case("powershell", "Register-ArgumentCompleter -Native -CommandName anchore-k8s-inventory")]
fn a_completion_script_is_what_the_shell_gets_when_it_asks(#[case] shell: &str, #[case] expected: &str) {
    let place = Place::new();

    let script = place.run(&format!("completion {shell}"));

    assert_eq!((script.code, script.stderr.as_str()), (Some(0), ""));
    assert!(script.stdout.contains(expected), "{}", script.stdout);
    assert_eq!(script, outcome(place.command().env("COMPLETE", shell)));
}

#[rstest]
#[case("-m ", &["adhoc", "periodic"])]
#[case("--output t", &["table"])]
#[case("completion ", &["bash", "zsh", "fish", "powershell"])]
#[case("-c kube", &["kubeconfig.json"])]
#[case("-k ", &["kubeconfig.json", "use-in-cluster"])]
#[case("-k kubeconfig.json --context st", &["staging", "staging-eu"])]
#[case("--context st", &[])]
fn bash_completes_values_files_and_contexts(#[case] line: &str, #[case] expected: &[&str]) {
    let place = Place::with("kubeconfig.json", KUBECONFIG);

    let offers = place.bash_offers(line);

    let values: Vec<String> = offers.into_iter().filter(|offer| !offer.starts_with('-')).collect();
    assert_eq!(values, expected);
}

#[test]
fn bash_completes_flags() {
    assert_eq!(Place::new().bash_offers("--verb"), ["--verbose-inventory-reports", "--verbose"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bash_completes_namespaces_of_the_cluster_that_the_line_names() {
    let cluster = Cluster::new().namespace("shop").namespace("shipping").namespace("payment");
    let api = KubernetesApi::serving(&cluster).await.unwrap();
    let place = Place::with("kubeconfig.json", &api.kubeconfig(&User::named("somebody")));

    assert_eq!(place.bash_offers("-k kubeconfig.json --namespaces sh"), ["shipping", "shop"]);
    assert_eq!(place.bash_offers("-k kubeconfig.json -n payment,sho"), ["payment,shop"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn completing_namespaces_ends_silently_when_the_cluster_does_not_answer() {
    let api = KubernetesApi::serving(&Cluster::new().namespace("shop")).await.unwrap();
    api.inject(Requests::to("/api/v1/namespaces"), Fault::NeverAnswers);
    let place = Place::with("kubeconfig.json", &api.kubeconfig(&User::named("somebody")));

    assert_eq!(place.bash_offers("-k kubeconfig.json -n "), Vec::<String>::new());
}

#[test]
fn completing_namespaces_of_a_cluster_out_of_reach_is_silent() {
    let place = Place::with("kubeconfig.json", KUBECONFIG);

    assert_eq!(place.bash_offers("-k kubeconfig.json -n "), Vec::<String>::new());
}

/// What a dry run finds out, given these keys of `anchore`.
async fn dry_run(anchore: &str) -> Outcome {
    let api = KubernetesApi::serving(&Cluster::new().namespace("shop")).await.unwrap();
    let place = Place::with("kubeconfig.json", &api.kubeconfig(&User::named("somebody")));
    let config = format!("anchore: {{url: 'http://127.0.0.1:1', user: agent, {anchore}}}");
    std::fs::write(place.folder.path().join("c.yaml"), config).unwrap();
    place.run("-q -c c.yaml -k kubeconfig.json --dry-run")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_where_reports_would_go() {
    let Outcome { code, stderr, .. } = dry_run("password: p").await;

    assert_eq!(code, Some(0));
    assert!(stderr.starts_with("dry run: account admin as user agent at http://127.0.0.1:1/: 1 namespace"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_fails_for_credentials_that_cannot_be_read() {
    let Outcome { code, stderr, .. } = dry_run("password-file: no-such-file").await;

    assert_eq!(code, Some(1));
    assert!(stderr.contains("no-such-file, which cannot be read"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_finds_a_wrong_certificate_file() {
    let Outcome { code, stdout, stderr } = dry_run("password: p, http: {ca-file: no-such-file}").await;

    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.starts_with("error: anchore.http.ca-file: ") && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn a_variable_complete_that_names_no_shell_changes_nothing() {
    let place = Place::new();

    let version = outcome(place.command().arg("version").env("COMPLETE", "100%"));

    assert_eq!(version, place.run("version"));
}
