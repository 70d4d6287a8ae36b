//! Puts the parts together and runs them: one snapshot through inventory, routing and batching to its accounts.
//!
//! Everything that can be wrong with the configuration is found before the cluster is contacted. A failure is logged
//! once, as an event of [`FAILURE`], and makes the exit code 1; what could be collected is reported all the same.

mod resident;
mod schedule;
mod shares;
mod signals;
mod ticks;
mod vital_signs;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use self::shares::{Share, ShareRules};
use crate::admin::BindError;
use crate::anchore::{Client, ClientError};
use crate::cli::ExitCode;
use crate::cluster::collect::{self, CollectError, CollectSettings, Collection};
use crate::cluster::connect::{ConnectError, Connection};
use crate::cluster::progress::Progress;
use crate::cluster::snapshot::{ClusterSnapshot, NodeAccess};
use crate::config::anchore::AnchoreConfig;
use crate::config::{Config, Environment, Loaded, Mode};
use crate::delivery::AccountReports;
use crate::delivery::adhoc::AdhocDelivery;
use crate::delivery::outcome::AccountOutcome;
use crate::delivery::recipient::Recipients;
use crate::inventory::report::Report;
use crate::output::progress::Console;
use crate::output::{self, OutputFormat};
use crate::telemetry::FAILURE;

/// What the command line asks for beside the settings.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Print in this form and send nothing.
    pub output: Option<OutputFormat>,
    /// Print what would be sent and where, and send nothing.
    pub dry_run: bool,
    /// Standard error.
    pub console: Console,
}

/// Why a run ended without a report.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Admin(#[from] BindError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Collect(#[from] CollectError),
    #[error("standard output cannot be written: {0}")]
    Output(#[from] io::Error),
    #[error("stopped by a signal; nothing was sent")]
    Stopped,
}

/// A run, and whether it missed anything so far.
struct Run<'a> {
    config: &'a Config,
    environment: &'a Environment,
    options: &'a RunOptions,
    stop: CancellationToken,
    is_complete: bool,
}

/// Runs the agent until it is done or told to stop.
pub async fn run(loaded: Loaded, environment: Environment, options: RunOptions) -> ExitCode {
    let stop = CancellationToken::new();
    let mut run = Run {
        config: &loaded.config,
        environment: &environment,
        options: &options,
        stop: stop.clone(),
        is_complete: true,
    };
    let done = tokio::select! {
        // In this order, so that signals are listened to before anything is started that they have to end.
        biased;
        signal = signals::until_second(&stop) => return ExitCode::Signal(signal),
        done = run.run() => done,
    };
    match done {
        Ok(()) if run.is_complete => ExitCode::Success,
        Ok(()) => ExitCode::Failure,
        Err(error) => {
            tracing::error!(target: FAILURE, "{error}");
            error.exit_code()
        }
    }
}

impl RunError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Client(_) | Self::Admin(_) => ExitCode::Usage,
            Self::Connect(error) if error.is_configuration() => ExitCode::Usage,
            Self::Connect(_) | Self::Collect(_) | Self::Output(_) | Self::Stopped => ExitCode::Failure,
        }
    }
}

