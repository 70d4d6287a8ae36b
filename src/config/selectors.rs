//! `namespace-selectors.*` and the old `namespaces`.

use super::pattern::Pattern;

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
