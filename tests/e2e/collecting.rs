//! How the cluster is read: what requests cost, and how lists are taken apart. Through the library, which counts.

use std::path::Path;
use std::time::Duration;

use anchore_k8s_inventory::cluster::collect::{CollectSettings, Collection, collect, namespace_names};
use anchore_k8s_inventory::cluster::connect::Connection;
use anchore_k8s_inventory::cluster::progress::{Counts, Progress};
use anchore_k8s_inventory::config::Environment;
use anchore_k8s_inventory::config::kubernetes::{ClusterAccess, KubeconfigConfig, KubernetesConfig};
use anchore_k8s_inventory::config::metadata::MetadataCollection;
use anchore_k8s_inventory::config::selectors::NamespaceSelectors;
use pretty_assertions::assert_eq;

use crate::access::READ_NAMESPACE;
use crate::cluster::Cluster;
use crate::objects::{Namespace, Pod};

#[tokio::test]
async fn a_cluster_is_read_with_one_request_a_kind() {
    let cluster = Cluster::fresh().await;
    cluster.node("n1").await;
    for namespace in ["blog", "shop"] {
        cluster.namespace(namespace).await;
        for pod in ["a", "b"] {
            cluster.pod(namespace, Pod::running(pod).on("n1").image("example.org/web:1.2")).await;
        }
    }
    let reader = cluster.reader().await;

    let (collection, counts) = read(&cluster.kubeconfig(&reader.with_token()), NamespaceSelectors::default()).await;

    assert_eq!(names_of(&collection), ["blog", "default", "kube-node-lease", "kube-public", "kube-system", "shop"]);
    let version = 1;
    assert_eq!((counts.requests, counts.pages, counts.pods), (version + 3, 3, 4));
}

#[tokio::test]
async fn included_namespaces_are_read_one_by_one() {
    let cluster = Cluster::fresh().await;
    let user = cluster.token_user();
    for namespace in ["blog", "shop", "other"] {
        cluster.namespace(namespace).await;
        cluster.pod(namespace, Pod::running("a").image("example.org/web:1.2")).await;
        cluster.grant_in(namespace, &user.name, &READ_NAMESPACE).await;
    }
    let selectors = NamespaceSelectors { include: vec!["shop".into(), "blog".into()], ..NamespaceSelectors::default() };

    let (collection, counts) = read(&cluster.kubeconfig(&user.with_token()), selectors).await;

    assert_eq!(names_of(&collection), ["blog", "shop"]);
    let (version, nodes) = (1, 1);
    assert_eq!((counts.requests, counts.pods), (version + nodes + 2 * 2, 2));
}

#[tokio::test]
async fn pages_join_into_one_list() {
    let cluster = Cluster::fresh().await;
    let many: Vec<String> = (0..1_234).map(|n| format!("team-{n:04}")).collect();
    cluster.load_namespaces(many.iter().map(|name| Namespace::named(name))).await;
    let reader = cluster.reader().await;

    // Names for completion are read by pages of 500.
    let connection = connect(&cluster.kubeconfig(&reader.with_token())).await;
    let names = namespace_names(&connection, TIMEOUT).await;

    assert_eq!(
        names,
        [&["default", "kube-node-lease", "kube-public", "kube-system"].map(str::to_owned), &many[..]].concat()
    );
}

const TIMEOUT: Duration = Duration::from_mins(1);

async fn connect(kubeconfig: &Path) -> Connection {
    let access = ClusterAccess::File(kubeconfig.to_owned());
    let settings = KubeconfigConfig { access, context: None, cluster_name: None };
    Connection::open(&settings, &Environment::default()).await.expect("the kubeconfig is good")
}

async fn read(kubeconfig: &Path, selectors: NamespaceSelectors) -> (Collection, Counts) {
    let kubernetes = KubernetesConfig { request_timeout: TIMEOUT, page_size: 500, max_concurrent_requests: 100 };
    let metadata = MetadataCollection::default();
    let settings = CollectSettings {
        kubernetes: &kubernetes,
        selectors: &selectors,
        metadata: &metadata,
        account_label_key: None,
    };
    let progress = Progress::default();
    let collection = collect(&connect(kubeconfig).await, settings, &progress).await.expect("the cluster is readable");
    (collection, progress.counts())
}

fn names_of(collection: &Collection) -> Vec<&str> {
    let snapshot = &collection.snapshot;
    snapshot.namespaces.iter().map(|namespace| snapshot.strings.get(namespace.name)).collect()
}
