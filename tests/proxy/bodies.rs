//! Bodies are streamed both ways, with the back-pressure of both sockets.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::channel;

use crate::fixture::{front, get, request, within};
use crate::harness::{PATIENCE, soon};
use crate::pod::{OK, Pod};
use crate::wire::{Kind, Wire};

const MIB: usize = 1024 * 1024;
/// What may be on the way between two peers of which one does not read: buffers of four sockets,
/// which grow on loopback, and of the proxy.
const ON_THE_WAY: usize = 48 * MIB;

#[tokio::test]
async fn bodies_arrive_whole_however_they_are_framed() {
    within(async {
        let pod = Pod::serving(|mut wire, _| async move {
            while let Ok(request) = wire.message(Kind::Request).await {
                let body = request.text().to_owned();
                let length = body.len();
                wire.send(if request.line().contains("chunked") {
                    let (first, rest) = body.split_at(1);
                    format!(
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n",
                        first,
                        rest.len()
                    )
                } else {
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
                })
                .await;
            }
        })
        .await;
        let holdfast = front(&[pod.address]).await;
        let mut client = holdfast.client().await;
        for path in ["/length", "/chunked"] {
            let line = format!("POST {path}");
            let known = request(&line, &["Content-Length: 11"], "hello world");
            assert_eq!(client.ask(known).await.text(), "hello world");
            let chunks = "5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n";
            let chunked = request(&line, &["Transfer-Encoding: chunked"], chunks);
            assert_eq!(client.ask(chunked).await.text(), "hello world");
        }
        assert_eq!(pod.connections(), 1);
    })
    .await;
}

#[tokio::test]
async fn empty_bodies_keep_their_framing() {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = front(&[pod.address]).await;
        let mut client = holdfast.client().await;
        client
            .ask(request("POST /a", &["Content-Length: 0"], ""))
            .await;
        client.ask(request("POST /b", &[], "")).await;
        let chunked = ["Transfer-Encoding: chunked"];
        client.ask(request("PUT /c", &chunked, "0\r\n\r\n")).await;
        client.ask(get("/d")).await;
        let mut wire = Wire::new(std::io::Cursor::new(pod.bytes().into_bytes()));
        let mut framing = Vec::new();
        while let Ok(request) = wire.message(Kind::Request).await {
            let field = |name| request.field(name).unwrap_or("-").to_owned();
            framing.push((field("content-length"), field("transfer-encoding")));
        }
        let framing: Vec<(&str, &str)> = framing
            .iter()
            .map(|(length, coding)| (&**length, &**coding))
            .collect();
        // RFC 9110 §8.6: a POST without a body may say so; a GET does not.
        assert_eq!(framing[0], ("0", "-"));
        assert!(matches!(framing[1], ("0" | "-", "-")), "{framing:?}");
        assert!(
            matches!(framing[2], ("-", "chunked") | ("0", "-")),
            "{framing:?}"
        );
        assert_eq!(framing[3], ("-", "-"));
    })
    .await;
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    within(async {
        let pod = Pod::answering(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
             2\r\nok\r\n0\r\nX-Sum: pod\r\n\r\n",
        )
        .await;
        let holdfast = front(&[pod.address]).await;
        let mut client = holdfast.client().await;
        let fields = [
            "TE: trailers",
            "Connection: TE",
            "Transfer-Encoding: chunked",
            "Trailer: X-Sum, X-Forwarded-For, Keep-Alive",
        ];
        // What is not believed in a head is not believed behind a body.
        let body = "2\r\nhi\r\n0\r\nX-Sum: client\r\nX-Forwarded-For: 6.6.6.6\r\n\
                    Keep-Alive: x\r\n\r\n";
        let answer = client.ask(request("POST /", &fields, body)).await;
        assert_eq!(answer.text(), "ok");
        assert_eq!(answer.trailers.to_lowercase(), "x-sum: pod\r\n");
        let request = pod.request().await;
        assert_eq!(request.field("te"), Some("trailers"));
        assert_eq!(request.field("connection"), Some("te"));
        assert_eq!(request.trailers.to_lowercase(), "x-sum: client\r\n");
    })
    .await;
}

