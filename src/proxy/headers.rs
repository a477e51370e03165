//! Headers on their way: hop-by-hop fields go, forwarding fields come.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};

use crate::routing::Protocol;

/// Fields of one hop (RFC 9110 §7.6.1), and fields that a proxy must not pass on: `HTTP2-Settings`
/// and `Upgrade` ask for other protocols. `Transfer-Encoding` is hyper's to write. `Trailer` stays:
/// it is end to end.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "transfer-encoding"
            | "upgrade"
            | "te"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "keep-alive"
            | "proxy-connection"
            | "http2-settings"
    )
}

/// Fields of a request that end here. 100-continue is between the client and us: hyper answers it
/// when the body is asked for. `Proxy` is read as an environment variable by CGI programs
/// (CVE-2016-5385).
fn ends_here(name: &str) -> bool {
    is_hop_by_hop(name) || matches!(name, "expect" | "proxy") || is_forwarding(name.as_bytes())
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// The id that ties a client's error page to log lines here and in the pod.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Fields that a sender could name in `Connection` to have them taken out, to the harm of the
/// next hop. They stay whatever is named.
const NOT_NOMINABLE: [HeaderName; 5] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::AUTHORIZATION,
    header::COOKIE,
    header::CACHE_CONTROL,
];

/// Removes the fields of one hop, those that any `Connection` line names included.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    remove(headers, is_hop_by_hop);
}

/// Removes what a `Connection` line names, and the fields that `is_unwanted`. One walk over the
/// names that are there: looking up each unwanted name costs ten hashes for a request that has
/// none of them.
fn remove(headers: &mut HeaderMap, is_unwanted: impl Fn(&str) -> bool) {
    if headers.contains_key(header::CONNECTION) {
        // There may be several lines, and removing one ends the borrow: collect first.
        let nominated: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|token| {
                let token = token.trim();
                // The two usual tokens name no field; do not build names for them.
                if token.is_empty()
                    || token.eq_ignore_ascii_case("keep-alive")
                    || token.eq_ignore_ascii_case("close")
                {
                    return None;
                }
                HeaderName::from_bytes(token.as_bytes()).ok()
            })
            .filter(|name| !NOT_NOMINABLE.contains(name))
            .collect();
        for name in nominated {
            headers.remove(name);
        }
    }
    let unwanted: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_unwanted(name.as_str()))
        .cloned()
        .collect();
    for name in unwanted {
        headers.remove(name);
    }
}

/// Where requests of a connection come in, with the fields that say so, made once.
#[derive(Clone, Debug)]
pub struct Hop {
    /// Address of the client's socket.
    pub client: SocketAddr,
    protocol: Protocol,
    address: HeaderValue,
    port: HeaderValue,
    target_port: u16,
}

impl Hop {
    /// A connection of `client` to a listener with this protocol, on this port of ours, which
    /// clients know as `port`.
    #[must_use]
    pub fn new(client: SocketAddr, protocol: Protocol, port: u16, target_port: u16) -> Self {
        Self {
            target_port,
            client,
            protocol,
            address: address(client.ip()),
            port: HeaderValue::from(port),
        }
    }

    /// Whether it is a connection to this port of ours, with this protocol.
    #[must_use]
    pub fn is_to(&self, protocol: Protocol, target_port: u16) -> bool {
        self.protocol == protocol && self.target_port == target_port
    }
}

/// Makes a request's headers ready for the pod: hop-by-hop fields out, forwarding fields set.
///
/// `X-Forwarded-*`, `X-Real-IP` and `Forwarded` (RFC 7239) of the client are replaced or removed,
/// not extended: anyone can write them, and pods believe them.
pub fn prepare_request(headers: &mut HeaderMap, hop: &Hop, request_id: &HeaderValue) {
    // RFC 9110 §10.1.4: `TE: trailers` is the one value that a proxy which passes trailers on may
    // state for itself; gRPC-like clients need it.
    let trailers = headers.get_all(header::TE).iter().any(|value| {
        value.to_str().is_ok_and(|value| {
            value
                .split(',')
                .any(|te| te.trim().eq_ignore_ascii_case("trailers"))
        })
    });
    remove(headers, ends_here);
    // Growing once costs less than twice.
    headers.reserve(8);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    headers.insert(X_REAL_IP, hop.address.clone());
    headers.insert(X_FORWARDED_FOR, hop.address.clone());
    headers.insert(
        X_FORWARDED_PROTO,
        HeaderValue::from_static(hop.protocol.scheme()),
    );
    headers.insert(X_FORWARDED_PORT, hop.port.clone());
    if let Some(host) = headers.get(header::HOST).filter(|host| !host.is_empty()) {
        let host = host.clone();
        headers.insert(X_FORWARDED_HOST, host);
    }
    headers.insert(X_REQUEST_ID, request_id.clone());
}

