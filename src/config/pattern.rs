//! Patterns of namespaces and metadata keys: an exact name, or a regular expression searched in the name.

use regex::Regex;

/// A name or a regular expression, as written in the configuration.
#[derive(Debug, Clone)]
pub enum Pattern {
    /// Matches this text alone.
    Exact(String),
    /// Matches where the expression is found anywhere in the text.
    Regex(Regex),
}

impl Pattern {
    /// Whether `text` is matched.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(name) => name == text,
            Self::Regex(regex) => regex.is_match(text),
        }
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Exact(name) => name,
            Self::Regex(regex) => regex.as_str(),
        }
    }
}
