//! The Service that each LoadBalancer owns: what it is, how it is kept, how it goes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::answers;
use super::ingress_classes::{has_address, has_no_address};
use crate::client::{Authority, Visitor};
use crate::cluster::{items, text};
use crate::installation::Installation;
use crate::manifests::{Ingress, class, echo, load_balancer};
use crate::patience::{PODS, eventually, soon, steadily};
use crate::trial::Trial;

/// Two LoadBalancers with the same ports and names, in two namespaces.
pub(crate) async fn two_with_one_port(trial: Arc<Trial>) -> Result<()> {
    let other = trial.namespace("other").await?;
    let installation = trial.shared()?;
    let authority = Authority::new()?;
    let mut addresses = Vec::new();
    for (namespace, pods) in [(&trial.namespace, "here"), (&other, "there")] {
        let issued = authority.issue(&["a.example"])?;
        let ingress = Ingress::new("a", &format!("{namespace}-edge"))
            .host("a.example", pods)
            .tls(&["a.example"], "a");
        for yaml in [
            load_balancer("edge"),
            class(&format!("{namespace}-edge"), namespace, "edge"),
            echo(pods, 1),
            issued.secret("a"),
            ingress.yaml(),
        ] {
            trial.cluster.apply(namespace, &yaml).await?;
        }
        let address = installation.address_of(namespace, "edge").await?;
        addresses.push((namespace, pods, issued, address));
    }
    let [(.., here), (.., there)] = &addresses[..] else {
        anyhow::bail!("there are not two");
    };
    let differ = async {
        ensure!(here != there, "both have {here}");
        Ok(())
    };
    trial.item("each has an address of its own", differ).await;
    for (namespace, pods, issued, address) in &addresses {
        let item = eventually("it is served", PODS, async || {
            let tls = Visitor::https(*address, authority.trust()).host("a.example");
            answers(&tls, "/", pods).await?;
            ensure!(
                tls.certificate().await? == issued.der,
                "the certificate is that of the other"
            );
            answers(&Visitor::http(*address).host("a.example"), "/", pods).await
        });
        let name = format!("{namespace}: its routes and certificate, on ports 80 and 443");
        trial.item(&name, item).await;
    }
    let ports = async {
        let mut seen = Vec::new();
        for namespace in [&trial.namespace, &other] {
            let service = installation.owned_service(namespace, "edge").await?;
            seen.extend(target_ports(&service)?);
        }
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        ensure!(count == 4 && seen.len() == 4, "target ports {seen:?}");
        Ok(())
    };
    trial
        .item("each listener has a target port of its own", ports)
        .await;
    Ok(())
}

/// What others change in a Service, and what they add to it.
pub(crate) async fn drift(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    trial.apply(&echo("echo", 1)).await?;
    let ingress = Ingress::new("a", &edge.class).host("a.example", "echo");
    trial.apply(&ingress.yaml()).await?;
    trial.ready(&["echo"]).await?;
    let installation = trial.shared()?;
    let cluster = &trial.cluster;
    let find = async || installation.owned_service(&trial.namespace, "edge").await;
    let declared = find().await?;
    let name = text(&declared, "/metadata/name");
    let namespace = &installation.namespace;
    let change = async |patch: Value| -> Result<Value> {
        cluster.patch("Service", namespace, name, patch).await
    };

    let added = json!({"metadata": {
        "labels": {"added-by": "somebody"},
        "annotations": {"cloud.example/note": "kept"},
    }});
    change(added).await?;
    for (what, patch) in [
        (
            "a label that we need",
            json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "somebody"}}}),
        ),
        (
            "the selector",
            json!({"spec": {"selector": {"app": "nothing"}}}),
        ),
        (
            "the ports",
            json!({"spec": {"ports": [{"name": "http", "port": 81, "targetPort": 1}]}}),
        ),
        ("the type", json!({"spec": {"type": "ClusterIP"}})),
    ] {
        change(patch).await?;
        let item = soon("it is as declared", async || {
            same(&declared, &find().await?)
        });
        trial.item(&format!("{what}: put right"), item).await;
    }
    let kept = async {
        let service = find().await?;
        ensure!(
            text(&service, "/metadata/labels/added-by") == "somebody"
                && text(&service, "/metadata/annotations/cloud.example~1note") == "kept",
            "{}",
            service.pointer("/metadata").unwrap_or(&Value::Null)
        );
        Ok(())
    };
    trial.item("what others have added stays", kept).await;

    let uid = text(&declared, "/metadata/uid");
    cluster.delete("Service", namespace, name).await?;
    let item = async {
        soon("there is a new one", async || {
            let service = find().await?;
            ensure!(
                text(&service, "/metadata/uid") != uid,
                "it is still the old one"
            );
            same(&declared, &service)
        })
        .await?;
        let address = installation.address_of(&trial.namespace, "edge").await?;
        has_address(&trial, "a", &address.to_string()).await?;
        let client = Visitor::http(address).host("a.example");
        soon("it is served", async || answers(&client, "/", "echo").await).await
    };
    trial
        .item("deleted: made anew, with the same target ports", item)
        .await;
    Ok(())
}

