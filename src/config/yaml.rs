//! The text of a configuration file as a tree in which every key and value knows its line and column.
//!
//! Reads YAML 1.2, and so JSON. Anchors, aliases and merge keys are resolved here. Refuses what cannot be a
//! configuration: several documents, keys that are not text, tags of other types, trees that are too deep or, through
//! aliases, too large. Errors name a place and never quote the text. Nothing here recurses over the input.

use std::collections::{HashMap, HashSet, hash_map};

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, Tag};

use super::problem::Position;

/// How deep lists and maps may be nested, aliases resolved. The deepest key of the settings is at 4.
const DEEPEST: usize = 32;

/// How many values a file may hold, aliases resolved.
const MOST_NODES: usize = 100_000;

/// How many bytes of text a file may hold, aliases resolved: a few that name one long text are soon very many.
const MOST_TEXT: usize = 8 * 1024 * 1024;

/// A value and its place.
#[derive(Clone)]
pub(super) struct Node {
    /// Where it begins.
    pub(super) position: Position,
    /// What it is.
    pub(super) value: Value,
    extent: Extent,
}

/// What a value is.
#[derive(Clone)]
pub(super) enum Value {
    /// Nothing, or one of the words for it.
    Null,
    /// The source text of a text, number or boolean.
    Scalar(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in source order, each key once.
    Map(Vec<Entry>),
}

/// How much a value holds, itself included.
#[derive(Clone, Copy, Default)]
struct Extent {
    nodes: usize,
    /// Bytes of texts, keys among them.
    text: usize,
    height: usize,
}

/// A key of a mapping with its value.
#[derive(Clone)]
pub(super) struct Entry {
    /// The key as written.
    pub(super) key: String,
    /// Where the key begins.
    pub(super) position: Position,
    /// Its value.
    pub(super) value: Node,
}

/// Why a text is not a tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// Where.
    pub(super) position: Position,
    /// What is wrong there.
    pub(super) what: String,
}

/// A key that one mapping holds twice.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Duplicate {
    /// The key as written the second time.
    pub(super) key: String,
    /// Where it stands first.
    pub(super) first: Position,
    /// Where it stands again.
    pub(super) again: Position,
}

/// A parsed text.
pub(super) struct Parsed {
    /// The document; null when the text holds none.
    pub(super) root: Node,
    /// Keys that are repeated. The first one of each is in the tree.
    pub(super) duplicates: Vec<Duplicate>,
}

/// Parses a text.
pub(super) fn parse(text: &str) -> Result<Parsed, SyntaxError> {
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: DEEPEST,
        block_nesting_limit: DEEPEST,
    };
    let mut builder = Builder::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) =
            event.map_err(|error| SyntaxError { position: position(error.marker()), what: describe(error.kind()) })?;
        builder.take(event, position(&span.start))?;
    }
    let root = builder.root.unwrap_or_else(|| Node::new(Position { line: 1, column: 1 }, Value::Null));
    Ok(Parsed { root, duplicates: builder.duplicates })
}

impl Node {
    pub(super) fn new(position: Position, value: Value) -> Self {
        let below = match &value {
            Value::Null => Extent::default(),
            Value::Scalar(text) => Extent { text: text.len(), ..Extent::default() },
            Value::List(items) => items.iter().fold(Extent::default(), |sum, item| sum.beside(item.extent)),
            Value::Map(entries) => entries.iter().fold(Extent::default(), |sum, Entry { key, value, .. }| {
                let key = Extent { text: key.len(), ..Extent::default() };
                sum.beside(key).beside(value.extent)
            }),
        };
        Self { position, value, extent: Extent { nodes: below.nodes + 1, height: below.height + 1, ..below } }
    }
}

impl Value {
    /// Whether it sets nothing: null, an empty text or an empty list.
    pub(super) fn is_nothing(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Scalar(text) => text.is_empty(),
            Self::List(items) => items.is_empty(),
            Self::Map(_) => false,
        }
    }
}

impl Extent {
    /// That of two values in one list or map.
    fn beside(self, other: Self) -> Self {
        Self { nodes: self.nodes + other.nodes, text: self.text + other.text, height: self.height.max(other.height) }
    }
}

/// Builds the tree from the parser's events, with a stack of the lists and maps that are still open.
#[derive(Default)]
struct Builder {
    open: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    text: usize,
    documents: usize,
    root: Option<Node>,
    duplicates: Vec<Duplicate>,
}

/// A list or map that is still open.
struct Frame {
    position: Position,
    anchor: usize,
    collection: Collection,
}

enum Collection {
    List(Vec<Node>),
    Map(OpenMap),
}

#[derive(Default)]
struct OpenMap {
    entries: Vec<Entry>,
    seen: HashMap<String, Position>,
    key: Option<Key>,
    merged: Vec<Node>,
}

