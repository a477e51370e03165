//! Every sort of broken object, and what is to be told of it.

use anyhow::Result;
use serde_json::{Value, json};

use crate::client::{Authority, secret};
use crate::manifests::{Ingress, to_service};
use crate::trial::{Edge, Trial};

/// What is broken: the object that is to be told, by kind and name, the reason, words.
pub(super) const TOLD: &[(&str, &str, &str, &str)] = &[
    (
        "Ingress",
        "no-service",
        "ServiceNotFound",
        "there is no Service",
    ),
    (
        "Ingress",
        "no-port-number",
        "PortNotFound",
        "has no port 81",
    ),
    (
        "Ingress",
        "no-port-name",
        "PortNotFound",
        "has no port named \"grpc\"",
    ),
    ("Ingress", "udp", "Unsupported", "only TCP is served"),
    ("Ingress", "external", "Unsupported", "type ExternalName"),
    (
        "Ingress",
        "resource",
        "Unsupported",
        "resource backends are not supported",
    ),
    (
        "Ingress",
        "protocol",
        "Unsupported",
        "appProtocol kubernetes.io/h2c",
    ),
    (
        "Ingress",
        "dots",
        "PathInvalid",
        "must not have '.' or '..' as a segment",
    ),
    ("Ingress", "query", "PathInvalid", "cannot have '?'"),
    (
        "Ingress",
        "no-secret",
        "SecretNotFound",
        "there is no Secret",
    ),
    (
        "Ingress",
        "opaque-secret",
        "SecretTypeInvalid",
        "its type is not kubernetes.io/tls",
    ),
    (
        "Ingress",
        "rubbish-secret",
        "CertificateInvalid",
        "tls.crt has no CERTIFICATE block",
    ),
    (
        "Ingress",
        "rubbish-key",
        "CertificateInvalid",
        "tls.key has no valid PRIVATE KEY block",
    ),
    (
        "Ingress",
        "other-key",
        "KeyMismatch",
        "tls.key does not belong",
    ),
    (
        "Ingress",
        "other-name",
        "CertificateInvalid",
        "is not for a.example",
    ),
    (
        "Ingress",
        "no-class",
        "ClassNotFound",
        "there is no IngressClass",
    ),
    (
        "Ingress",
        "broken-class",
        "ClassParametersInvalid",
        "IngressClass {class}-map is unusable",
    ),
    (
        "Ingress",
        "clash",
        "RouteConflict",
        "path / of host good.example belongs to",
    ),
    ("Ingress", "twice", "RouteConflict", "declared twice"),
    ("Service", "empty", "NoEndpoints", "no pod serves port 80"),
    (
        "IngressClass",
        "{class}-map",
        "ClassParametersInvalid",
        "they must be a LoadBalancer",
    ),
    (
        "IngressClass",
        "{class}-cluster",
        "ClassParametersInvalid",
        "set scope: Namespace",
    ),
    (
        "IngressClass",
        "{class}-nobody",
        "ClassParametersInvalid",
        "there is no LoadBalancer",
    ),
    (
        "LoadBalancer",
        "no-certificate",
        "SecretNotFound",
        "there is no Secret",
    ),
    (
        "LoadBalancer",
        "no-listener",
        "ListenerNotFound",
        "there is no listener \"b\"",
    ),
    (
        "LoadBalancer",
        "no-backend",
        "ServiceNotFound",
        "there is no Service",
    ),
    (
        "LoadBalancer",
        "zero",
        "SpecInvalid",
        "must be longer than 0s",
    ),
];

/// `{class}` is that of the edge.
pub(super) fn named(text: &str, edge: &Edge) -> String {
    text.replace("{class}", &edge.class)
}

