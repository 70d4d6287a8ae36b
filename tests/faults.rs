//! docs/faults.md says of each fault which test shows what is done. This keeps it honest: each of those tests exists.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// How many faults the catalogue has.
const FAULTS: usize = 36;

/// Shorter names in backticks are settings and the like.
const SHORTEST_NAME: usize = 17;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> String {
    fs::read_to_string(root().join("docs/faults.md")).expect("the page")
}

/// The names of all functions in the sources.
fn functions() -> BTreeSet<String> {
    let mut folders: Vec<PathBuf> = ["src", "tests", "testbed"].iter().map(|folder| root().join(folder)).collect();
    let mut functions = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source");
                let begins = text.split("fn ").skip(1);
                functions.extend(begins.map(|rest| rest.chars().take_while(|char| is_of_name(*char)).collect()));
            }
        }
    }
    functions
}

fn is_of_name(char: char) -> bool {
    char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_'
}

/// What stands in backticks and can be the name of a test.
fn names(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|name| name.len() >= SHORTEST_NAME && name.contains('_') && name.chars().all(is_of_name)).collect()
}

/// The rows of all tables, without their heads.
fn rows(page: &str) -> Vec<&str> {
    let rows = page.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    rows.filter(|row| !row.contains("| shown by |")).collect()
}

#[test]
fn each_test_that_the_page_names_exists() {
    let (page, functions) = (page(), functions());
    let names = names(&page);
    let missing: Vec<_> = names.iter().filter(|name| !functions.contains(**name)).collect();
    assert!(missing.is_empty(), "docs/faults.md names tests that do not exist: {missing:#?}");
    assert!(names.len() > 100, "the names are found: {}", names.len());
}

#[test]
fn each_row_names_a_test_or_says_that_there_is_none() {
    let page = page();
    let is_shown = |row: &str| {
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        !names(last).is_empty() || last.contains("not tested")
    };
    let silent: Vec<_> = rows(&page).into_iter().filter(|row| !is_shown(row)).collect();
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn each_fault_of_the_catalogue_has_a_row() {
    let page = page();
    let missing: Vec<_> = (1..=FAULTS)
        .map(|number| format!("| F{number} |"))
        .filter(|fault| rows(&page).iter().filter(|row| row.starts_with(fault.as_str())).count() != 1)
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
