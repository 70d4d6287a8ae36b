//! Logging: which lines are written, how they look, and where they go.
//!
//! Text or JSON lines on standard error, or appended to a file, or both. Once started, logging never fails the run: a
//! full disk or a closed standard error loses lines, which is said once, and nothing else. Only a log file that cannot
//! be opened is refused, before anything else is done. The libraries underneath are heard when they warn; only at the
//! level `trace` are they heard more.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Once;

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::log::LogConfig;
use crate::output::progress::Console;

/// The target of the event that tells why the exit code will not be zero: one event for each reason, at level ERROR,
/// with all it has to say in the event itself. Where the console shows no log, these events are still one plain line
/// each on standard error.
pub const FAILURE: &str = "anchore_k8s_inventory::failure";

/// Our own events, and those of [`FAILURE`].
const OWN_TARGET: &str = "anchore_k8s_inventory";

/// The Kubernetes client reports every failed request as an error, also those that are tried again.
const KUBERNETES_CLIENT_TARGET: &str = "kube_client";

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log file cannot be opened for appending: a mistake of configuration.
    #[error(
        "the log file {} cannot be opened ({reason}): set log.file to a file in a folder that exists and can be written",
        file.display()
    )]
    File {
        /// The file.
        file: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },
    /// This process logs already.
    #[error("logging cannot be started: {0}")]
    AlreadyStarted(String),
}

/// Starts logging for the whole process, `log` records of libraries included.
pub fn start(config: &LogConfig, console: &Console) -> Result<(), TelemetryError> {
    let subscriber = tracing_subscriber::registry().with(layers(config, console)?);
    subscriber.try_init().map_err(|error| TelemetryError::AlreadyStarted(error.to_string()))
}

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// One layer for each place that lines go to. The file is first: the text of a span is made by the first and used by
/// both, and a file must not get a terminal's colours.
fn layers(config: &LogConfig, console: &Console) -> Result<Vec<BoxedLayer>, TelemetryError> {
    let mut layers = Vec::new();
    if let Some(path) = &config.file {
        let file = open(path)?;
        layers.push(log_layer(config, Sink::File { file, path: path.clone(), console: console.clone() }));
    }
    if !config.quiet && (config.file.is_none() || config.verbose) {
        layers.push(log_layer(config, Sink::Console(console.clone())));
    } else {
        layers.push(failure_layer(Sink::Console(console.clone())));
    }
    Ok(layers)
}

fn open(path: &Path) -> Result<File, TelemetryError> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.map_err(|reason| TelemetryError::File { file: path.to_owned(), reason })
}

fn log_layer(config: &LogConfig, sink: Sink) -> BoxedLayer {
    let filter = filter(config.level);
    let colours_wanted = sink.is_terminal();
    let mut layer = tracing_subscriber::fmt::layer().log_internal_errors(false).with_writer(Lossy::new(sink));
    if !colours_wanted {
        // Where they are wanted, NO_COLOR decides.
        layer.set_ansi(false);
    }
    if config.structured {
        layer.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed()
    } else {
        layer.with_target(config.verbose).with_filter(filter).boxed()
    }
}

fn failure_layer(sink: Sink) -> BoxedLayer {
    tracing_subscriber::fmt::layer()
        .event_format(PlainLine)
        .with_ansi(false)
        .log_internal_errors(false)
        .with_writer(Lossy::new(sink))
        .with_filter(Targets::new().with_target(FAILURE, LevelFilter::ERROR))
        .boxed()
}

/// Libraries never get as far as their own `trace`: that is where headers and bodies are written.
fn filter(level: Level) -> Targets {
    let (client, libraries) = match level {
        Level::TRACE => (LevelFilter::DEBUG, LevelFilter::DEBUG),
        Level::ERROR => (LevelFilter::OFF, LevelFilter::ERROR),
        _ => (LevelFilter::OFF, LevelFilter::WARN),
    };
    Targets::new()
        .with_default(libraries)
        .with_target(KUBERNETES_CLIENT_TARGET, client)
        .with_target(OWN_TARGET, LevelFilter::from_level(level))
}

/// `error: MESSAGE field=value`, without time and level, on one line whatever the fields hold.
struct PlainLine;

impl<S, N> FormatEvent<S, N> for PlainLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = String::new();
        context.format_fields(Writer::new(&mut fields), event)?;
        let words = fields.split_whitespace().collect::<Vec<_>>().join(" ");
        writeln!(writer, "error: {words}")
    }
}

/// Where lines go.
enum Sink {
    Console(Console),
    File { file: File, path: PathBuf, console: Console },
}

impl Sink {
    fn is_terminal(&self) -> bool {
        matches!(self, Self::Console(_)) && io::stderr().is_terminal()
    }

    fn write_all(&self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Console(console) => console.write_all(line),
            Self::File { file, .. } => (&mut &*file).write_all(line),
        }
    }

    /// Says that lines are lost; if standard error is what failed, there is nobody left to tell.
    fn say_lost(&self, reason: &io::Error) {
        if let Self::File { path, console, .. } = self {
            let sentence = format!("the log file {} cannot be written ({reason}): lines are lost\n", path.display());
            let _ = console.write_all(sentence.as_bytes());
        }
    }
}

/// Loses what its sink does not take.
struct Lossy {
    sink: Sink,
    said: Once,
}

impl Lossy {
    fn new(sink: Sink) -> Self {
        Self { sink, said: Once::new() }
    }
}

