//! One request, from its head to the head of its answer.
//!
//! ```text
//! head ─▶ target ─▶ route ─▶ backend ─▶ forward ─────────────▶ answer
//!   │        │         │        │          └─ WebSocket ─▶ 101, tunnel
//!   └────────┴─────────┴────────┴─▶ an error of ours: status, reason, request id
//! ```
//!
//! A WebSocket over HTTP/2 is asked for by an extended CONNECT, which becomes a GET first
//! (`websocket::extended_connect`) and then goes the same way; its 101 becomes a 200.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::header::Entry;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version, header, request};
use hyper::body::Incoming;
use hyper::ext::Protocol;

use super::Proxy;
use super::access_log::RequestEntry;
use super::body::{RequestBody, ResponseBody, Serving};
use super::clock::ConnectionClock;
use super::connection::{Accepted, Drain};
use super::error::{ProxyError, Reason};
use super::forward::{Attempts, Forwarded, forward};
use super::headers::{Hop, join_cookies, prepare_request, prepare_response, request_id};
use super::http2_stream::PendingStream;
use super::pool::Pool;
use super::respond::respond;
use super::target::Target;
use super::tunnel::{Handover, open};
use crate::admission::{self, Connected};
use crate::balance::Upstream;
use crate::metrics::RouteCounters;
use crate::routing::{
    Admission, ListenerId, Match, PodProtocol, Route, WebSocketOverrides, WebSocketPolicy,
};
use crate::websocket::extended_connect::{to_success, to_upgrade};
use crate::websocket::handshake::{InvalidHandshake, Upgrade};

/// What all requests of a client connection share.
#[derive(Debug)]
pub struct Connection {
    /// The data plane.
    pub proxy: Arc<Proxy>,
    /// The listener that accepted it.
    pub listener: Arc<ListenerId>,
    /// Where it came in.
    pub hop: Hop,
    /// Its deadlines.
    pub clock: Arc<ConnectionClock>,
    /// What is counted at the listener.
    pub ledger: Arc<admission::Listener>,
    /// Begun where the connection is to end after what it is doing.
    pub drain: Arc<Drain>,
    /// Counts the connection.
    pub connected: Arc<Connected>,
    /// The pod's side of a tunnel, put here when the 101 goes out and taken when hyper is done.
    pub handover: Mutex<Option<Handover>>,
    close_delimited: AtomicBool,
}

/// What the configuration says about a request: looked up once, in one snapshot (P2).
#[derive(Debug)]
pub struct Plan {
    /// The route.
    pub route: Arc<Route>,
    /// The upstream that the weights have chosen.
    pub upstream: Arc<Upstream<Pool>>,
    /// Counters of the route.
    pub counters: Arc<RouteCounters>,
    /// To the head of the answer; `None` = no limit.
    pub request_timeout: Option<Duration>,
    /// For one connection to a pod.
    pub connect_timeout: Duration,
    /// For the tunnel that a handshake asks for; `None` for other requests.
    pub websocket: Option<Arc<WebSocketPolicy>>,
    /// Bounds for it; `None` for other requests.
    pub admission: Option<Arc<Admission>>,
    /// Server name for TLS to the pod.
    pub server_name: Option<Box<str>>,
}

