//! What the tests need to have a tunnel at all.

use std::net::SocketAddr;
use std::sync::Arc;

use holdfast::routing::{ListenerId, Origin, PodProtocol, RouteId, UpstreamId};
use holdfast::websocket::TunnelInfo;

/// A tunnel of the route `host/`.
pub(crate) fn info(host: &str) -> TunnelInfo {
    let name: Arc<str> = "test".into();
    TunnelInfo {
        route: Arc::new(RouteId {
            origin: Arc::new(Origin {
                kind: "Ingress",
                namespace: Arc::clone(&name),
                name: Arc::clone(&name),
            }),
            host: host.into(),
            path: "/".into(),
        }),
        listener: Arc::new(ListenerId {
            namespace: Arc::clone(&name),
            load_balancer: Arc::clone(&name),
            name: Arc::clone(&name),
        }),
        upstream: Arc::new(UpstreamId {
            namespace: Arc::clone(&name),
            service: name,
            port: 80,
            protocol: PodProtocol::Plain,
        }),
        endpoint: SocketAddr::from(([10, 0, 0, 1], 80)),
        client: SocketAddr::from(([192, 0, 2, 1], 40000)),
        request_id: None,
    }
}
