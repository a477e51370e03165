//! The objects of the bench, as JSON.

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::peers::Certificate;

/// The namespace of all of them.
pub(super) const NAMESPACE: &str = "bench";

/// A kind, as the API's paths and bodies name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) api: &'static str,
    pub(super) plural: &'static str,
}

pub(super) const INGRESS: Kind = Kind {
    api: "/apis/networking.k8s.io/v1",
    plural: "ingresses",
};
pub(super) const SERVICE: Kind = Kind {
    api: "/api/v1",
    plural: "services",
};
pub(super) const SLICE: Kind = Kind {
    api: "/apis/discovery.k8s.io/v1",
    plural: "endpointslices",
};
pub(super) const SECRET: Kind = Kind {
    api: "/api/v1",
    plural: "secrets",
};
pub(super) const LOAD_BALANCER: Kind = Kind {
    api: "/apis/holdfast.dev/v1alpha1",
    plural: "loadbalancers",
};

/// A path of an Ingress: host, Service.
pub(super) fn ingress(name: &str, host: &str, service: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name},
        "spec": {
            "ingressClassName": "bench",
            "rules": [{
                "host": host,
                "http": {"paths": [{
                    "path": "/",
                    "pathType": "Prefix",
                    "backend": {"service": {"name": service, "port": {"number": 80}}},
                }]},
            }],
        },
    })
}

/// As [`ingress`], with a certificate.
pub(super) fn tls_ingress(name: &str, host: &str, service: &str, secret: &str) -> Value {
    let mut ingress = ingress(name, host, service);
    ingress["spec"]["tls"] = json!([{"hosts": [host], "secretName": secret}]);
    ingress
}

/// A Service without a selector: its EndpointSlice is ours.
pub(super) fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"ports": [{"name": "http", "port": 80}]},
    })
}

/// The slice of a Service, with one endpoint.
pub(super) fn slice(service: &str, endpoint: SocketAddr) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": endpoint.port(), "protocol": "TCP"}],
        "endpoints": [{"addresses": [endpoint.ip().to_string()], "conditions": {"ready": true}}],
    })
}

/// A Secret of a certificate.
pub(super) fn secret(name: &str, certificate: &Certificate) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": name},
        "data": {
            "tls.crt": BASE64_STANDARD.encode(&certificate.certificate),
            "tls.key": BASE64_STANDARD.encode(&certificate.key),
        },
    })
}

/// The LoadBalancer of the bench, on ports of the host.
pub(super) fn load_balancer(http: u16, https: u16) -> Value {
    json!({
        "apiVersion": "holdfast.dev/v1alpha1",
        "kind": "LoadBalancer",
        "metadata": {"name": "bench"},
        "spec": {
            "exposure": "Host",
            "listeners": [
                // A WebSocket of the bench talks once a second; connections of the poll may rest.
                {"name": "http", "port": http, "protocol": "HTTP", "timeouts": {"idle": "10m"}},
                {"name": "https", "port": https, "protocol": "HTTPS"},
            ],
        },
    })
}

/// The class that points at it.
pub(super) fn ingress_class() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": "bench"},
        "spec": {
            "controller": "holdfast.dev/ingress-controller",
            "parameters": {
                "apiGroup": "holdfast.dev",
                "kind": "LoadBalancer",
                "name": "bench",
                "namespace": NAMESPACE,
                "scope": "Namespace",
            },
        },
    })
}

/// The first address of the first node, at which the backend can be an endpoint: the API server
/// refuses loopback.
pub(super) fn node_address(nodes: &Value) -> Option<IpAddr> {
    let addresses = nodes["items"][0]["status"]["addresses"].as_array()?;
    addresses
        .iter()
        .find(|address| address["type"] == "InternalIP")?["address"]
        .as_str()?
        .parse()
        .ok()
}
