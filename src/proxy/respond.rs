//! Answers of our own.

use http::header::{self, HeaderValue};
use http::{Response, StatusCode, Version};

use super::body::{ResponseBody, Serving};
use super::error::{ProxyError, Reason, Side};
use super::headers::X_REQUEST_ID;

/// The answer to a request that no pod answers: status, a short text that says which error it is,
/// and the request's id.
#[must_use]
pub fn respond(
    error: ProxyError,
    request_id: &HeaderValue,
    version: Version,
    mut serving: Serving,
) -> Response<ResponseBody> {
    let status = match error.reason {
        // 426 says `Upgrade`, which HTTP/2 does not have (RFC 9110 §15.5.22).
        Reason::WebSocketVersion if version >= Version::HTTP_2 => StatusCode::BAD_REQUEST,
        _ => error.status(),
    };
    if let Some(record) = &mut serving.record {
        record.entry.status = status.as_u16();
        record.entry.error = Some(error.reason.as_str());
    }
    let text = format!(
        "{} {}: {}\nrequest id: {}\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        error.reason.as_str(),
        request_id.to_str().unwrap_or("-"),
    );
    let mut response = Response::new(ResponseBody::text(text, serving));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::SERVER, HeaderValue::from_static("holdfast"));
    // The answer depends on a moment's state; nobody may keep it.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_REQUEST_ID, request_id.clone());
    // Jittered, so that clients that were refused together do not come back together (P5).
    let retry_after = match error.retry_after {
        0 if status == StatusCode::SERVICE_UNAVAILABLE => fastrand::u16(1..=5),
        told => told,
    };
    if retry_after > 0 {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
    }
    match error.reason {
        // RFC 6455 §4.4: say which version is spoken.
        Reason::WebSocketVersion => {
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from(13));
            if version < Version::HTTP_2 {
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            }
        }
        Reason::Refused(bound) if bound.is_of_connection() && version < Version::HTTP_2 => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        // What follows a malformed request on the connection cannot be trusted to be a request.
        _ if error.side == Side::Client && version < Version::HTTP_2 => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    response
}
