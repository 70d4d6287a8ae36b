//! Keeps a wrong password from locking a user out.
//!
//! Servers lock a user after a few failed logins. Until a user was let in once, one request at a time is sent as this
//! user; once a user is refused, none is: in a run that ends, whatever the password; in a resident agent, with this
//! password and for some minutes, because a password that someone corrected must not wait.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::anchore::BasicAuth;

/// With an API key this is the name of every user, and the key says who it is.
const API_KEY_USER: &str = "_api_key";

/// Gates that are kept; more are made by passwords that change. What a forgotten one knew costs one trial.
const MOST_GATES: usize = 1_000;

/// What is known of each user.
#[derive(Debug, Default)]
pub(crate) struct UserGates {
    gates: Mutex<BTreeMap<Identity, Arc<Gate>>>,
    fingerprints: RandomState,
    /// How long a refusal holds; `None` for ever.
    refusal_limit: Option<Duration>,
}

/// A user as the server tells them apart: by name, and API keys by a fingerprint of the key; with a fingerprint of the
/// password where a refusal is about the password.
type Identity = (String, Option<u64>);

#[derive(Debug)]
struct Gate {
    standing: Mutex<Standing>,
    refusal_limit: Option<Duration>,
    /// The right to try an unproven user; one at a time.
    trial: Arc<Semaphore>,
}

#[derive(Debug, Clone)]
enum Standing {
    Unproven,
    LetIn,
    Refused { reason: Arc<str>, until: Option<Instant> },
}

impl UserGates {
    /// Gates at which a refusal is about user and password together, and is over after `limit`.
    pub(crate) fn with_refusal_limit(limit: Duration) -> Self {
        Self { refusal_limit: Some(limit), ..Self::default() }
    }

    /// Why nothing is sent as this sender's user, if the server refused it.
    pub(crate) fn refusal(&self, sender: &BasicAuth) -> Option<Arc<str>> {
        let gate = lock(&self.gates).get(&self.identity(sender)).map(Arc::clone)?;
        gate.at_once().err()
    }

    /// Waits until a request as this sender's user may be sent.
    ///
    /// # Errors
    /// The server refused the user; the reason it gave then.
    pub(crate) async fn admit(&self, sender: &BasicAuth) -> Result<Admission, Arc<str>> {
        let gate = self.gate(self.identity(sender));
        if let Some(admission) = gate.at_once()? {
            return Ok(admission);
        }
        // The semaphore is never closed; without a permit the user counts as unproven all the same.
        let trial = Arc::clone(&gate.trial).acquire_owned().await.ok();
        // What the request before this one has shown.
        match gate.at_once()? {
            Some(admission) => Ok(admission),
            None => Ok(Admission { gate, _trial: trial }),
        }
    }

    /// Tells two pairs of user and password apart without keeping them.
    pub(crate) fn fingerprint(&self, sender: &BasicAuth) -> u64 {
        self.fingerprints.hash_one((&sender.user, sender.password.expose_secret()))
    }

    fn identity(&self, sender: &BasicAuth) -> Identity {
        let is_by_password = self.refusal_limit.is_some() || sender.user == API_KEY_USER;
        (sender.user.clone(), is_by_password.then(|| self.fingerprint(sender)))
    }

    fn gate(&self, identity: Identity) -> Arc<Gate> {
        let mut gates = lock(&self.gates);
        if gates.len() >= MOST_GATES {
            gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        }
        let new = || Arc::new(Gate::new(self.refusal_limit));
        Arc::clone(gates.entry(identity).or_insert_with(new))
    }
}

impl Gate {
    fn new(refusal_limit: Option<Duration>) -> Self {
        Self { standing: Mutex::new(Standing::Unproven), refusal_limit, trial: Arc::new(Semaphore::new(1)) }
    }

    /// An admission without a wait, if the user was let in before.
    fn at_once(self: &Arc<Self>) -> Result<Option<Admission>, Arc<str>> {
        match &*lock(&self.standing) {
            Standing::Unproven => Ok(None),
            Standing::LetIn => Ok(Some(Admission { gate: Arc::clone(self), _trial: None })),
            Standing::Refused { until: Some(until), .. } if *until <= Instant::now() => Ok(None),
            Standing::Refused { reason, .. } => Err(Arc::clone(reason)),
        }
    }
}

/// The right to send one request as a user. Dropped without a word when the answer shows nothing of the user.
#[derive(Debug)]
pub(crate) struct Admission {
    gate: Arc<Gate>,
    _trial: Option<OwnedSemaphorePermit>,
}

