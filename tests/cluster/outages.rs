//! The API server goes away, and comes back.

use crate::controller::{Controller, edge_with_app, ingress, limited};
use crate::harness::service;
use crate::peers::{RawPod, TEXT, frame, pair};

#[tokio::test]
async fn everything_goes_on_while_the_server_is_gone_and_changes_arrive_when_it_is_back() {
    limited(async {
        let server = edge_with_app().await;
        let raw = RawPod::start().await;
        server.put_yaml(&service("chat", "", &[raw.address]));
        server.put(ingress("chat", "ws.example", "chat"));
        server.put(ingress("app", "app.example", "app"));
        let controller = Controller::ready(&server).await;
        controller.serves("app.example", "app").await;
        let (mut client, mut pod) = pair(controller.http(), false, "ws.example", &raw).await;
        let generation = controller.app.generation();

        server.go_away();
        for kind in [
            "Ingress",
            "Secret",
            "Service",
            "EndpointSlice",
            "LoadBalancer",
        ] {
            let of = format!("watch of {kind}:");
            let report = controller.reported(&[&of, "cannot be reached"]).await;
            assert!(
                report.contains("what was last known is still served"),
                "{report}"
            );
        }
        for _ in 0..20 {
            assert!(controller.get("app.example").await.ends_with("app"));
            let text = frame(TEXT, true, b"still here");
            client.send(&text).await;
            assert_eq!(pod.read(text.len()).await, text);
        }
        let second = pair(controller.http(), false, "ws.example", &raw).await;
        assert!(controller.readyz().await.0);
        assert_eq!(controller.app.generation(), generation);
        let (_, findings) = controller.page("/findings").await;
        assert!(findings.contains("WatchFailed"), "{findings}");
        let (_, metrics) = controller.page("/metrics").await;
        assert!(metrics.contains("reason=\"WatchFailed\""), "{metrics}");

        server.put(ingress("new", "new.example", "app"));
        server.remove("Ingress", "default", "app");
        server.come_back().await;
        controller.serves("new.example", "app").await;
        controller.answers("app.example", 404).await;
        controller.resolved("WatchFailed").await;
        let text = frame(TEXT, true, b"even now");
        client.send(&text).await;
        assert_eq!(pod.read(text.len()).await, text);
        assert_eq!(controller.app.tunnels().len(), 2);
        drop(second);
    })
    .await;
}

#[tokio::test]
async fn an_outage_in_pieces_brings_each_kind_back_by_itself() {
    limited(async {
        let server = edge_with_app().await;
        server.put(ingress("app", "app.example", "app"));
        let controller = Controller::ready(&server).await;
        for round in 0..3 {
            server.go_away();
            controller
                .reported(&["watch of Ingress:", "cannot be reached"])
                .await;
            server.compact();
            server.put(ingress("app", &format!("app{round}.example"), "app"));
            server.come_back().await;
            controller
                .serves(&format!("app{round}.example"), "app")
                .await;
            controller.resolved("WatchFailed").await;
        }
    })
    .await;
}