/// Whether a Service has what the declared one has, in the fields that we declare.
fn same(declared: &Value, service: &Value) -> Result<()> {
    for pointer in ["/spec/type", "/spec/selector"] {
        ensure!(
            declared.pointer(pointer) == service.pointer(pointer),
            "{pointer} is {:?}",
            service.pointer(pointer)
        );
    }
    let ports = |service: &Value| -> Vec<Value> {
        let mut ports = items(service, "/spec/ports").to_vec();
        for port in &mut ports {
            if let Some(port) = port.as_object_mut() {
                port.remove("nodePort");
            }
        }
        ports
    };
    ensure!(
        ports(declared) == ports(service),
        "ports {:?}",
        ports(service)
    );
    for label in [
        "app.kubernetes.io~1managed-by",
        "holdfast.dev~1load-balancer-name",
    ] {
        let pointer = format!("/metadata/labels/{label}");
        ensure!(
            text(declared, &pointer) == text(service, &pointer),
            "label {label} is {:?}",
            text(service, &pointer)
        );
    }
    Ok(())
}

/// `spec.service` of the LoadBalancer, while it is in use.
pub(crate) async fn template(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    trial.apply(&echo("echo", 1)).await?;
    let ingress = Ingress::new("a", &edge.class).host("a.example", "echo");
    trial.apply(&ingress.yaml()).await?;
    trial.ready(&["echo"]).await?;
    let installation = trial.shared()?;
    let find = async || installation.owned_service(&trial.namespace, "edge").await;
    let targets = target_ports(&find().await?)?;
    for (what, template, expected) in [
        (
            "annotations and labels",
            json!({"annotations": {"cloud.example/size": "small"}, "labels": {"team": "a"}}),
            vec![
                ("/metadata/annotations/cloud.example~1size", json!("small")),
                ("/metadata/labels/team", json!("a")),
            ],
        ),
        (
            "others in their place",
            json!({"annotations": {"cloud.example/size": "large"}}),
            vec![
                ("/metadata/annotations/cloud.example~1size", json!("large")),
                ("/metadata/labels/team", Value::Null),
            ],
        ),
        (
            "externalTrafficPolicy Local, source ranges",
            json!({
                "externalTrafficPolicy": "Local",
                "loadBalancerSourceRanges": ["10.0.0.0/8"],
            }),
            vec![
                ("/spec/externalTrafficPolicy", json!("Local")),
                ("/spec/loadBalancerSourceRanges", json!(["10.0.0.0/8"])),
                ("/metadata/annotations/cloud.example~1size", Value::Null),
            ],
        ),
        (
            "node ports of one's own",
            json!({"nodePorts": {"http": 32_080, "https": 32_443}}),
            vec![
                ("/spec/ports/0/nodePort", json!(32_080)),
                ("/spec/ports/1/nodePort", json!(32_443)),
                ("/spec/externalTrafficPolicy", json!("Cluster")),
                ("/spec/loadBalancerSourceRanges", Value::Null),
            ],
        ),
        (
            "type NodePort",
            json!({"type": "NodePort", "nodePorts": {"http": 32_080}}),
            vec![
                ("/spec/type", json!("NodePort")),
                ("/spec/ports/0/nodePort", json!(32_080)),
            ],
        ),
        (
            "type ClusterIP",
            json!({"type": "ClusterIP"}),
            vec![("/spec/type", json!("ClusterIP"))],
        ),
        (
            "type LoadBalancer again",
            json!({"type": "LoadBalancer"}),
            vec![("/spec/type", json!("LoadBalancer"))],
        ),
    ] {
        let replaced = json!({
            "apiVersion": "holdfast.dev/v1alpha1", "kind": "LoadBalancer",
            "metadata": {"name": "edge"},
            "spec": {"service": template, "listeners": [
                {"name": "http", "port": 80, "protocol": "HTTP"},
                {"name": "https", "port": 443, "protocol": "HTTPS"},
            ]},
        });
        trial.apply(&replaced.to_string()).await?;
        let item = async {
            soon("the Service is so", async || {
                let service = find().await?;
                for (pointer, value) in &expected {
                    let found = service.pointer(pointer).unwrap_or(&Value::Null);
                    ensure!(found == value, "{pointer} is {found}");
                }
                Ok(())
            })
            .await?;
            serves(&trial, installation, &find().await?).await?;
            let now = target_ports(&find().await?)?;
            ensure!(now == targets, "target ports were {targets:?}, are {now:?}");
            Ok(())
        };
        trial.item(what, item).await;
    }
    Ok(())
}

