//! Requests that could mean one thing here and another to a pod never reach a pod.

use crate::fixture::{front, get, request, within};
use crate::harness::Holdfast;
use crate::pod::{OK, Pod};
use crate::wire::Kind;

/// Sends bytes; they must be answered with `status` and the end of the connection, and no byte may
/// reach the pod.
async fn refused(holdfast: &Holdfast, pod: &Pod, bytes: impl AsRef<[u8]>, status: u16) {
    let shown = String::from_utf8_lossy(bytes.as_ref()).into_owned();
    let shown: String = shown.chars().take(300).collect();
    let mut client = holdfast.client().await;
    client.send(&bytes).await;
    let answer = client.message(Kind::Answer).await;
    let answer = answer.unwrap_or_else(|ended| panic!("no answer to {shown:?}: {ended:?}"));
    assert_eq!(answer.status(), status, "{shown:?}: {}", answer.head);
    let ended = client.end().await;
    assert!(!ended.reset, "reset after {shown:?}");
    assert_eq!(ended.rest, b"", "after {shown:?}");
    assert_eq!(pod.bytes(), "", "{shown:?}");
}

async fn all_refused(requests: &[&str], status: u16) {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = front(&[pod.address]).await;
        for bytes in requests {
            refused(&holdfast, &pod, bytes, status).await;
        }
        // The pod would have been reached.
        assert_eq!(holdfast.client().await.ask(get("/")).await.status(), 200);
        assert_eq!(pod.connections(), 1);
    })
    .await;
}

/// One request that a pod gets cleaned: its line, its sorted fields without those that every
/// request has, and its body.
async fn cleaned(bytes: &str, line: &str, fields: &[&str], body: &str) {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = front(&[pod.address]).await;
        let answer = holdfast.client().await.ask(bytes).await;
        assert_eq!(answer.status(), 200, "{}", answer.head);
        let request = pod.request().await;
        assert_eq!(request.line(), line);
        let ours = ["x-forwarded-", "x-real-ip", "x-request-id"];
        let mut rest = request.fields();
        rest.retain(|field| !ours.iter().any(|name| field.starts_with(name)));
        assert_eq!(rest, fields);
        assert_eq!(request.text(), body);
    })
    .await;
}

#[tokio::test]
async fn hosts_that_are_not_one_host_are_refused() {
    let hosts = [
        "Host: app.example\r\nHost: app.example",
        "Host: app.example\r\nHost: evil.example",
        "Host: app.example\r\nhost: evil.example",
        "Host: a b",
        "Host: u@app.example",
        "Host: app.example:99999",
        "Host: app.example:80:80",
        "Host: app.example:8a",
        "Host: app.example/evil",
        "Host: app.example, evil.example",
        "Host: app.example?x",
        "Host: app.example#x",
        "Host: app..example",
        "Host: http://app.example",
        "Host: [::1",
        "Host: app.ex\u{e4}mple",
        "Host: app.exa%6dple",
        "Host:",
        "Host:  ",
        "X-Host: app.example",
    ];
    let requests = hosts.map(|host| format!("GET / HTTP/1.1\r\n{host}\r\n\r\n"));
    all_refused(&requests.each_ref().map(String::as_str), 400).await;
}

#[tokio::test]
async fn an_absolute_target_and_its_host_must_agree() {
    all_refused(
        &[
            "GET http://evil.example/ HTTP/1.1\r\nHost: app.example\r\n\r\n",
            "GET http://app.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            "GET http://u@app.example/ HTTP/1.1\r\nHost: app.example\r\n\r\n",
            "GET http://app.example:port/ HTTP/1.1\r\nHost: app.example\r\n\r\n",
        ],
        400,
    )
    .await;
}

#[tokio::test]
async fn an_absolute_target_becomes_a_path_and_its_authority_the_host() {
    cleaned(
        "GET http://app.example:81/a?b HTTP/1.1\r\nHost: app.example:82\r\n\r\n",
        "GET /a?b HTTP/1.1",
        &["host: app.example:81"],
        "",
    )
    .await;
    cleaned(
        "GET http://app.example?b HTTP/1.1\r\nHost: app.example\r\n\r\n",
        "GET /?b HTTP/1.1",
        &["host: app.example"],
        "",
    )
    .await;
}

