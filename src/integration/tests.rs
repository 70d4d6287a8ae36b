//! The whole of registration and health against Anchore Enterprise, and against servers that answer anything.
//!
//! Time is real, for there are sockets: the waits are so short that nobody waits for them, or so long that a test would
//! never end if they were begun when they should not.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use pretty_assertions::assert_eq;
use rstest::rstest;
use secrecy::SecretString;
use serde_json::{Value, json};
use testbed::anchore::tenancy::{Role, User};
use testbed::anchore::version::Version;
use testbed::anchore::{Enterprise, EnterpriseOptions};
use testbed::server::fault::{Answer, Requests};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::*;
use crate::anchore::loopback::{Loopback, Received, client_of, response, settings};
use crate::captured_log::Log;
use crate::cluster::identity::Deployment;
use crate::config::routes::RoutingConfig;
use crate::config::secret::{Credentials, TextSource};
use crate::delivery::status::BatchStatus;

const REGISTRATION: &str = "/v2/system/integrations/registration";
const LONG: Duration = Duration::from_hours(1);

/// All waits are as good as none.
const FAST: Pace = Pace {
    health_report: Duration::from_millis(5),
    first: Duration::from_millis(1),
    slow_first: Duration::from_millis(2),
    longest: Duration::from_millis(8),
    look: Duration::from_millis(1),
};

/// An integration that is about to start.
struct Scene {
    url: url::Url,
    credentials: Credentials,
    pace: Pace,
    mandate: Mandate,
    paused: PauseCheck,
    statuses: Vec<AccountStatus>,
    journal: Arc<Journal>,
}

/// One that runs, until this is dropped.
struct Running {
    state: watch::Receiver<IntegrationState>,
    counts: Arc<IntegrationCounts>,
    /// Says when a health report is made.
    reports: mpsc::UnboundedReceiver<()>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scene {
    fn at(url: &str) -> Self {
        let text = |text: &str| TextSource::Inline(SecretString::from(text));
        Self {
            url: url::Url::parse(url).expect("a URL"),
            credentials: Credentials { user: text("admin"), password: text("foobar") },
            pace: FAST,
            mandate: Mandate::unlimited(),
            paused: Box::new(|_| None),
            statuses: Vec::new(),
            journal: Arc::default(),
        }
    }

    fn start(self) -> Running {
        let mut anchore = settings(&self.url);
        anchore.credentials = Some(self.credentials);
        let routing = RoutingConfig { default_account: "admin".to_owned(), ..RoutingConfig::default() };
        let (made, reports) = mpsc::unbounded_channel();
        let statuses = self.statuses;
        let sources = Sources {
            client: Arc::new(client_of(&anchore)),
            recipients: Recipients::new(&anchore, &routing),
            mandate: self.mandate,
            journal: self.journal,
            statuses: Box::new(move || {
                let _ = made.send(());
                statuses.clone()
            }),
            paused: self.paused,
        };
        let settings = IntegrationSettings {
            cluster_name: "edge-7".to_owned(),
            registration_id: None,
            name: Some("Edge".to_owned()),
            description: Some("At the edge".to_owned()),
            health_report_interval: Duration::from_mins(1),
            polling_interval: Duration::from_mins(5),
            accounts: vec!["shop".to_owned()],
            patterns: vec!["^shop-".to_owned()],
        };
        let integration = Integration::paced(settings, sources, self.pace);
        let (state, counts) = (integration.state(), integration.counts());
        let stop = CancellationToken::new();
        let task = tokio::spawn(integration.run(async { identity() }, stop.clone()));
        Running { state, counts, reports, stop, task }
    }
}

impl Running {
    async fn is(&mut self, state: &IntegrationState) {
        self.state.wait_for(|now| now == state).await.expect("it runs");
    }

