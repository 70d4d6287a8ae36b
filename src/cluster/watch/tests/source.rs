//! What a source is confirmed by, and how it is asked for a list.

use std::time::Duration;

use pretty_assertions::assert_eq;
use tokio::time::{Instant, advance, timeout};

use crate::cluster::request::RequestError;
use crate::cluster::watch::sources::{Source, SourceKind, SourceState};

const SILENCE: Duration = Duration::from_secs(90);

fn source() -> Source {
    Source::new(SourceKind::Pods, None, SILENCE)
}

fn listed() -> Source {
    let source = source();
    source.listed(Instant::now());
    source
}

async fn seconds(count: u64) {
    advance(Duration::from_secs(count)).await;
}

/// How many seconds ago the state was confirmed.
fn age(source: &Source) -> u64 {
    source.status().confirmed.expect("it was complete").elapsed().as_secs()
}

fn cut_off() -> RequestError {
    RequestError::CutOff("the connection broke".to_owned())
}

fn forbidden() -> RequestError {
    RequestError::Forbidden("no".to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_source_that_was_never_complete_is_never_confirmed() {
    let source = source();
    assert_eq!(source.status().state, SourceState::Syncing(None));
    source.failed(&forbidden());
    source.opened();
    source.heard();
    assert_eq!(source.status().confirmed, None);
    assert_eq!(source.status().state, SourceState::Syncing(Some("not allowed (403): no".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_heard_confirms_now_and_a_silent_one_nothing() {
    let source = listed();
    source.opened();
    seconds(5).await;
    source.heard();
    seconds(89).await;
    assert_eq!(age(&source), 0);
    seconds(2).await;
    assert_eq!(age(&source), 91);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_ended_confirms_until_its_last_byte() {
    let source = listed();
    source.opened();
    seconds(30).await;
    source.heard();
    seconds(7).await;
    source.closed();
    assert_eq!(age(&source), 7);
    assert!(!source.status().is_watched);
}

#[tokio::test(start_paused = true)]
async fn a_list_confirms_from_when_it_began() {
    let source = source();
    let began = Instant::now();
    seconds(40).await;
    source.listed(began);
    assert_eq!(age(&source), 40);
}

#[tokio::test(start_paused = true)]
async fn what_lies_between_two_watches_is_not_confirmed_before_it_could_come() {
    let source = listed();
    seconds(600).await;
    source.opened();
    assert_eq!(age(&source), 600, "the first bytes may say that all of it is lost");
    source.closed();
    assert_eq!(age(&source), 600, "and did");
    source.opened();
    seconds(1).await;
    assert_eq!(age(&source), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_stale_and_a_refusal_blind_since_the_first_of_them() {
    let source = listed();
    source.failed(&cut_off());
    let SourceState::Stale { since, .. } = source.status().state else { panic!("it is stale") };
    source.failed(&forbidden());
    let SourceState::Blind { since: blind_since, reason } = source.status().state else { panic!("it is blind") };
    assert_eq!((blind_since, reason.as_str()), (since, "not allowed (403): no"));
    source.opened();
    assert_eq!(source.status().state, SourceState::Synced);
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_a_list_waits_until_one_was_tried_that_began_later() {
    let source = listed();
    assert!(source.goes_on_demand());
    assert!(!source.goes_on_demand(), "it is said once");
    let serve = async {
        let demand = source.demanded().await;
        seconds(3).await;
        source.served(demand);
    };
    let began = Instant::now();
    tokio::join!(source.refresh(), source.refresh(), async {
        serve.await;
        // One list serves all who had asked when it began.
        assert!(timeout(Duration::from_secs(1), source.demanded()).await.is_err());
    });
    assert_eq!(began.elapsed().as_secs(), 4);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_list_that_will_not_come() {
    let source = listed();
    source.refresh().await;

    source.goes_on_demand();
    let fails = async {
        source.demanded().await;
        source.failed(&forbidden());
    };
    tokio::join!(source.refresh(), fails);

    source.goes_on_demand();
    let opens = async {
        source.demanded().await;
        source.opened();
    };
    tokio::join!(source.refresh(), opens);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_first_state_is_woken() {
    let source = source();
    let fails = async { source.failed(&forbidden()) };
    tokio::join!(source.tried(), fails);
    assert!(!source.is_complete());
    let lists = async { source.listed(Instant::now()) };
    tokio::join!(source.complete(), lists);
}
