//! Namespaces to accounts.
//!
//! A namespace goes to every account whose routes match it, each once; else to the account its label names; else to the
//! default account or, where the configuration says so, to none. Pure: what deserves a warning is returned, not logged,
//! so that a resident agent can say it once. Never fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::config::pattern::Pattern;
use crate::config::routes::{AccountRoute, LabelRouting, RoutingConfig};
use crate::inventory::Inventory;

/// How many names a warning spells out.
const NAMES_IN_WARNING: usize = 5;

/// Who gets what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routing {
    /// By account, each once.
    pub shares: Vec<AccountShare>,
    /// What an operator may not expect.
    pub warnings: Vec<RoutingWarning>,
}

/// What one account gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountShare {
    /// Its name.
    pub account: String,
    /// Indices into the snapshot's namespaces, ascending. Empty only without routing, when nothing is left to report.
    pub namespaces: Vec<u32>,
    /// Its nodes.
    pub nodes: NodeShare,
}

/// Which nodes an account gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeShare {
    /// Every node of the cluster, which is its own.
    All,
    /// Those that its pods run on, so that no account learns of another's nodes.
    OfItsPods,
}

/// What an operator may not expect of the routing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RoutingWarning {
    /// A plain name in a route matches that namespace alone, although it is part of the names of others.
    PartsOfNamesDoNotMatch {
        /// The route's account.
        account: String,
        /// The plain name.
        name: String,
        /// Namespaces with that name within theirs, which the route does not match.
        unmatched: Vec<String>,
    },
    /// A label names an account that labels may not name.
    AccountNotAllowed {
        /// The label's value.
        account: String,
        /// The namespaces that bear it.
        namespaces: Vec<String>,
    },
    /// No namespace bears the label that routes them, which is what a misspelt key looks like.
    NobodyHasTheLabel {
        /// The label's key.
        key: String,
    },
}

/// Gives each reported namespace of `inventory` to its accounts.
pub fn route(inventory: &Inventory, config: &RoutingConfig) -> Routing {
    if config.routes.is_empty() && config.by_label.is_none() {
        let account = config.default_account.clone();
        let everything = AccountShare { account, namespaces: inventory.namespaces().to_vec(), nodes: NodeShare::All };
        return Routing { shares: vec![everything], warnings: Vec::new() };
    }
    let leaves_unlabelled_out = config.by_label.as_ref().is_some_and(|rule| rule.ignore_missing);
    let default_account = (!leaves_unlabelled_out).then_some(config.default_account.as_str());
    let mut shares = BTreeMap::<&str, Vec<u32>>::new();
    let mut not_allowed = BTreeMap::<&str, Vec<String>>::new();
    for &namespace in inventory.namespaces() {
        let name = name_of(inventory, namespace);
        let mut accounts = accounts_by_route(name, &config.routes);
        if accounts.is_empty() {
            accounts.extend(match account_by_label(label_of(inventory, namespace), config.by_label.as_ref()) {
                LabelledAccount::Named(account) => Some(account),
                LabelledAccount::Missing => default_account,
                LabelledAccount::NotAllowed(account) => {
                    not_allowed.entry(account).or_default().push(name.to_owned());
                    default_account
                }
            });
        }
        for account in accounts {
            shares.entry(account).or_default().push(namespace);
        }
    }
    let mut warnings = parts_of_names(inventory, &config.routes);
    warnings.extend(not_allowed.into_iter().map(RoutingWarning::not_allowed));
    warnings.extend(unknown_label(inventory, config.by_label.as_ref()));
    Routing { shares: shares.into_iter().map(AccountShare::routed).collect(), warnings }
}

