//! `quiet` and `log.*`.

use std::path::PathBuf;

/// What is logged, how, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// No logging on the console; a log file still logs.
    pub quiet: bool,
    /// The least important level that is logged.
    pub level: tracing::Level,
    /// `-v` was given: the console logs also when a log file does.
    pub verbose: bool,
    /// JSON lines instead of text.
    pub structured: bool,
    /// Appended to; `None` logs to standard error.
    pub file: Option<PathBuf>,
}
