//! One list of the Kubernetes API, read to its end or not at all.
//!
//! A list is read in one piece where the server can stream it, and by pages where it is old, refuses, or was cut off
//! twice. Pages are read again where they broke; a list whose continue token expired starts over. What a broken
//! attempt had given is taken back before the next one, so nothing is counted twice and nothing half-read stays.

use std::num::NonZeroU64;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use url::form_urlencoded;

use super::request::{Accept, Answer, Api, RequestError};
use super::stream::{CutError, Cutter, Part};
use super::wire::{self, Encoding, ListMeta, Wire, WireError, as_text};

/// Attempts at one request that breaks.
const ATTEMPTS: u32 = 3;

/// Attempts at one unpaged list before it is read by pages.
const WHOLE_ATTEMPTS: u32 = 2;

/// Times that one list may start over because its continue token expired.
const RESTARTS: u32 = 3;

/// Times that one request is sent again because the server is busy.
const BUSY_ATTEMPTS: u32 = 10;

/// Longest wait that a busy server is granted at once.
const MAX_WAIT: Duration = Duration::from_mins(1);

/// Most that is added to the wait that a busy server asks for.
const MAX_ADDED_WAIT: Duration = Duration::from_secs(1);

/// Most pages of one list: 50 million objects at the default page size, against a server that never ends.
const MAX_PAGES: u32 = 100_000;

/// Takes the objects of one list.
pub(crate) trait Intake {
    /// What the list is made of.
    type Object: Wire;

    /// A list, or a page of one, begins and says this of itself.
    ///
    /// # Errors
    /// The list does not count.
    fn starts(&mut self, _metadata: &ListMeta) -> Result<(), RequestError> {
        Ok(())
    }

    /// Keeps what is needed of one object.
    fn take(&mut self, object: Self::Object);

    /// One object did not decode; `namespace` is empty where that is unknown too.
    fn undecodable(&mut self, namespace: &str, name: &str, reason: String) -> Result<(), RequestError>;

    /// How much has been taken.
    fn mark(&self) -> Mark;

    /// Takes back all since `mark`.
    fn take_back(&mut self, mark: Mark);
}

/// How much an [`Intake`] has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) objects: usize,
    pub(crate) undecodable: usize,
}

/// How a list is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListStyle {
    /// First in one piece, if so.
    pub(crate) whole: bool,
    /// Objects per page.
    pub(crate) page_size: u32,
}

/// Which version of objects a text names; none for what is not a number, which says nothing of before and after
/// (KEP-5504: comparable since Kubernetes 1.35, and in fact since ever with etcd).
pub(crate) fn version(text: &[u8]) -> Option<NonZeroU64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Reads the list at `path` into `intake`, and gives its resource version as the server wrote it.
pub(crate) async fn list<I: Intake>(
    api: &Api<'_>,
    path: &str,
    style: ListStyle,
    intake: &mut I,
) -> Result<Bytes, RequestError> {
    if style.whole {
        match whole(api, path, intake).await {
            Err(error) if is_better_paged(&error) => {
                tracing::debug!(path, %error, "reading the list by pages instead");
            }
            done => return done,
        }
    }
    pages(api, path, style.page_size, intake).await
}

/// The unpaged list. JSON is not read as a stream, so a JSON answer is given up for pages before it is read.
async fn whole<I: Intake>(api: &Api<'_>, path: &str, intake: &mut I) -> Result<Bytes, RequestError> {
    let mut patience = Patience::new(ATTEMPTS);
    let mut broken = 0;
    let mark = intake.mark();
    loop {
        let read = async {
            let answer = api.get(path, Accept::Protobuf).await?;
            match answer.encoding {
                Encoding::Protobuf => match stream(answer, intake).await? {
                    ListMeta { continue_token, .. } if !continue_token.is_empty() => Err(not_whole("it is one page")),
                    ListMeta { resource_version, .. } => Ok(resource_version),
                },
                Encoding::Json => Err(not_whole("it is JSON")),
            }
        };
        match read.await {
            Ok(version) => {
                api.progress.page();
                return Ok(version);
            }
            Err(error) => {
                intake.take_back(mark);
                broken += u32::from(is_better_paged(&error));
                if broken == WHOLE_ATTEMPTS {
                    return Err(error);
                }
                patience.wait_after(error, path).await?;
            }
        }
    }
}

