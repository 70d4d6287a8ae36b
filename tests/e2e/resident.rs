//! The resident agent while it runs, and what it sends.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use testbed::anchore::Enterprise;
use tokio::process::{Child, Command};

use crate::access::WATCH_EVERYTHING;
use crate::agent::Agent;
use crate::cluster::Cluster;
use crate::expected::State;
use crate::server::TokenUser;

/// Longest wait for something that takes seconds on an idle machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// An agent that runs until it is told to stop, or dropped.
pub(crate) struct Resident {
    name: String,
    child: Child,
    log: PathBuf,
}

/// What an account accepts, one report after the other.
pub(crate) struct Arrivals<'a> {
    enterprise: &'a Enterprise,
    account: &'static str,
    /// What was looked at, in order, without timestamps.
    pub(crate) seen: Vec<Value>,
}

/// A request of the agent to the API server, as that noted it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) verb: String,
    /// Path and query.
    pub(crate) uri: String,
    pub(crate) status: u64,
}

impl Cluster {
    /// A user with a token who may do what the resident agent does with a whole cluster.
    pub(crate) async fn watcher(&self) -> TokenUser {
        let user = self.token_user();
        self.grant(&user.name, &WATCH_EVERYTHING).await;
        user
    }

    /// Waits long for what others do in their own time.
    pub(crate) async fn wait_long_until(&self, what: impl Fn() -> String, ask: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !ask().await {
            assert!(Instant::now() < deadline, "not after {PATIENCE:?}: {}", what());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What a user has listed and watched so far, in order.
    pub(crate) fn asked_by(&self, user: &str) -> Vec<Asked> {
        let log = std::fs::read_to_string(self.server.directory.join("audit.log")).unwrap_or_default();
        // The last line may not be whole yet.
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let of_user = events.filter(|event| event["user"]["username"] == user);
        // A watch is answered when it starts, a list when it is complete.
        let answered = of_user.filter(|event| (event["verb"] == "watch") == (event["stage"] == "ResponseStarted"));
        let asked = answered.map(|event| Asked {
            verb: event["verb"].as_str().unwrap_or_default().to_owned(),
            uri: event["requestURI"].as_str().unwrap_or_default().to_owned(),
            status: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
        });
        asked.collect()
    }

    /// How often a user was given the list, or a watch, at this path.
    pub(crate) fn given_to(&self, user: &TokenUser, verb: &str, path: &str) -> usize {
        let is_it = |asked: &Asked| {
            let asked_path = asked.uri.split('?').next().unwrap_or_default();
            asked.verb == verb && asked_path == path && asked.status == 200
        };
        self.asked_by(&user.name).into_iter().filter(is_it).count()
    }
}

/// The settings of a resident agent that reports each second, as the default user of `enterprise`, with more.
pub(crate) fn settings(enterprise: &Enterprise, more: &Value) -> Value {
    let mut settings = json!({
        "mode": "periodic",
        "polling-interval-seconds": 1,
        "anchore": {"url": enterprise.url(), "user": "admin", "password": "foobar"},
    });
    let more: Map<String, Value> = more.as_object().cloned().unwrap_or_default();
    settings.as_object_mut().expect("it is a map").extend(more);
    settings
}

impl Agent<'_> {
    /// Starts and stays, with these settings. Agents of one test have names that differ.
    pub(crate) fn stays(mut self, name: &str, settings: &Value) -> Resident {
        let directory = self.cluster.directory.path();
        let log = directory.join(format!("{name}.log"));
        let output = std::fs::File::options().create(true).append(true).open(&log).expect("a log can be made");
        let file = self.cluster.write_file(&format!("{name}.yaml"), &settings.to_string());
        self.command.arg("--config").arg(file).env("POD_NAME", name).stdout(Stdio::null()).stderr(output);
        let child = self.command.spawn().expect("the agent can be started");
        Resident { name: name.to_owned(), child, log }
    }
}

impl Resident {
    /// What it has said so far; of all agents of this name.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Lines of its log that have all of these texts.
    pub(crate) fn lines_with(&self, texts: &[&str]) -> usize {
        self.log().lines().filter(|line| texts.iter().all(|text| line.contains(text))).count()
    }

