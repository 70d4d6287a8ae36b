//! Patterns of namespaces and metadata keys: an exact name, or a regular expression searched in the name.
//!
//! Expressions are those of the `regex` crate. Files were often written for Go's RE2, which is nearly the same; what
//! both accept but understand differently is refused, so that no pattern changes its meaning silently.

use regex::Regex;
use regex_syntax::ast::{self, AssertionKind, Ast, ClassSetBinaryOp, ClassSetItem, RepetitionKind};

use super::key::{Key, List};
use super::problem::{Problem, printable};
use super::reader::{Reader, subject};

/// A name or a regular expression, as written in the configuration.
#[derive(Debug, Clone)]
pub enum Pattern {
    /// Matches this text alone.
    Exact(String),
    /// Matches where the expression is found anywhere in the text.
    Regex(Regex),
}

/// Why a text is no pattern. The text itself is not part of the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Not a regular expression.
    #[error("is not a regular expression: {reason} at character {column}")]
    Syntax {
        /// What is wrong.
        reason: String,
        /// Where, counted from 1.
        column: usize,
    },
    /// A form that programs written in Go understand differently.
    #[error("holds {form} at character {column}, which other programs understand differently")]
    Ambiguous {
        /// The form.
        form: &'static str,
        /// Where, counted from 1.
        column: usize,
    },
    /// The compiled expression would take too much memory.
    #[error("is a regular expression that is too large")]
    TooLarge,
}

/// What a list of patterns is about, which decides what an exact name looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Namespaces,
    MetadataKeys,
}

impl Pattern {
    /// A pattern of namespaces: a DNS label (RFC 1123) is a name, anything else an expression.
    pub fn namespace(text: &str) -> Result<Self, PatternError> {
        if is_dns_label(text) { Ok(Self::Exact(text.to_owned())) } else { compile(text).map(Self::Regex) }
    }

    /// A pattern of label or annotation keys: an expression when it holds a character that means something in
    /// expressions, else a name. A dot alone makes no expression, because nearly every key has one.
    pub fn metadata_key(text: &str) -> Result<Self, PatternError> {
        let expression = text.contains(['\\', '^', '$', '*', '+', '?', '(', ')', '[', ']', '{', '}', '|']);
        if expression { compile(text).map(Self::Regex) } else { Ok(Self::Exact(text.to_owned())) }
    }

    /// Whether `text` is matched.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(name) => name == text,
            Self::Regex(regex) => regex.is_match(text),
        }
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Exact(name) => name,
            Self::Regex(regex) => regex.as_str(),
        }
    }
}

/// Reads a list of patterns.
pub(super) fn read(reader: &mut Reader<'_>, key: &Key<List>, about: Subject) -> Vec<Pattern> {
    let mut patterns = Vec::new();
    for item in reader.list(key) {
        let pattern = match about {
            Subject::Namespaces => Pattern::namespace(&item.text),
            Subject::MetadataKeys => Pattern::metadata_key(&item.text),
        };
        let shown = subject(&item.text, false, &item.origin);
        match pattern {
            Ok(pattern) => {
                if repeats_hyphen(&pattern) {
                    let what = format!("{shown} also matches names without the hyphen, because * repeats it");
                    let advice = "For names that begin with kube- write ^kube- without the *";
                    reader.problems.push(Problem::hint(item.origin, &printable(key.path), what).advise(advice));
                }
                patterns.push(pattern);
            }
            Err(error) => {
                let problem = Problem::error(item.origin, &printable(key.path), format!("{shown} {error}"));
                reader.problems.push(problem.advise(advice(&error)));
            }
        }
    }
    patterns
}

/// Whether `text` is a DNS label, as every name of a namespace is.
pub(crate) fn is_dns_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len()) && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn compile(text: &str) -> Result<Regex, PatternError> {
    let tree = ast::parse::Parser::new().parse(text).map_err(|error| PatternError::Syntax {
        reason: error.kind().to_string(),
        column: error.span().start.column,
    })?;
    ast::visit(&tree, RefuseAmbiguous)?;
    Regex::new(text).map_err(|error| match (error, regex_syntax::parse(text)) {
        (_, Err(regex_syntax::Error::Translate(error))) => {
            PatternError::Syntax { reason: error.kind().to_string(), column: error.span().start.column }
        }
        _ => PatternError::TooLarge,
    })
}

fn advice(error: &PatternError) -> &'static str {
    match error {
        PatternError::Syntax { .. } => "For any text write .*, and put \\ before a character that is meant literally",
        PatternError::Ambiguous { .. } => "Put \\ before characters that are meant literally, or write it another way",
        PatternError::TooLarge => "Write smaller repetitions",
    }
}

/// Whether a `*` stands after a hyphen, as in `^kube-*`: nearly always meant as a wildcard.
fn repeats_hyphen(pattern: &Pattern) -> bool {
    match pattern {
        Pattern::Exact(_) => false,
        Pattern::Regex(regex) => {
            let tree = ast::parse::Parser::new().parse(regex.as_str());
            tree.is_ok_and(|tree| ast::visit(&tree, FindRepeatedHyphen(false)).unwrap_or(false))
        }
    }
}

/// Walks an expression and stops at a form that RE2 accepts too, with another meaning.
struct RefuseAmbiguous;

impl RefuseAmbiguous {
    fn refuse(form: &'static str, span: &ast::Span) -> Result<(), PatternError> {
        Err(PatternError::Ambiguous { form, column: span.start.column })
    }
}