impl<'a> MakeWriter<'a> for Lossy {
    type Writer = &'a Lossy;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Lossy {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(reason) = self.sink.write_all(line) {
            self.said.call_once(|| self.sink.say_lost(&reason));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use tracing::{debug, error, info, trace};

    use super::*;

    /// Logs to a file in a folder of its own and gives back what is in it.
    struct LogFile {
        folder: tempfile::TempDir,
    }

    impl LogFile {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap() }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("agent.log")
        }

        fn at(&self, level: Level) -> LogConfig {
            LogConfig { quiet: false, level, verbose: false, structured: false, file: Some(self.path()) }
        }

        fn lines(&self, config: &LogConfig, events: impl FnOnce()) -> Vec<String> {
            self.lines_of(layers(config, &Console::without_progress()).unwrap(), events)
        }

        fn sink(&self) -> Sink {
            Sink::File { file: open(&self.path()).unwrap(), path: self.path(), console: Console::without_progress() }
        }

        fn lines_of(&self, layers: Vec<BoxedLayer>, events: impl FnOnce()) -> Vec<String> {
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layers), events);
            std::fs::read_to_string(self.path()).unwrap().lines().map(str::to_owned).collect()
        }
    }

    fn without_time(line: &str) -> &str {
        line.split_once(' ').unwrap().1.trim_start()
    }

    #[test]
    fn a_line_has_time_level_message_and_fields() {
        let log = LogFile::new();

        let lines = log.lines(&log.at(Level::INFO), || info!(account = "prod", "report accepted"));

        let [line] = lines.as_slice() else { panic!("one line expected: {lines:?}") };
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok() && time.ends_with('Z'), "{time}");
        assert_eq!(rest.trim_start(), "INFO report accepted account=\"prod\"");
    }

    #[test]
    fn structured_lines_are_json_with_the_fields_at_the_top() {
        let log = LogFile::new();
        let config = LogConfig { structured: true, ..log.at(Level::INFO) };

        let lines = log.lines(&config, || info!(account = "prod", pods = 7, "report accepted"));

        let mut line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        line.as_object_mut().unwrap().remove("timestamp").unwrap();
        let expected = serde_json::json!({
            "level": "INFO", "message": "report accepted", "account": "prod", "pods": 7,
            "target": "anchore_k8s_inventory::telemetry::tests",
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn lines_below_the_level_are_not_written() {
        let log = LogFile::new();

        let lines = log.lines(&log.at(Level::DEBUG), || {
            trace!("a trace");
            debug!("a detail");
        });

        let texts: Vec<&str> = lines.iter().map(|line| without_time(line)).collect();
        assert_eq!(texts, ["DEBUG a detail"]);
    }

    #[test]
    fn libraries_are_heard_when_they_warn_and_the_kubernetes_client_not_at_all() {
        let log = LogFile::new();

        let lines = log.lines(&log.at(Level::DEBUG), || {
            error!(target: "kube_client::client::builder", "failed with status 503");
            debug!(target: "rustls::client", "not a word");
            tracing::warn!(target: "rustls::client", "a warning");
        });

        let texts: Vec<&str> = lines.iter().map(|line| without_time(line)).collect();
        assert_eq!(texts, ["WARN a warning"]);
    }

    #[test]
    fn at_trace_libraries_are_heard_but_not_their_own_trace() {
        let filter = filter(Level::TRACE);

        assert!(filter.would_enable("kube_client::client::builder", &Level::DEBUG));
        assert!(!filter.would_enable("hyper_util::client", &Level::TRACE));
        assert!(filter.would_enable("anchore_k8s_inventory::cluster", &Level::TRACE));
    }

    #[test]
    fn a_log_file_is_appended_to() {
        let log = LogFile::new();
        std::fs::write(log.path(), "yesterday\n").unwrap();

        let lines = log.lines(&log.at(Level::INFO), || info!("today"));

        assert_eq!((lines[0].as_str(), without_time(&lines[1])), ("yesterday", "INFO today"));
    }

    #[test]
    fn a_log_file_that_cannot_be_opened_is_named() {
        let log = LogFile::new();
        let file = log.path().join("below-no-folder.log");
        let config = LogConfig { file: Some(file.clone()), ..log.at(Level::INFO) };

        let error = layers(&config, &Console::without_progress()).err().unwrap();

        let beginning = format!("the log file {} cannot be opened (No such file", file.display());
        assert!(error.to_string().starts_with(&beginning), "{error}");
    }

    #[test]
    fn where_no_log_is_shown_only_the_reason_of_a_failure_is_one_plain_line() {
        let log = LogFile::new();

        let lines = log.lines_of(vec![failure_layer(log.sink())], || {
            error!("loud, but not the reason");
            error!(target: FAILURE, account = "prod", answer = %"two\n lines", "report not accepted");
        });

        assert_eq!(lines, ["error: report not accepted account=\"prod\" answer=two lines"]);
    }

    #[test]
    fn the_log_shows_the_reason_of_a_failure_too() {
        let log = LogFile::new();

        let lines = log.lines(&log.at(Level::ERROR), || error!(target: FAILURE, "report not accepted"));

        assert_eq!(without_time(&lines[0]), "ERROR report not accepted");
    }

    #[test]
    fn a_full_disk_loses_lines_and_nothing_else() {
        let full = Path::new("/dev/full");
        let console = Console::without_progress();
        let sink = Sink::File { file: open(full).unwrap(), path: full.to_owned(), console };
        let lossy = Lossy::new(sink);

        let written = (&lossy).write(b"a line\n").unwrap();

        assert_eq!((written, lossy.said.is_completed()), (7, true));
    }
}
