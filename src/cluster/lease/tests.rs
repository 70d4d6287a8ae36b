//! Elections over sockets, against a server that has one Lease.

use std::sync::Mutex;

use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::json;
use tokio::task::JoinHandle;

use super::*;
use crate::anchore::loopback::{Loopback, Received, response_with};
use crate::config::kubernetes::{ClusterAccess, KubeconfigConfig};

const NAMESPACE: &str = "anchore";

/// Attempts follow each other at once; terms are as long as in use.
const BRISK: Timing = Timing { retry: Duration::from_millis(5), ..Timing::USUAL };

/// The Lease of a server.
#[derive(Debug, Default)]
struct Stored {
    lease: Option<Value>,
    version: u64,
    /// Answers with this, whatever is asked for.
    fault: Option<(u16, &'static str)>,
    /// Says that the next write failed, though it did not.
    hides_next_write: bool,
    /// How many requests came.
    requests: usize,
}

/// An API server that has Leases alone.
#[derive(Clone)]
struct Server {
    loopback: Arc<Loopback>,
    stored: Arc<Mutex<Stored>>,
    /// Told of each request.
    news: watch::Sender<()>,
}

impl Server {
    async fn start() -> Self {
        let (stored, news) = (Arc::<Mutex<Stored>>::default(), watch::Sender::new(()));
        let (answering, told) = (Arc::clone(&stored), news.clone());
        let answer = move |request: &Received| {
            let answer = answering.lock().expect("whole").answer(request);
            told.send_replace(());
            answer
        };
        Self { loopback: Arc::new(Loopback::answering(answer).await), stored, news }
    }

    /// Waits for requests until this is so.
    async fn until(&self, is_so: impl Fn(&Stored) -> bool) {
        let mut news = self.news.subscribe();
        while !is_so(&self.stored.lock().expect("whole")) {
            news.changed().await.expect("it is served");
        }
    }

    fn requests(&self) -> usize {
        self.stored.lock().expect("whole").requests
    }

    fn set(&self, change: impl FnOnce(&mut Stored)) {
        change(&mut self.stored.lock().expect("whole"));
    }

    /// Writes the Lease as somebody else.
    fn hold(&self, holder: &str, seconds: u64) {
        self.set(|stored| {
            let spec = json!({"holderIdentity": holder, "leaseDurationSeconds": seconds, "renewTime": stored.version});
            stored.store(json!({"metadata": {"name": "agent"}, "spec": spec}));
        });
    }

    fn spec(&self) -> Value {
        self.stored.lock().expect("whole").lease.as_ref().map(|lease| lease["spec"].clone()).unwrap_or_default()
    }

    async fn connection(&self) -> Connection {
        let folder = tempfile::tempdir().expect("a folder");
        let kubeconfig = json!({
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "edge", "user": "", "namespace": "tools"}}],
            "clusters": [{"name": "edge", "cluster": {"server": self.loopback.url.as_str()}}],
        });
        std::fs::write(folder.path().join("config"), kubeconfig.to_string()).expect("written");
        let settings =
            KubeconfigConfig { access: ClusterAccess::File("config".into()), context: None, cluster_name: None };
        let environment = Environment { working_directory: folder.path().to_owned(), ..Environment::default() };
        Connection::open(&settings, &environment).await.expect("a connection")
    }

    async fn candidate(&self, identity: &str, timing: Timing) -> Candidate {
        let settings =
            LeaseSettings { namespace: NAMESPACE.to_owned(), name: "agent".to_owned(), identity: identity.to_owned() };
        let (mut elector, standing) = Elector::with_timing(Arc::new(self.connection().await), settings, timing);
        let (mandate, stop) = (elector.mandate(), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            elector.run(&stopped).await;
            elector.release().await;
        });
        Candidate { standing, mandate, stop, task }
    }
}

