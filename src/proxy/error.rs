//! What can go wrong with a request, as data: whose fault, why, and whether another try is safe.

use std::fmt;

use http::StatusCode;

use crate::admission::{Bound, Refusal};
use crate::routing::Unavailable;
use crate::routing::path::InvalidPath;

/// A request that the proxy answers itself. One place maps it to status, metric label and text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyError {
    /// Whose fault it is.
    pub side: Side,
    /// Why.
    pub reason: Reason,
    /// Whether another try is safe.
    pub retry: Retry,
    /// For `Retry-After`, in seconds; 0 = nothing is known.
    pub retry_after: u16,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client's.
    Client,
    /// The configuration's.
    Config,
    /// The pod's.
    Pod,
    /// Ours: we do not take more.
    Proxy,
}

/// Whether another try is safe (RFC 9110 §9.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The request may have been acted upon, or another try would end the same.
    No,
    /// Nothing of the request was sent: any other endpoint may be tried.
    BeforeSend,
    /// A connection that had served requests before ended without a byte of the answer: most
    /// likely the pod closed it as idle. Safe on a fresh one if the request can be repeated.
    Reused,
}

/// Why a request is not served by a pod. A closed set: it is a metric label and stands in logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// HTTP/1.1 without `Host` (RFC 9112 §3.2).
    HostMissing,
    /// More than one `Host`, or one that is not `host[:port]`.
    HostInvalid,
    /// The authority of the target and `Host` differ.
    HostConflict,
    /// See [`InvalidPath`].
    Path(InvalidPath),
    /// `CONNECT`, or a target that is not a path (RFC 9110 §9.3.6: a reverse proxy is no tunnel).
    MethodRefused,
    /// A `Transfer-Encoding` other than `chunked` once (RFC 9112 §6.1).
    TransferEncoding,
    /// A WebSocket handshake that RFC 6455 §4.2.1 does not allow.
    WebSocketHandshake,
    /// A WebSocket version other than 13 (RFC 6455 §4.4).
    WebSocketVersion,
    /// The origin of a handshake is not among those that may open WebSockets (RFC 6455 §10.2).
    WebSocketOrigin,
    /// An extended CONNECT to something other than `websocket` (RFC 8441 §4).
    ProtocolUnknown,
    /// A request over HTTP/2 for a host that is served over HTTP/1.1 alone, on a connection that was
    /// opened for another host (RFC 9110 §15.5.20).
    Misdirected,
    /// No route for the host.
    NoHost,
    /// No route for the path.
    NoPath,
    /// A backend that does not resolve.
    Backend(Unavailable),
    /// All weights of the route are zero.
    NoBackend,
    /// Not admitted: a bound is reached.
    Refused(Bound),
    /// No pod is ready.
    NoEndpoints,
    /// No pod could be connected to.
    ConnectFailed,
    /// No pod accepted the connection in time.
    ConnectTimeout,
    /// The pod closed the connection before it answered.
    PodClosed,
    /// The pod's answer is not HTTP, or could be read in two ways.
    PodProtocol,
    /// The pod switched protocols without being asked, or not to what was asked (RFC 6455 §4.1).
    PodUpgrade,
    /// The pod did not answer in time.
    RequestTimeout,
    /// The client did not finish its request in time.
    ClientTimeout,
    /// The client's body ended early or is malformed.
    ClientBody,
}

impl ProxyError {
    /// An error for which another try makes no sense.
    #[must_use]
    pub fn new(reason: Reason) -> Self {
        Self {
            side: reason.side(),
            reason,
            retry: Retry::No,
            retry_after: 0,
        }
    }