#[tokio::test]
async fn transfer_encodings_other_than_chunked_once_are_refused() {
    let codings = [
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: x\r\nContent-Length: 5",
    ];
    let requests = codings.map(|coding| request("POST /", &[coding], "0\r\n\r\n"));
    all_refused(&requests.each_ref().map(String::as_str), 400).await;
    all_refused(
        &["POST / HTTP/1.0\r\nHost: app.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
        400,
    )
    .await;
}

#[tokio::test]
async fn lengths_that_are_not_one_number_are_refused() {
    let lengths = [
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 5, 5",
        "Content-Length: 5, 6",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: ",
        "Content-Length: 99999999999999999999",
        "Content-Length: 5;",
    ];
    let requests = lengths.map(|length| request("POST /", &[length], "hello"));
    all_refused(&requests.each_ref().map(String::as_str), 400).await;
}

#[tokio::test]
async fn equal_lengths_reach_the_pod_as_one() {
    cleaned(
        &request(
            "POST /",
            &["Content-Length: 5", "Content-Length: 5"],
            "hello",
        ),
        "POST / HTTP/1.1",
        &["content-length: 5", "host: app.example"],
        "hello",
    )
    .await;
}

#[tokio::test]
async fn where_length_and_chunks_compete_the_pod_gets_chunks_alone() {
    for fields in [
        ["Content-Length: 4", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 4"],
        ["Transfer-Encoding: Chunked", "Content-Length: 0"],
    ] {
        cleaned(
            &request("POST /", &fields, "5\r\nhello\r\n0\r\n\r\n"),
            "POST / HTTP/1.1",
            &["host: app.example", "transfer-encoding: chunked"],
            "hello",
        )
        .await;
    }
}

#[tokio::test]
async fn heads_that_servers_read_differently_are_refused() {
    all_refused(
        &[
            "GET / HTTP/1.1\r\nHost: app.example\r\nX-A: 1\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: app.example\r\n X-A: 1\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: app.example\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: app.example\r\nX-A: 1\rX-B: 2\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: app.example\r\nX-A: 1\0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: app.example\r\nX-A\0: 1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: app.example\r\nX-A : 1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : app.example\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: app.example\r\nX-A\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: app.example\r\n: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: app.example\r\nX\u{e4}: 1\r\n\r\n",
            "GET /\r\nHost: app.example\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: app.example\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: app.example\r\n\r\n",
            "GET\t/ HTTP/1.1\r\nHost: app.example\r\n\r\n",
            "GET / x HTTP/1.1\r\nHost: app.example\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: app.example\r\n\r\n",
            "GET / http/1.1\r\nHost: app.example\r\n\r\n",
            "GET / HTTP/1.1.1\r\nHost: app.example\r\n\r\n",
            "G<T / HTTP/1.1\r\nHost: app.example\r\n\r\n",
            "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
        ],
        400,
    )
    .await;
}

#[tokio::test]
async fn chunks_that_servers_read_differently_do_not_end_a_request() {
    // The pod may have seen the head by then, but never a whole body.
    within(async {
        for body in [
            "g\r\nhello\r\n0\r\n\r\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            "5\r\nhelloo\r\n0\r\n\r\n",
            "5\r\nhell\r\n0\r\n\r\n",
            "5\nhello\n0\n\n",
            "5;a\nb\r\nhello\r\n0\r\n\r\n",
            "5\rhello\r\n0\r\n\r\n",
            "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n0\r\n: x\r\n\r\n",
        ] {
            let pod = Pod::answering(OK).await;
            let holdfast = front(&[pod.address]).await;
            let mut client = holdfast.client().await;
            let bytes = request("POST /", &["Transfer-Encoding: chunked"], body);
            client.send(bytes + &get("/smuggled")).await;
            if let Ok(answer) = client.message(Kind::Answer).await {
                assert_eq!(answer.status(), 400, "{body:?}: {}", answer.head);
            }
            client.end().await;
            let seen = pod.bytes();
            assert!(!seen.ends_with("\r\n0\r\n\r\n"), "{body:?}: {seen}");
            assert!(!seen.contains("smuggled"), "{body:?}: {seen}");
        }
    })
    .await;
}

#[tokio::test]
async fn bytes_behind_a_request_are_the_next_request_and_never_part_of_it() {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = front(&[pod.address]).await;
        // Bodies that look like requests, and at the end bytes that are neither.
        let evil = get("/evil");
        let length = format!("Content-Length: {}", evil.len());
        let chunk = format!("{:x}\r\n{evil}\r\n0\r\n\r\n", evil.len());
        let bytes = [
            request("POST /one", &[&length], &evil),
            request("GET /two", &[&length], &evil),
            request("POST /three", &["Transfer-Encoding: chunked"], &chunk),
            get("/four"),
            "garbage\r\n\r\n".to_owned(),
        ];
        let mut client = holdfast.client().await;
        client.send(bytes.concat()).await;
        for _ in 0..4 {
            assert_eq!(client.answer().await.status(), 200);
        }
        assert_eq!(client.answer().await.status(), 400);
        assert!(client.end().await.rest.is_empty());
        // Where chunks and length compete, nothing behind the request is believed (RFC 9112 §6.1).
        let both = ["Content-Length: 4", "Transfer-Encoding: chunked"];
        let mut client = holdfast.client().await;
        client
            .send(request("POST /five", &both, &chunk) + &get("/six"))
            .await;
        assert_eq!(client.answer().await.status(), 200);
        assert!(client.end().await.rest.is_empty());
        // The pod reads the same requests.
        let mut wire = crate::wire::Wire::new(std::io::Cursor::new(pod.bytes().into_bytes()));
        let mut lines = Vec::new();
        while let Ok(request) = wire.message(Kind::Request).await {
            lines.push((request.line().to_owned(), request.body == evil.as_bytes()));
        }
        let expected = [
            ("POST /one HTTP/1.1".to_owned(), true),
            ("GET /two HTTP/1.1".to_owned(), true),
            ("POST /three HTTP/1.1".to_owned(), true),
            ("GET /four HTTP/1.1".to_owned(), false),
            ("POST /five HTTP/1.1".to_owned(), true),
        ];
        assert_eq!(lines, expected);
    })
    .await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    within(async {
        let pod = Pod::serving(|mut wire, _| async move {
            while let Ok(request) = wire.message(Kind::Request).await {
                let path = request.line().split(' ').nth(1).unwrap().to_owned();
                let length = path.len();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{path}");
                wire.send(answer).await;
            }
        })
        .await;
        let holdfast = front(&[pod.address]).await;
        let mut client = holdfast.client().await;
        let requests: String = (0..20).map(|number| get(&format!("/{number}"))).collect();
        client.send(requests).await;
        for number in 0..20 {
            assert_eq!(client.answer().await.text(), format!("/{number}"));
        }
        assert_eq!(pod.connections(), 1);
    })
    .await;
}

