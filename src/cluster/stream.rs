//! Cuts the objects out of a protobuf list while it arrives.
//!
//! A list of 100,000 pods is half a gigabyte; here it costs one object at a time. The cutter takes chunks of any size,
//! gives the list's metadata and each object as soon as its last byte is there, and knows a complete list from one that
//! was cut off: a short answer never passes as a small cluster. It refuses objects above [`MAX_ITEM`] and anything that
//! is not the envelope of the Kubernetes API (`k8s\0`, then `runtime.Unknown` around a list).

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

use super::wire::{ListMeta, MAGIC, TypeMeta};

/// Largest object in bytes. The API's own bound is 1.5 MB, so this only stops a broken or hostile server.
const MAX_ITEM: u64 = 16 * 1024 * 1024;

/// Tags of `runtime.Unknown` and of every `…List`.
const UNKNOWN_TYPE: u64 = 1;
const UNKNOWN_RAW: u64 = 2;
const LIST_METADATA: u64 = 1;
const LIST_ITEMS: u64 = 2;

/// Wire types of the protobuf encoding.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LENGTH_DELIMITED: u8 = 2;
const FIXED32: u8 = 5;

/// What a list is made of.
#[derive(Debug, PartialEq)]
pub(crate) enum Part {
    /// The list's metadata; servers send it before the objects, which nothing relies on.
    Metadata(ListMeta),
    /// One encoded object.
    Item(Bytes),
}

/// A body that is not a list of the Kubernetes API, or not all of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CutError {
    /// The bytes are not what they should be.
    #[error("the answer is not a Kubernetes list: {0}")]
    Malformed(&'static str),
    /// The body ended inside the list.
    #[error("the answer was cut off inside the list")]
    CutOff,
}

/// Cuts one list.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    /// Bytes of an element whose rest has not arrived.
    head: BytesMut,
    /// What is left of the latest chunk.
    chunk: Bytes,
    varint: PartialVarint,
    state: State,
    /// Bytes of the list's message that have not been consumed; `None` outside of it.
    list_left: Option<u64>,
    list_seen: bool,
}

