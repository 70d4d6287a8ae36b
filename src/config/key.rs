//! A key of the configuration, declared once: its name, what it accepts, its default, and the sentence that documents
//! it. Reading, `config show`, suggestions for misspelt keys and `docs/configuration.md` all come from here.

/// What every environment variable of the settings begins with.
const PREFIX: &str = "ANCHORE_K8S_INVENTORY_";

/// A key of kind `K`.
#[derive(Clone, Copy)]
pub(super) struct Key<'p, K> {
    /// The dotted name. In declarations, `<account>` stands for the name of an account.
    pub(super) path: &'p str,
    /// What it accepts, and its default.
    pub(super) kind: K,
    /// What it does, in Markdown.
    pub(super) doc: &'static str,
    /// Other names that are understood as well.
    pub(super) synonyms: &'static [&'static str],
    /// Kept for old files only: never suggested, and shown only when it is set.
    pub(super) old: bool,
}

/// `true` or `false`.
#[derive(Clone, Copy)]
pub(super) struct Boolean {
    pub(super) default: bool,
}

/// A whole number.
#[derive(Clone, Copy)]
pub(super) struct Integer {
    pub(super) default: u64,
    pub(super) min: u64,
    pub(super) max: u64,
}

/// A text.
#[derive(Clone, Copy)]
pub(super) struct Text {
    /// Empty is none.
    pub(super) default: &'static str,
    /// Whether it is never shown.
    pub(super) secret: bool,
}

/// One of several words.
#[derive(Clone, Copy)]
pub(super) struct Choice<T: 'static> {
    pub(super) default: (&'static str, T),
    pub(super) words: &'static [(&'static str, T)],
}

/// A list of texts. Its default is empty.
#[derive(Clone, Copy)]
pub(super) struct List {
    /// Whether an entry is split at blanks.
    pub(super) split_at_blanks: bool,
}

/// What is known about a key without its type.
pub(super) struct Row {
    pub(super) path: &'static str,
    pub(super) synonyms: &'static [&'static str],
    pub(super) doc: &'static str,
    pub(super) old: bool,
    /// What it accepts, in words, where its meaning does not say so.
    pub(super) accepts: String,
    /// The default in YAML; empty is none.
    pub(super) default: String,
}

/// Keys that belong together, with the text above them in the documentation.
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) intro: &'static str,
    pub(super) rows: Vec<Row>,
}

impl Text {
    /// A text without default.
    pub(super) const UNSET: Self = Self { default: "", secret: false };
    /// A secret.
    pub(super) const SECRET: Self = Self { default: "", secret: true };
}

impl List {
    /// A list whose entries are taken as they are.
    pub(super) const PLAIN: Self = Self { split_at_blanks: false };
}

impl<K: Copy> Key<'static, K> {
    pub(super) const fn new(path: &'static str, kind: K, doc: &'static str) -> Self {
        Self { path, kind, doc, synonyms: &[], old: false }
    }

    /// The same key with other names that mean it too.
    pub(super) const fn also(self, synonyms: &'static [&'static str]) -> Self {
        Self { synonyms, ..self }
    }

    /// The same key, kept for old files only.
    pub(super) const fn old(self) -> Self {
        Self { old: true, ..self }
    }

    fn row(&self, accepts: String, default: String) -> Row {
        Row { path: self.path, synonyms: self.synonyms, doc: self.doc, old: self.old, accepts, default }
    }
}

impl From<Key<'static, Boolean>> for Row {
    fn from(key: Key<'static, Boolean>) -> Self {
        key.row(String::new(), key.kind.default.to_string())
    }
}

impl From<Key<'static, Integer>> for Row {
    fn from(key: Key<'static, Integer>) -> Self {
        key.row(key.kind.accepts(), key.kind.default.to_string())
    }
}

impl From<Key<'static, Text>> for Row {
    fn from(key: Key<'static, Text>) -> Self {
        key.row(String::new(), key.kind.default.to_owned())
    }
}

impl<T: Copy> From<Key<'static, Choice<T>>> for Row {
    fn from(key: Key<'static, Choice<T>>) -> Self {
        key.row(key.kind.accepts(), key.kind.default.0.to_owned())
    }
}

impl From<Key<'static, List>> for Row {
    fn from(key: Key<'static, List>) -> Self {
        key.row("a list".to_owned(), "[]".to_owned())
    }
}

impl Integer {
    /// What is accepted, in words.
    pub(super) fn accepts(&self) -> String {
        match (self.min, self.max) {
            (0, u64::MAX) => "a whole number".to_owned(),
            (min, u64::MAX) => format!("a whole number from {min}"),
            (min, max) => format!("a whole number from {min} to {max}"),
        }
    }

