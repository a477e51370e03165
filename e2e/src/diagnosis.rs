//! What helps to understand a failure: the controllers' logs, Events, states of objects.

use std::time::Duration;

use crate::cluster::{Cluster, text};

const LIMIT: Duration = Duration::from_secs(20);
/// Of each section.
const LINES: usize = 80;

/// Prints it, as far as it can be had.
pub(crate) async fn print(cluster: &Cluster, namespaces: &[String]) {
    let everywhere: [&[&str]; 2] = [
        &["get", "pods", "-A", "-o", "wide"],
        &[
            "get",
            "loadbalancers,ingresses,services,ingressclasses",
            "-A",
        ],
    ];
    for arguments in everywhere {
        section(cluster, arguments).await;
    }
    let controllers = cluster.list("Pod", "", "app.kubernetes.io/part-of=holdfast");
    let controllers = tokio::time::timeout(LIMIT, controllers).await;
    for pod in controllers.iter().flatten().flatten() {
        let (namespace, name) = (
            text(pod, "/metadata/namespace"),
            text(pod, "/metadata/name"),
        );
        let log = ["--namespace", namespace, "logs", name, "--tail=80"];
        section(cluster, &log).await;
        let restarts = pod.pointer("/status/containerStatuses/0/restartCount");
        if restarts.and_then(serde_json::Value::as_u64) > Some(0) {
            section(cluster, &[&log[..], &["--previous"]].concat()).await;
        }
    }
    for namespace in namespaces {
        let namespace = ["--namespace", namespace];
        let each: [&[&str]; 2] = [
            &["get", "events", "--sort-by=.lastTimestamp"],
            &["get", "loadbalancers,ingresses", "-o", "yaml"],
        ];
        for arguments in each {
            section(cluster, &[&namespace[..], arguments].concat()).await;
        }
    }
}

async fn section(cluster: &Cluster, arguments: &[&str]) {
    eprintln!("    --- kubectl {}", arguments.join(" "));
    let said = match tokio::time::timeout(LIMIT, cluster.try_kubectl(arguments, "")).await {
        Ok(Ok((_, said))) => said,
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => "no answer in time".to_owned(),
    };
    let lines: Vec<&str> = said.lines().collect();
    for line in lines.iter().take(LINES) {
        eprintln!("    | {line}");
    }
    if lines.len() > LINES {
        eprintln!("    | and {} lines more", lines.len() - LINES);
    }
}
