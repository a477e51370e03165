//! What `kubectl apply` refuses of a LoadBalancer, and in which words.

use std::sync::Arc;

use anyhow::{Result, ensure};

use crate::trial::Trial;

/// What is wrong; the spec; words of the answer.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "no listeners",
        "{listeners: []}",
        "spec.listeners: Invalid value",
    ),
    (
        "no spec.listeners",
        "{exposure: Host}",
        "spec.listeners: Required value",
    ),
    (
        "two listeners with one port",
        "{listeners: [{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: HTTP}]}",
        "two listeners have the same port; give each listener a port of its own",
    ),
    (
        "two listeners with one name",
        "{listeners: [{name: a, port: 80, protocol: HTTP}, {name: a, port: 81, protocol: HTTP}]}",
        "Duplicate value",
    ),
    (
        "a port out of range",
        "{listeners: [{name: a, port: 65536, protocol: HTTP}]}",
        "should be less than or equal to 65535",
    ),
    (
        "port 0",
        "{listeners: [{name: a, port: 0, protocol: HTTP}]}",
        "should be greater than or equal to 1",
    ),
    (
        "a protocol that there is not",
        "{listeners: [{name: a, port: 80, protocol: SCTP}]}",
        "Unsupported value: \"SCTP\"",
    ),
    (
        "a name with capitals",
        "{listeners: [{name: A, port: 80, protocol: HTTP}]}",
        "spec.listeners[0].name: Invalid value",
    ),
    (
        "tls without HTTPS",
        "{listeners: [{name: a, port: 80, protocol: HTTP, tls: {certificateRefs: [{name: x}]}}]}",
        "tls is for listeners with protocol HTTPS; remove it or change the protocol",
    ),
    (
        "http2 without HTTPS",
        "{listeners: [{name: a, port: 80, protocol: HTTP, http2: true}]}",
        "http2 is negotiated over TLS and so is for listeners with protocol HTTPS",
    ),
    (
        "http1Only without HTTPS",
        "{listeners: [{name: a, port: 80, protocol: HTTP, http1Only: [a.example]}]}",
        "http1Only is about what is negotiated over TLS and so is for listeners with protocol HTTPS",
    ),
    (
        "a duration without unit",
        "{listeners: [{name: a, port: 80, protocol: HTTP, timeouts: {request: '30'}}]}",
        "spec.listeners[0].timeouts.request: Invalid value",
    ),
    (
        "a duration that is a number",
        "{listeners: [{name: a, port: 80, protocol: HTTP, websocket: {idleTimeout: 60}}]}",
        "must be of type string",
    ),
    (
        "a field that there is not",
        "{listeners: [{name: a, port: 80, protocol: HTTP, timeout: 5s}]}",
        "unknown field \"spec.listeners[0].timeout\"",
    ),
    (
        "an exposure that there is not",
        "{exposure: Node, listeners: [{name: a, port: 80, protocol: HTTP}]}",
        "Unsupported value: \"Node\"",
    ),
    (
        "a Service for exposure Host",
        "{exposure: Host, service: {}, listeners: [{name: a, port: 80, protocol: HTTP}]}",
        "service is for exposure Service; remove it or change the exposure",
    ),
    (
        "a node port of no listener",
        "{service: {nodePorts: {b: 30080}}, listeners: [{name: a, port: 80, protocol: HTTP}]}",
        "service.nodePorts names a listener that spec.listeners does not have",
    ),
    (
        "a class of load balancers for another type",
        "{service: {type: NodePort, loadBalancerClass: x.example/y}, \
          listeners: [{name: a, port: 80, protocol: HTTP}]}",
        "loadBalancerClass is for type LoadBalancer; remove it or change the type",
    ),
    (
        "a traffic policy for type ClusterIP",
        "{service: {type: ClusterIP, externalTrafficPolicy: Local}, \
          listeners: [{name: a, port: 80, protocol: HTTP}]}",
        "externalTrafficPolicy is for types LoadBalancer and NodePort",
    ),
    (
        "a type of Service that is not for this",
        "{service: {type: ExternalName}, listeners: [{name: a, port: 80, protocol: HTTP}]}",
        "Unsupported value: \"ExternalName\"",
    ),
    (
        "three families",
        "{service: {ipFamilies: [IPv4, IPv6, IPv4]}, \
          listeners: [{name: a, port: 80, protocol: HTTP}]}",
        "must have at most 2 items",
    ),
    (
        "a rule without backends",
        "{listeners: [{name: a, port: 80, protocol: HTTP}], rules: [{backends: []}]}",
        "spec.rules[0].backends: Invalid value",
    ),
    (
        "a path that does not start with a slash",
        "{listeners: [{name: a, port: 80, protocol: HTTP}], \
          rules: [{path: {value: x}, backends: [{service: {name: x, port: 80}}]}]}",
        "spec.rules[0].path.value: Invalid value",
    ),
    (
        "a host that is an URL",
        "{listeners: [{name: a, port: 80, protocol: HTTP}], \
          rules: [{hosts: ['https://x'], backends: [{service: {name: x, port: 80}}]}]}",
        "spec.rules[0].hosts[0]: Invalid value",
    ),
    (
        "a weight below zero",
        "{listeners: [{name: a, port: 80, protocol: HTTP}], \
          rules: [{backends: [{service: {name: x, port: 80}, weight: -1}]}]}",
        "should be greater than or equal to 0",
    ),
    (
        "a weight above a million",
        "{listeners: [{name: a, port: 80, protocol: HTTP}], \
          rules: [{backends: [{service: {name: x, port: 80}, weight: 1000001}]}]}",
        "should be less than or equal to 1000000",
    ),
    (
        "a backend without a port",
        "{listeners: [{name: a, port: 80, protocol: HTTP}], \
          rules: [{backends: [{service: {name: x}}]}]}",
        "spec.rules[0].backends[0].service.port: Required value",
    ),
    ("a listener too many", "", "must have at most 32 items"),
];

