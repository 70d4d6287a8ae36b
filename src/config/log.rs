//! `quiet` and `log.*`.

use std::path::PathBuf;

use tracing::Level;

use super::key::{Boolean, Choice, Key, Section, Text};
use super::problem::Origin;
use super::reader::{Reader, Shown};

const QUIET: Key<Boolean> = Key::new(
    "quiet",
    Boolean { default: false },
    "No logging on the console. A log file still logs, and what makes the exit code non-zero is still one line on \
     standard error.",
);

const LEVEL: Key<Choice<Level>> = Key::new(
    "log.level",
    Choice {
        default: ("info", Level::INFO),
        words: &[
            ("trace", Level::TRACE),
            ("debug", Level::DEBUG),
            ("info", Level::INFO),
            ("warn", Level::WARN),
            ("warning", Level::WARN),
            ("error", Level::ERROR),
            ("panic", Level::ERROR),
            ("fatal", Level::ERROR),
        ],
    },
    "The least important level that is logged. `-v` raises it to debug, `-vv` to trace.",
);

const STRUCTURED: Key<Boolean> =
    Key::new("log.structured", Boolean { default: false }, "Log lines of JSON instead of text.");

const FILE: Key<Text> = Key::new(
    "log.file",
    Text::UNSET,
    "File that log lines are appended to, instead of the console; with `-v` to the console as well.",
);

/// What is logged, how, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// No logging on the console; a log file still logs.
    pub quiet: bool,
    /// The least important level that is logged.
    pub level: Level,
    /// `-v` was given: the console logs also when a log file does.
    pub verbose: bool,
    /// JSON lines instead of text.
    pub structured: bool,
    /// Appended to; `None` logs to standard error.
    pub file: Option<PathBuf>,
}

pub(super) fn section() -> Section {
    Section { title: "Logging", intro: "", rows: vec![QUIET.into(), LEVEL.into(), STRUCTURED.into(), FILE.into()] }
}

/// Reads the section; `verbosity` is how often `-v` was given.
pub(super) fn read(reader: &mut Reader<'_>, verbosity: u8) -> LogConfig {
    LogConfig {
        quiet: reader.boolean(&QUIET),
        level: read_level(reader, verbosity),
        verbose: verbosity > 0,
        structured: reader.boolean(&STRUCTURED),
        file: reader.text(&FILE).map(|path| reader.environment.path(&path)),
    }
}

/// `-v` never makes the log less detailed than `log.level` does.
fn read_level(reader: &mut Reader<'_>, verbosity: u8) -> Level {
    let configured = reader.choice(&LEVEL);
    let (word, asked) = match verbosity {
        0 => return configured,
        1 => ("debug", Level::DEBUG),
        _ => ("trace", Level::TRACE),
    };
    if asked > configured {
        reader.amend(Shown::Text(word.to_owned()), Origin::Flag("--verbose"));
    }
    configured.max(asked)
}
