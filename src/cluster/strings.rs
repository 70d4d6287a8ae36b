//! Interned texts: each distinct text is kept once, and everything else holds its 4-byte [`Symbol`].
//!
//! Names of images, labels and nodes repeat thousands of times in a cluster; one copy each is what keeps a snapshot
//! of 150,000 pods within its memory bound. What was interned so far can be shared with a snapshot without copying it:
//! only the last, unfinished piece is copied when more is interned afterwards.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Bytes of one chunk of text. Texts never move once stored, so growing copies nothing.
const CHUNK: usize = 256 * 1024;

/// Spans of one segment; a power of two, so that finding one is a shift.
const SEGMENT: usize = 4096;

/// A text kept in a [`Strings`]. Two symbols of one `Strings` are equal exactly when their texts are, unless one is an
/// alias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol(u32);

/// The texts behind symbols, to be read. Cheap to clone.
#[derive(Clone, Default)]
pub struct Texts {
    chunks: Vec<Arc<String>>,
    spans: Vec<Arc<Vec<Span>>>,
}

/// Texts, each once, and how to find them.
#[derive(Default)]
pub struct Strings {
    texts: Texts,
    count: usize,
    bytes: usize,
    table: HashTable<Symbol>,
    /// Seeded at random, as every text comes from outside.
    hasher: DefaultHashBuilder,
}

/// Where a text lies.
#[derive(Clone, Copy)]
struct Span {
    chunk: u32,
    start: u32,
    len: u32,
}

impl Texts {
    /// The text of a symbol that the `Strings` of these texts gave before they were shared.
    pub fn get(&self, symbol: Symbol) -> &str {
        let span = self.span(symbol);
        let start = span.start as usize;
        &self.chunks[span.chunk as usize][start..start + span.len as usize]
    }

    fn span(&self, symbol: Symbol) -> Span {
        self.spans[symbol.0 as usize / SEGMENT][symbol.0 as usize % SEGMENT]
    }
}

impl Strings {
    /// Keeps `text`, unless it is kept already, and gives its symbol.
    pub fn intern(&mut self, text: &str) -> Symbol {
        let hash = self.hasher.hash_one(text);
        if let Some(symbol) = self.table.find(hash, |&symbol| self.get(symbol) == text) {
            return *symbol;
        }
        let span = self.store(text);
        let symbol = self.push(span);
        let (texts, hasher) = (&self.texts, &self.hasher);
        self.table.insert_unique(hash, symbol, |&symbol| hasher.hash_one(texts.get(symbol)));
        symbol
    }

    /// Another symbol for the same text, equal to no other: for two things of one name.
    pub fn alias(&mut self, symbol: Symbol) -> Symbol {
        let span = self.texts.span(symbol);
        self.push(span)
    }

    /// The symbol of `text`, if it is kept.
    pub fn find(&self, text: &str) -> Option<Symbol> {
        self.table.find(self.hasher.hash_one(text), |&symbol| self.get(symbol) == text).copied()
    }

    /// The text of a symbol that this `Strings` gave.
    pub fn get(&self, symbol: Symbol) -> &str {
        self.texts.get(symbol)
    }

    /// All texts so far, shared.
    pub fn texts(&self) -> &Texts {
        &self.texts
    }

    /// Bytes of all texts together.
    pub fn byte_len(&self) -> usize {
        self.bytes
    }

    fn push(&mut self, span: Span) -> Symbol {
        // Four billion distinct texts take far more memory than a process can have.
        let symbol = Symbol(u32::try_from(self.count).unwrap_or(u32::MAX));
        self.count += 1;
        match self.texts.spans.last_mut() {
            Some(segment) if segment.len() < SEGMENT => own(segment, |shared| {
                let mut copy = Vec::with_capacity(SEGMENT);
                copy.extend_from_slice(shared);
                copy
            })
            .push(span),
            _ => {
                // The first segment grows as it needs to: completion and small clusters have few texts.
                let mut segment = Vec::with_capacity(if self.texts.spans.is_empty() { 0 } else { SEGMENT });
                segment.push(span);
                self.texts.spans.push(Arc::new(segment));
            }
        }
        symbol
    }

    fn store(&mut self, text: &str) -> Span {
        self.bytes += text.len();
        let fits = self.texts.chunks.last().is_some_and(|chunk| chunk.capacity() - chunk.len() >= text.len());
        if !fits {
            self.texts.chunks.push(Arc::new(String::with_capacity(CHUNK.max(text.len()))));
        }
        let place = self.texts.chunks.len() - 1;
        let chunk = own(&mut self.texts.chunks[place], |shared| {
            let mut copy = String::with_capacity(shared.capacity());
            copy.push_str(shared);
            copy
        });
        let start = chunk.len();
        chunk.push_str(text);
        // A chunk is at most the size of one text of the API (1.5 MB) or CHUNK, so these never saturate.
        let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Span { chunk: clamp(place), start: clamp(start), len: clamp(text.len()) }
    }
}

impl std::fmt::Debug for Texts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Texts").field("chunks", &self.chunks.len()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Strings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Strings").field("count", &self.count).finish_non_exhaustive()
    }
}

/// The value for writing: a copy of it, with room to grow, where a snapshot holds it as well.
fn own<T: Clone>(shared: &mut Arc<T>, copy: impl FnOnce(&T) -> T) -> &mut T {
    if Arc::get_mut(shared).is_none() {
        *shared = Arc::new(copy(shared));
    }
    Arc::make_mut(shared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_share_a_symbol() {
        let mut strings = Strings::default();
        let (a, b, again) = (strings.intern("nginx:1"), strings.intern(""), strings.intern("nginx:1"));
        assert_eq!(a, again);
        assert_ne!(a, b);
        assert_eq!((strings.get(a), strings.get(b)), ("nginx:1", ""));
        assert_eq!(strings.find("nginx:1"), Some(a));
        assert_eq!(strings.find("nginx:2"), None);
    }

    #[test]
    fn texts_survive_growth_and_may_exceed_a_chunk() {
        let mut strings = Strings::default();
        let texts: Vec<String> = (0..20_000).map(|n| format!("text-{n}-{}", "x".repeat(n % 90))).collect();
        let big = "y".repeat(3 * CHUNK);
        let symbols: Vec<Symbol> = texts.iter().map(|text| strings.intern(text)).collect();
        let big_symbol = strings.intern(&big);
        for (text, symbol) in texts.iter().zip(symbols) {
            assert_eq!(strings.get(symbol), text);
            assert_eq!(strings.find(text), Some(symbol));
        }
        assert_eq!(strings.get(big_symbol), big);
    }

    #[test]
    fn what_was_shared_stays_as_it_was() {
        let mut strings = Strings::default();
        let first = strings.intern("first");
        let shared = strings.texts().clone();
        let second = strings.intern("second");
        let later = strings.texts().clone();
        let other = strings.alias(first);
        assert_eq!((shared.get(first), later.get(first), later.get(second)), ("first", "first", "second"));
        assert_eq!((strings.get(other), strings.find("first")), ("first", Some(first)));
        assert_ne!(other, first);
        assert_eq!(strings.byte_len(), "firstsecond".len());
    }
}