/// What the next bytes are.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum State {
    #[default]
    Magic,
    Tag,
    Varint,
    Length {
        field: u64,
    },
    Payload {
        wanted: Wanted,
        length: u64,
    },
    Skip {
        left: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Wanted {
    Type,
    Metadata,
    Item,
}

impl Wanted {
    fn part(self, bytes: Bytes) -> Result<Option<Part>, CutError> {
        match self {
            Self::Item => Ok(Some(Part::Item(bytes))),
            Self::Metadata => ListMeta::decode(bytes)
                .map(|metadata| Some(Part::Metadata(metadata)))
                .map_err(|_| CutError::Malformed("its metadata does not decode")),
            Self::Type => match TypeMeta::decode(bytes) {
                Ok(stated) if stated.kind.is_empty() || stated.kind.ends_with(b"List") => Ok(None),
                // Where a list has its objects, another kind may have nothing: it must not pass as an empty list.
                _ => Err(CutError::Malformed("it is of another kind")),
            },
        }
    }
}

#[derive(Debug, Default)]
struct PartialVarint {
    value: u64,
    shift: u32,
}

impl Cutter {
    /// Takes the next chunk of the body. All parts of the former one have to be taken first.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "parts of the former chunk were not taken");
        self.chunk = chunk;
    }

    /// The next part, or `None` when it needs another chunk.
    pub(crate) fn next(&mut self) -> Result<Option<Part>, CutError> {
        loop {
            let step = match self.state {
                State::Magic => self.magic()?,
                State::Tag => self.tag()?,
                State::Varint => self.varint()?.map(|_| State::Tag),
                State::Length { field } => match self.varint()? {
                    Some(length) => Some(self.open(field, length)?),
                    None => None,
                },
                State::Payload { wanted, length } => {
                    let Some(bytes) = self.take(length) else { return Ok(None) };
                    self.state = State::Tag;
                    match wanted.part(bytes)? {
                        Some(part) => return Ok(Some(part)),
                        None => Some(State::Tag),
                    }
                }
                State::Skip { left } => self.skip(left),
            };
            match step {
                Some(state) => self.state = state,
                None => return Ok(None),
            }
        }
    }

    /// The body has ended: was that all of the list?
    pub(crate) fn finish(mut self) -> Result<(), CutError> {
        // The list's end is noticed with the byte that follows it; at the end of the body there is none.
        self.leave_list();
        let between_fields = self.state == State::Tag && self.varint.shift == 0 && self.list_left.is_none();
        if between_fields && self.list_seen { Ok(()) } else { Err(CutError::CutOff) }
    }

    fn magic(&mut self) -> Result<Option<State>, CutError> {
        match self.take(MAGIC.len() as u64) {
            Some(bytes) if bytes == MAGIC => Ok(Some(State::Tag)),
            Some(_) => Err(CutError::Malformed("it does not start with the four bytes of a protobuf body")),
            None => Ok(None),
        }
    }

    fn tag(&mut self) -> Result<Option<State>, CutError> {
        self.leave_list();
        let Some(tag) = self.varint()? else { return Ok(None) };
        let field = tag >> 3;
        // The lowest three bits always fit.
        match (tag & 7) as u8 {
            VARINT => Ok(Some(State::Varint)),
            FIXED64 => self.skip_within_list(8).map(Some),
            FIXED32 => self.skip_within_list(4).map(Some),
            LENGTH_DELIMITED => Ok(Some(State::Length { field })),
            _ => Err(CutError::Malformed("it has a field of an unknown kind")),
        }
    }

    /// Enters a length-delimited field.
    fn open(&mut self, field: u64, length: u64) -> Result<State, CutError> {
        match self.list_left {
            None if field == UNKNOWN_RAW && self.list_seen => Err(CutError::Malformed("it holds two lists")),
            None if field == UNKNOWN_RAW => {
                self.list_left = Some(length);
                self.list_seen = true;
                Ok(State::Tag)
            }
            None if field == UNKNOWN_TYPE => Ok(State::Payload { wanted: Wanted::Type, length: within_bound(length)? }),
            Some(left) if length > left => Err(CutError::Malformed("an object is longer than its list")),
            Some(_) if field == LIST_METADATA || field == LIST_ITEMS => {
                let wanted = if field == LIST_ITEMS { Wanted::Item } else { Wanted::Metadata };
                Ok(State::Payload { wanted, length: within_bound(length)? })
            }
            _ => Ok(State::Skip { left: length }),
        }
    }

    fn leave_list(&mut self) {
        if self.list_left == Some(0) && self.varint.shift == 0 {
            self.list_left = None;
        }
    }

    fn skip_within_list(&self, length: u64) -> Result<State, CutError> {
        if self.list_left.is_some_and(|left| length > left) {
            return Err(CutError::Malformed("a field is longer than its list"));
        }
        Ok(State::Skip { left: length })
    }

    fn skip(&mut self, left: u64) -> Option<State> {
        let here = left.min(self.chunk.len() as u64);
        self.advance(here);
        if here == left {
            return Some(State::Tag);
        }
        self.state = State::Skip { left: left - here };
        None
    }

    /// The next `length` bytes once all have arrived: shared with the chunk where they lie within one.
    fn take(&mut self, length: u64) -> Option<Bytes> {
        // Callers bound `length` by MAX_ITEM, far below usize::MAX.
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if self.head.is_empty() && self.chunk.len() >= length {
            self.count(length as u64);
            return Some(self.chunk.split_to(length));
        }
        let here = self.chunk.len().min(length - self.head.len());
        self.head.extend_from_slice(&self.chunk[..here]);
        self.advance(here as u64);
        (self.head.len() == length).then(|| self.head.split().freeze())
    }

    fn varint(&mut self) -> Result<Option<u64>, CutError> {
        while self.chunk.has_remaining() {
            if self.list_left == Some(0) {
                return Err(CutError::Malformed("a field is longer than its list"));
            }
            let byte = self.chunk[0];
            self.advance(1);
            if self.varint.shift > 63 {
                return Err(CutError::Malformed("it has a number of more than 64 bits"));
            }
            self.varint.value |= u64::from(byte & 0x7f) << self.varint.shift;
            self.varint.shift += 7;
            if byte & 0x80 == 0 {
                return Ok(Some(std::mem::take(&mut self.varint).value));
            }
        }
        Ok(None)
    }

    fn advance(&mut self, length: u64) {
        // At most the chunk's own length.
        self.chunk.advance(usize::try_from(length).unwrap_or(usize::MAX));
        self.count(length);
    }

    fn count(&mut self, length: u64) {
        if let Some(left) = &mut self.list_left {
            *left = left.saturating_sub(length);
        }
    }
}

