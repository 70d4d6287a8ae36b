//! The resident agent: observes the cluster, reports at each tick, delivers what waits, tells Anchore how it is, and
//! answers probes, until it is told to stop.
//!
//! All of it runs in one task on one thread, so a panic anywhere ends the process. Of several replicas one does all this
//! and the others wait for its Lease.

use std::sync::{Arc, Weak};

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::shares::ShareRules;
use super::ticks::Ticker;
use super::vital_signs::{Parts, VitalSigns};
use super::{Run, RunError};
use crate::admin::{AdminPort, Readiness, Ready};
use crate::anchore::Client;
use crate::cluster::connect::Connection;
use crate::cluster::identity::Identity;
use crate::cluster::lease::{Elector, LeaseSettings, Standing};
use crate::cluster::watch::{ObserveSettings, Observer, WatchLimits};
use crate::config::anchore::AnchoreConfig;
use crate::delivery::recipient::Recipients;
use crate::delivery::resident::{ResidentDelivery, ResidentSettings};
use crate::delivery::status::{DeliveryEvent, Happening};
use crate::integration::registration::IntegrationSettings;
use crate::integration::{Integration, Sources};
use crate::journal::Journal;
use crate::mandate::Mandate;
use crate::metrics::Metrics;

/// What lives as long as the process.
struct Resident<'a> {
    run: &'a Run<'a>,
    /// `None`: nothing is sent.
    anchore: Option<(Arc<Client>, &'a AnchoreConfig)>,
    connection: Arc<Connection>,
    signs: Arc<VitalSigns>,
    metrics: Arc<Metrics>,
    journal: Arc<Journal>,
}

/// What takes part in one term of reporting.
struct Term {
    observer: Arc<Observer>,
    delivery: Option<Arc<ResidentDelivery>>,
    events: Option<mpsc::UnboundedReceiver<DeliveryEvent>>,
    integration: Option<Integration>,
}

/// Runs until the agent is told to stop.
pub(super) async fn run(run: &Run<'_>) -> Result<(), RunError> {
    let client = run.client()?.map(Arc::new);
    let admin = match run.config.periodic.admin_listen {
        Some(address) => Some(AdminPort::bind(address).await?),
        None => None,
    };
    let connection = match run.connect().await {
        Err(RunError::Stopped) => return Ok(()),
        connection => Arc::new(connection?),
    };
    let (signs, metrics) = (Arc::new(VitalSigns::new(run.config.polling_interval)), Arc::new(Metrics::new()));
    let readiness = Arc::new(Readiness::default());
    let (measured, checked) = (Arc::clone(&signs), Arc::clone(&signs));
    metrics.on_scrape(Box::new(move |metrics| measured.measure(metrics)));
    readiness.check_with(Box::new(move || checked.readiness().map_or_else(Ready::NotReady, |()| Ready::Ready)));
    readiness.set(Ready::Ready);
    let resident = Resident {
        run,
        anchore: client.zip(run.config.anchore.as_ref()),
        connection,
        signs,
        metrics: Arc::clone(&metrics),
        journal: Arc::default(),
    };
    tokio::select! {
        biased;
        () = resident.live() => {}
        () = serve(admin, readiness, metrics) => {}
    }
    tracing::info!("stopped");
    Ok(())
}

/// Answers probes for ever, also while the agent finishes its work.
async fn serve(admin: Option<AdminPort>, readiness: Arc<Readiness>, metrics: Arc<Metrics>) {
    if let Some(admin) = admin {
        admin.serve(readiness, metrics, CancellationToken::new()).await;
    }
    std::future::pending::<()>().await;
}

