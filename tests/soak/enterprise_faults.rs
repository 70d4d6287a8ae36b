//! What goes wrong with Anchore Enterprise, one thing after the other.

use std::path::PathBuf;
use std::sync::Arc;

use http::Method;
use testbed::anchore::Enterprise;
use testbed::anchore::tenancy::{ADMIN_ACCOUNT, User};
use testbed::fleet::random::Random;
use testbed::server::fault::{Alteration, Answer, Fault, Requests};
use tokio_util::sync::CancellationToken;

use crate::chronicle::Chronicle;
use crate::{Pace, Shared, lock};

pub(crate) const INVENTORY: &str = "/v2/kubernetes-inventory";

pub(crate) const USER: &str = "admin";

/// Disturbs an Enterprise.
pub(crate) struct EnterpriseFaults {
    enterprise: Arc<Enterprise>,
    chronicle: Shared<Chronicle>,
    random: Random,
    pace: Pace,
    password_file: PathBuf,
}

impl EnterpriseFaults {
    pub(crate) fn new(
        enterprise: Arc<Enterprise>,
        chronicle: Shared<Chronicle>,
        (seed, pace): (u64, Pace),
        password_file: PathBuf,
    ) -> Self {
        Self { enterprise, chronicle, random: Random::new(seed, "enterprise faults", 0), pace, password_file }
    }

    /// Disturbs until told to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while stop.run_until_cancelled(self.pace.pause(&mut self.random)).await.is_some() {
            match self.random.below(10) {
                0 => self.change_password().await,
                1 => self.reject().await,
                _ => self.fail().await,
            }
            self.enterprise.clear_faults();
        }
    }

    /// Reports are not accepted for a while, or the agent does not hear that they were.
    async fn fail(&mut self) {
        let size = self.random.below(40_000);
        let fault: Fault = match self.random.below(10) {
            0 => Answer::status(503).html("Service Unavailable").into(),
            1 => Answer::status(503).retry_after("1").into(),
            2 => Answer::status(429).retry_after("2").into(),
            3 => Answer::status(500).into(),
            4 => Fault::EarlyAnswer(Answer::status(502).html("Bad Gateway")),
            5 => Fault::NeverAnswers,
            6 => Fault::NeverReads,
            7 => Fault::Closes { after: size },
            8 => Fault::Resets { after: size },
            // It is accepted, and the answer is lost.
            _ => Fault::Altered(vec![Alteration::ContentLength(10), Alteration::CutAfter(0)]),
        };
        let requests = if self.random.per_mille(300) { Requests::to("*") } else { reports() };
        if self.random.per_mille(500) {
            self.enterprise.inject(requests.first(1 + self.random.below(3)), fault);
        } else {
            self.enterprise.inject(requests, fault);
        }
        self.pace.outage(&mut self.random).await;
    }

    /// One report is found to be bad.
    async fn reject(&mut self) {
        let problem = r#"{"detail": "'containers' is a bad property", "status": 400, "title": "Bad Request"}"#;
        let answer = Answer::status(400).body("application/problem+json", problem);
        self.enterprise.inject(reports().first(1), answer);
        lock(&self.chronicle).rejections += 1;
        self.pace.outage(&mut self.random).await;
    }

    /// The password is another one, which the agent is given a little later.
    async fn change_password(&mut self) {
        let password = self.random.hex64();
        self.enterprise.set_user(User::of(ADMIN_ACCOUNT, USER, &password));
        self.pace.outage(&mut self.random).await;
        let new = self.password_file.with_extension("new");
        tokio::fs::write(&new, password).await.expect("written");
        tokio::fs::rename(&new, &self.password_file).await.expect("renamed");
    }
}

fn reports() -> Requests {
    Requests::to(INVENTORY).method(Method::POST)
}
