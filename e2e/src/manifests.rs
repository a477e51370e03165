//! YAML of what scenarios need again and again.

#![expect(
    clippy::needless_pass_by_value,
    reason = "JSON is made at the call and handed over"
)]

use serde_json::{Value, json};

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
          env: [{{name: POD_NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]
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

/// A LoadBalancer with ports 80 and 443.
pub(crate) fn load_balancer(name: &str) -> String {
    format!(
        "
apiVersion: holdfast.dev/v1alpha1
kind: LoadBalancer
metadata: {{name: {name}}}
spec:
  listeners:
    - {{name: http, port: 80, protocol: HTTP}}
    - {{name: https, port: 443, protocol: HTTPS}}
"
    )
}

/// An IngressClass of a LoadBalancer.
pub(crate) fn class(name: &str, namespace: &str, load_balancer: &str) -> String {
    format!(
        "
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: {name}}}
spec:
  controller: holdfast.dev/ingress-controller
  parameters:
    apiGroup: holdfast.dev
    kind: LoadBalancer
    namespace: {namespace}
    name: {load_balancer}
    scope: Namespace
"
    )
}

/// An Ingress of a class.
#[derive(Clone, Debug)]
pub(crate) struct Ingress {
    name: String,
    class: Option<String>,
    rules: Vec<(String, Vec<Value>)>,
    tls: Vec<Value>,
    default: Option<Value>,
    annotations: Value,
}

impl Ingress {
    /// One without rules.
    pub(crate) fn new(name: &str, class: &str) -> Self {
        Self {
            name: name.to_owned(),
            class: Some(class.to_owned()),
            rules: Vec::new(),
            tls: Vec::new(),
            default: None,
            annotations: json!({}),
        }
    }

    /// No class at all.
    pub(crate) fn without_class(mut self) -> Self {
        self.class = None;
        self
    }

    /// An annotation.
    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations[key] = json!(value);
        self
    }

    /// All of a host goes to port 80 of a Service.
    pub(crate) fn host(self, host: &str, service: &str) -> Self {
        self.path(host, "Prefix", "/", service)
    }

    /// A path of a host goes to port 80 of a Service. An empty host is none.
    pub(crate) fn path(self, host: &str, path_type: &str, path: &str, service: &str) -> Self {
        self.backend(
            host,
            path_type,
            path,
            to_service(service, json!({"number": 80})),
        )
    }

    /// A path of a host goes to a backend as in the API.
    pub(crate) fn backend(
        mut self,
        host: &str,
        path_type: &str,
        path: &str,
        backend: Value,
    ) -> Self {
        let path = json!({"path": path, "pathType": path_type, "backend": backend});
        match self.rules.iter_mut().find(|rule| rule.0 == host) {
            Some((_, paths)) => paths.push(path),
            None => self.rules.push((host.to_owned(), vec![path])),
        }
        self
    }

    /// What no rule takes goes to port 80 of a Service.
    pub(crate) fn default_backend(mut self, service: &str) -> Self {
        self.default = Some(to_service(service, json!({"number": 80})));
        self
    }

    /// Certificates for hosts; no hosts = all of the rules.
    pub(crate) fn tls(mut self, hosts: &[&str], secret: &str) -> Self {
        let mut entry = json!({"secretName": secret});
        if !hosts.is_empty() {
            entry["hosts"] = json!(hosts);
        }
        self.tls.push(entry);
        self
    }

    /// As an object.
    pub(crate) fn object(&self) -> Value {
        let rules = self.rules.iter().map(|(host, paths)| {
            let mut rule = json!({"http": {"paths": paths}});
            if !host.is_empty() {
                rule["host"] = json!(host);
            }
            rule
        });
        let mut spec = json!({"rules": rules.collect::<Vec<_>>(), "tls": self.tls});
        if let Some(class) = &self.class {
            spec["ingressClassName"] = json!(class);
        }
        if let Some(default) = &self.default {
            spec["defaultBackend"] = default.clone();
        }
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": self.name, "annotations": self.annotations},
            "spec": spec,
        })
    }

    /// As YAML.
    pub(crate) fn yaml(&self) -> String {
        // JSON is YAML.
        self.object().to_string()
    }
}

/// A backend: a Service and its port, `{"number": 80}` or `{"name": "http"}`.
pub(crate) fn to_service(name: &str, port: Value) -> Value {
    json!({"service": {"name": name, "port": port}})
}
