//! Changes of the cluster, and the watches that tell of them.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use k8s_pb::api::core::v1::{Pod as FullPod, PodList};
use k8s_pb::apimachinery::pkg::apis::meta::v1::{Status, WatchEvent};
use k8s_pb::apimachinery::pkg::runtime::Unknown;
use pretty_assertions::assert_eq;
use prost::Message;
use reqwest::Response;
use serde_json::{Value, json};
use testbed::cluster::Cluster;
use testbed::cluster::namespace::Namespace;
use testbed::cluster::pod::Pod;
use testbed::fleet::Fleet;
use testbed::kubernetes::access::{User, Verb};
use testbed::kubernetes::{ExpiredWatch, KubernetesApi, KubernetesOptions, failure};
use testbed::objects::Kind;
use testbed::server::fault::{Fault, Requests};

use super::{client, client_trusting};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const PROTOBUF_WATCH: &str = "application/vnd.kubernetes.protobuf;stream=watch";

fn shop() -> Cluster {
    Cluster::new().node("n1").namespace("shop").pod(Pod::running("web-0").image("nginx")).namespace("shop-test")
}

/// A watch in protobuf, event by event.
struct Events {
    response: Response,
    buffer: BytesMut,
}

/// What happened, the kind of the object, and the object.
struct Event {
    verb: String,
    kind: String,
    raw: Vec<u8>,
}

impl Events {
    async fn of(api: &KubernetesApi, path_and_query: &str) -> Self {
        let response = watch(api, path_and_query, PROTOBUF_WATCH).await;
        assert_eq!((response.status().as_u16(), header(&response, "content-type")), (200, PROTOBUF_WATCH.to_owned()));
        assert_eq!(header(&response, "content-encoding"), "");
        Self { response, buffer: BytesMut::new() }
    }

    /// The next event; `None` when the watch ended as it should.
    async fn try_next(&mut self) -> Result<Option<Event>, reqwest::Error> {
        loop {
            if let Some(length) = self.buffer.first_chunk().map(|length| u32::from_be_bytes(*length) as usize)
                && self.buffer.len() >= 4 + length
            {
                self.buffer.advance(4);
                return Ok(Some(Event::decode(&self.buffer.split_to(length))));
            }
            let Some(chunk) = self.response.chunk().await? else {
                assert!(self.buffer.is_empty(), "half an event");
                return Ok(None);
            };
            self.buffer.extend_from_slice(&chunk);
        }
    }

    async fn next(&mut self) -> Event {
        self.try_next().await.expect("a body").expect("an event")
    }

    async fn summaries(&mut self, count: usize) -> Vec<String> {
        let mut summaries = Vec::new();
        for _ in 0..count {
            summaries.push(self.next().await.summary());
        }
        summaries
    }

    /// Whether nothing comes for a moment.
    async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(50), self.response.chunk()).await.is_err()
    }
}

impl Event {
    fn decode(frame: &[u8]) -> Self {
        let event = WatchEvent::decode(frame).expect("a watch event");
        let raw = event.object.expect("an object").raw.expect("bytes");
        let unknown = Unknown::decode(raw.strip_prefix(b"k8s\0").expect("the magic")).expect("an envelope");
        let type_meta = unknown.type_meta.expect("a type");
        assert_eq!(type_meta.api_version.as_deref(), Some("v1"));
        let (verb, kind) = (event.r#type.expect("a verb"), type_meta.kind.expect("a kind"));
        Self { verb, kind, raw: unknown.raw.expect("a document") }
    }

    fn pod(&self) -> FullPod {
        assert_eq!(self.kind, "Pod");
        FullPod::decode(&self.raw[..]).expect("a pod")
    }

    fn status(&self) -> Status {
        assert_eq!((self.verb.as_str(), self.kind.as_str()), ("ERROR", "Status"));
        Status::decode(&self.raw[..]).expect("a status")
    }

    /// `ADDED web-0 1001`
    fn summary(&self) -> String {
        let meta = self.pod().metadata.expect("metadata");
        format!("{} {} {}", self.verb, meta.name(), meta.resource_version())
    }
}

#[tokio::test]
async fn every_change_is_told_with_its_resource_version() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    let mut events = Events::of(&api, "/api/v1/pods?watch=true&resourceVersion=1000").await;

    let added = api.apply_pod("shop", &Pod::running("web-1").image("nginx"));
    api.apply_pod("shop", &Pod::running("web-0").image("nginx:2"));
    api.delete(Kind::Pods, "shop", "web-1");
    assert_eq!(api.delete(Kind::Pods, "shop", "web-1"), None);

