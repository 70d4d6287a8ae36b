//! Ends without warning, at any moment.

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use testbed::cluster::pod::Pod;
use testbed::objects::Kind;
use testbed::server::fault::{Answer, Requests};

use super::{Stage, V2, assert_in_order};
use crate::agent::HARD_LIMIT;

const LIVES: u32 = 50;

/// In one of so many lives no report is accepted, so that some wait when it ends.
const REFUSED_EACH: u32 = 5;

/// A life ends after so many requests at the most: by then it has read the cluster and sent some reports.
const MOST_REQUESTS: usize = 12;

/// Then it goes on for so many turns of the test's own loop at the most.
const MOST_TURNS: u32 = 5_000;

#[tokio::test]
async fn f29_fifty_agents_that_are_killed_at_random_lose_nothing_and_send_nothing_twice_in_another_order() {
    let stage = Stage::new().await;
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut waiting = Vec::new();
    for life in 0..LIVES {
        let name = format!("job-{life}");
        stage.api.apply_pod("shop", &Pod::running(&name).image("job:1"));
        let is_refused = life % REFUSED_EACH == 0;
        if is_refused {
            stage.enterprise.inject(Requests::to(V2), Answer::status(503));
        }
        let resident = stage.start();
        let requests = || stage.api.requests().len() + stage.enterprise.requests().len();
        let end = requests() + random.next_u32() as usize % MOST_REQUESTS;
        let turns = random.next_u32() % MOST_TURNS;
        let life_ends = async {
            if is_refused {
                resident.logged("report not accepted yet").await;
            }
            while requests() < end {
                tokio::task::yield_now().await;
            }
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(HARD_LIMIT, life_ends).await.expect("an agent sends requests");
        let killed = resident.kill().await;
        assert_eq!(killed.signal, Some(9), "{}", killed.log);
        assert!(!killed.log.contains("put aside"), "{}", killed.log);
        // All that is on the disk now has to be accepted at last.
        waiting.extend(stage.spooled().into_iter().map(|path| std::fs::read(path).expect("read")));
        stage.api.delete(Kind::Pods, "shop", &name).expect("there");
        stage.enterprise.clear_faults();
    }

    let resident = stage.start();
    resident.logged("reports made").await;
    stage.accepted_more(1).await;
    resident.measures("spool_sets", |sets| sets < 0.5).await;

    assert!(!resident.log().contains("ERROR"), "{}", resident.log());
    assert_in_order(&stage.enterprise);
    let requests = stage.enterprise.requests();
    let accepted: Vec<_> =
        stage.enterprise.accepted().iter().filter_map(|report| requests[report.request].body.clone()).collect();
    assert!(!waiting.is_empty(), "some reports waited when their agent ended");
    for file in &waiting {
        let is_accepted = accepted.iter().any(|body| file.windows(body.len()).any(|part| part == &body[..]));
        assert!(is_accepted, "lost: {}", String::from_utf8_lossy(file));
    }
}
