//! Tests of loading as a whole: from files, variables and flags to settings or problems.

mod bad_input;
mod documents;
mod layers;
mod leniency;
mod peer_files;
mod sections;

use tempfile::TempDir;

use super::show::{Check, check, show};
use super::*;

/// A working directory, an environment and a command line to load settings from.
struct Setup {
    directory: TempDir,
    overrides: Overrides,
    environment: Environment,
}

/// Nothing is set anywhere.
fn nothing() -> Setup {
    let directory = TempDir::new().unwrap();
    let mut environment = Environment { working_directory: directory.path().to_owned(), ..Environment::default() };
    environment.variables.insert("XDG_CONFIG_DIRS".to_owned(), "/nonexistent".to_owned());
    Setup { directory, overrides: Overrides::default(), environment }
}

/// `--config config.yaml` with this text.
fn file(text: impl AsRef<[u8]>) -> Setup {
    let setup = nothing().with_file("config.yaml", text);
    setup.flags(|flags| flags.config_file = Some("config.yaml".into()))
}

impl Setup {
    fn with_file(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn flags(mut self, set: impl FnOnce(&mut Overrides)) -> Self {
        set(&mut self.overrides);
        self
    }

    fn home_here(mut self) -> Self {
        self.environment.home = Some(self.directory.path().to_owned());
        self
    }

    fn load(&self) -> Result<Loaded, LoadError> {
        load(&self.overrides, &self.environment)
    }

    /// Loads what must be free of errors.
    fn loaded(&self) -> Loaded {
        match self.load() {
            Ok(loaded) => loaded,
            Err(error) => panic!("{error}"),
        }
    }

    fn config(&self) -> Config {
        self.loaded().config
    }

    /// The lines about everything that is wrong; none when there is no error.
    fn errors(&self) -> Vec<String> {
        let problems = self.load().err().map(|error| error.problems).unwrap_or_default();
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
        errors.map(ToString::to_string).collect()
    }

    fn warnings(&self) -> Vec<String> {
        self.loaded().warnings.iter().map(ToString::to_string).collect()
    }

    fn check(&self) -> Check {
        check(&self.overrides, &self.environment)
    }

    /// `config show`.
    fn shown(&self) -> String {
        show(&self.loaded())
    }

    /// The line of `config show` about a key, by its last name.
    fn shown_line(&self, key: &str) -> String {
        let shown = self.shown();
        let line = shown.lines().find(|line| line.trim_start().starts_with(&format!("{key}:")));
        line.map(str::trim).unwrap_or_default().to_owned()
    }
}

fn patterns(patterns: &[pattern::Pattern]) -> Vec<&str> {
    patterns.iter().map(pattern::Pattern::as_str).collect()
}

/// The text of a source that holds one.
fn inline(source: &secret::TextSource) -> String {
    use secrecy::ExposeSecret;
    match source {
        secret::TextSource::Inline(text) => text.expose_secret().to_owned(),
        secret::TextSource::File(path) => panic!("expected a text, found the file {}", path.display()),
    }
}
