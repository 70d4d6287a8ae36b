//! Which encoding a client takes, and documents in it.

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING};

use crate::objects;

/// How documents are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Protobuf,
}

impl Encoding {
    /// What the request takes, by its weights, the first of equals; `None` when it takes neither.
    pub(crate) fn negotiate(headers: &HeaderMap) -> Option<Self> {
        Self::best(headers, false)
    }

    /// The same for a watch, of which a client may say that it is one.
    pub(crate) fn negotiate_watch(headers: &HeaderMap) -> Option<Self> {
        Self::best(headers, true)
    }

    fn best(headers: &HeaderMap, watch: bool) -> Option<Self> {
        let Some(accept) = headers.get(ACCEPT) else { return Some(Self::Json) };
        let mut best: Option<(Self, f32)> = None;
        for part in accept.to_str().ok()?.split(',') {
            let mut parameters = part.split(';').map(str::trim);
            let encoding = match parameters.next() {
                Some("application/json" | "application/*" | "*/*") => Self::Json,
                Some("application/vnd.kubernetes.protobuf") => Self::Protobuf,
                _ => continue,
            };
            // `as=Table` and `stream=watch` ask for another document than a plain one.
            let mut weight = 1.0;
            let mut plain = true;
            for parameter in parameters {
                match parameter.split_once('=') {
                    Some(("q", value)) => weight = value.parse().unwrap_or(0.0),
                    Some(("stream", "watch")) if watch => {}
                    Some(("as" | "stream", _)) => plain = false,
                    _ => {}
                }
            }
            if plain && weight > 0.0 && best.is_none_or(|(_, heaviest)| weight > heaviest) {
                best = Some((encoding, weight));
            }
        }
        best.map(|(encoding, _)| encoding)
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

/// The content type of a watch in this encoding.
pub(crate) fn watch_content_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "application/json",
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
    }
}

/// Whether the request takes gzip.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut codings = values.flat_map(|value| value.split(','));
    codings.any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next() == Some("gzip") && parts.next() != Some("q=0")
    })
}

/// A whole document in protobuf, of this API version and kind.
pub(crate) fn protobuf_document(kind: (&str, &str), message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + 64);
    objects::envelope_start(kind, message.len(), &mut out);
    out.put_slice(message);
    out.put_slice(objects::ENVELOPE_END);
    out.freeze()
}
