//! Reads the values of keys as the types they should be, notes what is wrong with them, and remembers for each key
//! which value is in effect and where it came from.
//!
//! Reading never fails: a wrong value is a problem and the default is returned, so that one run finds all problems.
//! Problems of a secret, or of a value that came from a variable, do not quote it.

use super::Environment;
use super::key::{Boolean, Choice, Integer, Key, List, Text};
use super::problem::{Origin, Problem, printable, quoted};
use super::values::{Content, Found, Item, Values};

/// A key with the value in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The key, from the outermost section inwards.
    pub path: Vec<String>,
    /// The value.
    pub value: Shown,
    /// Where it came from.
    pub origin: Origin,
}

/// A value fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// Not set, and no default.
    Nothing,
    /// `true` or `false`.
    Boolean(bool),
    /// A number.
    Integer(u64),
    /// A text.
    Text(String),
    /// A list of texts.
    List(Vec<String>),
    /// A secret that is set.
    Redacted,
}

/// Reads values. See the module.
pub(super) struct Reader<'e> {
    pub(super) environment: &'e Environment,
    pub(super) problems: Vec<Problem>,
    pub(super) settings: Vec<Setting>,
    values: Values,
}

impl<'e> Reader<'e> {
    pub(super) fn new(mut values: Values, environment: &'e Environment) -> Self {
        let problems = std::mem::take(&mut values.problems);
        Self { environment, problems, settings: Vec::new(), values }
    }

    pub(super) fn boolean(&mut self, key: &Key<Boolean>) -> bool {
        let read = self.scalar(key, false, "Write true or false", Boolean::parse);
        let value = read.unwrap_or(key.kind.default);
        self.record(key, Shown::Boolean(value));
        value
    }

    pub(super) fn integer(&mut self, key: &Key<Integer>) -> u64 {
        let read = self.scalar(key, false, &format!("Write {}", key.kind.accepts()), |text| key.kind.parse(text));
        let value = read.unwrap_or(key.kind.default);
        self.record(key, Shown::Integer(value));
        value
    }

    pub(super) fn choice<T: Copy>(&mut self, key: &Key<Choice<T>>) -> T {
        let read = self.scalar(key, false, &format!("Write {}", key.kind.accepts()), |text| {
            key.kind.parse(text).ok_or("is not one of the words for this key")
        });
        let (word, value) = read.unwrap_or(key.kind.default);
        self.record(key, Shown::Text(word.to_owned()));
        value
    }

    /// A text; `None` when it is empty and has no default.
    pub(super) fn text(&mut self, key: &Key<Text>) -> Option<String> {
        let read = self.scalar(key, key.kind.secret, "Write a text", |text| Ok(text.to_owned()));
        let value = read.or_else(|| (!key.kind.default.is_empty()).then(|| key.kind.default.to_owned()));
        self.record(
            key,
            match &value {
                Some(_) if key.kind.secret => Shown::Redacted,
                Some(text) => Shown::Text(text.clone()),
                None => Shown::Nothing,
            },
        );
        value
    }

    /// A list; a single text is split at commas.
    pub(super) fn list(&mut self, key: &Key<List>) -> Vec<Item> {
        let found = self.find(key);
        let items = match found.map(|found| (found.content, found.origin)) {
            None => Vec::new(),
            Some((Content::Items(items), _)) => items.into_iter().filter(|item| !item.text.is_empty()).collect(),
            Some((Content::Text(text), origin)) => split(&text, |c| c == ',', &origin),
            Some((Content::Map, origin)) => {
                let problem = Problem::error(origin, &printable(key.path), "is a map where a list is expected");
                self.problems.push(problem.advise("Write a list of texts"));
                Vec::new()
            }
        };
        let items = if key.kind.split_at_blanks { self.split_at_blanks(key, &items) } else { items };
        self.record(key, Shown::List(items.iter().map(|item| item.text.clone()).collect()));
        items
    }

    /// Whether the key has a value, be it right or wrong.
    pub(super) fn is_set<K>(&self, key: &Key<K>) -> bool {
        !self.candidates(key).is_empty()
    }

    /// Where the value of the key came from.
    pub(super) fn origin<K>(&self, key: &Key<K>) -> Origin {
        self.candidates(key).first().map(|(_, found)| found.origin.clone()).unwrap_or_default()
    }

    /// Notes that the key's value is wrong.
    pub(super) fn error<K>(&mut self, key: &Key<K>, what: impl Into<String>, advice: &str) {
        let problem = Problem::error(self.origin(key), &printable(key.path), what);
        self.problems.push(problem.advise(advice));
    }

    /// Notes that the key is not set, although another one that needs it is.
    pub(super) fn missing<K>(&mut self, key: &Key<K>, given: &Key<K>, advice: &str) {
        let unset = self.values.found.get(key.path).filter(|found| found.origin.variable().is_some());
        let (origin, reason) = match unset {
            Some(found) => (found.origin.clone(), ", because the variable it is taken from is not set"),
            None => (self.origin(given), ""),
        };
        let what = format!("is missing, while {} is set{reason}", printable(given.path));
        let problem = Problem::error(origin, &printable(key.path), what);
        self.problems.push(problem.advise(advice));
    }