    /// Waits until it has said all of these texts in one line.
    pub(crate) async fn says(&self, cluster: &Cluster, texts: &[&str]) {
        self.says_again(cluster, 0, texts).await;
    }

    /// As [`Self::says`], after it has said so `before` times.
    pub(crate) async fn says_again(&self, cluster: &Cluster, before: usize, texts: &[&str]) {
        let what = || format!("{} says {texts:?}; it said:\n{}", self.name, self.log());
        cluster.wait_long_until(what, async || self.lines_with(texts) > before).await;
    }

    /// Sends a signal, such as `TERM`.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.id();
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status().await.expect("a shell");
        assert!(sent.success());
    }

    /// Waits until the system has stopped it.
    pub(crate) async fn is_stopped(&self, cluster: &Cluster) {
        let status = format!("/proc/{}/stat", self.id());
        let is_stopped = async || {
            let stat = std::fs::read_to_string(&status).expect("it is there");
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        };
        cluster.wait_long_until(|| format!("{} is stopped", self.name), is_stopped).await;
    }

    /// Kills it, and waits until it is gone.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    /// Tells it to stop and waits for its end, which has to be an orderly one.
    pub(crate) async fn stops(mut self) -> String {
        self.signal("TERM").await;
        let status = self.ends().await;
        assert_eq!(status.code(), Some(0), "{}", self.log());
        self.log()
    }

    async fn ends(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.expect("it ends").expect("its end can be waited for")
    }

    fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }
}

impl<'a> Arrivals<'a> {
    /// What the account `admin` accepts, from now on.
    pub(crate) fn at(enterprise: &'a Enterprise) -> Self {
        Self { enterprise, account: "admin", seen: Vec::new() }
    }

    /// Waits for the next report.
    pub(crate) async fn next(&mut self) -> &Value {
        self.until(|| "a report arrives".to_owned(), |_| true).await
    }

    /// Waits for the next report that says all that there is to say of this state and no more.
    pub(crate) async fn tell(&mut self, state: &State) -> &Value {
        let expected = state.report();
        self.until(|| format!("this is reported:\n{expected:#}"), |report| *report == expected).await
    }

    /// Waits for the next report that is so.
    pub(crate) async fn until(&mut self, what: impl Fn() -> String, is_it: impl Fn(&Value) -> bool) -> &Value {
        let deadline = Instant::now() + PATIENCE;
        let mut next = self.seen.len();
        loop {
            self.look();
            if let Some(found) = self.seen.iter().skip(next).position(&is_it) {
                return &self.seen[next + found];
            }
            next = self.seen.len();
            let last = self.seen.last();
            let told = || last.map_or("nothing arrived".to_owned(), |last| format!("the last report is\n{last:#}"));
            assert!(Instant::now() < deadline, "not after {PATIENCE:?}: {}\n{}", what(), told());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Takes a look at all that has arrived.
    pub(crate) fn look(&mut self) {
        let of_account = self.enterprise.accepted().into_iter().filter(|report| report.account == self.account);
        let new: Vec<_> = of_account.skip(self.seen.len()).collect();
        if new.is_empty() {
            return;
        }
        let requests = self.enterprise.requests();
        self.seen.extend(new.into_iter().map(|report| {
            assert_eq!(report.dangling, 0, "a report names what is not in it");
            let mut report = requests[report.request].json().expect("bodies of tests are kept");
            report.as_object_mut().and_then(|report| report.remove("timestamp")).expect("a report has a time");
            report
        }));
    }
}

/// What is reported of a kind, as `name` of each.
pub(crate) fn names<'r>(report: &'r Value, kind: &str) -> Vec<&'r str> {
    report[kind].as_array().into_iter().flatten().filter_map(|object| object["name"].as_str()).collect()
}

/// That no account has ever accepted something older after something newer.
pub(crate) fn assert_in_order(enterprise: &Enterprise) {
    let mut accepted = enterprise.accepted();
    accepted.sort_by(|a, b| a.account.cmp(&b.account));
    for pair in accepted.windows(2) {
        let is_in_order = pair[0].account != pair[1].account || pair[0].timestamp <= pair[1].timestamp;
        assert!(is_in_order, "{:?} was accepted after {:?}", pair[1], pair[0]);
    }
}
