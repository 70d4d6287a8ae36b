//! The conservation run: the built program, for minutes or hours, between a cluster that never stands still and an
//! Anchore Enterprise, with all that can go wrong on both sides.
//!
//! `population` changes the cluster and writes into the `ledger` what runs. `cluster_faults`, `enterprise_faults` and
//! `agent` disturb, and write into the `chronicle` what that excuses. `deliveries` reads what was reported. At the end,
//! when nothing is wrong any more and all is delivered, `oracle` compares: what ran and was not reported, what was
//! reported and did not run, and reports that are older or smaller than they should be.
//!
//! ```text
//! cargo test --test soak                ten seconds
//! make soak                             ten minutes
//! make soak MINUTES=120 SEED=7          two hours, with decisions as in another run of this seed
//! ```
//!
//! The driver keeps its pace by the clock; what is asserted never depends on it.

#![cfg(test)]

mod agent;
mod chronicle;
mod cluster_faults;
mod deliveries;
mod enterprise_faults;
mod ledger;
mod oracle;
mod population;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use testbed::anchore::inventory::Ingest;
use testbed::anchore::{Enterprise, EnterpriseOptions};
use testbed::cluster::Cluster;
use testbed::fleet::random::Random;
use testbed::kubernetes::access::User;
use testbed::kubernetes::{KubernetesApi, KubernetesOptions, KubernetesVersion};
use tokio_util::sync::CancellationToken;

use agent::Agent;
use chronicle::{Chronicle, Effect, LAG};
use cluster_faults::ClusterFaults;
use deliveries::Deliveries;
use enterprise_faults::{EnterpriseFaults, USER};
use ledger::{ACCOUNTS, Ledger, ROUTES};
use oracle::{Evidence, judge_memory};
use population::Population;

/// What a run takes where nobody says how long.
const MOMENT: Duration = Duration::from_secs(10);

/// How long it may take until all is delivered once nothing is wrong: several of the agent's longest waits.
const QUIET: Duration = Duration::from_mins(4);

/// A pause of the driver that is longer than this was one of the whole machine.
const STALL: Duration = Duration::from_millis(500);

/// Most findings that are printed.
const MOST_TOLD: usize = 12;

type Shared<T> = Arc<Mutex<T>>;

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often things go wrong, and for how long.
#[derive(Debug, Clone, Copy)]
struct Pace {
    longest_pause: Duration,
    longest_outage: Duration,
    longest_life: Duration,
    /// The agent is not killed after so much of the run, so that one process becomes old; `None`: never.
    kills_until: Option<Duration>,
}

impl Pace {
    fn of(time: Duration) -> Self {
        let is_long = time > Duration::from_mins(1);
        Self {
            longest_pause: Duration::from_secs(if is_long { 8 } else { 2 }),
            longest_outage: Duration::from_secs(if is_long { 10 } else { 2 }),
            longest_life: Duration::from_secs(if is_long { 60 } else { 6 }),
            kills_until: Some(time.mul_f64(if is_long { 0.4 } else { 0.8 })),
        }
    }

    async fn pause(self, random: &mut Random) {
        tokio::time::sleep(part(self.longest_pause, random)).await;
    }

    /// Waits for as long as something goes wrong: seldom for the longest time.
    async fn outage(self, random: &mut Random) {
        let longest = part(self.longest_outage, random);
        tokio::time::sleep(part(longest, random)).await;
    }

    fn kill_after(self, random: &mut Random) -> Duration {
        Duration::from_secs(2) + part(self.longest_life, random)
    }
}

fn part(time: Duration, random: &mut Random) -> Duration {
    time * u32::try_from(random.below(1001)).unwrap_or_default() / 1000
}

