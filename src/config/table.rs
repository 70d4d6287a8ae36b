//! All keys there are, in the order of the documentation.

use super::key::{Row, Section};
use super::{anchore, images, kubernetes, limits, log, metadata, periodic, routes, run, selectors};

/// Longer texts are no misspelt keys, and comparing them would take long.
const LONGEST: usize = 200;

/// All keys, by section.
pub(super) struct Table {
    pub(super) sections: Vec<Section>,
}

/// What stands at a path.
pub(super) enum Kind {
    /// A key with a value.
    Key,
    /// A map of further keys.
    Section,
    /// Nothing that is known.
    Unknown,
}

impl Table {
    pub(super) fn new() -> Self {
        let sections = vec![
            run::section(),
            log::section(),
            kubernetes::access_section(),
            kubernetes::requests_section(),
            selectors::section(),
            images::section(),
            metadata::section(),
            anchore::section(),
            anchore::http_section(),
            routes::section(),
            limits::section(),
            periodic::section(),
        ];
        Self { sections }
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.sections.iter().flat_map(|section| &section.rows)
    }

    /// What stands at `path`, given in lower case. `account-routes` counts as a section.
    pub(super) fn kind(&self, path: &str) -> Kind {
        if self.names().any(|name| name == path) {
            return Kind::Key;
        }
        let section = self.names().any(|name| name.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')));
        if section { Kind::Section } else { Kind::Unknown }
    }

    /// The known key or section that an unknown one probably means.
    pub(super) fn nearest(&self, path: &str) -> Option<String> {
        if path.len() > LONGEST {
            return None;
        }
        let (parent, leaf) = path.rsplit_once('.').map_or(("", path), |(parent, leaf)| (parent, leaf));
        let siblings = self.current_paths().filter_map(|known| {
            let rest = if parent.is_empty() { known } else { known.strip_prefix(parent)?.strip_prefix('.')? };
            rest.split('.').next()
        });
        let join = |leaf: &str| if parent.is_empty() { leaf.to_owned() } else { format!("{parent}.{leaf}") };
        nearest_word(leaf, siblings).map(join).or_else(|| self.elsewhere(leaf)).or_else(|| {
            let all = self.current_paths().filter(|known| !known.contains('<'));
            nearest_word(path, all).map(ToOwned::to_owned)
        })
    }

    /// The only key of this last name, wherever it stands.
    fn elsewhere(&self, leaf: &str) -> Option<String> {
        let mut same = self.current_paths().filter(|known| {
            known.rsplit_once('.').is_some_and(|(_, known)| squeezed(known) == squeezed(leaf)) && !known.contains('<')
        });
        match (same.next(), same.next()) {
            (Some(only), None) => Some(only.to_owned()),
            _ => None,
        }
    }

    fn current_paths(&self) -> impl Iterator<Item = &'static str> {
        self.rows().filter(|row| !row.old).map(|row| row.path)
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.rows().flat_map(Row::names)
    }
}

/// The word that differs least from `word`, if it is near enough to be what was meant.
pub(super) fn nearest_word<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    if word.len() > LONGEST {
        return None;
    }
    let word = squeezed(word);
    known
        .map(|known| (strsim::damerau_levenshtein(&word, &squeezed(known)), known))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 5)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Without what only spelling conventions add: `pollingIntervalSeconds` is `polling_interval-seconds`.
fn squeezed(word: &str) -> String {
    word.to_lowercase().replace(['-', '_'], "")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pretty_assertions::assert_eq;
    use rstest::rstest;

    use super::*;
    use crate::config::key::variable;

    #[rstest]
    #[case("polling-interval-second", Some("polling-interval-seconds"))]
    #[case("pollinginterval_seconds", Some("polling-interval-seconds"))]
    #[case("anchor", Some("anchore"))]
    #[case("anchore.pasword", Some("anchore.password"))]
    #[case("anchore.insecure", Some("anchore.http.insecure"))]
    #[case("kubeconfig.usr", Some("kubeconfig.user"))]
    #[case("completely-different", None)]
    fn an_unknown_key_finds_the_one_that_was_meant(#[case] path: &str, #[case] expected: Option<&str>) {
        assert_eq!(Table::new().nearest(path).as_deref(), expected);
    }

    #[test]
    fn no_name_is_declared_twice() {
        let table = Table::new();
        let names: BTreeSet<&str> = table.names().collect();
        assert_eq!(names.len(), table.names().count());
    }

    /// Kubernetes injects `ANCHORE_K8S_INVENTORY_PORT=tcp://…`, `…_SERVICE_HOST` and the like into every pod beside a
    /// Service called `anchore-k8s-inventory` or longer.
    #[test]
    fn no_key_is_set_by_the_variables_of_a_service() {
        let injected = ["PORT", "SERVICE_HOST", "SERVICE_PORT", "TCP", "UDP", "SCTP", "PROTO", "ADDR"];
        let collisions: Vec<&str> = Table::new()
            .names()
            .filter(|name| injected.iter().any(|end| variable(name).ends_with(&format!("_{end}"))))
            .collect();
        assert_eq!(collisions, Vec::<&str>::new());
    }
}