/// What the label of a namespace says.
enum LabelledAccount<'a> {
    /// This account.
    Named(&'a str),
    /// Nothing.
    Missing,
    /// An account that labels may not name.
    NotAllowed(&'a str),
}

impl AccountShare {
    fn routed((account, namespaces): (&str, Vec<u32>)) -> Self {
        Self { account: account.to_owned(), namespaces, nodes: NodeShare::OfItsPods }
    }
}

impl RoutingWarning {
    fn not_allowed((account, namespaces): (&str, Vec<String>)) -> Self {
        Self::AccountNotAllowed { account: account.to_owned(), namespaces }
    }
}

impl fmt::Display for RoutingWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartsOfNamesDoNotMatch { account, name, unmatched } => write!(
                f,
                "the route \"{name}\" of account {account} matches the namespace of that name alone, not {}; write \
                 \".*{name}.*\" to match every namespace with \"{name}\" in its name",
                Names(unmatched)
            ),
            Self::AccountNotAllowed { account, namespaces } => write!(
                f,
                "a label sends {} to account \"{account}\", which \
                 account-route-by-namespace-label.allowed-accounts does not allow; the label counts as missing",
                Names(namespaces)
            ),
            Self::NobodyHasTheLabel { key } => write!(
                f,
                "no namespace has the label \"{key}\", so account-route-by-namespace-label routes none: check its key"
            ),
        }
    }
}

/// Names in a sentence, not all of very many.
struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.len().min(NAMES_IN_WARNING);
        f.write_str(&self.0[..shown].join(", "))?;
        match self.0.len() - shown {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

fn accounts_by_route<'a>(namespace: &str, routes: &'a [AccountRoute]) -> BTreeSet<&'a str> {
    let matching = routes.iter().filter(|route| route.namespaces.iter().any(|pattern| pattern.matches(namespace)));
    matching.map(|route| route.account.as_str()).collect()
}

/// Reads a label, which is empty when the namespace has none.
fn account_by_label<'a>(label: &'a str, rule: Option<&LabelRouting>) -> LabelledAccount<'a> {
    match rule {
        Some(rule) if !label.is_empty() => {
            let is_allowed = rule.allowed_accounts.is_empty() || rule.allowed_accounts.iter().any(|one| one == label);
            if is_allowed { LabelledAccount::Named(label) } else { LabelledAccount::NotAllowed(label) }
        }
        _ => LabelledAccount::Missing,
    }
}

/// For each plain name in a route: the namespaces with that text in their names which none of the account's patterns
/// match. Patterns used to be searched in names, so an old configuration may count on them.
fn parts_of_names(inventory: &Inventory, routes: &[AccountRoute]) -> Vec<RoutingWarning> {
    let names = || inventory.namespaces().iter().map(|&namespace| name_of(inventory, namespace));
    let mut warnings = Vec::new();
    for route in routes {
        for pattern in &route.namespaces {
            let Pattern::Exact(plain) = pattern else { continue };
            let is_missed = |name: &&str| name.contains(plain) && !route.namespaces.iter().any(|p| p.matches(name));
            let unmatched: Vec<String> = names().filter(is_missed).map(str::to_owned).collect();
            if !unmatched.is_empty() {
                let (account, name) = (route.account.clone(), plain.clone());
                warnings.push(RoutingWarning::PartsOfNamesDoNotMatch { account, name, unmatched });
            }
        }
    }
    warnings
}

fn unknown_label(inventory: &Inventory, rule: Option<&LabelRouting>) -> Option<RoutingWarning> {
    let namespaces = inventory.namespaces();
    let has_none = !namespaces.is_empty() && namespaces.iter().all(|&one| label_of(inventory, one).is_empty());
    rule.filter(|_| has_none).map(|rule| RoutingWarning::NobodyHasTheLabel { key: rule.key.clone() })
}

fn name_of(inventory: &Inventory, namespace: u32) -> &str {
    let snapshot = inventory.snapshot();
    snapshot.strings.get(snapshot.namespaces[namespace as usize].name)
}

