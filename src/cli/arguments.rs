//! The flags and subcommands, as the user types them, and the help on them.
//!
//! A flag that sets something names the environment variable that sets the same. Values are taken as text here and
//! checked with all other settings, except where a flag is not a setting.

use std::path::PathBuf;

use clap::builder::{BoolishValueParser, PossibleValuesParser};
use clap::{ArgAction, Parser, Subcommand, ValueHint};
use clap_complete::engine::ArgValueCompleter;

use super::completion::{self, Shell};
use crate::config::Overrides;
use crate::output::OutputFormat;

const CLUSTER: &str = "Cluster";
const RUN: &str = "Run";
const OUTPUT: &str = "Output";
const CONFIGURATION: &str = "Configuration";
const LOGGING: &str = "Logging";

const AFTER_HELP: &str = "Try --help for examples, configuration files and exit codes.";

const AFTER_LONG_HELP: &str = "\
Examples:
  See which images run in the cluster of your current kubectl context; nothing is sent:
    anchore-k8s-inventory -o table

  The same for two namespaces of another context, one image a line, for a scanner:
    anchore-k8s-inventory --context staging -n shop,payment -o images | xargs -n 1 grype

  See what would be sent to which account, then send it:
    anchore-k8s-inventory -c inventory.yaml --dry-run
    anchore-k8s-inventory -c inventory.yaml

  Find mistakes in a configuration file, and where each setting comes from:
    anchore-k8s-inventory -c inventory.yaml config check
    anchore-k8s-inventory -c inventory.yaml config show

Settings come from flags, then environment variables, then one file, then defaults. The file is
that of --config, or the first of these that exists, also as .yml or .json:
  ./.anchore-k8s-inventory.yaml
  ./anchore-k8s-inventory.yaml
  ./.anchore-k8s-inventory/config.yaml
  ~/.anchore-k8s-inventory.yaml
  ~/.config/anchore-k8s-inventory/config.yaml
  /etc/xdg/anchore-k8s-inventory/config.yaml
Every key of the file has an environment variable: anchore.url is ANCHORE_K8S_INVENTORY_ANCHORE_URL.

Exit codes:
  0  all done
  1  something failed while running: a namespace was not read, a report was not accepted
  2  the command line or the configuration is wrong; nothing was contacted";

const COMPLETION_SETUP: &str = "\
Put the line of your shell into the file it reads at the start:
  bash        ~/.bashrc                   source <(anchore-k8s-inventory completion bash)
  zsh         ~/.zshrc, after compinit    source <(anchore-k8s-inventory completion zsh)
  fish        ~/.config/fish/config.fish  anchore-k8s-inventory completion fish | source
  PowerShell  $PROFILE                    anchore-k8s-inventory completion powershell |
                                            Out-String | Invoke-Expression";

/// Reports the container images in use in a Kubernetes cluster to Anchore Enterprise.
///
/// Without a subcommand it reads the cluster of your kubeconfig, or the one it runs in, and sends a report of
/// namespaces, pods, containers and nodes to the Anchore Enterprise of your configuration. Reports and tables are
/// printed on standard output, everything else on standard error.
#[derive(Debug, Parser)]
#[expect(clippy::doc_markdown, reason = "the sentences are printed as they are")]
#[command(version, args_override_self = true, max_term_width = 120)]
#[command(after_help = AFTER_HELP, after_long_help = AFTER_LONG_HELP)]
pub struct Arguments {
    /// Kubeconfig file, or use-in-cluster for the pod's service account
    ///
    /// Default: the files in KUBECONFIG, else ~/.kube/config, else the pod's service account.
    ///
    /// Environment: ANCHORE_K8S_INVENTORY_KUBECONFIG_PATH
    #[arg(short, long, value_name = "FILE", global = true, help_heading = CLUSTER)]
    #[arg(add = ArgValueCompleter::new(completion::kubeconfigs))]
    kubeconfig: Option<String>,

    /// Context of the kubeconfig, instead of its current one
    ///
    /// Environment: ANCHORE_K8S_INVENTORY_KUBECONFIG_CONTEXT
    #[arg(long, value_name = "NAME", global = true, help_heading = CLUSTER)]
    #[arg(add = ArgValueCompleter::new(completion::contexts))]
    context: Option<String>,

