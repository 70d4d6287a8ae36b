//! Users of the API server, and what they may read.

use std::fmt;

use bytes::Bytes;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::objects::Kind;
use crate::server::tls::Authority;

/// What a user may do with a kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Read one, by name.
    Get,
    /// Read all.
    List,
    /// Follow the changes of all; asked for when a watch begins, not while it lasts.
    Watch,
    /// Make one.
    Create,
    /// Change one.
    Update,
}

/// A user, known by a bearer token or by the name in a client certificate.
#[derive(Debug, Clone)]
#[must_use]
pub struct User {
    name: String,
    token: Option<String>,
    grants: Vec<Grant>,
}

#[derive(Debug, Clone)]
struct Grant {
    /// `None` is the whole cluster.
    namespace: Option<String>,
    verb: Verb,
    kind: Kind,
}

/// Who a request comes from.
#[derive(Debug, Clone)]
pub(crate) enum Identity {
    /// Nobody has to be anyone here: no users were named.
    Everyone,
    Known(User),
    Anonymous,
}

impl User {
    /// A user without rights.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), token: None, grants: Vec::new() }
    }

    /// A user who may get, list and watch all of the core API, everywhere.
    pub fn reader(name: &str) -> Self {
        Kind::CORE.into_iter().fold(Self::lister(name), |user, kind| user.may(Verb::Watch, kind))
    }

    /// A user who may get and list all of the core API, everywhere, but watch nothing.
    pub fn lister(name: &str) -> Self {
        Kind::CORE.into_iter().fold(Self::named(name), |user, kind| user.may(Verb::Get, kind).may(Verb::List, kind))
    }

    /// Known by this bearer token.
    pub fn token(self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self }
    }

    /// Allowed in the whole cluster.
    pub fn may(mut self, verb: Verb, kind: Kind) -> Self {
        self.grants.push(Grant { namespace: None, verb, kind });
        self
    }

    /// Allowed in one namespace.
    pub fn may_in(mut self, namespace: &str, verb: Verb, kind: Kind) -> Self {
        self.grants.push(Grant { namespace: Some(namespace.to_owned()), verb, kind });
        self
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn bearer_token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

impl Identity {
    /// Who sent the request; `None` when its credentials are wrong.
    pub(super) fn of(
        headers: &HeaderMap,
        certificate: Option<&Bytes>,
        users: &[User],
        authority: Option<&Authority>,
    ) -> Option<Self> {
        if users.is_empty() {
            return Some(Self::Everyone);
        }
        let named = certificate.and_then(|certificate| authority?.client_name(certificate));
        if let Some(name) = named {
            let known = users.iter().find(|user| user.name == name);
            return Some(Self::Known(known.cloned().unwrap_or_else(|| User::named(&name))));
        }
        let Some(credentials) = headers.get(AUTHORIZATION) else { return Some(Self::Anonymous) };
        let token = credentials.to_str().ok()?.strip_prefix("Bearer ")?;
        users.iter().find(|user| user.token.as_deref() == Some(token)).cloned().map(Self::Known)
    }

    pub(super) fn may(&self, verb: Verb, kind: Kind, namespace: &str) -> bool {
        match self {
            Self::Everyone => true,
            Self::Anonymous => false,
            Self::Known(user) => user.grants.iter().any(|grant| {
                let covers = grant.namespace.as_deref().is_none_or(|granted| granted == namespace);
                grant.verb == verb && grant.kind == kind && covers
            }),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Everyone => "system:admin",
            Self::Anonymous => "system:anonymous",
            Self::Known(user) => &user.name,
        })
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
        })
    }
}