/// The value of the routing label; empty when it is missing.
fn label_of(inventory: &Inventory, namespace: u32) -> &str {
    let snapshot = inventory.snapshot();
    snapshot.namespaces[namespace as usize].account_label.map_or("", |label| snapshot.strings.get(label))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;
    use crate::inventory::fixtures::{cluster, namespace};

    #[test]
    fn without_routing_the_default_account_gets_all_with_every_node() {
        let inventory = namespaces(&["a", "b"]);
        let expected =
            vec![AccountShare { account: "admin".to_owned(), namespaces: vec![0, 1], nodes: NodeShare::All }];
        assert_eq!(route(&inventory, &routing()), Routing { shares: expected, warnings: Vec::new() });
    }

    #[test]
    fn without_routing_nothing_to_report_is_still_a_share() {
        let shares = route(&namespaces(&[]), &routing()).shares;
        assert_eq!(shares, [AccountShare { account: "admin".to_owned(), namespaces: vec![], nodes: NodeShare::All }]);
    }

    #[test]
    fn d8_a_plain_name_matches_itself_and_the_rest_is_named_in_a_warning() {
        let inventory = namespaces(&["nonprod", "prod", "prod-eu", "test"]);
        let routing = route(&inventory, &routing().to("team", vec![exact("prod"), regex("-eu$")]));
        assert_eq!(told(&inventory, &routing), ["admin: nonprod test", "team: prod prod-eu"]);
        let warning = RoutingWarning::PartsOfNamesDoNotMatch {
            account: "team".to_owned(),
            name: "prod".to_owned(),
            unmatched: vec!["nonprod".to_owned()],
        };
        assert_eq!(routing.warnings, [warning]);
    }

    #[test]
    fn d8_a_namespace_that_two_patterns_match_is_reported_once() {
        let inventory = namespaces(&["default"]);
        let routing = route(&inventory, &routing().to("team", vec![exact("default"), regex("^def.*")]));
        assert_eq!(told(&inventory, &routing), ["team: default"]);
    }

    #[test]
    fn a_namespace_goes_to_every_account_whose_routes_match() {
        let inventory = namespaces(&["payments", "shop"]);
        let config = routing().to("red", vec![regex("^pay")]).to("blue", vec![exact("payments"), exact("shop")]);
        assert_eq!(told(&inventory, &route(&inventory, &config)), ["blue: payments shop", "red: payments"]);
    }

    #[test]
    fn a_label_that_no_namespace_has_is_named_in_a_warning() {
        let inventory = namespaces(&["a", "b"]);
        let rule = label_rule();
        let warning = RoutingWarning::NobodyHasTheLabel { key: rule.key.clone() };
        let routing = route(&inventory, &routing().by_label(rule));
        assert_eq!((told(&inventory, &routing), routing.warnings), (vec!["admin: a b".to_owned()], vec![warning]));
    }

    #[test]
    fn routes_come_before_labels_and_labels_before_the_default() {
        let inventory = cluster()
            .namespace(namespace("a").account("by-label"))
            .namespace(namespace("b").account("by-label"))
            .namespace("c")
            .inventory();
        let config = routing().to("by-route", vec![exact("a")]).by_label(label_rule());
        assert_eq!(told(&inventory, &route(&inventory, &config)), ["admin: c", "by-label: b", "by-route: a"]);
    }

    #[test]
    fn d11_namespaces_without_the_label_are_left_out_when_told_so() {
        let inventory = cluster().namespace(namespace("a").account("team")).namespace("b").inventory();
        let config = routing().by_label(LabelRouting { ignore_missing: true, ..label_rule() });
        assert_eq!(told(&inventory, &route(&inventory, &config)), ["team: a"]);
    }

    #[test]
    fn d35_an_empty_label_counts_as_missing() {
        let inventory = cluster().namespace(namespace("a").account("")).inventory();
        assert_eq!(told(&inventory, &route(&inventory, &routing().by_label(label_rule()))), ["admin: a"]);
    }

    #[test]
    fn d36_a_label_may_name_allowed_accounts_only() {
        let inventory = cluster()
            .namespace(namespace("a").account("finance"))
            .namespace(namespace("b").account("team"))
            .namespace(namespace("c").account("finance"))
            .inventory();
        let allowed = LabelRouting { allowed_accounts: vec!["team".to_owned()], ..label_rule() };
        let lenient = route(&inventory, &routing().by_label(allowed.clone()));
        assert_eq!(told(&inventory, &lenient), ["admin: a c", "team: b"]);
        let warning = RoutingWarning::AccountNotAllowed {
            account: "finance".to_owned(),
            namespaces: vec!["a".to_owned(), "c".to_owned()],
        };
        assert_eq!(lenient.warnings, std::slice::from_ref(&warning));

        let strict = route(&inventory, &routing().by_label(LabelRouting { ignore_missing: true, ..allowed }));
        assert_eq!((told(&inventory, &strict), strict.warnings), (vec!["team: b".to_owned()], vec![warning]));
    }

    #[test]
    fn warnings_do_not_grow_with_the_cluster() {
        let unmatched = (1..=7).map(|n| format!("prod-{n}")).collect();
        let warning =
            RoutingWarning::PartsOfNamesDoNotMatch { account: "team".to_owned(), name: "prod".to_owned(), unmatched };
        let expected = "the route \"prod\" of account team matches the namespace of that name alone, not prod-1, \
                        prod-2, prod-3, prod-4, prod-5 and 2 more; write \".*prod.*\" to match every namespace with \
                        \"prod\" in its name";
        assert_eq!(warning.to_string(), expected);
    }

    proptest! {
        #[test]
        fn each_namespace_is_once_in_each_account_it_belongs_to(
            names in proptest::collection::btree_set("[ab]{1,3}", 0..12),
            labels in proptest::collection::vec(proptest::option::of("[xy]?"), 12),
            patterns in proptest::collection::vec(("[xyz]", proptest::collection::vec("[ab]{1,2}", 0..3)), 0..4),
            has_label_rule: bool,
            ignore_missing: bool,
        ) {
            let labelled = names.iter().zip(&labels).fold(cluster(), |cluster, (name, label)| {
                let namespace = namespace(name);
                cluster.namespace(match label { Some(label) => namespace.account(label), None => namespace })
            });
            let inventory = labelled.inventory();
            let pattern = |name: &String| if name.len() == 1 { exact(name) } else { regex(name) };
            let mut config = patterns.iter().fold(routing(), |config, (account, names)| {
                config.to(account, names.iter().map(pattern).collect())
            });
            config.by_label = has_label_rule.then(|| LabelRouting { ignore_missing, ..label_rule() });
            let routing = route(&inventory, &config);

            let accounts: Vec<_> = routing.shares.iter().map(|share| &share.account).collect();
            prop_assert!(accounts.is_sorted_by(|a, b| a < b), "accounts in order, each once: {accounts:?}");
            for share in &routing.shares {
                prop_assert!(share.namespaces.is_sorted_by(|a, b| a < b), "namespaces in order, each once");
            }
            for (index, (name, label)) in (0..).zip(names.iter().zip(&labels)) {
                let has_it = |share: &&AccountShare| share.namespaces.contains(&index);
                let got: BTreeSet<&str> =
                    routing.shares.iter().filter(has_it).map(|share| share.account.as_str()).collect();
                let takes_it = |route: &&AccountRoute| route.namespaces.iter().any(|pattern| pattern.matches(name));
                let routed: BTreeSet<&str> =
                    config.routes.iter().filter(takes_it).map(|route| route.account.as_str()).collect();
                let unrouted = match label.as_deref() {
                    Some(label) if has_label_rule && !label.is_empty() => BTreeSet::from([label]),
                    _ if has_label_rule && ignore_missing => BTreeSet::new(),
                    _ => BTreeSet::from(["admin"]),
                };
                prop_assert_eq!(got, if routed.is_empty() { unrouted } else { routed });
            }
        }
    }

    fn namespaces(names: &[&str]) -> Arc<Inventory> {
        names.iter().fold(cluster(), |cluster, &name| cluster.namespace(name)).inventory()
    }

    /// Each share as `account: namespaces`.
    fn told(inventory: &Inventory, routing: &Routing) -> Vec<String> {
        let told = |share: &AccountShare| {
            assert_eq!(share.nodes, NodeShare::OfItsPods);
            let names: Vec<_> = share.namespaces.iter().map(|&namespace| name_of(inventory, namespace)).collect();
            format!("{}: {}", share.account, names.join(" "))
        };
        routing.shares.iter().map(told).collect()
    }

    fn exact(name: &str) -> Pattern {
        Pattern::Exact(name.to_owned())
    }

    fn regex(expression: &str) -> Pattern {
        Pattern::Regex(Regex::new(expression).expect("an expression"))
    }

    /// No routing: all goes to `admin`.
    fn routing() -> RoutingConfig {
        RoutingConfig { default_account: "admin".to_owned(), ..RoutingConfig::default() }
    }

    fn label_rule() -> LabelRouting {
        LabelRouting { key: "account".to_owned(), ignore_missing: false, allowed_accounts: Vec::new() }
    }

    impl RoutingConfig {
        fn to(mut self, account: &str, namespaces: Vec<Pattern>) -> Self {
            self.routes.push(AccountRoute { account: account.to_owned(), credentials: None, namespaces });
            self
        }

        fn by_label(mut self, rule: LabelRouting) -> Self {
            self.by_label = Some(rule);
            self
        }
    }
}
