//! Labels whose values are known beforehand, so that no series appears that nobody has bounded.

use crate::cluster::progress::RequestOutcome;
use crate::cluster::watch::SourceKind;

/// A label with all its values.
pub(super) trait Label: Copy + 'static {
    /// Its name.
    const NAME: &'static str;
    /// Its values.
    const ALL: &'static [Self];

    /// A value as it is written.
    fn name(self) -> &'static str;
}

/// Declares an enum of label values.
macro_rules! label {
    ($(#[$doc:meta])* $label:literal $visibility:vis $name:ident { $($(#[$value_doc:meta])* $value:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $visibility enum $name {
            $($(#[$value_doc])* $value,)+
        }

        impl Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$value),+];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $text),+
                }
            }
        }
    };
}

label! {
    /// What became of a tick.
    "outcome" pub TickOutcome {
        /// Reports were made and handed to delivery.
        Report = "report",
        /// A needed source was not confirmed for longer than an interval.
        Stale = "stale",
        /// A needed source was never complete.
        NeverComplete = "never_complete",
        /// The tick before it was still at work.
        Skipped = "skipped",
        /// Anything else.
        Failed = "failed",
    }
}

label! {
    /// What is read of the cluster.
    "source" pub(super) Source {
        /// Pods.
        Pods = "pods",
        /// Namespaces.
        Namespaces = "namespaces",
        /// Nodes.
        Nodes = "nodes",
    }
}

label! {
    /// Whether a source is what the cluster would say.
    "state" pub(super) SourcePhase {
        /// It was never complete.
        Syncing = "syncing",
        /// It is.
        Synced = "synced",
        /// It was, before the connection was lost or the server failed.
        Stale = "stale",
        /// The server refuses it.
        Blind = "blind",
    }
}

label! {
    /// What is held in memory.
    "kind" pub HeldKind {
        /// Namespaces.
        Namespaces = "namespaces",
        /// Pods.
        Pods = "pods",
        /// Containers.
        Containers = "containers",
        /// Nodes.
        Nodes = "nodes",
    }
}

label! {
    /// What a report left out because Anchore would refuse it.
    "kind" pub(super) OmissionKind {
        /// Namespaces without a usable uid.
        NamespacesWithoutUid = "namespaces_without_uid",
        /// Nodes without a usable uid.
        NodesWithoutUid = "nodes_without_uid",
        /// Pods without a usable uid.
        PodsWithoutUid = "pods_without_uid",
        /// Pods whose namespace is not reported.
        PodsWithoutNamespace = "pods_without_namespace",
        /// Containers that have no id yet.
        ContainersWithoutId = "containers_without_id",
        /// Containers without a valid image reference.
        ContainersWithoutImage = "containers_without_image",
        /// Containers with the id of another one of their pod.
        ContainersRepeated = "containers_repeated",
    }
}

label! {
    /// What became of a report.
    "outcome" pub(super) ReportOutcome {
        /// It was accepted.
        Accepted = "accepted",
        /// It will never be accepted.
        Rejected = "rejected",
        /// A newer one took its place before it was sent.
        Superseded = "superseded",
        /// It was dropped without an answer.
        Dropped = "dropped",
    }
}

label! {
    /// What Anchore is asked for.
    "call" pub AnchoreCall {
        /// A report.
        Report = "report",
        /// The version.
        Version = "version",
        /// The registration.
        Register = "register",
        /// A health report.
        Health = "health",
    }
}

label! {
    /// How a request to Anchore ended.
    "outcome" pub AnchoreOutcome {
        /// Answered as it should be.
        Accepted = "accepted",
        /// Answered otherwise, for good.
        Refused = "refused",
        /// Not answered, or to be tried again.
        Failed = "failed",
    }
}

label! {
    /// How far registration is.
    "state" pub IntegrationPhase {
        /// The server's version is not known.
        Probing = "probing",
        /// The server is too old for it.
        Unsupported = "unsupported",
        /// Not registered yet.
        Registering = "registering",
        /// Registered: health is reported.
        Registered = "registered",
    }
}

impl Label for RequestOutcome {
    const NAME: &'static str = "outcome";
    const ALL: &'static [Self] = &Self::ALL;

    fn name(self) -> &'static str {
        Self::name(self)
    }
}

impl From<SourceKind> for Source {
    fn from(kind: SourceKind) -> Self {
        match kind {
            SourceKind::Pods => Self::Pods,
            SourceKind::Namespaces => Self::Namespaces,
        }
    }
}
