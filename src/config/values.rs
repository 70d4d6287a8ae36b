//! The layers of the settings, laid over each other: one file, then the environment, then the flags.
//!
//! A value is kept under the name it was set by, as text or list of texts, with its origin. Which names are one key,
//! and what a text means, is decided by [`super::reader`]. Names that are no key are reported, never taken.

use std::collections::btree_map;
use std::collections::{BTreeMap, BTreeSet};

use super::key::{self, variable, variable_part};
use super::problem::{Origin, Position, Problem, printable};
use super::routes;
use super::table::{Kind, Table, nearest_word};
use super::yaml::{Duplicate, Entry, Node, Parsed, Value};
use super::{Environment, Overrides};

/// The section whose keys are names of accounts. They keep their case, and a dot in them is part of the name.
const ROUTES: &str = "account-routes";

/// A value as it was set.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) content: Content,
    pub(super) origin: Origin,
}

/// The text of a value. It may be a secret, so it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Content {
    Text(String),
    Items(Vec<Item>),
    Map,
}

/// An entry of a list.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// Everything that was set.
#[derive(Default)]
pub(super) struct Values {
    /// By the dotted name that was used. A name with an empty value is here too, and counts as not set.
    pub(super) found: BTreeMap<String, Found>,
    /// The accounts that have an entry in `account-routes`.
    pub(super) accounts: BTreeMap<String, Origin>,
    pub(super) problems: Vec<Problem>,
    /// Keys that mean nothing: warnings, or errors when that was asked for.
    pub(super) unknown: Vec<Problem>,
}

impl Found {
    /// Whether there is a value at all: an empty text or list is none.
    pub(super) fn is_set(&self) -> bool {
        match &self.content {
            Content::Text(text) => !text.is_empty(),
            Content::Items(items) => !items.is_empty(),
            Content::Map => true,
        }
    }
}

impl Values {
    /// Adds the variables that belong to a key, or to a field of an account that the file names.
    pub(super) fn add_environment(&mut self, table: &Table, environment: &Environment) {
        let accounts: Vec<String> = self.accounts.keys().cloned().collect();
        let fixed = table.rows().flat_map(key::Row::names).filter(|name| !name.contains('<')).map(ToOwned::to_owned);
        let fields = accounts.iter().flat_map(|account| routes::FIELDS.map(|field| route_path(account, field)));
        let mut taken = BTreeSet::new();
        for path in fixed.chain(fields) {
            let name = variable(&path);
            if environment.unreadable.contains(&name) {
                self.problems.push(Problem::error(Origin::Variable(name), &printable(&path), "is not UTF-8"));
            } else if let Some(text) = environment.variables.get(&name).filter(|text| !text.is_empty()) {
                // A key and its old form can share a variable; it then sets the one and overrides the other.
                if taken.insert(name.clone()) {
                    let content = Content::Text(text.clone());
                    self.found.insert(path, Found { content, origin: Origin::Variable(name) });
                } else {
                    self.found.remove(&path);
                }
            }
        }
    }

    /// Adds what the command line sets.
    pub(super) fn add_flags(&mut self, overrides: &Overrides) {
        let boolean = |value: Option<bool>| value.map(|value| value.to_string());
        let texts = [
            ("kubeconfig.path", "--kubeconfig", overrides.kubeconfig.clone()),
            ("kubeconfig.context", "--context", overrides.context.clone()),
            ("mode", "--mode", overrides.mode.clone()),
            ("polling-interval-seconds", "--polling-interval-seconds", overrides.polling_interval_seconds.clone()),
            ("verbose-inventory-reports", "--verbose-inventory-reports", boolean(overrides.verbose_inventory_reports)),
            ("quiet", "--quiet", boolean(overrides.quiet)),
        ];
        for (path, flag, text) in texts {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                self.found.insert(path.to_owned(), Found { content: Content::Text(text), origin: Origin::Flag(flag) });
            }
        }
        // A flag without any name, as from an unset variable of a shell, must not widen what is read to everything.
        if overrides.namespaces.iter().any(|name| !name.is_empty()) {
            let content = Content::Text(overrides.namespaces.join(","));
            self.found.remove("namespace-selectors.include");
            // The old key, because the flag means it: the word `all` means all.
            let found = Found { content, origin: Origin::Flag("--namespaces") };
            self.found.insert("namespaces".to_owned(), found);
        }
    }

    /// Two accounts whose fields would be set by the same variable cannot both be meant by it.
    pub(super) fn check_accounts(&mut self) {
        let mut by_variable: BTreeMap<String, &str> = BTreeMap::new();
        for (account, origin) in &self.accounts {
            if let Some(other) = by_variable.insert(variable_part(account), account) {
                let what = format!("has the same environment variables as account {}", printable(other));
                let problem = Problem::error(origin.clone(), &printable(&format!("{ROUTES}.{account}")), what);
                let advice = "Account names must differ in more than case and the characters . - _";
                self.problems.push(problem.advise(advice));
            }
        }
    }
}

