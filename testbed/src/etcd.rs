//! Writes objects straight into etcd, for a real API server to serve: about six thousand pods a second, where creating
//! them through the API would take two requests each.
//!
//! It speaks etcd's JSON gateway (`POST /v3/kv/txn`) over plain HTTP. Start the API server afterwards, or wait until its
//! cache has caught up.

use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::objects::Objects;

/// Puts in one transaction; etcd allows 128.
const PUTS: usize = 100;

/// Transactions at the same time, each on its own connection.
const IN_FLIGHT: usize = 4;

/// Puts all objects, and gives back how many.
pub async fn load(endpoint: &Uri, objects: &Objects) -> anyhow::Result<usize> {
    let authority =
        endpoint.authority().context("the endpoint has no host, such as http://127.0.0.1:2379")?.to_string();
    let mut connections = Vec::new();
    for _ in 0..IN_FLIGHT {
        connections.push(Mutex::new(connect(&authority).await?));
    }
    let mut pairs = objects.etcd().peekable();
    let transactions =
        std::iter::from_fn(move || pairs.peek().is_some().then(|| pairs.by_ref().take(PUTS).collect::<Vec<_>>()));
    let puts = stream::iter(transactions.zip(connections.iter().cycle()).map(Ok)).map_ok(|(pairs, connection)| {
        let authority = &authority;
        async move {
            put(&mut *connection.lock().await, authority, &pairs).await?;
            Ok::<_, anyhow::Error>(pairs.len())
        }
    });
    puts.try_buffer_unordered(IN_FLIGHT).try_fold(0, async |sum, count| Ok(sum + count)).await
}

async fn connect(authority: &str) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream =
        TcpStream::connect(authority).await.with_context(|| format!("etcd at {authority} cannot be reached"))?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Its failure shows in the next request.
    tokio::spawn(connection);
    Ok(sender)
}

async fn put(
    connection: &mut SendRequest<Full<Bytes>>,
    authority: &str,
    pairs: &[(String, Vec<u8>)],
) -> anyhow::Result<()> {
    let put = |(key, value): &(String, Vec<u8>)| {
        let (key, value) = (BASE64_STANDARD.encode(key), BASE64_STANDARD.encode(value));
        serde_json::json!({"requestPut": {"key": key, "value": value}})
    };
    let body = serde_json::json!({"success": pairs.iter().map(put).collect::<Vec<_>>()}).to_string();
    let request = Request::post("/v3/kv/txn").header(HOST, authority).header(CONTENT_TYPE, "application/json");
    connection.ready().await?;
    let response = connection.send_request(request.body(Full::from(body))?).await?;
    let status = response.status();
    let answer = response.into_body().collect().await?.to_bytes();
    if !status.is_success() {
        bail!("etcd refused a transaction: {status} {}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}
