//! A real browser: Debian's Chromium, headless.

use std::net::SocketAddr;
use std::process::Stdio;

use futures_util::SinkExt;
use holdfast::demo::Pods;
use holdfast::websocket::TunnelView;
use tokio::process::{Child, Command};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use crate::harness::{EDGE, Holdfast, LIMIT, ingress, service, soon};

/// The page keeps one WebSocket open while everything around it is edited; were it cut, the page
/// would open another one, with another id.
#[tokio::test]
async fn the_chat_page_keeps_its_wss_open_while_manifests_are_edited() {
    let test = async {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let pods = Pods::start(&[], &[any], CancellationToken::new())
            .await
            .unwrap();
        let chat = ingress("chat", "chat.localhost", "chat");
        let holdfast = Holdfast::start(&[
            ("edge.yaml", EDGE),
            ("service.yaml", &service("chat", "", pods.chat_addresses())),
            ("chat.yaml", &chat),
        ])
        .await;
        let profile = tempfile::tempdir().unwrap();
        let port = holdfast.address("https").port();
        let _browser = browser(profile.path(), &format!("https://chat.localhost:{port}/"));

        let opened = soon("the page opens its WebSocket", async || {
            only(holdfast.app.tunnels().list())
        })
        .await;
        assert_eq!(&*opened.info.listener.name, "https");
        // The connection that the page came on carries it (RFC 8441).
        assert!(opened.info.is_http2(), "{opened:?}");

        let other = ingress("other", "other.localhost", "chat");
        for _ in 0..5 {
            holdfast.write("other.yaml", &other).await;
            holdfast.remove("other.yaml").await;
        }
        let slower = EDGE.replace(
            "protocol: HTTPS}",
            "protocol: HTTPS, timeouts: {idle: 1s}, websocket: {idleTimeout: 5m}}",
        );
        assert_ne!(slower, EDGE);
        holdfast.write("edge.yaml", &slower).await;
        holdfast
            .write(
                "chat.yaml",
                &format!("{chat}  tls: [{{hosts: [chat.localhost], secretName: missing}}]\n"),
            )
            .await;

        // What somebody else writes now reaches the page, on the WebSocket that it has had.
        let stream = holdfast.connect("http").await;
        let (mut friend, _) = client_async("ws://chat.localhost/ws", stream)
            .await
            .unwrap();
        friend
            .send(Message::text(r#"{"name":"friend","text":"still there?"}"#))
            .await
            .unwrap();
        soon("the line reaches the page", async || {
            let tunnels = holdfast.app.tunnels().list();
            assert_eq!(tunnels.len(), 2, "the page had to reconnect: {tunnels:?}");
            let page = tunnels.into_iter().find(|tunnel| tunnel.id == opened.id);
            page.filter(|page| page.from_pod.text > opened.from_pod.text)
        })
        .await;
        pods.stop().await;
    };
    tokio::time::timeout(LIMIT, test).await.unwrap();
}

fn only(tunnels: Vec<TunnelView>) -> Option<TunnelView> {
    let mut tunnels = tunnels.into_iter();
    tunnels.next().filter(|_| tunnels.next().is_none())
}

fn browser(profile: &std::path::Path, url: &str) -> Child {
    Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--ignore-certificate-errors",
            "--remote-debugging-port=0",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("Chromium starts; `make test-deps` installs it")
}