/// Whether status and Service agree on where clients come in, and they do.
async fn serves(trial: &Trial, installation: &Installation, service: &Value) -> Result<()> {
    let own = text(service, "/spec/clusterIP").to_owned();
    soon("the addresses agree, and it is served there", async || {
        let address = installation.address_of(&trial.namespace, "edge").await?;
        let service = installation.owned_service(&trial.namespace, "edge").await?;
        let given = text(&service, "/status/loadBalancer/ingress/0/ip");
        let wanted = match text(&service, "/spec/type") {
            "LoadBalancer" => given,
            _ => own.as_str(),
        };
        ensure!(address.to_string() == wanted, "{address} is not {wanted}");
        answers(&Visitor::http(address).host("a.example"), "/", "echo").await?;
        if let Some(port) = items(&service, "/spec/ports")[0]
            .pointer("/nodePort")
            .and_then(Value::as_u64)
        {
            let node: IpAddr = "10.99.0.1".parse()?;
            let client = Visitor::http(node).port(u16::try_from(port)?);
            answers(&client.host("a.example"), "/", "echo").await?;
        }
        has_address(trial, "a", wanted).await
    })
    .await
}

/// The target ports by listener, and what status says of them.
fn target_ports(object: &Value) -> Result<Vec<u64>> {
    let ports: Option<Vec<u64>> = items(object, "/spec/ports")
        .iter()
        .map(|port| port.pointer("/targetPort")?.as_u64())
        .collect();
    ports.with_context(|| format!("a port has no number as target: {object}"))
}

/// Every replica replaced, and the leader with them.
pub(crate) async fn survives_restart(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    trial.apply(&echo("echo", 1)).await?;
    let ingress = Ingress::new("a", &edge.class).host("a.example", "echo");
    trial.apply(&ingress.yaml()).await?;
    trial.ready(&["echo"]).await?;
    let installation = trial.shared()?;
    let status_ports = async || -> Result<Vec<Value>> {
        let object = trial
            .cluster
            .get("LoadBalancer", &trial.namespace, "edge")
            .await?;
        let listeners = items(&object, "/status/listeners").iter();
        Ok(listeners
            .map(|listener| json!([listener.pointer("/name"), listener.pointer("/targetPort")]))
            .collect())
    };
    let before = (
        installation.owned_service(&trial.namespace, "edge").await?,
        status_ports().await?,
    );
    installation.scale(0).await?;
    installation.scale(2).await?;
    let item = async {
        let address = installation.address_of(&trial.namespace, "edge").await?;
        ensure!(address == edge.address, "the address is another: {address}");
        let client = edge.http("a.example");
        soon("it is served", async || answers(&client, "/", "echo").await).await?;
        let service = installation.owned_service(&trial.namespace, "edge").await?;
        ensure!(
            target_ports(&service)? == target_ports(&before.0)?,
            "the Service has other target ports"
        );
        let (uid, old) = (
            text(&service, "/metadata/uid"),
            text(&before.0, "/metadata/uid"),
        );
        ensure!(uid == old, "the Service is another");
        let ports = status_ports().await?;
        ensure!(
            ports == before.1,
            "status had {:?}, has {ports:?}",
            before.1
        );
        Ok(())
    };
    trial
        .item(
            "address, Service and target ports outlive all replicas",
            item,
        )
        .await;
    Ok(())
}

/// The end of a LoadBalancer.
pub(crate) async fn deletion(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    trial.apply(&echo("echo", 1)).await?;
    let ingress = Ingress::new("a", &edge.class).host("a.example", "echo");
    trial.apply(&ingress.yaml()).await?;
    has_address(&trial, "a", &edge.address.to_string()).await?;
    let installation = trial.shared()?;
    let cluster = &trial.cluster;
    let guarded = async {
        let object = cluster
            .get("LoadBalancer", &trial.namespace, "edge")
            .await?;
        let finalizers = items(&object, "/metadata/finalizers");
        ensure!(
            finalizers == [json!("holdfast.dev/owned-service")],
            "{finalizers:?}"
        );
        Ok(())
    };
    trial.item("a finalizer guards its Service", guarded).await;
    cluster
        .delete("LoadBalancer", &trial.namespace, "edge")
        .await?;
    let item = soon("both have gone", async || {
        let object = cluster
            .find("LoadBalancer", &trial.namespace, "edge")
            .await?;
        ensure!(object.is_none(), "it is still there: {object:?}");
        let service = installation.owned_service(&trial.namespace, "edge").await;
        ensure!(service.is_err(), "the Service is still there");
        Ok(())
    });
    trial.item("it goes, and its Service with it", item).await;
    let item = has_no_address(&trial, "a");
    trial
        .item("the statuses of its Ingresses are cleared", item)
        .await;
    Ok(())
}