    /// Only these namespaces [default: all]
    ///
    /// Exact names, separated by commas, or the word all; the flag may be repeated. What the configuration excludes
    /// stays excluded.
    ///
    /// Environment: ANCHORE_K8S_INVENTORY_NAMESPACE_SELECTORS_INCLUDE
    #[arg(short, long, value_name = "NAMES", value_delimiter = ',', help_heading = CLUSTER)]
    #[arg(add = ArgValueCompleter::new(completion::namespaces))]
    namespaces: Vec<String>,

    /// Report once, or again and again [default: adhoc]
    ///
    /// Environment: ANCHORE_K8S_INVENTORY_MODE
    #[arg(short, long, ignore_case = true, help_heading = RUN)]
    #[arg(value_parser = PossibleValuesParser::new(["adhoc", "periodic"]))]
    mode: Option<String>,

    /// Seconds from one report to the next in periodic mode [default: 300]
    ///
    /// Environment: ANCHORE_K8S_INVENTORY_POLLING_INTERVAL_SECONDS
    #[arg(short, long, value_name = "N", allow_negative_numbers = true, help_heading = RUN)]
    polling_interval_seconds: Option<String>,

    /// Print this on standard output and send nothing (adhoc mode only)
    #[arg(short, long, value_enum, ignore_case = true, value_name = "FORMAT", help_heading = OUTPUT)]
    pub(super) output: Option<OutputFormat>,

    /// Print the reports and where they would be sent, and send nothing (adhoc mode only)
    #[arg(long, help_heading = OUTPUT)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    pub(super) dry_run: Option<bool>,

    /// Print every report that is sent
    ///
    /// Environment: ANCHORE_K8S_INVENTORY_VERBOSE_INVENTORY_REPORTS
    #[arg(short = 'i', long, help_heading = OUTPUT)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    verbose_inventory_reports: Option<bool>,

    /// Configuration file; without it, the first that exists of those in --help
    #[arg(short, long, value_name = "FILE", global = true, value_hint = ValueHint::FilePath)]
    #[arg(help_heading = CONFIGURATION)]
    config: Option<PathBuf>,

    /// Refuse unknown configuration keys instead of warning of them
    #[arg(long, help_heading = CONFIGURATION)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    strict: Option<bool>,

    /// No log and no progress on standard error; what fails is still one line
    ///
    /// Environment: ANCHORE_K8S_INVENTORY_QUIET
    #[arg(short, long, global = true, help_heading = LOGGING)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    #[arg(value_parser = BoolishValueParser::new(), hide_possible_values = true)]
    quiet: Option<bool>,

    /// Log more: -v debug, -vv trace
    ///
    /// Never less than the configured level. With a log file, log on standard error too.
    ///
    /// Environment: ANCHORE_K8S_INVENTORY_LOG_LEVEL, with the level's name
    #[arg(short, long, global = true, action = ArgAction::Append, help_heading = LOGGING)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "1", value_name = "N")]
    #[arg(value_parser = verbosity)]
    verbose: Vec<u8>,

    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// What else the program does.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check or show the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the script that makes a shell complete flags, contexts and namespaces
    #[command(after_long_help = COMPLETION_SETUP)]
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Print version, commit, build date and platform as JSON
    Version,
}

/// What is done with the configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// List all problems of the configuration, each with its place; unknown keys are errors. Contacts nothing
    Check,
    /// Print the configuration in effect, each value with its origin, secrets left out. Contacts nothing
    Show,
}

impl Arguments {
    /// What the flags set.
    pub(super) fn overrides(&self) -> Overrides {
        let names = self.namespaces.iter().map(|name| name.trim());
        Overrides {
            config_file: self.config.clone(),
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            mode: self.mode.clone(),
            polling_interval_seconds: self.polling_interval_seconds.clone(),
            namespaces: names.filter(|name| !name.is_empty()).map(str::to_owned).collect(),
            verbose_inventory_reports: self.verbose_inventory_reports,
            quiet: self.quiet,
            verbosity: self.verbose.iter().copied().fold(0, u8::saturating_add),
            strict: self.strict.unwrap_or_default(),
        }
    }
}

/// How much one `--verbose` counts: also as a number, or as a boolean.
fn verbosity(text: &str) -> Result<u8, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(1),
        "false" => Ok(0),
        number => number.parse().map_err(|_| "it is no small number".to_owned()),
    }
}