    async fn is_registered(&mut self) -> String {
        let state = self.state.wait_for(|now| matches!(now, IntegrationState::Registered { .. })).await;
        match &*state.expect("it runs") {
            IntegrationState::Registered { uuid } => uuid.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until so many health reports were made: all before the last one have their answer.
    async fn makes(&mut self, reports: usize) {
        for _ in 0..reports {
            self.reports.recv().await.expect("it runs");
        }
    }

    /// Stops it, and waits until it has.
    async fn ends(mut self) {
        self.stop.cancel();
        (&mut self.task).await.expect("no panic");
    }
}

fn identity() -> Identity {
    let deployment = Deployment { name: "agent".to_owned(), uid: "uid-1".to_owned() };
    Identity { namespace: Some("anchore".to_owned()), host: "agent-x2x".to_owned(), deployment: Some(deployment) }
}

fn asked(enterprise: &Enterprise) -> Vec<String> {
    enterprise.requests().into_iter().map(|request| request.path).collect()
}

fn registrations(enterprise: &Enterprise) -> Vec<Value> {
    let requests = enterprise.requests().into_iter().filter(|request| request.path == REGISTRATION);
    requests.map(|request| request.json().expect("JSON")).collect()
}

fn health_reports(enterprise: &Enterprise) -> Vec<Value> {
    let requests = enterprise.requests().into_iter().filter(|request| request.path.ends_with("/health-report"));
    requests.filter_map(|request| request.json()).collect()
}

#[tokio::test]
async fn the_agent_registers_and_reports_its_health_at_once() {
    let enterprise = Enterprise::start().await.expect("started");
    let mut scene = Scene::at(enterprise.url());
    scene.pace.health_report = LONG;
    let now = Timestamp::now();
    scene.statuses.push(AccountStatus {
        account: "shop".to_owned(),
        report_timestamp: now,
        sent_as: String::new(),
        batch_count: 2,
        batches: vec![BatchStatus { index: 1, sent_at: now, is_accepted: false, error: Some("503".to_owned()) }],
        waiting: 1,
        waiting_bytes: 10,
        oldest: Some(now),
        last_accepted: None,
        error: Some("503".to_owned()),
    });
    scene.journal.state("pods", Some("the pods are blind".to_owned()));

    let mut running = scene.start();
    let uuid = running.is_registered().await;
    running.makes(1).await;
    running.ends().await;

    assert_eq!(
        asked(&enterprise),
        ["/version", REGISTRATION, &format!("/v2/system/integrations/{uuid}/health-report")]
    );
    assert_eq!(enterprise.requests()[0].header("authorization"), "");
    assert_eq!(enterprise.requests()[1].header("x-anchore-account"), "admin");
    let [mut registration] = registrations(&enterprise).try_into().expect("one");
    for varying in ["started_at", "uptime", "version"] {
        assert!(!registration[varying].take().is_null(), "{varying}");
    }
    let expected = json!({
        "registration_id": "uid-1", "registration_instance_id": "agent", "type": "k8s_inventory_agent",
        "username": "admin", "health_report_interval": 60, "name": "Edge", "description": "At the edge",
        "cluster_name": "edge-7", "namespace": "anchore", "explicitly_account_bound": ["shop"],
        "namespaces": ["^shop-"], "started_at": null, "uptime": null, "version": null,
    });
    assert_eq!(registration, expected);
    let [report] = health_reports(&enterprise).try_into().expect("one");
    let time = format!("{now:.0}");
    let expected = json!({
        "type": "k8s_inventory_agent", "version": 1, "errors": ["the pods are blind"],
        "account_k8s_inventory_reports": {"shop": {
            "report_timestamp": time, "account_name": "shop", "sent_as_user": "admin", "batch_size": 2,
            "last_successful_index": -1, "has_errors": true,
            "batches": [{"batch_index": 1, "send_timestamp": time, "error": "503"}],
        }},
    });
    assert_eq!(report["health_data"], expected);
    assert_eq!(enterprise.integrations("admin")[0]["reported_status"]["state"], "unhealthy");
    assert_eq!(enterprise.integrations("admin")[0]["integration_status"]["state"], "active");
}

#[tokio::test]
async fn a_report_without_errors_names_none() {
    let enterprise = Enterprise::start().await.expect("started");
    let mut running = Scene::at(enterprise.url()).start();
    running.makes(2).await;
    running.ends().await;
    let reports = health_reports(&enterprise);
    let expected = json!({"type": "k8s_inventory_agent", "version": 1, "account_k8s_inventory_reports": {}});
    assert_eq!(reports[0]["health_data"], expected);
    assert_ne!(reports[0]["uuid"], reports[1]["uuid"]);
}

#[tokio::test]
async fn an_upgrade_and_a_downgrade_of_the_server_are_noticed() {
    let options = EnterpriseOptions::default().version(Version::WITHOUT_INTEGRATIONS);
    let enterprise = options.start().await.expect("started");
    let mut running = Scene::at(enterprise.url()).start();
    running.is(&IntegrationState::Unsupported).await;
    enterprise.upgrade(Version::LATEST);
    let uuid = running.is_registered().await;
    enterprise.upgrade(Version::WITHOUT_INTEGRATIONS);
    running.is(&IntegrationState::Unsupported).await;
    enterprise.upgrade(Version::LATEST);
    assert_eq!(running.is_registered().await, uuid);
    running.ends().await;
}

#[tokio::test]
async fn a_forgotten_agent_registers_again_with_the_same_ids() {
    let enterprise = Enterprise::start().await.expect("started");
    let mut running = Scene::at(enterprise.url()).start();
    let uuid = running.is_registered().await;
    enterprise.reset_integrations();
    let is_other =
        |state: &IntegrationState| matches!(state, IntegrationState::Registered { uuid: now } if *now != uuid);
    running.state.wait_for(is_other).await.expect("it runs");
    running.ends().await;
    let ids = |registration: &Value| {
        (registration["registration_id"].clone(), registration["registration_instance_id"].clone())
    };
    for registration in registrations(&enterprise) {
        assert_eq!(ids(&registration), (json!("uid-1"), json!("agent")));
    }
    let probes = asked(&enterprise).into_iter().filter(|path| path == "/version").count();
    assert_eq!(probes, 1, "a reset is no other version");
}

#[tokio::test]
async fn a_failed_report_is_skipped_and_its_errors_are_told_until_one_is_accepted() {
    let enterprise = Enterprise::start().await.expect("started");
    enterprise.inject(Requests::to("*/health-report").first(2), Answer::status(503));
    let scene = Scene::at(enterprise.url());
    scene.journal.event("a tick without a report".to_owned());
    let mut running = scene.start();
    running.makes(5).await;
    running.ends().await;
    let told: Vec<Value> =
        health_reports(&enterprise).into_iter().map(|report| report["health_data"]["errors"].clone()).collect();
    let event = json!(["a tick without a report"]);
    assert_eq!(told[..4], [event.clone(), event.clone(), event, Value::Null]);
    assert_eq!(registrations(&enterprise).len(), 1);
}

/// Waits for what has no event of its own.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn without_the_right_to_register_nothing_but_that_is_asked_again() {
    let user = User::of("shop", "reporter", "foobar").with_role("admin", Role::ReportsOnly);
    let enterprise = EnterpriseOptions::default().account("shop").user(user).start().await.expect("started");
    let mut scene = Scene::at(enterprise.url());
    scene.credentials.user = TextSource::Inline("reporter".into());
    let running = scene.start();
    let counts = Arc::clone(&running.counts);
    until(|| counts.registration.refused() == 2).await;
    assert_eq!(*running.state.borrow(), IntegrationState::Registering);
    running.ends().await;
    assert_eq!(asked(&enterprise)[..3], ["/version", REGISTRATION, REGISTRATION]);
}

#[tokio::test]
async fn a_refused_password_is_tried_again_at_once_when_its_file_has_changed() {
    let enterprise = Enterprise::start().await.expect("started");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("password");
    std::fs::write(&path, "wrong").expect("written");
    let mut scene = Scene::at(enterprise.url());
    scene.credentials.password = TextSource::File(path.clone());
    scene.pace = Pace { slow_first: LONG, longest: LONG, ..FAST };
    let mut running = scene.start();
    let counts = Arc::clone(&running.counts);
    until(|| counts.registration.refused() == 1).await;
    std::fs::write(folder.path().join("new"), "foobar").expect("written");
    std::fs::rename(folder.path().join("new"), &path).expect("renamed");
    running.is_registered().await;
    assert_eq!(counts.registration.refused(), 1);
    running.ends().await;
}

#[tokio::test]
async fn credentials_that_cannot_be_read_are_read_again() {
    let enterprise = Enterprise::start().await.expect("started");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("password");
    let mut scene = Scene::at(enterprise.url());
    scene.credentials.password = TextSource::File(path.clone());
    let mut running = scene.start();
    running.is(&IntegrationState::Registering).await;
    std::fs::write(folder.path().join("new"), "foobar").expect("written");
    std::fs::rename(folder.path().join("new"), &path).expect("renamed");
    running.is_registered().await;
    running.ends().await;
}

#[tokio::test]
async fn nothing_is_sent_as_a_user_who_was_refused_for_a_report() {
    let enterprise = Enterprise::start().await.expect("started");
    let is_paused = Arc::new(AtomicBool::new(true));
    let (looks, mut looked) = mpsc::unbounded_channel();
    let mut scene = Scene::at(enterprise.url());
    let paused = Arc::clone(&is_paused);
    scene.paused = Box::new(move |sender| {
        let _ = looks.send(sender.user.clone());
        paused.load(Ordering::Relaxed).then(|| "the user admin was refused".to_owned())
    });
    let mut running = scene.start();
    for _ in 0..3 {
        assert_eq!(looked.recv().await.as_deref(), Some("admin"));
    }
    assert_eq!(asked(&enterprise), ["/version"]);
    is_paused.store(false, Ordering::Relaxed);
    running.is_registered().await;
    running.ends().await;
}

#[tokio::test]
async fn only_who_has_the_mandate_asks() {
    let enterprise = Enterprise::start().await.expect("started");
    let (terms, until) = watch::channel(None);
    let mut scene = Scene::at(enterprise.url());
    scene.mandate = Mandate::until(until);
    let mut running = scene.start();
    tokio::task::yield_now().await;
    assert_eq!(asked(&enterprise), [""; 0]);
    terms.send_replace(Some(Instant::now() + LONG));
    running.makes(2).await;
    terms.send_replace(None);
    // A report that was being sent is broken off, and no other is made.
    while running.reports.try_recv().is_ok() {}
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(running.reports.try_recv().is_err());
    terms.send_replace(Some(Instant::now() + LONG));
    running.makes(1).await;
    assert_eq!(registrations(&enterprise).len(), 1);
    running.ends().await;
}

/// A server with integrations that gives this answer to the first request to a path that ends like this.
async fn answering_once(path: &'static str, odd: String) -> Loopback {
    let is_first = Arc::new(AtomicBool::new(true));
    Loopback::answering(move |request| {
        if request.line.ends_with(path) && is_first.swap(false, Ordering::Relaxed) {
            return odd.clone();
        }
        good_answer(request)
    })
    .await
}

/// With a body of fields that have other types than the published ones, where they do not matter.
fn good_answer(request: &Received) -> String {
    let odd_fields = json!({
        "uuid": "u-1", "uptime": "1.5", "started_at": "2026-03-04 05:06:07", "accounts": null, "type": 7,
        "integration_status": "REGISTERED",
    });
    match request.line.as_str() {
        "GET /version" => response(200, r#"{"service": {"version": "5.11.0-rc1", "commit": 1}}"#),
        line if line.ends_with("/registration") => response(200, &odd_fields.to_string()),
        _ => response(201, ""),
    }
}

const OF_ROUTER: &str =
    r#"{"title": "Not Found", "detail": "The requested URL was not found on the server.", "status": 404}"#;
const OF_SERVICE: &str = r#"{"message": "no such thing", "httpcode": 404, "detail": {}}"#;

#[rstest]
#[case(200, "<html>")]
#[case(200, "")]
#[case(200, "[]")]
#[case(200, "{}")]
#[case(200, r#"{"service": {"version": "unknown"}}"#)]
#[case(200, r#"{"service": {"version": 5.23}}"#)]
#[case(200, r#"{"service": "5.23"}"#)]
#[case(302, "")]
#[case(401, "")]
#[case(404, "<html>")]
#[case(405, OF_ROUTER)]
#[case(503, "<html>")]
#[tokio::test]
async fn any_answer_about_the_version_is_survived(#[case] status: u16, #[case] body: &str) {
    let server = answering_once("/version", response(status, body)).await;
    let mut running = Scene::at(server.url.as_str()).start();
    assert_eq!(running.is_registered().await, "u-1");
    running.ends().await;
}

#[rstest]
#[case(201, "")]
#[case(201, "<html>")]
#[case(200, "[]")]
#[case(200, "{}")]
#[case(200, r#"{"uuid": null}"#)]
#[case(200, r#"{"uuid": 7}"#)]
#[case(200, r#"{"uuid": "../../kubernetes-inventory"}"#)]
#[case(301, "")]
#[case(400, OF_ROUTER)]
#[case(401, "Unauthorized")]
#[case(403, OF_SERVICE)]
#[case(404, OF_ROUTER)]
#[case(404, OF_SERVICE)]
#[case(404, r#"{"message": "User account not found. Name=admin"}"#)]
#[case(405, OF_ROUTER)]
#[case(409, r#"{"anything": ["at all"]}"#)]
#[case(500, "")]
#[case(502, "<html>")]
#[tokio::test]
async fn any_answer_to_a_registration_is_survived(#[case] status: u16, #[case] body: &str) {
    let server = answering_once("/registration", response(status, body)).await;
    let mut running = Scene::at(server.url.as_str()).start();
    assert_eq!(running.is_registered().await, "u-1");
    running.makes(2).await;
    running.ends().await;
}

#[rstest]
#[case(200, "<html>", 1)]
#[case(204, "", 1)]
#[case(201, "null", 1)]
#[case(302, "", 1)]
#[case(400, OF_ROUTER, 1)]
#[case(401, "Unauthorized", 1)]
#[case(403, OF_SERVICE, 1)]
#[case(404, OF_ROUTER, 2)]
#[case(404, OF_SERVICE, 2)]
#[case(404, "<html>", 2)]
#[case(405, OF_ROUTER, 2)]
#[case(409, "[]", 1)]
#[case(500, "", 1)]
#[tokio::test]
async fn any_answer_to_a_health_report_is_survived(
    #[case] status: u16,
    #[case] body: &str,
    #[case] registrations: usize,
) {
    let server = answering_once("/health-report", response(status, body)).await;
    let mut running = Scene::at(server.url.as_str()).start();
    running.makes(3).await;
    running.ends().await;
    let registered = server.lines().iter().filter(|line| line.ends_with("/registration")).count();
    assert_eq!(registered, registrations);
}

#[tokio::test]
async fn a_request_under_way_is_finished_when_the_agent_stops_and_no_other_begins() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let release = Arc::new(tokio::sync::Notify::new());
    let released = Arc::clone(&release);
    let server = Loopback::serving(move |mut stream| {
        let (arrived, released) = (arrived.clone(), Arc::clone(&released));
        async move {
            while let Some(request) = Received::read(&mut stream).await {
                let answer = good_answer(&request);
                if request.line.ends_with("/health-report") {
                    let _ = arrived.send(());
                    released.notified().await;
                }
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let running = Scene::at(server.url.as_str()).start();
    let counts = Arc::clone(&running.counts);
    arrivals.recv().await.expect("a health report");
    running.stop.cancel();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!running.task.is_finished());
    release.notify_one();
    running.ends().await;
    assert_eq!(counts.health.accepted(), 1);
    assert!(arrivals.try_recv().is_err(), "no other report was sent");
}

#[tokio::test]
async fn a_trouble_is_said_once_however_often_it_is_met() {
    let log = Log::default();
    let _logging = log.start();
    let refusals = Arc::new(AtomicUsize::new(0));
    let server = Loopback::answering(move |request| match request.line.as_str() {
        line if line.ends_with("/registration") && refusals.fetch_add(1, Ordering::Relaxed) < 3 => {
            response(403, r#"{"message": "Not authorized. Requires permissions: domain=admin action=x"}"#)
        }
        _ => good_answer(request),
    })
    .await;
    let mut running = Scene::at(server.url.as_str()).start();
    running.is_registered().await;
    assert_eq!(running.counts.registration.refused(), 3);
    running.ends().await;
    let [alarm] = log.alarms().try_into().expect("one");
    assert!(alarm.contains("ERROR") && alarm.contains("registerIntegration"), "{alarm}");
    assert!(!alarm.contains("foobar"), "{alarm}");
}