#[tokio::test]
async fn answers_without_a_body_keep_their_fields_and_the_connection() {
    within(async {
        let pod = Pod::serving(|mut wire, _| async move {
            while let Ok(request) = wire.message(Kind::Request).await {
                let path = request.line().split(' ').nth(1).unwrap();
                wire.send(match path {
                    "/length" => "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n",
                    "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                    "/unknown" => "HTTP/1.1 200 OK\r\n\r\n",
                    "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                    _ => {
                        "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 12345\r\n\r\n"
                    }
                })
                .await;
            }
        })
        .await;
        let holdfast = front(&[pod.address]).await;
        let mut client = holdfast.client().await;
        for (method, path, status, length) in [
            ("HEAD", "/length", 200, Some("12345")),
            ("HEAD", "/chunked", 200, None),
            ("HEAD", "/unknown", 200, None),
            ("GET", "/204", 204, None),
            // Optional there (RFC 9110 §15.4.5), and hyper leaves it out.
            ("GET", "/304", 304, None),
            ("HEAD", "/304", 304, Some("12345")),
        ] {
            client
                .send(request(&format!("{method} {path}"), &[], ""))
                .await;
            let answer = client.message(Kind::AnswerToHead).await.unwrap();
            assert_eq!(answer.status(), status, "{method} {path}");
            assert_eq!(answer.field("content-length"), length, "{method} {path}");
        }
        // HEAD of an error of ours has no body either.
        client
            .send("HEAD / HTTP/1.1\r\nHost: other.example\r\n\r\n")
            .await;
        let answer = client.message(Kind::AnswerToHead).await.unwrap();
        assert_eq!(answer.status(), 404);
        client.send(get("/204")).await;
        assert_eq!(
            client.message(Kind::AnswerToHead).await.unwrap().status(),
            204
        );
        assert_eq!(pod.connections(), 1, "connections were not kept");
    })
    .await;
}

