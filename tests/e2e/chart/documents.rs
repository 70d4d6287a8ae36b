//! What the chart's files say of each other: its values, their schema, the table in its README, its version.

use std::collections::BTreeMap;

use pretty_assertions::assert_eq;
use serde_json::Value;

use super::helm::{beside, chart, values_and_expectation};

const BEGIN: &str = "<!-- values -->\n";
const END: &str = "<!-- /values -->\n";

fn read(file: &str) -> String {
    std::fs::read_to_string(chart().join(file)).expect("the file is there")
}

fn yaml(file: &str) -> Value {
    serde_saphyr::from_str(&read(file)).expect("it is YAML")
}

/// Every value of the schema by its path, with what describes it.
fn schema() -> BTreeMap<String, String> {
    let schema: Value = serde_json::from_str(&read("values.schema.json")).expect("the schema is JSON");
    let mut values = BTreeMap::new();
    collect("", &schema, &mut values);
    values.remove("global");
    values
}

fn collect(path: &str, schema: &Value, into: &mut BTreeMap<String, String>) {
    match (schema["description"].as_str(), schema["properties"].as_object()) {
        (None, Some(properties)) => {
            for (key, schema) in properties {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                collect(&path, schema, into);
            }
        }
        (description, _) => {
            let description = description.unwrap_or_else(|| panic!("{path} has no description in the schema"));
            into.insert(path.to_owned(), description.to_owned());
        }
    }
}

/// The default at a path, if there is one.
fn default<'v>(values: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(values, |value, key| value.get(key))
}

#[test]
fn chart_has_the_version_of_the_agent() {
    let chart = yaml("Chart.yaml");
    let versions = [&chart["version"], &chart["appVersion"]].map(|version| version.as_str().unwrap_or_default());
    assert_eq!(versions, [env!("CARGO_PKG_VERSION"); 2]);
}

#[test]
fn chart_values_are_described_in_the_schema_and_where_they_stand() {
    let text = read("values.yaml");
    let comments: Vec<&str> = text.lines().map(|line| line.trim().trim_start_matches("# ")).collect();
    let comments = comments.join(" ");
    let undescribed: Vec<(String, String)> = schema()
        .into_iter()
        .filter(|(path, description)| !path.ends_with(".ignore-empty") && !comments.contains(description.as_str()))
        .collect();
    assert_eq!(undescribed, []);

    let mut paths = Vec::new();
    leaves("", &yaml("values.yaml"), &schema(), &mut paths);
    let unknown: Vec<String> = paths.into_iter().filter(|path| !schema().contains_key(path)).collect();
    assert_eq!(unknown, <[String; 0]>::default());
}

/// Paths of values, down to what the schema describes.
fn leaves(path: &str, value: &Value, schema: &BTreeMap<String, String>, into: &mut Vec<String>) {
    match value.as_object() {
        Some(map) if !schema.contains_key(path) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves(&path, value, schema, into);
            }
        }
        _ => into.push(path.to_owned()),
    }
}

/// So that no value is without an expectation: nothing would tell that it is not read.
#[test]
fn chart_values_are_each_set_by_a_values_file() {
    let mut paths = Vec::new();
    for file in std::fs::read_dir(beside("values")).expect("the folder is there") {
        let name = file.expect("an entry").file_name();
        let (values, _) = values_and_expectation(name.to_str().expect("names are UTF-8"));
        leaves("", &serde_saphyr::from_str(&values).expect("it is YAML"), &schema(), &mut paths);
    }
    let unset: Vec<String> = schema().into_keys().filter(|path| !paths.contains(path)).collect();
    assert_eq!(unset, <[String; 0]>::default());
}

#[test]
fn chart_readme_has_a_table_of_all_values() {
    let values = yaml("values.yaml");
    let mut table = "| value | default | meaning |\n|---|---|---|\n".to_owned();
    for (path, description) in schema() {
        let default = default(&values, &path).map_or_else(|| "–".to_owned(), |value| format!("`{value}`"));
        table.push_str(&format!("| `{path}` | {default} | {description} |\n").replace("\\n", " "));
    }
    let readme = read("README.md");
    let (before, rest) = readme.split_once(BEGIN).expect("the README has the mark before the table");
    let (_, after) = rest.split_once(END).expect("the README has the mark after the table");
    let expected = format!("{before}{BEGIN}\n{table}\n{END}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(chart().join("README.md"), &expected).expect("the README can be written");
    } else {
        assert_eq!(readme, expected, "write it anew with UPDATE_DOCS=1, and read it before you commit");
    }
}