#[tokio::test]
async fn paths_that_pods_could_resolve_elsewhere_are_refused() {
    let paths = [
        "/a/../b",
        "/..",
        "/./a",
        "/a/.",
        "/%2e%2e/a",
        "/a/%2E",
        "/a/.%2e/b",
        "/a/..%2fb",
        "/a%2f..%2fb",
        "/a/..%5cb",
        "/a\\..\\b",
        "/..;/a",
        "/a/..;x=y/b",
        "/%",
        "/%4",
        "/%zz",
        "/a%00b",
    ];
    let requests = paths.map(get);
    all_refused(&requests.each_ref().map(String::as_str), 400).await;
}

#[tokio::test]
async fn an_honest_path_reaches_the_pod_as_it_was_sent() {
    for target in [
        "/%61//b%2Fc/.well-known/..a?x=../y&%zz=%",
        "/a;b=c/d|e\"f{g}",
        "/%E2%82%AC",
    ] {
        cleaned(
            &get(target),
            &format!("GET {target} HTTP/1.1"),
            &["host: app.example"],
            "",
        )
        .await;
    }
}

#[tokio::test]
async fn a_reverse_proxy_is_no_tunnel() {
    all_refused(
        &[
            "CONNECT app.example:80 HTTP/1.1\r\nHost: app.example:80\r\n\r\n",
            "CONNECT app.example:80 HTTP/1.1\r\nHost: app.example\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        ],
        501,
    )
    .await;
    all_refused(
        &["GET app.example:80 HTTP/1.1\r\nHost: app.example:80\r\n\r\n"],
        400,
    )
    .await;
}

#[tokio::test]
async fn heads_without_end_are_refused() {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = front(&[pod.address]).await;
        let many = "X-A: 1\r\n".repeat(200);
        let head = |fields: &str| format!("GET / HTTP/1.1\r\nHost: app.example\r\n{fields}\r\n");
        refused(&holdfast, &pod, head(&many), 431).await;
        let long = format!("X-A: {}\r\n", "a".repeat(70_000));
        refused(&holdfast, &pod, head(&long), 431).await;
        let endless = format!("GET / HTTP/1.1\r\nX-A: {}", "a".repeat(100_000));
        refused(&holdfast, &pod, endless, 431).await;
        // A target that fits into the head's bound but not into a URI of the library's.
        let target = format!("/{}", "a".repeat(65_534));
        let request = format!("GET {target} HTTP/1.1\r\nHost: app.example\r\n\r\n");
        refused(&holdfast, &pod, request, 431).await;
    })
    .await;
}

