//! `config show` and `config check`: the settings and their problems as text for a person.

use std::fmt::Write;

use super::problem::{Problem, Severity, lines};
use super::reader::{Setting, Shown};
use super::values::is_variable_reference;
use super::{Environment, Examination, Loaded, Overrides, examine, file};

/// The outcome of `config check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Everything found, one problem a line.
    pub text: String,
    /// Whether there is neither error nor warning; unknown keys are errors here.
    pub passed: bool,
}

/// Checks the settings strictly, and says everything there is to say about them.
pub fn check(overrides: &Overrides, environment: &Environment) -> Check {
    let strict = Overrides { strict: true, ..overrides.clone() };
    let Examination { problems, file, .. } = examine(&strict, environment);
    let mut text = match &file {
        Some(file) => format!("configuration file: {}\n", file.shown),
        None if overrides.config_file.is_some() || !problems.is_empty() => String::new(),
        None => no_file(environment),
    };
    for line in lines(&problems) {
        let _ = writeln!(text, "{line}");
    }
    text.push_str(&summary(&problems));
    text.push('\n');
    Check { text, passed: problems.iter().all(|problem| problem.severity == Severity::Hint) }
}

/// The settings in effect as YAML that can be read back, secrets left out, each with its origin as a comment.
pub fn show(loaded: &Loaded) -> String {
    let mut text = String::new();
    let mut open: Vec<&str> = Vec::new();
    for setting in &loaded.settings {
        let Some((key, sections)) = setting.path.split_last() else { continue };
        let shared = open.iter().zip(sections).take_while(|(open, section)| *open == section).count();
        open.truncate(shared);
        for section in sections.iter().skip(shared) {
            let _ = writeln!(text, "{}{}:", "  ".repeat(open.len()), scalar(section));
            open.push(section);
        }
        let value = match value(setting) {
            value if value.is_empty() => value,
            value => format!(" {value}"),
        };
        let _ = writeln!(text, "{}{}:{value} # {}", "  ".repeat(open.len()), scalar(key), comment(setting));
    }
    text
}

fn no_file(environment: &Environment) -> String {
    let mut text =
        "configuration file: none. The first of these that exists is read, also as .yml or .json:\n".to_owned();
    for stem in file::stems(environment) {
        let _ = writeln!(text, "  {}.yaml", stem.shown);
    }
    text
}

fn summary(problems: &[Problem]) -> String {
    let counts = [Severity::Error, Severity::Warning, Severity::Hint].map(|severity| {
        let count = problems.iter().filter(|problem| problem.severity == severity).count();
        (count > 0).then(|| format!("{count} {severity}{}", if count == 1 { "" } else { "s" }))
    });
    match counts.into_iter().flatten().collect::<Vec<_>>().join(", ") {
        counts if counts.is_empty() => "no problems found".to_owned(),
        counts => counts,
    }
}

fn value(setting: &Setting) -> String {
    match &setting.value {
        Shown::Nothing => String::new(),
        Shown::Boolean(value) => value.to_string(),
        Shown::Integer(value) => value.to_string(),
        Shown::Text(text) => escaped(text),
        Shown::List(texts) => format!("[{}]", texts.iter().map(|text| escaped(text)).collect::<Vec<_>>().join(", ")),
        Shown::Redacted => "\"<redacted>\"".to_owned(),
    }
}

/// A text that, read back from a file, is itself.
fn escaped(text: &str) -> String {
    if is_variable_reference(text) { scalar(&format!("${text}")) } else { scalar(text) }
}

fn comment(setting: &Setting) -> String {
    setting.origin.to_string().chars().flat_map(char::escape_debug).collect()
}

/// A YAML scalar: plain where no reader could take it for something else, else in JSON's quotes.
fn scalar(text: &str) -> String {
    let words = ["true", "false", "yes", "no", "on", "off", "y", "n", "null"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-'))
        && !words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}
