//! The echo pod: what it saw, as JSON; every WebSocket message comes back as it was.

use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use http::request::Parts;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior};

use super::body::{Body, respond, respond_text};
use super::frame::Opcode;
use super::handshake;
use super::query::Wishes;
use super::server::Client;
use super::socket::{Event, Socket};

/// Longer bodies are answered 413.
const MAX_BODY: u64 = 1 << 30;
/// Bodies up to this length are shown, not only counted.
const MAX_SHOWN_BODY: usize = 16 * 1024;
/// For a request's body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(120);
/// Longer messages end a WebSocket with 1009. They are streamed, so this costs no memory.
const MAX_MESSAGE: u64 = 1 << 30;
/// A client that says nothing for so long is taken for dead. Long, so that what ends an idle
/// WebSocket in a demo is the proxy's `idleTimeout`.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// What the pod saw of a request.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Seen<'a> {
    pod: &'a str,
    /// Where the pod is one of a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    address: String,
    peer: String,
    method: &'a str,
    path: &'a str,
    query: &'a str,
    http_version: String,
    /// As `name: value`, in the order of their arrival.
    headers: Vec<String>,
    body: SeenBody,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SeenBody {
    bytes: u64,
    sha256: String,
    /// Where it is short, and text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// Answers a request, or turns the connection into a WebSocket.
pub(super) async fn answer(mut request: Request<Incoming>, client: Client) -> Response<Body> {
    let wishes = match Wishes::parse(request.uri().query().unwrap_or_default()) {
        Ok(wishes) => wishes,
        Err(problem) => return respond_text(StatusCode::BAD_REQUEST, problem),
    };
    if !wishes.delay.is_zero() {
        let shutdown = &client.pod.shutdown;
        let wait = tokio::time::sleep(wishes.delay);
        if shutdown.run_until_cancelled(wait).await.is_none() {
            return respond_text(StatusCode::SERVICE_UNAVAILABLE, "the pod is going away");
        }
    }
    if handshake::is_wanted(request.headers()) {
        if let Some(status) = wishes.status {
            return respond_text(status, "refused, as the query asks");
        }
        let subprotocol = handshake::first_subprotocol(request.headers());
        return match handshake::accept(&request, subprotocol) {
            Ok(response) => {
                let upgrade = hyper::upgrade::on(&mut request);
                client.upgrade(upgrade, MAX_MESSAGE, move |socket, client| {
                    talk(socket, client, wishes)
                });
                response
            }
            Err(refusal) => refusal.respond(),
        };
    }
    let (head, body) = request.into_parts();
    let body = match tokio::time::timeout(BODY_TIMEOUT, read_body(body)).await {
        Ok(Ok(body)) => body,
        Ok(Err(status)) => return respond_text(status, "the body could not be read"),
        Err(_) => return respond_text(StatusCode::REQUEST_TIMEOUT, "the body did not arrive"),
    };
    let status = wishes.status.unwrap_or(StatusCode::OK);
    if let Some(size) = wishes.size {
        let mut response = respond(status, "application/octet-stream", Bytes::new());
        *response.body_mut() = Body::Filler(size);
        return response;
    }
    match serde_json::to_vec_pretty(&seen(&head, body, &client)) {
        Ok(mut json) => {
            json.push(b'\n');
            respond(status, "application/json", json)
        }
        Err(error) => respond_text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn seen<'a>(head: &'a Parts, body: SeenBody, client: &'a Client) -> Seen<'a> {
    Seen {
        pod: &client.pod.name,
        namespace: client.pod.namespace.as_deref(),
        address: client.pod.address.to_string(),
        peer: client.peer.to_string(),
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        http_version: format!("{:?}", head.version),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect(),
        body,
    }
}

async fn read_body(mut body: Incoming) -> Result<SeenBody, StatusCode> {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut bytes = 0;
    let mut shown = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| StatusCode::BAD_REQUEST)?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        bytes += data.len() as u64;
        if bytes > MAX_BODY {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        hash.update(&data);
        if bytes <= MAX_SHOWN_BODY as u64 {
            shown.extend_from_slice(&data);
        }
    }
    let sha256 = hash
        .finish()
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let text = (shown.len() as u64 == bytes)
        .then(|| String::from_utf8(shown).ok())
        .flatten();
    Ok(SeenBody {
        bytes,
        sha256,
        text,
    })
}

/// Sends back what arrives until either side has had enough.
async fn talk(mut socket: Socket, client: Client, wishes: Wishes) {
    let every = wishes.every.unwrap_or(IDLE_TIMEOUT);
    let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ticked = 0_u64;
    let failure = loop {
        // Data frames of another message may not go between the pieces of one.
        let may_tick = wishes.every.is_some() && socket.is_between_messages();
        let event = tokio::select! {
            () = client.pod.shutdown.cancelled() => {
                return socket.close(1001, "the pod is going away").await;
            }
            _ = ticks.tick(), if may_tick => {
                ticked += 1;
                let text = format!("tick {ticked} from {}", client.pod.name);
                match socket.send_text(&text).await {
                    Ok(()) => continue,
                    Err(failure) => break failure,
                }
            }
            event = tokio::time::timeout(IDLE_TIMEOUT, socket.read()) => event,
        };
        let sent = match event {
            Err(_) => return socket.close(1001, "idle").await,
            Ok(Err(failure)) => break failure,
            Ok(Ok(Event::Close(code))) => return socket.answer_close(code).await,
            Ok(Ok(Event::Ping(payload))) => socket.send(Opcode::Pong, true, &payload).await,
            Ok(Ok(Event::Pong)) => Ok(()),
            Ok(Ok(Event::Piece(piece))) => match wishes.close {
                Some(code) if piece.fin => return socket.close(code, "as the query asks").await,
                Some(_) => Ok(()),
                None => socket.send(piece.opcode, piece.fin, &piece.payload).await,
            },
        };
        if let Err(failure) = sent {
            break failure;
        }
    };
    socket.fail(failure).await;
}