#[tokio::test]
async fn other_upgrades_are_ordinary_requests() {
    let handshake = [
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    ];
    cleaned(
        &request("GET /", &handshake, ""),
        "GET / HTTP/1.1",
        &["host: app.example"],
        "",
    )
    .await;
    let websocket_of_1_0 = "GET / HTTP/1.0\r\nHost: app.example\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    cleaned(
        websocket_of_1_0,
        "GET / HTTP/1.1",
        &[
            "host: app.example",
            "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
            "sec-websocket-version: 13",
        ],
        "",
    )
    .await;
}

#[tokio::test]
async fn a_pod_cannot_switch_protocols_unasked() {
    within(async {
        let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\
             Upgrade: h2c\r\n\r\nbytes of another protocol";
        let pod = Pod::answering(switch).await;
        let holdfast = front(&[pod.address]).await;
        let upgrade = request("GET /", &["Connection: upgrade", "Upgrade: h2c"], "");
        for bytes in [get("/"), upgrade] {
            let mut client = holdfast.client().await;
            let answer = client.ask(bytes).await;
            assert_eq!(answer.status(), 502, "{}", answer.head);
            assert!(answer.text().contains("pod_upgrade_invalid"));
            // The connection still speaks HTTP.
            assert_eq!(client.ask(get("/")).await.status(), 502);
        }
    })
    .await;
}

#[tokio::test]
async fn http_1_0_needs_no_host_where_a_default_backend_serves() {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = Holdfast::start(&[
            ("edge.yaml", crate::harness::EDGE),
            (
                "app.yaml",
                &crate::harness::service("app", "", &[pod.address]),
            ),
            ("ingress.yaml", &crate::harness::ingress("app", "", "app")),
        ])
        .await;
        let mut client = holdfast.client().await;
        let answer = client.ask("GET /a HTTP/1.0\r\n\r\n").await;
        assert_eq!(answer.status(), 200);
        assert!(!client.end().await.reset);
        let request = pod.request().await;
        assert_eq!(request.line(), "GET /a HTTP/1.1");
        // HTTP/1.1 cannot do without (RFC 9112 §3.2).
        assert_eq!(request.field("host"), Some(""));
        assert_eq!(request.field("x-forwarded-host"), None);
    })
    .await;
}
