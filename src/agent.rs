//! Puts the parts together and runs them.

use crate::cli::ExitCode;
use crate::config::{Environment, Loaded};
use crate::output::OutputFormat;
use crate::output::progress::Console;

/// What one run is asked for beside its settings.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Print this instead of sending reports.
    pub output: Option<OutputFormat>,
    /// Print what would be sent where, and send nothing.
    pub dry_run: bool,
    /// Standard error, for the progress line.
    pub console: Console,
}

/// Collects and reports.
#[expect(clippy::unused_async, reason = "the parts it runs are written next")]
pub async fn run(_loaded: Loaded, _environment: Environment, _options: RunOptions) -> ExitCode {
    ExitCode::Failure
}