impl Stored {
    fn answer(&mut self, request: &Received) -> String {
        self.requests += 1;
        if let Some((status, body)) = self.fault {
            let content_type = if body.starts_with('{') { "application/json" } else { "text/plain" };
            return response_with(status, &format!("Content-Type: {content_type}\r\n"), body);
        }
        let (method, path) = request.line.split_once(' ').expect("a path");
        let collection = format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases");
        match method {
            "POST" => assert_eq!(path, collection),
            _ => assert_eq!(path, format!("{collection}/agent")),
        }
        let sent: Value = serde_json::from_str(&request.body).unwrap_or_default();
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
        match (method, &self.lease) {
            ("GET", Some(lease)) => return said(200, lease),
            ("GET" | "PUT", None) => return status(404, "NotFound"),
            ("POST", Some(_)) => return status(409, "AlreadyExists"),
            ("PUT", Some(lease)) if version(lease) != version(&sent) => return status(409, "Conflict"),
            _ => {}
        }
        assert_eq!(request.header("content-type"), "application/json");
        self.store(sent);
        if std::mem::take(&mut self.hides_next_write) {
            return status(500, "InternalError");
        }
        self.lease.as_ref().map(|lease| said(200, lease)).expect("stored")
    }

    fn store(&mut self, mut lease: Value) {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = Some(lease);
    }
}

fn said(status: u16, body: &Value) -> String {
    response_with(status, "Content-Type: application/json\r\n", &body.to_string())
}

fn status(code: u16, reason: &str) -> String {
    said(code, &json!({"kind": "Status", "status": "Failure", "reason": reason, "message": reason, "code": code}))
}

