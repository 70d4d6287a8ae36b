//! `docs/configuration.md` says what the program does.

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
