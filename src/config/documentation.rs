//! `docs/configuration.md`, made from the declarations of the keys, so that it cannot differ from the program.

use std::fmt::Write;

use super::key::{Row, Section, variable};
use super::table::Table;

/// How files, environment and flags become settings.
const RULES: &str = include_str!("documentation/rules.md");

/// What stands above the effective settings of an empty configuration.
const DEFAULTS: &str = "\n## All defaults\n\nWhat `config show` prints when nothing is set:\n\n";

/// The whole document; `defaults` is what `config show` prints when nothing is set.
pub fn reference(defaults: &str) -> String {
    let mut text = RULES.to_owned();
    for section in &Table::new().sections {
        add_section(&mut text, section);
    }
    let _ = write!(text, "{DEFAULTS}```yaml\n{defaults}```\n");
    text
}

fn add_section(text: &mut String, section: &Section) {
    let _ = write!(text, "\n## {}\n\n", section.title);
    if !section.intro.is_empty() {
        let _ = write!(text, "{}\n\n", section.intro);
    }
    text.push_str("| key, environment variable | default | meaning |\n|---|---|---|\n");
    for row in &section.rows {
        add_row(text, row);
    }
}

fn add_row(text: &mut String, row: &Row) {
    let default = match row.default.as_str() {
        "" => "–".to_owned(),
        default => format!("`{default}`"),
    };
    let doc = row.doc.replace('|', "\\|");
    let _ = write!(text, "| `{}`<br>`{}` | {default} | {doc}", row.path, variable(row.path));
    for name in row.synonyms {
        let _ = write!(text, " Also as `{name}`.");
    }
    if !row.accepts.is_empty() {
        let _ = write!(text, " *({})*", row.accepts);
    }
    text.push_str(" |\n");
}