/// A replica.
struct Candidate {
    standing: watch::Receiver<Standing>,
    mandate: Mandate,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Candidate {
    async fn becomes(&mut self, expected: Standing) {
        self.standing.wait_for(|standing| *standing == expected).await.expect("it runs");
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("ended");
    }
}

#[tokio::test]
async fn one_leads_and_the_next_follows_at_once_when_it_ends() {
    let server = Server::start().await;
    let mut one = server.candidate("one", BRISK).await;
    one.becomes(Standing::Leader { term: 1 }).await;
    assert!(one.mandate.holds());
    let mut other = server.candidate("other", BRISK).await;
    let mandate = one.mandate.clone();
    one.end().await;
    assert!(!mandate.holds());
    other.becomes(Standing::Leader { term: 1 }).await;
    assert_eq!((&server.spec()["holderIdentity"], &server.spec()["leaseTransitions"]), (&json!("other"), &json!(1)));
}

#[tokio::test]
async fn of_two_that_start_together_one_leads() {
    let server = Server::start().await;
    let (mut one, mut other) = (server.candidate("one", BRISK).await, server.candidate("other", BRISK).await);
    let leads = Standing::Leader { term: 1 };
    tokio::select! {
        () = one.becomes(leads) => assert_eq!(*other.standing.borrow(), Standing::Standby),
        () = other.becomes(leads) => assert_eq!(*one.standing.borrow(), Standing::Standby),
    }
}

#[tokio::test]
async fn a_leader_renews() {
    let server = Server::start().await;
    let mut one = server.candidate("one", BRISK).await;
    one.becomes(Standing::Leader { term: 1 }).await;
    let (first, acquired) = (server.spec()["renewTime"].clone(), server.spec()["acquireTime"].clone());
    server.until(|stored| stored.lease.as_ref().is_some_and(|lease| lease["spec"]["renewTime"] != first)).await;
    assert_eq!(server.spec()["acquireTime"], acquired);
    assert!(!one.standing.has_changed().expect("it runs"));
}

#[tokio::test]
async fn a_leader_whose_lease_is_anothers_stops_at_once() {
    let server = Server::start().await;
    let mut one = server.candidate("one", BRISK).await;
    one.becomes(Standing::Leader { term: 1 }).await;
    server.hold("somebody", 15);
    one.becomes(Standing::Standby).await;
    assert!(!one.mandate.holds());
    one.end().await;
    assert_eq!(server.spec()["holderIdentity"], "somebody", "only its own is released");
}

#[tokio::test]
async fn a_lease_whose_holder_is_dead_is_taken_over() {
    let server = Server::start().await;
    server.hold("dead", 1);
    let mut one = server.candidate("one", BRISK).await;
    assert_eq!(*one.standing.borrow(), Standing::Standby);
    one.becomes(Standing::Leader { term: 1 }).await;
    assert_eq!(server.spec()["leaseTransitions"], 1);
}

#[tokio::test]
async fn a_lease_that_is_deleted_is_made_again_in_the_same_term() {
    let server = Server::start().await;
    let mut one = server.candidate("one", BRISK).await;
    one.becomes(Standing::Leader { term: 1 }).await;
    server.set(|stored| stored.lease = None);
    server.until(|stored| stored.lease.is_some()).await;
    assert_eq!(*one.standing.borrow(), Standing::Leader { term: 1 });
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_found_and_released() {
    let server = Server::start().await;
    server.set(|stored| stored.hides_next_write = true);
    let mut one = server.candidate("one", BRISK).await;
    one.becomes(Standing::Leader { term: 1 }).await;
    server.set(|stored| stored.hides_next_write = true);
    one.end().await;
    assert_eq!(server.spec()["holderIdentity"], "");
}

#[rstest]
#[case::a_failing_server(500, "{}")]
#[case::a_login_page(200, "<html>")]
#[case::an_object_of_another_kind(200, "{}")]
#[case::no_json(200, "{")]
#[tokio::test]
async fn without_a_sensible_answer_it_stands_by_and_tries_on(#[case] status: u16, #[case] body: &'static str) {
    let server = Server::start().await;
    server.set(|stored| stored.fault = Some((status, body)));
    let mut one = server.candidate("one", BRISK).await;
    server.until(|stored| stored.requests >= 3).await;
    assert_eq!(*one.standing.borrow(), Standing::Standby);
    server.set(|stored| stored.fault = None);
    one.becomes(Standing::Leader { term: 1 }).await;
}

#[tokio::test]
async fn a_leader_that_cannot_renew_stops_when_its_time_is_over_and_may_lead_again() {
    let server = Server::start().await;
    let timing = Timing { renew_deadline: Duration::from_secs(1), ..BRISK };
    let mut one = server.candidate("one", timing).await;
    one.becomes(Standing::Leader { term: 1 }).await;
    server.set(|stored| stored.fault = Some((500, "{}")));
    one.mandate.lost().await;
    one.becomes(Standing::Standby).await;
    server.set(|stored| stored.fault = None);
    one.becomes(Standing::Leader { term: 2 }).await;
}

#[rstest]
#[case::no_right(403, r#"{"kind": "Status", "reason": "Forbidden", "message": "leases is forbidden"}"#)]
#[case::no_such_api(404, "404 page not found")]
#[tokio::test]
async fn without_the_right_it_runs_alone(#[case] status: u16, #[case] body: &'static str) {
    let server = Server::start().await;
    server.set(|stored| stored.fault = Some((status, body)));
    let timing = Timing { duration: Duration::from_millis(50), ..BRISK };
    let mut one = server.candidate("one", timing).await;
    one.becomes(Standing::Alone).await;
    assert!(one.mandate.holds());
    let asked = server.requests();
    assert!(asked > 1, "a server that has just started may not know its rules yet");
    let mandate = one.mandate.clone();
    one.end().await;
    assert!(!mandate.holds());
    assert_eq!(server.requests(), asked, "there is nothing to release");
}

#[tokio::test]
async fn a_right_that_is_missing_for_a_moment_is_waited_for() {
    let server = Server::start().await;
    server.set(|stored| stored.fault = Some((403, "{}")));
    let mut one = server.candidate("one", BRISK).await;
    server.until(|stored| stored.requests >= 3).await;
    server.set(|stored| stored.fault = None);
    one.becomes(Standing::Leader { term: 1 }).await;
}

#[tokio::test]
async fn one_that_never_claimed_has_nothing_to_release() {
    let server = Server::start().await;
    server.hold("somebody", 15);
    let one = server.candidate("one", Timing::USUAL).await;
    server.until(|stored| stored.requests == 1).await;
    one.end().await;
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn the_lease_is_in_the_own_namespace_and_its_holder_one_process() {
    let server = Server::start().await;
    let connection = server.connection().await;
    let settings = |variables: &[(&str, &str)]| {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        LeaseSettings::new("agent", &Environment { variables, ..Environment::default() }, &connection)
    };
    let pod = settings(&[("POD_NAMESPACE", "own"), ("POD_NAME", "agent-0"), ("HOSTNAME", "node")]);
    assert_eq!((pod.namespace.as_str(), pod.name.as_str()), ("own", "agent"));
    assert!(pod.identity.starts_with("agent-0_"), "{}", pod.identity);
    let host = settings(&[("POD_NAMESPACE", ""), ("HOSTNAME", "node")]);
    assert_eq!(host.namespace, "tools", "that of the context");
    assert!(host.identity.starts_with("node_"), "{}", host.identity);
    assert_ne!(settings(&[]).identity, settings(&[]).identity);
    let odd = settings(&[("POD_NAMESPACE", "../x?y")]);
    assert_eq!(odd.namespace, "tools", "what no namespace can be called");
}