    assert_eq!(added, 1001);
    let first = events.next().await;
    let mut expected = Pod::running("web-1").image("nginx").message("shop", Some("n1"));
    expected.metadata.as_mut().expect("metadata").resource_version = Some("1001".to_owned());
    assert_eq!((first.verb.as_str(), first.pod()), ("ADDED", expected));
    assert_eq!(events.summaries(2).await, ["MODIFIED web-0 1002", "DELETED web-1 1003"]);
    let list = list(&api, "/api/v1/pods").await;
    let versions = list.items.iter().map(|pod| pod.metadata.as_ref().expect("metadata").resource_version());
    assert_eq!(versions.collect::<Vec<_>>(), ["1002"]);
    assert_eq!(list.metadata.expect("metadata").resource_version(), "1003");
}

#[tokio::test]
async fn in_json_every_event_is_a_line() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    api.apply_namespace(Namespace::named("new").label("team", "blue"));
    let path = "/api/v1/namespaces?watch=1&resourceVersion=1000&allowWatchBookmarks=true";
    let mut response = watch(&api, path, "application/json").await;
    assert_eq!(header(&response, "content-type"), "application/json");

    let mut text = response.chunk().await.expect("a body").expect("an event").to_vec();
    api.bookmark();
    text.extend(response.chunk().await.expect("a body").expect("an event"));

    let lines: Vec<Value> = text
        .strip_suffix(b"\n")
        .expect("whole lines")
        .split(|byte| *byte == b'\n')
        .map(|line| serde_json::from_slice(line).expect("JSON"))
        .collect();
    assert_eq!((&lines[0]["type"], &lines[0]["object"]["kind"]), (&json!("ADDED"), &json!("Namespace")));
    assert_eq!(lines[0]["object"]["metadata"]["labels"]["team"], "blue");
    assert_eq!(lines[0]["object"]["metadata"]["resourceVersion"], "1001");
    assert_eq!((&lines[1]["type"], &lines[1]["object"]["kind"]), (&json!("BOOKMARK"), &json!("Namespace")));
    assert_eq!(lines[1]["object"]["metadata"], json!({"resourceVersion": "1001"}));
    assert_eq!(lines.len(), 2);
}

#[tokio::test]
async fn a_watch_goes_on_where_another_ended() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    for name in ["a", "b", "c"] {
        api.apply_pod("shop", &Pod::running(name).image("nginx"));
    }

    let mut events = Events::of(&api, "/api/v1/pods?watch=true&resourceVersion=1001").await;

    assert_eq!(events.summaries(2).await, ["ADDED b 1002", "ADDED c 1003"]);
}

#[tokio::test]
async fn a_watch_from_anywhere_begins_with_what_is_there() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    for query in ["watch=true", "watch=true&resourceVersion=", "watch=true&resourceVersion=0"] {
        let mut events = Events::of(&api, &format!("/api/v1/namespaces/shop/pods?{query}")).await;
        assert_eq!(events.summaries(1).await, ["ADDED web-0 1"], "{query}");
        assert!(events.is_silent().await);
    }
}

#[tokio::test]
async fn a_watch_of_a_namespace_hears_nothing_of_its_neighbours() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    api.apply_pod("shop-test", &Pod::running("before").image("nginx"));
    let mut events = Events::of(&api, "/api/v1/namespaces/shop/pods?watch=true&resourceVersion=1000").await;

    api.apply_pod("shop-test", &Pod::running("other").image("nginx"));
    api.apply_node("n2");
    api.apply_pod("shop", &Pod::running("mine").image("nginx"));

    assert_eq!(events.summaries(1).await, ["ADDED mine 1004"]);
}

#[tokio::test]
async fn other_objects_are_told_as_differences() {
    let api = KubernetesApi::serving(&shop().pod(Pod::running("job"))).await.expect("started");
    api.apply_pod("shop", &Pod::running("web-0").image("nginx:2"));
    let mut events = Events::of(&api, "/api/v1/pods?watch=true&resourceVersion=1001").await;

    let same = Pod::running("web-0").image("nginx:2");
    let other = Cluster::new().node("n1").namespace("shop").pod(same.clone()).pod(Pod::running("web-1"));
    api.replace(other.objects());
    api.replace(Cluster::new().node("n1").namespace("shop").pod(same.label("a", "b")).objects());

    // A namespace was deleted as well, which watches of pods do not hear of.
    let told = events.summaries(4).await;
    let told: Vec<&str> = told.iter().map(|event| event.rsplit_once(' ').expect("a version").0).collect();
    assert_eq!(told, ["DELETED job", "ADDED web-1", "DELETED web-1", "MODIFIED web-0"]);
    assert_eq!(api.resource_version(), 1006);
}

