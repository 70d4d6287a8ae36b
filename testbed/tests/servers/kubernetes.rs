use std::io::Read;
use std::sync::Arc;

use flate2::read::GzDecoder;
use k8s_openapi::api::core::v1::{Namespace as FullNamespace, Node as FullNode, Pod as FullPod};
use k8s_pb::api::core::v1::PodList;
use k8s_pb::apimachinery::pkg::apis::meta::v1::{ListMeta, Status};
use k8s_pb::apimachinery::pkg::runtime::{TypeMeta, Unknown};
use pretty_assertions::assert_eq;
use prost::Message;
use reqwest::{Identity, RequestBuilder, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use testbed::cluster::Cluster;
use testbed::cluster::container::Container;
use testbed::cluster::identity;
use testbed::cluster::namespace::Namespace;
use testbed::cluster::node::Node;
use testbed::cluster::pod::Pod;
use testbed::fleet::Fleet;
use testbed::kubernetes::access::{User, Verb};
use testbed::kubernetes::{KubernetesApi, KubernetesOptions, KubernetesVersion};
use testbed::objects::Kind;
use testbed::server::tls::Authority;

use super::{client, client_trusting};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

fn shop() -> Cluster {
    Cluster::new()
        .node(Node::named("n1").label("zone", "a").architecture("arm64"))
        .namespace(Namespace::named("shop").label("team", "blue").annotation("note", "x"))
        .pod(Pod::running("web-0").image("nginx:1.27").label("app", "web"))
        .pod(
            Pod::running("web-1")
                .init(Container::of("registry.example:5000/tools/migrate:2").terminated())
                .sidecar(Container::of("envoy"))
                .image("shop/web@sha256:00")
                .ephemeral(Container::named("debug").image("busybox"))
                .image_volume("shop/models:7"),
        )
        .namespace("shop-test")
        .pod(Pod::pending("job").image("busybox"))
}

#[tokio::test]
async fn a_list_in_protobuf_is_enveloped_as_by_the_real_server() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");

    let response = get(&api, "/api/v1/pods").header("accept", PROTOBUF).send().await.expect("an answer");

    assert_eq!(response.headers()["content-type"], PROTOBUF);
    assert_eq!(response.headers().get("content-length"), None, "lists are streamed");
    let (kind, list) = unenveloped::<PodList>(response).await;
    assert_eq!(kind, "PodList");
    let meta = ListMeta {
        self_link: Some(String::new()),
        resource_version: Some("1000".to_owned()),
        r#continue: Some(String::new()),
        remaining_item_count: None,
    };
    assert_eq!(list.metadata, Some(meta));
    assert_eq!(list.items.len(), 3);
    // In the order of etcd's keys, in which `shop-test/` is before `shop/`.
    assert_eq!(list.items[0], Pod::pending("job").image("busybox").message("shop-test", Some("n1")));
    let web = Pod::running("web-0").image("nginx:1.27").label("app", "web");
    assert_eq!(list.items[1], web.message("shop", Some("n1")));
}

#[tokio::test]
async fn a_server_of_json_alone_answers_nothing_else() {
    let api = KubernetesOptions::default().cluster(&shop()).json_only().start().await.expect("started");

    for path in ["/api/v1/pods", "/api/v1/nodes/n1", "/api/v1/nodes/none"] {
        let response = get(&api, path).header("accept", PROTOBUF).send().await.expect("an answer");
        assert_eq!(response.headers()["content-type"], "application/json", "{path}");
        assert!(response.json::<Value>().await.expect("JSON")["kind"].is_string(), "{path}");
    }
}

#[tokio::test]
async fn every_field_in_json_is_one_that_kubernetes_knows() {
    let fleet = Fleet { pods: 300, namespaces: 9, nodes: 5, accounts: vec!["blue".to_owned()], seed: 1 };
    for objects in [shop().objects(), fleet.objects()] {
        let api = KubernetesOptions::default().objects(objects).start().await.expect("started");
        let pods = list(&api, "/api/v1/pods").await;
        let nodes = list(&api, "/api/v1/nodes").await;
        let namespaces = list(&api, "/api/v1/namespaces").await;

        assert_eq!(reread::<FullPod>(&pods), pods);
        assert_eq!(reread::<FullNode>(&nodes), nodes);
        assert_eq!(reread::<FullNamespace>(&namespaces), namespaces);
    }
}

#[tokio::test]
async fn a_pod_says_what_its_builder_said() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");

    let pod = json_of(get(&api, "/api/v1/namespaces/shop/pods/web-1")).await;

    assert_eq!(pod["kind"], "Pod");
    assert_eq!(pod["metadata"]["uid"], identity::uid("pods", "shop", "web-1"));
    assert_eq!(pod["spec"]["nodeName"], "n1");
    assert_eq!(pod["spec"]["initContainers"][1]["restartPolicy"], "Always");
    assert_eq!(pod["spec"]["volumes"][0]["image"]["reference"], "shop/models:7");
    let status = &pod["status"]["initContainerStatuses"][0];
    assert_eq!(status["imageID"], identity::image_id("registry.example:5000/tools/migrate:2"));
    assert_eq!(status["containerID"], identity::container_id("shop", "web-1", "migrate"));
    assert_eq!(pod["status"]["containerStatuses"][0]["imageID"], "docker.io/shop/web@sha256:00");
    assert_eq!(pod["spec"]["ephemeralContainers"][0]["image"], "busybox");

    let waiting = json_of(get(&api, "/api/v1/namespaces/shop-test/pods/job")).await;
    let waiting = &waiting["status"]["containerStatuses"][0];
    assert_eq!((&waiting["imageID"], waiting.get("containerID")), (&json!(""), None));
}

