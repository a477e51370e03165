//! Bodies on their way, streamed with the back-pressure of both sockets and without a bound of size.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::access_log::RequestRecord;
use super::clock::{ConnectionClock, InUse};
use super::headers::{prepare_trailers, remove_hop_by_hop};
use super::pool::{PodConnection, Pool};
use crate::balance::InFlight;

/// In the log, where a client left before its answer was complete.
const CLIENT_CLOSED: &str = "client_closed";

/// A request's body on its way to a pod.
#[derive(Debug)]
pub enum RequestBody {
    /// None.
    Empty,
    /// The client's.
    Client(ClientBody),
}

/// A client's body; its clock knows while more of it is wanted.
#[derive(Debug)]
pub struct ClientBody {
    body: Incoming,
    clock: Arc<ConnectionClock>,
    /// It was asked for and has not come.
    awaited: bool,
    /// It has been read, or nothing more will come.
    ended: bool,
}

/// An answer's body on its way to the client.
pub enum ResponseBody {
    /// A text of our own, or none.
    Text(Option<Bytes>, Option<Box<Serving>>),
    /// The pod's.
    Pod(Box<PodBody>),
}

/// A pod's body. Drives the pod's connection while it is read, and gives it back to the pool at
/// the end.
pub struct PodBody {
    body: Incoming,
    connection: Option<Box<PodConnection>>,
    in_flight: InFlight<Pool>,
    serving: Serving,
    /// A part of it has been handed over and the next not been asked for.
    on_its_way: bool,
}

/// Keeps a request "in flight" on its connection until its answer is over, and then writes its
/// line in the access log.
pub struct Serving {
    in_use: InUse,
    /// The line to write, if access logs are wanted.
    pub record: Option<RequestRecord>,
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(..) => f.write_str("Text"),
            Self::Pod(_) => f.write_str("Pod"),
        }
    }
}

impl fmt::Debug for PodBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodBody").finish_non_exhaustive()
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").finish_non_exhaustive()
    }
}

// === impl Serving ===

impl Serving {
    /// Starts to serve a request.
    #[must_use]
    pub fn new(clock: &Arc<ConnectionClock>, record: Option<RequestRecord>) -> Self {
        Self {
            in_use: clock.in_use(),
            record,
        }
    }

    fn sent(&mut self, bytes: usize) {
        if let Some(record) = &mut self.record {
            record.entry.bytes_sent += bytes as u64;
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            // The client left before there was an answer; nginx's number for it.
            if record.entry.status == 0 {
                record.entry.status = 499;
                record.entry.error = Some(CLIENT_CLOSED);
            }
            record.write();
        }
    }
}

// === impl RequestBody ===

impl RequestBody {
    /// The body of a client's request.
    #[must_use]
    pub fn new(body: Incoming, clock: &Arc<ConnectionClock>) -> Self {
        if body.is_end_stream() {
            return Self::Empty;
        }
        Self::Client(ClientBody {
            body,
            clock: Arc::clone(clock),
            awaited: false,
            ended: false,
        })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self::Client(client) = self.get_mut() else {
            return Poll::Ready(None);
        };
        let mut frame = Pin::new(&mut client.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            prepare_trailers(trailers);
        }
        client.set_awaited(frame.is_pending());
        client.ended = !matches!(frame, Poll::Pending | Poll::Ready(Some(Ok(_))))
            || client.body.is_end_stream();
        frame
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(client) => client.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(client) => client.body.size_hint(),
        }
    }
}

impl ClientBody {
    fn set_awaited(&mut self, awaited: bool) {
        if self.awaited != awaited {
            self.awaited = awaited;
            self.clock.body_awaited(awaited);
        }
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        self.set_awaited(false);
        if !self.ended {
            self.clock.body_abandoned();
        }
    }
}

// === impl ResponseBody ===

impl ResponseBody {
    /// A text of our own.
    #[must_use]
    pub fn text(text: impl Into<Bytes>, serving: Serving) -> Self {
        Self::Text(Some(text.into()), Some(Box::new(serving)))
    }

    /// No body; the request is over.
    #[must_use]
    pub fn empty() -> Self {
        Self::Text(None, None)
    }

    /// A pod's body.
    #[must_use]
    pub fn pod(
        body: Incoming,
        connection: Box<PodConnection>,
        in_flight: InFlight<Pool>,
        serving: Serving,
    ) -> Self {
        Self::Pod(Box::new(PodBody {
            body,
            connection: Some(connection),
            in_flight,
            serving,
            on_its_way: false,
        }))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Text(text, serving) => {
                let text = text.take().filter(|text| !text.is_empty());
                if let (Some(text), Some(serving)) = (&text, serving) {
                    serving.sent(text.len());
                }
                Poll::Ready(text.map(|text| Ok(Frame::data(text))))
            }
            Self::Pod(pod) => pod.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text, _) => text.as_ref().is_none_or(Bytes::is_empty),
            Self::Pod(pod) => pod.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text, _) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Self::Pod(pod) => pod.body.size_hint(),
        }
    }
}

// === impl PodBody ===

impl PodBody {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.set_on_its_way(false);
        let mut frame = Pin::new(&mut self.body).poll_frame(cx);
        if frame.is_pending() {
            // Asking for a frame has told the connection that there is room for one.
            if let Some(connection) = &mut self.connection {
                connection.drive(cx);
            }
            frame = Pin::new(&mut self.body).poll_frame(cx);
        }
        match &mut frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    remove_hop_by_hop(trailers);
                }
                self.serving.sent(frame.data_ref().map_or(0, Bytes::len));
                if self.body.is_end_stream() {
                    self.release(cx);
                }
            }
            Poll::Ready(None) => self.release(cx),
            Poll::Ready(Some(Err(_))) => {
                self.connection = None;
                if let Some(record) = &mut self.serving.record {
                    record.entry.error = Some("pod_closed");
                }
            }
            Poll::Pending => {}
        }
        self.set_on_its_way(matches!(frame, Poll::Ready(Some(Ok(_)))));
        frame
    }

    fn set_on_its_way(&mut self, on_its_way: bool) {
        let clock = self.serving.in_use.clock();
        if self.on_its_way != on_its_way && clock.watches_answers() {
            self.on_its_way = on_its_way;
            clock.answer_on_its_way(on_its_way);
        }
    }

    /// The answer is complete: keeps the connection if the exchange is.
    fn release(&mut self, cx: &mut Context<'_>) {
        if let Some(mut connection) = self.connection.take()
            && !self.in_flight.endpoint().is_retired()
            && connection.is_idle(cx)
        {
            self.in_flight.endpoint().pool.put(connection);
        }
    }
}

/// An answer without a body (HEAD, 204, 304) or one that hyper does not read to its end still has
/// a connection worth keeping.
impl Drop for PodBody {
    fn drop(&mut self) {
        self.set_on_its_way(false);
        if self.body.is_end_stream() {
            self.release(&mut Context::from_waker(std::task::Waker::noop()));
        } else if self.connection.is_some()
            && let Some(record) = &mut self.serving.record
        {
            record.entry.error = Some(CLIENT_CLOSED);
        }
    }
}
