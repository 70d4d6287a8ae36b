//! The settings: read from flags, environment and one file, merged, checked, and turned into types that need no
//! further checks.
//!
//! This is the only module that reads configuration files and the environment's `ANCHORE_K8S_INVENTORY_…` variables.
//! The rest of the program holds a [`Config`] or one of its sections: durations, compiled patterns, secrets that
//! cannot be printed; never text that still has to be understood.

pub mod anchore;
pub mod documentation;
pub mod images;
pub mod kubernetes;
pub mod limits;
pub mod log;
pub mod metadata;
pub mod pattern;
pub mod periodic;
pub mod problem;
pub mod reader;
pub mod routes;
pub mod secret;
pub mod selectors;
pub mod show;

mod file;
mod key;
mod run;
mod table;
mod values;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use file::FileName;
use problem::{LoadError, Problem, Severity};
use reader::{Reader, Setting};
use table::Table;
use values::{FileLayer, Values};

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
    /// `-n`: replaces `namespace-selectors.include` and the old `namespaces`; the word `all` means all.
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
#[derive(Clone, Default)]
pub struct Environment {
    /// The environment's variables. Some are secrets.
    pub variables: BTreeMap<String, String>,
    /// Names of variables whose value is not UTF-8.
    pub unreadable: BTreeSet<String>,
    /// The folder that relative paths start from.
    pub working_directory: PathBuf,
    /// The user's home, when there is one.
    pub home: Option<PathBuf>,
}

/// Settings that can be used, and what there is to know about them.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What probably does not mean what was meant; to be logged once logging is set up.
    pub warnings: Vec<Problem>,
    /// The configuration file that was read.
    pub file: Option<PathBuf>,
    /// Every key with its value and the origin of that, in the order of the documentation.
    pub settings: Vec<Setting>,
}

/// Reads and checks the settings: flags, then environment, then one file, then defaults.
pub fn load(overrides: &Overrides, environment: &Environment) -> Result<Loaded, LoadError> {
    let Examination { config, mut problems, file, settings } = examine(overrides, environment);
    problems.retain(|problem| problem.severity != Severity::Hint);
    let failed = problems.iter().any(|problem| problem.severity == Severity::Error);
    match config {
        Some(config) if !failed => {
            Ok(Loaded { config, warnings: problems, file: file.map(|file| file.path), settings })
        }
        _ => Err(LoadError { problems }),
    }
}

impl Environment {
    /// What the process was started with.
    pub fn from_process() -> Self {
        let mut environment =
            Self { working_directory: std::env::current_dir().unwrap_or_default(), ..Self::default() };
        for (name, value) in std::env::vars_os() {
            // A name that is not UTF-8 is none that is looked for.
            let Ok(name) = name.into_string() else { continue };
            if let Ok(value) = value.into_string() {
                environment.variables.insert(name, value);
            } else {
                environment.unreadable.insert(name);
            }
        }
        environment.home = std::env::home_dir().filter(|home| home.is_absolute());
        environment
    }

    /// A path from the settings: relative ones start from the working directory, `~/` from the home.
    fn path(&self, text: &str) -> PathBuf {
        match (text.strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => self.working_directory.join(Path::new(text)),
        }
    }

    /// A folder of the XDG base directory specification, which says to ignore relative paths.
    fn xdg_directory(&self, variable: &str) -> Option<PathBuf> {
        self.variables.get(variable).map(PathBuf::from).filter(|path| path.is_absolute())
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("variables", &self.variables.len()).finish_non_exhaustive()
    }
}

/// Everything that reading the settings found out, errors or not.
struct Examination {
    /// `None` when the file could not be understood at all.
    config: Option<Config>,
    problems: Vec<Problem>,
    file: Option<FileName>,
    settings: Vec<Setting>,
}

fn examine(overrides: &Overrides, environment: &Environment) -> Examination {
    let table = Table::new();
    let (mut values, file) = match read_file(overrides, environment, &table) {
        Ok(read) => read,
        // Without the file every further problem would be a consequence of this one.
        Err(problem) => {
            return Examination { config: None, problems: vec![*problem], file: None, settings: Vec::new() };
        }
    };
    values.check_accounts();
    values.add_environment(&table, environment);
    values.add_flags(overrides);
    let unknown = std::mem::take(&mut values.unknown);
    let mut reader = Reader::new(values, environment);
    let config = read_sections(&mut reader, overrides);
    let Reader { mut problems, settings, .. } = reader;
    let severity = if overrides.strict { Severity::Error } else { Severity::Warning };
    problems.extend(unknown.into_iter().map(|problem| Problem { severity, ..problem }));
    problems.sort_by(|a, b| a.origin.cmp(&b.origin));
    Examination { config: Some(config), problems, file, settings }
}

fn read_file(
    overrides: &Overrides,
    environment: &Environment,
    table: &Table,
) -> Result<(Values, Option<FileName>), Box<Problem>> {
    let Some(file) = file::read(overrides.config_file.as_deref(), environment)? else {
        return Ok((Values::default(), None));
    };
    let parsed =
        yaml::parse(&file.text).map_err(|error| Problem::file(&file.name.shown, Some(error.position), error.what))?;
    let mut layer = FileLayer { file: &file.name.shown, table, environment, values: Values::default() };
    layer.take(parsed);
    Ok((layer.values, Some(file.name)))
}

fn read_sections(reader: &mut Reader<'_>, overrides: &Overrides) -> Config {
    let run = run::read(reader);
    let log = log::read(reader, overrides.verbosity);
    let kubeconfig = kubernetes::read_access(reader);
    let kubernetes = kubernetes::read_requests(reader);
    let selectors = selectors::read(reader);
    let images = images::read(reader);
    let metadata = metadata::read(reader);
    let anchore = anchore::read(reader);
    let routing = routes::read(reader, &anchore.account);
    let anchore = anchore.complete(reader, &routing);
    Config {
        log,
        mode: run.mode,
        polling_interval: run.polling_interval,
        verbose_inventory_reports: run.verbose_inventory_reports,
        kubeconfig,
        kubernetes,
        selectors,
        routing,
        images,
        limits: limits::read(reader),
        metadata,
        anchore,
        periodic: periodic::read(reader),
    }
}
