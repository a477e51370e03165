//! The admin port's HTTP/1.1 server.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handles::{Handles, Query};

/// Connections at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 128;
/// For a request's head, and for the next request on a kept connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Then a connection ends, even one whose client does not read: nobody may hold a slot that the
/// kubelet's probe needs.
const MAX_AGE: Duration = Duration::from_secs(60);
/// For a request under way when its connection is to end.
const FINISH_TIMEOUT: Duration = Duration::from_secs(3);
/// For a handle to give its data.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait after an accept error such as EMFILE, which would repeat at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn serve(listener: TcpListener, handles: Handles, shutdown: CancellationToken) {
    let handles = Arc::new(handles);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let tasks = TaskTracker::new();
    let accept_all = async {
        // The semaphore is never closed.
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let is_local = peer.ip().to_canonical().is_loopback();
                    let connection =
                        connection(stream, is_local, Arc::clone(&handles), shutdown.clone());
                    tasks.spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed on the admin port");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    shutdown.run_until_cancelled(accept_all).await;
    drop(listener);
    tasks.close();
    // Connections have a deadline of their own.
    tasks.wait().await;
}

async fn connection(
    stream: TcpStream,
    is_local: bool,
    handles: Arc<Handles>,
    shutdown: CancellationToken,
) {
    let service = service_fn(move |request: Request<_>| {
        let handles = Arc::clone(&handles);
        async move {
            // Browsers send an Origin with every POST: a page of somebody else's must not act through
            // the browser of who has a port forwarded here.
            let may_act = is_local && !request.headers().contains_key(ORIGIN);
            let response = answer(request.method(), request.uri(), may_act, &handles).await;
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // `printf … | nc -N` gets its answer too.
        .half_close(true)
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // How a client's connection ends is the client's affair: errors are not news.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(MAX_AGE) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(FINISH_TIMEOUT, connection).await;
}

async fn answer(
    method: &Method,
    uri: &Uri,
    may_act: bool,
    handles: &Handles,
) -> Response<Full<Bytes>> {
    let path = uri.path();
    let is_action = handles.json.get(path).is_some_and(|page| page.is_action);
    if is_action && method != Method::POST {
        return not_allowed("POST");
    }
    if !is_action && !matches!(*method, Method::GET | Method::HEAD) {
        return not_allowed("GET, HEAD");
    }
    if is_action && !may_act {
        let text = "only from this machine, by kubectl exec or kubectl port-forward, and not from a \
                    browser\n";
        return respond(StatusCode::FORBIDDEN, TEXT, text);
    }
    match path {
        "/" => respond(StatusCode::OK, TEXT, handles.index()),
        "/healthz" => respond(StatusCode::OK, TEXT, "ok\n"),
        "/readyz" => {
            let readiness = (handles.ready)();
            if readiness.is_ready() {
                respond(StatusCode::OK, TEXT, "ready\n")
            } else {
                let text = format!("not ready:\n- {}\n", readiness.reasons().join("\n- "));
                respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
            }
        }
        "/metrics" => {
            let metrics = Arc::clone(&handles.metrics);
            read(OPEN_METRICS, move || Ok(Ok(metrics().into_bytes()))).await
        }
        path => match handles.json.get(path) {
            Some(page) => {
                let ask = Arc::clone(&page.ask);
                let query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
                let query: Query = query.into_owned().collect();
                read(JSON, move || {
                    let answer = match ask(&query) {
                        Ok(answer) => answer,
                        Err(wrong) => return Ok(Err(wrong)),
                    };
                    let mut json = serde_json::to_vec_pretty(&answer)?;
                    json.push(b'\n');
                    Ok(Ok(json))
                })
                .await
            }
            None => {
                let text = format!("not here; there are:\n\n{}", handles.index());
                respond(StatusCode::NOT_FOUND, TEXT, text)
            }
        },
    }
}

/// Makes a page where blocking is allowed: a long table must not hold up a probe, and a handle
/// that panics costs one answer.
async fn read(
    media_type: &'static str,
    make: impl FnOnce() -> serde_json::Result<Result<Vec<u8>, String>> + Send + 'static,
) -> Response<Full<Bytes>> {
    let problem = match tokio::time::timeout(READ_TIMEOUT, tokio::task::spawn_blocking(make)).await
    {
        Ok(Ok(Ok(Ok(page)))) => return respond(StatusCode::OK, media_type, page),
        Ok(Ok(Ok(Err(wrong)))) => {
            return respond(StatusCode::BAD_REQUEST, TEXT, format!("{wrong}\n"));
        }
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "timed out".to_owned(),
    };
    tracing::error!(problem, "an admin page could not be made");
    let text = "the page could not be made; the log says why\n";
    respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, text)
}

fn not_allowed(allowed: &'static str) -> Response<Full<Bytes>> {
    let mut response = respond(
        StatusCode::METHOD_NOT_ALLOWED,
        TEXT,
        format!("{allowed} only\n"),
    );
    let headers = response.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn respond(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
