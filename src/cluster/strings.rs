//! Interned texts: each distinct text is kept once, and everything else holds its 4-byte [`Symbol`].
//!
//! Names of images, labels and nodes repeat thousands of times in a cluster; one copy each is what keeps a snapshot
//! of 150,000 pods within its memory bound.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Bytes of one chunk of text. Texts never move once stored, so growing copies nothing.
const CHUNK: usize = 256 * 1024;

/// A text kept in a [`Strings`]. Two symbols of one `Strings` are equal exactly when their texts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Symbol(u32);

/// The texts of one snapshot, each once.
#[derive(Default)]
pub struct Strings {
    chunks: Vec<String>,
    spans: Vec<Span>,
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

impl Strings {
    /// Keeps `text`, unless it is kept already, and gives its symbol.
    pub fn intern(&mut self, text: &str) -> Symbol {
        let hash = self.hasher.hash_one(text);
        if let Some(symbol) = self.table.find(hash, |&symbol| self.get(symbol) == text) {
            return *symbol;
        }
        // Four billion distinct texts take far more memory than a process can have.
        let symbol = Symbol(u32::try_from(self.spans.len()).unwrap_or(u32::MAX));
        let span = self.store(text);
        self.spans.push(span);
        let (chunks, spans, hasher) = (&self.chunks, &self.spans, &self.hasher);
        self.table.insert_unique(hash, symbol, |&symbol| hasher.hash_one(resolve(chunks, spans[symbol.0 as usize])));
        symbol
    }

    /// The symbol of `text`, if it is kept.
    pub fn find(&self, text: &str) -> Option<Symbol> {
        self.table.find(self.hasher.hash_one(text), |&symbol| self.get(symbol) == text).copied()
    }

    /// The text of a symbol that this `Strings` gave.
    pub fn get(&self, symbol: Symbol) -> &str {
        resolve(&self.chunks, self.spans[symbol.0 as usize])
    }

    fn store(&mut self, text: &str) -> Span {
        let fits = self.chunks.last().is_some_and(|chunk| chunk.capacity() - chunk.len() >= text.len());
        if !fits {
            self.chunks.push(String::with_capacity(CHUNK.max(text.len())));
        }
        let chunk = self.chunks.len() - 1;
        let start = self.chunks[chunk].len();
        self.chunks[chunk].push_str(text);
        // A chunk is at most the size of one text of the API (1.5 MB) or CHUNK, so these never saturate.
        let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Span { chunk: clamp(chunk), start: clamp(start), len: clamp(text.len()) }
    }
}

impl std::fmt::Debug for Strings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Strings").field("count", &self.spans.len()).finish_non_exhaustive()
    }
}

fn resolve(chunks: &[String], span: Span) -> &str {
    let start = span.start as usize;
    &chunks[span.chunk as usize][start..start + span.len as usize]
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
}
