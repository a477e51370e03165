//! The chat pod: a page, and a WebSocket that carries what people write to all of them.
//!
//! ```text
//! socket ─▶ Line ─▶ Room (last lines, broadcast) ─▶ every socket
//! ```
//!
//! The broadcast queue is bounded. A client that cannot keep up loses its WebSocket (1013), never
//! the others their messages.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior};

use super::body::{Body, respond, respond_text};
use super::frame::Opcode;
use super::handshake;
use super::server::Client;
use super::socket::{Event, Failure, Socket};

const PAGE: &str = include_str!("chat.html");
/// Nothing from elsewhere, and sockets only to where the page came from.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; \
    style-src 'unsafe-inline'; img-src data:; connect-src 'self' ws: wss:";

/// Messages that a slow client may be behind.
const QUEUE: usize = 256;
/// Lines that a newcomer is shown.
const HISTORY: usize = 50;
const MAX_MESSAGE: u64 = 4096;
const MAX_NAME: usize = 32;
/// The pod pings, as chat servers do, so that a quiet room is not an idle WebSocket.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// A client that has not even sent a Pong for so long is gone.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(70);

/// Everybody who is in, and what was said last.
pub(super) struct Room {
    lines: broadcast::Sender<Arc<str>>,
    history: Mutex<VecDeque<Arc<str>>>,
    next_id: AtomicU64,
    online: AtomicUsize,
    /// When it opened, in nanoseconds since the epoch: tells this room from one before a restart.
    born: u128,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            lines: broadcast::Sender::new(QUEUE),
            history: Mutex::default(),
            next_id: AtomicU64::new(1),
            online: AtomicUsize::new(0),
            born: since_epoch().as_nanos(),
        }
    }
}

impl Room {
    /// Gives a line to everybody and keeps it for newcomers.
    fn say(&self, from: &str, text: &str) {
        let line = ToClient::Message {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            at: since_epoch().as_secs(),
            from,
            text,
        };
        let line: Arc<str> = line.to_json().into();
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if history.len() == HISTORY {
            history.pop_front();
        }
        history.push_back(Arc::clone(&line));
        // Under the lock, so that a newcomer gets each line exactly once. An error means that
        // nobody listens.
        let _ = self.lines.send(line);
    }

    /// What was said last, and what will be.
    fn join(&self) -> (Vec<Arc<str>>, broadcast::Receiver<Arc<str>>) {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        (history.iter().cloned().collect(), self.lines.subscribe())
    }

    fn tell_presence(&self) {
        let online = self.online.load(Ordering::Relaxed);
        let _ = self
            .lines
            .send(ToClient::Presence { online }.to_json().into());
    }
}

/// Counts a client in, and out again however it leaves.
struct Presence(Arc<Room>);

impl Presence {
    fn enter(room: Arc<Room>) -> Self {
        room.online.fetch_add(1, Ordering::Relaxed);
        room.tell_presence();
        Self(room)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.online.fetch_sub(1, Ordering::Relaxed);
        self.0.tell_presence();
    }
}

/// What a client sends.
#[derive(Deserialize)]
struct FromClient {
    name: String,
    text: String,
}

/// What a client is sent.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum ToClient<'a> {
    Hello {
        pod: &'a str,
        address: String,
        /// As text, since it is too long for JavaScript's numbers.
        room: String,
    },
    Message {
        /// Grows by one in a room, so that a page which reconnects knows what it has.
        id: u64,
        /// Seconds since the epoch.
        at: u64,
        from: &'a str,
        text: &'a str,
    },
    Presence {
        online: usize,
    },
}

