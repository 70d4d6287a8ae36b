//! The settings: read from flags, environment and one file, merged, checked, and turned into types that need no
//! further checks.
//!
//! This is the only module that reads configuration files and the environment's `ANCHORE_K8S_INVENTORY_…` variables.
//! The rest of the program holds a [`Config`] or one of its sections: durations, compiled patterns, secrets that
//! cannot be printed; never text that still has to be understood.

pub mod anchore;
pub mod images;
pub mod kubernetes;
pub mod limits;
pub mod log;
pub mod metadata;
pub mod pattern;
pub mod periodic;
pub mod routes;
pub mod secret;
pub mod selectors;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// All settings, checked. Field by field in `docs/configuration.md`.
#[derive(Debug, Clone)]
pub struct Config {
    /// What is logged, how, and where.
    pub log: log::LogConfig,
    /// Once, or again and again.
    pub mode: Mode,
    /// Time from one report to the next in periodic mode.
    pub polling_interval: Duration,
    /// Print every report that is sent.
    pub verbose_inventory_reports: bool,
    /// Which cluster, under which name, with whose rights.
    pub kubeconfig: kubernetes::KubeconfigConfig,
    /// How the Kubernetes API is read.
    pub kubernetes: kubernetes::KubernetesConfig,
    /// Which namespaces are read.
    pub selectors: selectors::NamespaceSelectors,
    /// Which account gets which namespace.
    pub routing: routes::RoutingConfig,
    /// How a container's image becomes a name, a tag and a digest.
    pub images: images::ImagesConfig,
    /// When a report is split into batches.
    pub limits: limits::ReportLimits,
    /// Which labels and annotations are reported.
    pub metadata: metadata::MetadataCollection,
    /// Anchore Enterprise; `None` when url, user and password are all empty: nothing is sent then.
    pub anchore: Option<anchore::AnchoreConfig>,
    /// What only the resident agent uses: registration, health, watching, spool, admin port, lease.
    pub periodic: periodic::PeriodicConfig,
}

/// How long the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Collect and report once, then exit.
    Adhoc,
    /// Collect and report every [`Config::polling_interval`] until told to stop.
    Periodic,
}

/// What the command line sets; `None` and empty mean not given. Wins over environment and file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `-c`: the configuration file.
    pub config_file: Option<PathBuf>,
    /// `-k`: a kubeconfig file, or `use-in-cluster`.
    pub kubeconfig: Option<String>,
    /// `--context`.
    pub context: Option<String>,
    /// `-m`.
    pub mode: Option<String>,
    /// `-p`.
    pub polling_interval_seconds: Option<String>,
    /// `-n`: replaces `namespace-selectors.include` and the old `namespaces`.
    pub namespaces: Vec<String>,
    /// `-i`.
    pub verbose_inventory_reports: Option<bool>,
    /// `-q`.
    pub quiet: Option<bool>,
    /// How often `-v` was given.
    pub verbosity: u8,
    /// `--strict`: unknown keys are errors.
    pub strict: bool,
}

/// Everything outside that loading reads, so that tests can give their own.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// The environment's variables.
    pub variables: BTreeMap<String, String>,
    /// The folder that relative paths start from.
    pub working_directory: PathBuf,
    /// The user's home, when there is one.
    pub home: Option<PathBuf>,
}