/// The answer is no list in one piece that can be read as a stream, which pages can be.
fn not_whole(reason: &str) -> RequestError {
    RequestError::Refused { status: 200, message: reason.to_owned() }
}

async fn pages<I: Intake>(api: &Api<'_>, path: &str, page_size: u32, intake: &mut I) -> Result<Bytes, RequestError> {
    let start = intake.mark();
    let mut restarts = 0;
    let mut token = String::new();
    // All pages are of the version of the first one.
    let mut version = Bytes::new();
    for _ in 0..MAX_PAGES {
        let page = page(api, path, page_size, &token, intake).await;
        if let (Ok(page), true) = (&page, token.is_empty()) {
            version.clone_from(&page.resource_version);
        }
        match page.map(|page| as_text(&page.continue_token).into_owned()) {
            Ok(next) if next.is_empty() => return Ok(version),
            Ok(next) if next == token => {
                return Err(RequestError::Malformed("its continue token leads to itself".to_owned()));
            }
            Ok(next) => token = next,
            Err(RequestError::Expired(message)) if !token.is_empty() && restarts < RESTARTS => {
                restarts += 1;
                tracing::debug!(path, restarts, message, "the list expired while it was read, starting over");
                intake.take_back(start);
                token.clear();
            }
            Err(error) => return Err(error),
        }
    }
    Err(RequestError::Malformed(format!("it has more than {MAX_PAGES} pages")))
}

/// One page, and what it says of itself: the token of the next one is empty after the last.
async fn page<I: Intake>(
    api: &Api<'_>,
    path: &str,
    page_size: u32,
    token: &str,
    intake: &mut I,
) -> Result<ListMeta, RequestError> {
    let path = page_path(path, page_size, token);
    let mut patience = Patience::new(ATTEMPTS);
    let mark = intake.mark();
    loop {
        let read = async {
            let answer = api.get(&path, Accept::Protobuf).await?;
            match answer.encoding {
                Encoding::Protobuf => stream(answer, intake).await,
                Encoding::Json => json(answer, intake).await,
            }
        };
        match read.await {
            Ok(metadata) => {
                api.progress.page();
                return Ok(metadata);
            }
            Err(error) => {
                intake.take_back(mark);
                patience.wait_after(error, &path).await?;
            }
        }
    }
}

fn page_path(path: &str, page_size: u32, token: &str) -> String {
    let mut query = form_urlencoded::Serializer::for_suffix(format!("{path}?"), path.len() + 1);
    query.append_pair("limit", &page_size.to_string());
    if !token.is_empty() {
        query.append_pair("continue", token);
    }
    query.finish()
}

/// Reads a protobuf list object by object.
async fn stream<I: Intake>(mut answer: Answer<'_>, intake: &mut I) -> Result<ListMeta, RequestError> {
    let mut cutter = Cutter::default();
    let mut metadata = ListMeta::default();
    while let Some(chunk) = answer.chunk().await? {
        cutter.push(chunk);
        while let Some(part) = cutter.next()? {
            match part {
                Part::Metadata(part) => {
                    intake.starts(&part)?;
                    metadata = part;
                }
                Part::Item(item) => take(item, Encoding::Protobuf, intake)?,
            }
        }
    }
    cutter.finish()?;
    Ok(metadata)
}