#[tokio::test]
async fn a_pod_is_replaced_as_by_its_controller() {
    let api = KubernetesApi::serving(&Cluster::new()).await.expect("started");
    api.replace_pod(7);
    let before = Pod::running("web-abcde").image("nginx");
    api.apply_pod("shop", &before);
    let mut events = Events::of(&api, "/api/v1/pods?watch=true&resourceVersion=1001").await;

    api.replace_pod(7);

    assert_eq!(events.summaries(1).await, ["DELETED web-abcde 1002"]);
    let after = events.next().await.pod();
    let meta = after.metadata.as_ref().expect("metadata");
    assert!(meta.name().starts_with("web-") && meta.name() != "web-abcde", "{}", meta.name());
    assert_eq!(meta.resource_version(), "1003");
    let before = before.message("shop", None);
    assert_ne!(meta.uid(), before.metadata.as_ref().expect("metadata").uid());
    assert_eq!((after.spec, after.status), (before.spec, before.status));
}

#[tokio::test]
async fn a_pod_that_is_being_deleted_says_since_when() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    let mut events = Events::of(&api, "/api/v1/pods?watch=true&resourceVersion=1000").await;

    api.apply_pod("shop", &Pod::running("web-0").image("nginx").terminating());

    let pod = events.next().await.pod();
    let meta = pod.metadata.expect("metadata");
    assert!(
        meta.deletion_timestamp
            .is_some_and(|time| time.seconds > meta.creation_timestamp.and_then(|time| time.seconds))
    );
    assert_eq!(meta.deletion_grace_period_seconds, Some(30));
}

#[tokio::test]
async fn a_fleet_goes_on_from_the_versions_of_its_objects() {
    let fleet = Fleet { pods: 50, namespaces: 3, nodes: 2, accounts: Vec::new(), seed: 1 };
    let api = KubernetesOptions::default().objects(fleet.objects()).start().await.expect("started");
    let before = list(&api, "/api/v1/pods").await;
    let newest = before.metadata.expect("metadata").resource_version().parse::<u64>().expect("a number");
    let mut events = Events::of(&api, &format!("/api/v1/pods?watch=true&resourceVersion={newest}")).await;

    api.replace(Fleet { pods: 49, ..fleet.clone() }.objects());
    api.replace(fleet.objects());

    let gone = events.next().await.pod();
    let back = events.next().await.pod();
    let versions = [&gone, &back].map(|pod| pod.metadata.as_ref().expect("metadata").resource_version().to_owned());
    assert_eq!(versions, [(newest + 1).to_string(), (newest + 2).to_string()]);
    let name = |pod: &FullPod| pod.metadata.as_ref().expect("metadata").name().to_owned();
    let mut expected = before.items.into_iter().find(|pod| name(pod) == name(&back));
    expected.as_mut().and_then(|pod| pod.metadata.as_mut()).expect("metadata").resource_version =
        Some(versions[1].clone());
    assert_eq!(Some(back), expected, "nothing but the version is another");
}

#[tokio::test]
async fn what_is_forgotten_is_gone_in_both_ways() {
    let api = KubernetesOptions::default().cluster(&shop()).history(2).start().await.expect("started");
    for name in ["a", "b", "c"] {
        api.apply_pod("shop", &Pod::running(name).image("nginx"));
    }

    assert_eq!(
        Events::of(&api, "/api/v1/pods?watch=true&resourceVersion=1001").await.summaries(2).await,
        ["ADDED b 1002", "ADDED c 1003"]
    );
    let mut events = Events::of(&api, "/api/v1/pods?watch=true&resourceVersion=1000").await;
    let status = events.next().await.status();
    assert_eq!((status.code, status.reason.as_deref()), (Some(410), Some("Expired")));
    assert_eq!(status.message.as_deref(), Some("too old resource version: 1000 (1001)"));
    assert!(events.try_next().await.expect("a body").is_none());

    api.compact();
    api.set_expired_watch(ExpiredWatch::Status);
    let response = watch(&api, "/api/v1/pods?watch=true&resourceVersion=1002", PROTOBUF_WATCH).await;
    assert_eq!(response.status(), 410);
    Events::of(&api, "/api/v1/pods?watch=true&resourceVersion=1003").await;
    assert_eq!(api.watch_count(Kind::Nodes), 0);
}