/// A key whose value has not been read yet.
enum Key {
    Text(String, Position),
    /// `<<`, plain.
    Merge,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, at: Position) -> Result<(), SyntaxError> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(error(at, "a second document begins here; a configuration file holds one"));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => self.scalar(&text, style, (anchor, tag.as_deref()), at),
            Event::SequenceStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), at)?;
                self.begin(Collection::List(Vec::new()), anchor, at)
            }
            Event::MappingStart(_, anchor, tag) => {
                check_tag(tag.as_deref(), at)?;
                self.begin(Collection::Map(OpenMap::default()), anchor, at)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => {
                    let node = node.clone();
                    self.nodes += node.extent.nodes;
                    self.text += node.extent.text;
                    self.place(node, false)
                }
                None => Err(error(at, "this alias stands inside what it names")),
            },
            _ => Ok(()),
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        (anchor, tag): (usize, Option<&Tag>),
        at: Position,
    ) -> Result<(), SyntaxError> {
        check_tag(tag, at)?;
        let plain = style == ScalarStyle::Plain && tag.is_none_or(|tag| tag.core_suffix() != Some("str"));
        let null = plain && matches!(text, "" | "~" | "null" | "Null" | "NULL");
        // A key is text whatever it looks like.
        let value = if null && !self.expects_key() { Value::Null } else { Value::Scalar(text.to_owned()) };
        let node = Node::new(at, value);
        self.remember(anchor, &node);
        self.nodes += 1;
        self.text += text.len();
        self.place(node, plain && text == "<<")
    }

    fn begin(&mut self, collection: Collection, anchor: usize, position: Position) -> Result<(), SyntaxError> {
        if self.expects_key() {
            return Err(error(position, "a key must be a text, not a list or a map"));
        }
        self.nodes += 1;
        self.open.push(Frame { position, anchor, collection });
        Ok(())
    }

    fn end(&mut self) -> Result<(), SyntaxError> {
        let Some(frame) = self.open.pop() else { return Ok(()) };
        let value = match frame.collection {
            Collection::List(items) => Value::List(items),
            Collection::Map(map) => Value::Map(map.merge()?),
        };
        let node = Node::new(frame.position, value);
        self.remember(frame.anchor, &node);
        self.place(node, false)
    }

    /// Puts a complete value where it belongs: into the innermost open collection, or at the root.
    fn place(&mut self, node: Node, merge: bool) -> Result<(), SyntaxError> {
        if self.nodes > MOST_NODES {
            return Err(error(node.position, format!("more than {MOST_NODES} values, aliases included")));
        }
        if self.text > MOST_TEXT {
            return Err(error(node.position, format!("more than {} MiB of text, aliases included", MOST_TEXT >> 20)));
        }
        if self.open.len() + node.extent.height > DEEPEST {
            return Err(error(node.position, format!("nested more than {DEEPEST} levels deep")));
        }
        match self.open.last_mut().map(|frame| &mut frame.collection) {
            None => self.root = Some(node),
            Some(Collection::List(items)) => items.push(node),
            Some(Collection::Map(map)) => match map.key.take() {
                None if merge => map.key = Some(Key::Merge),
                None => map.key = Some(Key::read(node)?),
                Some(Key::Merge) => map.merged.push(node),
                Some(Key::Text(key, position)) => self.duplicates.extend(map.add(Entry { key, position, value: node })),
            },
        }
        Ok(())
    }

    fn expects_key(&self) -> bool {
        matches!(self.open.last(), Some(Frame { collection: Collection::Map(OpenMap { key: None, .. }), .. }))
    }

    fn remember(&mut self, anchor: usize, node: &Node) {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
    }
}

impl OpenMap {
    /// Adds an entry, unless its key is there already.
    fn add(&mut self, entry: Entry) -> Option<Duplicate> {
        let again = entry.position;
        match self.seen.entry(entry.key.clone()) {
            hash_map::Entry::Occupied(first) => Some(Duplicate { key: entry.key, first: *first.get(), again }),
            hash_map::Entry::Vacant(slot) => {
                slot.insert(again);
                self.entries.push(entry);
                None
            }
        }
    }

    /// Adds what merge keys bring in: the map's own keys win, then the maps merged first.
    fn merge(mut self) -> Result<Vec<Entry>, SyntaxError> {
        let mut taken: HashSet<String> = self.entries.iter().map(|entry| entry.key.to_lowercase()).collect();
        for node in self.merged {
            let maps = match node.value {
                Value::List(items) => items,
                _ => vec![node],
            };
            for map in maps {
                let Value::Map(entries) = map.value else {
                    return Err(error(map.position, "only a map, or a list of maps, can be merged with <<"));
                };
                for entry in entries {
                    if taken.insert(entry.key.to_lowercase()) {
                        self.entries.push(entry);
                    }
                }
            }
        }
        Ok(self.entries)
    }
}

impl Key {
    fn read(node: Node) -> Result<Self, SyntaxError> {
        match node.value {
            Value::Scalar(text) => Ok(Self::Text(text, node.position)),
            _ => Err(error(node.position, "a key must be a text, not a list or a map")),
        }
    }
}

/// The tags of JSON's types change nothing; any other asks for a conversion that is not done. It is not shown: it may
/// be a password that begins with an exclamation mark.
fn check_tag(tag: Option<&Tag>, at: Position) -> Result<(), SyntaxError> {
    match tag {
        Some(tag) if tag.core_suffix().is_none() && !tag.suffix().is_empty() => Err(error(
            at,
            "a text that begins with ! must be quoted, and tags other than those of JSON are not understood",
        )),
        _ => Ok(()),
    }
}

fn describe(kind: &granit_parser::ErrorKind) -> String {
    match kind {
        granit_parser::ErrorKind::RecursionLimitExceeded => format!("nested more than {DEEPEST} levels deep"),
        granit_parser::ErrorKind::UnexpectedCharacter { character } => {
            format!("not valid YAML: the character {character:?} cannot stand here unless the text is quoted")
        }
        kind => format!("not valid YAML: {kind}"),
    }
}

fn error(position: Position, what: impl Into<String>) -> SyntaxError {
    SyntaxError { position, what: what.into() }
}

fn position(marker: &granit_parser::Marker) -> Position {
    Position { line: marker.line(), column: marker.col() + 1 }
}
