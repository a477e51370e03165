//! The Kubernetes objects that configure Holdfast, as YAML documents.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{Certificate, Ports};

/// A LoadBalancer with an HTTP and an HTTPS listener, and the IngressClass that leads to it.
pub(crate) fn load_balancer(ports: Ports) -> String {
    load_balancer_with(ports, "{idleTimeout: 0s}")
}

/// The same with a policy for WebSockets.
pub(crate) fn load_balancer_with(ports: Ports, websocket: &str) -> String {
    let Ports { http, https, .. } = ports;
    format!(
        "apiVersion: holdfast.dev/v1alpha1
kind: LoadBalancer
metadata: {{name: bench, namespace: bench}}
spec:
  exposure: Host
  listeners:
  - name: http
    port: {http}
    protocol: HTTP
    timeouts: {{idle: 10m}}
    websocket: {websocket}
  - name: https
    port: {https}
    protocol: HTTPS
    timeouts: {{idle: 10m}}
    websocket: {websocket}
    tls: {{certificateRefs: [{{name: cert}}]}}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: holdfast}}
spec:
  controller: holdfast.dev/ingress-controller
  parameters:
    apiGroup: holdfast.dev
    kind: LoadBalancer
    scope: Namespace
    namespace: bench
    name: bench
"
    )
}

/// The Secret `cert`, of type `kubernetes.io/tls`.
pub(crate) fn secret(certificate: &Certificate) -> String {
    let key = BASE64_STANDARD.encode(&certificate.key);
    let certificate = BASE64_STANDARD.encode(&certificate.certificate);
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: cert, namespace: bench}}
type: kubernetes.io/tls
data:
  tls.crt: {certificate}
  tls.key: {key}
"
    )
}

/// A Service with port 80 and its EndpointSlice.
pub(crate) fn service(name: &str, endpoints: &[Ipv4Addr], port: u16) -> String {
    let mut text = format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: bench}}
spec:
  ports: [{{name: web, protocol: TCP, port: 80, targetPort: {port}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-1
  namespace: bench
  labels: {{kubernetes.io/service-name: {name}}}
addressType: IPv4
ports: [{{name: web, protocol: TCP, port: {port}}}]
endpoints:
"
    );
    for address in endpoints {
        let _ = writeln!(
            text,
            "- {{addresses: [{address}], conditions: {{ready: true}}}}"
        );
    }
    text
}

/// An Ingress that sends everything for `host` to port 80 of `service`.
pub(crate) fn ingress(name: &str, host: &str, service: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: bench}}
spec:
  ingressClassName: holdfast
  rules:
  - host: {host}
    http:
      paths:
      - path: /
        pathType: Prefix
        backend: {{service: {{name: {service}, port: {{number: 80}}}}}}
"
    )
}
