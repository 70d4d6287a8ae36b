//! `namespace-selectors.*` and the old `namespaces`.

use std::collections::HashSet;

use super::key::{Boolean, Key, List, Section};
use super::pattern::{self, Pattern, Subject, is_dns_label};
use super::problem::{Problem, quoted};
use super::reader::{Reader, Shown};

const INCLUDE: Key<List> = Key::new(
    "namespace-selectors.include",
    List::PLAIN,
    "Exact names of the namespaces to read; empty reads all. With up to 20 names each is read by itself, which needs \
     no rights on the rest of the cluster. A name that does not exist is a warning; if none exists, nothing is sent.",
);

const EXCLUDE: Key<List> = Key::new(
    "namespace-selectors.exclude",
    List::PLAIN,
    "Namespaces to leave out, also of those included: exact names, or regular expressions searched in the name (a \
     DNS label is a name, anything else an expression).",
);

const IGNORE_EMPTY: Key<Boolean> = Key::new(
    "namespace-selectors.ignore-empty",
    Boolean { default: false },
    "Leave out namespaces without pods. Beware: where Anchore Enterprise replaces what it knows namespace by \
     namespace, the last containers of a namespace that became empty then stay listed until they expire.",
);

const NAMESPACES: Key<List> = Key::new(
    "namespaces",
    List::PLAIN,
    "Old form of `namespace-selectors.include`, used when that is empty. The word `all` means all.",
)
.old();

/// Which namespaces are read.
#[derive(Debug, Clone, Default)]
pub struct NamespaceSelectors {
    /// Exact names, each once, in the order given; empty means all.
    pub include: Vec<String>,
    /// Left out, also from what `include` names.
    pub exclude: Vec<Pattern>,
    /// Leave out namespaces without pods.
    pub ignore_empty: bool,
}

impl NamespaceSelectors {
    /// Whether a namespace of this name is read, if it exists.
    pub fn allow(&self, namespace: &str) -> bool {
        let included = self.include.is_empty() || self.include.iter().any(|name| name == namespace);
        included && !self.exclude.iter().any(|pattern| pattern.matches(namespace))
    }
}

pub(super) fn section() -> Section {
    Section {
        title: "Namespaces",
        intro: "",
        rows: vec![INCLUDE.into(), EXCLUDE.into(), IGNORE_EMPTY.into(), NAMESPACES.into()],
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> NamespaceSelectors {
    NamespaceSelectors {
        include: read_include(reader),
        exclude: pattern::read(reader, &EXCLUDE, Subject::Namespaces),
        ignore_empty: reader.boolean(&IGNORE_EMPTY),
    }
}

fn read_include(reader: &mut Reader<'_>) -> Vec<String> {
    let mut key = &INCLUDE;
    let mut items = reader.list(&INCLUDE);
    if items.is_empty() {
        let noted = reader.settings.len();
        let old = reader.list(&NAMESPACES);
        // What the old key says is shown under the current one.
        reader.settings.truncate(noted);
        if !old.is_empty() {
            key = &NAMESPACES;
            items = old;
        }
        if items.iter().any(|item| item.text.eq_ignore_ascii_case("all")) {
            items.clear();
        }
    }
    let mut seen = HashSet::new();
    let mut names = Vec::new();
    for item in items {
        if !is_dns_label(&item.text) {
            let what = format!("{} cannot be the name of a namespace", quoted(&item.text));
            let warning = Problem::warning(item.origin, key.path, what);
            reader.problems.push(warning.advise("Only exact names can be included, not expressions"));
        }
        if seen.insert(item.text.clone()) {
            names.push(item.text);
        }
    }
    reader.amend(Shown::List(names.clone()), reader.origin(key));
    names
}