#[tokio::test]
async fn bookmarks_come_to_those_who_want_them() {
    let options = KubernetesOptions::default().cluster(&shop()).bookmark_interval(Duration::from_millis(20));
    let api = options.start().await.expect("started");
    api.apply_node("n2");
    let wanting = "/api/v1/pods?watch=true&resourceVersion=1000&allowWatchBookmarks=true";
    let mut wanting = Events::of(&api, wanting).await;
    let mut others = Events::of(&api, "/api/v1/pods?watch=true&resourceVersion=1000").await;

    let first = wanting.next().await;
    assert_eq!(first.verb, "BOOKMARK");
    let meta = first.pod().metadata.expect("metadata");
    assert_eq!((meta.name(), meta.resource_version()), ("", "1001"));
    api.bookmark();
    assert_eq!(wanting.next().await.verb, "BOOKMARK");
    api.apply_pod("shop", &Pod::running("a"));
    assert_eq!(others.summaries(1).await, ["ADDED a 1002"]);
}

#[tokio::test]
async fn a_watch_ends_in_time_with_a_last_bookmark() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    let path = "/api/v1/pods?watch=true&resourceVersion=1000&allowWatchBookmarks=true&timeoutSeconds=1";
    let mut events = Events::of(&api, path).await;

    assert_eq!(events.next().await.verb, "BOOKMARK");
    assert!(events.try_next().await.expect("a body").is_none());
    api.wait_for_watches(Kind::Pods, 0).await;
}

#[tokio::test]
async fn watches_are_ended_or_reset_or_fail_at_will() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    let begin = || Events::of(&api, "/api/v1/pods?watch=true&resourceVersion=1000");

    let mut closed = begin().await;
    api.apply_pod("shop", &Pod::running("a"));
    api.close_watches();
    assert_eq!(api.watch_count(Kind::Pods), 0);
    assert_eq!(closed.summaries(1).await, ["ADDED a 1001"]);
    assert!(closed.try_next().await.expect("a body").is_none());

    let mut reset = begin().await;
    assert_eq!(reset.summaries(1).await, ["ADDED a 1001"]);
    api.reset_watches();
    assert!(reset.try_next().await.is_err());

    let mut failed = begin().await;
    assert_eq!(failed.summaries(1).await, ["ADDED a 1001"]);
    api.send_watch_error(500, "InternalError", "etcdserver: no leader");
    assert_eq!(failed.next().await.status().code, Some(500));
    assert!(failed.try_next().await.expect("a body").is_none());
}

#[tokio::test]
async fn a_held_watch_is_silent_until_it_is_let_go() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    let path = "/api/v1/pods?watch=true&resourceVersion=1000";
    let mut before = Events::of(&api, path).await;
    api.hold_watches(true);
    let mut after = Events::of(&api, path).await;
    api.apply_pod("shop", &Pod::running("a"));

    assert!(before.is_silent().await && after.is_silent().await);
    assert_eq!(api.watch_count(Kind::Pods), 2);
    api.hold_watches(false);

    assert_eq!(before.summaries(1).await, ["ADDED a 1001"]);
    assert_eq!(after.summaries(1).await, ["ADDED a 1001"]);
    api.hold_watches(true);
    api.close_watches();
    assert!(before.try_next().await.expect("a body").is_none());
}

#[tokio::test]
async fn open_watches_are_counted_until_their_clients_leave() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    let pods = Events::of(&api, "/api/v1/pods?watch=true&resourceVersion=1000").await;
    let _namespaces = Events::of(&api, "/api/v1/namespaces?watch=true&resourceVersion=1000").await;
    assert_eq!(Kind::CORE.map(|kind| api.watch_count(kind)), [1, 0, 1]);

    drop(pods);

    api.wait_for_watches(Kind::Pods, 0).await;
    assert_eq!(api.watch_count(Kind::Namespaces), 1);
}

#[tokio::test]
async fn a_lost_event_is_never_told() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    let path = "/api/v1/pods?watch=true&resourceVersion=1000";
    let mut events = Events::of(&api, path).await;

    api.lose_next_event(Kind::Pods);
    api.apply_node("n2");
    api.delete(Kind::Pods, "shop", "web-0");
    api.apply_pod("shop", &Pod::running("a"));

    assert_eq!(events.summaries(1).await, ["ADDED a 1003"]);
    assert_eq!(Events::of(&api, path).await.summaries(1).await, ["ADDED a 1003"]);
}

