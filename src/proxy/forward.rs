//! Attempts to get an answer: which endpoint, which connection, and whether to try again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, Response, header};
use hyper::body::Incoming;

use super::Proxy;
use super::body::RequestBody;
use super::error::{ProxyError, Reason, Retry};
use super::pool::{PodConnection, Pool};
use super::request::Plan;
use crate::admission::{Bound, Listener, Refusal, Turn};
use crate::balance::{Endpoint, InFlight};
use crate::routing::Admission;

/// Endpoints that are tried for one request before the client hears of it.
const MAX_ENDPOINTS: usize = 3;

/// Which connections may be used.
#[derive(Clone, Copy, Debug)]
pub enum Attempts<'a> {
    /// An idle one, else a new one.
    Pooled,
    /// A new one, in its turn: it will not come back, as it is to become a tunnel of this listener.
    Fresh(&'a Listener),
}

/// A pod has answered.
#[derive(Debug)]
pub struct Forwarded {
    /// The answer, its body not yet read.
    pub response: Response<Incoming>,
    /// The connection it comes on; `None` once it has become a tunnel.
    pub connection: Option<Box<PodConnection>>,
    /// Counts on the endpoint.
    pub in_flight: InFlight<Pool>,
}

/// Sends a request to an endpoint of the plan's upstream. A connection that cannot be made sends
/// it to the next endpoint; a reused connection that ends before any byte of the answer makes it
/// go out once more, on a new one, if it can be repeated.
///
/// # Errors
/// The last attempt's.
pub async fn forward(
    proxy: &Proxy,
    plan: &Plan,
    mut request: Request<RequestBody>,
    attempts: Attempts<'_>,
) -> Result<Forwarded, ProxyError> {
    let mut tried: Vec<SocketAddr> = Vec::new();
    let mut pooled = matches!(attempts, Attempts::Pooled);
    let mut patient = true;
    let mut error = ProxyError::new(Reason::NoEndpoints);
    while tried.len() < MAX_ENDPOINTS {
        let chosen = match attempts {
            Attempts::Pooled => plan
                .upstream
                .pick(|it| is_new(it, &tried))
                .map(InFlight::new),
            Attempts::Fresh(listener) => choose(plan, listener, &tried, patient, &mut error),
        };
        let Some(in_flight) = chosen else {
            break;
        };
        let endpoint = Arc::clone(in_flight.endpoint());
        let turn = match attempts {
            Attempts::Pooled => None,
            Attempts::Fresh(listener) => match Box::pin(turn(plan, listener, &endpoint)).await {
                Ok(turn) => turn,
                Err(refusal) => {
                    // It has waited once; another pod gets it only if that has time just now.
                    patient = refusal.bound != Bound::QueueTimeout;
                    tried.push(endpoint.address);
                    error = refusal.into();
                    continue;
                }
            },
        };
        let idle = if pooled { endpoint.pool.take() } else { None };
        let mut connection = match idle {
            Some(connection) => connection,
            // Boxed, as most requests do not connect, and every future that may hold this one would
            // carry its size.
            None => match Box::pin(connect(proxy, plan, &endpoint)).await {
                Ok(connection) => connection,
                Err(failed) => {
                    if let Some(turn) = turn {
                        turn.failed();
                    }
                    plan.counters.connect_failed();
                    tried.push(endpoint.address);
                    error = failed;
                    continue;
                }
            },
        };
        let spare = if connection.is_reused() {
            repeat(&request)
        } else {
            None
        };
        match connection.exchange(request).await {
            Ok(mut response) => {
                match turn {
                    Some(turn) if response.status().is_server_error() => turn.failed(),
                    Some(turn) => turn.answered(),
                    None => {}
                }
                check_framing(response.headers_mut())?;
                return Ok(Forwarded {
                    response,
                    connection: Some(connection),
                    in_flight,
                });
            }
            Err((failed, unsent)) => {
                if let Some(turn) = turn {
                    turn.failed();
                }
                // Idle connections of a pod that has closed one are likely closed as well.
                pooled = false;
                error = failed;
                if !connection.is_reused() {
                    tried.push(endpoint.address);
                }
                request = match (failed.retry, unsent, spare) {
                    (Retry::BeforeSend, Some(unsent), _) => unsent,
                    (Retry::Reused, _, Some(spare)) => spare,
                    _ => return Err(failed),
                };
            }
        }
    }
    Err(error)
}