#[tokio::test]
async fn a_client_hears_continue_only_when_its_body_is_wanted() {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = front(&[pod.address]).await;
        let fields = ["Expect: 100-continue", "Content-Length: 5"];
        let mut client = holdfast.client().await;
        client.send(request("POST /", &fields, "")).await;
        let go = client.head().await.unwrap();
        assert_eq!(go, "HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(client.ask("hello").await.status(), 200);
        let seen = pod.request().await;
        assert_eq!(seen.field("expect"), None);
        assert_eq!(seen.text(), "hello");

        // Nobody is there to read it.
        drop(pod);
        soon("the pod has gone", || async {
            holdfast
                .client()
                .await
                .ask(get("/"))
                .await
                .status()
                .eq(&502)
                .then_some(())
        })
        .await;
        let answer = holdfast
            .client()
            .await
            .ask(request("POST /", &fields, ""))
            .await;
        assert_eq!(answer.status(), 502);
        let refused = request("POST /a/../b", &fields, "");
        assert_eq!(holdfast.client().await.ask(refused).await.status(), 400);
    })
    .await;
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_an_answer_that_ends_with_the_connection() {
    within(async {
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        let pod = Pod::answering(chunked).await;
        let holdfast = front(&[pod.address]).await;
        let mut client = holdfast.client().await;
        let answer = client
            .ask("GET / HTTP/1.0\r\nHost: app.example\r\n\r\n")
            .await;
        assert_eq!(answer.field("transfer-encoding"), None);
        assert_eq!(answer.field("content-length"), None);
        assert_eq!(answer.text(), "hello");
        // Keep-alive works where there is a length.
        let pod = Pod::answering(OK).await;
        let holdfast = front(&[pod.address]).await;
        let mut client = holdfast.client().await;
        for _ in 0..2 {
            let answer = client
                .ask("GET / HTTP/1.0\r\nHost: app.example\r\nConnection: keep-alive\r\n\r\n")
                .await;
            assert_eq!(answer.text(), "ok");
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_is_complete() {
    within(async {
        let early = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig";
        let pod = Pod::serving(move |mut wire, _| async move {
            wire.head().await.unwrap();
            wire.send(early).await;
            wire.end().await;
        })
        .await;
        let holdfast = front(&[pod.address]).await;
        let length = format!("Content-Length: {}", 8 * MIB);
        let mut client = holdfast.client().await;
        // Much of the body is on its way already; it must not cost the client the answer.
        let part = "a".repeat(4 * MIB);
        let answer = client.ask(request("POST /", &[&length], &part)).await;
        assert_eq!(answer.status(), 413);
        assert_eq!(answer.text(), "big");
    })
    .await;
}

#[tokio::test]
async fn an_error_of_ours_survives_a_body_that_nobody_reads() {
    within(async {
        let holdfast = front(&[]).await;
        let length = format!("Content-Length: {}", 8 * MIB);
        // More than fits on the way: the client still writes when it is answered.
        let part = "a".repeat(7 * MIB);
        for _ in 0..5 {
            let mut client = holdfast.client().await;
            let answer = client.ask(request("POST /", &[&length], &part)).await;
            assert_eq!(answer.status(), 503);
            assert!(answer.text().contains("no_ready_endpoint"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    within(async {
        let (told, mut hear) = channel(32);
        let pod = Pod::serving(move |mut wire, _| {
            let told = told.clone();
            async move {
                wire.head().await.unwrap();
                told.try_send("asked").unwrap();
                wire.end().await;
                told.try_send("ended").unwrap();
            }
        })
        .await;
        let holdfast = front(&[pod.address]).await;
        // While it waits for the answer, and in the middle of its own body.
        let whole = get("/");
        let half = request("POST /", &["Content-Length: 10"], "hello");
        for bytes in [whole, half] {
            let mut client = holdfast.client().await;
            client.send(bytes).await;
            assert_eq!(hear.recv().await, Some("asked"));
            drop(client);
            assert_eq!(hear.recv().await, Some("ended"));
        }
        assert_eq!(pod.connections(), 2, "no second try");
    })
    .await;
}

#[tokio::test]
async fn half_a_request_never_looks_whole_to_a_pod() {
    within(async {
        let (told, mut hear) = channel(32);
        let pod = Pod::serving(move |mut wire, _| {
            let told = told.clone();
            async move {
                let request = wire.message(Kind::Request).await;
                told.try_send(request.is_ok()).unwrap();
            }
        })
        .await;
        let holdfast = front(&[pod.address]).await;
        for bytes in [
            request("POST /", &["Content-Length: 10"], "hello"),
            request("POST /", &["Transfer-Encoding: chunked"], "5\r\nhello\r\n"),
            request(
                "POST /",
                &["Transfer-Encoding: chunked"],
                "5\r\nhello\r\n0\r\n",
            ),
        ] {
            let mut client = holdfast.client().await;
            client.send(bytes).await;
            client.stream.shutdown().await.unwrap();
            assert_eq!(hear.recv().await, Some(false));
        }
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_dies_in_its_answer_does_not_leave_a_whole_one() {
    within(async {
        for start in [
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nz\r\n",
        ] {
            let pod = Pod::answering_once(start).await;
            let holdfast = front(&[pod.address]).await;
            let mut client = holdfast.client().await;
            client.send(get("/")).await;
            let ended = client.message(Kind::Answer).await.unwrap_err();
            let rest = String::from_utf8_lossy(&ended.rest).into_owned();
            assert!(!rest.contains("0\r\n\r\n"), "{rest}");
            // Where only the end of the connection ends an answer, it is not an orderly end.
            let mut client = holdfast.client().await;
            client
                .send("GET / HTTP/1.0\r\nHost: app.example\r\n\r\n")
                .await;
            let ended = client.end().await;
            let framed = String::from_utf8_lossy(&ended.rest).contains("content-length: 10");
            assert!(ended.reset || framed, "{ended:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_upload_waits_for_a_pod_that_does_not_read() {
    within(async {
        const BODY: usize = 100 * MIB;
        let (go, wait) = tokio::sync::watch::channel(false);
        let (told, mut hear) = channel(32);
        let pod = Pod::serving(move |mut wire, _| {
            let (mut wait, told) = (wait.clone(), told.clone());
            async move {
                let head = wire.head().await.unwrap();
                assert!(
                    head.contains(&format!("content-length: {BODY}\r\n")),
                    "{head}"
                );
                wait.wait_for(|go| *go).await.unwrap();
                // What was read together with the head is in the wire's buffer.
                let buffered = wire.seen.lock().unwrap().len() - head.len();
                let mut rest = (&mut wire.stream).take((BODY - buffered) as u64);
                let read = tokio::io::copy(&mut rest, &mut tokio::io::sink())
                    .await
                    .unwrap();
                told.try_send(buffered + usize::try_from(read).unwrap())
                    .unwrap();
                wire.send(OK).await;
                wire.end().await;
            }
        })
        .await;
        let holdfast = front(&[pod.address]).await;
        let mut client = TcpStream::connect(holdfast.address("http")).await.unwrap();
        let head = request("POST /", &[&format!("Content-Length: {BODY}")], "");
        client.write_all(head.as_bytes()).await.unwrap();
        let mut sent = 0;
        fill(&mut client, &mut sent, BODY).await;
        assert!(sent < ON_THE_WAY, "{sent} bytes are somewhere");
        go.send(true).unwrap();
        let block = vec![0; 64 * 1024];
        while sent < BODY {
            let next = block.len().min(BODY - sent);
            client.write_all(&block[..next]).await.unwrap();
            sent += next;
        }
        assert_eq!(hear.recv().await, Some(BODY));
        assert_eq!(Wire::new(client).answer().await.text(), "ok");
    })
    .await;
}

#[tokio::test]
async fn a_download_waits_for_a_client_that_does_not_read() {
    within(async {
        const BODY: usize = 100 * MIB;
        let (told, mut hear) = channel(32);
        let pod = Pod::serving(move |mut wire, _| {
            let told = told.clone();
            async move {
                wire.head().await.unwrap();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n");
                wire.send(head).await;
                let mut sent = 0;
                fill(&mut wire.stream, &mut sent, BODY).await;
                told.try_send(sent).unwrap();
                let block = vec![0; 64 * 1024];
                while sent < BODY {
                    let next = block.len().min(BODY - sent);
                    wire.stream.write_all(&block[..next]).await.unwrap();
                    sent += next;
                }
                wire.end().await;
            }
        })
        .await;
        let holdfast = front(&[pod.address]).await;
        let mut client = holdfast.client().await;
        client.send(get("/")).await;
        let sent = hear.recv().await.unwrap();
        assert!(sent < ON_THE_WAY, "{sent} bytes are somewhere");
        let head = client.head().await.unwrap();
        let buffered = client.seen.lock().unwrap().len() - head.len();
        let mut rest = client.stream.take((BODY - buffered) as u64);
        let mut sink = tokio::io::sink();
        let copy = tokio::io::copy(&mut rest, &mut sink);
        let read = tokio::time::timeout(PATIENCE, copy).await.unwrap().unwrap();
        assert_eq!(buffered + usize::try_from(read).unwrap(), BODY);
    })
    .await;
}

/// Writes until nothing has been taken for a while, or all is sent.
async fn fill(stream: &mut (impl AsyncWriteExt + Unpin), sent: &mut usize, all: usize) {
    const QUIET: Duration = Duration::from_millis(700);
    let block = vec![0; 64 * 1024];
    while *sent < all {
        let next = block.len().min(all - *sent);
        match tokio::time::timeout(QUIET, stream.write(&block[..next])).await {
            Ok(written) => *sent += written.unwrap(),
            Err(_) => return,
        }
    }
}

#[tokio::test]
async fn both_bodies_may_flow_at_once() {
    within(async {
        // The pod sends each chunk back as it comes; the client waits for it before the next.
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
            wire.end().await;
        })
        .await;
        let holdfast = front(&[pod.address]).await;
        let mut client = holdfast.client().await;
        client
            .send(request("POST /", &["Transfer-Encoding: chunked"], ""))
            .await;
        for round in 0..50 {
            client.send("5\r\nhello\r\n").await;
            if round == 0 {
                let head = client.head().await.unwrap();
                assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
            }
            assert_eq!(client.line().await.unwrap(), "5\r\n");
            assert_eq!(client.exactly(7).await.unwrap(), b"hello\r\n");
        }
        client.send("0\r\n\r\n").await;
        assert_eq!(client.exactly(5).await.unwrap(), b"0\r\n\r\n");
        assert_eq!(
            client
                .ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                .await
                .status(),
            404
        );
    })
    .await;
}
