//! `config check` and `config show`: the settings on standard output, and nothing contacted.

use super::{ExitCode, fail, print};
use crate::config::{self, Environment, Overrides, show};

/// Prints all that is to say about the settings. Problems end with [`ExitCode::Usage`].
pub fn check(overrides: &Overrides) -> ExitCode {
    let check = show::check(overrides, &Environment::from_process());
    match print(&check.text) {
        ExitCode::Success if !check.passed => ExitCode::Usage,
        printed => printed,
    }
}

/// Prints the settings in effect.
pub fn show(overrides: &Overrides) -> ExitCode {
    match config::load(overrides, &Environment::from_process()) {
        Ok(loaded) => print(&show::show(&loaded)),
        Err(error) => fail(ExitCode::Usage, &error),
    }
}
