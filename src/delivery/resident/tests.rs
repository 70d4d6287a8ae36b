//! Runs of resident delivery against a server on loopback, with a spool in a folder of the test's.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use pretty_assertions::assert_eq;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{ResidentDelivery, ResidentSettings};
use crate::anchore::BasicAuth;
use crate::anchore::loopback::{Loopback, Received, response, response_with, settings};
use crate::config::routes::RoutingConfig;
use crate::config::secret::{Credentials, TextSource};
use crate::delivery::recipient::Recipients;
use crate::delivery::status::{AccountStatus, DeliveryEvent, Happening};
use crate::delivery::store::tests::set;
use crate::mandate::Mandate;

/// An agent that is about to start.
struct Agent {
    folder: Arc<tempfile::TempDir>,
    credentials: Credentials,
    mandate: Mandate,
    max_bytes: u64,
}

/// An agent that runs; dropping it is a crash.
struct Running {
    delivery: Arc<ResidentDelivery>,
    events: mpsc::UnboundedReceiver<DeliveryEvent>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Agent {
    fn new() -> Self {
        Self {
            folder: Arc::new(tempfile::tempdir().expect("a folder")),
            credentials: user("inventory"),
            mandate: Mandate::unlimited(),
            max_bytes: 1 << 20,
        }
    }

    async fn open(&self, url: &Url) -> (ResidentDelivery, mpsc::UnboundedReceiver<DeliveryEvent>, CancellationToken) {
        let mut anchore = settings(url);
        anchore.credentials = Some(self.credentials.clone());
        let routing = RoutingConfig { routes: Vec::new(), by_label: None, default_account: "admin".to_owned() };
        let stop = CancellationToken::new();
        let settings = ResidentSettings {
            client: Arc::new(crate::anchore::loopback::client_of(&anchore)),
            recipients: Recipients::new(&anchore, &routing),
            state_directory: self.folder.path().to_owned(),
            max_bytes: self.max_bytes,
            cluster_name: "edge-7".to_owned(),
            url: Url::parse("https://anchore.example/").expect("a URL"),
            mandate: self.mandate.clone(),
            stop: stop.clone(),
        };
        let (delivery, events) = ResidentDelivery::open(settings).await;
        (delivery, events, stop)
    }

    async fn start(&self, server: &Loopback) -> Running {
        let (delivery, events, stop) = self.open(&server.url).await;
        let delivery = Arc::new(delivery);
        let driven = Arc::clone(&delivery);
        Running { delivery, events, stop, task: tokio::spawn(async move { driven.run().await }) }
    }

    fn files(&self) -> usize {
        files_in(&self.folder.path().join("spool"))
    }
}

impl Running {
    /// The next thing that happens, other than failed attempts.
    async fn next(&mut self) -> DeliveryEvent {
        loop {
            let event = self.events.recv().await.expect("the delivery lives");
            if !matches!(event.what, Happening::Failed { .. }) {
                return event;
            }
        }
    }

    async fn failure(&mut self) -> String {
        loop {
            if let Happening::Failed { reason } = self.events.recv().await.expect("the delivery lives").what {
                return reason;
            }
        }
    }

    /// The numbers that the next accepted batch carries.
    async fn accepted(&mut self) -> Vec<u64> {
        match self.next().await.what {
            Happening::Accepted { carried, .. } => carried,
            other => panic!("{other:?}"),
        }
    }

