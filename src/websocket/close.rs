//! Why a tunnel ends, and what each peer is told.
//!
//! | cause | told to the client | told to the pod |
//! |---|---|---|
//! | the peers closed | the pod's own code | the client's own code |
//! | client gone without a Close | – | 1001 |
//! | pod gone without a Close | 1011 | – |
//! | client broke the protocol | 1002 | 1001 |
//! | pod broke the protocol | 1011 | 1002 |
//! | client does not answer pings | 1001 | 1001 |
//! | pod does not answer pings | 1011 | 1001 |
//! | client sends a message or frame that is too big | 1009 | 1001 |
//! | client sends too fast | 1008 | 1001 |
//! | idle, shutdown, listener or route removed, operator | 1001 | 1001 |
//! | drain, rebalancing, age | 1012 | 1012 |
//!
//! A peer that has already sent a Close is answered with the code that it sent, whatever the
//! cause, as an endpoint would (RFC 6455 §5.5.1). A pod that dies is 1011 and not 1014 (bad
//! gateway), which would say more: 1014 is newer than RFC 6455, and strict clients treat it as a
//! protocol error.

use std::fmt;

/// "Going away" (RFC 6455 §7.4.1).
const GOING_AWAY: u16 = 1001;
/// "Protocol error" (RFC 6455 §7.4.1).
const PROTOCOL_ERROR: u16 = 1002;
/// "Policy violation" (RFC 6455 §7.4.1).
const POLICY_VIOLATION: u16 = 1008;
/// "Message too big" (RFC 6455 §7.4.1).
const TOO_BIG: u16 = 1009;
/// "Unexpected condition" (RFC 6455 §7.4.1).
const INTERNAL_ERROR: u16 = 1011;
/// "Service restart" (IANA registry): reconnect at once.
const SERVICE_RESTART: u16 = 1012;

/// One of the two peers of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// Who connected to us.
    Client,
    /// Whom we connected to.
    Pod,
}

impl Side {
    /// The other peer.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Pod,
            Self::Pod => Self::Client,
        }
    }
}

/// Why a tunnel ended. The first cause counts; what follows from it does not change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// The client went (end of stream or error) without a Close frame.
    ClientGone,
    /// The tunnel was drained: its endpoint or its place in this proxy goes away, and the client
    /// should reconnect at once.
    Drain,
    /// The relay was dropped before it had ended, as when the process does not wait for it.
    Dropped,
    /// Neither peer sent anything for the idle timeout.
    Idle,
    /// A peer did not answer our pings in time.
    KeepaliveTimeout,
    /// The listener that took the connection is no longer configured.
    ListenerRemoved,
    /// It was open for as long as it may be; the client should reconnect at once.
    MaxAge,
    /// The client sent a message or frame larger than it may be.
    MessageTooBig,
    /// An operator ended it.
    Operator,
    /// One of the peers sent a Close frame.
    PeerClosed,
    /// The pod went (end of stream or error) without a Close frame.
    PodGone,
    /// A peer sent what is not WebSocket framing.
    ProtocolError,
    /// The client sent faster than it may.
    RateExceeded,
    /// Its pod holds more than others, and the client should come back to one of them.
    Rebalance,
    /// The route that it came by is no longer configured.
    RouteRemoved,
    /// The proxy shuts down.
    Shutdown,
}

impl Cause {
    /// All causes, in the order of their numbers.
    const ALL: [Self; 16] = [
        Self::ClientGone,
        Self::Drain,
        Self::Dropped,
        Self::Idle,
        Self::KeepaliveTimeout,
        Self::ListenerRemoved,
        Self::MaxAge,
        Self::MessageTooBig,
        Self::Operator,
        Self::PeerClosed,
        Self::PodGone,
        Self::ProtocolError,
        Self::RateExceeded,
        Self::Rebalance,
        Self::RouteRemoved,
        Self::Shutdown,
    ];

