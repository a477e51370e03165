//! What changes at the API server changes on the wire.

use serde_json::json;

use crate::controller::{Controller, edge_with_app, ingress, limited, pod};
use crate::harness::{service, slice};
use crate::peers::{RawPod, pair};

#[tokio::test]
async fn ingresses_are_served_from_their_creation_to_their_deletion() {
    limited(async {
        let server = edge_with_app().await;
        server.put_yaml(&service("other", "", &[pod("other").await]));
        let controller = Controller::ready(&server).await;
        controller.answers("app.example", 404).await;
        server.put(ingress("app", "app.example", "app"));
        controller.serves("app.example", "app").await;
        server.put(ingress("app", "app.example", "other"));
        controller.serves("app.example", "other").await;
        server.put(ingress("app", "new.example", "other"));
        controller.serves("new.example", "other").await;
        controller.answers("app.example", 404).await;
        server.remove("Ingress", "default", "app");
        controller.answers("new.example", 404).await;
    })
    .await;
}

#[tokio::test]
async fn endpoints_services_classes_and_load_balancers_are_followed() {
    limited(async {
        let server = edge_with_app().await;
        server.put(ingress("app", "app.example", "app"));
        let controller = Controller::ready(&server).await;
        controller.serves("app.example", "app").await;

        let moved = pod("moved").await;
        server.put_yaml(&slice("app-0", "app", moved, "ready: true"));
        controller.serves("app.example", "moved").await;
        server.remove("EndpointSlice", "default", "app-0");
        controller.answers("app.example", 503).await;
        server.put_yaml(&slice("app-0", "app", moved, "ready: true"));
        controller.serves("app.example", "moved").await;

        let named = server.object("Service", "default", "app").unwrap();
        server.remove("Service", "default", "app");
        controller.answers("app.example", 503).await;
        server.put(named);
        controller.serves("app.example", "moved").await;

        let class = server.object("IngressClass", "", "holdfast").unwrap();
        server.remove("IngressClass", "", "holdfast");
        controller.answers("app.example", 404).await;
        server.put(class);
        controller.serves("app.example", "moved").await;

        let mut edge = server.object("LoadBalancer", "edge", "edge").unwrap();
        edge["spec"]["listeners"] = json!([{"name": "http2", "port": 81, "protocol": "HTTP"}]);
        server.put(edge);
        let named = async || {
            let addresses = controller.app.addresses();
            let names: Vec<&str> = addresses.keys().map(|id| &*id.name).collect();
            (names == ["http2"]).then_some(())
        };
        crate::harness::soon("the listener is another", named).await;
    })
    .await;
}

#[tokio::test]
async fn a_websocket_stays_open_through_changes_and_cut_watches() {
    limited(async {
        let server = edge_with_app().await;
        let raw = RawPod::start().await;
        server.put_yaml(&service("chat", "", &[raw.address]));
        server.put(ingress("chat", "ws.example", "chat"));
        let controller = Controller::ready(&server).await;
        let (mut client, mut server_end) = pair(controller.http(), false, "ws.example", &raw).await;
        for round in 0..3 {
            server.put(ingress("app", &format!("app{round}.example"), "app"));
            controller
                .serves(&format!("app{round}.example"), "app")
                .await;
            server.cut_watches();
            if round == 1 {
                server.compact();
            }
            let text = crate::peers::frame(crate::peers::TEXT, true, b"still here");
            client.send(&text).await;
            assert_eq!(server_end.read(text.len()).await, text);
        }
        assert_eq!(controller.app.tunnels().len(), 1);
    })
    .await;
}