fn within_bound(length: u64) -> Result<u64, CutError> {
    if length > MAX_ITEM { Err(CutError::Malformed("an object is longer than 16 MiB")) } else { Ok(length) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::wire::Unknown;

    /// A body as a server writes it: metadata, items, and the envelope's trailing empty fields.
    fn body(items: &[&[u8]]) -> Vec<u8> {
        let mut list = Vec::new();
        let metadata = ListMeta { resource_version: "7".into(), continue_token: "more".into() };
        prost::encoding::message::encode(1, &metadata, &mut list);
        for item in items {
            prost::encoding::bytes::encode(2, &item.to_vec(), &mut list);
        }
        let mut body = MAGIC.to_vec();
        prost::encoding::message::encode(1, &TypeMeta { kind: "PodList".into() }, &mut body);
        body.extend(Unknown { raw: list.into() }.encode_to_vec());
        body.extend([0x1a, 0, 0x22, 0]);
        body
    }

    fn cut(body: &[u8], chunk: usize) -> Result<Vec<Part>, CutError> {
        let mut cutter = Cutter::default();
        let mut parts = Vec::new();
        for chunk in body.chunks(chunk.max(1)) {
            cutter.push(Bytes::copy_from_slice(chunk));
            while let Some(part) = cutter.next()? {
                parts.push(part);
            }
        }
        cutter.finish()?;
        Ok(parts)
    }

    fn items(parts: Vec<Part>) -> Vec<Bytes> {
        parts.into_iter().filter_map(|part| if let Part::Item(item) = part { Some(item) } else { None }).collect()
    }

    #[test]
    fn a_list_gives_its_metadata_and_its_objects() {
        let parts = cut(&body(&[b"first", b"", b"third"]), 1 << 20).expect("complete");
        let metadata = ListMeta { resource_version: "7".into(), continue_token: "more".into() };
        let item = |bytes: &'static [u8]| Part::Item(Bytes::from_static(bytes));
        assert_eq!(parts, [Part::Metadata(metadata), item(b"first"), item(b""), item(b"third")]);
    }

    #[test]
    fn a_list_cut_off_anywhere_is_never_complete() {
        let body = body(&[b"first", b"second"]);
        // Only the envelope's trailing empty fields may be missing: all of the list is there without them.
        for end in (0..=body.len() - 5).chain([body.len() - 3, body.len() - 1]) {
            assert_eq!(cut(&body[..end], 3), Err(CutError::CutOff), "cut at {end} of {}", body.len());
        }
    }

    #[test]
    fn what_is_not_a_list_is_refused() {
        for wrong in [&b"<html>"[..], b"k8s\0\x07", b"k8s\0\x12\x02\x12\x7f"] {
            assert!(matches!(cut(wrong, 64), Err(CutError::Malformed(_))), "{wrong:?}");
        }
        // A `Status` that says nothing where a list has its objects.
        let mut status = MAGIC.to_vec();
        prost::encoding::message::encode(1, &TypeMeta { kind: "Status".into() }, &mut status);
        status.extend(Unknown { raw: Bytes::from_static(b"\x0a\x00\x1a\x02no") }.encode_to_vec());
        assert_eq!(cut(&status, 64), Err(CutError::Malformed("it is of another kind")));
        let mut huge = b"k8s\0\x12".to_vec();
        prost::encoding::encode_varint(1 << 40, &mut huge);
        huge.push(0x12);
        prost::encoding::encode_varint(1 << 39, &mut huge);
        assert_eq!(cut(&huge, 64), Err(CutError::Malformed("an object is longer than 16 MiB")));
    }

    proptest! {
        #[test]
        fn chunks_of_any_size_give_the_same_objects(
            objects in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
            chunk in 1..700usize,
        ) {
            let slices: Vec<&[u8]> = objects.iter().map(Vec::as_slice).collect();
            let parts = cut(&body(&slices), chunk);
            prop_assert!(parts.is_ok());
            prop_assert_eq!(items(parts.unwrap()), objects);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), chunk in 1..50usize) {
            let _ = cut(&bytes, chunk);
            let _ = cut(&[MAGIC, &[0x12, 0x64], &bytes].concat(), chunk);
        }
    }
}