#[tokio::test]
async fn a_restored_etcd_counts_again_what_it_has_counted() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    api.apply_pod("shop", &Pod::running("a"));
    api.set_resource_version(500);

    let mut late = Events::of(&api, "/api/v1/pods?watch=true&resourceVersion=1001&allowWatchBookmarks=true").await;
    let mut early = Events::of(&api, "/api/v1/pods?watch=true&resourceVersion=500").await;
    api.apply_pod("shop", &Pod::running("b"));
    api.bookmark();

    assert_eq!(early.summaries(1).await, ["ADDED b 501"]);
    assert!(late.is_silent().await, "as on a real server");
    assert_eq!(list(&api, "/api/v1/pods").await.metadata.expect("metadata").resource_version(), "501");
    let response = watch(&api, "/api/v1/pods?resourceVersion=1001", PROTOBUF).await;
    assert_eq!(response.status(), 504, "too large resource version");
}

#[tokio::test]
async fn watching_is_a_right_that_counts_when_a_watch_begins() {
    let options = KubernetesOptions::default().cluster(&shop()).user(User::reader("agent").token("t"));
    let api = options.start().await.expect("started");
    let path = "/api/v1/pods?watch=true&resourceVersion=1000";
    let mut events = Events::of(&api, path).await;

    api.set_user(User::lister("agent").token("t").may_in("shop", Verb::Watch, Kind::Pods));
    api.apply_pod("shop", &Pod::running("a"));

    assert_eq!(events.summaries(1).await, ["ADDED a 1001"]);
    let response = watch(&api, path, "application/json").await;
    assert_eq!(response.status(), 403);
    assert_eq!(
        response.json::<Value>().await.expect("JSON")["message"],
        r#"pods is forbidden: User "agent" cannot watch resource "pods" in API group "" at the cluster scope"#
    );
    assert_eq!(watch(&api, "/api/v1/pods", PROTOBUF).await.status(), 200);
    Events::of(&api, "/api/v1/namespaces/shop/pods?watch=true&resourceVersion=1000").await;
}

#[tokio::test]
async fn faults_tell_watches_from_lists() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    let pods = || Requests::to("/api/v1/pods");
    api.inject(pods().watches().first(1), failure(403, "Forbidden", "no"));
    api.inject(pods().watches().nth(2), Fault::stalls_after(7));
    api.inject(pods().lists(), failure(500, "InternalError", "no"));
    api.apply_pod("shop", &Pod::running("a"));

    let path = "/api/v1/pods?watch=true&resourceVersion=1000";
    assert_eq!(watch(&api, path, PROTOBUF_WATCH).await.status(), 403);
    let mut stalled = Events::of(&api, path).await;
    assert_eq!(stalled.response.chunk().await.expect("a body").map(|chunk| chunk.len()), Some(7));
    assert!(stalled.is_silent().await);
    assert_eq!(Events::of(&api, path).await.summaries(1).await, ["ADDED a 1001"]);
    assert_eq!(watch(&api, "/api/v1/pods", PROTOBUF).await.status(), 500);
}

#[tokio::test]
async fn a_streamed_list_is_refused() {
    let api = KubernetesApi::serving(&shop()).await.expect("started");
    let path = "/api/v1/pods?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    assert_eq!(watch(&api, path, PROTOBUF_WATCH).await.status(), 422);
    assert_eq!(watch(&api, "/api/v1/pods?watch=true&resourceVersion=x", PROTOBUF_WATCH).await.status(), 500);
    assert_eq!(watch(&api, "/api/v1/pods?watch=true", "text/html").await.status(), 406);
}

async fn watch(api: &KubernetesApi, path_and_query: &str, accept: &str) -> Response {
    let client = match api.authority() {
        Some(authority) => client_trusting(authority).build().expect("a client"),
        None => client(),
    };
    let request = client.get(format!("{}{path_and_query}", api.url())).header("accept", accept).bearer_auth("t");
    let coding = if path_and_query.contains("watch") { "gzip" } else { "identity" };
    request.header("accept-encoding", coding).send().await.expect("an answer")
}

async fn list(api: &KubernetesApi, path: &str) -> PodList {
    let bytes = watch(api, path, PROTOBUF).await.bytes().await.expect("a body");
    let unknown = Unknown::decode(bytes.strip_prefix(b"k8s\0").expect("the magic")).expect("an envelope");
    PodList::decode(&unknown.raw.expect("a document")[..]).expect("pods")
}

fn header(response: &Response, name: &str) -> String {
    response.headers().get(name).map(|value| value.to_str().expect("text").to_owned()).unwrap_or_default()
}
