//! Accounts, their users, and who may do what where.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};

use super::problem::Problem;

/// The literal user name that goes with an API key.
pub const API_KEY_USER: &str = "_api_key";

/// The account whose users may do everything in every account.
pub const ADMIN_ACCOUNT: &str = "admin";

/// A user of an account.
#[derive(Debug, Clone)]
pub struct User {
    name: String,
    password: String,
    api_key: Option<String>,
    account: String,
    roles: BTreeMap<String, Role>,
}

/// What a user may do in an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Sends reports, registers, sends health reports, reads what arrived.
    InventoryAgent,
    /// Sends reports, and nothing else: a server whose role does not yet know of integrations.
    ReportsOnly,
}

/// Something that needs a permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    SyncInventory,
    RegisterIntegration,
    ReportHealth,
    ListIntegrations,
    GetIntegration,
    DeleteIntegration,
    ListRuntimeInventories,
    DeleteInventory,
}

/// Who may do what.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tenancy {
    pub(crate) accounts: BTreeSet<String>,
    pub(crate) disabled: BTreeSet<String>,
    pub(crate) users: Vec<User>,
}

impl User {
    /// A user of `account`, who may do nothing elsewhere; see [`ADMIN_ACCOUNT`] for the exception.
    pub fn of(account: &str, name: &str, password: &str) -> Self {
        let roles = BTreeMap::from([(account.to_owned(), Role::InventoryAgent)]);
        Self { name: name.to_owned(), password: password.to_owned(), api_key: None, account: account.to_owned(), roles }
    }

    /// Gives the user a role in an account, in place of any other there.
    #[must_use]
    pub fn with_role(mut self, account: &str, role: Role) -> Self {
        self.roles.insert(account.to_owned(), role);
        self
    }

    /// Gives the user an API key, to be sent as the password of the user [`API_KEY_USER`].
    #[must_use]
    pub fn with_api_key(self, key: &str) -> Self {
        Self { api_key: Some(key.to_owned()), ..self }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn may(&self, account: &str, action: Action) -> bool {
        match self.roles.get(account) {
            Some(Role::InventoryAgent) => true,
            Some(Role::ReportsOnly) => action == Action::SyncInventory,
            None => self.account == ADMIN_ACCOUNT,
        }
    }
}

impl Tenancy {
    /// The user whom the request's credentials are of.
    pub(crate) fn authenticate(&self, headers: &HeaderMap) -> Result<&User, Problem> {
        let user = basic(headers).and_then(|(name, password)| {
            self.users.iter().find(|user| {
                if name == API_KEY_USER {
                    user.api_key.as_ref() == Some(&password)
                } else {
                    user.name == name && user.password == password
                }
            })
        });
        user.ok_or(Problem::Unauthorized)
    }

    /// The account that the request is for, if the user may do this there.
    pub(crate) fn authorize<'a>(
        &self,
        user: &'a User,
        headers: &'a HeaderMap,
        action: Action,
    ) -> Result<&'a str, Problem> {
        let named = headers.get("x-anchore-account").and_then(|value| value.to_str().ok());
        let account = named.unwrap_or(&user.account);
        let known = self.accounts.contains(account);
        if !known && user.account == ADMIN_ACCOUNT {
            return Err(Problem::Service(StatusCode::NOT_FOUND, format!("User account not found. Name={account}")));
        }
        if !known || !user.may(account, action) {
            return Err(Problem::forbidden(account, action.name()));
        }
        if self.disabled.contains(account) {
            return Err(Problem::Service(
                StatusCode::FORBIDDEN,
                format!("Not authorized. Account {account} not enabled."),
            ));
        }
        Ok(account)
    }
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::SyncInventory => "syncInventory",
            Self::RegisterIntegration => "registerIntegration",
            Self::ReportHealth => "reportHealth",
            Self::ListIntegrations => "listIntegrations",
            Self::GetIntegration => "getIntegration",
            Self::DeleteIntegration => "deleteIntegration",
            Self::ListRuntimeInventories => "listRuntimeInventories",
            Self::DeleteInventory => "deleteInventory",
        }
    }
}

/// Name and password of HTTP's basic authentication.
pub(crate) fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    basic_credentials(headers.get(AUTHORIZATION)?.to_str().ok()?)
}

/// Name and password in the value of an `Authorization` or `Proxy-Authorization` header.
pub(crate) fn basic_credentials(value: &str) -> Option<(String, String)> {
    let (scheme, credentials) = value.split_once(' ')?;
    let decoded = BASE64_STANDARD.decode(credentials.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let (name, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}
