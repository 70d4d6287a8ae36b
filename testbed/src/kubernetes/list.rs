//! Lists: which objects, in which pages, written as a stream.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use k8s_pb::apimachinery::pkg::apis::meta::v1::ListMeta;
use prost::Message;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::encoding::Encoding;
use super::json_object;
use super::status::Failure;
use crate::objects::{self, Kind, Object, Objects};

/// What of a request's query matters to a list.
#[derive(Debug, Default)]
pub(crate) struct ListQuery {
    pub(crate) limit: Option<usize>,
    pub(crate) continuation: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) watch: bool,
    /// A watch sends what is there first, although it names a resource version.
    pub(crate) initial_events: bool,
    /// A watch wants to hear now and then how far it has come.
    pub(crate) bookmarks: bool,
    /// How long a watch lasts.
    pub(crate) timeout: Option<Duration>,
}

/// The state of the cluster that lists show.
pub(crate) struct Present<'a> {
    pub(crate) objects: &'a Arc<Objects>,
    /// The present resource version.
    pub(crate) version: u64,
    /// Tokens of states before this one have expired.
    pub(crate) oldest: u64,
}

/// A page of a list.
#[derive(Debug)]
pub(crate) struct Page {
    objects: Arc<Objects>,
    kind: Kind,
    range: Range<usize>,
    meta: ListMeta,
}

#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    /// The resource version that the list began with; -1 takes the present one.
    rv: i64,
    /// The key to go on after.
    start: String,
}

/// What gets a chunk of a streamed list.
const CHUNK: usize = 128 * 1024;

impl ListQuery {
    /// Reads a query. What would choose objects in a way that this server cannot is refused, not ignored.
    pub(crate) fn parse(query: &str) -> Result<Self, Failure> {
        let mut parsed = Self::default();
        for (name, value) in
            query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(_, value)| !value.is_empty())
        {
            match name {
                "limit" => {
                    let limit: i64 = value.parse().map_err(|_| Failure::bad_request("limit is not a number"))?;
                    parsed.limit = usize::try_from(limit).ok().filter(|limit| *limit > 0);
                }
                "continue" => parsed.continuation = Some(value.to_owned()),
                "resourceVersion" => parsed.resource_version = Some(value.to_owned()),
                "watch" => parsed.watch = flag(value),
                "sendInitialEvents" => parsed.initial_events = flag(value),
                "allowWatchBookmarks" => parsed.bookmarks = flag(value),
                "timeoutSeconds" => {
                    let seconds = value.parse().map_err(|_| Failure::bad_request("timeoutSeconds is not a number"))?;
                    // As on a real server, none at all is what 0 asks for.
                    parsed.timeout = Some(Duration::from_secs(seconds)).filter(|timeout| !timeout.is_zero());
                }
                "labelSelector" | "fieldSelector" => {
                    return Err(Failure::bad_request("the testbed does not select objects by labels or fields"));
                }
                _ => {}
            }
        }
        Ok(parsed)
    }
}

impl Page {
    /// The page that a query asks for. An empty `namespace` is all of them.
    pub(crate) fn find(present: &Present<'_>, kind: Kind, namespace: &str, query: &ListQuery) -> Result<Self, Failure> {
        let all = present.objects.of(kind);
        let Range { mut start, end } = present.objects.range(kind, namespace);
        let mut version = present.version;
        let asked = query.resource_version.as_deref().and_then(|version| version.parse().ok());
        if let Some(asked) = asked.filter(|asked| *asked > present.version) {
            return Err(Failure::too_large(asked, present.version));
        }
        if let Some(token) = &query.continuation {
            let token = Token::parse(token).ok_or_else(|| Failure::bad_request("continue key is not valid"))?;
            match u64::try_from(token.rv) {
                Ok(begun) if begun < present.oldest => {
                    return Err(Failure::expired(Token::new(-1, token.start).text()));
                }
                Ok(begun) => version = begun,
                Err(_) => {}
            }
            start = all.partition_point(|object| object.key() <= token.start).max(start);
        }
        // As on a real server, a list from any state is given whole.
        let limit = query.limit.filter(|_| query.resource_version.as_deref() != Some("0")).unwrap_or(usize::MAX);
        let last = start.saturating_add(limit).min(end);
        let next = all.get(last.saturating_sub(1)).filter(|_| last < end);
        let meta = ListMeta {
            self_link: Some(String::new()),
            resource_version: Some(version.to_string()),
            r#continue: Some(next.map(|object| Token::new(signed(version), object.key()).text()).unwrap_or_default()),
            remaining_item_count: next.map(|_| i64::try_from(end - last).unwrap_or(i64::MAX)),
        };
        Ok(Self { objects: present.objects.clone(), kind, range: start.min(end)..last.max(start.min(end)), meta })
    }

