//! The command line: flags, subcommands, completion, exit codes.
//!
//! Words become an [`Invocation`]; what a value means is left to [`crate::config`], which gets flags, environment and
//! file alike. Wrong usage is explained on standard error and ends with exit code 2; nothing is contacted then. Together
//! with [`crate::output`] this is the only writer of standard output. A reader that closes it early (`| head`) has seen
//! enough: that is no failure.

pub mod arguments;
pub mod completion;
pub mod config_command;
pub mod version;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::config::Overrides;
use crate::output::OutputFormat;
use arguments::{Arguments, Command, ConfigCommand};
use completion::Shell;

/// What the user wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// Collect and report.
    Report {
        /// The settings that flags give.
        overrides: Overrides,
        /// Print this instead of sending reports.
        output: Option<OutputFormat>,
        /// Print what would be sent where, and send nothing.
        dry_run: bool,
    },
    /// Print which program this is.
    Version,
    /// Print the completion script for a shell.
    Completion(Shell),
    /// Check the settings.
    ConfigCheck(Overrides),
    /// Print the settings in effect.
    ConfigShow(Overrides),
}

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// All that was asked for was done.
    Success,
    /// Something failed while running: not everything could be read, or not everything was accepted.
    Failure,
    /// The command line or the configuration, kubeconfig included, is wrong. Nothing was contacted.
    Usage,
    /// Ended at once by the signal of this number.
    Signal(u8),
}

/// Reads the words of the command line, the program's own name first. Help and wrong usage have been printed when this
/// gives an exit code.
pub fn read(words: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Invocation, ExitCode> {
    let arguments = Arguments::try_parse_from(words);
    arguments.and_then(|arguments| invocation(&arguments)).map_err(|error| {
        // Help goes to standard output, all else to standard error: if that is closed, nobody wants to know.
        let printed = error.print();
        if error.use_stderr() { ExitCode::Usage } else { end_of_output(printed) }
    })
}

/// Says on standard error what is wrong, and how the process has to end.
pub fn fail(code: ExitCode, reason: &dyn Display) -> ExitCode {
    let _ = writeln!(io::stderr().lock(), "error: {reason}");
    code
}

/// Prints `text` on standard output.
pub(crate) fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    end_of_output(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

fn end_of_output(printed: io::Result<()>) -> ExitCode {
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(ExitCode::Failure, &format!("standard output cannot be written: {error}"))
        }
        _ => ExitCode::Success,
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(match code {
            ExitCode::Success => 0,
            ExitCode::Failure => 1,
            ExitCode::Usage => 2,
            // As shells report it.
            ExitCode::Signal(number) => 128_u8.saturating_add(number),
        })
    }
}

