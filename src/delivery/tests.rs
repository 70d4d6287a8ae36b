//! Runs of adhoc delivery against a server on loopback. Time is paused where a test waits for a retry: the clock jumps
//! to the next attempt as soon as nothing else is to be done.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pretty_assertions::assert_eq;
use rstest::rstest;
use secrecy::SecretString;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::adhoc::AdhocDelivery;
use super::outcome::{AccountOutcome, BatchOutcome, Fate};
use super::recipient::Recipients;
use super::{AccountReports, Batch};
use crate::anchore::loopback::{Loopback, Received, report, response, response_with, settings};
use crate::config::routes::{AccountRoute, RoutingConfig};
use crate::config::secret::{Credentials, TextSource};

const MINUTE: Duration = Duration::from_mins(1);

/// A run that is about to start: global user `inventory`, default account `admin`, one minute of retries.
struct Run {
    retry: Duration,
    global: Option<Credentials>,
    routes: Vec<AccountRoute>,
    stop: CancellationToken,
}

impl Run {
    fn new() -> Self {
        Self { retry: MINUTE, global: Some(user("inventory")), routes: Vec::new(), stop: CancellationToken::new() }
    }

    fn retrying_for(self, retry: Duration) -> Self {
        Self { retry, ..self }
    }

    fn with_credentials(self, credentials: Credentials) -> Self {
        Self { global: Some(credentials), ..self }
    }

    fn with_route(mut self, account: &str, credentials: Credentials) -> Self {
        self.routes.push(AccountRoute {
            account: account.to_owned(),
            credentials: Some(credentials),
            namespaces: Vec::new(),
        });
        self
    }

    async fn deliver(self, server: &Loopback, accounts: Vec<AccountReports>) -> Vec<AccountOutcome> {
        let mut anchore = settings(&server.url);
        anchore.credentials = self.global;
        let routing = RoutingConfig { routes: self.routes, by_label: None, default_account: "admin".to_owned() };
        let recipients = Recipients::new(&anchore, &routing);
        AdhocDelivery::new(server.client(), recipients, self.retry, self.stop).deliver(accounts).await
    }
}

fn user(name: &str) -> Credentials {
    let text = |text: &str| TextSource::Inline(SecretString::from(text));
    Credentials { user: text(name), password: text("pw") }
}

/// That many reports for an account; the body of each tells account and number.
fn reports(account: &str, count: usize) -> AccountReports {
    let batch = |number| Batch { payload: report(json!(format!("{account} {number}"))), namespaces: number };
    AccountReports { account: account.to_owned(), batches: (1..=count).map(batch).collect() }
}

fn outcome(account: &str, fates: Vec<Fate>) -> AccountOutcome {
    let batches = fates.into_iter().zip(1..).map(|(fate, number)| BatchOutcome {
        namespaces: number,
        byte_len: format!("\"{account} {number}\"").len().try_into().unwrap(),
        fate,
    });
    AccountOutcome { account: account.to_owned(), batches: batches.collect() }
}

fn accepted(account: &str, user: &str) -> Fate {
    Fate::Accepted { account: account.to_owned(), user: user.to_owned(), reroute: None }
}

/// What arrived, in order: the account of the header and the body.
fn arrived(server: &Loopback) -> Vec<(String, String)> {
    let account_and_body =
        |request: Received| (request.header("x-anchore-account").to_owned(), request.body.trim_matches('"').to_owned());
    server.received().into_iter().map(account_and_body).collect()
}

fn pairs<const N: usize>(expected: [(&str, &str); N]) -> Vec<(String, String)> {
    expected.map(|(account, body)| (account.to_owned(), body.to_owned())).into()
}

fn failure(fate: &Fate) -> &str {
    match fate {
        Fate::Failed(reason) => reason,
        other => panic!("not failed: {other:?}"),
    }
}

fn unknown_account(name: &str) -> String {
    response(404, &json!({"message": format!("User account not found. Name={name}"), "httpcode": 404}).to_string())
}

/// Answers with each of these in turn, then with the last for ever.
fn in_turn<const N: usize>(responses: [String; N]) -> impl Fn(&Received) -> String + Clone + Send + Sync + 'static {
    let next = Arc::new(AtomicUsize::new(0));
    move |_| responses[next.fetch_add(1, Ordering::Relaxed).min(N - 1)].clone()
}