    /// A short fixed name, for logs and metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientGone => "client_gone",
            Self::Drain => "drain",
            Self::Dropped => "dropped",
            Self::Idle => "idle",
            Self::KeepaliveTimeout => "keepalive_timeout",
            Self::ListenerRemoved => "listener_removed",
            Self::MaxAge => "max_age",
            Self::MessageTooBig => "message_too_big",
            Self::Operator => "operator",
            Self::PeerClosed => "peer_closed",
            Self::PodGone => "pod_gone",
            Self::ProtocolError => "protocol_error",
            Self::RateExceeded => "rate_exceeded",
            Self::Rebalance => "rebalance",
            Self::RouteRemoved => "route_removed",
            Self::Shutdown => "shutdown",
        }
    }

    /// The code told to `side`; `by` is who caused it.
    #[must_use]
    pub fn code(self, side: Side, by: By) -> u16 {
        match self {
            Self::Drain | Self::MaxAge | Self::Rebalance => SERVICE_RESTART,
            Self::ProtocolError if by == By::from(side) => PROTOCOL_ERROR,
            Self::MessageTooBig if side == Side::Client => TOO_BIG,
            Self::RateExceeded if side == Side::Client => POLICY_VIOLATION,
            Self::KeepaliveTimeout if side == Side::Client && by == By::Pod => INTERNAL_ERROR,
            Self::ProtocolError | Self::PodGone if side == Side::Client => INTERNAL_ERROR,
            Self::ClientGone
            | Self::Dropped
            | Self::Idle
            | Self::KeepaliveTimeout
            | Self::ListenerRemoved
            | Self::MessageTooBig
            | Self::Operator
            | Self::PeerClosed
            | Self::PodGone
            | Self::ProtocolError
            | Self::RateExceeded
            | Self::RouteRemoved
            | Self::Shutdown => GOING_AWAY,
        }
    }

    /// The reason told to the peers, for people who read logs.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::ClientGone => "client gone",
            Self::Drain => "draining, please reconnect",
            Self::Dropped => "",
            Self::Idle => "idle timeout",
            Self::KeepaliveTimeout => "no answer to pings",
            Self::ListenerRemoved => "listener removed",
            Self::MaxAge => "age limit, please reconnect",
            Self::MessageTooBig => "message too big",
            Self::Operator => "closed by operator",
            Self::PeerClosed => "peer closed",
            Self::PodGone => "backend gone",
            Self::ProtocolError => "protocol error",
            Self::RateExceeded => "too many messages",
            Self::Rebalance => "rebalancing, please reconnect",
            Self::RouteRemoved => "route removed",
            Self::Shutdown => "proxy shutting down",
        }
    }

    /// A number above 0, for an atomic in which 0 means none.
    pub(super) fn to_number(self) -> u8 {
        self as u8 + 1
    }

    /// The inverse of [`Cause::to_number`].
    pub(super) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }
}

/// Who ended a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum By {
    /// The client closed, went or broke the protocol.
    Client,
    /// The pod closed, went or broke the protocol.
    Pod,
    /// We did.
    Proxy,
}

impl By {
    /// A short fixed name, for logs and metric labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Pod => "pod",
            Self::Proxy => "proxy",
        }
    }
}

impl From<Side> for By {
    fn from(side: Side) -> Self {
        match side {
            Side::Client => Self::Client,
            Side::Pod => Self::Pod,
        }
    }
}

/// How a tunnel ended: one label set of the counter of closed tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ending {
    /// Why.
    pub cause: Cause,
    /// Who began it.
    pub by: By,
    /// With which Close code: the peer's own where a peer closed, else the one that we told.
    pub code: CloseCode,
}

/// A Close code as a metric label: peers may send any of 65,536, and a label must have few values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CloseCode {
    /// No Close frame, or one without a code.
    None,
    /// A registered code, 1000 to 1015.
    Registered(u16),
    /// 3000 to 3999: libraries and frameworks.
    Library,
    /// 4000 to 4999: the application's own.
    Private,
    /// Anything else; not valid.
    Invalid,
}

impl From<Option<u16>> for CloseCode {
    fn from(code: Option<u16>) -> Self {
        match code {
            None => Self::None,
            Some(code @ 1000..=1015) => Self::Registered(code),
            Some(3000..=3999) => Self::Library,
            Some(4000..=4999) => Self::Private,
            Some(_) => Self::Invalid,
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Registered(code) => code.fmt(f),
            Self::Library => f.write_str("3xxx"),
            Self::Private => f.write_str("4xxx"),
            Self::Invalid => f.write_str("invalid"),
        }
    }
}

/// The code with which a Close frame of code `received` is answered: the same, or 1002 where that
/// is not one that an endpoint may send (RFC 6455 §7.4).
pub(super) fn answer(received: Option<u16>) -> Option<u16> {
    match received {
        Some(1000..=1003 | 1007..=1014 | 3000..=4999) | None => received,
        Some(_) => Some(PROTOCOL_ERROR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_survive_their_numbers() {
        for cause in Cause::ALL {
            assert_eq!(Cause::from_number(cause.to_number()), Some(cause));
        }
        assert_eq!(Cause::from_number(0), None);
        assert_eq!(Cause::from_number(200), None);
    }

    #[test]
    fn the_culprit_is_told_1002_and_the_other_is_not() {
        let cause = Cause::ProtocolError;
        assert_eq!(cause.code(Side::Client, By::Client), 1002);
        assert_eq!(cause.code(Side::Pod, By::Client), 1001);
        assert_eq!(cause.code(Side::Pod, By::Pod), 1002);
        assert_eq!(cause.code(Side::Client, By::Pod), 1011);
        assert_eq!(Cause::PodGone.code(Side::Client, By::Pod), 1011);
        assert_eq!(Cause::ClientGone.code(Side::Pod, By::Client), 1001);
    }

    #[test]
    fn codes_that_may_not_be_sent_are_not_echoed() {
        assert_eq!(answer(Some(1000)), Some(1000));
        assert_eq!(answer(Some(4711)), Some(4711));
        assert_eq!(answer(None), None);
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            assert_eq!(answer(Some(code)), Some(1002));
        }
    }

    #[test]
    fn labels_are_few() {
        let labels: std::collections::BTreeSet<CloseCode> =
            (0..=u16::MAX).map(|code| Some(code).into()).collect();
        assert_eq!(labels.len(), 16 + 3);
    }
}
