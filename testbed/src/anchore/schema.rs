//! Checks a JSON body against a schema, as the service does before it looks at anything else.
//!
//! It reads the body once, without building a document of it: hundreds of megabytes a second. The first violation ends
//! the check; it names the bad element as the service does, `containers.0.image_tag`.

use std::fmt::{self, Write};

use jiff::Timestamp;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What a value must be. `null` is none of these.
pub(crate) enum Rule {
    Text,
    /// A text with something in it that is not white space.
    NonBlank,
    /// 36 characters, lower-case hexadecimal, 8-4-4-4-12.
    Uuid,
    /// RFC 3339.
    Timestamp,
    OneOf(&'static [&'static str]),
    Flag,
    Number,
    /// A whole number, not written as a fraction, within these bounds.
    Integer(i64, i64),
    List(&'static Rule),
    /// Any names; the values by this rule.
    Map(&'static Rule),
    /// These names by these rules; others are ignored.
    Object(&'static [Field]),
    AnyObject,
}

/// A field of an object.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) rule: Rule,
    pub(crate) required: bool,
}

/// Why a body is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is not JSON.
    Syntax,
    /// It does not fit: the reason, and where.
    Schema(String),
}

/// The texts of an object: its own and those of its maps.
#[derive(Debug, Default)]
pub(crate) struct Element {
    texts: Vec<(&'static str, Box<str>)>,
    maps: Vec<(&'static str, Box<str>, Box<str>)>,
}

/// Takes the elements of the lists at the top of a document, each with the list's name.
pub(crate) type Sink<'s> = &'s mut dyn FnMut(&'static str, Element);

pub(crate) const fn required(name: &'static str, rule: Rule) -> Field {
    Field { name, rule, required: true }
}

pub(crate) const fn optional(name: &'static str, rule: Rule) -> Field {
    Field { name, rule, required: false }
}

/// Checks a document, hands out the elements of its lists, and gives back its own texts.
pub(crate) fn check(body: &[u8], rule: &'static Rule, sink: Sink<'_>) -> Result<Element, Refusal> {
    let mut walk =
        Walk { path: Vec::new(), sink, document: Element::default(), element: Element::default(), reason: None };
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let ended = Check { rule, walk: &mut walk }.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    match (ended, walk.reason) {
        (Ok(()), _) => Ok(walk.document),
        (Err(_), None) => Err(Refusal::Syntax),
        (Err(_), Some(reason)) if walk.path.is_empty() => Err(Refusal::Schema(reason)),
        (Err(_), Some(reason)) => Err(Refusal::Schema(format!("{reason} - '{}'", dotted(&walk.path)))),
    }
}

impl Element {
    /// The text of a field; of a repeated field the last, as in the service.
    pub(crate) fn take(&mut self, name: &str) -> Option<Box<str>> {
        let at = self.texts.iter().rposition(|(field, _)| *field == name)?;
        Some(self.texts.swap_remove(at).1)
    }

    /// The entries of a map.
    pub(crate) fn take_map(&mut self, name: &str) -> impl Iterator<Item = (Box<str>, Box<str>)> {
        self.maps.extract_if(.., move |(field, ..)| *field == name).map(|(_, key, value)| (key, value))
    }
}

struct Walk<'s> {
    /// Where we are; after a violation, where it is.
    path: Vec<Step>,
    sink: Sink<'s>,
    document: Element,
    element: Element,
    reason: Option<String>,
}

enum Step {
    Field(&'static str),
    Index(usize),
    Name(Box<str>),
}

impl Walk<'_> {
    fn fail<E: Error>(&mut self, reason: impl fmt::Display) -> E {
        self.reason = Some(reason.to_string());
        E::custom("does not fit the schema")
    }

    fn keep(&mut self, text: &str) {
        match self.path.as_slice() {
            [Step::Field(field)] => self.document.texts.push((field, text.into())),
            [Step::Field(_), Step::Index(_), Step::Field(field)] => self.element.texts.push((field, text.into())),
            [Step::Field(_), Step::Index(_), Step::Field(field), Step::Name(name)] => {
                self.element.maps.push((field, name.clone(), text.into()));
            }
            _ => {}
        }
    }

    fn object_ended(&mut self) {
        if let [Step::Field(list), Step::Index(_)] = self.path.as_slice() {
            (self.sink)(list, std::mem::take(&mut self.element));
        }
    }
}

struct Check<'a, 's> {
    rule: &'static Rule,
    walk: &'a mut Walk<'s>,
}

impl<'de> DeserializeSeed<'de> for Check<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Check<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.rule.type_name())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let broken = match self.rule {
            Rule::Text => None,
            Rule::NonBlank => text.trim().is_empty().then_some("does not match '^.*\\\\S.*$'"),
            Rule::Uuid => (!is_uuid(text)).then_some("does not match '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'"),
            Rule::Timestamp => text.parse::<Timestamp>().is_err().then_some("is not a 'date-time'"),
            Rule::OneOf(values) => {
                if values.contains(&text) {
                    None
                } else {
                    return Err(self.walk.fail(format!("'{text}' is not one of {values:?}")));
                }
            }
            _ => return self.other(format_args!("'{text}'")),
        };
        match broken {
            None => self.walk.keep(text),
            Some(broken) => return Err(self.walk.fail(format!("'{text}' {broken}"))),
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.rule {
            Rule::Flag => Ok(()),
            _ => self.other(if value { "True" } else { "False" }),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        match self.rule {
            Rule::Integer(least, _) if value < *least => {
                Err(self.walk.fail(format!("{value} is less than the minimum of {least}")))
            }
            Rule::Integer(_, most) if value > *most => {
                Err(self.walk.fail(format!("{value} is greater than the maximum of {most}")))
            }
            Rule::Integer(..) | Rule::Number => Ok(()),
            _ => self.other(value),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.visit_i64(i64::try_from(value).unwrap_or(i64::MAX))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match self.rule {
            Rule::Number => Ok(()),
            _ => self.other(format_args!("{value:?}")),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.other("None")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let Rule::List(rule) = self.rule else { return self.other("[…]") };
        for index in 0.. {
            self.walk.path.push(Step::Index(index));
            let more = sequence.next_element_seed(Check { rule, walk: &mut *self.walk })?;
            self.walk.path.pop();
            if more.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        match self.rule {
            Rule::Object(fields) => self.object(fields, map),
            Rule::Map(rule) => {
                while let Some(name) = map.next_key::<Box<str>>()? {
                    self.walk.path.push(Step::Name(name));
                    map.next_value_seed(Check { rule, walk: &mut *self.walk })?;
                    self.walk.path.pop();
                }
                Ok(())
            }
            Rule::AnyObject => {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(())
            }
            _ => self.other("{…}"),
        }
    }
}

impl Check<'_, '_> {
    fn object<'de, A: MapAccess<'de>>(self, fields: &'static [Field], mut map: A) -> Result<(), A::Error> {
        let mut seen = 0_u32;
        while let Some(at) = map.next_key_seed(FieldName(fields))? {
            let Some((at, field)) = at.and_then(|at| Some((at, fields.get(at)?))) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            seen |= 1 << at;
            self.walk.path.push(Step::Field(field.name));
            map.next_value_seed(Check { rule: &field.rule, walk: &mut *self.walk })?;
            self.walk.path.pop();
        }
        let missing = fields.iter().enumerate().find(|(at, field)| field.required && seen & (1 << at) == 0);
        if let Some((_, field)) = missing {
            return Err(self.walk.fail(format!("'{}' is a required property", field.name)));
        }
        self.walk.object_ended();
        Ok(())
    }

    fn other<E: Error>(self, value: impl fmt::Display) -> Result<(), E> {
        Err(self.walk.fail(format!("{value} is not of type '{}'", self.rule.type_name())))
    }
}

impl Rule {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Text | Self::NonBlank | Self::Uuid | Self::Timestamp | Self::OneOf(_) => "string",
            Self::Flag => "boolean",
            Self::Number => "number",
            Self::Integer(..) => "integer",
            Self::List(_) => "array",
            Self::Map(_) | Self::Object(_) | Self::AnyObject => "object",
        }
    }
}

/// Finds a field by its name, without keeping the name.
struct FieldName(&'static [Field]);

impl<'de> DeserializeSeed<'de> for FieldName {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|field| field.name == name))
    }
}

fn is_uuid(text: &str) -> bool {
    let fits = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    text.len() == 36 && text.bytes().enumerate().all(fits)
}

fn dotted(path: &[Step]) -> String {
    let mut text = String::new();
    for (at, step) in path.iter().enumerate() {
        let dot = if at == 0 { "" } else { "." };
        // Writing to a string cannot fail.
        let _ = match step {
            Step::Field(name) => write!(text, "{dot}{name}"),
            Step::Index(index) => write!(text, "{dot}{index}"),
            Step::Name(name) => write!(text, "{dot}{name}"),
        };
    }
    text
}