/// Makes the trailers of a request ready for the pod: some servers merge them with the head.
pub fn prepare_trailers(trailers: &mut HeaderMap) {
    remove(trailers, ends_here);
}

/// What a client says about where it comes from, in every spelling: to pods behind CGI or WSGI
/// `X_Forwarded_For` and `X-Forwarded-For` are one variable.
fn is_forwarding(name: &[u8]) -> bool {
    if !matches!(name.first(), Some(b'f' | b'x')) {
        return false;
    }
    let starts_as = |field: &str| {
        name.get(..field.len()).is_some_and(|start| {
            let same = |(&a, b): (&u8, u8)| a == b || (a == b'_' && b == b'-');
            start.iter().zip(field.bytes()).all(same)
        })
    };
    let is = |field: &str| name.len() == field.len() && starts_as(field);
    is("forwarded") || is("x-real-ip") || is("x-request-id") || starts_as("x-forwarded-")
}

/// Makes a response's headers ready for the client.
pub fn prepare_response(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    if let Entry::Vacant(server) = headers.entry(header::SERVER) {
        server.insert(HeaderValue::from_static("holdfast"));
    }
}

/// The id of a request: the client's if it has a sane one, else a new one.
#[must_use]
pub fn request_id(headers: &HeaderMap) -> HeaderValue {
    const LONGEST: usize = 128;
    headers
        .get(X_REQUEST_ID)
        .filter(|id| {
            (1..=LONGEST).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
        })
        .cloned()
        .unwrap_or_else(new_request_id)
}

/// 128 random bits in hexadecimal, the form of ingress-nginx.
#[must_use]
pub fn new_request_id() -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'0'; 32];
    let mut bits = fastrand::u128(..);
    for byte in &mut text {
        *byte = DIGITS.get((bits & 15) as usize).copied().unwrap_or(b'0');
        bits >>= 4;
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

/// An address as a header value; IPv4-mapped addresses of dual-stack sockets as IPv4.
fn address(ip: IpAddr) -> HeaderValue {
    HeaderValue::from_str(&ip.to_canonical().to_string())
        .unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// RFC 9113 §8.2.3: cookies that HTTP/2 has split are one field in HTTP/1.1.
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    if cookies.next().is_none() || cookies.next().is_none() {
        return;
    }
    let joined: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&joined.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_str(value).unwrap())
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn every_connection_line_counts() {
        let mut headers = map(&[
            ("connection", "keep-alive, X-One"),
            ("connection", "x-two"),
            ("keep-alive", "timeout=5"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("te", "gzip"),
        ]);
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("x-three", "3")]));
    }

    #[test]
    fn what_guards_the_pod_cannot_be_nominated_away() {
        let mut headers = map(&[
            ("connection", "host, cookie, authorization, x-forwarded-for"),
            ("host", "a"),
            ("cookie", "b"),
            ("authorization", "c"),
            ("x-forwarded-for", "6.6.6.6"),
        ]);
        let client = "[::ffff:192.0.2.1]:4000".parse().unwrap();
        let hop = Hop::new(client, Protocol::Https, 443, 443);
        prepare_request(&mut headers, &hop, &HeaderValue::from_static("id"));
        let expected = map(&[
            ("host", "a"),
            ("cookie", "b"),
            ("authorization", "c"),
            ("x-real-ip", "192.0.2.1"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-host", "a"),
            ("x-request-id", "id"),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn request_ids_are_kept_if_sane() {
        let id = |value: &str| request_id(&map(&[("x-request-id", value)]));
        assert_eq!(id("abc-1"), "abc-1");
        assert_ne!(id("a b"), "a b");
        assert_eq!(id(&"x".repeat(129)).len(), 32);
        assert_ne!(new_request_id(), new_request_id());
    }
}