impl Connection {
    /// Serves one request. Every request has an answer: one of a pod, or one of ours.
    pub async fn serve(self: Arc<Self>, mut request: Request<Incoming>) -> Response<ResponseBody> {
        let version = request.version();
        let id = request_id(request.headers());
        let record = self.proxy.access_log.request(|| self.entry(&request, &id));
        let mut serving = Serving::new(&self.clock, record);

        let is_extended = request.extensions().get::<Protocol>().is_some();
        let stream = is_extended.then(|| PendingStream::of(&mut request));
        let unanswered = is_extended.then(|| Unanswered::new(&self.clock));
        let (mut parts, body) = request.into_parts();
        if version == Version::HTTP_10 {
            self.close_delimited.store(true, Ordering::Relaxed);
        }
        let body = RequestBody::new(body, &self.clock);
        let plan = self.plan(&mut parts);
        let (plan, upgrade) = match plan {
            Ok(planned) => planned,
            Err(error) => {
                self.proxy.refused(error);
                if let Some(unanswered) = unanswered {
                    unanswered.answered();
                }
                return respond(error, &id, version, serving);
            }
        };
        if let Some(record) = &mut serving.record {
            record.entry.route = Some(Arc::clone(&plan.route.id));
            record.entry.upstream = Some(Arc::clone(&plan.upstream.id));
        }
        let result = match upgrade {
            Upgrade::None => {
                let request = self.pod_request(parts, body, &id);
                self.exchange(&plan, request).await
            }
            Upgrade::WebSocket(accept) => {
                let request = self.pod_request(parts, RequestBody::Empty, &id);
                Box::pin(open(&self, &plan, request, &accept, stream)).await
            }
        };
        if let Some(unanswered) = unanswered {
            unanswered.answered();
        }
        match result {
            Ok(answer) => answer_of(answer, &plan, version, serving),
            Err(error) => {
                self.proxy.refused(error);
                plan.counters.answered(error.status().as_u16());
                respond(error, &id, version, serving)
            }
        }
    }

    /// Everything that is decided before the first wait.
    fn plan(&self, head: &mut request::Parts) -> Result<(Plan, Upgrade), ProxyError> {
        if let Some(refusal) = self.connected.refusal() {
            self.drain.begin();
            return Err(refusal.into());
        }
        let refuse = ProxyError::new;
        let connect = match head.extensions.remove::<Protocol>() {
            Some(protocol) => {
                let key = fastrand::u128(..).to_ne_bytes();
                Some(to_upgrade(protocol.as_str(), head, key).map_err(invalid)?)
            }
            None => None,
        };
        let target =
            Target::parse(&head.method, &head.uri, head.version, &head.headers).map_err(refuse)?;
        check_transfer_encoding(&head.headers).map_err(refuse)?;
        let upgrade = match connect {
            Some(accept) => Upgrade::WebSocket(accept),
            None => {
                Upgrade::requested(&head.method, head.version, &head.headers).map_err(invalid)?
            }
        };

        let snapshot = self.proxy.snapshot.load();
        let listener = snapshot
            .listeners
            .get(&*self.listener)
            // The listener has left and its connections are being let go; what still comes on
            // them is for whoever has the port now.
            .or_else(|| {
                let mut listeners = snapshot.listeners.values();
                listeners.find(|listener| self.hop.is_to(listener.protocol, listener.target_port))
            })
            .ok_or(refuse(Reason::NoHost))?;
        if let Some(rate) = listener.capacity.requests_per_second {
            let load_balancer = &self.ledger.load_balancer;
            load_balancer.request(self.ledger.now(), rate)?;
        }
        // Clients may use a connection for every host that its certificate is good for (RFC 9113
        // §9.1.1), and are told here that for this one they need another.
        let host = target.host.as_deref();
        if head.version == Version::HTTP_2 && host.is_some_and(|h| listener.http1_only.contains(h))
        {
            return Err(refuse(Reason::Misdirected));
        }
        let route = match listener.hosts.find(target.host.as_deref(), &target.path) {
            Match::Route(route) => route,
            Match::NoHost => return Err(refuse(Reason::NoHost)),
            Match::NoPath => return Err(refuse(Reason::NoPath)),
        };
        let counters = self.proxy.metrics.route(&route.id.origin);
        let upstream = choose(route)
            .and_then(|id| self.proxy.registry.find(id).ok_or(Reason::NoEndpoints))
            .map_err(|reason| {
                counters.answered(refuse(reason).status().as_u16());
                refuse(reason)
            })?;
        let overrides = &route.overrides;
        let websocket = match &upgrade {
            Upgrade::None => None,
            Upgrade::WebSocket(_) => {
                let policy = if overrides.websocket == WebSocketOverrides::default() {
                    Arc::clone(&listener.websocket)
                } else {
                    Arc::new(listener.websocket.with(&overrides.websocket))
                };
                if !admits(&policy, &head.headers) {
                    counters.answered(StatusCode::FORBIDDEN.as_u16());
                    return Err(refuse(Reason::WebSocketOrigin));
                }
                Some(policy)
            }
        };
        let server_name = match upstream.id.protocol {
            PodProtocol::Plain => None,
            PodProtocol::Tls => target.host.as_deref().map(Into::into),
        };
        let plan = Plan {
            request_timeout: overrides
                .request_timeout
                .unwrap_or(listener.timeouts.request),
            connect_timeout: overrides
                .connect_timeout
                .unwrap_or(listener.timeouts.connect),
            admission: websocket.as_ref().map(|_| Arc::clone(&listener.admission)),
            websocket,
            route: Arc::clone(route),
            upstream,
            counters,
            server_name,
        };
        Ok((plan, upgrade))
    }