fn invocation(arguments: &Arguments) -> Result<Invocation, clap::Error> {
    let (output, dry_run) = (arguments.output, arguments.dry_run.unwrap_or_default());
    let Some(command) = &arguments.command else {
        return Ok(Invocation::Report { overrides: arguments.overrides(), output, dry_run });
    };
    if output.is_some() || dry_run {
        let conflict = "--output and --dry-run are for collecting and reporting: leave out the subcommand";
        return Err(Arguments::command().error(ErrorKind::ArgumentConflict, conflict));
    }
    Ok(match command {
        Command::Version => Invocation::Version,
        Command::Completion { shell } => Invocation::Completion(*shell),
        Command::Config { command: ConfigCommand::Check } => Invocation::ConfigCheck(arguments.overrides()),
        Command::Config { command: ConfigCommand::Show } => Invocation::ConfigShow(arguments.overrides()),
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use pretty_assertions::assert_eq;
    use rstest::rstest;

    use super::*;

    fn read_line(line: &str) -> Result<Invocation, ExitCode> {
        read(std::iter::once("anchore-k8s-inventory").chain(line.split_whitespace()))
    }

    /// The settings that a line of flags gives.
    fn settings(flags: &str) -> Overrides {
        match read_line(flags) {
            Ok(Invocation::Report { overrides, .. }) => overrides,
            other => panic!("{flags}: {other:?}"),
        }
    }

    #[test]
    fn without_arguments_it_reports_with_nothing_overridden() {
        let expected = Invocation::Report { overrides: Overrides::default(), output: None, dry_run: false };

        assert_eq!(read_line(""), Ok(expected));
    }

    #[test]
    fn every_flag_reaches_its_setting() {
        let long = "--config c.yaml --kubeconfig k.yaml --context staging --mode periodic --polling-interval-seconds 60 \
                    --namespaces a,b --verbose-inventory-reports --quiet --verbose --strict";
        let expected = Overrides {
            config_file: Some(PathBuf::from("c.yaml")),
            kubeconfig: Some("k.yaml".to_owned()),
            context: Some("staging".to_owned()),
            mode: Some("periodic".to_owned()),
            polling_interval_seconds: Some("60".to_owned()),
            namespaces: vec!["a".to_owned(), "b".to_owned()],
            verbose_inventory_reports: Some(true),
            quiet: Some(true),
            verbosity: 1,
            strict: true,
        };

        assert_eq!(settings(long), expected);
        let short = "-c c.yaml -k k.yaml --context staging -m periodic -p 60 -n a -n b -i -q -v --strict";
        assert_eq!(settings(short), expected);
    }

    #[rstest]
    #[case("--quiet=true", Some(true))]
    #[case("--quiet=false", Some(false))]
    #[case("-q=false", Some(false))]
    #[case("-q=1", Some(true))]
    #[case("-q=F", Some(false))]
    #[case("--quiet=TRUE", Some(true))]
    #[case("-q", Some(true))]
    #[case("-q --quiet=false", Some(false))]
    #[case("", None)]
    fn a_boolean_flag_takes_a_value_and_the_last_one_counts(#[case] flags: &str, #[case] quiet: Option<bool>) {
        assert_eq!(settings(flags).quiet, quiet);
    }

    #[rstest]
    #[case("-v", 1)]
    #[case("-vv", 2)]
    #[case("-v -v --verbose", 3)]
    #[case("-qv", 1)]
    #[case("--verbose=2", 2)]
    #[case("--verbose=true", 1)]
    #[case("--verbose=false", 0)]
    fn verbose_may_be_repeated(#[case] flags: &str, #[case] verbosity: u8) {
        assert_eq!(settings(flags).verbosity, verbosity);
    }

    #[test]
    fn namespaces_are_split_trimmed_and_empty_ones_left_out() {
        let words = ["anchore-k8s-inventory", "-n", "a, b,", "--namespaces=c", "--namespaces", ""];

        let Ok(Invocation::Report { overrides, .. }) = read(words) else { panic!("a report is asked for") };

        assert_eq!(overrides.namespaces, ["a", "b", "c"]);
    }

    #[rstest]
    #[case("-c c.yaml -k k.yaml --context x -q -v config show")]
    #[case("config -c c.yaml -k k.yaml --context x -q -v show")]
    #[case("config show -c c.yaml -k k.yaml --context x -q -v")]
    fn global_flags_stand_before_or_after_a_subcommand(#[case] line: &str) {
        let expected = settings("-c c.yaml -k k.yaml --context x -q -v");

        assert_eq!(read_line(line), Ok(Invocation::ConfigShow(expected)));
    }

    #[test]
    fn a_negative_number_is_a_value_to_be_checked_like_any_other() {
        assert_eq!(settings("-p -1").polling_interval_seconds.as_deref(), Some("-1"));
    }

    #[test]
    fn output_and_dry_run_are_understood() {
        let expected =
            Invocation::Report { overrides: Overrides::default(), output: Some(OutputFormat::Table), dry_run: true };

        assert_eq!(read_line("-o table --dry-run"), Ok(expected.clone()));
        assert_eq!(read_line("--output=TABLE --dry-run=true"), Ok(expected));
    }

    #[rstest]
    #[case("surplus")]
    #[case("--no-such-flag")]
    #[case("--quiet=perhaps")]
    #[case("-m sometimes")]
    #[case("-o yaml")]
    #[case("completion tcsh")]
    #[case("version surplus")]
    #[case("config")]
    #[case("-o json config show")]
    #[case("--dry-run version")]
    fn wrong_usage_is_refused(#[case] line: &str) {
        assert_eq!(read_line(line), Err(ExitCode::Usage));
    }

    #[rstest]
    #[case("--help")]
    #[case("-h")]
    #[case("help")]
    #[case("help config show")]
    #[case("-V")]
    fn help_is_a_success(#[case] line: &str) {
        assert_eq!(read_line(line), Err(ExitCode::Success));
    }

    #[test]
    fn the_definitions_of_all_flags_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn exit_codes_are_those_of_the_documentation() {
        let codes = [ExitCode::Success, ExitCode::Failure, ExitCode::Usage, ExitCode::Signal(15)];

        let expected = [0, 1, 2, 143].map(|code: u8| format!("{:?}", std::process::ExitCode::from(code)));
        assert_eq!(codes.map(|code| format!("{:?}", std::process::ExitCode::from(code))), expected);
    }
}
