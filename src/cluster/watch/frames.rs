//! Cuts the events out of a watch's stream.
//!
//! In protobuf an event is a frame: its length in four bytes, most significant first, and a `meta/v1.WatchEvent` whose
//! object is a body of its own. In JSON it is a line. A stream may end between two events, anywhere else it was cut off.

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cluster::wire::{self, Encoding, MAGIC, Unknown};

/// Longest event: more than the largest object that the API takes, eight times over.
const MAX_EVENT: usize = 16 * 1024 * 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: EventKind,
    /// The object, as [`wire::decode_item`] takes it.
    pub(crate) object: Bytes,
}

/// What an event says of its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// It is there, new or changed.
    Is,
    /// It was deleted, and was like this.
    Was,
    /// Nothing, but that the watch has come as far as the object's version.
    Bookmark,
    /// The object is a `Status`: the watch has failed.
    Error,
    /// Nothing that is known here.
    Unknown,
}

/// What arrived cannot be a stream of events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is not a stream of watch events: {0}")]
pub(crate) struct FrameError(String);

/// Cuts events out of chunks of any size.
#[derive(Debug)]
pub(crate) struct Frames {
    encoding: Encoding,
    buffer: BytesMut,
    /// How much of the buffer holds no end of line.
    scanned: usize,
}

impl Frames {
    pub(crate) fn new(encoding: Encoding) -> Self {
        Self { encoding, buffer: BytesMut::new(), scanned: 0 }
    }

    pub(crate) fn push(&mut self, chunk: &Bytes) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next event, if all of it has arrived.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, FrameError> {
        let event = match self.encoding {
            Encoding::Protobuf => self.next_frame()?.map(protobuf_event),
            Encoding::Json => self.next_line()?.map(json_event),
        };
        event.transpose().map_err(FrameError)
    }

    /// Whether the stream may end here.
    pub(crate) fn is_between_events(&self) -> bool {
        match self.encoding {
            Encoding::Protobuf => self.buffer.is_empty(),
            Encoding::Json => self.buffer.iter().all(u8::is_ascii_whitespace),
        }
    }

    fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(length) = self.buffer.first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_EVENT {
            return Err(too_long());
        }
        if self.buffer.len() < length + 4 {
            self.buffer.reserve(length + 4 - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    fn next_line(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            let Some(end) = self.buffer[self.scanned..].iter().position(|byte| *byte == b'\n') else {
                self.scanned = self.buffer.len();
                return if self.scanned > MAX_EVENT { Err(too_long()) } else { Ok(None) };
            };
            let line = self.buffer.split_to(self.scanned + end + 1).freeze();
            self.scanned = 0;
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    }
}

fn too_long() -> FrameError {
    FrameError("an event is longer than 16 MiB".to_owned())
}

fn protobuf_event(frame: Bytes) -> Result<Event, String> {
    let event = wire::WatchEvent::decode(frame).map_err(|error| error.to_string())?;
    let mut object = event.object.unwrap_or_default().raw;
    if object.starts_with(MAGIC) {
        object.advance(MAGIC.len());
        object = Unknown::decode(object).map_err(|error| error.to_string())?.raw;
    }
    Ok(Event { kind: EventKind::of(&event.kind), object })
}

fn json_event(line: Bytes) -> Result<Event, String> {
    #[derive(Deserialize)]
    struct Line<'a> {
        r#type: String,
        #[serde(borrow)]
        object: &'a RawValue,
    }
    let line = wire::valid_text(line);
    let event: Line = serde_json::from_slice(&line).map_err(|error| error.to_string())?;
    Ok(Event { kind: EventKind::of(event.r#type.as_bytes()), object: line.slice_ref(event.object.get().as_bytes()) })
}

impl EventKind {
    fn of(name: &[u8]) -> Self {
        match name {
            b"ADDED" | b"MODIFIED" => Self::Is,
            b"DELETED" => Self::Was,
            b"BOOKMARK" => Self::Bookmark,
            b"ERROR" => Self::Error,
            _ => Self::Unknown,
        }
    }
}
