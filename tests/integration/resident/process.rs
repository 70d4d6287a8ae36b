//! A running agent that a test follows by its log and its admin port.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::agent::{Agent, HARD_LIMIT};

/// A running agent. It is killed when this is dropped.
pub(super) struct Resident {
    pub(super) folder: TempDir,
    child: Child,
    log: Log,
    reading: JoinHandle<()>,
}

/// What it logs. A test that fails prints it.
struct Log(watch::Receiver<String>);

/// How it ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) code: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) stdout: String,
    pub(super) log: String,
}

impl Resident {
    pub(super) fn start(agent: Agent) -> Self {
        let (folder, mut child) = agent.start().into_parts();
        let stderr = child.stderr.take().expect("a pipe");
        let (told, log) = watch::channel(String::new());
        let reading = tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                told.send_modify(|log| {
                    log.push_str(&line);
                    log.push('\n');
                });
            }
        });
        Self { folder, child, log: Log(log), reading }
    }

    /// What it has logged so far.
    pub(super) fn log(&self) -> String {
        self.log.0.borrow().clone()
    }

    /// Waits until it has logged this text.
    pub(super) async fn logged(&self, text: &str) {
        self.logged_times(text, 1).await;
    }

    /// Waits until it has logged this text so often.
    pub(super) async fn logged_times(&self, text: &str, times: usize) {
        let mut log = self.log.0.clone();
        let logged = log.wait_for(|log| log.matches(text).count() >= times);
        let is_logged = tokio::time::timeout(HARD_LIMIT, logged).await.is_ok_and(|logged| logged.is_ok());
        assert!(is_logged, "not logged: {text}");
    }

    /// Where its admin port is.
    pub(super) async fn admin(&self) -> SocketAddr {
        const LINE: &str = "admin port open address=";
        self.logged(LINE).await;
        let log = self.log();
        let (_, after) = log.split_once(LINE).expect("logged");
        after.lines().next().expect("a line").trim().parse().expect("an address")
    }

    /// Status and body of an answer of its admin port.
    pub(super) async fn get(&self, path: &str) -> (u16, String) {
        let asked = async {
            let mut stream = TcpStream::connect(self.admin().await).await?;
            stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: agent\r\n\r\n").as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = asked.await.unwrap_or_else(|error| panic!("{path}: {error}"));
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.get(9..12).and_then(|status| status.parse().ok()).expect("a status"), body.to_owned())
    }

    /// Waits until a path of its admin port is answered like this, and gives the body.
    pub(super) async fn answers(&self, path: &str, status: u16) -> String {
        self.probe(path, |answered, body| (answered == status).then(|| body.to_owned())).await
    }

    /// A metric's value now; `None` while there is none. `name` comes without the prefix, and with the labels.
    pub(super) async fn metric(&self, name: &str) -> Option<f64> {
        value(&self.get("/metrics").await.1, name)
    }

    /// Waits until a metric has a value like this.
    pub(super) async fn measures(&self, name: &str, is_expected: impl Fn(f64) -> bool) {
        let expected = |_, body: &str| value(body, name).filter(|value| is_expected(*value));
        self.probe("/metrics", expected).await;
    }

    async fn probe<T>(&self, path: &str, expected: impl Fn(u16, &str) -> Option<T>) -> T {
        let mut last = (0, String::new());
        let probing = async {
            loop {
                last = self.get(path).await;
                if let Some(value) = expected(last.0, &last.1) {
                    return value;
                }
                tokio::task::yield_now().await;
            }
        };
        let probed = tokio::time::timeout(HARD_LIMIT, probing).await;
        probed.unwrap_or_else(|_| panic!("{path} answers {last:?}"))
    }

    /// Sends a signal, `TERM` or `INT`.
    pub(super) async fn signal(&self, name: &str) {
        let id = self.child.id().expect("it runs");
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status().await.expect("a shell");
        assert!(sent.success());
    }

    /// Ends it without warning.
    pub(super) async fn kill(self) -> End {
        self.signal("KILL").await;
        self.ended().await
    }

    /// Asks it to end, and waits for that.
    pub(super) async fn stop(self) -> End {
        self.signal("TERM").await;
        self.ended().await
    }

    /// Waits for its end.
    pub(super) async fn ended(self) -> End {
        let Self { child, log, reading, folder } = self;
        let ended = async {
            let output = child.wait_with_output().await.expect("it ran");
            reading.await.expect("read");
            output
        };
        let output = tokio::time::timeout(HARD_LIMIT, ended).await;
        let output = output.expect("it must end within a minute");
        drop(folder);
        End {
            code: output.status.code(),
            signal: output.status.signal(),
            stdout: String::from_utf8(output.stdout).expect("text"),
            log: log.0.borrow().clone(),
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("The agent's log:\n{}", self.0.borrow().as_str());
        }
    }
}

/// The value of a metric among all of them.
fn value(metrics: &str, name: &str) -> Option<f64> {
    let mut lines = metrics.lines().filter_map(|line| line.strip_prefix("anchore_k8s_inventory_"));
    lines.find_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.strip_prefix("{}").unwrap_or(rest).strip_prefix(' ')?.parse().ok()
    })
}