impl ToClient<'_> {
    fn to_json(&self) -> String {
        // Strings and numbers always have a JSON form.
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Answers with the page, or turns the connection into a WebSocket at `/ws`.
pub(super) fn answer(
    mut request: Request<Incoming>,
    client: Client,
    room: Arc<Room>,
) -> Response<Body> {
    match request.uri().path() {
        "/ws" if handshake::is_wanted(request.headers()) => {
            match handshake::accept(&request, None) {
                Ok(response) => {
                    let upgrade = hyper::upgrade::on(&mut request);
                    client.upgrade(upgrade, MAX_MESSAGE, move |socket, client| {
                        talk(socket, client, room)
                    });
                    response
                }
                Err(refusal) => refusal.respond(),
            }
        }
        "/ws" => respond_text(StatusCode::UPGRADE_REQUIRED, "/ws is a WebSocket"),
        "/" if matches!(*request.method(), Method::GET | Method::HEAD) => {
            let mut response = respond(StatusCode::OK, "text/html; charset=utf-8", PAGE);
            let headers = response.headers_mut();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            headers.insert(
                CONTENT_SECURITY_POLICY,
                HeaderValue::from_static(PAGE_POLICY),
            );
            response
        }
        "/" => {
            let mut response = respond_text(StatusCode::METHOD_NOT_ALLOWED, "GET the page");
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        _ => respond_text(
            StatusCode::NOT_FOUND,
            "the chat pod has / (the page) and /ws (its WebSocket)",
        ),
    }
}

/// Carries lines both ways until either side has had enough.
async fn talk(mut socket: Socket, client: Client, room: Arc<Room>) {
    let (history, mut lines) = room.join();
    let _presence = Presence::enter(Arc::clone(&room));
    let hello = ToClient::Hello {
        pod: &client.pod.name,
        address: client.pod.address.to_string(),
        room: room.born.to_string(),
    };
    if let Err(failure) = greet(&mut socket, &hello.to_json(), &history).await {
        return socket.fail(failure).await;
    }
    drop(history);

    let mut pings = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    let mut message = Vec::new();
    let failure = loop {
        let sent = tokio::select! {
            () = client.pod.shutdown.cancelled() => {
                return socket.close(1001, "the pod is going away").await;
            }
            _ = pings.tick() => {
                if heard.elapsed() > SILENCE_TIMEOUT {
                    return socket.close(1001, "no sign of life").await;
                }
                socket.send(Opcode::Ping, true, b"").await
            }
            line = lines.recv() => match line {
                Ok(line) => socket.send_text(&line).await,
                Err(RecvError::Lagged(missed)) => {
                    let reason = format!("too slow: {missed} messages behind");
                    return socket.close(1013, &reason).await;
                }
                Err(RecvError::Closed) => return socket.close(1001, "the room is closed").await,
            },
            event = socket.read() => {
                heard = Instant::now();
                match event {
                    Err(failure) => break failure,
                    Ok(Event::Close(code)) => return socket.answer_close(code).await,
                    Ok(Event::Ping(payload)) => socket.send(Opcode::Pong, true, &payload).await,
                    Ok(Event::Pong) => Ok(()),
                    Ok(Event::Piece(piece)) => {
                        // No longer than MAX_MESSAGE: the socket sees to it.
                        message.extend_from_slice(&piece.payload);
                        if piece.fin && !say(&room, &std::mem::take(&mut message)) {
                            let reason = "a message is {\"name\": …, \"text\": …}";
                            return socket.close(1008, reason).await;
                        }
                        Ok(())
                    }
                }
            }
        };
        if let Err(failure) = sent {
            break failure;
        }
    };
    socket.fail(failure).await;
}

async fn greet(socket: &mut Socket, hello: &str, history: &[Arc<str>]) -> Result<(), Failure> {
    socket.send_text(hello).await?;
    for line in history {
        socket.send_text(line).await?;
    }
    Ok(())
}

/// Whether the message was one.
fn say(room: &Room, message: &[u8]) -> bool {
    let Ok(FromClient { name, text }) = serde_json::from_slice(message) else {
        return false;
    };
    let name: String = name.trim().chars().take(MAX_NAME).collect();
    let name = if name.is_empty() { "somebody" } else { &name };
    if !text.trim().is_empty() {
        room.say(name, text.trim());
    }
    true
}