    /// Reads a whole number in any spelling that files in use have: `60`, `60.0`, `6e+01`, `1.048576e+06`, `0x3c`.
    ///
    /// Where 0 is allowed it switches something off, and so does a negative number: files written for the existing
    /// agent have -1, its own default of `kubernetes-request-timeout-seconds`.
    pub(super) fn parse(&self, text: &str) -> Result<u64, &'static str> {
        let number = match text.trim().strip_prefix('-') {
            Some(negative) => {
                parse_whole_number(negative)?;
                0
            }
            None => parse_whole_number(text.trim())?,
        };
        if (self.min..=self.max).contains(&number) { Ok(number) } else { Err("is out of range") }
    }
}

impl Boolean {
    /// Reads a boolean in any spelling that files in use have.
    pub(super) fn parse(text: &str) -> Result<bool, &'static str> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
            "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
            _ => Err("is neither true nor false"),
        }
    }
}

impl<T: Copy> Choice<T> {
    /// What is accepted, in words.
    pub(super) fn accepts(&self) -> String {
        let words: Vec<&str> = self.words.iter().map(|(word, _)| *word).collect();
        format!("one of {}", words.join(", "))
    }

    /// Finds the word, in any case.
    pub(super) fn parse(&self, text: &str) -> Option<(&'static str, T)> {
        self.words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text.trim())).copied()
    }
}

impl Row {
    /// The key's own name and its synonyms.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.path).chain(self.synonyms.iter().copied())
    }
}

/// The environment variable of a key.
pub(super) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", variable_part(path))
}

/// `text` as it appears in names of variables: capitals, with `_` for `.` and `-`.
pub(super) fn variable_part(text: &str) -> String {
    text.to_uppercase().replace(['.', '-'], "_")
}

/// Whether `name` begins as the variables of the settings do.
pub(super) fn is_own_variable(name: &str) -> bool {
    name.starts_with(PREFIX)
}

fn parse_whole_number(text: &str) -> Result<u64, &'static str> {
    const NOT_A_NUMBER: &str = "is not a whole number";
    let text = text.strip_prefix('+').unwrap_or(text).replace('_', "");
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            return u64::from_str_radix(digits, radix).map_err(|_| NOT_A_NUMBER);
        }
    }
    let (digits, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    match (digits, rest) {
        (digits, "") if digits.len() > 1 && digits.starts_with('0') => {
            Err("begins with 0 and could be octal; write it without the leading 0")
        }
        ("", "") => Err(NOT_A_NUMBER),
        (digits, "") => digits.parse().map_err(|_| "is too large"),
        _ => parse_whole_float(&text).ok_or(NOT_A_NUMBER),
    }
}

/// `60.0` or `6e+01`; only what a double holds exactly.
fn parse_whole_float(text: &str) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let written_as_number = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    let number: f64 = written_as_number.then(|| text.parse().ok())??;
    let whole = (0.0..=EXACT).contains(&number) && number.fract() == 0.0;
    whole.then(|| format!("{number:.0}").parse().ok())?
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("60", Ok(60))]
    #[case("60.0", Ok(60))]
    #[case("6e+01", Ok(60))]
    #[case("1.048576e+06", Ok(1_048_576))]
    #[case("1_000", Ok(1000))]
    #[case("0x3c", Ok(60))]
    #[case(" 7 ", Ok(7))]
    #[case("+7", Ok(7))]
    #[case("0", Ok(0))]
    #[case("-1", Ok(0))]
    #[case("-1.0", Ok(0))]
    #[case("18446744073709551615", Ok(u64::MAX))]
    #[case("18446744073709551616", Err("is too large"))]
    #[case("010", Err("begins with 0 and could be octal; write it without the leading 0"))]
    #[case("60.5", Err("is not a whole number"))]
    #[case("--1", Err("is not a whole number"))]
    #[case("-1.5", Err("is not a whole number"))]
    #[case("+-1", Err("is not a whole number"))]
    #[case("1e300", Err("is not a whole number"))]
    #[case("inf", Err("is not a whole number"))]
    #[case("NaN", Err("is not a whole number"))]
    #[case("60s", Err("is not a whole number"))]
    #[case("0x", Err("is not a whole number"))]
    #[case("", Err("is not a whole number"))]
    fn whole_numbers_are_read_in_any_spelling(#[case] text: &str, #[case] expected: Result<u64, &str>) {
        assert_eq!(Integer { default: 0, min: 0, max: u64::MAX }.parse(text), expected);
    }

    #[test]
    fn a_number_outside_its_range_is_refused() {
        let kind = Integer { default: 60, min: 30, max: 600 };
        let outcomes = ["-60", "29", "30", "600", "601"].map(|text| kind.parse(text).is_ok());
        assert_eq!(outcomes, [false, false, true, true, false]);
    }

    #[test]
    fn a_variable_is_named_by_the_path_in_capitals() {
        assert_eq!(variable("anchore.http.timeout-seconds"), "ANCHORE_K8S_INVENTORY_ANCHORE_HTTP_TIMEOUT_SECONDS");
    }
}
