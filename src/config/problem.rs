//! What is wrong with the settings, and where: every finding of loading is a [`Problem`] that can be shown to a person.
//!
//! A problem never holds the text of a secret, nor a line of the file: a line beside the faulty one may be a password.

use std::fmt;

/// Where a value came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody set it.
    #[default]
    Default,
    /// A place in the configuration file.
    File {
        /// The file, as it was named or found.
        file: String,
        /// The place in it; `None` is the file as a whole.
        position: Option<Position>,
        /// The environment variable that the file's value names, when it is of the form `$NAME`.
        variable: Option<String>,
    },
    /// An environment variable of this name.
    Variable(String),
    /// A flag of the command line.
    Flag(&'static str),
}

/// A place in a text; both numbers start at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// How much a problem matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The settings cannot be used.
    Error,
    /// They can be used, but probably do not mean what their author meant.
    Warning,
    /// They are right, and there is something to know about them. Only `config check` shows it.
    Hint,
}

/// One finding: its place, what is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// Where.
    pub origin: Origin,
    /// The key concerned, in dotted form.
    pub key: Option<String>,
    /// What is wrong, completing a sentence that begins with the key.
    pub what: String,
    /// What to do, as a sentence of its own.
    pub advice: Option<String>,
}

/// The settings cannot be used. Holds everything that was found, warnings included: a misspelt key is often the reason
/// why another one is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct LoadError {
    /// At least one of them is an error.
    pub problems: Vec<Problem>,
}

impl Origin {
    /// The environment variable that a value in the file names.
    pub(super) fn variable(&self) -> Option<&str> {
        match self {
            Self::File { variable, .. } => variable.as_deref(),
            _ => None,
        }
    }
}

impl Problem {
    pub(super) fn error(origin: Origin, key: &str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Error, origin, key: Some(key.to_owned()), what: what.into(), advice: None }
    }

    pub(super) fn warning(origin: Origin, key: &str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(origin, key, what) }
    }

    pub(super) fn hint(origin: Origin, key: &str, what: impl Into<String>) -> Self {
        Self { severity: Severity::Hint, ..Self::error(origin, key, what) }
    }

    /// A problem of the file as a whole.
    pub(super) fn file(file: &str, position: Option<Position>, what: impl Into<String>) -> Self {
        let origin = Origin::File { file: file.to_owned(), position, variable: None };
        Self { severity: Severity::Error, origin, key: None, what: what.into(), advice: None }
    }

    pub(super) fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, position, variable } => {
                f.write_str(file)?;
                if let Some(Position { line, column }) = position {
                    write!(f, ":{line}:{column}")?;
                }
                if let Some(variable) = variable {
                    write!(f, " (${variable})")?;
                }
                Ok(())
            }
            Self::Variable(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.what)?;
        match &self.advice {
            Some(advice) => write!(f, ". {advice}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Hint => "hint",
        })
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [problem] => write!(f, "the configuration cannot be used: {problem}"),
            problems => {
                f.write_str("the configuration cannot be used:")?;
                lines(problems).iter().try_for_each(|line| write!(f, "\n  {line}"))
            }
        }
    }
}

/// A line for each problem; of very many only the first ones, and how many there are besides.
pub(super) fn lines(problems: &[Problem]) -> Vec<String> {
    const MOST: usize = 100;
    let mut lines: Vec<String> =
        problems.iter().take(MOST).map(|problem| format!("{}: {problem}", problem.severity)).collect();
    if problems.len() > MOST {
        lines.push(format!("and {} more", problems.len() - MOST));
    }
    lines
}

/// `text` in quotes, fit for one line of a terminal: control characters escaped, and cut when long.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let cut = text.chars().count() > LONGEST;
    let shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if cut { format!("\"{shown}…\"") } else { format!("\"{shown}\"") }
}

/// `key` as it is shown in messages: without quotes where it is plain.
pub(super) fn printable(key: &str) -> String {
    const LONGEST: usize = 200;
    let plain = key.chars().count() <= LONGEST && !key.is_empty() && key.chars().all(|c| c.is_ascii_graphic());
    if plain { key.to_owned() } else { quoted(key) }
}
