//! From a handshake to a tunnel.
//!
//! ```text
//! request ─▶ pod answers 101 ─▶ handover waits in the connection ─▶ 101 to the client
//!                                        hyper lets go of the socket ─▶ relay, in a task of its own
//! CONNECT ─▶ pod answers 101 ─▶ 200 to the client ─▶ the stream is the socket ─▶ relay, the same
//! ```
//!
//! The task of the client's connection ends then, and with it hyper's buffers: what is left of a
//! tunnel is two sockets, a relay and its record in the table. Over HTTP/2 the connection goes on,
//! for as long as any of its tunnels does.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::header::Entry;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version, header};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Proxy;
use super::access_log::{TunnelEntry, TunnelLabels};
use super::body::RequestBody;
use super::clock::OpenTunnel;
use super::error::{ProxyError, Reason};
use super::forward::{Attempts, Forwarded, forward};
use super::headers::X_REQUEST_ID;
use super::http2_stream::PendingStream;
use super::pool::Pool;
use super::request::{Connection, Plan};
use super::stream::PodStream;
use crate::admission::{Admitted, Connected, Level};
use crate::balance::InFlight;
use crate::routing::{Admission, WebSocketPolicy};
use crate::websocket::handshake::Accept;
use crate::websocket::{Cause, Outcome, Relay, RelayConfig, TunnelGuard, TunnelInfo, relay};

/// The pod's side of a tunnel whose 101 is on its way to the client.
#[derive(Debug)]
pub struct Handover {
    pod: PodStream,
    pod_prefix: Bytes,
    in_flight: InFlight<Pool>,
    counted: Counted,
    /// In the table from here on: whoever drains it misses no tunnel between two steps.
    record: TunnelGuard,
    policy: Arc<WebSocketPolicy>,
    /// For the access log; `None` = no line is wanted.
    labels: Option<TunnelLabels>,
    /// Over HTTP/2: the connection that the tunnel is a stream of.
    http2: Option<OpenTunnel>,
}

/// What a tunnel is counted on until it ends.
#[derive(Debug)]
struct Counted {
    _admitted: Admitted,
    /// The client's connection goes on as the tunnel, or for as long.
    _connected: Arc<Connected>,
}

/// Opens a WebSocket to a pod. An answer other than 101 is an ordinary one. `stream` is the
/// client's over HTTP/2; without one its socket is waited for in its connection.
///
/// # Errors
/// As with any request, and where a 101 does not complete the handshake (RFC 6455 §4.1).
pub async fn open(
    connection: &Connection,
    plan: &Plan,
    mut request: Request<RequestBody>,
    accept: &Accept,
    stream: Option<PendingStream>,
) -> Result<Forwarded, ProxyError> {
    let began = Instant::now();
    let bounds = plan.admission.as_deref().unwrap_or(&Admission::DEFAULT);
    if connection.proxy.overload.level() > Level::Normal {
        return Err(connection.ledger.overloaded().into());
    }
    let admitted = connection
        .ledger
        .admit(connection.hop.client.ip(), bounds)?;
    let headers = request.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(policy) = &plan.websocket {
        offer(policy, headers);
    }
    let request_id: Box<str> = text(headers, &X_REQUEST_ID).into();
    let labels = connection.proxy.access_log.is_on().then(|| TunnelLabels {
        request_id: request_id.clone(),
        host: text(request.headers(), &header::HOST).into(),
        path: request.uri().path().into(),
    });
    let forwarded = connection
        .in_time(
            plan,
            forward(
                &connection.proxy,
                plan,
                request,
                Attempts::Fresh(&connection.ledger),
            ),
        )
        .await?;
    let refused = ProxyError::new(Reason::PodUpgrade);
    match forwarded.response.status() {
        StatusCode::SWITCHING_PROTOCOLS => {}
        // An answer to a GET; over HTTP/2 the client would read it as success (RFC 8441 §5).
        status if status.is_success() && stream.is_some() => return Err(refused),
        _ => return Ok(forwarded),
    }
    let mut pod = forwarded.connection.ok_or(refused)?;
    if !accept.completes(forwarded.response.headers()) {
        return Err(refused);
    }
    // hyper lets go of the pod's socket at once, or something is wrong with it.
    let released = poll_fn(|cx| {
        pod.drive(cx);
        if pod.has_ended() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    tokio::time::timeout(plan.connect_timeout, released)
        .await
        .map_err(|_| refused)?;
    let (pod, pod_prefix) = pod.into_stream();
    connection
        .proxy
        .metrics
        .websocket_handshakes
        .observe(began.elapsed());
    let endpoint = Arc::clone(forwarded.in_flight.endpoint());
    let record = connection.proxy.tunnels.open(TunnelInfo {
        route: Arc::clone(&plan.route.id),
        listener: Arc::clone(&connection.listener),
        upstream: Arc::clone(&plan.upstream.id),
        endpoint: endpoint.address,
        client: connection.hop.client,
        http_version: match stream {
            None => Version::HTTP_11,
            Some(_) => Version::HTTP_2,
        },
        request_id: Some(request_id),
    });
    let handover = Handover {
        pod,
        pod_prefix,
        in_flight: forwarded.in_flight,
        counted: Counted {
            _admitted: admitted,
            _connected: Arc::clone(&connection.connected),
        },
        record,
        policy: plan.websocket.clone().unwrap_or_default(),
        labels,
        http2: stream.is_some().then(|| connection.clock.tunnel_opened()),
    };
    match stream {
        None => connection.hand_over(handover),
        Some(stream) => {
            let proxy = Arc::clone(&connection.proxy);
            // Even where the client has reset its stream meanwhile: the pod has a WebSocket, and
            // is told how it ends.
            connection.proxy.tasks.spawn(async move {
                let client = stream.open().await;
                spawn_tunnel(&proxy, handover, client, Bytes::new());
            });
        }
    }
    Ok(Forwarded {
        response: forwarded.response,
        connection: None,
        in_flight: InFlight::new(endpoint),
    })
}

/// Leaves of the client's subprotocols those that the policy names, in the client's order.
fn offer(policy: &WebSocketPolicy, headers: &mut HeaderMap) {
    let Some(names) = &policy.subprotocols else {
        return;
    };
    let Entry::Occupied(offered) = headers.entry(header::SEC_WEBSOCKET_PROTOCOL) else {
        return;
    };
    let allowed: Vec<&str> = offered
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| names.iter().any(|allowed| **allowed == **name))
        .collect();
    match HeaderValue::from_str(&allowed.join(", ")) {
        Ok(allowed) if !allowed.is_empty() => {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, allowed);
        }
        _ => {
            offered.remove();
        }
    }
}

