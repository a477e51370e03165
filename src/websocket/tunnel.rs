//! One tunnel as the table knows it: who, since when, and how much has passed.
//!
//! The relay is the only writer of the counters, so they need no locked instruction: a relaxed
//! load and a relaxed store. Everybody else reads them whenever they like.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::task::Waker;
use std::time::{Duration, SystemTime};

use atomic_waker::AtomicWaker;
use http::Version;
use tokio::time::Instant;

use crate::routing::{ListenerId, RouteId, UpstreamId};

use super::close::{By, Cause, CloseCode, Ending, Side};
use super::scanner::Traffic;
use super::table::Shared;

/// Where a tunnel comes from and where it goes. Never changes.
#[derive(Clone, Debug)]
pub struct TunnelInfo {
    /// The route that it came by.
    pub route: Arc<RouteId>,
    /// The listener that took the client's connection.
    pub listener: Arc<ListenerId>,
    /// The upstream.
    pub upstream: Arc<UpstreamId>,
    /// The pod.
    pub endpoint: SocketAddr,
    /// The client, as far as it is known.
    pub client: SocketAddr,
    /// What the client speaks: a connection of its own over HTTP/1.1, or a stream among others of
    /// an HTTP/2 connection.
    pub http_version: Version,
    /// Identifies the handshake in the logs of the pod.
    pub request_id: Option<Box<str>>,
}

impl TunnelInfo {
    /// Whether the tunnel is a stream of an HTTP/2 connection.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        self.http_version == Version::HTTP_2
    }

    /// What the client speaks, for logs and metric labels.
    #[must_use]
    pub fn protocol(&self) -> &'static str {
        if self.is_http2() {
            "HTTP/2"
        } else {
            "HTTP/1.1"
        }
    }
}

/// A tunnel at one moment.
#[derive(Clone, Debug)]
pub struct TunnelView {
    /// Identity; unique in the life of the table.
    pub id: u64,
    /// Where from and where to.
    pub info: TunnelInfo,
    /// When it was opened.
    pub opened: SystemTime,
    /// For how long it has been open.
    pub age: Duration,
    /// For how long neither peer has sent anything.
    pub silent: Duration,
    /// How long the client took to answer our last ping; `None` = it has answered none.
    pub client_round_trip: Option<Duration>,
    /// The same of the pod.
    pub pod_round_trip: Option<Duration>,
    /// What the client sent.
    pub from_client: Traffic,
    /// What the pod sent.
    pub from_pod: Traffic,
    /// What the proxy was asked to end it for, if it was.
    pub ending: Option<Cause>,
}

/// A tunnel's place in the table; dropping it takes the tunnel out.
pub struct TunnelGuard {
    record: Arc<Record>,
}

/// What the table keeps of an open tunnel.
pub(super) struct Record {
    pub(super) id: u64,
    pub(super) info: TunnelInfo,
    table: Arc<Shared>,
    /// Microseconds since the table's epoch.
    opened: u64,
    /// The same, of the last byte read or written.
    active: AtomicU64,
    from_client: Counters,
    from_pod: Counters,
    /// Last round-trip times in microseconds; 0 = none.
    client_round_trip: AtomicU32,
    pod_round_trip: AtomicU32,
    waker: AtomicWaker,
    /// Number of the cause that somebody asked to end it for, or 0.
    requested: AtomicU8,
    /// The Close code that goes with it, or 0 for the cause's own.
    requested_code: AtomicU16,
    /// Taken out of the table.
    closed: AtomicBool,
}

/// [`Traffic`], shared. One writer.
#[derive(Default)]
struct Counters {
    bytes: AtomicU64,
    frames: AtomicU64,
    text: AtomicU64,
    binary: AtomicU64,
    pings: AtomicU64,
    pongs: AtomicU64,
    text_bytes: AtomicU64,
    binary_bytes: AtomicU64,
}

impl TunnelGuard {
    pub(super) fn new(record: Arc<Record>) -> Self {
        Self { record }
    }

    /// Identity; unique in the life of the table.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.record.id
    }

    /// Where the tunnel comes from and where it goes.
    #[must_use]
    pub fn info(&self) -> &TunnelInfo {
        &self.record.info
    }

    /// Has `waker` woken when somebody asks to end the tunnel, and returns the cause if somebody
    /// has already.
    pub(super) fn requested(&self, waker: &Waker) -> Option<Cause> {
        // Registered first, so that a request between the two lines wakes us.
        self.record.waker.register(waker);
        Cause::from_number(self.record.requested.load(Ordering::Acquire))
    }

    /// For whoever looks at the table: an end of ours has begun.
    pub(super) fn ends(&self, cause: Cause) {
        self.record.end(cause, None);
    }

    /// The Close code that was asked for with the cause, if any.
    pub(super) fn requested_code(&self) -> Option<u16> {
        match self.record.requested_code.load(Ordering::Relaxed) {
            0 => None,
            code => Some(code),
        }
    }

    pub(super) fn add(&self, from: Side, traffic: &Traffic) {
        self.record.counters(from).add(traffic);
    }

    pub(super) fn traffic(&self, from: Side) -> Traffic {
        self.record.counters(from).read()
    }

    pub(super) fn touch(&self, now: Instant) {
        let now = self.record.table.micros(now);
        self.record.active.store(now, Ordering::Relaxed);
    }

    pub(super) fn last_active(&self) -> Instant {
        let active = self.record.active.load(Ordering::Relaxed);
        self.record.table.instant(active)
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.record.table.instant(self.record.opened))
    }

    /// A peer has answered a ping of ours after so long.
    pub(super) fn round_trip(&self, side: Side, took: Duration) {
        let micros = u32::try_from(took.as_micros()).map_or(u32::MAX, |micros| micros.max(1));
        let record = &self.record;
        let last = match side {
            Side::Client => &record.client_round_trip,
            Side::Pod => &record.pod_round_trip,
        };
        last.store(micros, Ordering::Relaxed);
        record.table.round_trips(side).observe(took);
    }

    /// Takes the tunnel out of the table; afterwards the drop does nothing.
    pub(super) fn close(&self, ending: Ending) {
        if !self.record.closed.swap(true, Ordering::Relaxed) {
            self.record.table.close(&self.record, ending);
        }
    }
}

