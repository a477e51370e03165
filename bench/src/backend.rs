//! The process behind every proxy: echoes WebSocket frames, answers other requests with 1 KiB.
//!
//! ```text
//!   head ──┬─ Upgrade: websocket ─▶ 101 ─▶ echo until Close
//!          └─ anything else ─▶ 200, 1 KiB, x-backend: the address that was reached ─▶ next head
//! ```
//!
//! One thread and one buffer for all connections: an idle connection owns a task and no data.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::ready;

use anyhow::{Context as _, Result};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::echo::{Echo, HEADROOM};

/// Body of an answer to a request that is no handshake, in bytes.
pub(crate) const BODY: usize = 1024;

const LONGEST_HEAD: usize = 16 * 1024;
const BACKLOG: u32 = 4096;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; HEADROOM + 64 * 1024]);
}

/// Serves on every address of `addresses` until the process is ended.
///
/// # Errors
///
/// An address that cannot be bound.
pub(crate) async fn serve(addresses: &[SocketAddr]) -> Result<()> {
    let mut accepting = JoinSet::new();
    for address in addresses {
        let listener = listen(*address).with_context(|| format!("cannot listen on {address}"))?;
        let answer: Arc<[u8]> = answer(*address).into();
        accepting.spawn(accept(listener, answer));
    }
    while accepting.join_next().await.is_some() {}
    Ok(())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, answer: Arc<[u8]>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Ordinary ends and broken peers look alike here; the generator's checks tell.
                    connections.spawn(converse(stream, Arc::clone(&answer)));
                }
                Err(error) => eprintln!("backend: accept: {error}"),
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(mut stream: TcpStream, answer: Arc<[u8]>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::with_capacity(1024);
    loop {
        let Some(length) = read_head(&mut stream, &mut head).await? else {
            return Ok(());
        };
        match handshake_key(&head[..length])? {
            Some(key) => {
                stream.write_all(&switching(&key)).await?;
                break;
            }
            None => stream.write_all(&answer).await?,
        }
        head.drain(..length);
    }
    drop((head, answer));
    echo(stream).await
}

/// Reads until `head` begins with a whole request head and returns its length; `None` at the end.
pub(crate) async fn read_head(
    stream: &mut TcpStream,
    head: &mut Vec<u8>,
) -> io::Result<Option<usize>> {
    loop {
        if let Some(at) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            return Ok(Some(at + 4));
        }
        if head.len() > LONGEST_HEAD {
            return Err(invalid("a request head is too long"));
        }
        if stream.read_buf(head).await? == 0 {
            return Ok(None);
        }
    }
}

/// The `Sec-WebSocket-Key` of a handshake; `None` for another request.
pub(crate) fn handshake_key(head: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    request.parse(head).map_err(invalid)?;
    let field = |name: &str| {
        request
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
    };
    match field("upgrade") {
        Some(protocol) if protocol.eq_ignore_ascii_case(b"websocket") => {
            let key =
                field("sec-websocket-key").ok_or_else(|| invalid("a handshake has no key"))?;
            Ok(Some(key.to_vec()))
        }
        _ => Ok(None),
    }
}

/// The `101` for a handshake with this key (RFC 6455 4.2.2).
pub(crate) fn switching(key: &[u8]) -> Vec<u8> {
    let mut proof = key.to_vec();
    proof.extend_from_slice(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let proof = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &proof);
    let accept = BASE64_STANDARD.encode(proof);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

/// The `200` of the backend at `address`.
fn answer(address: SocketAddr) -> Vec<u8> {
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {BODY}\r\n\
         X-Backend: {address}\r\n\r\n"
    )
    .into_bytes();
    answer.resize(answer.len() + BODY, b'x');
    answer
}

/// Echoes frames until a Close frame has been echoed or the connection ends.
async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut echo = Echo::default();
    let mut unsent = Vec::new();
    loop {
        let more = poll_fn(|context| {
            BUFFER.with_borrow_mut(|buffer| {
                let mut read = ReadBuf::new(&mut buffer[HEADROOM..]);
                ready!(Pin::new(&mut stream).poll_read(context, &mut read))?;
                let length = read.filled().len();
                if length == 0 {
                    return Ok(false).into();
                }
                let length = echo.transform(buffer, HEADROOM + length)?;
                let echoed = &buffer[..length];
                let sent = match Pin::new(&mut stream).poll_write(context, echoed)? {
                    std::task::Poll::Ready(sent) => sent,
                    std::task::Poll::Pending => 0,
                };
                unsent.extend_from_slice(&echoed[sent..]);
                io::Result::Ok(true).into()
            })
        })
        .await?;
        if !unsent.is_empty() {
            stream.write_all(&unsent).await?;
            unsent = Vec::new();
        }
        if !more || echo.is_over() {
            return stream.shutdown().await;
        }
    }
}

fn invalid(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