    fn status(&self) -> AccountStatus {
        let [status] = self.delivery.statuses().try_into().expect("one account");
        status
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("no panic");
    }
}

fn files_in(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    entries.filter(|name| name.to_string_lossy().ends_with(".report")).count()
}

fn user(name: &str) -> Credentials {
    let text = |text: &str| TextSource::Inline(SecretString::from(text));
    Credentials { user: text(name), password: text("pw") }
}

/// The account and the namespace of what arrived.
fn arrived(server: &Loopback) -> Vec<(String, String)> {
    let told = |request: Received| {
        let body: Value = serde_json::from_str(&request.body).expect("JSON");
        let namespace = body["namespaces"][0]["name"].as_str().expect("a namespace").to_owned();
        (request.header("x-anchore-account").to_owned(), namespace)
    };
    server.received().into_iter().map(told).collect()
}

fn pairs<const N: usize>(expected: [(&str, &str); N]) -> Vec<(String, String)> {
    expected.map(|(account, body)| (account.to_owned(), body.to_owned())).into()
}

async fn accepting() -> Loopback {
    Loopback::answering(|_| response(201, "")).await
}

/// Answers with each of these in turn, then accepts.
async fn answering<const N: usize>(answers: [String; N]) -> Loopback {
    let asked = AtomicUsize::new(0);
    let (asked, answers) = (Arc::new(asked), Arc::new(answers));
    Loopback::answering(move |_| {
        let answer = answers.get(asked.fetch_add(1, Ordering::Relaxed));
        answer.cloned().unwrap_or_else(|| response(201, ""))
    })
    .await
}

// === Accepted ===

#[tokio::test]
async fn a_set_is_accepted_in_order_and_leaves_the_disk() {
    let (server, agent) = (accepting().await, Agent::new());
    let mut running = agent.start(&server).await;

    running.delivery.submit(set("team-a", 1, 2)).await;

    assert_eq!(running.accepted().await, [11]);
    assert_eq!(running.accepted().await, [12]);
    assert_eq!(arrived(&server), pairs([("team-a", "1.1"), ("team-a", "1.2")]));
    let delivery = Arc::clone(&running.delivery);
    running.end().await;
    assert_eq!(agent.files(), 0);
    let [status] = delivery.statuses().try_into().expect("one account");
    assert_eq!((status.waiting, status.waiting_bytes, status.error), (0, 0, None));
    assert_eq!((status.sent_as.as_str(), status.batch_count, status.batches.len()), ("inventory", 2, 2));
    assert!(status.batches.iter().all(|batch| batch.is_accepted));
}

#[tokio::test]
async fn a_set_is_on_the_disk_before_anything_is_sent_and_outlives_a_crash() {
    let (server, agent) = (accepting().await, Agent::new());
    let (delivery, _events, _stop) = agent.open(&server.url).await;
    delivery.submit(set("team-a", 1, 2)).await;
    assert_eq!((agent.files(), server.received().len()), (2, 0));
    drop(delivery);

    let mut running = agent.start(&server).await;
    running.delivery.submit(set("team-a", 2, 1)).await;

    assert_eq!(running.accepted().await, [0; 0]);
    assert_eq!(running.accepted().await, [0; 0]);
    assert_eq!(running.accepted().await, [21]);
    assert_eq!(arrived(&server), pairs([("team-a", "1.1"), ("team-a", "1.2"), ("team-a", "2.1")]));
    running.end().await;
}

#[tokio::test]
async fn a_newer_set_replaces_what_is_not_begun() {
    let (server, agent) = (accepting().await, Agent::new());
    let (delivery, mut events, _stop) = agent.open(&server.url).await;
    delivery.submit(set("team-a", 1, 2)).await;
    delivery.submit(set("team-b", 1, 1)).await;

    delivery.submit(set("team-a", 2, 1)).await;

    assert_eq!(agent.files(), 2);
    let superseded = DeliveryEvent { account: "team-a".to_owned(), what: Happening::Superseded { batches: 2 } };
    assert_eq!(events.recv().await, Some(superseded));
    assert_eq!(delivery.waiting().sets, 2);
}

// === Not accepted ===

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_is_asked_until_it_is_up_and_other_accounts_do_not_wait() {
    let up = Arc::new(AtomicBool::new(false));
    let is_up = Arc::clone(&up);
    let server = Loopback::answering(move |request| {
        let is_refused = request.header("x-anchore-account") == "team-a" && !is_up.load(Ordering::Relaxed);
        response(if is_refused { 503 } else { 201 }, "")
    })
    .await;
    let agent = Agent::new();
    let mut running = agent.start(&server).await;
    running.delivery.submit(set("team-a", 1, 2)).await;
    running.delivery.submit(set("team-b", 1, 1)).await;
    assert_eq!(running.accepted().await, [11]);
    let start = Instant::now();
    while start.elapsed() < Duration::from_hours(2) {
        running.failure().await;
    }
    let error = running.delivery.statuses()[0].error.clone().expect("an error");
    assert!(error.contains("503"), "{error}");

    // The batch that was begun goes first, the other gives way.
    running.delivery.submit(set("team-a", 2, 1)).await;
    up.store(true, Ordering::Relaxed);

    assert_eq!(running.next().await.what, Happening::Superseded { batches: 1 });
    assert_eq!(running.accepted().await, [11]);
    assert_eq!(running.accepted().await, [21]);
    assert_eq!(running.delivery.statuses()[0].error, None);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_time_that_a_server_asks_for_is_waited() {
    let server = answering([response_with(429, "Retry-After: 400\r\n", "")]).await;
    let agent = Agent::new();
    let mut running = agent.start(&server).await;
    let start = Instant::now();

    running.delivery.submit(set("team-a", 1, 1)).await;

    assert_eq!(running.accepted().await, [11]);
    assert_eq!(start.elapsed().as_secs(), 400);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_has_to_mend_is_tried_every_five_minutes() {
    let page = response(200, "<html>log in</html>");
    let server = answering([page.clone(), page, response(404, "")]).await;
    let agent = Agent::new();
    let mut running = agent.start(&server).await;
    let start = Instant::now();

    running.delivery.submit(set("team-a", 1, 1)).await;
    running.failure().await;
    running.delivery.submit(set("team-a", 2, 1)).await;

    assert_eq!(running.accepted().await, [11]);
    assert_eq!(running.accepted().await, [21]);
    assert!(start.elapsed() >= Duration::from_mins(10), "{:?}", start.elapsed());
    running.end().await;
}

#[tokio::test]
async fn a_rejected_report_is_dropped_with_what_it_carries_and_the_next_is_sent() {
    let body = json!({"title": "Bad Request", "detail": "no - 'containers.0.image_tag'", "status": 400}).to_string();
    let server = answering([response(400, &body)]).await;
    let agent = Agent::new();
    let mut running = agent.start(&server).await;

    running.delivery.submit(set("team-a", 1, 2)).await;

    let Happening::Rejected { carried, reason } = running.next().await.what else { panic!("not rejected") };
    assert_eq!(carried, [11]);
    assert!(reason.contains("containers.0.image_tag"), "{reason}");
    assert_eq!(running.accepted().await, [12]);
    let error = running.status().error.expect("the rejection stays");
    assert!(error.contains("containers.0.image_tag"), "{error}");
    running.delivery.submit(set("team-a", 2, 1)).await;
    assert_eq!(running.accepted().await, [21]);
    assert_eq!(running.status().error, None);
    running.end().await;
    assert_eq!(agent.files(), 0);
}

// === Accounts and credentials ===

#[tokio::test]
async fn an_unknown_account_goes_to_the_default_account_and_each_set_asks_again() {
    let known = Arc::new(AtomicBool::new(false));
    let is_known = Arc::clone(&known);
    let server = Loopback::answering(move |request| match request.header("x-anchore-account") {
        "team-a" if !is_known.load(Ordering::Relaxed) => {
            response(404, &json!({"message": "User account not found. Name=team-a"}).to_string())
        }
        _ => response(201, ""),
    })
    .await;
    let agent = Agent::new();
    let mut running = agent.start(&server).await;

    running.delivery.submit(set("team-a", 1, 2)).await;

    for _ in 0..2 {
        let Happening::Accepted { reroute: Some(reason), .. } = running.next().await.what else { panic!("no reroute") };
        assert!(reason.contains("User account not found"), "{reason}");
    }
    assert_eq!(arrived(&server), pairs([("team-a", "1.1"), ("admin", "1.1"), ("admin", "1.2")]));
    assert!(running.status().error.expect("a reroute is an error").contains("User account not found"));

    known.store(true, Ordering::Relaxed);
    running.delivery.submit(set("team-a", 2, 1)).await;

    assert_eq!(running.accepted().await, [21]);
    assert_eq!(arrived(&server)[3..], pairs([("team-a", "2.1")]));
    assert_eq!(running.status().error, None);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_password_is_tried_once_in_five_minutes_for_all_accounts_together() {
    let right = Arc::new(AtomicBool::new(false));
    let is_right = Arc::clone(&right);
    let answer = move |_: &Received| response(if is_right.load(Ordering::Relaxed) { 201 } else { 401 }, "");
    let server = Loopback::answering(answer).await;
    let agent = Agent::new();
    let mut running = agent.start(&server).await;
    for account in ["team-a", "team-b", "team-c"] {
        running.delivery.submit(set(account, 1, 1)).await;
    }
    for _ in 0..3 {
        running.failure().await;
    }
    assert_eq!(server.received().len(), 1);
    let sender = BasicAuth { user: "inventory".to_owned(), password: "pw".into() };
    assert!(running.delivery.paused(&sender).expect("paused").contains("401"));
    right.store(true, Ordering::Relaxed);

    for _ in 0..3 {
        running.accepted().await;
    }

    assert_eq!(server.received().len(), 4);
    assert_eq!(running.delivery.paused(&sender), None);
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn credentials_that_change_in_their_file_are_tried_at_once() {
    let server = Loopback::answering(|request| match request.header("authorization") {
        "Basic aW52ZW50b3J5Om5ldw==" => response(201, ""),
        _ => response(403, "Forbidden"),
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("password");
    fs::write(&path, "old\n").expect("written");
    let agent = Agent {
        credentials: Credentials { password: TextSource::File(path.clone()), ..user("inventory") },
        ..Agent::new()
    };
    let mut running = agent.start(&server).await;
    running.delivery.submit(set("team-a", 1, 1)).await;
    running.failure().await;
    let start = Instant::now();

    fs::write(&path, "new\n").expect("written");

    assert_eq!(running.accepted().await, [11]);
    assert!(start.elapsed() <= Duration::from_secs(5), "{:?}", start.elapsed());
    running.end().await;
}

// === The folder ===

#[tokio::test]
async fn a_folder_in_use_is_left_alone_and_taken_when_it_is_free() {
    let (server, agent) = (accepting().await, Agent::new());
    let (first, _, _) = agent.open(&server.url).await;
    first.submit(set("team-a", 1, 1)).await;
    let mut second = agent.start(&server).await;
    assert!(second.delivery.memory_only().expect("busy").contains("in use by another process"));

    second.delivery.submit(set("team-b", 2, 1)).await;
    assert!(matches!(second.next().await.what, Happening::Unwritten { batches: 1, .. }));
    assert_eq!(second.accepted().await, [21]);
    drop(first);
    second.delivery.submit(set("team-b", 3, 1)).await;

    assert_eq!(second.delivery.memory_only(), None);
    for _ in 0..2 {
        second.accepted().await;
    }
    let mut arrived = arrived(&server);
    arrived.sort();
    assert_eq!(arrived, pairs([("team-a", "1.1"), ("team-b", "2.1"), ("team-b", "3.1")]));
    second.end().await;
}

#[tokio::test]
async fn what_was_left_before_something_newer_was_sent_from_memory_is_dropped() {
    let (server, agent) = (accepting().await, Agent::new());
    let (first, _, _) = agent.open(&server.url).await;
    first.submit(set("team-a", 1, 1)).await;
    let mut second = agent.start(&server).await;
    second.delivery.submit(set("team-a", 2, 1)).await;
    second.next().await;
    assert_eq!(second.accepted().await, [21]);
    drop(first);

    second.delivery.submit(set("team-a", 3, 1)).await;

    assert!(matches!(second.next().await.what, Happening::Dropped { batches: 1, .. }));
    assert_eq!(second.accepted().await, [31]);
    assert_eq!(arrived(&server), pairs([("team-a", "2.1"), ("team-a", "3.1")]));
    second.end().await;
}

#[tokio::test]
async fn without_a_folder_reports_wait_in_memory() {
    let (server, agent) = (accepting().await, Agent::new());
    fs::write(agent.folder.path().join("spool"), "a file").expect("written");
    let mut running = agent.start(&server).await;
    assert!(running.delivery.memory_only().expect("no folder").contains("cannot be used"));

    running.delivery.submit(set("team-a", 1, 2)).await;

    assert!(matches!(running.next().await.what, Happening::Unwritten { batches: 2, .. }));
    assert_eq!((running.accepted().await, running.accepted().await), (vec![11], vec![12]));
    running.end().await;
}

#[tokio::test]
async fn the_oldest_go_when_there_is_no_room() {
    let server = accepting().await;
    let agent = Agent { max_bytes: 1_000, ..Agent::new() };
    let (delivery, mut events, _stop) = agent.open(&server.url).await;
    for account in ["team-a", "team-b"] {
        delivery.submit(set(account, 1, 1)).await;
    }
    assert_eq!(agent.files(), 2);

    delivery.submit(set("team-c", 1, 1)).await;

    let event = events.try_recv().expect("an event");
    assert_eq!(event.account, "team-a");
    assert!(matches!(event.what, Happening::Dropped { batches: 1, .. }), "{event:?}");
    assert_eq!(agent.files(), 2);
    delivery.submit(set("team-c", 2, 20)).await;
    let event = events.try_recv().expect("an event");
    let Happening::Unwritten { batches: 20, reason } = event.what else { panic!("{event:?}") };
    assert!(reason.contains("spool.max-bytes"), "{reason}");
}

#[tokio::test]
async fn a_damaged_report_is_put_aside_and_the_next_is_sent() {
    let (server, agent) = (accepting().await, Agent::new());
    let (delivery, _, _) = agent.open(&server.url).await;
    delivery.submit(set("team-a", 1, 2)).await;
    drop(delivery);
    let spool = agent.folder.path().join("spool");
    let first = spool.join("00000000000000000001-000001.report");
    let mut bytes = fs::read(&first).expect("a file");
    let last = bytes.len() - 10;
    bytes[last] ^= 1;
    fs::write(&first, bytes).expect("written");

    let mut running = agent.start(&server).await;

    let dropped = running.next().await;
    assert_eq!(dropped.account, "team-a");
    assert!(matches!(dropped.what, Happening::Dropped { batches: 1, .. }), "{dropped:?}");
    assert_eq!(running.accepted().await, [0; 0]);
    assert_eq!(arrived(&server), pairs([("team-a", "1.2")]));
    running.end().await;
    assert_eq!(files_in(&spool.join("rejected")), 1);
}

// === Leading and stopping ===

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_without_the_mandate_and_what_is_of_an_earlier_term_is_dropped() {
    let server = accepting().await;
    let (grant, until) = watch::channel(None);
    let agent = Agent { mandate: Mandate::until(until), ..Agent::new() };
    let (earlier, _, _) = agent.open(&server.url).await;
    earlier.submit(set("team-a", 1, 1)).await;
    drop(earlier);
    let mut running = agent.start(&server).await;
    running.delivery.submit(set("team-b", 2, 1)).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(server.received(), []);

    running.delivery.drop_earlier_term().await;
    for account in ["team-a", "team-b"] {
        let dropped = running.next().await;
        assert_eq!(dropped.account, account);
        assert!(matches!(dropped.what, Happening::Dropped { batches: 1, .. }), "{dropped:?}");
    }
    running.delivery.submit(set("team-b", 3, 1)).await;
    grant.send_replace(Some(Instant::now() + Duration::from_secs(10)));

    assert_eq!(running.accepted().await, [31]);
    tokio::time::sleep(Duration::from_secs(11)).await;
    running.delivery.submit(set("team-b", 4, 1)).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(arrived(&server), pairs([("team-b", "3.1")]));
    running.end().await;
    assert_eq!(agent.files(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_broken_off_when_the_mandate_ends() {
    let server = Loopback::serving(|mut stream| async move {
        let _request = Received::read(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let (grant, until) = watch::channel(Some(Instant::now() + Duration::from_secs(10)));
    let agent = Agent { mandate: Mandate::until(until), ..Agent::new() };
    let mut running = agent.start(&server).await;
    running.delivery.submit(set("team-a", 1, 1)).await;
    tokio::time::sleep(Duration::from_secs(11)).await;

    // The same process leads again; others may have sent something newer meanwhile.
    grant.send_replace(Some(Instant::now() + Duration::from_secs(10)));

    assert!(matches!(running.next().await.what, Happening::Dropped { batches: 1, .. }));
    running.end().await;
    assert_eq!(agent.files(), 0);
}

#[tokio::test]
async fn after_the_stop_no_attempt_begins_and_what_waits_stays_on_the_disk() {
    let stop = Arc::new(std::sync::OnceLock::<CancellationToken>::new());
    let told = Arc::clone(&stop);
    let server = Loopback::answering(move |_| {
        told.get().expect("set before").cancel();
        response(201, "")
    })
    .await;
    let agent = Agent::new();
    let mut running = agent.start(&server).await;
    stop.set(running.stop.clone()).expect("set once");

    running.delivery.submit(set("team-a", 1, 3)).await;

    assert_eq!(running.accepted().await, [11]);
    running.end().await;
    assert_eq!((agent.files(), server.received().len()), (2, 1));
}