/// One run.
struct Soak {
    seed: u64,
    time: Duration,
    interval: u64,
    is_batched: bool,
    api: Arc<KubernetesApi>,
    enterprise: Arc<Enterprise>,
    ledger: Shared<Ledger>,
    chronicle: Shared<Chronicle>,
    deliveries: Shared<Deliveries>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_ran_is_reported_and_nothing_else() {
    let minutes = std::env::var("SOAK_MINUTES").ok().filter(|minutes| !minutes.is_empty());
    let minutes = minutes.map(|minutes| minutes.parse::<f64>().expect("SOAK_MINUTES is a number"));
    let time = minutes.map_or(MOMENT, |minutes| Duration::from_secs_f64(minutes * 60.0));
    let seed = std::env::var("SOAK_SEED").ok().filter(|seed| !seed.is_empty());
    let seed = seed.map(|seed| seed.parse().expect("SOAK_SEED is a number"));
    let seed = seed.unwrap_or_else(|| u64::try_from(Timestamp::now().as_millisecond()).expect("after 1970"));
    println!("soak: {} s, SEED={seed}", time.as_secs());
    let findings = Soak::prepare(seed, time).await.run().await;
    if !findings.is_empty() {
        let told: Vec<&str> = findings.iter().take(MOST_TOLD).map(String::as_str).collect();
        panic!("SEED={seed}: {} findings, the first of them:\n\n{}\n", findings.len(), told.join("\n\n"));
    }
}

impl Soak {
    async fn prepare(seed: u64, time: Duration) -> Self {
        let mut random = Random::new(seed, "soak", 0);
        let version = if random.per_mille(700) { KubernetesVersion::LATEST } else { KubernetesVersion::minor(33) };
        let nodes = Cluster::new().node("n1").node("n2").node("n3");
        let options = KubernetesOptions::default().cluster(&nodes).version(version);
        let api = options.bookmark_interval(Duration::from_secs(2)).start().await.expect("started");
        let enterprise = ACCOUNTS.iter().fold(EnterpriseOptions::default(), |options, name| options.account(name));
        let enterprise = enterprise.ingest(Ingest::Overwrite).start().await.expect("started");
        Self {
            seed,
            time,
            interval: 1 + u64::from(time > MOMENT && random.per_mille(500)),
            is_batched: random.per_mille(300),
            api: Arc::new(api),
            enterprise: Arc::new(enterprise),
            ledger: Shared::default(),
            chronicle: Shared::default(),
            deliveries: Shared::default(),
        }
    }

    fn settings(&self) -> Value {
        let routes = ACCOUNTS.iter().filter_map(|account| {
            let prefixes = ROUTES.iter().filter(|(_, accounts)| accounts.contains(account));
            let patterns: Vec<String> = prefixes.map(|(prefix, _)| format!("^{prefix}")).collect();
            (!patterns.is_empty()).then(|| ((*account).to_owned(), json!({"namespaces": patterns})))
        });
        json!({
            "mode": "periodic",
            "polling-interval-seconds": self.interval,
            "health-report-interval-seconds": 30,
            "kubeconfig": {"path": "kubeconfig"},
            "kubernetes": {"request-batch-size": 20},
            "state": {"directory": "state"},
            "log": {"file": "agent.log", "level": "debug"},
            "quiet": true,
            "account-routes": routes.collect::<serde_json::Map<_, _>>(),
            "inventory-report-limits": {"namespaces": if self.is_batched { 2 } else { 0 }},
            "anchore": {
                "url": self.enterprise.url(),
                "user": USER,
                "password-file": "password",
                "http": {"timeout-seconds": 2},
            },
        })
    }

    /// Runs, and gives what was found to be wrong.
    async fn run(self) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("kubeconfig"), self.api.kubeconfig(&User::named("somebody")))
            .expect("written");
        let password_file = folder.path().join("password");
        std::fs::write(&password_file, "foobar").expect("written");
        let population = Population::new(self.api.clone(), self.ledger.clone(), self.seed);
        let mut agent = Agent::start(folder, &self.settings());