impl Drop for TunnelGuard {
    fn drop(&mut self) {
        self.close(Ending {
            cause: Cause::Dropped,
            by: By::Proxy,
            code: CloseCode::None,
        });
    }
}

impl fmt::Debug for TunnelGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelGuard")
            .field("id", &self.record.id)
            .field("info", &self.record.info)
            .finish_non_exhaustive()
    }
}

impl Record {
    pub(super) fn new(id: u64, info: TunnelInfo, table: Arc<Shared>, now: u64) -> Self {
        Self {
            id,
            info,
            table,
            opened: now,
            active: AtomicU64::new(now),
            from_client: Counters::default(),
            from_pod: Counters::default(),
            client_round_trip: AtomicU32::new(0),
            pod_round_trip: AtomicU32::new(0),
            waker: AtomicWaker::new(),
            requested: AtomicU8::new(0),
            requested_code: AtomicU16::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// Asks the relay to end the tunnel. Returns whether this was the first to ask.
    pub(super) fn end(&self, cause: Cause, code: Option<u16>) -> bool {
        if let Some(code) = code {
            // Before the cause, which is what the relay looks at. The first one counts.
            let (none, relaxed) = (0, Ordering::Relaxed);
            let _ = self
                .requested_code
                .compare_exchange(none, code, relaxed, relaxed);
        }
        let first = self
            .requested
            .compare_exchange(0, cause.to_number(), Ordering::Release, Ordering::Relaxed)
            .is_ok();
        if first {
            self.waker.wake();
        }
        first
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.table.instant(self.opened))
    }

    pub(super) fn silent(&self, now: Instant) -> Duration {
        let active = self.table.instant(self.active.load(Ordering::Relaxed));
        now.saturating_duration_since(active)
    }

    /// Whether somebody has asked to end it.
    pub(super) fn is_ending(&self) -> bool {
        self.requested.load(Ordering::Relaxed) != 0
    }

    pub(super) fn traffic(&self, from: Side) -> Traffic {
        self.counters(from).read()
    }

    pub(super) fn view(&self, now: Instant) -> TunnelView {
        let table = &self.table;
        TunnelView {
            id: self.id,
            info: self.info.clone(),
            opened: table.wall_clock(self.opened),
            age: self.age(now),
            silent: self.silent(now),
            client_round_trip: round_trip(&self.client_round_trip),
            pod_round_trip: round_trip(&self.pod_round_trip),
            from_client: self.from_client.read(),
            from_pod: self.from_pod.read(),
            ending: Cause::from_number(self.requested.load(Ordering::Relaxed)),
        }
    }

    fn counters(&self, from: Side) -> &Counters {
        match from {
            Side::Client => &self.from_client,
            Side::Pod => &self.from_pod,
        }
    }
}

fn round_trip(micros: &AtomicU32) -> Option<Duration> {
    match micros.load(Ordering::Relaxed) {
        0 => None,
        micros => Some(Duration::from_micros(micros.into())),
    }
}

impl Counters {
    fn add(&self, traffic: &Traffic) {
        let pairs = [
            (&self.bytes, traffic.bytes),
            (&self.frames, traffic.frames),
            (&self.text, traffic.text),
            (&self.binary, traffic.binary),
            (&self.pings, traffic.pings),
            (&self.pongs, traffic.pongs),
            (&self.text_bytes, traffic.text_bytes),
            (&self.binary_bytes, traffic.binary_bytes),
        ];
        for (counter, more) in pairs {
            if more > 0 {
                // Only the relay writes, so nothing can come between the two.
                let value = counter.load(Ordering::Relaxed);
                counter.store(value + more, Ordering::Relaxed);
            }
        }
    }

    fn read(&self) -> Traffic {
        Traffic {
            bytes: self.bytes.load(Ordering::Relaxed),
            frames: self.frames.load(Ordering::Relaxed),
            text: self.text.load(Ordering::Relaxed),
            binary: self.binary.load(Ordering::Relaxed),
            pings: self.pings.load(Ordering::Relaxed),
            pongs: self.pongs.load(Ordering::Relaxed),
            text_bytes: self.text_bytes.load(Ordering::Relaxed),
            binary_bytes: self.binary_bytes.load(Ordering::Relaxed),
        }
    }
}