fn is_new(endpoint: &Endpoint<Pool>, tried: &[SocketAddr]) -> bool {
    !tried.contains(&endpoint.address)
}

/// Counts a WebSocket on an endpoint that has not been tried: on one where nobody waits, if there
/// is such a one. `None`: there is none, and `error` says so where it is for want of room.
fn choose(
    plan: &Plan,
    listener: &Listener,
    tried: &[SocketAddr],
    patient: bool,
    error: &mut ProxyError,
) -> Option<InFlight<Pool>> {
    let bounds = plan.admission.as_deref().unwrap_or(&Admission::DEFAULT);
    let most = bounds.connections_per_pod;
    let queue = bounds.queue.as_ref();
    let has_place = |endpoint: &Endpoint<Pool>| {
        is_new(endpoint, tried) && most.is_none_or(|most| endpoint.tunnels() < most.get())
    };
    let is_open = |endpoint: &Endpoint<Pool>| {
        has_place(endpoint) && (queue.is_none() || endpoint.gate.is_open())
    };
    let may_wait = |endpoint: &Endpoint<Pool>| {
        patient && has_place(endpoint) && queue.is_none_or(|queue| endpoint.gate.has_room(queue))
    };
    let upstream = &plan.upstream;
    // Somebody else may take the last place meanwhile; then there is one pod less to ask.
    while let Some(endpoint) = upstream
        .pick_for_tunnel(is_open)
        .or_else(|| upstream.pick_for_tunnel(may_wait))
    {
        let in_flight = InFlight::tunnel(endpoint, most);
        if in_flight.is_some() {
            return in_flight;
        }
    }
    if let Some(busy) = upstream.pick(has_place) {
        if patient {
            *error = busy.gate.refuse(Bound::QueueFull).into();
        }
    } else if upstream.pick(|it| is_new(it, tried)).is_some() {
        *error = listener.pods_are_full().into();
    }
    None
}

/// Waits for a turn at a pod; `None` where there is no queue.
async fn turn<'a>(
    plan: &Plan,
    listener: &Listener,
    endpoint: &'a Endpoint<Pool>,
) -> Result<Option<Turn<'a>>, Refusal> {
    let queue = plan.admission.as_ref().and_then(|bounds| bounds.queue);
    match &queue {
        None => Ok(None),
        Some(queue) => endpoint.gate.turn(queue, &listener.waiting).await.map(Some),
    }
}

async fn connect(
    proxy: &Proxy,
    plan: &Plan,
    endpoint: &Endpoint<Pool>,
) -> Result<Box<PodConnection>, ProxyError> {
    let open = PodConnection::open(
        endpoint.address,
        plan.upstream.id.protocol,
        &proxy.pod_tls,
        plan.server_name.as_deref(),
    );
    let limit: Duration = plan.connect_timeout;
    match tokio::time::timeout(limit, open).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => {
            tracing::debug!(upstream = %plan.upstream.id, endpoint = %endpoint.address, %error, "cannot connect to a pod");
            Err(ProxyError::with_retry(
                Reason::ConnectFailed,
                Retry::BeforeSend,
            ))
        }
        Err(_) => Err(ProxyError::with_retry(
            Reason::ConnectTimeout,
            Retry::BeforeSend,
        )),
    }
}

/// A copy of a request that can be repeated without harm: idempotent (RFC 9110 §9.2.2) and without
/// a body. Copies share the bytes of the head.
fn repeat(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    if !matches!(request.body(), RequestBody::Empty) || !request.method().is_idempotent() {
        return None;
    }
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// Refuses an answer that client and proxy could frame differently (RFC 9112 §6.3).
fn check_framing(headers: &mut HeaderMap) -> Result<(), ProxyError> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => {}
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            // The coding overrides the length, and we frame the answer anew.
            headers.remove(header::CONTENT_LENGTH);
        }
        _ => return Err(ProxyError::new(Reason::PodProtocol)),
    }
    Ok(())
}
