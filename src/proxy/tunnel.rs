//! From a handshake to a tunnel.
//!
//! ```text
//! request ─▶ pod answers 101 ─▶ handover waits in the connection ─▶ 101 to the client
//!                                        hyper lets go of the socket ─▶ relay, in a task of its own
//! ```
//!
//! The task of the client's connection ends then, and with it hyper's buffers: what is left of a
//! tunnel is two sockets, a relay and its record in the table.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::header::Entry;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Proxy;
use super::access_log::{TunnelEntry, TunnelLabels};
use super::body::RequestBody;
use super::error::{ProxyError, Reason};
use super::forward::{Attempts, Forwarded, forward};
use super::headers::X_REQUEST_ID;
use super::pool::Pool;
use super::request::{Connection, Plan};
use super::stream::{ClientTransport, PodStream};
use crate::balance::InFlight;
use crate::routing::WebSocketPolicy;
use crate::websocket::handshake::Accept;
use crate::websocket::{Outcome, Relay, RelayConfig, Traffic, TunnelGuard, TunnelInfo, relay};

/// The pod's side of a tunnel whose 101 is on its way to the client.
#[derive(Debug)]
pub struct Handover {
    pod: PodStream,
    pod_prefix: Bytes,
    in_flight: InFlight<Pool>,
    /// In the table from here on: whoever drains it misses no tunnel between two steps.
    record: TunnelGuard,
    policy: Arc<WebSocketPolicy>,
    /// For the access log; `None` = no line is wanted.
    labels: Option<TunnelLabels>,
}

/// Opens a WebSocket to a pod. An answer other than 101 is an ordinary one.
///
/// # Errors
/// As with any request, and where a 101 does not complete the handshake (RFC 6455 §4.1).
pub async fn open(
    connection: &Connection,
    plan: &Plan,
    mut request: Request<RequestBody>,
    accept: &Accept,
) -> Result<Forwarded, ProxyError> {
    let began = Instant::now();
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
            forward(&connection.proxy, plan, request, Attempts::Fresh),
        )
        .await?;
    if forwarded.response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(forwarded);
    }
    let refused = ProxyError::new(Reason::PodUpgrade);
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
        request_id: Some(request_id),
    });
    connection.hand_over(Handover {
        pod,
        pod_prefix,
        in_flight: forwarded.in_flight,
        record,
        policy: plan.websocket.clone().unwrap_or_default(),
        labels,
    });
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
pub fn spawn_tunnel(
    connection: &Connection,
    handover: Handover,
    client: ClientTransport,
    client_prefix: Bytes,
) {
    let Handover {
        pod,
        pod_prefix,
        in_flight,
        record,
        policy,
        labels,
    } = handover;
    let proxy = &connection.proxy;
    let end = End {
        _in_flight: in_flight,
        line: labels.map(|labels| {
            Box::new(Line {
                proxy: Arc::clone(proxy),
                info: record.info().clone(),
                labels,
            })
        }),
    };
    let config = RelayConfig::from(&*policy);
    // One type for each pair of transports: a plain tunnel does not carry the size of a TLS one.
    match (client, pod) {
        (ClientTransport::Plain(client), PodStream::Plain(pod)) => {
            spawn(
                proxy,
                relay(client, client_prefix, pod, pod_prefix, record, config),
                end,
            );
        }
        (ClientTransport::Tls(client), PodStream::Plain(pod)) => {
            spawn(
                proxy,
                relay(client, client_prefix, pod, pod_prefix, record, config),
                end,
            );
        }
        (ClientTransport::Plain(client), PodStream::Tls(pod)) => {
            spawn(
                proxy,
                relay(client, client_prefix, pod, pod_prefix, record, config),
                end,
            );
        }
        (ClientTransport::Tls(client), PodStream::Tls(pod)) => {
            spawn(
                proxy,
                relay(client, client_prefix, pod, pod_prefix, record, config),
                end,
            );
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
    line: Option<Box<Line>>,
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
            messages_from_client: messages(&outcome.from_client),
            messages_from_pod: messages(&outcome.from_pod),
        });
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("")
}

fn messages(traffic: &Traffic) -> u64 {
    traffic.text + traffic.binary
}
