//! What a server says: its answer to a request, and the words in it that help an operator.
//!
//! Any body is understood somehow: Anchore's two JSON shapes, the pages of the proxies in front of it, plain text,
//! nothing at all. The words are cleaned of control characters and bounded before anyone prints them.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde::Deserialize;
use serde_json::Value;

/// Most bytes of an error's answer that are read.
pub(crate) const BODY_LIMIT: usize = 64 * 1024;

/// Most bytes of a success that are read: the answer to a registration repeats it, with the patterns of all routes.
pub(crate) const SUCCESS_LIMIT: usize = 1024 * 1024;

/// Most characters of a server's words that are shown.
const SHOWN_CHARACTERS: usize = 500;

/// The body of an answer, as far as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AnswerBody {
    /// What was read, at most [`BODY_LIMIT`] or [`SUCCESS_LIMIT`] bytes.
    pub(crate) bytes: Vec<u8>,
    /// Why there is no more.
    pub(crate) end: BodyEnd,
}

/// Where the reading of a body stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BodyEnd {
    /// All of it was read.
    Complete,
    /// There was more than the limit.
    Cut,
    /// The connection broke, or no more came in time, for this reason.
    Broken(String),
}

impl AnswerBody {
    /// Whether it is what Anchore answers to a report it took: nothing, or JSON. A page of a proxy is neither. Of JSON
    /// longer than the limit only the beginning can be seen.
    pub(crate) fn is_empty_or_json(&self) -> bool {
        let text = self.bytes.trim_ascii();
        match self.end {
            BodyEnd::Broken(_) => false,
            BodyEnd::Cut => text.starts_with(b"{") || text.starts_with(b"["),
            BodyEnd::Complete => text.is_empty() || serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok(),
        }
    }
}

/// The words of a server about an error, on one line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    /// All it said, without control characters; empty when it said nothing.
    text: String,
    /// The element of the report it complains about, as `containers.0.image_tag`.
    element: Option<String>,
}

impl Words {
    /// Finds the words in the body of an error answer.
    pub(crate) fn of(body: &[u8]) -> Self {
        if let Ok(error) = serde_json::from_slice::<ErrorBody>(body)
            && let Some(said) = error.said()
        {
            return Self::from_text(&said);
        }
        let text = String::from_utf8_lossy(body);
        match page_title(&text) {
            Some(title) => Self::from_text(&format!("a web page titled \"{title}\"")),
            None => Self::from_text(&text),
        }
    }

    /// All words, not shortened: what rules are matched against.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn from_text(text: &str) -> Self {
        let text = one_line(text);
        match split_element(&text) {
            Some((reason, element)) => Self { text: reason.to_owned(), element: Some(element.to_owned()) },
            None => Self { text, element: None },
        }
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() {
            f.write_str("no reason given")?;
        } else {
            write_shortened(f, &self.text)?;
        }
        match &self.element {
            Some(element) => {
                f.write_str(", at ")?;
                write_shortened(f, element)
            }
            None => Ok(()),
        }
    }
}

/// How long the server asks to wait, from the value of a `Retry-After` header: seconds or a date (RFC 9110 §10.2.3).
/// A date that has passed is no wait; what is neither is no answer.
pub(crate) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// Both shapes of Anchore's errors: services answer with a `message`, the routing and validation in front of them with
/// `title` and `detail` (RFC 9457). No field is relied on.
#[derive(Deserialize)]
struct ErrorBody {
    message: Option<Value>,
    title: Option<Value>,
    detail: Option<Value>,
}

impl ErrorBody {
    fn said(&self) -> Option<String> {
        let head = [&self.message, &self.title].into_iter().flatten().find_map(Value::as_str)?;
        match self.detail.as_ref().and_then(detail_text) {
            Some(detail) => Some(format!("{head}: {detail}")),
            None => Some(head.to_owned()),
        }
    }
}

