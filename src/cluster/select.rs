//! Which namespaces are read: listed where the rights allow, asked for by name where few are included or only Roles exist.

use std::collections::HashSet;

use futures_util::StreamExt;

use super::collect::{CollectError, Collector, Streak, concerns_one_request, unreadable};
use super::intake::Kept;
use super::list::{self, Patience};
use super::request::RequestError;
use super::snapshot::{Namespace, Unreadable};
use super::wire;

/// Up to this many included namespaces are always read one by one: less to read than the whole cluster.
pub(crate) const MOST_BY_NAME: usize = 20;

/// Attempts at one namespace.
const ATTEMPTS: u32 = 3;

/// The namespaces to read, and what is known of those that are not.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) missing: Vec<String>,
    pub(crate) unreadable: Vec<Unreadable>,
    pub(crate) complete_list: bool,
    /// Pods are read one namespace at a time.
    pub(crate) by_name: bool,
}

impl Collector<'_> {
    /// Finds the namespaces to read and marks them, so that their pods are kept.
    pub(crate) async fn select(&self) -> Result<Selection, CollectError> {
        let selectors = self.settings.selectors;
        let excluded = |name: &str| selectors.exclude.iter().any(|pattern| pattern.matches(name));
        let mut seen = HashSet::new();
        let included = selectors.include.iter().filter(|name| !excluded(name) && seen.insert(name.as_str()));
        let included: Vec<&str> = included.map(String::as_str).collect();
        if !selectors.include.is_empty() && included.len() <= MOST_BY_NAME {
            return self.select_by_name(&included).await;
        }
        let listed = self.namespaces().await;
        match listed {
            Ok(namespaces) if selectors.include.is_empty() => {
                let namespaces = self.keep(namespaces, |name| !excluded(name));
                Ok(Selection { namespaces, complete_list: true, ..Selection::default() })
            }
            Ok(namespaces) => {
                let wanted: HashSet<&str> = included.iter().copied().collect();
                let namespaces = self.keep(namespaces, |name| wanted.contains(name));
                let tables = self.tables();
                let found: HashSet<&str> =
                    namespaces.iter().map(|namespace| tables.strings.get(namespace.name)).collect();
                let missing: Vec<String> =
                    included.iter().filter(|name| !found.contains(*name)).map(|name| (*name).to_owned()).collect();
                if namespaces.is_empty() {
                    return Err(CollectError::NoneExists(missing));
                }
                Ok(Selection { namespaces, missing, complete_list: true, ..Selection::default() })
            }
            Err(error) if !selectors.include.is_empty() && concerns_one_request(&error) => {
                self.select_by_name(&included).await
            }
            Err(error) => Err(CollectError::Namespaces(error.into())),
        }
    }

    /// Marks the namespaces that are read and drops the others.
    fn keep(&self, mut namespaces: Vec<Namespace>, wanted: impl Fn(&str) -> bool) -> Vec<Namespace> {
        let mut tables = self.tables();
        namespaces.retain(|namespace| wanted(tables.strings.get(namespace.name)));
        for namespace in &namespaces {
            tables.select(namespace.name);
        }
        namespaces
    }

    async fn select_by_name(&self, names: &[&str]) -> Result<Selection, CollectError> {
        let mut selection = Selection { by_name: true, ..Selection::default() };
        let streak = &Streak::default();
        let asked = names.iter().map(|&name| async move { (name, streak.unless_hopeless(self.namespace(name)).await) });
        // Futures, not a closure that makes them: only these can be told to be `Send`.
        let asked: Vec<_> = asked.collect();
        let mut answers = futures_util::stream::iter(asked).buffered(self.concurrency());
        while let Some((name, answer)) = answers.next().await {
            match answer {
                Ok(namespace) => selection.namespaces.push(namespace),
                Err(RequestError::NotFound(_)) => selection.missing.push(name.to_owned()),
                Err(error) => selection.unreadable.push(unreadable(name, "`get` on namespaces", &error)),
            }
        }
        drop(answers);
        if selection.namespaces.is_empty() && selection.unreadable.is_empty() && !names.is_empty() {
            return Err(CollectError::NoneExists(selection.missing));
        }
        selection.namespaces = self.keep(selection.namespaces, |_| true);
        Ok(selection)
    }

    async fn namespace(&self, name: &str) -> Result<Namespace, RequestError> {
        if !is_dns_label(name) {
            return Err(RequestError::NotFound("it is not a possible name of a namespace".to_owned()));
        }
        let path = format!("/api/v1/namespaces/{name}");
        let mut patience = Patience::new(ATTEMPTS);
        loop {
            match self.api.get_object::<wire::Namespace>(&path).await {
                Ok(object) => return Ok(self.tables().namespace(&object)),
                Err(error) => patience.wait_after(error, &path).await?,
            }
        }
    }

    async fn namespaces(&self) -> Result<Vec<Namespace>, RequestError> {
        let mut intake = Kept::new(|object: wire::Namespace| Some(self.tables().namespace(&object)));
        list::list(&self.api, "/api/v1/namespaces", self.style, &mut intake).await?;
        Ok(intake.objects)
    }
}

/// RFC 1123 label, at most 63 characters: what a namespace may be called.
pub(crate) fn is_dns_label(name: &str) -> bool {
    let inside = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&name.len()) && name.bytes().all(inside) && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_namespaces_are_never_asked_for() {
        for (name, possible) in [("shop", true), ("a", true), ("0-9", true), ("", false), ("a/b", false)] {
            assert_eq!(is_dns_label(name), possible, "{name}");
        }
        for impossible in ["-a", "a-", "A", "a.b", "..", &"x".repeat(64)] {
            assert!(!is_dns_label(impossible), "{impossible}");
        }
    }
}
