//! Streams of events, cut anywhere.

use bytes::Bytes;
use k8s_pb::api::core::v1 as full;
use k8s_pb::apimachinery::pkg::apis::meta::v1 as full_meta;
use k8s_pb::apimachinery::pkg::runtime as full_runtime;
use pretty_assertions::assert_eq;
use proptest::prelude::*;
use prost::Message;
use serde_json::json;

use crate::cluster::watch::frames::{EventKind, FrameError, Frames};
use crate::cluster::wire::{self, Encoding, MAGIC, as_text};

/// The types of some events, with the names of their pods.
type Told = Vec<(&'static str, String)>;

fn protobuf(told: &Told) -> Vec<u8> {
    told.iter().flat_map(|(kind, name)| framed(&protobuf_event(kind, name))).collect()
}

fn protobuf_event(kind: &str, name: &str) -> Vec<u8> {
    let meta = full_meta::ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("shop".to_owned()),
        resource_version: Some("7".to_owned()),
        managed_fields: vec![full_meta::ManagedFieldsEntry { manager: Some("k".to_owned()), ..Default::default() }],
        ..Default::default()
    };
    let pod = full::Pod { metadata: Some(meta), ..Default::default() };
    let unknown = full_runtime::Unknown {
        type_meta: Some(full_runtime::TypeMeta { api_version: Some("v1".to_owned()), kind: Some("Pod".to_owned()) }),
        raw: Some(pod.encode_to_vec()),
        content_encoding: Some(String::new()),
        content_type: Some(String::new()),
    };
    let raw = [MAGIC, &unknown.encode_to_vec()].concat();
    let event = full_meta::WatchEvent {
        r#type: Some(kind.to_owned()),
        object: Some(full_runtime::RawExtension { raw: Some(raw) }),
    };
    event.encode_to_vec()
}

fn framed(event: &[u8]) -> Vec<u8> {
    let length = u32::try_from(event.len()).expect("short").to_be_bytes();
    [&length, event].concat()
}

fn json(told: &Told) -> Vec<u8> {
    let line = |(kind, name): &(&str, String)| {
        let metadata = json!({"name": name, "namespace": "shop", "resourceVersion": "7"});
        format!("{}\n", json!({"type": kind, "object": {"kind": "Pod", "metadata": metadata}}))
    };
    told.iter().map(line).collect::<String>().into_bytes()
}

/// What is read from these chunks, and whether the stream may end there.
fn read(encoding: Encoding, chunks: &[&[u8]]) -> Result<(Vec<(EventKind, String)>, bool), FrameError> {
    let mut frames = Frames::new(encoding);
    let mut events = Vec::new();
    for chunk in chunks {
        frames.push(&Bytes::copy_from_slice(chunk));
        while let Some(event) = frames.next()? {
            let object = wire::decode_item::<wire::PartialObject>(event.object, encoding).expect("decodes");
            events.push((event.kind, as_text(&object.metadata.expect("metadata").name).into_owned()));
        }
    }
    Ok((events, frames.is_between_events()))
}

fn kind(name: &str) -> EventKind {
    match name {
        "ADDED" | "MODIFIED" => EventKind::Is,
        "DELETED" => EventKind::Was,
        "BOOKMARK" => EventKind::Bookmark,
        "ERROR" => EventKind::Error,
        _ => EventKind::Unknown,
    }
}

fn told() -> impl Strategy<Value = Told> {
    let kinds = prop::sample::select(vec!["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR", "LATER"]);
    prop::collection::vec((kinds, "[a-z\"\\\\ü\u{2028}]{0,12}"), 0..6)
}

proptest! {
    #[test]
    fn events_are_the_same_however_they_are_cut(
        told in told(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        for (encoding, stream) in [(Encoding::Protobuf, protobuf(&told)), (Encoding::Json, json(&told))] {
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            places.extend([0, stream.len()]);
            places.sort_unstable();
            let chunks: Vec<&[u8]> = places.windows(2).map(|ends| &stream[ends[0]..ends[1]]).collect();
            let (events, may_end) = read(encoding, &chunks).expect("events");
            let expected: Vec<_> = told.iter().map(|(name, pod)| (kind(name), pod.clone())).collect();
            prop_assert_eq!(events, expected);
            prop_assert!(may_end);
        }
    }

    #[test]
    fn a_stream_that_was_cut_off_never_seems_complete(pod in "[a-z]{1,9}", cut in any::<prop::sample::Index>()) {
        let told = vec![("ADDED", pod)];
        for (encoding, stream) in [(Encoding::Protobuf, protobuf(&told)), (Encoding::Json, json(&told))] {
            let cut = 1 + cut.index(stream.len() - 1);
            let (events, may_end) = read(encoding, &[&stream[..cut]]).expect("no error yet");
            prop_assert!(events.is_empty());
            prop_assert!(!may_end);
        }
    }

    #[test]
    fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..300), is_framed in any::<bool>()) {
        let bytes = if is_framed { framed(&bytes) } else { bytes };
        for encoding in [Encoding::Protobuf, Encoding::Json] {
            let mut frames = Frames::new(encoding);
            frames.push(&Bytes::from(bytes.clone()));
            while let Ok(Some(_)) = frames.next() {}
            frames.is_between_events();
        }
    }
}

#[test]
fn an_event_that_is_too_long_is_refused_before_it_is_there() {
    let mut frames = Frames::new(Encoding::Protobuf);
    frames.push(&Bytes::from_static(&[0x01, 0x00, 0x00, 0x01]));
    frames.next().expect_err("longer than any object");

    let mut frames = Frames::new(Encoding::Json);
    let chunk = Bytes::from(vec![b'x'; 1024 * 1024]);
    let refused = (0..32).any(|_| {
        frames.push(&chunk);
        frames.next().is_err()
    });
    assert!(refused);
}

#[test]
fn lines_without_anything_are_no_events() {
    let told = vec![("ADDED", "web".to_owned())];
    let stream = [b"\n \r\n", json(&told).as_slice(), b"\n"].concat();
    assert_eq!(read(Encoding::Json, &[&stream]), Ok((vec![(EventKind::Is, "web".to_owned())], true)));
}

#[test]
fn bytes_that_are_no_text_cost_no_event() {
    let line = b"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"a\xffb\"}}}\n";
    assert_eq!(read(Encoding::Json, &[line]), Ok((vec![(EventKind::Is, "a\u{fffd}b".to_owned())], true)));
}