    /// Forwards an ordinary request.
    async fn exchange(
        &self,
        plan: &Plan,
        request: Request<RequestBody>,
    ) -> Result<Forwarded, ProxyError> {
        let forwarded = forward(&self.proxy, plan, request, Attempts::Pooled);
        let forwarded = self.in_time(plan, forwarded).await?;
        // Nobody asked for other protocols (RFC 9110 §15.2.2).
        if forwarded.response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(ProxyError::new(Reason::PodUpgrade));
        }
        Ok(forwarded)
    }

    /// Ends a wait for a pod at the request's deadline, and says whose fault it is.
    pub(super) async fn in_time<T>(
        &self,
        plan: &Plan,
        wait: impl Future<Output = Result<T, ProxyError>>,
    ) -> Result<T, ProxyError> {
        let Some(limit) = plan.request_timeout else {
            return wait.await;
        };
        // Not dropped with the timeout: then the body would no longer say how far it has come.
        let mut wait = pin!(wait);
        match tokio::time::timeout(limit, wait.as_mut()).await {
            Ok(result) => result,
            Err(_) if self.clock.is_awaiting_body() => Err(ProxyError::new(Reason::ClientTimeout)),
            Err(_) => Err(ProxyError::new(Reason::RequestTimeout)),
        }
    }

    /// The request as the pod gets it.
    fn pod_request(
        &self,
        mut parts: request::Parts,
        body: RequestBody,
        id: &HeaderValue,
    ) -> Request<RequestBody> {
        // Origin form, whatever form the client used (RFC 9112 §3.2.1).
        if parts.uri.authority().is_some() {
            // The authority goes before Host (RFC 9112 §3.2.2, RFC 9113 §8.3.1); they may still
            // differ in the port.
            if let Some(authority) = parts.uri.authority()
                && let Ok(host) = HeaderValue::from_str(authority.as_str())
            {
                parts.headers.insert(header::HOST, host);
            }
            let path = parts
                .uri
                .path_and_query()
                .cloned()
                .unwrap_or_else(|| PathAndQuery::from_static("/"));
            parts.uri = Uri::from(path);
        }
        // HTTP/1.1 cannot do without, HTTP/1.0 can (RFC 9112 §3.2).
        if let Entry::Vacant(host) = parts.headers.entry(header::HOST) {
            host.insert(HeaderValue::from_static(""));
        }
        if parts.version == Version::HTTP_2 {
            join_cookies(&mut parts.headers);
        }
        parts.version = Version::HTTP_11;
        prepare_request(&mut parts.headers, &self.hop, id);
        // What hyper keeps there concerns the client's connection.
        parts.extensions.clear();
        Request::from_parts(parts, body)
    }

    fn entry(&self, request: &Request<Incoming>, id: &HeaderValue) -> RequestEntry {
        RequestEntry {
            time: SystemTime::now(),
            duration: Duration::ZERO,
            client: self.hop.client,
            listener: Arc::clone(&self.listener),
            method: request.method().clone(),
            uri: request.uri().clone(),
            host: request.headers().get(header::HOST).cloned(),
            version: request.version(),
            request_id: id.clone(),
            user_agent: request.headers().get(header::USER_AGENT).cloned(),
            status: 0,
            bytes_sent: 0,
            route: None,
            upstream: None,
            endpoint: None,
            error: None,
        }
    }

    /// Whether the end of the connection may be what ends an answer (HTTP/1.0).
    #[must_use]
    pub fn is_close_delimited(&self) -> bool {
        self.close_delimited.load(Ordering::Relaxed)
    }

    /// Puts the pod's side of a tunnel where the connection's task finds it.
    pub(super) fn hand_over(&self, handover: Handover) {
        *self.handover.lock().unwrap_or_else(PoisonError::into_inner) = Some(handover);
    }

    /// The pod's side of a tunnel, once.
    pub fn take_handover(&self) -> Option<Handover> {
        self.handover
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// A connection on a listener.
    #[must_use]
    pub fn new(
        accepted: &Accepted,
        hop: Hop,
        clock: Arc<ConnectionClock>,
        connected: Connected,
    ) -> Self {
        Self {
            proxy: Arc::clone(&accepted.proxy),
            listener: Arc::clone(&accepted.listener),
            hop,
            clock,
            ledger: Arc::clone(&accepted.ledger),
            drain: Arc::clone(&accepted.drain),
            connected: Arc::new(connected),
            handover: Mutex::new(None),
            close_delimited: AtomicBool::new(false),
        }
    }
}

