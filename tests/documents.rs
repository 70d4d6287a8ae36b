//! What the pages for operators quote from the program: its messages, and the metrics of the alerts and the dashboard.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// What stands for the parts of a message that differ.
const DIFFERS: &str = "…";

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn operations() -> String {
    read("docs/operations.md")
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern")
}

/// The part of `page` between two lines that begin like this.
fn between<'p>(page: &'p str, begin: &str, end: &str) -> &'p str {
    let (_, rest) = page.split_once(begin).expect("the mark before it");
    rest.split_once(end).expect("the mark after it").0
}

/// The product code of all source files, with literals that span lines put together, and `…` for what they fill in.
fn sources() -> Vec<String> {
    let (mut folders, mut sources) = (vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")], Vec::new());
    let (continued, filled) = (pattern(r"\\\n\s*"), pattern(r#"\{[^{}"\n]*\}"#));
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let is_test = path.file_stem().is_some_and(|stem| stem == "tests");
            if path.is_dir() && !is_test {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
                let text = read(&path);
                let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                let product = continued.replace_all(product, "");
                sources.push(filled.replace_all(&product, DIFFERS).into_owned());
            }
        }
    }
    sources
}

/// The messages of the first column: a code span, which double backticks may surround.
fn messages(page: &str) -> Vec<String> {
    let rows = between(page, "<!-- messages", "<!-- end of messages -->").lines();
    let cells = rows.filter_map(|row| row.strip_prefix("| `")?.split_once(" | "));
    cells.map(|(cell, _)| cell.trim_start_matches('`').trim_end_matches('`').trim().to_owned()).collect()
}

#[test]
fn every_message_that_is_explained_is_one_of_the_program() {
    let (page, sources) = (operations(), sources());
    let messages = messages(&page);
    assert!(messages.len() > 40, "the messages are found");
    let is_of_program = |message: &String| sources.iter().any(|source| source.contains(message.as_str()));
    let strays: Vec<&String> = messages.iter().filter(|message| !is_of_program(message)).collect();
    assert!(strays.is_empty(), "docs/operations.md explains what the program does not say:\n{strays:#?}");
}

/// Name and labels of each metric in the table, labels as they are written there.
fn documented_metrics(page: &str) -> Vec<(String, String)> {
    let rows = between(page, "<!-- metrics", "<!-- end of metrics -->").lines().filter(|row| row.starts_with("| `"));
    let cells = rows.map(|row| row.split(" | ").collect::<Vec<_>>());
    cells
        .filter_map(|cells| Some((cells.first()?.split('`').nth(1)?.to_owned(), (*cells.get(2)?).to_owned())))
        .collect()
}

/// Asserts that the metrics in `text`, and their labels with the values asked for, are documented. Gives their names.
fn assert_documented(text: &str) -> BTreeSet<String> {
    let documented = documented_metrics(&operations());
    let metric = pattern(r"\b((?:anchore_k8s_inventory|process)_[a-z_]+)(?:\{([^}]*)\})?");
    let matcher = pattern(r#"(\w+)\s*(?:=~|!=|!~|=)\s*\\?"([^"\\]*)\\?""#);
    let mut names = BTreeSet::new();
    for found in metric.captures_iter(text) {
        let name = found.get(1).map_or("", |name| name.as_str());
        let labels = documented.iter().find(|(known, _)| known == name).map(|(_, labels)| labels);
        let labels = labels.unwrap_or_else(|| panic!("{name} is in no table of docs/operations.md"));
        for asked in matcher.captures_iter(found.get(2).map_or("", |labels| labels.as_str())) {
            let (label, values) = (&asked[1], &asked[2]);
            if label == "job" {
                continue;
            }
            for word in std::iter::once(label).chain(values.split('|')) {
                assert!(labels.contains(&format!("`{word}`")), "{name} has no {word}: {labels}");
            }
        }
        names.insert(name.to_owned());
    }
    names
}

#[test]
fn alerts_ask_for_metrics_that_exist_and_are_explained() {
    let rules = read("docs/alerts/rules.yaml");
    let parsed: serde_json::Value = serde_saphyr::from_str(&rules).expect("YAML");
    assert!(parsed["groups"][0]["rules"].is_array());
    assert!(assert_documented(&rules).len() > 8, "the metrics are found");

    let explained = pattern(r"(?m)^\| `(AnchoreInventory\w+)` \|");
    let page = operations();
    let explained: BTreeSet<&str> =
        explained.captures_iter(&page).filter_map(|row| Some(row.get(1)?.as_str())).collect();
    let named = pattern(r"- alert: (\w+)");
    let named: BTreeSet<&str> = named.captures_iter(&rules).filter_map(|rule| Some(rule.get(1)?.as_str())).collect();
    assert_eq!(explained, named);
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist() {
    let dashboard = read("docs/alerts/dashboard.json");
    let parsed: serde_json::Value = serde_json::from_str(&dashboard).expect("JSON");
    assert!(parsed["panels"].is_array());
    assert!(assert_documented(&dashboard).len() > 20, "the metrics are found");
}