impl Resident<'_> {
    /// Lives until told to stop, and until what is in flight then has ended.
    async fn live(&self) {
        let stopping = async {
            self.run.stop.cancelled().await;
            self.signs.stopping();
            std::future::pending::<()>().await;
        };
        let living = async {
            match &self.run.config.periodic.lease_name {
                None => Box::pin(self.term(Mandate::unlimited(), &self.run.stop)).await,
                Some(name) => Box::pin(self.live_with_others(name)).await,
            }
        };
        tokio::select! {
            biased;
            () = stopping => {}
            () = living => {}
        }
    }

    /// Reports while it leads, and waits while another one does.
    async fn live_with_others(&self, lease_name: &str) {
        let settings = LeaseSettings::new(lease_name, self.run.environment, &self.connection);
        let (mut elector, mut standings) = Elector::new(Arc::clone(&self.connection), settings);
        let mandate = elector.mandate();
        // The Lease is held until the last request has ended.
        let is_over = CancellationToken::new();
        let terms = async {
            Box::pin(self.terms(&mandate, &mut standings)).await;
            is_over.cancel();
        };
        tokio::join!(elector.run(&is_over), terms);
        elector.release().await;
    }

    async fn terms(&self, mandate: &Mandate, standings: &mut watch::Receiver<Standing>) {
        while !self.run.stop.is_cancelled() {
            let standing = *standings.borrow_and_update();
            if standing == Standing::Standby {
                self.signs.standby();
                tokio::select! {
                    () = self.run.stop.cancelled() => {}
                    changed = standings.changed() => if changed.is_err() { return },
                }
                continue;
            }
            let mandate = if standing == Standing::Alone { Mandate::unlimited() } else { mandate.clone() };
            // A term ends in order when the agent is told to stop, and at once when another one leads.
            let is_another = standings.wait_for(|now| *now != standing);
            tokio::select! {
                biased;
                _ = is_another => {}
                () = self.term(mandate, &self.run.stop) => {}
            }
        }
    }

    /// Observes and reports until `stop`.
    async fn term(&self, mandate: Mandate, stop: &CancellationToken) {
        let term = self.begin_term(mandate, stop).await;
        let Term { observer, delivery, events, integration } = term;
        let ticker = Ticker {
            observer: Arc::clone(&observer),
            rules: Arc::new(ShareRules::new(self.run.config, self.connection.cluster_name().to_owned())),
            delivery: delivery.clone(),
            journal: Arc::clone(&self.journal),
            metrics: Arc::clone(&self.metrics),
            cluster_name: self.connection.cluster_name().to_owned(),
            interval: self.run.config.polling_interval,
            sync_timeout: self.run.config.periodic.sync_timeout,
            prints: self.run.config.verbose_inventory_reports,
        };
        let collecting = async {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = observer.run() => {}
                () = ticker.run() => {}
            }
        };
        let sending = async {
            if let Some(delivery) = &delivery {
                delivery.run().await;
            }
        };
        let telling = async {
            if let Some(integration) = integration {
                let identity = Identity::of_process(self.run.environment).await;
                let timeout = self.run.config.kubernetes.request_timeout;
                integration.run(identity.lookup(&self.connection, timeout), stop.clone()).await;
            }
        };
        let following = async {
            if let (Some(delivery), Some(events)) = (&delivery, events) {
                self.follow(&observer, delivery, events).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = async { tokio::join!(collecting, sending, telling) } => {}
            () = following => {}
        }
    }

    async fn begin_term(&self, mandate: Mandate, stop: &CancellationToken) -> Term {
        let config = self.run.config;
        let settings = ObserveSettings {
            method: config.periodic.method,
            kubernetes: config.kubernetes.clone(),
            selectors: config.selectors.clone(),
            metadata: config.metadata.clone(),
            account_label_key: config.routing.by_label.as_ref().map(|rule| rule.key.clone()),
            reports_finished: !config.images.ignore_not_running,
        };
        let observer = Arc::new(Observer::new(Arc::clone(&self.connection), settings, WatchLimits::default()));
        let mut term = Term { observer, delivery: None, events: None, integration: None };
        if let Some((client, anchore)) = &self.anchore {
            let recipients = Recipients::new(anchore, &config.routing);
            let settings = ResidentSettings {
                client: Arc::clone(client),
                recipients: recipients.clone(),
                state_directory: config.periodic.state_directory.clone(),
                max_bytes: config.periodic.spool_max_bytes,
                cluster_name: self.connection.cluster_name().to_owned(),
                url: anchore.url.clone(),
                mandate: mandate.clone(),
                stop: stop.clone(),
            };
            let is_leading = mandate.is_limited();
            let (delivery, events) = ResidentDelivery::open(settings).await;
            if is_leading {
                // Another replica may have sent newer reports than those that this one's spool still holds.
                delivery.drop_earlier_term().await;
            }
            let delivery = Arc::new(delivery);
            term.integration = Some(self.integration(client, recipients, mandate, &delivery));
            term.delivery = Some(delivery);
            term.events = Some(events);
        }
        self.signs.reporting(Parts {
            observer: Arc::downgrade(&term.observer),
            delivery: term.delivery.as_ref().map_or_else(Weak::new, Arc::downgrade),
            integration: term.integration.as_ref().map(|integration| (integration.state(), integration.counts())),
        });
        term
    }

    fn integration(
        &self,
        client: &Arc<Client>,
        recipients: Recipients,
        mandate: Mandate,
        delivery: &Arc<ResidentDelivery>,
    ) -> Integration {
        let settings = IntegrationSettings::new(self.run.config, self.connection.cluster_name());
        let (told, asked) = (Arc::clone(delivery), Arc::clone(delivery));
        let sources = Sources {
            client: Arc::clone(client),
            recipients,
            mandate,
            journal: Arc::clone(&self.journal),
            statuses: Box::new(move || told.statuses()),
            paused: Box::new(move |sender| asked.paused(sender).map(|reason| reason.to_string())),
        };
        Integration::new(settings, sources)
    }

    /// Does what follows from what becomes of reports.
    async fn follow(
        &self,
        observer: &Observer,
        delivery: &ResidentDelivery,
        mut events: mpsc::UnboundedReceiver<DeliveryEvent>,
    ) {
        while let Some(event) = events.recv().await {
            self.metrics.delivery(&event, Timestamp::now());
            let account = &event.account;
            match &event.what {
                Happening::Accepted { carried, .. } => observer.settle(account, carried),
                Happening::Rejected { carried, reason } => {
                    observer.settle(account, carried);
                    self.journal.event(format!("a report of account {account} was rejected: {reason}"));
                }
                Happening::Dropped { batches, reason } => {
                    self.journal.event(format!("{batches} reports of account {account} were dropped: {reason}"));
                }
                Happening::Failed { .. } | Happening::Superseded { .. } | Happening::Unwritten { .. } => {}
            }
            for status in delivery.statuses().iter().filter(|status| status.account == *account) {
                let error = status.error.as_ref().map(|error| format!("account {account}: {error}"));
                self.journal.state(&format!("account {account}"), error);
            }
        }
    }
}
