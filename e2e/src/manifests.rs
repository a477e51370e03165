//! YAML of what scenarios need again and again.

/// The image of Holdfast, which has the pods of the demo in it.
pub(crate) const IMAGE: &str = concat!("localhost/holdfast:", env!("CARGO_PKG_VERSION"));

/// A Deployment of the built-in pod `kind` (`echo`, `chat`), and its Service on port 80 (`http`).
pub(crate) fn pods(kind: &str, name: &str, replicas: u32) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - name: {kind}
          image: {IMAGE}
          args: [pod, {kind}, --address, '0.0.0.0:8080']
          ports: [{{name: web, containerPort: 8080}}]
          readinessProbe: {{httpGet: {{path: /, port: web}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: http, port: 80, targetPort: web}}]
"
    )
}

/// [`pods`] that answer with what they saw, as JSON, and send WebSocket messages back.
pub(crate) fn echo(name: &str, replicas: u32) -> String {
    pods("echo", name, replicas)
}

/// An Ingress of the class `holdfast` that sends all of a host to port 80 of a Service.
pub(crate) fn ingress(name: &str, host: &str, service: &str) -> String {
    format!(
        "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}}}
spec:
  ingressClassName: holdfast
  rules:
    - host: '{host}'
      http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}]}}
"
    )
}
