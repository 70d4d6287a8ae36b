//! `docs/configuration.md` and `examples/config.yaml` say what the program does.

use std::path::Path;

use pretty_assertions::assert_eq;

use super::*;
use crate::config::documentation::reference;
use crate::config::table::Table;

fn repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_documentation_is_what_the_declarations_make() {
    let path = repository("docs/configuration.md");
    let expected = reference(&nothing().shown());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), expected, "run UPDATE_DOCS=1 cargo test --lib config");
}

#[test]
fn every_documented_default_is_the_one_in_effect() {
    let settings = nothing().loaded().settings;
    for row in Table::new().rows().filter(|row| !row.old && !row.path.contains('<')) {
        let setting = settings.iter().find(|setting| setting.path.join(".") == row.path);
        let shown = match &setting.unwrap_or_else(|| panic!("{} is never read", row.path)).value {
            reader::Shown::Nothing => String::new(),
            reader::Shown::Boolean(value) => value.to_string(),
            reader::Shown::Integer(value) => value.to_string(),
            reader::Shown::Text(text) => text.clone(),
            reader::Shown::List(texts) => format!("{texts:?}"),
            reader::Shown::Redacted => "redacted".to_owned(),
        };
        assert_eq!(shown, row.default, "{}", row.path);
    }
}

#[test]
fn the_example_has_no_problems() {
    let example = std::fs::read_to_string(repository("examples/config.yaml")).unwrap();
    let setup = file(example).variable("ANCHORE_K8S_INVENTORY_ANCHORE_PASSWORD", "secret");
    assert_eq!(setup.check().text, "configuration file: config.yaml\nno problems found\n");
}

#[test]
fn the_example_names_every_key_that_is_not_old() {
    let example = std::fs::read_to_string(repository("examples/config.yaml")).unwrap();
    let missing: Vec<&str> = Table::new()
        .rows()
        .filter(|row| !row.old)
        .filter(|row| !example.contains(&format!("{}:", row.path.rsplit('.').next().unwrap())))
        .map(|row| row.path)
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}
