//! What pages quote from elsewhere: messages of the program, metrics of alerts and dashboard, names of tests, files.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

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

/// The source files below a folder, with their path.
fn source_files(folder: &str) -> Vec<(PathBuf, String)> {
    let (mut folders, mut files) = (vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = read(&path);
                files.push((path, text));
            }
        }
    }
    files
}

/// The product code of all source files, with literals that span lines put together, and `…` for what they fill in.
fn product_code() -> Vec<String> {
    let (continued, filled) = (pattern(r"\\\n\s*"), pattern(r#"\{[^{}"\n]*\}"#));
    let is_product = |path: &Path| !path.iter().any(|part| part == "tests" || part == "tests.rs");
    let files = source_files("src").into_iter().filter(|(path, _)| is_product(path));
    let code = files.map(|(_, text)| {
        let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        filled.replace_all(&continued.replace_all(product, ""), DIFFERS).into_owned()
    });
    code.collect()
}

/// The messages of the first column: a code span, which double backticks may surround.
fn messages(page: &str) -> Vec<String> {
    let rows = between(page, "<!-- messages", "<!-- end of messages -->").lines();
    let cells = rows.filter_map(|row| row.strip_prefix("| `")?.split_once(" | "));
    cells.map(|(cell, _)| cell.trim_start_matches('`').trim_end_matches('`').trim().to_owned()).collect()
}

#[test]
fn every_message_that_is_explained_is_one_of_the_program() {
    let (page, code) = (operations(), product_code());
    let messages = messages(&page);
    assert!(messages.len() > 40, "the messages are found");
    let is_of_program = |message: &String| code.iter().any(|code| code.contains(message.as_str()));
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

#[test]
fn tests_that_the_threat_model_names_exist() {
    let page = read("SECURITY.md");
    let rows = page.lines().filter(|line| line.starts_with("| ")).filter_map(|row| row.rsplit(" | ").next());
    let shown_by: Vec<&str> = rows.collect();
    let files: Vec<(PathBuf, String)> = ["src", "tests"].into_iter().flat_map(source_files).collect();
    let (test, golden) = (pattern(r"`([a-z0-9_]+_[a-z0-9_]+)`"), pattern(r"golden `([a-z0-9-]+)`"));
    let mut count = 0;
    for cell in shown_by {
        for name in test.captures_iter(cell) {
            let function = format!("fn {}(", &name[1]);
            assert!(files.iter().any(|(_, text)| text.contains(&function)), "there is no test {}", &name[1]);
            count += 1;
        }
        for name in golden.captures_iter(cell) {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(&name[1]);
            assert!(folder.is_dir(), "there is no golden case {}", &name[1]);
        }
    }
    assert!(count > 50, "the names are found");
}

#[test]
fn links_between_pages_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let link = pattern(r"\]\(([^)#:]+)(?:#[^)]*)?\)");
    let folders = ["", "docs", "docs/decisions", "tests", "charts/k8s-inventory"];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(root.join(folder)).expect("a folder"));
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let pages: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect();
    assert!(pages.len() > 15, "the pages are found");
    for page in pages {
        for found in link.captures_iter(&read(&page)) {
            let target = page.parent().expect("its folder").join(&found[1]);
            assert!(target.exists(), "{} leads to {}, which is not there", page.display(), &found[1]);
        }
    }
}
