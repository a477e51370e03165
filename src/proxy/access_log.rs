//! One JSON line a request, and one a tunnel.
//!
//! ```text
//! request ─▶ try_send ─▶ bounded queue ─▶ writer thread ─▶ standard output
//!               └─ full: dropped and counted
//! ```
//!
//! Lines are made and written on a thread of their own; the data path only hands over what it has
//! anyway. A reader of the log that stalls costs lines, never latency.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderValue, Method, Uri, Version};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::routing::{ListenerId, RouteId, UpstreamId};

/// Lines that may wait for the writer.
const QUEUE: usize = 8192;

/// Where lines go. Cheap to clone; disabled by [`AccessLog::off`].
#[derive(Clone, Debug)]
pub struct AccessLog {
    sender: Option<mpsc::Sender<Entry>>,
    dropped: Arc<AtomicU64>,
}

enum Entry {
    Request(Box<RequestEntry>),
    Tunnel(Box<TunnelEntry>),
    /// Answered when everything before it has been written.
    Flush(SyncSender<()>),
}

/// A request's line in the making.
pub struct RequestRecord {
    log: AccessLog,
    began: Instant,
    /// What the line will say.
    pub entry: Box<RequestEntry>,
}

/// What is said of a request. The query is left out: tokens travel there.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names are those of the line")]
pub struct RequestEntry {
    pub time: SystemTime,
    pub duration: Duration,
    pub client: SocketAddr,
    pub listener: Arc<ListenerId>,
    pub method: Method,
    pub uri: Uri,
    pub host: Option<HeaderValue>,
    pub version: Version,
    pub request_id: HeaderValue,
    pub user_agent: Option<HeaderValue>,
    pub status: u16,
    pub bytes_sent: u64,
    pub route: Option<Arc<RouteId>>,
    pub upstream: Option<Arc<UpstreamId>>,
    pub endpoint: Option<SocketAddr>,
    pub error: Option<&'static str>,
}

/// What is said of a tunnel, when it has ended.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names are those of the line")]
pub struct TunnelEntry {
    pub time: SystemTime,
    pub duration: Duration,
    pub client: SocketAddr,
    pub listener: Arc<ListenerId>,
    pub labels: TunnelLabels,
    pub protocol: &'static str,
    pub route: Arc<RouteId>,
    pub upstream: Arc<UpstreamId>,
    pub endpoint: SocketAddr,
    pub cause: &'static str,
    pub by: &'static str,
    pub close_code: Option<u16>,
    pub bytes_from_client: u64,
    pub bytes_from_pod: u64,
    pub messages_from_client: u64,
    pub messages_from_pod: u64,
}

/// What a tunnel keeps of its handshake for its line. Copies, so that the buffer in which the
/// handshake came is not kept for as long as the tunnel lives.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names are those of the line")]
pub struct TunnelLabels {
    pub request_id: Box<str>,
    pub host: Box<str>,
    pub path: Box<str>,
}

impl fmt::Debug for RequestRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestRecord").field(&self.entry).finish()
    }
}

// === impl AccessLog ===

impl AccessLog {
    /// Writes nothing.
    #[must_use]
    pub fn off() -> Self {
        Self {
            sender: None,
            dropped: Arc::default(),
        }
    }