/// Each is refused in words that tell what to do, and nothing of it is stored.
pub(crate) async fn refused(trial: Arc<Trial>) -> Result<()> {
    let many: Vec<String> = (0..33)
        .map(|index| format!("{{name: l{index}, port: {}, protocol: HTTP}}", 8000 + index))
        .collect();
    let many = format!("{{listeners: [{}]}}", many.join(", "));
    for (what, spec, words) in REFUSED {
        let spec = if spec.is_empty() { &many } else { *spec };
        trial.item(what, refuses(&trial, spec, words)).await;
    }
    let accepted = async {
        let spec = "{listeners: [{name: a, port: 80, protocol: HTTP}]}";
        let (ok, said) = apply(&trial, spec).await?;
        ensure!(ok, "refused: {said}");
        Ok(())
    };
    trial.item("the smallest one is taken", accepted).await;
    Ok(())
}

async fn refuses(trial: &Trial, spec: &str, words: &str) -> Result<()> {
    let (ok, said) = apply(trial, spec).await?;
    ensure!(!ok, "it is taken: {said}");
    ensure!(said.contains(words), "refused otherwise: {said}");
    let stored = trial
        .cluster
        .find("LoadBalancer", &trial.namespace, "tried")
        .await?;
    ensure!(stored.is_none(), "it is stored all the same");
    Ok(())
}

async fn apply(trial: &Trial, spec: &str) -> Result<(bool, String)> {
    let object = format!(
        "apiVersion: holdfast.dev/v1alpha1\nkind: LoadBalancer\nmetadata: {{name: tried}}\n\
         spec: {spec}\n"
    );
    let namespace = format!("--namespace={}", trial.namespace);
    trial
        .cluster
        .try_kubectl(&["apply", &namespace, "--filename=-"], &object)
        .await
}