    /// The length of the document in protobuf; an estimate of it in JSON.
    pub(crate) fn len(&self) -> usize {
        let items = self.items().iter().map(|item| 1 + objects::length_of_length(item.len()) + item.len());
        let meta = self.meta.encoded_len();
        1 + objects::length_of_length(meta) + meta + items.sum::<usize>()
    }

    /// The document, in chunks.
    pub(crate) fn chunks(self, encoding: Encoding) -> Box<dyn Iterator<Item = Bytes> + Send> {
        match encoding {
            Encoding::Protobuf => {
                Box::new(self.into_chunks(Self::protobuf_start, protobuf_item, objects::ENVELOPE_END))
            }
            Encoding::Json => Box::new(self.into_chunks(Self::json_start, json_item, b"]}\n")),
        }
    }

    fn into_chunks(
        self,
        start: fn(&Self, &mut BytesMut),
        item: fn(Kind, usize, &Object, &mut BytesMut),
        end: &'static [u8],
    ) -> impl Iterator<Item = Bytes> + Send {
        let mut next = 0;
        let mut ended = false;
        let mut chunk = BytesMut::new();
        start(&self, &mut chunk);
        std::iter::from_fn(move || {
            if ended {
                return None;
            }
            chunk.reserve(CHUNK + CHUNK / 4);
            while chunk.len() < CHUNK {
                let Some(object) = self.items().get(next) else {
                    chunk.put_slice(end);
                    ended = true;
                    break;
                };
                item(self.kind, next, object, &mut chunk);
                next += 1;
            }
            Some(chunk.split().freeze())
        })
    }

    fn protobuf_start(&self, out: &mut BytesMut) {
        let kind = format!("{}List", self.kind.singular());
        objects::envelope_start((&self.kind.api_version(), &kind), self.len(), out);
        out.put_u8(0x0a);
        objects::put_length(self.meta.encoded_len(), out);
        out.put_slice(&self.meta.encode_to_vec());
    }

    fn json_start(&self, out: &mut BytesMut) {
        let mut metadata = json!({"resourceVersion": self.meta.resource_version});
        if let Some(remaining) = self.meta.remaining_item_count {
            metadata["continue"] = json!(self.meta.r#continue);
            metadata["remainingItemCount"] = remaining.into();
        }
        let (kind, version) = (self.kind.singular(), self.kind.api_version());
        out.put_slice(
            format!("{{\"kind\":\"{kind}List\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":[")
                .as_bytes(),
        );
    }

    fn items(&self) -> &[Object] {
        self.objects.of(self.kind).get(self.range.clone()).unwrap_or_default()
    }
}

fn protobuf_item(_: Kind, _: usize, object: &Object, out: &mut BytesMut) {
    out.put_u8(0x12);
    objects::put_length(object.len(), out);
    object.write(out);
}

fn json_item(kind: Kind, at: usize, object: &Object, out: &mut BytesMut) {
    if at > 0 {
        out.put_u8(b',');
    }
    // What is no message has no JSON either; the list is as damaged as the object is.
    out.put_slice(
        json_object::object(kind, &object.to_bytes()).map_or_else(String::new, |json| json.to_string()).as_bytes(),
    );
}

impl Token {
    fn new(rv: i64, start: String) -> Self {
        Self { v: "meta.k8s.io/v1".to_owned(), rv, start }
    }

    fn parse(text: &str) -> Option<Self> {
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }

    fn text(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(json!(self).to_string())
    }
}

/// A flag of a query, as Kubernetes reads it: whatever is not a no is a yes.
fn flag(value: &str) -> bool {
    !matches!(value, "false" | "0")
}

fn signed(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}