/// Reads a JSON list, a page at a time.
async fn json<I: Intake>(answer: Answer<'_>, intake: &mut I) -> Result<ListMeta, RequestError> {
    #[derive(Deserialize)]
    struct Page<'a> {
        kind: Option<String>,
        #[serde(default)]
        metadata: ListMeta,
        #[serde(borrow)]
        items: Option<Vec<&'a RawValue>>,
    }
    let body = wire::valid_text(answer.whole().await?);
    let page: Page = serde_json::from_slice(&body).map_err(|error| {
        let reason = RequestError::from(WireError::from(error));
        if body.ends_with(b"}") || body.ends_with(b"}\n") { reason } else { RequestError::CutOff(reason.to_string()) }
    })?;
    if !page.kind.as_deref().unwrap_or_default().ends_with("List") {
        return Err(RequestError::Malformed("it is JSON, but not a list of the Kubernetes API".to_owned()));
    }
    intake.starts(&page.metadata)?;
    for item in page.items.unwrap_or_default() {
        take(body.slice_ref(item.get().as_bytes()), Encoding::Json, intake)?;
    }
    Ok(page.metadata)
}

fn take<I: Intake>(item: Bytes, encoding: Encoding, intake: &mut I) -> Result<(), RequestError> {
    match wire::decode_item::<I::Object>(item.clone(), encoding) {
        Ok(object) => {
            intake.take(object);
            Ok(())
        }
        Err(error) => {
            let place = wire::decode_item::<wire::PartialObject>(item, encoding).ok();
            let place = place.and_then(|object| object.metadata).unwrap_or_default();
            let name = as_text(&place.name);
            let reason = format!("the object {name:?} in it does not decode: {error}");
            intake.undecodable(&as_text(&place.namespace), &name, reason)
        }
    }
}

/// Whether pages may succeed where the unpaged list did not.
fn is_better_paged(error: &RequestError) -> bool {
    match error {
        RequestError::CutOff(_)
        | RequestError::Malformed(_)
        | RequestError::TimedOut(_)
        | RequestError::Server { .. }
        | RequestError::Refused { .. }
        | RequestError::Expired(_) => true,
        RequestError::Unreachable { .. }
        | RequestError::NotTried
        | RequestError::Outdated
        | RequestError::Unauthorized(_)
        | RequestError::Forbidden(_)
        | RequestError::NotFound(_)
        | RequestError::Busy { .. }
        | RequestError::NotKubernetes { .. } => false,
    }
}

/// How often a request may still be sent again, and after which wait.
pub(crate) struct Patience {
    attempts_left: u32,
    busy_left: u32,
    backoff: ExponentialBackoff,
}

impl Patience {
    /// For a request that is sent `attempts` times at most, not counting those that a busy server put off.
    pub(crate) fn new(attempts: u32) -> Self {
        let backoff = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(500))
            .with_max_delay(Duration::from_secs(30))
            .without_max_times()
            .with_jitter()
            .build();
        Self { attempts_left: attempts.saturating_sub(1), busy_left: BUSY_ATTEMPTS, backoff }
    }

    /// Waits before the next attempt, or gives the error back when there is none.
    pub(crate) async fn wait_after(&mut self, error: RequestError, path: &str) -> Result<(), RequestError> {
        let jittered = self.backoff.next().unwrap_or(MAX_WAIT);
        let wait = match &error {
            RequestError::Busy { retry_after, .. } if self.busy_left > 0 => {
                self.busy_left -= 1;
                // As long as told, and a little more so that many clients do not come back together.
                retry_after.map_or(jittered, |told| told.min(MAX_WAIT) + (jittered / 4).min(MAX_ADDED_WAIT))
            }
            RequestError::Unreachable { .. }
            | RequestError::TimedOut(_)
            | RequestError::CutOff(_)
            | RequestError::Malformed(_)
            | RequestError::Server { .. }
                if self.attempts_left > 0 =>
            {
                self.attempts_left -= 1;
                jittered
            }
            _ => return Err(error),
        };
        tracing::debug!(path, %error, wait_ms = wait.as_millis(), "trying again");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

impl From<CutError> for RequestError {
    fn from(error: CutError) -> Self {
        match error {
            CutError::CutOff => Self::CutOff(error.to_string()),
            CutError::Malformed(_) => Self::Malformed(error.to_string()),
        }
    }
}