#[tokio::test]
async fn batches_of_an_account_arrive_in_order_and_the_outcomes_in_the_order_given() {
    let server = Loopback::answering(|_| response(201, "")).await;
    let run = Run::new().with_route("team-b", user("b"));

    let outcomes = run.deliver(&server, vec![reports("team-b", 2), reports("team-a", 3)]).await;

    let expected = [
        outcome("team-b", vec![accepted("team-b", "b"); 2]),
        outcome("team-a", vec![accepted("team-a", "inventory"); 3]),
    ];
    assert_eq!(outcomes, expected);
    assert!(outcomes.iter().all(AccountOutcome::is_accepted));
    let (of_a, of_b): (Vec<_>, Vec<_>) = arrived(&server).into_iter().partition(|(account, _)| account == "team-a");
    assert_eq!(of_a, pairs([("team-a", "team-a 1"), ("team-a", "team-a 2"), ("team-a", "team-a 3")]));
    assert_eq!(of_b, pairs([("team-b", "team-b 1"), ("team-b", "team-b 2")]));
}

// === Retry ===

#[tokio::test(start_paused = true)]
async fn a_report_is_sent_again_until_the_server_is_well() {
    let server = Loopback::answering(in_turn([response(503, ""), response(500, ""), response(201, "")])).await;

    let outcomes = Run::new().deliver(&server, vec![reports("team-a", 1)]).await;

    assert_eq!(outcomes, [outcome("team-a", vec![accepted("team-a", "inventory")])]);
    assert_eq!(arrived(&server), pairs([("team-a", "team-a 1"); 3]));
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_comes_at_the_end_of_the_time_for_retries() {
    let server = Loopback::answering(|_| response(503, "maintenance")).await;
    let start = tokio::time::Instant::now();

    let outcomes = Run::new().deliver(&server, vec![reports("team-a", 1)]).await;

    assert!(failure(&outcomes[0].batches[0].fate).contains("answered 503 Service Unavailable (maintenance)"));
    assert_eq!(start.elapsed().as_secs(), 60);
}

#[tokio::test]
async fn without_time_for_retries_each_batch_gets_one_attempt() {
    let server = Loopback::answering(in_turn([response(503, ""), response(201, "")])).await;

    let outcomes = Run::new().retrying_for(Duration::ZERO).deliver(&server, vec![reports("team-a", 3)]).await;

    failure(&outcomes[0].batches[0].fate);
    assert!(!outcomes[0].is_accepted());
    assert_eq!(outcomes[0].batches[2].fate, accepted("team-a", "inventory"));
    assert_eq!(arrived(&server).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_the_server_asks_for_is_waited() {
    let asking = response_with(429, "Retry-After: 40\r\n", "");
    let server = Loopback::answering(in_turn([asking, response(201, "")])).await;
    let start = tokio::time::Instant::now();

    let outcomes = Run::new().deliver(&server, vec![reports("team-a", 1)]).await;

    assert!(outcomes[0].is_accepted());
    assert_eq!(start.elapsed().as_secs(), 40);
}

#[rstest]
#[case(90)]
// Longer than any wait of the agent; what is said is what the server said.
#[case(7_200)]
#[tokio::test(start_paused = true)]
async fn a_wait_beyond_the_time_for_retries_ends_at_once_with_that_reason(#[case] seconds: u64) {
    let server = Loopback::answering(move |_| response_with(503, &format!("Retry-After: {seconds}\r\n"), "")).await;
    let start = tokio::time::Instant::now();

    let outcomes = Run::new().deliver(&server, vec![reports("team-a", 1)]).await;

    let reason = failure(&outcomes[0].batches[0].fate);
    let end = format!("asks to wait {seconds} s, which is longer than anchore.http.retry-seconds allows");
    assert!(reason.ends_with(&end), "{reason}");
    assert_eq!(start.elapsed().as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_account_in_trouble_does_not_delay_the_others() {
    let server = Loopback::answering(|request| match request.header("x-anchore-account") {
        account if account.starts_with("bad") => response(503, ""),
        _ => response(201, ""),
    })
    .await;
    let bad = (1..=9).map(|number| reports(&format!("bad-{number}"), 1));

    let outcomes = Run::new().deliver(&server, bad.chain([reports("good", 1)]).collect()).await;

    assert_eq!(outcomes[9], outcome("good", vec![accepted("good", "inventory")]));
    assert_eq!(arrived(&server).iter().position(|(account, _)| account == "good"), Some(9));
}

// === Reject and hold ===

#[rstest]
#[case(400)]
#[case(413)]
#[case(415)]
#[case(422)]
#[tokio::test]
async fn a_rejected_batch_does_not_stop_the_next(#[case] status: u16) {
    let server = Loopback::answering(in_turn([response(status, "no"), response(201, "")])).await;

    let outcomes = Run::new().deliver(&server, vec![reports("team-a", 2)]).await;

    assert!(failure(&outcomes[0].batches[0].fate).contains("(no)"));
    assert_eq!(outcomes[0].batches[1].fate, accepted("team-a", "inventory"));
}

#[rstest]
#[case(response(403, r#"{"message": "Not authorized. Account team-a not enabled."}"#))]
#[case(response(405, ""))]
#[case(response_with(302, "Location: https://sso.example/\r\n", ""))]
#[case(response(200, "<html>Sign in</html>"))]
#[tokio::test]
async fn an_answer_that_would_come_again_holds_the_rest_of_the_account(#[case] held: String) {
    let server = Loopback::answering(move |request| match request.header("x-anchore-account") {
        "team-a" => held.clone(),
        _ => response(201, ""),
    })
    .await;

    let outcomes = Run::new().deliver(&server, vec![reports("team-a", 3), reports("team-b", 1)]).await;

    let reason = failure(&outcomes[0].batches[0].fate).to_owned();
    let fates = vec![Fate::Failed(reason.clone()), Fate::NotSent(reason.clone()), Fate::NotSent(reason)];
    assert_eq!(outcomes, [outcome("team-a", fates), outcome("team-b", vec![accepted("team-b", "inventory")])]);
    assert_eq!(arrived(&server).iter().filter(|(account, _)| account == "team-a").count(), 1);
}

// === Accounts unknown to the server ===

#[tokio::test]
async fn reports_of_an_unknown_account_go_to_the_default_account() {
    let server = Loopback::answering(|request| match request.header("x-anchore-account") {
        "admin" => response(201, ""),
        account => unknown_account(account),
    })
    .await;
    let run = Run::new().with_route("admin", user("boss"));

    let outcomes = run.deliver(&server, vec![reports("team-a", 2)]).await;

    assert_eq!(arrived(&server), pairs([("team-a", "team-a 1"), ("admin", "team-a 1"), ("admin", "team-a 2")]));
    assert!(outcomes[0].is_accepted());
    for batch in &outcomes[0].batches {
        let Fate::Accepted { account, user, reroute: Some(reason) } = &batch.fate else { panic!("{batch:?}") };
        assert_eq!((account.as_str(), user.as_str()), ("admin", "boss"));
        assert!(reason.contains("User account not found. Name=team-a"), "{reason}");
    }
}

#[tokio::test]
async fn a_missing_right_in_the_account_counts_as_an_unknown_account() {
    let server = Loopback::answering(|request| match request.header("x-anchore-account") {
        "admin" => response(201, ""),
        account => response(
            403,
            &json!({"message": format!("Not authorized. Requires permissions: domain={account} action=syncInventory")})
                .to_string(),
        ),
    })
    .await;

    let outcomes = Run::new().deliver(&server, vec![reports("team-a", 1)]).await;

    assert!(outcomes[0].is_accepted());
    assert_eq!(arrived(&server), pairs([("team-a", "team-a 1"), ("admin", "team-a 1")]));
}

#[tokio::test]
async fn an_unknown_default_account_is_not_asked_twice() {
    let server = Loopback::answering(|request| unknown_account(request.header("x-anchore-account"))).await;

    let outcomes = Run::new().deliver(&server, vec![reports("admin", 1), reports("team-a", 2)]).await;

    assert!(failure(&outcomes[0].batches[0].fate).contains("Name=admin"));
    let reason = failure(&outcomes[1].batches[0].fate);
    assert!(reason.contains("Name=admin") && reason.contains("Name=team-a"), "{reason}");
    assert!(matches!(outcomes[1].batches[1].fate, Fate::NotSent(_)));
    let mut asked = arrived(&server);
    asked.sort();
    assert_eq!(asked, pairs([("admin", "admin 1"), ("admin", "team-a 1"), ("team-a", "team-a 1")]));
}

// === Credentials ===

#[tokio::test]
async fn a_refused_password_is_tried_once_for_all_accounts_of_the_user() {
    let server = Loopback::answering(|request| match request.header("authorization") {
        "Basic aW52ZW50b3J5OnB3" => response(401, "Unauthorized"),
        _ => response(201, ""),
    })
    .await;
    let run = Run::new().with_route("team-c", user("c"));

    let accounts = vec![reports("team-a", 2), reports("team-b", 1), reports("team-c", 1)];
    let outcomes = run.deliver(&server, accounts).await;

    assert!(failure(&outcomes[0].batches[0].fate).contains("answered 401 Unauthorized (Unauthorized)"));
    assert!(matches!(outcomes[0].batches[1].fate, Fate::NotSent(_)));
    let reason = failure(&outcomes[1].batches[0].fate);
    assert!(reason.starts_with("not sent, because the user inventory was refused before: "), "{reason}");
    assert_eq!(outcomes[2], outcome("team-c", vec![accepted("team-c", "c")]));
    assert_eq!(server.received().len(), 2);
}

#[tokio::test]
async fn a_password_that_changed_in_its_file_is_tried_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    fs::write(&path, "old\n").unwrap();
    let file = path.clone();
    let server = Loopback::answering(move |request| {
        if request.header("authorization") == "Basic aW52ZW50b3J5Om5ldw==" {
            return response(201, "");
        }
        fs::write(&file, "new\n").unwrap();
        response(401, "")
    })
    .await;
    let run = Run::new().with_credentials(Credentials { password: TextSource::File(path), ..user("inventory") });

    let outcomes = run.deliver(&server, vec![reports("team-a", 1), reports("team-b", 1)]).await;

    assert!(outcomes.iter().all(AccountOutcome::is_accepted), "{outcomes:?}");
    assert_eq!(server.received().len(), 3);
}

#[tokio::test]
async fn a_missing_password_file_stops_the_account_before_anything_is_sent() {
    let server = Loopback::answering(|_| response(201, "")).await;
    let nowhere = Credentials { password: TextSource::File("/nowhere/password".into()), ..user("a") };
    let run = Run::new().with_route("team-a", nowhere);

    let outcomes = run.deliver(&server, vec![reports("team-a", 2), reports("team-b", 1)]).await;

    let reason = failure(&outcomes[0].batches[0].fate);
    assert!(reason.starts_with("the password for the account team-a is in /nowhere/password, which cannot be read"));
    assert_eq!(arrived(&server), pairs([("team-b", "team-b 1")]));
}

// === Stopping ===

#[tokio::test]
async fn nothing_is_sent_after_the_agent_was_told_to_stop() {
    let server = Loopback::answering(|_| response(201, "")).await;
    let run = Run::new();
    run.stop.cancel();

    let outcomes = run.deliver(&server, vec![reports("team-a", 2)]).await;

    let reason = "not sent, because the agent was told to stop".to_owned();
    assert_eq!(outcomes, [outcome("team-a", vec![Fate::Failed(reason.clone()), Fate::NotSent(reason)])]);
    assert_eq!(server.received(), []);
}

#[tokio::test]
async fn the_request_in_flight_may_finish_and_no_other_starts() {
    let run = Run::new();
    let stop = run.stop.clone();
    let server = Loopback::answering(move |_| {
        stop.cancel();
        response(201, "")
    })
    .await;

    let outcomes = run.deliver(&server, vec![reports("team-a", 2)]).await;

    assert_eq!(outcomes[0].batches[0].fate, accepted("team-a", "inventory"));
    assert_eq!(failure(&outcomes[0].batches[1].fate), "not sent, because the agent was told to stop");
    assert_eq!(server.received().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_finish_is_given_up_and_said_to_be_open() {
    let run = Run::new();
    let stop = run.stop.clone();
    let server = Loopback::serving(move |mut stream| {
        let stop = stop.clone();
        async move {
            let _request = Received::read(&mut stream).await;
            stop.cancel();
            std::future::pending::<()>().await;
        }
    })
    .await;
    let start = tokio::time::Instant::now();

    let outcomes = run.deliver(&server, vec![reports("team-a", 1)]).await;

    let reason = failure(&outcomes[0].batches[0].fate);
    assert_eq!(reason, "no answer within 20 s after the agent was told to stop; it may have been accepted");
    assert_eq!(start.elapsed().as_secs(), 20);
}

#[tokio::test]
async fn a_wait_for_the_next_attempt_ends_when_the_agent_is_told_to_stop() {
    let run = Run::new();
    let stop = run.stop.clone();
    let server = Loopback::answering(move |_| {
        stop.cancel();
        response_with(503, "Retry-After: 50\r\n", "")
    })
    .await;

    let outcomes = run.deliver(&server, vec![reports("team-a", 1)]).await;

    let reason = failure(&outcomes[0].batches[0].fate);
    assert!(reason.ends_with("not sent again, because the agent was told to stop"), "{reason}");
}