/// Listeners on the hosts themselves, which here are the pods' own addresses.
pub(crate) async fn exposure_host(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    trial.apply(&echo("echo", 1)).await?;
    let ingress = Ingress::new("a", &edge.class).host("a.example", "echo");
    trial.apply(&ingress.yaml()).await?;
    trial.ready(&["echo"]).await?;
    let installation = trial.shared()?;
    let cluster = &trial.cluster;
    let on_host = |name: &str, port: u16| {
        json!({
            "apiVersion": "holdfast.dev/v1alpha1", "kind": "LoadBalancer",
            "metadata": {"name": name},
            "spec": {"exposure": "Host", "listeners": [
                {"name": "http", "port": port, "protocol": "HTTP"},
            ]},
        })
        .to_string()
    };
    trial.apply(&on_host("edge", 18_080)).await?;
    let item = async {
        soon("its Service has gone", async || {
            let service = installation.owned_service(&trial.namespace, "edge").await;
            ensure!(service.is_err(), "it is still there");
            let object = cluster
                .get("LoadBalancer", &trial.namespace, "edge")
                .await?;
            let finalizers = items(&object, "/metadata/finalizers");
            ensure!(finalizers.is_empty(), "{finalizers:?}");
            Ok(())
        })
        .await?;
        let mut replicas: Vec<String> = Vec::new();
        for replica in installation.replicas().await? {
            replicas.push(replica.ip.to_string());
            let client = Visitor::http(replica.ip).port(18_080).host("a.example");
            soon("each replica serves it", async || {
                answers(&client, "/", "echo").await
            })
            .await?;
        }
        replicas.sort();
        soon("the addresses are those of the replicas", async || {
            let object = cluster
                .get("LoadBalancer", &trial.namespace, "edge")
                .await?;
            let ingress = cluster.get("Ingress", &trial.namespace, "a").await?;
            let of = |object: &Value, list: &str, field: &str| {
                let list = items(object, list).iter();
                let mut all: Vec<String> = list.map(|one| text(one, field).to_owned()).collect();
                all.sort();
                all
            };
            let status = of(&object, "/status/addresses", "/value");
            ensure!(status == replicas, "they are {status:?}, not {replicas:?}");
            let status = of(&ingress, "/status/loadBalancer/ingress", "/ip");
            ensure!(status == replicas, "the Ingress has {status:?}");
            Ok(())
        })
        .await
    };
    trial.item("from Service to Host", item).await;

    // The order of creation is known in seconds.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    trial.apply(&on_host("a-newer", 18_080)).await?;
    let item = async {
        soon("the newer one is told", async || {
            let object = cluster
                .get("LoadBalancer", &trial.namespace, "a-newer")
                .await?;
            let conditions = items(&object, "/status/listeners/0/conditions");
            let conflicted = conditions
                .iter()
                .find(|one| text(one, "/type") == "Conflicted")
                .context("there is no condition yet")?;
            ensure!(
                text(conflicted, "/status") == "True"
                    && text(conflicted, "/message").contains("edge"),
                "{conflicted}"
            );
            Ok(())
        })
        .await?;
        let replica = installation.leader().await?;
        let client = Visitor::http(replica.ip).port(18_080).host("a.example");
        steadily(
            "the older one keeps it",
            Duration::from_secs(1),
            async || answers(&client, "/", "echo").await,
        )
        .await
    };
    trial
        .item("of two that want one port the older has it", item)
        .await;

    trial.apply(&load_balancer("edge")).await?;
    let item = async {
        // The old one has exposure Host still, as a field that nobody applied is kept.
        let patch = json!({"spec": {"exposure": "Service"}});
        cluster
            .patch("LoadBalancer", &trial.namespace, "edge", patch)
            .await?;
        let address = installation.address_of(&trial.namespace, "edge").await?;
        has_address(&trial, "a", &address.to_string()).await?;
        let client = Visitor::http(address).host("a.example");
        soon("it is served", async || answers(&client, "/", "echo").await).await
    };
    trial.item("and back to Service", item).await;
    Ok(())
}
