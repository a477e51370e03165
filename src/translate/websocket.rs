//! Policy for WebSockets, as a listener or a rule declares it.

use std::sync::Arc;

use super::finding::{Notes, Reason};
use crate::api::{self, ByteSize, GatewayDuration};
use crate::routing::{
    Keepalive, MaxAge, MessageLimits, Origins, WebSocketOverrides, WebSocketPolicy,
};

/// What is declared at `field`; what is not leaves what it goes before.
pub(super) fn websocket(
    declared: Option<&api::WebSocket>,
    field: &str,
    notes: &mut Notes,
) -> WebSocketOverrides {
    let Some(declared) = declared else {
        return WebSocketOverrides::default();
    };
    WebSocketOverrides {
        idle_timeout: declared.idle_timeout.map(not_zero),
        keepalive: declared
            .keepalive
            .map(|declared| keepalive(declared, field, notes)),
        max_age: declared
            .max_age
            .map(|declared| max_age(declared, field, notes)),
        limits: declared.limits.map(limits),
        origins: declared
            .origins
            .as_deref()
            .map(|declared| origins(declared, field, notes)),
        subprotocols: declared
            .subprotocols
            .as_deref()
            .map(|declared| subprotocols(declared, field, notes)),
    }
}

fn keepalive(declared: api::Keepalive, field: &str, notes: &mut Notes) -> Option<Keepalive> {
    let interval = not_zero(declared.interval)?;
    let timeout = match declared.timeout.map(not_zero) {
        None => Keepalive::TIMEOUT,
        Some(Some(timeout)) => timeout,
        Some(None) => {
            notes.error(
                Reason::SpecInvalid,
                format!("{field}.keepalive.timeout"),
                "this timeout must be longer than 0s; 10s is used".to_owned(),
            );
            Keepalive::TIMEOUT
        }
    };
    let peers = declared.peers.unwrap_or_default();
    Some(Keepalive {
        interval,
        timeout,
        client: peers != api::KeepalivePeers::Pod,
        pod: peers != api::KeepalivePeers::Client,
    })
}

fn max_age(declared: api::MaxAge, field: &str, notes: &mut Notes) -> Option<MaxAge> {
    let duration = not_zero(declared.duration)?;
    let mut jitter_percent = declared.jitter_percent.unwrap_or(MaxAge::JITTER_PERCENT);
    if jitter_percent > 100 {
        notes.error(
            Reason::SpecInvalid,
            format!("{field}.maxAge.jitterPercent"),
            format!("{jitter_percent} is more than 100; 100 is used"),
        );
        jitter_percent = 100;
    }
    Some(MaxAge {
        duration,
        jitter_percent,
    })
}

fn limits(declared: api::WebSocketLimits) -> MessageLimits {
    let size = |size: Option<ByteSize>| size.map(|size| size.0).filter(|size| *size > 0);
    MessageLimits {
        message_size: size(declared.message_size),
        frame_size: size(declared.frame_size),
        messages_per_second: declared.messages_per_second.filter(|rate| *rate > 0),
        bytes_per_second: size(declared.bytes_per_second),
        closes: declared.enforce == Some(api::Enforce::Close),
    }
}

/// What cannot be read admits nobody, so that a mistyped list does not admit all.
fn origins(declared: &[String], field: &str, notes: &mut Notes) -> Arc<[Origins]> {
    let mut origins = Vec::new();
    for (index, text) in declared.iter().enumerate() {
        match Origins::parse(text) {
            Ok(origin) => origins.push(origin),
            Err(why) => notes.error(
                Reason::SpecInvalid,
                format!("{field}.origins[{index}]"),
                format!("{text:?}: {why}; it admits nobody"),
            ),
        }
    }
    origins.into()
}

/// Names are tokens (RFC 6455 §4.1).
fn subprotocols(declared: &[String], field: &str, notes: &mut Notes) -> Arc<[Box<str>]> {
    let mut names = Vec::new();
    for (index, name) in declared.iter().enumerate() {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if !name.is_empty() && name.bytes().all(is_token) {
            names.push(name.as_str().into());
        } else {
            notes.error(
                Reason::SpecInvalid,
                format!("{field}.subprotocols[{index}]"),
                format!("{name:?} is not the name of a subprotocol, which has no spaces and no commas; it is left out"),
            );
        }
    }
    names.into()
}

/// `0s` = never, or none.
fn not_zero(GatewayDuration(duration): GatewayDuration) -> Option<std::time::Duration> {
    (!duration.is_zero()).then_some(duration)
}

/// A policy as the API writes it, defaults included; what is absent has no bound.
#[must_use]
pub(crate) fn in_force(policy: &WebSocketPolicy) -> api::WebSocket {
    let WebSocketPolicy {
        idle_timeout,
        keepalive,
        max_age,
        limits,
        origins,
        subprotocols,
    } = policy;
    api::WebSocket {
        idle_timeout: Some(GatewayDuration(idle_timeout.unwrap_or_default())),
        keepalive: keepalive.map(|keepalive| api::Keepalive {
            interval: GatewayDuration(keepalive.interval),
            timeout: Some(GatewayDuration(keepalive.timeout)),
            peers: Some(match (keepalive.client, keepalive.pod) {
                (true, false) => api::KeepalivePeers::Client,
                (false, true) => api::KeepalivePeers::Pod,
                _ => api::KeepalivePeers::Both,
            }),
        }),
        max_age: max_age.map(|age| api::MaxAge {
            duration: GatewayDuration(age.duration),
            jitter_percent: Some(age.jitter_percent),
        }),
        limits: (limits.bounds_sizes() || limits.bounds_rates()).then(|| api::WebSocketLimits {
            message_size: limits.message_size.map(ByteSize),
            frame_size: limits.frame_size.map(ByteSize),
            messages_per_second: limits.messages_per_second,
            bytes_per_second: limits.bytes_per_second.map(ByteSize),
            enforce: limits.bounds_rates().then_some(if limits.closes {
                api::Enforce::Close
            } else {
                api::Enforce::Backpressure
            }),
        }),
        origins: origins
            .as_ref()
            .map(|origins| origins.iter().map(ToString::to_string).collect()),
        subprotocols: subprotocols
            .as_ref()
            .map(|names| names.iter().map(ToString::to_string).collect()),
    }
}