/// A WebSocket over HTTP/2 that has been asked for. Dropped, it has been reset by its client.
struct Unanswered(Option<Arc<ConnectionClock>>);

impl Unanswered {
    fn new(clock: &Arc<ConnectionClock>) -> Self {
        Self(Some(Arc::clone(clock)))
    }

    fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some(clock) = &self.0 {
            clock.websocket_reset();
        }
    }
}

fn invalid(handshake: InvalidHandshake) -> ProxyError {
    ProxyError::new(match handshake {
        InvalidHandshake::Malformed => Reason::WebSocketHandshake,
        InvalidHandshake::Version => Reason::WebSocketVersion,
        InvalidHandshake::Protocol => Reason::ProtocolUnknown,
    })
}

/// The answer of a pod as the client gets it.
fn answer_of(
    forwarded: Forwarded,
    plan: &Plan,
    version: Version,
    mut serving: Serving,
) -> Response<ResponseBody> {
    let Forwarded {
        response,
        connection,
        in_flight,
    } = forwarded;
    let (mut parts, body) = response.into_parts();
    let is_stream = connection.is_none() && version == Version::HTTP_2;
    if is_stream {
        parts.status = StatusCode::OK;
    }
    let status = parts.status;
    plan.counters.answered(status.as_u16());
    if let Some(record) = &mut serving.record {
        record.entry.status = status.as_u16();
        record.entry.endpoint = Some(in_flight.endpoint().address);
    }
    parts.version = Version::HTTP_11;
    prepare_response(&mut parts.headers);
    let body = match connection {
        Some(connection) => ResponseBody::pod(body, connection, in_flight, serving),
        // A tunnel: its line in the log is written when it ends.
        None => {
            serving.record = None;
            let fields = &mut parts.headers;
            if is_stream {
                to_success(fields);
            } else {
                fields.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                fields.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            }
            ResponseBody::empty()
        }
    };
    Response::from_parts(parts, body)
}

/// Whether the policy lets the origin of a handshake open a WebSocket (RFC 6455 §10.2). Only
/// browsers send one, and only they can be misused by a foreign page.
fn admits(policy: &WebSocketPolicy, headers: &HeaderMap) -> bool {
    let Some(origins) = &policy.origins else {
        return true;
    };
    headers.get_all(header::ORIGIN).iter().all(|value| {
        value
            .to_str()
            .is_ok_and(|value| origins.iter().any(|origins| origins.contains(value)))
    })
}

/// The upstream of a route, by weight.
fn choose(route: &Route) -> Result<&Arc<crate::routing::UpstreamId>, Reason> {
    let backend = match &*route.backends {
        [only] if only.weight > 0 => Some(only),
        _ => match route.total_weight() {
            0 => None,
            total => route.backend(fastrand::u32(0..total)),
        },
    };
    backend
        .ok_or(Reason::NoBackend)?
        .target
        .as_ref()
        .map_err(|&unavailable| Reason::Backend(unavailable))
}

/// `chunked`, once, or none at all. hyper also takes lists that end in `chunked`, which another
/// server may frame otherwise (RFC 9112 §6.1).
fn check_transfer_encoding(headers: &HeaderMap) -> Result<(), Reason> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None)
            if coding
                .as_bytes()
                .trim_ascii()
                .eq_ignore_ascii_case(b"chunked") =>
        {
            Ok(())
        }
        _ => Err(Reason::TransferEncoding),
    }
}