impl Run<'_> {
    async fn run(&mut self) -> Result<(), RunError> {
        match self.config.mode {
            Mode::Adhoc => self.adhoc().await,
            Mode::Periodic => Box::pin(resident::run(self)).await,
        }
    }

    async fn adhoc(&mut self) -> Result<(), RunError> {
        let client = self.client()?;
        let connection = self.connect().await?;
        let collection = self.collect(&connection).await?;
        let cluster_name = connection.cluster_name().to_owned();
        // Its buffers are not needed while the report is sent.
        drop(connection);
        self.tell_what_is_missing(&collection);
        let shares = self.shares(collection, cluster_name);
        if let Some(format) = self.printed_format() {
            match self.print(format, &shares).await {
                // Reports are still sent when the copy for the eye is lost.
                Err(RunError::Output(error)) if client.is_some() => {
                    self.is_complete = false;
                    tracing::error!(target: FAILURE, "standard output cannot be written: {error}");
                }
                printed => printed?,
            }
        }
        match (client, &self.config.anchore) {
            (Some(client), Some(anchore)) => self.deliver(client, anchore, shares).await,
            _ if self.options.dry_run => self.tell_destinations(&shares).await,
            _ => {}
        }
        Ok(())
    }

    async fn connect(&self) -> Result<Connection, RunError> {
        let opening = async {
            let settings = &self.config.kubeconfig;
            match self.config.mode {
                Mode::Adhoc => Connection::open(settings, self.environment).await,
                Mode::Periodic => Connection::open_resident(settings, self.environment).await,
            }
        };
        // A credential plugin may wait for a person.
        tokio::select! {
            () = self.stop.cancelled() => Err(RunError::Stopped),
            connection = opening => Ok(connection?),
        }
    }

    /// The client, where reports are sent. Made first, so that a wrong certificate or proxy is found at once, in a dry
    /// run too.
    fn client(&self) -> Result<Option<Client>, RunError> {
        if self.options.output.is_some() {
            return Ok(None);
        }
        let dry_run = self.options.dry_run;
        let Some(anchore) = &self.config.anchore else {
            if !self.config.verbose_inventory_reports && !dry_run {
                let what =
                    if self.config.mode == Mode::Periodic { "reports are made" } else { "the report is printed" };
                tracing::warn!("anchore.url, user and password are not set: {what}, nothing is sent");
            }
            return Ok(None);
        };
        let client = Client::new(anchore, &self.environment.variables)?;
        Ok((!dry_run).then_some(client))
    }

    /// What is printed, besides what happens to the reports.
    fn printed_format(&self) -> Option<OutputFormat> {
        let prints_reports =
            self.config.verbose_inventory_reports || self.options.dry_run || self.config.anchore.is_none();
        self.options.output.or_else(|| prints_reports.then_some(OutputFormat::Json))
    }

    async fn collect(&self, connection: &Connection) -> Result<Collection, RunError> {
        let started = Instant::now();
        let progress = Arc::new(Progress::default());
        let line = self.options.console.follow(Arc::clone(&progress));
        let settings = CollectSettings {
            kubernetes: &self.config.kubernetes,
            selectors: &self.config.selectors,
            metadata: &self.config.metadata,
            account_label_key: self.config.routing.by_label.as_ref().map(|rule| rule.key.as_str()),
        };
        let collection = tokio::select! {
            () = self.stop.cancelled() => return Err(RunError::Stopped),
            collection = collect::collect(connection, settings, &progress) => collection?,
        };
        drop(line);
        let counts = progress.counts();
        tracing::info!(
            cluster = connection.cluster_name(),
            namespaces = collection.snapshot.namespaces.len(),
            pods = collection.snapshot.pods.len(),
            nodes = collection.snapshot.nodes.len(),
            requests = counts.requests,
            bytes = counts.bytes,
            duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "cluster read"
        );
        Ok(collection)
    }

    fn tell_what_is_missing(&mut self, collection: &Collection) {
        for namespace in &collection.missing {
            tracing::warn!(namespace, "a namespace in namespace-selectors.include does not exist");
        }
        for one in &collection.snapshot.unreadable {
            self.is_complete = false;
            tracing::error!(
                target: FAILURE,
                namespace = one.namespace,
                "a namespace could not be read and is left out of the report: {}",
                one.reason
            );
        }
        match &collection.snapshot.node_access {
            NodeAccess::Read => {}
            NodeAccess::Forbidden => {
                tracing::info!("nodes may not be listed, so the report has none; grant `list` on nodes to change that");
            }
            NodeAccess::Failed(reason) => {
                self.is_complete = false;
                tracing::error!(target: FAILURE, "the nodes could not be read, so the report has none: {reason}");
            }
        }
        if has_read_nothing(&collection.snapshot) {
            tracing::error!(target: FAILURE, "no namespace could be read, so nothing is reported");
        }
    }

    /// What each account gets.
    fn shares(&self, collection: Collection, cluster_name: String) -> Vec<Share> {
        let is_explained = has_read_nothing(&collection.snapshot);
        let rules = ShareRules::new(self.config, cluster_name);
        let shares = rules.shares(collection.snapshot, collection.complete_list);
        if shares.is_empty() && !is_explained {
            tracing::warn!("there is nothing to report: no namespace is selected, or none goes to an account");
        }
        shares
    }

    /// Prints on a thread of its own: a reader that takes nothing must not keep a signal from being heard.
    async fn print(&self, format: OutputFormat, shares: &[Share]) -> Result<(), RunError> {
        let reports: Vec<Report> = shares.iter().flat_map(|share| share.reports.iter().cloned()).collect();
        let printing = tokio::task::spawn_blocking(move || output::print(format, &reports));
        tokio::select! {
            () = self.stop.cancelled() => Err(RunError::Stopped),
            printed = printing => Ok(printed.map_err(io::Error::other)??),
        }
    }

    async fn deliver(&mut self, client: Client, anchore: &AnchoreConfig, shares: Vec<Share>) {
        let recipients = Recipients::new(anchore, &self.config.routing);
        let delivery = AdhocDelivery::new(client, recipients, anchore.http.retry, self.stop.clone());
        let accounts = shares.into_iter().map(|share| AccountReports {
            account: share.account,
            batches: share.reports.into_iter().map(Into::into).collect(),
        });
        let outcomes = delivery.deliver(accounts.collect()).await;
        // What failed was logged when it did, with the server's words.
        self.is_complete &= outcomes.iter().all(AccountOutcome::is_accepted);
    }

    /// One line for each report that is not sent in a dry run. Credentials that cannot be read fail the run, as they
    /// would when sending.
    async fn tell_destinations(&mut self, shares: &[Share]) {
        let console = &self.options.console;
        let Some(anchore) = &self.config.anchore else {
            // A console that cannot be written is no reason to fail; the reports are on standard output.
            let _ = console.write_all(b"dry run: without anchore.url, user and password nothing would be sent\n");
            return;
        };
        let recipients = Recipients::new(anchore, &self.config.routing);
        let mut users = BTreeMap::new();
        for share in shares {
            let user = match recipients.of(&share.account).sender().await {
                Ok(sender) => sender.user,
                Err(error) => {
                    self.is_complete = false;
                    format!("({error})")
                }
            };
            users.insert(share.account.as_str(), user);
        }
        for share in shares {
            for report in &share.reports {
                let line = format!(
                    "dry run: account {} as user {} at {}: {} namespace{}, {} bytes\n",
                    share.account,
                    users.get(share.account.as_str()).map_or("", String::as_str),
                    anchore.url,
                    report.namespace_count(),
                    if report.namespace_count() == 1 { "" } else { "s" },
                    report.byte_len()
                );
                let _ = console.write_all(line.as_bytes());
            }
        }
    }
}

/// Whether there were namespaces, and none of them could be read.
fn has_read_nothing(snapshot: &ClusterSnapshot) -> bool {
    snapshot.namespaces.is_empty() && !snapshot.unreadable.is_empty()
}
