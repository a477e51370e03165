//! The admin port of a proxy at work.

use std::net::SocketAddr;

use holdfast::demo::Pods;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::harness::{EDGE, Holdfast, LIMIT, ingress, raw, service, soon};
use crate::peers::{
    PING, Peer, RawPod, close, dial, frame, handshake, open, pair, request, within,
};

const HOST: &str = "ws.example";

async fn limited(test: impl Future<Output = ()>) {
    tokio::time::timeout(LIMIT, test).await.unwrap();
}

/// The body of a page that answers 200.
pub(crate) async fn page(holdfast: &Holdfast, path: &str) -> String {
    let admin = holdfast.app.admin_address().unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let answer = raw(admin, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

async fn json(holdfast: &Holdfast, path: &str) -> Value {
    serde_json::from_str(&page(holdfast, path).await).unwrap()
}

/// The sum of the samples of a metric whose labels contain all of these.
fn metric(page: &str, name: &str, labels: &[&str]) -> u64 {
    page.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with([' ', '{']))
        .filter(|rest| labels.iter().all(|label| rest.contains(label)))
        .map(|rest| rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64)
        .sum()
}

#[tokio::test]
async fn metrics_tell_the_truth_while_sockets_are_open_and_after() {
    limited(async {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let pods = Pods::start(&[any], &[], CancellationToken::new())
            .await
            .unwrap();
        let dying = RawPod::start().await;
        let holdfast = Holdfast::start(&[
            ("edge.yaml", EDGE),
            ("echo.yaml", &service("echo", "", pods.echo_addresses())),
            ("ingress.yaml", &ingress("echo", HOST, "echo")),
            ("dying.yaml", &service("dying", "", &[dying.address])),
            ("dies.yaml", &ingress("dies", "dies.example", "dying")),
        ])
        .await;
        let http = holdfast.address("http");
        let mut clients: Vec<Peer> = Vec::new();
        for (listener, tls) in [("http", false), ("https", true), ("http", false)] {
            clients.push(open(holdfast.address(listener), tls, HOST).await);
        }
        for (number, client) in clients.iter_mut().enumerate() {
            for _ in 0..=number {
                client.echo("0123456789").await;
            }
            client.send(&frame(PING, true, b"")).await;
            client.frame().await;
        }
        let echo = ["kind=\"Ingress\"", "namespace=\"default\"", "name=\"echo\""];
        let from = |side: &'static str| [echo[0], echo[2], side];
        let (client, pod) = (from("from=\"client\""), from("from=\"pod\""));
        let messages = "holdfast_websocket_messages_total";
        let bytes = "holdfast_websocket_bytes_total";
        // Counted behind the write, so a moment after the peer has it.
        let metrics = soon("the last pong is counted", async || {
            let metrics = page(&holdfast, "/metrics").await;
            let up = metric(&metrics, bytes, &client) == 6 * 16 + 3 * 6;
            let down = metric(&metrics, bytes, &pod) == 6 * 12 + 3 * 2;
            (up && down).then_some(metrics)
        })
        .await;
        assert!(metrics.ends_with("# EOF\n"));
        assert_eq!(metric(&metrics, "holdfast_tunnels_open", &echo), 3);
        assert_eq!(metric(&metrics, "holdfast_tunnels_opened_total", &echo), 3);
        assert_eq!(metric(&metrics, messages, &client), 6);
        assert_eq!(metric(&metrics, messages, &pod), 6);
        assert_eq!(
            metric(
                &metrics,
                "holdfast_requests_total",
                &[echo[2], "code=\"101\""]
            ),
            3
        );
        // Connections that became WebSockets are no HTTP connections any more.
        assert_eq!(metric(&metrics, "holdfast_connections_open", &[]), 0);
        assert_eq!(metric(&metrics, "holdfast_connections_total", &[]), 3);
        assert_eq!(
            metric(&metrics, "holdfast_findings", &["severity=\"Error\""]),
            0
        );

        // Each ends in its own way.
        for (client, code) in clients.iter_mut().zip([1000, 4321, 3333]) {
            client.send(&close(true, code, "")).await;
            assert_eq!(client.close_frame().await.0, code);
            client.ended().await;
        }
        clients.clear();
        let (mut client, server) = pair(http, false, "dies.example", &dying).await;
        drop(server);
        client.close_frame().await;
        drop(client);
        let (client, mut server) = pair(http, false, "dies.example", &dying).await;
        drop(client);
        server.close_frame().await;
        drop(server);
        within("all have ended", holdfast.app.tunnels().wait_empty()).await;
        // And some requests of every fate.
        assert!(
            raw(
                http,
                b"GET / HTTP/1.1\r\nHost: x.example\r\nConnection: close\r\n\r\n"
            )
            .await
            .contains(" 404 ")
        );
        let ok = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
        assert!(raw(http, ok.as_bytes()).await.contains(" 200 "));
        drop(request(http, false, &handshake(HOST, "").replace("n: 13", "n: 12")).await);

        let metrics = page(&holdfast, "/metrics").await;
        assert_eq!(metric(&metrics, "holdfast_tunnels_open", &[]), 0);
        assert_eq!(
            metric(&metrics, messages, &["name=\"echo\"", "from=\"client\""]),
            6
        );
        let closed = |labels: &[&str]| metric(&metrics, "holdfast_tunnels_closed_total", labels);
        let peer = ["name=\"echo\"", "cause=\"peer_closed\"", "by=\"client\""];
        for code in ["1000", "3xxx", "4xxx"] {
            let code = format!("code=\"{code}\"");
            assert_eq!(closed(&[&peer[..], &[&*code]].concat()), 1, "{code}");
        }
        let dies = "name=\"dies\"";
        assert_eq!(
            closed(&[dies, "cause=\"pod_gone\"", "by=\"pod\"", "code=\"1011\""]),
            1
        );
        assert_eq!(
            closed(&[
                dies,
                "cause=\"client_gone\"",
                "by=\"client\"",
                "code=\"1001\""
            ]),
            1
        );
        assert_eq!(closed(&[]), 5);
        let requests = |labels: &[&str]| metric(&metrics, "holdfast_requests_total", labels);
        assert_eq!(requests(&[echo[2], "code=\"200\""]), 1);
        assert_eq!(requests(&["code=\"101\""]), 5);
        let refused = |labels: &[&str]| metric(&metrics, "holdfast_refused_requests_total", labels);
        assert_eq!(
            refused(&["side=\"config\"", "reason=\"no_route_for_host\""]),
            1
        );
        assert_eq!(
            refused(&["side=\"client\"", "reason=\"websocket_version\""]),
            1
        );
        let handshakes = metric(&metrics, "holdfast_websocket_handshake_seconds_count", &[]);
        assert_eq!(handshakes, 5);
        pods.stop().await;
    })
    .await;
}

#[tokio::test]
async fn pages_show_health_routes_and_open_websockets() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = Holdfast::start(&[
            ("edge.yaml", EDGE),
            ("pod.yaml", &service("pod", "", &[pod.address])),
            ("ingress.yaml", &ingress("pod", HOST, "pod")),
        ])
        .await;
        assert_eq!(page(&holdfast, "/healthz").await, "ok\n");
        assert_eq!(page(&holdfast, "/readyz").await, "ready\n");
        let empty = json(&holdfast, "/tunnels").await;
        assert_eq!(empty["tunnels"].as_array().unwrap().len(), 0);
        let routes = json(&holdfast, "/routes").await;
        for listener in [0, 1] {
            let route = &routes["listeners"][listener]["routes"][0];
            assert_eq!(route["host"], HOST, "{routes}");
            assert_eq!(route["declaredBy"]["name"], "pod");
            assert_eq!(route["backends"][0]["endpoints"]["ready"], 1);
        }

        let id = handshake(HOST, "X-Request-ID: my-id-7\r\n");
        let (mut client, mut server) =
            tokio::join!(request(holdfast.address("https"), true, &id), pod.upgrade());
        for _ in 0..5 {
            let message = frame(0x82, true, &[0; 300]);
            client.send(&message).await;
            server.read(message.len()).await;
        }
        let tunnels = soon("it is listed", async || {
            let tunnels = json(&holdfast, "/tunnels").await["tunnels"].take();
            (tunnels[0]["fromClient"]["messages"] == 5).then_some(tunnels)
        })
        .await;
        let tunnel = &tunnels[0];
        assert_eq!(tunnels.as_array().unwrap().len(), 1);
        assert_eq!(tunnel["requestId"], "my-id-7");
        assert_eq!(tunnel["listener"], "edge/edge/https");
        assert_eq!(tunnel["endpoint"], pod.address.to_string());
        assert!(
            tunnel["route"].as_str().unwrap().contains("default/pod"),
            "{tunnel}"
        );
        assert!(tunnel["client"].as_str().unwrap().starts_with("127.0.0.1:"));
        assert_eq!(tunnel["fromClient"]["messages"], 5);
        assert_eq!(tunnel["fromClient"]["bytes"], 5 * 308);
        assert_eq!(tunnel["fromPod"]["messages"], 0);
        assert!(tunnel["ageSeconds"].as_f64().unwrap() < 60.0);
        assert!(tunnel["ending"].is_null());
        drop((client, server));
        within("it has ended", holdfast.app.tunnels().wait_empty()).await;
        let after = json(&holdfast, "/tunnels").await;
        assert_eq!(after["tunnels"].as_array().unwrap().len(), 0);
    })
    .await;
}

/// Of a client that has vanished without a word only the kernel can tell.
#[tokio::test]
async fn the_kernel_watches_over_client_connections() {
    limited(async {
        let pod = RawPod::start().await;
        let holdfast = Holdfast::start(&[("edge.yaml", EDGE)]).await;
        drop(pod);
        let address = holdfast.address("http");
        let _client = dial(address, false).await;
        // Columns: number, local, remote, state (01 = established), queues, timer (02 = keepalive).
        let local = format!("0100007F:{:04X}", address.port());
        soon("a keepalive timer", async || {
            let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
            table
                .lines()
                .map(|line| line.split_whitespace().collect::<Vec<_>>())
                .any(|columns| {
                    columns[1] == local && columns[3] == "01" && columns[5].starts_with("02:")
                })
                .then_some(())
        })
        .await;
    })
    .await;
}