/// Starts the relay between a client's socket, which hyper has let go of, and the pod's.
pub fn spawn_tunnel<C>(proxy: &Arc<Proxy>, handover: Handover, client: C, client_prefix: Bytes)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Handover {
        pod,
        pod_prefix,
        in_flight,
        counted,
        record,
        policy,
        labels,
        http2,
    } = handover;
    let end = End {
        _in_flight: in_flight,
        _counted: counted,
        line: labels.map(|labels| {
            Box::new(Line {
                proxy: Arc::clone(proxy),
                info: record.info().clone(),
                labels,
            })
        }),
        http2,
    };
    let config = RelayConfig::from(&*policy);
    // One type for each pair of transports: a plain tunnel does not carry the size of a TLS one.
    match pod {
        PodStream::Plain(pod) => {
            let relay = relay(client, client_prefix, pod, pod_prefix, record, config);
            spawn(proxy, relay, end);
        }
        PodStream::Tls(pod) => {
            let relay = relay(client, client_prefix, pod, pod_prefix, record, config);
            spawn(proxy, relay, end);
        }
    }
}

fn spawn<C, P>(proxy: &Proxy, relay: Relay<C, P>, end: End)
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    P: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    proxy.tasks.spawn(Tunnel { relay, end });
}

/// A relay and what happens when it ends. Written by hand, as an `async` block would hold the
/// relay twice.
struct Tunnel<C, P> {
    relay: Relay<C, P>,
    end: End,
}

struct End {
    _in_flight: InFlight<Pool>,
    _counted: Counted,
    line: Option<Box<Line>>,
    http2: Option<OpenTunnel>,
}

struct Line {
    proxy: Arc<Proxy>,
    info: TunnelInfo,
    labels: TunnelLabels,
}

impl<C, P> Future for Tunnel<C, P>
where
    C: AsyncRead + AsyncWrite + Unpin,
    P: AsyncRead + AsyncWrite + Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        Pin::new(&mut this.relay).poll(cx).map(|outcome| {
            if let Some(line) = this.end.line.take() {
                line.write(&outcome);
            }
            if outcome.cause == Cause::ClientGone
                && let Some(connection) = &this.end.http2
            {
                connection.was_reset();
            }
        })
    }
}

impl Line {
    fn write(self, outcome: &Outcome) {
        let Self {
            proxy,
            info,
            labels,
        } = self;
        proxy.access_log.tunnel(TunnelEntry {
            time: SystemTime::now() - outcome.duration,
            duration: outcome.duration,
            client: info.client,
            protocol: info.protocol(),
            listener: info.listener,
            labels,
            route: info.route,
            upstream: info.upstream,
            endpoint: info.endpoint,
            cause: outcome.cause.as_str(),
            by: outcome.by.as_str(),
            close_code: outcome.code,
            bytes_from_client: outcome.from_client.bytes,
            bytes_from_pod: outcome.from_pod.bytes,
            messages_from_client: outcome.from_client.messages(),
            messages_from_pod: outcome.from_pod.messages(),
        });
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("")
}