    /// The same with a retry class.
    #[must_use]
    pub fn with_retry(reason: Reason, retry: Retry) -> Self {
        Self {
            retry,
            ..Self::new(reason)
        }
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self.reason {
            Reason::HostMissing
            | Reason::HostInvalid
            | Reason::HostConflict
            | Reason::Path(_)
            | Reason::TransferEncoding
            | Reason::ClientBody
            | Reason::WebSocketHandshake => StatusCode::BAD_REQUEST,
            Reason::MethodRefused | Reason::ProtocolUnknown => StatusCode::NOT_IMPLEMENTED,
            Reason::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Reason::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Reason::WebSocketOrigin => StatusCode::FORBIDDEN,
            Reason::NoHost | Reason::NoPath => StatusCode::NOT_FOUND,
            // RFC 6585 §4.
            Reason::Refused(bound) if bound.is_of_client() => StatusCode::TOO_MANY_REQUESTS,
            Reason::ClientTimeout => StatusCode::REQUEST_TIMEOUT,
            Reason::Backend(_) | Reason::NoBackend | Reason::NoEndpoints | Reason::Refused(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Reason::ConnectFailed
            | Reason::PodClosed
            | Reason::PodProtocol
            | Reason::PodUpgrade => StatusCode::BAD_GATEWAY,
            Reason::ConnectTimeout | Reason::RequestTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

impl From<Refusal> for ProxyError {
    fn from(refusal: Refusal) -> Self {
        Self {
            retry_after: refusal.retry_after,
            ..Self::new(Reason::Refused(refusal.bound))
        }
    }
}

impl Reason {
    /// The label in metrics and logs, and in the body of the answer.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HostMissing => "host_missing",
            Self::HostInvalid => "host_invalid",
            Self::HostConflict => "host_conflict",
            Self::Path(InvalidPath::DotSegment) => "path_dot_segment",
            Self::Path(InvalidPath::Encoding) => "path_encoding",
            Self::Path(InvalidPath::NotAbsolute) => "path_not_absolute",
            Self::MethodRefused => "method_refused",
            Self::TransferEncoding => "transfer_encoding_refused",
            Self::WebSocketHandshake => "websocket_handshake_invalid",
            Self::WebSocketVersion => "websocket_version",
            Self::WebSocketOrigin => "websocket_origin_refused",
            Self::ProtocolUnknown => "protocol_unknown",
            Self::Misdirected => "misdirected",
            Self::NoHost => "no_route_for_host",
            Self::NoPath => "no_route_for_path",
            Self::Backend(unavailable) => unavailable.as_str(),
            Self::NoBackend => "no_backend_with_weight",
            Self::Refused(bound) => bound.as_str(),
            Self::NoEndpoints => "no_ready_endpoint",
            Self::ConnectFailed => "pod_connect_failed",
            Self::ConnectTimeout => "pod_connect_timeout",
            Self::PodClosed => "pod_closed",
            Self::PodProtocol => "pod_protocol_error",
            Self::PodUpgrade => "pod_upgrade_invalid",
            Self::RequestTimeout => "pod_response_timeout",
            Self::ClientTimeout => "client_timeout",
            Self::ClientBody => "client_body_invalid",
        }
    }

    fn side(self) -> Side {
        match self {
            Self::HostMissing
            | Self::HostInvalid
            | Self::HostConflict
            | Self::Path(_)
            | Self::MethodRefused
            | Self::TransferEncoding
            | Self::WebSocketHandshake
            | Self::WebSocketVersion
            | Self::WebSocketOrigin
            | Self::ProtocolUnknown
            | Self::Misdirected
            | Self::ClientTimeout
            | Self::ClientBody => Side::Client,
            Self::Refused(bound) if bound.is_of_client() => Side::Client,
            Self::Refused(_) => Side::Proxy,
            Self::NoHost | Self::NoPath | Self::Backend(_) | Self::NoBackend => Side::Config,
            Self::NoEndpoints
            | Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::PodClosed
            | Self::PodProtocol
            | Self::PodUpgrade
            | Self::RequestTimeout => Side::Pod,
        }
    }
}

impl Side {
    /// The label in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Config => "config",
            Self::Pod => "pod",
            Self::Proxy => "proxy",
        }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.as_str())
    }
}

impl std::error::Error for ProxyError {}