/// The dotted name of a field of an account's route.
pub(super) fn route_path(account: &str, field: &str) -> String {
    format!("{ROUTES}.{account}.{field}")
}

/// Lays the tree of a file out into values.
pub(super) struct FileLayer<'a> {
    pub(super) file: &'a str,
    pub(super) table: &'a Table,
    pub(super) environment: &'a Environment,
    pub(super) values: Values,
}

impl FileLayer<'_> {
    /// Takes the whole file.
    pub(super) fn take(&mut self, parsed: Parsed) {
        for Duplicate { key, first, again } in parsed.duplicates {
            self.duplicate(&key, first, again);
        }
        let root = parsed.root;
        match root.value {
            Value::Null => {}
            Value::Map(entries) => self.section("", entries),
            Value::Scalar(_) | Value::List(_) => {
                let problem = Problem::file(self.file, Some(root.position), "the file holds no keys");
                self.values.problems.push(problem.advise("It should consist of lines such as \"key: value\""));
            }
        }
    }

    fn section(&mut self, prefix: &str, entries: Vec<Entry>) {
        let mut seen: BTreeMap<String, Position> = BTreeMap::new();
        for Entry { key, position, value } in entries {
            let path = canonical(&if prefix.is_empty() { key } else { format!("{prefix}.{key}") });
            match seen.entry(path.clone()) {
                btree_map::Entry::Occupied(first) => self.duplicate(&path, *first.get(), position),
                btree_map::Entry::Vacant(slot) => {
                    slot.insert(position);
                    self.entry(path, position, value);
                }
            }
        }
    }

    fn entry(&mut self, path: String, position: Position, node: Node) {
        if let Some(rest) = path.strip_prefix(ROUTES).and_then(|rest| rest.strip_prefix('.')) {
            let rest = rest.to_owned();
            return self.route(&rest, position, node);
        }
        match self.table.kind(&path) {
            Kind::Key => self.insert(path, position, node),
            Kind::Unknown => self.unknown(&path, position, |table| table.nearest(&path)),
            Kind::Section => match node.value {
                Value::Map(entries) => self.section(&path, entries),
                value if value.is_nothing() => {}
                _ => {
                    let problem = Problem::error(self.origin(position), &path, "must be a map of further keys");
                    self.values.problems.push(problem);
                }
            },
        }
    }

    /// An entry of `account-routes`: an account with a map, or one field of it as `account.field`.
    fn route(&mut self, name: &str, position: Position, node: Node) {
        let dotted = name.rsplit_once('.').filter(|(_, field)| routes::FIELDS.contains(&&*field.to_ascii_lowercase()));
        match (node.value, dotted) {
            (Value::Map(entries), _) => {
                self.account(name, position);
                for entry in entries {
                    self.route_field(name, entry);
                }
            }
            (value, Some((account, field))) => {
                self.account(account, position);
                let value = Node::new(node.position, value);
                self.route_field(account, Entry { key: field.to_owned(), position, value });
            }
            (value, None) if value.is_nothing() => self.account(name, position),
            (_, None) => {
                let path = printable(&format!("{ROUTES}.{name}"));
                let problem = Problem::error(self.origin(position), &path, "must be a map");
                self.values.problems.push(problem.advise(format!("Its keys are {}", routes::FIELDS.join(", "))));
            }
        }
    }

    fn route_field(&mut self, account: &str, Entry { key, position, value }: Entry) {
        let field = key.to_ascii_lowercase();
        let path = route_path(account, &field);
        if routes::FIELDS.contains(&&*field) {
            self.insert(path, position, value);
        } else {
            let nearest = || nearest_word(&field, routes::FIELDS.into_iter());
            self.unknown(&path, position, |_| nearest().map(|field| route_path(account, field)));
        }
    }

    fn account(&mut self, account: &str, position: Position) {
        let origin = self.origin(position);
        self.values.accounts.entry(account.to_owned()).or_insert(origin);
    }

    fn insert(&mut self, path: String, key: Position, node: Node) {
        if let Some(Found { origin: Origin::File { position: Some(first), .. }, .. }) = self.values.found.get(&path) {
            let first = *first;
            return self.duplicate(&path, first, key);
        }
        if let Some(found) = self.content(&path, node.position, node.value) {
            self.values.found.insert(path, found);
        }
    }

    /// The value with `$NAME` replaced; `None` is not set.
    fn content(&mut self, path: &str, at: Position, value: Value) -> Option<Found> {
        match value {
            Value::Null => None,
            Value::Scalar(text) => {
                let Item { text, origin } = self.expand(path, at, text);
                Some(Found { content: Content::Text(text), origin })
            }
            Value::Map(_) => Some(Found { content: Content::Map, origin: self.origin(at) }),
            Value::List(nodes) => {
                let items = nodes.into_iter().filter_map(|node| self.item(path, node)).collect();
                Some(Found { content: Content::Items(items), origin: self.origin(at) })
            }
        }
    }

    fn item(&mut self, path: &str, node: Node) -> Option<Item> {
        match node.value {
            Value::Null => None,
            Value::Scalar(text) => Some(self.expand(path, node.position, text)).filter(|item| !item.text.is_empty()),
            Value::List(_) | Value::Map(_) => {
                let what = "an entry of the list must be a text, not a list or a map";
                self.values.problems.push(Problem::error(self.origin(node.position), &printable(path), what));
                None
            }
        }
    }

    /// Replaces a text that is `$NAME` or `${NAME}` as a whole; an empty text is not set.
    fn expand(&mut self, path: &str, at: Position, text: String) -> Item {
        if let Some(literal) = text.strip_prefix('$').filter(|rest| variable_reference(rest).is_some()) {
            return Item { text: literal.to_owned(), origin: self.origin(at) };
        }
        let Some(name) = variable_reference(&text) else {
            return Item { origin: self.origin(at), text };
        };
        let origin = Origin::File { file: self.file.to_owned(), position: Some(at), variable: Some(name.to_owned()) };
        match self.environment.variables.get(name) {
            Some(value) => Item { text: value.clone(), origin },
            None if key::is_own_variable(name) => Item { text: String::new(), origin },
            None => {
                // The name is not printed: it may be a password that begins with a dollar sign.
                let what = "looks like an environment variable that is not set, and is taken literally";
                let warning = Problem::warning(self.origin(at), &printable(path), what);
                self.values.problems.push(warning.advise("Set the variable, or write $$ for a literal $"));
                Item { origin: self.origin(at), text }
            }
        }
    }

    fn duplicate(&mut self, path: &str, first: Position, again: Position) {
        let what = format!("is set twice, first in line {}", first.line);
        let problem = Problem::error(self.origin(again), &printable(path), what);
        self.values.problems.push(problem.advise("Remove one of them"));
    }

    /// Notes an unknown key. Looking for what was meant takes time, so a file full of strange keys gets few answers.
    fn unknown(&mut self, path: &str, position: Position, nearest: impl FnOnce(&Table) -> Option<String>) {
        const MOST_SUGGESTIONS: usize = 100;
        // In `{password:x}` the value is a part of the key, for want of a blank. Values are not shown.
        if let Some((key, _)) = path.split_once(':') {
            let what = "has no blank between its colon and its value";
            let problem = Problem::warning(self.origin(position), &printable(key), what);
            return self.values.unknown.push(problem.advise("Write one"));
        }
        let few = self.values.unknown.len() < MOST_SUGGESTIONS;
        let advice = match few.then(|| nearest(self.table)).flatten() {
            Some(nearest) => format!("Did you mean {}?", printable(&nearest)),
            None => "Remove it".to_owned(),
        };
        let problem = Problem::warning(self.origin(position), &printable(path), "is not a known key");
        self.values.unknown.push(problem.advise(advice));
    }

    fn origin(&self, position: Position) -> Origin {
        Origin::File { file: self.file.to_owned(), position: Some(position), variable: None }
    }
}

/// Keys are known in any case; names of accounts keep theirs.
fn canonical(path: &str) -> String {
    let lower = path.to_ascii_lowercase();
    match lower.strip_prefix(ROUTES) {
        Some(rest) if rest.starts_with('.') => format!("{ROUTES}{}", path.get(ROUTES.len()..).unwrap_or_default()),
        _ => lower,
    }
}

/// The name in `$NAME` or `${NAME}`.
fn variable_reference(text: &str) -> Option<&str> {
    let rest = text.strip_prefix('$')?;
    let name = rest.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(rest);
    let begins = name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_');
    let continues = name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    (begins && continues).then_some(name)
}

/// Whether a text would be taken for a variable if it stood in a file.
pub(super) fn is_variable_reference(text: &str) -> bool {
    variable_reference(text).is_some()
}
