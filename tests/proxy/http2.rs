//! HTTP/2 with clients, HTTP/1.1 with pods.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use crate::fixture::{edge, front, front_with, within};
use crate::harness::{EDGE, Holdfast};
use crate::pod::{OK, Pod};
use crate::timeouts::impatient;
use crate::tls_client::TlsClient;
use crate::wire::Kind;

type Body = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

fn empty() -> Body {
    Empty::new().boxed()
}

/// A connection whose end can be waited for.
async fn connect(holdfast: &Holdfast) -> (SendRequest<Body>, JoinHandle<hyper::Result<()>>) {
    let client = TlsClient::new(&["h2"]);
    let stream = client
        .connect(holdfast.address("https"), "app.example")
        .await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    (sender, tokio::spawn(connection))
}

fn get(path: &str) -> http::request::Builder {
    Request::get(format!("https://app.example{path}"))
}

async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn requests_reach_pods_as_http_1_1() {
    within(async {
        let pod = Pod::answering(
            "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: x\r\nUpgrade: h2c\r\n\
             Content-Length: 2\r\n\r\nok",
        )
        .await;
        let holdfast = front(&[pod.address]).await;
        let (mut sender, _connection) = connect(&holdfast).await;
        let request = get("/a?b")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("x-request-id", "id")
            .header("x-forwarded-for", "6.6.6.6")
            .body(empty())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers().get("server").unwrap(), "holdfast");
        for name in ["connection", "keep-alive", "upgrade"] {
            assert_eq!(response.headers().get(name), None);
        }
        assert_eq!(text(response).await, "ok");
        let request = pod.request().await;
        assert_eq!(request.line(), "GET /a?b HTTP/1.1");
        assert_eq!(
            request.fields(),
            [
                "cookie: a=1; b=2",
                "host: app.example",
                "x-forwarded-for: 127.0.0.1",
                "x-forwarded-host: app.example",
                "x-forwarded-port: 443",
                "x-forwarded-proto: https",
                "x-real-ip: 127.0.0.1",
                "x-request-id: id",
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn errors_of_ours_are_answers_of_one_stream() {
    within(async {
        let holdfast = front(&[]).await;
        let (mut sender, _connection) = connect(&holdfast).await;
        let ask = |uri: &str| Request::get(uri).body(empty()).unwrap();
        for (uri, status) in [
            ("https://other.example/", 404),
            ("https://app.example/a/../b", 400),
            ("https://app.example/", 503),
            ("https://app..example/", 400),
        ] {
            let response = sender.send_request(ask(uri)).await.unwrap();
            assert_eq!(response.status(), status, "{uri}");
            let id = response.headers().get("x-request-id").cloned().unwrap();
            assert!(text(response).await.contains(id.to_str().unwrap()));
        }
        let differing = get("/")
            .header("host", "other.example")
            .body(empty())
            .unwrap();
        let response = sender.send_request(differing).await.unwrap();
        assert_eq!(response.status(), 400);
        let connect = Request::connect("app.example:443").body(empty()).unwrap();
        let response = sender.send_request(connect).await.unwrap();
        assert_eq!(response.status(), 501);
        sender.ready().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    within(async {
        let pod = Pod::serving(|mut wire, _| async move {
            wire.head().await.unwrap();
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await;
            loop {
                let size = wire.line().await.unwrap();
                let length = usize::from_str_radix(size.trim(), 16).unwrap();
                let chunk = wire.exactly(length + 2).await.unwrap();
                wire.send([size.as_bytes(), &chunk].concat()).await;
                if length == 0 {
                    break;
                }
            }
        })
        .await;
        let holdfast = front(&[pod.address]).await;
        let (mut sender, _connection) = connect(&holdfast).await;
        let (frames, receiver) = tokio::sync::mpsc::channel::<Frame<Bytes>>(1);
        let receiver = futures_util::stream::unfold(receiver, |mut receiver| async {
            let frame = receiver.recv().await?;
            Some((Ok::<_, std::convert::Infallible>(frame), receiver))
        });
        let request = Request::post("https://app.example/")
            .body(BodyExt::boxed(StreamBody::new(SyncStream(Box::pin(
                receiver,
            )))))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let mut body = response.into_body();
        for _ in 0..20 {
            frames
                .send(Frame::data(Bytes::from_static(b"hello")))
                .await
                .unwrap();
            let mut back = Vec::new();
            while back.len() < 5 {
                let frame = body.frame().await.unwrap().unwrap();
                back.extend_from_slice(&frame.into_data().unwrap());
            }
            assert_eq!(back, b"hello");
        }
        drop(frames);
        let rest = body.collect().await.unwrap().to_bytes();
        assert_eq!(rest, Bytes::new());
    })
    .await;
}

/// A stream that is only ever polled by its owner is as good as `Sync`.
struct SyncStream<S>(S);

impl<S: futures_util::Stream + Unpin> futures_util::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        std::pin::Pin::new(&mut self.0).poll_next(cx)
    }
}

#[tokio::test]
async fn a_body_arrives_whole_and_its_length_is_kept() {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = front(&[pod.address]).await;
        let (mut sender, _connection) = connect(&holdfast).await;
        let body = Full::new(Bytes::from_static(b"hello")).boxed();
        let request = Request::post("https://app.example/").body(body).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
        let request = pod.request().await;
        assert_eq!(request.field("content-length"), Some("5"));
        assert_eq!(request.text(), "hello");
    })
    .await;
}

#[tokio::test]
async fn trailers_of_a_pod_arrive() {
    within(async {
        let pod = Pod::answering(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
             2\r\nok\r\n0\r\nX-Sum: pod\r\nKeep-Alive: x\r\n\r\n",
        )
        .await;
        let holdfast = front(&[pod.address]).await;
        let (mut sender, _connection) = connect(&holdfast).await;
        let request = get("/").header("te", "trailers").body(empty()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap();
        let trailers = body.trailers().unwrap();
        assert_eq!(trailers.len(), 1, "{trailers:?}");
        assert_eq!(trailers.get("x-sum").unwrap(), "pod");
        assert_eq!(body.to_bytes(), "ok");
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_dies_in_its_answer_resets_the_stream_alone() {
    within(async {
        let pod = Pod::answering_once("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await;
        let holdfast = front(&[pod.address]).await;
        let (mut sender, _connection) = connect(&holdfast).await;
        for _ in 0..2 {
            // Where the reset comes with the head, the head is lost to this client.
            let request = get("/").body(empty()).unwrap();
            if let Ok(response) = sender.send_request(request).await {
                assert_eq!(response.status(), 200);
                assert!(response.into_body().collect().await.is_err());
            }
            sender.ready().await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_is_reset_ends_the_pods_request() {
    within(async {
        let (told, mut hear) = tokio::sync::mpsc::channel(32);
        let pod = Pod::serving(move |mut wire, _| {
            let told = told.clone();
            async move {
                wire.message(Kind::Request).await.unwrap();
                told.try_send("asked").unwrap();
                wire.end().await;
                told.try_send("ended").unwrap();
            }
        })
        .await;
        let holdfast = front(&[pod.address]).await;
        let (mut sender, _connection) = connect(&holdfast).await;
        let waiting = tokio::spawn(sender.send_request(get("/").body(empty()).unwrap()));
        assert_eq!(hear.recv().await, Some("asked"));
        waiting.abort();
        assert_eq!(hear.recv().await, Some("ended"));
        sender.ready().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_client_that_opens_no_window_is_let_go() {
    within(async {
        let (told, mut hear) = tokio::sync::mpsc::channel(32);
        let pod = Pod::serving(move |mut wire, _| {
            let told = told.clone();
            async move {
                wire.message(Kind::Request).await.unwrap();
                let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
                wire.send(head).await;
                let block = vec![0; 64 * 1024];
                while wire.stream.write_all(&block).await.is_ok() {}
                told.try_send(()).unwrap();
            }
        })
        .await;
        let holdfast = impatient(&[pod.address]).await;
        let (mut sender, _connection) = connect(&holdfast).await;
        let request = get("/").body(empty()).unwrap();
        // Its connection is read, so it answers pings; its body is not.
        let response = sender.send_request(request).await.unwrap();
        hear.recv().await.unwrap();
        assert!(response.into_body().collect().await.is_err());
    })
    .await;
}

#[tokio::test]
async fn a_client_that_stops_in_its_body_is_let_go() {
    within(async {
        let (told, mut hear) = tokio::sync::mpsc::channel(32);
        let pod = Pod::serving(move |mut wire, _| {
            let told = told.clone();
            async move {
                let request = wire.message(Kind::Request).await;
                told.try_send(request.is_ok()).unwrap();
            }
        })
        .await;
        let holdfast = impatient(&[pod.address]).await;
        let (mut sender, _connection) = connect(&holdfast).await;
        let body = StreamBody::new(SyncStream(Box::pin(futures_util::stream::pending::<
            Result<Frame<Bytes>, std::convert::Infallible>,
        >())));
        let request = Request::post("https://app.example/").body(BodyExt::boxed(body));
        if let Ok(response) = sender.send_request(request.unwrap()).await {
            assert_eq!(response.status(), 408);
        }
        assert_eq!(hear.recv().await, Some(false));
    })
    .await;
}

#[tokio::test]
async fn many_streams_share_a_connection() {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = front(&[pod.address]).await;
        let (sender, _connection) = connect(&holdfast).await;
        let mut tasks = Vec::new();
        for number in 0..500 {
            let mut sender = sender.clone();
            tasks.push(tokio::spawn(async move {
                let request = get(&format!("/{number}")).body(empty()).unwrap();
                sender.ready().await.unwrap();
                let response = sender.send_request(request).await.unwrap();
                assert_eq!(response.status(), StatusCode::OK);
                assert_eq!(text(response).await, "ok");
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert!(pod.connections() <= 128, "{}", pod.connections());
    })
    .await;
}

#[tokio::test]
async fn alpn_offers_what_the_listener_speaks() {
    within(async {
        let pod = Pod::answering(OK).await;
        let chosen = async |holdfast: &Holdfast, offers: &[&str]| {
            let client = TlsClient::new(offers);
            let stream = client
                .connect(holdfast.address("https"), "app.example")
                .await;
            stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)
        };
        let both = front(&[pod.address]).await;
        assert_eq!(chosen(&both, &["http/1.1", "h2"]).await.unwrap(), b"h2");
        assert_eq!(chosen(&both, &["http/1.1"]).await.unwrap(), b"http/1.1");
        assert_eq!(chosen(&both, &[]).await, None);
        let off = EDGE.replace("protocol: HTTPS}", "protocol: HTTPS, http2: false}");
        let off = front_with(&off, &[pod.address]).await;
        assert_eq!(
            chosen(&off, &["h2", "http/1.1"]).await.unwrap(),
            b"http/1.1"
        );
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_ends_with_goaway() {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = front_with(&edge(", timeouts: {idle: 1s}"), &[pod.address]).await;
        let (mut sender, connection) = connect(&holdfast).await;
        let response = sender
            .send_request(get("/").body(empty()).unwrap())
            .await
            .unwrap();
        assert_eq!(text(response).await, "ok");
        // An end without GOAWAY is an error to hyper.
        connection.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_listener_that_leaves_lets_streams_finish_and_says_goaway() {
    within(async {
        let (asked, mut hear) = tokio::sync::mpsc::channel(32);
        let (go, wait) = tokio::sync::watch::channel(false);
        let pod = Pod::serving(move |mut wire, _| {
            let (asked, mut wait) = (asked.clone(), wait.clone());
            async move {
                wire.message(Kind::Request).await.unwrap();
                asked.try_send(()).unwrap();
                wait.wait_for(|go| *go).await.unwrap();
                wire.send(OK).await;
            }
        })
        .await;
        let holdfast = front(&[pod.address]).await;
        let (mut sender, connection) = connect(&holdfast).await;
        let answer = tokio::spawn(sender.send_request(get("/").body(empty()).unwrap()));
        hear.recv().await.unwrap();
        let without = EDGE.replace("  - {name: https, port: 443, protocol: HTTPS}\n", "");
        assert_ne!(without, EDGE);
        holdfast.write("edge.yaml", &without).await;
        go.send(true).unwrap();
        let response = answer.await.unwrap().unwrap();
        assert_eq!(text(response).await, "ok");
        connection.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test]
async fn header_lists_have_a_bound() {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = front(&[pod.address]).await;
        let (mut sender, _connection) = connect(&holdfast).await;
        let mut request = get("/");
        for number in 0..20 {
            request = request.header(format!("x-{number}"), "a".repeat(8 * 1024));
        }
        let result = sender.send_request(request.body(empty()).unwrap()).await;
        if let Ok(response) = result {
            assert_eq!(response.status(), 431);
        }
        assert_eq!(pod.bytes(), "");
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_resets_ends_the_connection() {
    within(async {
        let pod = Pod::serving(|mut wire, _| async move {
            wire.end().await;
        })
        .await;
        let holdfast = front(&[pod.address]).await;
        let client = TlsClient::new(&["h2"]);
        let mut stream = client.connect(holdfast.address("https"), "app.example").await;
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
        // HPACK: GET, https, /, and an authority as a literal without indexing.
        let mut block = vec![0x82, 0x87, 0x84, 0x01, 11];
        block.extend(b"app.example");
        for number in 0..20_000_u32 {
            let id = (2 * number + 1).to_be_bytes();
            bytes.extend([0, 0, u8::try_from(block.len()).unwrap(), 1, 5]);
            bytes.extend(id);
            bytes.extend(&block);
            bytes.extend([0, 0, 4, 3, 0]);
            bytes.extend(id);
            bytes.extend([0, 0, 0, 8]);
        }
        let (mut reader, mut writer) = tokio::io::split(&mut stream);
        let send = async {
            // Fails when the other side has had enough.
            let _ = writer.write_all(&bytes).await;
            std::future::pending::<()>().await;
        };
        let receive = async {
            let mut answer = Vec::new();
            let _ = reader.read_to_end(&mut answer).await;
            answer
        };
        let answer = tokio::select! {
            () = send => unreachable!(),
            answer = tokio::time::timeout(Duration::from_secs(20), receive) => answer.expect("an end"),
        };
        // A GOAWAY with ENHANCE_YOUR_CALM (RFC 9113 §7), where it got through.
        let goaway = answer.windows(4).any(|code| code == [0, 0, 0, 11]);
        assert!(goaway || answer.is_empty(), "{answer:?}");
        assert!(pod.connections() < 1000, "{}", pod.connections());
    })
    .await;
}