    /// Notes that the key's value probably does not mean what was meant.
    pub(super) fn warning<K>(&mut self, key: &Key<K>, what: impl Into<String>, advice: &str) {
        let problem = Problem::warning(self.origin(key), &printable(key.path), what);
        self.problems.push(problem.advise(advice));
    }

    /// The accounts that have an entry in `account-routes`, in order.
    pub(super) fn accounts(&self) -> Vec<String> {
        self.values.accounts.keys().cloned().collect()
    }

    /// Where the account's entry in `account-routes` begins.
    pub(super) fn account_origin(&self, account: &str) -> Origin {
        self.values.accounts.get(account).cloned().unwrap_or_default()
    }

    /// Replaces what the last read value was noted as, for values that something else than the key decides.
    pub(super) fn amend(&mut self, value: Shown, origin: Origin) {
        if let Some(setting) = self.settings.last_mut() {
            setting.value = value;
            setting.origin = origin;
        }
    }

    fn scalar<K, T>(
        &mut self,
        key: &Key<K>,
        secret: bool,
        advice: &str,
        parse: impl FnOnce(&str) -> Result<T, &'static str>,
    ) -> Option<T> {
        let Found { content, origin } = self.find(key)?;
        let what = match content {
            Content::Text(text) => match parse(&text) {
                Ok(value) => return Some(value),
                Err(what) => format!("{} {what}", subject(&text, secret, &origin)),
            },
            Content::Items(_) => "is a list where one value is expected".to_owned(),
            Content::Map => "is a map where one value is expected".to_owned(),
        };
        self.problems.push(Problem::error(origin, &printable(key.path), what).advise(advice));
        None
    }

    /// The value of a key: of its names, the one set in the highest layer; within a layer another name wins over the
    /// key's own, because files that set both were written for a program that read the other one.
    fn find<K>(&mut self, key: &Key<K>) -> Option<Found> {
        let candidates = self.candidates(key);
        let (&(name, found), others) = candidates.split_first()?;
        let overruled = others.iter().find(|(_, other)| layer(other) == layer(found) && !same(other, found));
        let warning = overruled.map(|(other, _)| {
            let what = format!("both {other} and {name} are set, which mean the same; {name} is used");
            Problem::warning(found.origin.clone(), &printable(key.path), what).advise("Remove one of them")
        });
        let found = found.clone();
        self.problems.extend(warning);
        Some(found)
    }

    /// The names of a key that have a value, the one in effect first.
    fn candidates<K>(&self, key: &Key<K>) -> Vec<(&str, &Found)> {
        let names = key.synonyms.iter().copied().chain(std::iter::once(key.path));
        let mut set: Vec<(&str, &Found)> = names
            .filter_map(|name| self.values.found.get_key_value(name))
            .map(|(name, found)| (name.as_str(), found))
            .filter(|(_, found)| found.is_set())
            .collect();
        set.sort_by_key(|(_, found)| std::cmp::Reverse(layer(found)));
        set
    }

    fn split_at_blanks(&mut self, key: &Key<List>, items: &[Item]) -> Vec<Item> {
        if items.iter().any(|item| item.text.trim().contains(char::is_whitespace)) {
            let what = "holds an entry with blanks, which is read as several entries";
            self.warning(key, what, "Write each entry on its own line, or with commas between them");
        }
        items.iter().flat_map(|item| split(&item.text, char::is_whitespace, &item.origin)).collect()
    }

    fn record<K>(&mut self, key: &Key<K>, value: Shown) {
        if key.old && !self.is_set(key) {
            return;
        }
        self.settings.push(Setting { path: segments(key.path), value, origin: self.origin(key) });
    }
}

/// How a text is named in a message about it.
pub(super) fn subject(text: &str, secret: bool, origin: &Origin) -> String {
    match origin.variable() {
        Some(variable) => format!("the value of ${variable}"),
        None if secret => "the value".to_owned(),
        None => quoted(text),
    }
}

fn split(text: &str, separator: impl FnMut(char) -> bool, origin: &Origin) -> Vec<Item> {
    let texts = text.split(separator).map(str::trim).filter(|text| !text.is_empty());
    texts.map(|text| Item { text: text.to_owned(), origin: origin.clone() }).collect()
}

fn layer(found: &Found) -> u8 {
    match found.origin {
        Origin::Default => 0,
        Origin::File { .. } => 1,
        Origin::Variable(_) => 2,
        Origin::Flag(_) => 3,
    }
}

fn same(a: &Found, b: &Found) -> bool {
    match (&a.content, &b.content) {
        (Content::Items(a), Content::Items(b)) => a.iter().map(|item| &item.text).eq(b.iter().map(|item| &item.text)),
        (a, b) => a == b,
    }
}

/// A name of an account may hold dots, the other parts of a path do not.
fn segments(path: &str) -> Vec<String> {
    let parts: Vec<&str> = match path.split_once('.') {
        Some(("account-routes", rest)) => {
            let (account, field) = rest.rsplit_once('.').unwrap_or((rest, ""));
            vec!["account-routes", account, field]
        }
        _ => path.split('.').collect(),
    };
    parts.into_iter().map(ToOwned::to_owned).collect()
}
