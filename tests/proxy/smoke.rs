//! The thinnest whole path.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use holdfast::demo::Pods;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use crate::harness::{EDGE, Holdfast, LIMIT, ingress, raw, service};

#[tokio::test]
async fn an_http_listener_carries_requests_and_websockets() {
    let test = async {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let pods = Pods::start(&[any], &[], CancellationToken::new())
            .await
            .unwrap();
        let holdfast = Holdfast::start(&[
            ("edge.yaml", EDGE),
            ("echo.yaml", &service("echo", "", pods.echo_addresses())),
            ("ingress.yaml", &ingress("echo", "echo.example", "echo")),
        ])
        .await;
        let address = holdfast.address("http");
        let answer = raw(
            address,
            b"GET /hello HTTP/1.1\r\nHost: echo.example\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\"path\": \"/hello\""), "{answer}");

        let stream = holdfast.connect("http").await;
        let (mut socket, response) =
            tokio_tungstenite::client_async("ws://echo.example/ws", stream)
                .await
                .unwrap();
        assert_eq!(response.status(), 101);
        socket.send(Message::text("hello")).await.unwrap();
        let echoed = socket.next().await.unwrap().unwrap();
        assert_eq!(echoed, Message::text("hello"));
        assert_eq!(holdfast.app.tunnels().len(), 1);
        socket.close(None).await.unwrap();
        pods.stop().await;
    };
    tokio::time::timeout(LIMIT, test).await.unwrap();
}
