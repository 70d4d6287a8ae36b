//! Completion: the script for a shell, and the answers when a shell asks through that script.
//!
//! The script runs this program again with `COMPLETE` set to the shell's name and the words typed so far after `--`.
//! An answer that needs the cluster is given within two seconds or is empty: nothing is ever said about a failure,
//! for it would land in the middle of the line that is being typed.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, ValueEnum};
use clap_complete::CompleteEnv;
use clap_complete::engine::{CompletionCandidate, PathCompleter, ValueCompleter};
use clap_complete::env::Shells;
use tokio::time::timeout;

use super::arguments::Arguments;
use super::{ExitCode, fail, print};
use crate::cluster::collect::namespace_names;
use crate::cluster::connect::{Connection, context_names};
use crate::config::{self, Environment, Overrides};

/// How long a person who pressed the tab key waits for the cluster.
const PATIENCE: Duration = Duration::from_secs(2);

/// The variable by which the script asks; that of all programs whose completion is made this way.
const VARIABLE: &str = "COMPLETE";

/// A shell that can be taught.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// fish.
    Fish,
    /// PowerShell.
    Powershell,
}

/// Answers a shell that asks for completions. `None`: no shell asks, and the program is to do its work; that is so for
/// every value of `COMPLETE` that is no shell's name, for the variable may be there for another reason.
pub fn answer() -> Option<ExitCode> {
    let asking = env::var_os(VARIABLE)?;
    let name = Path::new(&asking).file_stem()?.to_str()?;
    Shells::builtins().completer(name)?;
    let completion = CompleteEnv::with_factory(Arguments::command).var(VARIABLE);
    match completion.try_complete(env::args_os(), env::current_dir().ok().as_deref()) {
        Ok(true) => Some(ExitCode::Success),
        Ok(false) => None,
        Err(_) => Some(ExitCode::Failure),
    }
}

/// Prints the script for `shell`: what the program answers when `COMPLETE` names the shell and no words follow.
pub fn print_script(shell: Shell) -> ExitCode {
    let name = match shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
        Shell::Powershell => "powershell",
    };
    let program = env!("CARGO_PKG_NAME");
    let mut script = Vec::new();
    let written = Shells::builtins()
        .completer(name)
        .map(|shell| shell.write_registration(VARIABLE, program, program, &this_program(), &mut script));
    match written {
        Some(Ok(())) => print(&String::from_utf8_lossy(&script)),
        _ => fail(ExitCode::Failure, &format!("there is no completion script for {name}")),
    }
}

/// Kubeconfig files, and the word that stands in for one.
pub(super) fn kubeconfigs(typed: &OsStr) -> Vec<CompletionCandidate> {
    let mut candidates = PathCompleter::file().complete(typed);
    candidates.extend(beginning_with(typed, ["use-in-cluster".to_owned()]));
    candidates
}

/// The contexts of the kubeconfig that the line names, or of the configured one.
pub(super) fn contexts(typed: &OsStr) -> Vec<CompletionCandidate> {
    let environment = Environment::from_process();
    let names = config::load(&settings_so_far(), &environment)
        .map(|loaded| context_names(&loaded.config.kubeconfig, &environment));
    beginning_with(typed, names.unwrap_or_default())
}

/// The namespaces of the cluster that the line names, or of the configured one.
pub(super) fn namespaces(typed: &OsStr) -> Vec<CompletionCandidate> {
    beginning_with(typed, namespaces_in_reach().unwrap_or_default())
}

fn namespaces_in_reach() -> Option<Vec<String>> {
    let environment = Environment::from_process();
    let settings = config::load(&settings_so_far(), &environment).ok()?.config.kubeconfig;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let reading = async {
        let connection = Connection::open(&settings, &environment).await.ok()?;
        Some(namespace_names(&connection, PATIENCE).await)
    };
    let names = runtime.block_on(async { timeout(PATIENCE, reading).await });
    // A credential plugin may still be running; the shell does not wait for it.
    runtime.shutdown_background();
    names.ok().flatten()
}

/// What the words typed so far set. They are rarely a whole command line: what does not fit is passed over.
fn settings_so_far() -> Overrides {
    let words = env::args_os().skip_while(|word| word != "--").skip(1);
    overrides_in(words)
}

fn overrides_in(words: impl Iterator<Item = OsString>) -> Overrides {
    let matches = Arguments::command().ignore_errors(true).try_get_matches_from(words);
    let arguments = matches.and_then(|matches| Arguments::from_arg_matches(&matches));
    // Only what leads to the cluster counts: another value that is wrong is no reason to answer nothing.
    let typed = arguments.map(|arguments| arguments.overrides()).unwrap_or_default();
    Overrides {
        config_file: typed.config_file,
        kubeconfig: typed.kubeconfig.filter(|path| !path.is_empty()),
        context: typed.context.filter(|name| !name.is_empty()),
        ..Overrides::default()
    }
}

fn beginning_with(typed: &OsStr, names: impl IntoIterator<Item = String>) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    names.into_iter().filter(|name| name.starts_with(&*typed)).map(CompletionCandidate::new).collect()
}

/// This program as the script has to call it: by the path it was called by, or by its name alone when it was found in
/// `PATH`.
fn this_program() -> String {
    let called = PathBuf::from(env::args_os().next().unwrap_or_else(|| env!("CARGO_PKG_NAME").into()));
    let path = match env::current_dir() {
        Ok(folder) if called.components().count() > 1 => folder.join(called),
        _ => called,
    };
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn words(line: &str) -> impl Iterator<Item = OsString> {
        line.split(' ').map(OsString::from)
    }

    #[test]
    fn what_leads_to_the_cluster_is_taken_from_the_unfinished_line() {
        let overrides = overrides_in(words("anchore-k8s-inventory -c c.yaml --context staging -k k.yaml -p x -n pay"));

        let expected = Overrides {
            config_file: Some("c.yaml".into()),
            kubeconfig: Some("k.yaml".to_owned()),
            context: Some("staging".to_owned()),
            ..Overrides::default()
        };
        assert_eq!(overrides, expected);
    }

    #[test]
    fn a_line_that_cannot_be_understood_sets_what_it_can() {
        let overrides = overrides_in(words("anchore-k8s-inventory --context staging --no-such-flag -n "));

        assert_eq!(overrides, Overrides { context: Some("staging".to_owned()), ..Overrides::default() });
    }
}
