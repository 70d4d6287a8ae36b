//! What ran in the cluster: each image that a container was started with, from when to when, written down before the
//! API server knows of it.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

/// All namespaces whose names begin so are reported to these accounts; all others to [`DEFAULT_ACCOUNT`].
pub(crate) const ROUTES: [(&str, &[&str]); 3] =
    [("a-", &["team-a"]), ("b-", &["team-b"]), ("shared-", &["team-a", "team-b"])];

pub(crate) const DEFAULT_ACCOUNT: &str = "admin";

/// All accounts.
pub(crate) const ACCOUNTS: [&str; 3] = ["team-a", "team-b", DEFAULT_ACCOUNT];

/// All that ran.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    lives: Vec<Life>,
    by_image: HashMap<String, usize>,
    mixtures: HashSet<String>,
    /// When each namespace was gone that is, in order.
    gone_namespaces: Vec<GoneNamespace>,
}

/// One image while it ran. No two have the same.
#[derive(Debug)]
pub(crate) struct Life {
    /// `name:tag@digest`.
    pub(crate) image: String,
    pub(crate) place: Place,
    /// The ids of the containers that ran it, one after the other.
    pub(crate) containers: Vec<String>,
    /// Right before it was seen to run for the first time.
    pub(crate) began: Timestamp,
    /// Right after it was not any more; `None` while it runs.
    pub(crate) ended: Option<Timestamp>,
    pub(crate) events: Vec<(Timestamp, String)>,
}

/// The pod that something runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) namespace_uid: String,
    pub(crate) pod: String,
    pub(crate) pod_uid: String,
}

/// A namespace that is gone.
#[derive(Debug)]
struct GoneNamespace {
    name: &'static str,
    uid: String,
    at: Timestamp,
}

/// The accounts that get the reports of a namespace.
pub(crate) fn accounts_of(namespace: &str) -> &'static [&'static str] {
    let route = ROUTES.iter().find(|(prefix, _)| namespace.starts_with(prefix));
    route.map_or(&[DEFAULT_ACCOUNT], |(_, accounts)| accounts)
}

impl Ledger {
    /// An image begins to run now. Gives the number of its life.
    pub(crate) fn begins(&mut self, image: &str, container: &str, place: &Place) -> usize {
        let began = Timestamp::now();
        self.by_image.insert(image.to_owned(), self.lives.len());
        self.lives.push(Life {
            image: image.to_owned(),
            place: place.clone(),
            containers: vec![container.to_owned()],
            began,
            ended: None,
            events: vec![(began, format!("began in container {container}"))],
        });
        self.lives.len() - 1
    }

    /// An image that ran from then to then.
    pub(crate) fn ran(&mut self, (began, ended): (Timestamp, Timestamp), image: &str, place: Place) {
        self.by_image.insert(image.to_owned(), self.lives.len());
        let (containers, events) = (Vec::new(), Vec::new());
        self.lives.push(Life { image: image.to_owned(), place, containers, began, ended: Some(ended), events });
    }

    /// It goes on in another container.
    pub(crate) fn goes_on(&mut self, life: usize, container: &str) {
        let life = &mut self.lives[life];
        life.containers.push(container.to_owned());
        life.events.push((Timestamp::now(), format!("went on in container {container}")));
    }

    /// It has ended.
    pub(crate) fn has_ended(&mut self, life: usize, why: &str) {
        let (life, now) = (&mut self.lives[life], Timestamp::now());
        life.ended = Some(now);
        life.events.push((now, why.to_owned()));
    }

    /// A container of this digest runs in a pod whose spec names another image by now. Reports take the name from the
    /// spec and the digest from the status, so they may tell of this mixture.
    pub(crate) fn mixes(&mut self, tag: &str, digest: &str) {
        self.mixtures.insert(format!("{tag}@{digest}"));
    }

    pub(crate) fn is_mixture(&self, image: &str) -> bool {
        self.mixtures.contains(image)
    }

    /// A namespace is gone.
    pub(crate) fn namespace_is_gone(&mut self, name: &'static str, uid: &str) {
        self.gone_namespaces.push(GoneNamespace { name, uid: uid.to_owned(), at: Timestamp::now() });
    }

    /// When a namespace was gone; `None` while it is there.
    pub(crate) fn namespace_gone(&self, uid: &str) -> Option<Timestamp> {
        self.gone_namespaces.iter().find(|gone| gone.uid == uid).map(|gone| gone.at)
    }

    /// How many namespaces of its name were gone after this one, until then.
    pub(crate) fn gone_after(&self, uid: &str, until: Timestamp) -> usize {
        let mut after = self.gone_namespaces.iter().skip_while(|gone| gone.uid != uid);
        let name = after.next().map(|gone| gone.name);
        after.filter(|gone| Some(gone.name) == name && gone.at <= until).count()
    }

    pub(crate) fn lives(&self) -> &[Life] {
        &self.lives
    }

    /// The number of the life of an image.
    pub(crate) fn find(&self, image: &str) -> Option<usize> {
        self.by_image.get(image).copied()
    }
}

impl Life {
    /// All that happened to it, for whoever looks for a mistake.
    pub(crate) fn story(&self) -> String {
        let Place { namespace, namespace_uid, pod, pod_uid } = &self.place;
        let begin = format!(
            "{} in pod {namespace}/{pod} ({pod_uid}; namespace {namespace_uid}), for {}",
            self.image,
            accounts_of(namespace).join(" and ")
        );
        let events = self.events.iter().map(|(at, event)| format!("{at:.3} {event}"));
        std::iter::once(begin).chain(events).collect::<Vec<_>>().join("\n      ")
    }
}