impl ast::Visitor for RefuseAmbiguous {
    type Output = ();
    type Err = PatternError;

    fn finish(self) -> Result<(), PatternError> {
        Ok(())
    }

    fn visit_pre(&mut self, tree: &Ast) -> Result<(), PatternError> {
        match tree {
            Ast::Assertion(assertion) => match assertion.kind {
                AssertionKind::WordBoundaryStartAngle | AssertionKind::WordBoundaryEndAngle => {
                    Self::refuse("\\< or \\>", &assertion.span)
                }
                AssertionKind::WordBoundaryStart
                | AssertionKind::WordBoundaryEnd
                | AssertionKind::WordBoundaryStartHalf
                | AssertionKind::WordBoundaryEndHalf => Self::refuse("\\b with braces", &assertion.span),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), PatternError> {
        match item {
            ClassSetItem::Bracketed(class) => Self::refuse("a [ inside [ ]", &class.span),
            _ => Ok(()),
        }
    }

    fn visit_class_set_binary_op_pre(&mut self, operation: &ClassSetBinaryOp) -> Result<(), PatternError> {
        Self::refuse("&&, -- or ~~ inside [ ]", &operation.span)
    }
}

struct FindRepeatedHyphen(bool);

impl ast::Visitor for FindRepeatedHyphen {
    type Output = bool;
    type Err = std::convert::Infallible;

    fn finish(self) -> Result<bool, Self::Err> {
        Ok(self.0)
    }

    fn visit_pre(&mut self, tree: &Ast) -> Result<(), Self::Err> {
        if let Ast::Repetition(repetition) = tree {
            let star = repetition.op.kind == RepetitionKind::ZeroOrMore;
            let hyphen = matches!(&*repetition.ast, Ast::Literal(literal) if literal.c == '-');
            self.0 |= star && hyphen;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_plain_namespace_matches_itself_alone() {
        let pattern = Pattern::namespace("prod").unwrap();
        assert_eq!(["prod", "nonprod", "prod-2"].map(|name| pattern.matches(name)), [true, false, false]);
    }

    #[rstest]
    #[case("^kube-*", "kubeflow", true)]
    #[case("prod.*", "nonprod", true)]
    #[case("^prod$", "nonprod", false)]
    #[case("Prod", "prod", false)]
    #[case("(?i)Prod", "prod", true)]
    #[case("a|b", "cbc", true)]
    #[case("[[:alpha:]]", "a", true)]
    #[case(r"^\pL+$", "abc", true)]
    #[case("(?P<n>a)", "a", true)]
    #[case("(?<n>a)", "a", true)]
    #[case("^a+?$", "aaa", true)]
    fn other_patterns_are_searched_in_the_name(#[case] pattern: &str, #[case] name: &str, #[case] matches: bool) {
        assert_eq!(Pattern::namespace(pattern).unwrap().matches(name), matches);
    }

    #[rstest]
    #[case("[a&&b]")]
    #[case("[a-z&&[^b]]")]
    #[case("[[a]b]")]
    #[case("[[.a.]]")]
    #[case("[[:foo:]]")]
    #[case("[a--b]")]
    #[case("[a~~b]")]
    #[case(r"\<a")]
    #[case(r"a\>")]
    #[case(r"\b{start}a")]
    #[case(r"a\b{end}")]
    #[case(r"\b{start-half}a")]
    #[case(r"(x|(y[^a&&b]))")]
    fn what_go_understands_differently_is_refused(#[case] pattern: &str) {
        assert!(matches!(Pattern::namespace(pattern), Err(PatternError::Ambiguous { .. })));
    }

    #[rstest]
    #[case("*-prod")]
    #[case(r"\Qa.b\E")]
    #[case("prod{")]
    #[case("a{,3}")]
    #[case(r"\101")]
    #[case(r"\p{^L}")]
    #[case(r"[\w-a]")]
    #[case("(")]
    #[case(r"\p{Nonsense}")]
    fn d37_what_is_no_expression_here_is_refused(#[case] pattern: &str) {
        assert!(matches!(Pattern::namespace(pattern), Err(PatternError::Syntax { .. })));
    }

    #[test]
    fn an_error_is_one_line_with_the_place() {
        let error = Pattern::namespace("abc(").unwrap_err();
        assert_eq!(error.to_string(), "is not a regular expression: unclosed group at character 4");
    }

    #[test]
    fn an_expression_that_would_take_too_much_memory_is_refused() {
        assert_eq!(Pattern::namespace("((a{100}){100}){1000}").unwrap_err(), PatternError::TooLarge);
    }

    #[test]
    fn a_dot_alone_makes_no_expression_of_a_metadata_key() {
        let pattern = Pattern::metadata_key("app.kubernetes.io/name").unwrap();
        assert!(pattern.matches("app.kubernetes.io/name"));
        assert!(!pattern.matches("appXkubernetes.io/name"));
        assert!(Pattern::metadata_key("^app.").unwrap().matches("app.kubernetes.io/name"));
    }

    #[rstest]
    #[case("^kube-*", true)]
    #[case("^(kube-*)$", true)]
    #[case("^kube-", false)]
    #[case("^kube-.*", false)]
    #[case("kube-system", false)]
    fn a_star_after_a_hyphen_is_noticed(#[case] pattern: &str, #[case] noticed: bool) {
        assert_eq!(repeats_hyphen(&Pattern::namespace(pattern).unwrap()), noticed);
    }
}