        let is_over = CancellationToken::new();
        let collecting = tokio::spawn(deliveries::collect(
            self.enterprise.clone(),
            self.ledger.clone(),
            self.deliveries.clone(),
            is_over.clone(),
        ));
        let stalls = tokio::spawn(note_stalls(self.chronicle.clone(), is_over.clone()));
        let mut findings = Vec::new();
        findings.extend(self.disturb(&mut agent, population, &password_file).await.err());
        if findings.is_empty() {
            findings.extend(self.all_delivered(&mut agent).await.err());
        }
        findings.extend(agent.stop().await.err());
        is_over.cancel();
        collecting.await.expect("collected");
        stalls.await.expect("noted");
        findings.extend(self.judge(&agent));
        if !findings.is_empty() {
            println!("the agent's log and spool are kept in {}", agent.keep_folder().display());
        }
        findings
    }

    /// Changes and disturbs everything for the time of the run.
    async fn disturb(&self, agent: &mut Agent, population: Population, password_file: &Path) -> Result<(), String> {
        let pace = Pace::of(self.time);
        let stop = CancellationToken::new();
        let cluster = ClusterFaults::new(self.api.clone(), self.chronicle.clone(), self.seed, pace);
        let enterprise = EnterpriseFaults::new(
            self.enterprise.clone(),
            self.chronicle.clone(),
            (self.seed, pace),
            password_file.to_owned(),
        );
        cluster_faults::watched(&self.api).await;
        let ends = async {
            tokio::time::sleep(self.time).await;
            stop.cancel();
            Ok(())
        };
        let lives = async {
            population.live(stop.clone()).await;
            Ok(())
        };
        let enterprise_fails = async {
            enterprise.run(stop.clone()).await;
            Ok(())
        };
        let killed = agent.run(self.api.clone(), self.chronicle.clone(), (self.seed, pace), stop.clone());
        let done = tokio::try_join!(ends, lives, enterprise_fails, cluster.run(stop.clone()), killed);
        self.api.clear_faults();
        self.enterprise.clear_faults();
        done.map(|_| ())
    }

    /// Waits until each account has accepted a report of the time after the last change.
    async fn all_delivered(&self, agent: &mut Agent) -> Result<(), String> {
        let from = lock(&self.chronicle).heard_by(Timestamp::now()) + SignedDuration::from_secs(1);
        let missing = || ACCOUNTS.into_iter().filter(|account| lock(&self.deliveries).newest(account) < Some(from));
        let delivered = async {
            while missing().next().is_some() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(QUIET, delivered).await.is_err() {
            let accounts: Vec<_> = missing().map(|account| (account, lock(&self.deliveries).newest(account))).collect();
            return Err(format!(
                "nothing is wrong any more since {QUIET:?}, and no new reports of {accounts:?} arrive"
            ));
        }
        agent.is_alive()
    }

    fn judge(&self, agent: &Agent) -> Vec<String> {
        let (ledger, chronicle, deliveries) = (lock(&self.ledger), lock(&self.chronicle), lock(&self.deliveries));
        let evidence =
            Evidence { ledger: &ledger, chronicle: &chronicle, deliveries: &deliveries, is_batched: self.is_batched };
        let (tally, mut findings) = evidence.judge();
        let dangling: usize = self.enterprise.accepted().iter().map(|report| report.dangling).sum();
        if dangling > 0 {
            findings.push(format!("{dangling} pods and containers name a parent that is not in their report"));
        }
        let (memory, grows) = judge_memory(agent.memory());
        findings.extend(grows);
        let (windows, kills) = (chronicle.windows.len(), chronicle.downtimes.len());
        println!("soak: {tally:?}; {windows} disturbances of the API server, {kills} kills; memory {memory}");
        findings
    }
}

/// Notes when the whole machine stood still, which delays news as well.
async fn note_stalls(chronicle: Shared<Chronicle>, stop: CancellationToken) {
    loop {
        let from = Timestamp::now();
        if stop.run_until_cancelled(tokio::time::sleep(Duration::from_millis(50))).await.is_none() {
            return;
        }
        let paused = Timestamp::now().duration_since(from);
        if paused > SignedDuration::try_from(STALL).expect("short") {
            lock(&chronicle).window(from, Effect::Delays, format!("the machine stood still, lag {LAG:?}"));
        }
    }
}
