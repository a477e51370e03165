//! Header fields on their way to the pod and back.

use crate::fixture::{front, get, request, within};
use crate::pod::{OK, Pod};

#[tokio::test]
async fn a_pod_is_told_about_the_client_and_not_by_the_client() {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = front(&[pod.address]).await;
        let spoofed = [
            "X-Forwarded-For: 6.6.6.6",
            "X-Forwarded-For: 7.7.7.7",
            "X-Forwarded-Host: evil.example",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Port: 666",
            "X-Forwarded-Prefix: /evil",
            "X-Forwarded-Ssl: on",
            "X-Real-IP: 6.6.6.6",
            "Forwarded: for=6.6.6.6",
            "X_Forwarded_For: 6.6.6.6",
            "X-Forwarded_Proto: https",
            "X_Real_IP: 6.6.6.6",
            "X-Request-Id: my-id",
            "X-Forward: kept",
            "X_Mine: kept",
        ];
        let line = "GET http://APP.example:8080/a";
        let bytes = request(line, &spoofed, "").replace("Host: app", "Host: APP");
        let mut client = holdfast.client().await;
        assert_eq!(client.ask(bytes).await.status(), 200);
        let request = pod.request().await;
        assert_eq!(
            request.fields(),
            [
                "host: APP.example:8080",
                "x-forward: kept",
                "x-forwarded-for: 127.0.0.1",
                "x-forwarded-host: APP.example:8080",
                "x-forwarded-port: 80",
                "x-forwarded-proto: http",
                "x-real-ip: 127.0.0.1",
                "x-request-id: my-id",
                "x_mine: kept",
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn a_request_without_a_sane_id_gets_one() {
    within(async {
        let pod = Pod::answering(OK).await;
        let holdfast = front(&[pod.address]).await;
        let long = format!("X-Request-Id: {}", "a".repeat(200));
        for fields in [&[][..], &["X-Request-Id: a b"], &[long.as_str()]] {
            holdfast
                .client()
                .await
                .ask(request("GET /", fields, ""))
                .await;
        }
        let ids: Vec<String> = pod
            .bytes()
            .lines()
            .filter_map(|line| line.strip_prefix("x-request-id: "))
            .map(str::to_owned)
            .collect();
        assert_eq!(ids.len(), 3);
        for id in &ids {
            assert!(
                id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()),
                "{id}"
            );
        }
        assert!(ids[0] != ids[1] && ids[1] != ids[2]);
    })
    .await;
}

#[tokio::test]
async fn fields_of_one_hop_end_here_both_ways() {
    within(async {
        let answer = "HTTP/1.1 200 OK\r\nConnection: X-Pod-One\r\nConnection: keep-alive, x-pod-two\r\n\
             Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nX-Pod-One: 1\r\nX-Pod-Two: 2\r\n\
             X-Kept: yes\r\nUpgrade: h2c\r\nProxy-Authenticate: Basic\r\nTE: gzip\r\n\
             Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
             Content-Length: 2\r\n\r\nok";
        let pod = Pod::answering(answer).await;
        let holdfast = front(&[pod.address]).await;
        let fields = [
            "Connection: keep-alive, X-One",
            "Connection: x-two, Host, Cookie, Authorization, Content-Length, X-Forwarded-For",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive",
            "Proxy-Authorization: Basic x",
            "Proxy: http://evil.example",
            "X-One: 1",
            "X-Two: 2",
            "TE: gzip;q=0.5",
            "Trailer: X-T",
            "Cookie: a=b",
            "Authorization: Bearer x",
            "X-Request-Id: id",
            "Content-Length: 5",
        ];
        let mut client = holdfast.client().await;
        let answer = client.ask(request("POST /", &fields, "hello")).await;
        let request = pod.request().await;
        assert_eq!(
            request.fields(),
            [
                "authorization: Bearer x",
                "content-length: 5",
                "cookie: a=b",
                "host: app.example",
                "trailer: X-T",
                "x-forwarded-for: 127.0.0.1",
                "x-forwarded-host: app.example",
                "x-forwarded-port: 80",
                "x-forwarded-proto: http",
                "x-real-ip: 127.0.0.1",
                "x-request-id: id",
            ]
        );
        assert_eq!(request.text(), "hello");
        assert_eq!(
            answer.fields(),
            [
                "content-length: 2",
                "date: Thu, 01 Jan 1970 00:00:00 GMT",
                "server: holdfast",
                "set-cookie: a=1",
                "set-cookie: b=2",
                "x-kept: yes",
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn server_and_date_are_the_pods_or_else_ours() {
    within(async {
        let named = "HTTP/1.1 200 OK\r\nServer: pod\r\nContent-Length: 0\r\n\r\n";
        let pod = Pod::answering(named).await;
        let holdfast = front(&[pod.address]).await;
        let answer = holdfast.client().await.ask(get("/")).await;
        assert_eq!(answer.field("server"), Some("pod"));
        assert!(answer.field("date").unwrap().ends_with(" GMT"));
        let refused = holdfast
            .client()
            .await
            .ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await;
        assert_eq!(refused.field("server"), Some("holdfast"));
        assert!(refused.field("date").unwrap().ends_with(" GMT"));
    })
    .await;
}