    /// Starts the writer, a thread that ends when every clone of the log is gone.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_all(receiver, BufWriter::new(output)))?;
        Ok(Self {
            sender: Some(sender),
            dropped: Arc::default(),
        })
    }

    /// Waits until everything handed over so far is written, for a while at most: nobody may be
    /// reading. Blocks; for the end of the process.
    pub fn flush(&self, deadline: Duration) {
        let Some(sender) = &self.sender else {
            return;
        };
        let (done, written) = sync_channel(1);
        if sender.try_send(Entry::Flush(done)).is_ok() {
            // Either way there is nothing more to wait for.
            let _ = written.recv_timeout(deadline);
        }
    }

    /// Lines lost because the writer was behind.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Begins a request's line, if lines are wanted.
    #[must_use]
    pub fn request(&self, entry: impl FnOnce() -> RequestEntry) -> Option<RequestRecord> {
        self.sender.as_ref()?;
        Some(RequestRecord {
            log: self.clone(),
            began: Instant::now(),
            entry: Box::new(entry()),
        })
    }

    /// Whether lines are wanted.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.sender.is_some()
    }

    /// Writes a tunnel's line.
    pub fn tunnel(&self, entry: TunnelEntry) {
        self.send(Entry::Tunnel(Box::new(entry)));
    }

    fn send(&self, entry: Entry) {
        if let Some(sender) = &self.sender
            && sender.try_send(entry).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl RequestRecord {
    /// Hands the line over to the writer.
    pub fn write(mut self) {
        self.entry.duration = self.began.elapsed();
        self.log.send(Entry::Request(self.entry));
    }
}

fn write_all(mut queue: mpsc::Receiver<Entry>, mut output: BufWriter<impl Write>) {
    let mut batch = Vec::with_capacity(256);
    while queue.blocking_recv_many(&mut batch, 256) > 0 {
        for entry in batch.drain(..) {
            let written = match entry {
                Entry::Request(entry) => write_line(&mut output, &RequestLine::from(&*entry)),
                Entry::Tunnel(entry) => write_line(&mut output, &TunnelLine::from(&*entry)),
                Entry::Flush(done) => {
                    let flushed = output.flush();
                    // Nobody waits any more if this fails.
                    let _ = done.try_send(());
                    flushed
                }
            };
            // A full disk or a closed pipe must not end the proxy; the next line tries again.
            drop(written);
        }
        drop(output.flush());
    }
}

fn write_line(output: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    // Whole lines only: an error in the middle, such as a full disk, must not tear one.
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    output.write_all(&text)
}

// === the lines ===

#[derive(Serialize)]
struct RequestLine<'a> {
    time: jiff::Timestamp,
    kind: &'static str,
    request_id: &'a str,
    client: SocketAddr,
    listener: String,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    protocol: &'static str,
    status: u16,
    duration_ms: f64,
    bytes_sent: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    user_agent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

impl<'a> From<&'a RequestEntry> for RequestLine<'a> {
    fn from(entry: &'a RequestEntry) -> Self {
        Self {
            time: timestamp(entry.time),
            kind: "request",
            request_id: text(Some(&entry.request_id)),
            client: entry.client,
            listener: entry.listener.to_string(),
            method: entry.method.as_str(),
            host: host(entry.host.as_ref(), &entry.uri),
            path: entry.uri.path(),
            protocol: match entry.version {
                Version::HTTP_2 => "HTTP/2",
                Version::HTTP_10 => "HTTP/1.0",
                _ => "HTTP/1.1",
            },
            status: entry.status,
            duration_ms: milliseconds(entry.duration),
            bytes_sent: entry.bytes_sent,
            user_agent: text(entry.user_agent.as_ref()),
            route: entry.route.as_ref().map(ToString::to_string),
            upstream: entry.upstream.as_ref().map(ToString::to_string),
            endpoint: entry.endpoint,
            error: entry.error,
        }
    }
}

#[derive(Serialize)]
struct TunnelLine<'a> {
    time: jiff::Timestamp,
    kind: &'static str,
    request_id: &'a str,
    client: SocketAddr,
    listener: String,
    host: &'a str,
    path: &'a str,
    protocol: &'static str,
    route: String,
    upstream: String,
    endpoint: SocketAddr,
    duration_ms: f64,
    cause: &'static str,
    by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    close_code: Option<u16>,
    bytes_from_client: u64,
    bytes_from_pod: u64,
    messages_from_client: u64,
    messages_from_pod: u64,
}

impl<'a> From<&'a TunnelEntry> for TunnelLine<'a> {
    fn from(entry: &'a TunnelEntry) -> Self {
        Self {
            time: timestamp(entry.time),
            kind: "tunnel",
            request_id: &entry.labels.request_id,
            client: entry.client,
            listener: entry.listener.to_string(),
            host: &entry.labels.host,
            path: &entry.labels.path,
            protocol: entry.protocol,
            route: entry.route.to_string(),
            upstream: entry.upstream.to_string(),
            endpoint: entry.endpoint,
            duration_ms: milliseconds(entry.duration),
            cause: entry.cause,
            by: entry.by,
            close_code: entry.close_code,
            bytes_from_client: entry.bytes_from_client,
            bytes_from_pod: entry.bytes_from_pod,
            messages_from_client: entry.messages_from_client,
            messages_from_pod: entry.messages_from_pod,
        }
    }
}

fn timestamp(time: SystemTime) -> jiff::Timestamp {
    jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

fn text(value: Option<&HeaderValue>) -> &str {
    value.and_then(|value| value.to_str().ok()).unwrap_or("")
}

fn host<'a>(header: Option<&'a HeaderValue>, uri: &'a Uri) -> &'a str {
    uri.authority()
        .map_or_else(|| text(header), http::uri::Authority::as_str)
}
