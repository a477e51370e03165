//! What stands behind a route: Services of all sorts, pods that are not ready, pods that come and go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{answers, finding};
use crate::cluster::text;
use crate::manifests::{IMAGE, Ingress, echo, to_service};
use crate::patience::{PODS, eventually, soon, steadily};
use crate::trial::Trial;

/// Services that are served, and those that cannot be.
pub(crate) async fn sorts_of_backends(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    trial.apply(&echo("echo", 1)).await?;
    trial.apply(&echo("missing-pods", 0)).await?;
    let service = |name: &str, spec: Value| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
            .to_string()
    };
    let port = json!([{"name": "http", "port": 80, "targetPort": 8080}]);
    let selector = json!({"app": "echo"});
    let headless = json!({"clusterIP": "None", "selector": selector, "ports": port});
    trial.apply(&service("headless", headless)).await?;
    let node_port = json!({"type": "NodePort", "selector": selector, "ports": port});
    trial.apply(&service("node-port", node_port)).await?;
    let external = json!({"type": "ExternalName", "externalName": "example.com", "ports": port});
    trial.apply(&service("external", external)).await?;
    let resource = json!({"resource": {
        "apiGroup": "storage.example", "kind": "Bucket", "name": "pictures",
    }});
    let ingress = Ingress::new("sorts", &edge.class)
        .path("a.example", "Prefix", "/plain", "echo")
        .path("a.example", "Prefix", "/headless", "headless")
        .path("a.example", "Prefix", "/node-port", "node-port")
        .path("a.example", "Prefix", "/external", "external")
        .path("a.example", "Prefix", "/missing", "later")
        .path("a.example", "Prefix", "/empty", "missing-pods")
        .backend("a.example", "Prefix", "/resource", resource)
        .backend(
            "a.example",
            "Prefix",
            "/port",
            to_service("echo", json!({"number": 81})),
        );
    trial.apply(&ingress.yaml()).await?;
    trial.ready(&["echo"]).await?;
    let client = edge.http("a.example");
    for (what, path, who) in [
        ("a Service with an address", "/plain", "echo"),
        ("a headless Service", "/headless", "echo"),
        ("a Service of type NodePort", "/node-port", "echo"),
        ("a Service of type ExternalName is not", "/external", "503"),
        ("a Service that is not there", "/missing", "503"),
        ("a port that the Service lacks", "/port", "503"),
        ("a Service without pods", "/empty", "503"),
        ("a resource backend is not", "/resource", "503"),
    ] {
        let item = soon(path, async || answers(&client, path, who).await);
        trial.item(&format!("{what}: {who}"), item).await;
    }
    for (kind, name, reason, words) in [
        ("Ingress", "sorts", "Unsupported", "type ExternalName"),
        ("Ingress", "sorts", "Unsupported", "resource backends"),
        ("Ingress", "sorts", "ServiceNotFound", "later"),
        ("Ingress", "sorts", "PortNotFound", "no port 81"),
        (
            "Service",
            "missing-pods",
            "NoEndpoints",
            "no pod serves port 80",
        ),
    ] {
        let told = soon(words, async || {
            finding(&trial, kind, &trial.namespace, name, reason, words).await
        });
        trial
            .item(&format!("a finding {reason} on the {kind}: {words}"), told)
            .await;
    }
    trial.apply(&echo("later", 1)).await?;
    let created = eventually("it is served", PODS, async || {
        answers(&client, "/missing", "later").await
    });
    trial
        .item("a Service that is created later is served", created)
        .await;
    Ok(())
}

/// A port that has another number in each pod, and pods that must not get requests.
pub(crate) async fn pods_behind_a_service(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    for (name, port, ready) in [
        ("on-8080", 8080, "/"),
        ("on-9999", 9999, "/"),
        ("unready", 8080, "/?status=500"),
    ] {
        trial.apply(&numbered(name, port, ready)).await?;
    }
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "both"},
        "spec": {"selector": {"part": "of-both"}, "ports": [{"port": 80, "targetPort": "web"}]},
    });
    trial.apply(&service.to_string()).await?;
    let ingress = Ingress::new("both", &edge.class).host("a.example", "both");
    trial.apply(&ingress.yaml()).await?;
    trial.ready(&["on-8080", "on-9999"]).await?;
    let client = edge.http("a.example");
    let seen = async || {
        let mut seen = BTreeSet::new();
        for _ in 0..40 {
            seen.insert(client.get("/").await?.echo()?.deployment().to_owned());
        }
        anyhow::Ok(seen)
    };
    let both = soon("both answer", async || {
        let seen: BTreeSet<String> = seen().await?;
        ensure!(seen.len() == 2, "it was {seen:?}");
        ensure!(!seen.contains("unready"), "it was {seen:?}");
        Ok(())
    });
    trial
        .item("a named port with another number in each pod", both)
        .await;
    let running = eventually("the unready pod runs", PODS, async || {
        let pods = trial
            .cluster
            .list("Pod", &trial.namespace, "app=unready")
            .await?;
        let phase = pods.first().map(|pod| text(pod, "/status/phase"));
        ensure!(phase == Some("Running"), "it is {phase:?}");
        Ok(())
    })
    .await;
    let never = async {
        running?;
        let seen = seen().await?;
        ensure!(!seen.contains("unready"), "it was {seen:?}");
        Ok(())
    };
    trial
        .item("a pod that is not ready gets nothing", never)
        .await;

    let pods = trial
        .cluster
        .list("Pod", &trial.namespace, "app=on-9999")
        .await?;
    let leaving = pods
        .first()
        .map(|pod| text(pod, "/metadata/name"))
        .unwrap_or("");
    trial
        .cluster
        .delete("Pod", &trial.namespace, leaving)
        .await?;
    let gone = soon("the pod that is going gets nothing", async || {
        for _ in 0..20 {
            let pod = client.get("/").await?.echo()?.pod;
            ensure!(pod != leaving, "{pod} has answered");
        }
        Ok(())
    });
    trial.item("a pod that is going gets nothing", gone).await;
    Ok(())
}

/// One echo pod that listens where it is told to.
fn numbered(name: &str, port: u16, ready: &str) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}, part: of-both}}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - name: echo
          image: {IMAGE}
          args: [pod, echo, --address, '0.0.0.0:{port}']
          env: [{{name: POD_NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]
          ports: [{{name: web, containerPort: {port}}}]
          readinessProbe: {{httpGet: {{path: '{ready}', port: web}}, periodSeconds: 1}}
"
    )
}

/// Up and down: always all the pods that there are, and no others.
pub(crate) async fn scaling(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    trial.apply(&echo("echo", 1)).await?;
    let ingress = Ingress::new("echo", &edge.class).host("a.example", "echo");
    trial.apply(&ingress.yaml()).await?;
    trial.ready(&["echo"]).await?;
    let client = edge.http("a.example");
    for count in [1_usize, 5, 3, 6, 3] {
        let scale = json!({"spec": {"replicas": count}});
        trial
            .cluster
            .patch("Deployment", &trial.namespace, "echo", scale)
            .await?;
        trial.ready(&["echo"]).await?;
        let all = async || {
            let mut pods = BTreeSet::new();
            for _ in 0..10 * count {
                pods.insert(client.get("/").await?.comes_from("echo")?.pod);
            }
            ensure!(
                pods.len() == count,
                "{} pods answered: {pods:?}",
                pods.len()
            );
            Ok(())
        };
        let item = async {
            soon("all of them answer", all).await?;
            steadily("only they answer", Duration::from_millis(300), all).await
        };
        trial.item(&format!("{count} pods"), item).await;
    }
    Ok(())
}