/// The detail of an error: a text, or an object whose list of codes is worth showing.
fn detail_text(detail: &Value) -> Option<String> {
    let text = match detail {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let codes = fields.get("error_codes")?.as_array()?;
            codes
                .iter()
                .map(|code| code.as_str().map_or_else(|| code.to_string(), str::to_owned))
                .collect::<Vec<_>>()
                .join(", ")
        }
        _ => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// Splits `<reason> - 'containers.0.image_tag'`, the form of a schema violation.
fn split_element(text: &str) -> Option<(&str, &str)> {
    let (reason, element) = text.strip_suffix('\'')?.rsplit_once(" - '")?;
    let is_path = !element.is_empty() && !element.contains(|character: char| character.is_whitespace());
    is_path.then_some((reason, element))
}

/// The title of an HTML page; `None` for anything else.
fn page_title(text: &str) -> Option<String> {
    if !text.trim_start().starts_with('<') {
        return None;
    }
    // Lower-casing ASCII keeps the positions of all bytes.
    let lower = text.to_ascii_lowercase();
    let start = lower.find("<title>")? + "<title>".len();
    let end = lower.get(start..)?.find("</title>")? + start;
    text.get(start..end).map(one_line)
}

/// The text with every run of blanks, line ends and control characters as one blank.
fn one_line(text: &str) -> String {
    text.split(|character: char| character.is_whitespace() || character.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn write_shortened(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => write!(f, "{}…", text.get(..end).unwrap_or_default()),
        None => f.write_str(text),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn said(body: &str) -> String {
        Words::of(body.as_bytes()).to_string()
    }

    fn body(bytes: &[u8], end: BodyEnd) -> AnswerBody {
        AnswerBody { bytes: bytes.to_vec(), end }
    }

    #[test]
    fn the_message_of_a_service_error_is_shown() {
        let error =
            r#"{"message": "User account not found. Name=team-a", "httpcode": 404, "detail": {"error_codes": []}}"#;
        assert_eq!(said(error), "User account not found. Name=team-a");
    }

    #[test]
    fn the_codes_of_a_service_error_are_shown() {
        let error = r#"{"message": "Boom", "code": 500, "detail": {"error_codes": ["internal", 7]}}"#;
        assert_eq!(said(error), "Boom: internal, 7");
    }

    #[test]
    fn a_schema_violation_shows_its_element_apart() {
        let error = r#"{"type": "about:blank", "title": "Bad Request", "detail": "'' is too short - 'containers.0.image_tag'", "status": 400}"#;
        assert_eq!(said(error), "Bad Request: '' is too short, at containers.0.image_tag");
    }

    #[test]
    fn the_element_survives_a_reason_that_is_too_long_to_show() {
        let error = format!(r#"{{"title": "Bad Request", "detail": "{} is bad - 'pods.12.uid'"}}"#, "x".repeat(2_000));
        assert!(said(&error).ends_with("x…, at pods.12.uid"), "{}", said(&error));
    }

    #[rstest]
    #[case("", "no reason given")]
    #[case(" \n", "no reason given")]
    #[case("Unauthorized", "Unauthorized")]
    #[case("null", "null")]
    #[case(r#"{"error": "other"}"#, r#"{"error": "other"}"#)]
    #[case(r#"{"message": 7, "title": "Seven"}"#, "Seven")]
    #[case("two\r\nlines\u{1b}[31m red", "two lines [31m red")]
    #[case(
        "<html><HEAD><Title>413 Request\nEntity Too Large</Title></HEAD>",
        "a web page titled \"413 Request Entity Too Large\""
    )]
    #[case("<html>no title</html>", "<html>no title</html>")]
    fn any_other_body_is_shown_as_it_is_on_one_line(#[case] body: &str, #[case] shown: &str) {
        assert_eq!(said(body), shown);
    }

    #[test]
    fn words_are_shortened_when_shown_but_matched_whole() {
        let words = Words::of(format!("{} not found", "ä".repeat(1_000)).as_bytes());

        assert_eq!(words.to_string().chars().count(), SHOWN_CHARACTERS + 1);
        assert!(words.as_str().ends_with("not found"));
    }

    #[rstest]
    #[case(b"", true)]
    #[case(b" \r\n", true)]
    #[case(b"{}", true)]
    #[case(b"null\n", true)]
    #[case(b"<html>", false)]
    #[case(b"OK", false)]
    #[case(b"{\"a\":", false)]
    fn an_acceptance_is_empty_or_json(#[case] bytes: &[u8], #[case] accepted: bool) {
        assert_eq!(body(bytes, BodyEnd::Complete).is_empty_or_json(), accepted);
    }

    #[test]
    fn a_body_over_the_limit_is_judged_by_its_beginning() {
        assert!(body(b" {\"uuid\": \"5b0", BodyEnd::Cut).is_empty_or_json());
        assert!(!body(b"<html><body>", BodyEnd::Cut).is_empty_or_json());
    }

    #[test]
    fn a_body_that_broke_off_says_nothing() {
        assert!(!body(b"", BodyEnd::Broken("reset".to_owned())).is_empty_or_json());
        assert!(!body(b"{}", BodyEnd::Broken("reset".to_owned())).is_empty_or_json());
    }

    #[rstest]
    #[case("120", Some(120))]
    #[case(" 0 ", Some(0))]
    #[case("99999999999999999999999", Some(u64::MAX))]
    #[case("Wed, 04 Mar 2026 05:06:37 GMT", Some(30))]
    #[case("Wed, 04 Mar 2026 05:00:00 GMT", Some(0))]
    #[case("soon", None)]
    #[case("-5", None)]
    #[case("", None)]
    fn retry_after_is_seconds_or_a_date(#[case] value: &str, #[case] seconds: Option<u64>) {
        let now = "2026-03-04T05:06:07Z".parse().unwrap();
        assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs));
    }

    proptest! {
        #[test]
        fn words_of_any_body_are_one_bounded_line(body in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            let shown = Words::of(&body).to_string();
            prop_assert!(!shown.contains(char::is_control));
            prop_assert!(shown.chars().count() <= 2 * SHOWN_CHARACTERS + ", at ……".chars().count());
        }

        #[test]
        fn words_of_any_page_are_found_without_panic(page in "<[ -~ä<>/title]{0,200}") {
            prop_assert!(!Words::of(page.as_bytes()).to_string().is_empty());
        }
    }
}