#[tokio::test]
async fn pages_follow_each_other_by_their_tokens() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");

    let first = json_of(get(&api, "/api/v1/pods?limit=2")).await;
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    let token = first["metadata"]["continue"].as_str().expect("a token");
    let second = json_of(get(&api, &format!("/api/v1/pods?limit=2&continue={token}"))).await;

    assert_eq!(second["metadata"], json!({"resourceVersion": "1000"}));
    assert_eq!([names(&first), names(&second)], [vec!["job", "web-0"], vec!["web-1"]]);
}

#[tokio::test]
async fn a_list_of_a_namespace_holds_nothing_of_its_neighbours() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");

    assert_eq!(names(&json_of(get(&api, "/api/v1/namespaces/shop/pods")).await), ["web-0", "web-1"]);
    assert_eq!(names(&json_of(get(&api, "/api/v1/namespaces/shop/pods?limit=1")).await), ["web-0"]);
    assert_eq!(names(&json_of(get(&api, "/api/v1/namespaces/nothing/pods")).await), Vec::<String>::new());
}

#[tokio::test]
async fn the_limit_does_not_count_at_resource_version_zero() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");

    assert_eq!(names(&json_of(get(&api, "/api/v1/pods?limit=1&resourceVersion=0")).await), ["job", "web-0", "web-1"]);
}

#[tokio::test]
async fn an_expired_token_is_gone_and_offers_another() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    let first = json_of(get(&api, "/api/v1/pods?limit=2")).await;
    let token = first["metadata"]["continue"].as_str().expect("a token");

    api.expire_continue_tokens();
    let path = format!("/api/v1/pods?limit=2&continue={token}");
    let response = get(&api, &path).header("accept", PROTOBUF).send().await.expect("an answer");

    assert_eq!(response.status(), 410);
    let (kind, status) = unenveloped::<Status>(response).await;
    assert_eq!((kind.as_str(), status.reason.as_deref(), status.code), ("Status", Some("Expired"), Some(410)));
    let inconsistent = status.metadata.and_then(|meta| meta.r#continue).expect("a token");
    let rest = json_of(get(&api, &format!("/api/v1/pods?continue={inconsistent}"))).await;
    assert_eq!(names(&rest), ["web-1"]);
}

#[tokio::test]
async fn long_lists_are_compressed_for_those_who_ask() {
    let note = "x".repeat(10_000);
    let cluster = (0..20).fold(Cluster::new(), |cluster, at| {
        cluster.pod(Pod::running(&format!("web-{at:02}")).image("nginx").annotation("note", &note))
    });
    let api = KubernetesApi::serving(&cluster).await.expect("started");

    let plain = get(&api, "/api/v1/pods").send().await.expect("an answer");
    let compressed = get(&api, "/api/v1/pods").header("accept-encoding", "gzip").send().await.expect("an answer");
    let short = get(&api, "/api/v1/namespaces").header("accept-encoding", "gzip").send().await.expect("an answer");

    assert_eq!((plain.headers().get("content-encoding"), short.headers().get("content-encoding")), (None, None));
    assert_eq!(compressed.headers()["content-encoding"], "gzip");
    let compressed = compressed.bytes().await.expect("a body");
    let mut decompressed = Vec::new();
    GzDecoder::new(&compressed[..]).read_to_end(&mut decompressed).expect("gzip");
    assert_eq!(decompressed, plain.bytes().await.expect("a body"));
    assert!(compressed.len() < 20_000, "{} bytes", compressed.len());
}

#[tokio::test]
async fn users_read_what_they_were_granted_and_nothing_else() {
    let agent =
        User::named("agent").token("t1").may(Verb::List, Kind::Namespaces).may_in("shop", Verb::List, Kind::Pods);
    let api = KubernetesOptions::default().cluster(&shop()).user(agent).start().await.expect("started");
    let ask = |path: &'static str, token: &'static str| get(&api, path).bearer_auth(token).send();

    assert_eq!(ask("/api/v1/namespaces", "t1").await.expect("an answer").status(), 200);
    assert_eq!(ask("/api/v1/namespaces/shop/pods", "t1").await.expect("an answer").status(), 200);
    for (path, message) in [
        (
            "/api/v1/nodes",
            r#"nodes is forbidden: User "agent" cannot list resource "nodes" in API group "" at the cluster scope"#,
        ),
        (
            "/api/v1/pods",
            r#"pods is forbidden: User "agent" cannot list resource "pods" in API group "" at the cluster scope"#,
        ),
        (
            "/api/v1/namespaces/shop-test/pods",
            r#"pods is forbidden: User "agent" cannot list resource "pods" in API group "" in the namespace "shop-test""#,
        ),
        (
            "/api/v1/namespaces/shop",
            r#"namespaces "shop" is forbidden: User "agent" cannot get resource "namespaces" in API group "" in the namespace "shop""#,
        ),
    ] {
        let response = ask(path, "t1").await.expect("an answer");
        assert_eq!(response.status(), 403, "{path}");
        assert_eq!(response.json::<Value>().await.expect("JSON")["message"], message);
    }
    assert_eq!(ask("/api/v1/pods", "wrong").await.expect("an answer").status(), 401);
    let users: Vec<_> = api.requests().into_iter().map(|request| request.user).collect();
    assert_eq!(users.first().and_then(Option::as_deref), Some("agent"));
    assert_eq!(users.last(), Some(&None));
}