/// Makes them all.
pub(super) async fn apply_broken(trial: &Trial, edge: &Edge, authority: &Authority) -> Result<()> {
    let (first, second) = (
        authority.issue(&["other.example"])?,
        authority.issue(&["a.example"])?,
    );
    let service = |name: &str, spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    let port = |extra: Value| {
        let mut port = json!({"name": "p", "port": 80, "targetPort": 8080});
        for (key, value) in extra.as_object().into_iter().flatten() {
            port[key] = value.clone();
        }
        json!({"selector": {"app": "echo"}, "ports": [port]})
    };
    let external = json!({"type": "ExternalName", "externalName": "example.com"});
    let opaque = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "opaque"},
        "stringData": {"tls.crt": "x", "tls.key": "x"},
    });
    for object in [
        service("udp", port(json!({"protocol": "UDP"}))),
        service("h2c", port(json!({"appProtocol": "kubernetes.io/h2c"}))),
        service("external", external),
        service(
            "empty",
            json!({"ports": [{"port": 80}], "selector": {"app": "nobody"}}),
        ),
        opaque,
    ] {
        trial.apply(&object.to_string()).await?;
    }
    for secret in [
        secret("rubbish", "no certificate", "no key"),
        first.secret("other-name"),
        first.secret_with_key_of(&second, "other-key"),
        first.secret_with_key("rubbish-key", "no key"),
    ] {
        trial.apply(&secret).await?;
    }
    let new = |name: &str| Ingress::new(name, &edge.class);
    let to = |name: &str, service: &str| {
        new(name).path("a.example", "Prefix", &format!("/{name}"), service)
    };
    let resource = json!({"resource": {"apiGroup": "x.example", "kind": "Bucket", "name": "b"}});
    let ingresses = [
        to("no-service", "nowhere"),
        new("no-port-number").backend(
            "a.example",
            "Prefix",
            "/n",
            to_service("echo", json!({"number": 81})),
        ),
        new("no-port-name").backend(
            "a.example",
            "Prefix",
            "/m",
            to_service("echo", json!({"name": "grpc"})),
        ),
        to("udp", "udp"),
        new("external").backend(
            "a.example",
            "Prefix",
            "/e",
            to_service("external", json!({"number": 80})),
        ),
        new("resource").backend("a.example", "Prefix", "/r", resource),
        to("protocol", "h2c"),
        to("empty", "empty"),
        new("dots")
            .path("a.example", "ImplementationSpecific", "/x/../y", "echo")
            .path("a.example", "Prefix", "/dots-good", "echo"),
        new("query")
            .path("a.example", "ImplementationSpecific", "/x?y=z", "echo")
            .path("a.example", "Prefix", "/query-good", "echo"),
        to("no-secret", "echo").tls(&["s1.example"], "missing"),
        to("opaque-secret", "echo").tls(&["s2.example"], "opaque"),
        to("rubbish-secret", "echo").tls(&["s3.example"], "rubbish"),
        to("rubbish-key", "echo").tls(&["s4.example"], "rubbish-key"),
        to("other-key", "echo").tls(&["s5.example"], "other-key"),
        to("other-name", "echo").tls(&["a.example"], "other-name"),
        Ingress::new("no-class", "no-such-class").host("c.example", "echo"),
        Ingress::new("broken-class", &format!("{}-map", edge.class)).host("d.example", "echo"),
        new("clash").host("good.example", "echo"),
        new("twice")
            .path("twice.example", "Prefix", "/a", "echo")
            .path("twice.example", "Prefix", "/a/", "good"),
    ];
    for ingress in ingresses {
        trial.apply(&ingress.yaml()).await?;
    }
    for (suffix, parameters) in [
        (
            "map",
            json!({"kind": "ConfigMap", "name": "x", "scope": "Cluster"}),
        ),
        (
            "cluster",
            json!({"apiGroup": "holdfast.dev", "kind": "LoadBalancer", "name": "edge"}),
        ),
        (
            "nobody",
            json!({
                "apiGroup": "holdfast.dev", "kind": "LoadBalancer", "name": "nobody",
                "namespace": trial.namespace, "scope": "Namespace",
            }),
        ),
    ] {
        let class = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": {"name": format!("{}-{suffix}", edge.class)},
            "spec": {"controller": "holdfast.dev/ingress-controller", "parameters": parameters},
        });
        trial.apply(&class.to_string()).await?;
    }
    let listener = json!({"name": "a", "port": 80, "protocol": "HTTP"});
    let backends = |name: &str| json!([{"service": {"name": name, "port": 80}}]);
    for (name, spec) in [
        (
            "no-certificate",
            json!({"listeners": [{
                "name": "a", "port": 443, "protocol": "HTTPS",
                "tls": {"certificateRefs": [{"name": "missing"}]},
            }]}),
        ),
        (
            "no-listener",
            json!({
                "listeners": [listener],
                "rules": [{"listeners": ["b"], "backends": backends("echo")}],
            }),
        ),
        (
            "no-backend",
            json!({"listeners": [listener], "rules": [{"backends": backends("nowhere")}]}),
        ),
        (
            "zero",
            json!({"listeners": [{
                "name": "a", "port": 80, "protocol": "HTTP", "timeouts": {"idle": "0s"},
            }]}),
        ),
    ] {
        let object = json!({
            "apiVersion": "holdfast.dev/v1alpha1", "kind": "LoadBalancer",
            "metadata": {"name": name}, "spec": spec,
        });
        trial.apply(&object.to_string()).await?;
    }
    Ok(())
}

/// Removes all that is broken.
pub(super) async fn mend(trial: &Trial, edge: &Edge) -> Result<()> {
    let cluster = &trial.cluster;
    for kind in ["Ingress", "LoadBalancer", "IngressClass"] {
        for (told, name, ..) in TOLD {
            if told == &kind {
                let name = named(name, edge);
                cluster.delete(kind, &trial.namespace, &name).await?;
            }
        }
    }
    cluster.delete("Ingress", &trial.namespace, "empty").await
}
