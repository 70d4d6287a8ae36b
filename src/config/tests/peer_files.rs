//! Files that were written for the existing agent load as they are.

use pretty_assertions::assert_eq;

use super::*;
use crate::config::anchore::ProxySetting;
use crate::config::kubernetes::ClusterAccess;

/// Every documented key of the existing agent, with nulls where its sample has none.
const SAMPLE: &str = r#"
quiet: false
log:
  structured: false
  level: "debug"
  file: "./anchore-k8s-inventory.log"
check-for-app-update: true
output: json
kubeconfig:
  path:
  cluster: docker-desktop
  cluster-cert:
  server: # ex. https://kubernetes.docker.internal:6443
  user:
    type: # valid: [private_key, token]
    client-cert:
    private-key:
    token:
verbose-inventory-reports: false
anchore-registration:
  registration-id:
  integration-name:
  integration-description:
namespaces: []
namespace-selectors:
  include: []
  exclude:
    - default
    - ^kube-*
  ignore-empty: false
account-routes:
  Team-A:
    user: username
    password: password
    namespaces:
      - default
      - ^kube-*
account-route-by-namespace-label:
  key: # e.g anchore.io/account.name
  default-account: # e.g. admin
  ignore-namespace-missing-label: false
kubernetes-request-timeout-seconds: 0
kubernetes:
  request-timeout-seconds: 60
  request-batch-size: 100
  worker-pool-size: 100
mode: adhoc
polling-interval-seconds: 300
health-report-interval-seconds: 60
missing-registry-override:
missing-tag-policy:
  policy: digest
  tag: UNKNOWN
ignore-not-running: true
inventory-report-limits:
  namespaces: 0 # default of 0 means no limit
metadata-collection:
  nodes: {annotations: [], labels: [], disable: false}
  namespaces: {annotations: [], labels: [], disable: false}
  pods: {annotations: [], labels: [], disable: false}
anchore:
  url: https://anchore.example.com
  user: inventory
  password: $ANCHORE_K8S_INVENTORY_ANCHORE_PASSWORD
  account: admin
  http:
    insecure: true
    timeout-seconds: 10
"#;

/// What the existing agent's chart renders: bare keys, quoted booleans, Go's spelling of lists and of large numbers.
const CHART: &str = r#"
output: "json"
quiet: "false"
verbose-inventory-reports: "true"
log:
  structured: "false"
  level: "debug"
  file: ""
anchore-registration:
  registration-id: ""
  integration-name: ""
  integration-description: ""
kubeconfig:
  path: use-in-cluster
  cluster: prod
  cluster-cert:
  server:
  user:
    type:
    client-cert:
    private-key:
    token:
namespace-selectors:
  include:
    []
  exclude:
    - kube-system
namespaces:
  []
account-routes:
  null
account-route-by-namespace-label:
  key: ""
  default-account: "admin"
  ignore-namespace-missing-label: false
mode: periodic
polling-interval-seconds: 60
health-report-interval-seconds: 6e+01
kubernetes-request-timeout-seconds:
kubernetes:
  request-timeout-seconds: 60
  request-batch-size: 100
  worker-pool-size: 100
missing-registry-override: ""
missing-tag-policy:
  policy: "digest"
  tag: "UNKNOWN"
ignore-not-running: "true"
metadata-collection:
  nodes:
    annotations: []
    labels: [kubernetes.io/arch ^topology]
    disable: false
  namespaces:
    annotations: []
    labels: []
    disable: false
  pods:
    annotations: [a b]
    labels: []
    disable: "false"
inventory-report-limits:
  namespaces: 0
  payload-threshold-bytes: 1.048576e+06
anchore:
  url: https://anchore.example.com:8228
  user: inventory
  password: $ANCHORE_K8S_INVENTORY_ANCHORE_PASSWORD
  account: admin
  http:
    insecure: true
    timeout-seconds: 10
"#;

#[test]
fn the_sample_loads_and_means_what_it_says() {
    let setup = file(SAMPLE).variable("ANCHORE_K8S_INVENTORY_ANCHORE_PASSWORD", "secret");
    let loaded = setup.loaded();
    let config = loaded.config;
    assert_eq!(loaded.warnings, []);
    assert_eq!(
        config.log,
        log::LogConfig {
            quiet: false,
            level: tracing::Level::DEBUG,
            verbose: false,
            structured: false,
            file: Some(setup.directory.path().join("anchore-k8s-inventory.log")),
        }
    );
    assert!(matches!(config.kubeconfig.access, ClusterAccess::Default));
    assert_eq!(config.kubeconfig.cluster_name.as_deref(), Some("docker-desktop"));
    assert_eq!(patterns(&config.selectors.exclude), ["default", "^kube-*"]);
    let [route] = config.routing.routes.as_slice() else { panic!("one route is expected") };
    assert_eq!((route.account.as_str(), patterns(&route.namespaces)), ("Team-A", vec!["default", "^kube-*"]));
    assert_eq!(config.kubernetes.page_size, 100);
    let anchore = config.anchore.unwrap();
    assert_eq!(inline(&anchore.credentials.unwrap().password), "secret");
    assert!(anchore.http.insecure);
    assert!(matches!(anchore.http.proxy, ProxySetting::Environment));
}

#[test]
fn what_the_chart_renders_loads_and_means_what_its_values_mean() {
    let setup = file(CHART).variable("ANCHORE_K8S_INVENTORY_ANCHORE_PASSWORD", "secret");
    let config = setup.config();
    assert!(matches!(config.kubeconfig.access, ClusterAccess::InCluster));
    assert_eq!(config.mode, Mode::Periodic);
    assert_eq!(config.polling_interval, Duration::from_mins(1));
    assert_eq!((config.log.quiet, config.verbose_inventory_reports), (false, true));
    assert_eq!(config.log.file, None);
    assert_eq!(config.limits.payload_bytes.map(usize::from), Some(1_048_576));
    assert_eq!(patterns(&config.metadata.nodes.labels), ["kubernetes.io/arch", "^topology"]);
    assert_eq!(patterns(&config.metadata.pods.annotations), ["a", "b"]);
    assert!(!config.metadata.pods.disable);
    assert!(config.images.ignore_not_running);
    assert!(config.routing.routes.is_empty());
    assert_eq!(setup.warnings().len(), 2, "one for each list with blanks: {:?}", setup.warnings());
}

#[test]
fn a_key_that_has_no_effect_any_more_is_taken_with_a_note() {
    let expected = "config.yaml:1:20: dev.profile-cpu: has no effect. Remove it";
    assert_eq!(file("dev: {profile-cpu: false}\noutput: table").warnings(), [expected]);
}