#[tokio::test]
async fn a_rotated_token_is_accepted_and_the_old_one_is_not() {
    let api = KubernetesOptions::default().user(User::reader("agent").token("old")).start().await.expect("started");

    api.set_user(User::reader("agent").token("new"));

    let status = async |token| get(&api, "/api/v1/pods").bearer_auth(token).send().await.expect("an answer").status();
    assert_eq!((status("old").await.as_u16(), status("new").await.as_u16()), (401, 200));
}

#[tokio::test]
async fn over_tls_a_client_certificate_names_the_user() {
    let authority = Arc::new(Authority::new("testbed").expect("an authority"));
    let options = KubernetesOptions::default().cluster(&shop()).user(User::reader("agent")).tls(&authority);
    let api = options.start().await.expect("started");
    let agent = authority.client("agent").expect("a certificate");

    let pem = format!("{}{}", agent.certificate, agent.private_key);
    let identity = Identity::from_pem(pem.as_bytes()).expect("PEM");
    let known = client_trusting(&authority).identity(identity).build().expect("a client");
    let unknown = client_trusting(&authority).build().expect("a client");

    let url = format!("{}/api/v1/pods", api.url());
    assert_eq!(known.get(&url).send().await.expect("an answer").status(), 200);
    assert_eq!(unknown.get(&url).send().await.expect("an answer").status(), 403);
}

#[tokio::test]
async fn the_version_is_json_for_everyone() {
    let options = KubernetesOptions::default().version(KubernetesVersion::minor(25)).user(User::named("agent"));
    let api = options.start().await.expect("started");

    let version = json_of(get(&api, "/version").header("accept", PROTOBUF)).await;

    assert_eq!((&version["minor"], &version["gitVersion"]), (&json!("25"), &json!("v1.25.2")));
}

#[tokio::test]
async fn what_it_cannot_do_is_refused() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");

    for path in ["/api/v1/pods?labelSelector=a%3Db", "/api/v1/pods?continue=nonsense"] {
        assert_eq!(get(&api, path).send().await.expect("an answer").status(), 400, "{path}");
    }
    assert_eq!(get(&api, "/apis").send().await.expect("an answer").status(), 404);
    assert_eq!(get(&api, "/api/v1/pods").header("accept", "text/html").send().await.expect("an answer").status(), 406);
}

fn get(api: &KubernetesApi, path: &str) -> RequestBuilder {
    let trusting = api.authority().map(|authority| client_trusting(authority).build().expect("a client"));
    trusting.unwrap_or_else(client).get(format!("{}{path}", api.url()))
}

async fn json_of(request: RequestBuilder) -> Value {
    let response = request.send().await.expect("an answer").error_for_status().expect("success");
    assert_eq!(response.headers()["content-type"], "application/json");
    response.json().await.expect("JSON")
}

async fn list(api: &KubernetesApi, path: &str) -> Value {
    json_of(get(api, path)).await["items"].clone()
}

/// A list read and written again with the complete types.
fn reread<T: DeserializeOwned + Serialize>(list: &Value) -> Value {
    let objects: Vec<T> = serde_json::from_value(list.clone()).expect("objects");
    assert!(!objects.is_empty());
    // The complete types add these to each object.
    let mut written = serde_json::to_value(objects).expect("JSON");
    for object in written.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        object.remove("kind");
        object.remove("apiVersion");
    }
    written
}

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().expect("items");
    items.iter().map(|item| item["metadata"]["name"].as_str().expect("a name").to_owned()).collect()
}

async fn unenveloped<M: Message + Default>(response: Response) -> (String, M) {
    let bytes = response.bytes().await.expect("a body");
    let unknown = Unknown::decode(bytes.strip_prefix(b"k8s\0").expect("the magic")).expect("an envelope");
    let TypeMeta { api_version, kind } = unknown.type_meta.expect("a type");
    assert_eq!(api_version.as_deref(), Some("v1"));
    assert_eq!((unknown.content_type.as_deref(), unknown.content_encoding.as_deref()), (Some(""), Some("")));
    (kind.expect("a kind"), M::decode(&unknown.raw.expect("a document")[..]).expect("a message"))
}
