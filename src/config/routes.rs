//! `account-routes.*` and `account-route-by-namespace-label.*`.

use super::pattern::Pattern;
use super::secret::Credentials;

/// Which account gets which namespace.
#[derive(Debug, Clone, Default)]
pub struct RoutingConfig {
    /// `account-routes`, ordered by account.
    pub routes: Vec<AccountRoute>,
    /// `account-route-by-namespace-label`, when its `key` is set.
    pub by_label: Option<LabelRouting>,
    /// The account of what nothing routes, and of the fallback for accounts unknown to the server:
    /// `account-route-by-namespace-label.default-account` when routing is configured and it is set, else
    /// `anchore.account`.
    pub default_account: String,
}

/// One entry of `account-routes`.
#[derive(Debug, Clone)]
pub struct AccountRoute {
    /// Name of the account, in the case it was written in.
    pub account: String,
    /// The route's own credentials; `None` uses the global ones.
    pub credentials: Option<Credentials>,
    /// Namespaces of this account.
    pub namespaces: Vec<Pattern>,
}

/// Routing by the value of a label on the namespace.
#[derive(Debug, Clone)]
pub struct LabelRouting {
    /// Key of the label.
    pub key: String,
    /// Leave namespaces without the label out instead of sending them to the default account.
    pub ignore_missing: bool,
    /// Accounts a label may name; empty means any. Another value counts as missing.
    pub allowed_accounts: Vec<String>,
}
