//! One request and its answer, every wait bounded.
//!
//! Connecting, each stretch of an upload without progress, and the wait for the answer have their own bound, so a report
//! of any size gets the time it needs and a server that has stopped never holds the agent. Answers are read up to a
//! limit. An answer that comes while the body is still being sent counts, and ends the upload.

use std::future;
use std::pin::pin;
use std::time::Duration;

use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::answer::{AnswerBody, BODY_LIMIT, BodyEnd, SUCCESS_LIMIT};
use super::connect::Connector;
use super::error::{self, SendError, Stage, TransportError};
use super::payload::{PayloadBody, Progress};

/// The pool of connections.
pub(super) type HttpClient = legacy::Client<Connector, PayloadBody>;

/// An answer, its body as far as it was read.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: AnswerBody,
}

/// How long is waited for the other end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For a connection, and for each further piece of the body to be taken.
    pub(super) step: Option<Duration>,
    /// For the answer, once the body is sent; then for the answer's body.
    pub(super) answer: Option<Duration>,
}

impl Patience {
    /// For a body of this size: a server takes in a report before it answers, so each whole MiB adds a second.
    pub(super) fn for_body(step: Option<Duration>, byte_len: u64) -> Self {
        let ingestion = Duration::from_secs(byte_len >> 20);
        Self { step, answer: step.map(|step| step.saturating_add(ingestion)) }
    }
}

/// Sends `request`, whose body reports its `progress`, and reads the answer. `peer` names the other end in errors.
pub(super) async fn exchange(
    http: &HttpClient,
    request: Request<PayloadBody>,
    mut progress: watch::Receiver<Progress>,
    patience: Patience,
    peer: &str,
) -> Result<Answer, SendError> {
    let response = wait_for_head(http.request(request), &mut progress, patience, peer).await?;
    let (head, body) = response.into_parts();
    let most = if head.status.is_success() { SUCCESS_LIMIT } else { BODY_LIMIT };
    let body = read_body(body, most, patience.answer).await;
    // Nobody observes the upload from here on, which ends it if it is still going on.
    drop(progress);
    Ok(Answer { status: head.status, headers: head.headers, body })
}

async fn wait_for_head(
    response: legacy::ResponseFuture,
    progress: &mut watch::Receiver<Progress>,
    patience: Patience,
    peer: &str,
) -> Result<Response<Incoming>, SendError> {
    let mut response = pin!(response);
    loop {
        let (stage, limit) = match *progress.borrow_and_update() {
            // The client itself bounds connecting, and takes from the body as soon as there is a connection.
            Progress::NotStarted => (Stage::Connect, None),
            Progress::Remaining(_) => (Stage::Upload, patience.step),
            Progress::Done => (Stage::Answer, patience.answer),
        };
        tokio::select! {
            biased;
            response = &mut response => {
                return response.map_err(|error| error::of_client(&error, peer.to_owned(), patience.step));
            }
            () = changed(progress) => {}
            limit = expiry(limit) => {
                return Err(TransportError::Timeout { peer: peer.to_owned(), stage, limit }.into());
            }
        }
    }
}

/// Reads what there is. A body that breaks off is no error here: the status was said already.
async fn read_body(mut body: Incoming, most_bytes: usize, limit: Option<Duration>) -> AnswerBody {
    let mut bytes = Vec::new();
    let reading = async {
        while let Some(frame) = body.frame().await {
            let Ok(chunk) = frame?.into_data() else { continue };
            let room = most_bytes.saturating_sub(bytes.len());
            bytes.extend(chunk.iter().take(room));
            if chunk.len() > room {
                return Ok(BodyEnd::Cut);
            }
        }
        Ok(BodyEnd::Complete)
    };
    let end = match limit {
        Some(limit) => timeout(limit, reading).await,
        None => Ok(reading.await),
    };
    let end = match end {
        Ok(read) => read.unwrap_or_else(|error: hyper::Error| BodyEnd::Broken(error.to_string())),
        Err(_) => BodyEnd::Broken("the answer did not end in time".to_owned()),
    };
    AnswerBody { bytes, end }
}

/// Ends at the next change; never when there will be none.
async fn changed(progress: &mut watch::Receiver<Progress>) {
    if progress.changed().await.is_err() {
        future::pending::<()>().await;
    }
}

/// Ends after `limit` and gives it; never when there is none.
async fn expiry(limit: Option<Duration>) -> Duration {
    match limit {
        Some(limit) => {
            sleep(limit).await;
            limit
        }
        None => future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn each_whole_mebibyte_adds_a_second_to_the_wait_for_the_answer() {
        let seconds = |byte_len| Patience::for_body(Some(Duration::from_secs(10)), byte_len).answer;

        assert_eq!(seconds(0), Some(Duration::from_secs(10)));
        assert_eq!(seconds((1 << 20) - 1), Some(Duration::from_secs(10)));
        assert_eq!(seconds(110 << 20), Some(Duration::from_mins(2)));
        assert_eq!(Patience::for_body(None, 110 << 20).answer, None);
    }
}