impl Admission {
    /// The server knows the user. The answer to a request from before a refusal does not lift it.
    pub(crate) fn let_in(self) {
        let mut standing = lock(&self.gate.standing);
        let is_over = |until: &Option<Instant>| until.is_some_and(|until| until <= Instant::now());
        match &*standing {
            Standing::Refused { until, .. } if !is_over(until) => {}
            _ => *standing = Standing::LetIn,
        }
    }

    /// The server refuses the user, for this reason.
    pub(crate) fn refuse(self, reason: &str) {
        let until = self.gate.refusal_limit.map(|limit| Instant::now() + limit);
        *lock(&self.gate.standing) = Standing::Refused { reason: reason.into(), until };
    }
}

/// The values behind these locks are whole at any time, so a panic elsewhere does not spoil them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use pretty_assertions::assert_eq;

    use super::*;

    fn as_user(user: &str) -> BasicAuth {
        with_password(user, "pw")
    }

    fn with_password(user: &str, password: &str) -> BasicAuth {
        BasicAuth { user: user.to_owned(), password: password.into() }
    }

    #[tokio::test]
    async fn a_refused_password_stops_the_user_whatever_the_password_but_a_refused_key_stops_this_key_alone() {
        let gates = UserGates::default();
        gates.admit(&with_password("inventory", "one")).await.unwrap().refuse("401 Unauthorized");
        gates.admit(&with_password(API_KEY_USER, "one")).await.unwrap().refuse("401 Unauthorized");

        assert!(gates.admit(&with_password("inventory", "two")).await.is_err());
        assert!(gates.admit(&with_password(API_KEY_USER, "one")).await.is_err());
        assert!(gates.admit(&with_password(API_KEY_USER, "two")).await.is_ok());
    }

    #[tokio::test]
    async fn an_unproven_user_sends_one_request_at_a_time() {
        let gates = UserGates::default();
        let first = gates.admit(&as_user("inventory")).await.unwrap();

        assert!(gates.admit(&as_user("inventory")).now_or_never().is_none());
        assert!(gates.admit(&as_user("other")).now_or_never().is_some());

        // The answer shows nothing of the user: the next request is a trial as well.
        drop(first);
        let _second = gates.admit(&as_user("inventory")).await.unwrap();
        assert!(gates.admit(&as_user("inventory")).now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_user_that_was_let_in_sends_any_number_of_requests() {
        let gates = UserGates::default();
        gates.admit(&as_user("inventory")).await.unwrap().let_in();

        let _first = gates.admit(&as_user("inventory")).await.unwrap();
        assert!(gates.admit(&as_user("inventory")).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_refused_user_sends_nothing_more_and_those_that_waited_learn_why() {
        let gates = UserGates::default();
        let first = gates.admit(&as_user("inventory")).await.unwrap();
        let sender = as_user("inventory");
        let waiting = gates.admit(&sender);
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());

        first.refuse("401 Unauthorized");

        assert_eq!(&*waiting.await.unwrap_err(), "401 Unauthorized");
        assert_eq!(&*gates.admit(&as_user("inventory")).await.unwrap_err(), "401 Unauthorized");
    }

    #[tokio::test]
    async fn a_late_success_does_not_lift_a_refusal() {
        let gates = UserGates::default();
        gates.admit(&as_user("inventory")).await.unwrap().let_in();
        let late = gates.admit(&as_user("inventory")).await.unwrap();
        gates.admit(&as_user("inventory")).await.unwrap().refuse("401 Unauthorized");

        late.let_in();

        assert!(gates.admit(&as_user("inventory")).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_resident_agent_tries_a_refused_password_again_after_a_while_and_another_password_at_once() {
        let limit = Duration::from_mins(5);
        let gates = UserGates::with_refusal_limit(limit);
        gates.admit(&as_user("inventory")).await.expect("admitted").refuse("401 Unauthorized");

        assert_eq!(gates.refusal(&as_user("inventory")).as_deref(), Some("401 Unauthorized"));
        assert_eq!(gates.refusal(&with_password("inventory", "new")), None);
        assert!(gates.admit(&with_password("inventory", "new")).await.is_ok());
        tokio::time::advance(Duration::from_secs(299)).await;
        assert!(gates.admit(&as_user("inventory")).await.is_err());

        tokio::time::advance(Duration::from_secs(1)).await;

        assert_eq!(gates.refusal(&as_user("inventory")), None);
        let trial = gates.admit(&as_user("inventory")).await.expect("admitted");
        assert!(gates.admit(&as_user("inventory")).now_or_never().is_none());
        trial.let_in();
        assert!(gates.admit(&as_user("inventory")).now_or_never().is_some());
    }
}
