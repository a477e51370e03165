//! To whom an Ingress belongs, and what becomes of it when that changes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::answers;
use crate::cluster::{items, text};
use crate::manifests::{Ingress, class, echo, load_balancer};
use crate::patience::{soon, steadily};
use crate::trial::Trial;

/// The class by name, by the old annotation, by default.
pub(crate) async fn membership(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    trial.apply(&echo("echo", 1)).await?;
    trial.ready(&["echo"]).await?;
    let chart = trial.shared()?.address().await?.to_string();
    let own = edge.address.to_string();

    let annotated = |name: &str, class: &str| {
        Ingress::new(name, "")
            .without_class()
            .annotation("kubernetes.io/ingress.class", class)
            .host(&format!("{name}.example"), "echo")
    };
    trial
        .apply(&annotated("old-chart", "holdfast").yaml())
        .await?;
    let item = has_address(&trial, "old-chart", &chart);
    trial
        .item("the old annotation holdfast: the chart's", item)
        .await;
    trial
        .apply(&annotated("old-own", &edge.class).yaml())
        .await?;
    let item = async {
        has_address(&trial, "old-own", &own).await?;
        answers(&edge.http("old-own.example"), "/", "echo").await
    };
    trial
        .item("the old annotation with a class of ours", item)
        .await;
    trial
        .apply(&annotated("old-foreign", "nginx").yaml())
        .await?;

    // Made while there is no default class: nobody's.
    let classless = |name: &str| {
        Ingress::new(name, "")
            .without_class()
            .host(&format!("{name}.example"), "echo")
    };
    let made = trial
        .cluster
        .create(&trial.namespace, &classless("before").object())
        .await?;
    ensure!(
        text(&made, "/spec/ingressClassName").is_empty(),
        "the cluster has a default class"
    );
    let item = async {
        for name in ["before", "old-foreign"] {
            stays_without_address(&trial, name).await?;
        }
        Ok(())
    };
    trial
        .item(
            "without class, or with a foreign annotation: nobody's",
            item,
        )
        .await;

    let default = json!({"metadata": {"annotations": {
        "ingressclass.kubernetes.io/is-default-class": "true",
    }}});
    let cluster = &trial.cluster;
    cluster
        .patch("IngressClass", "", &edge.class, default)
        .await?;
    let item = has_address(&trial, "before", &own);
    trial.item("ours once our class is the default", item).await;
    let item = async {
        // Admission takes a moment to know of it.
        soon("admission names the class", async || {
            cluster.delete("Ingress", &trial.namespace, "after").await?;
            let object = classless("after").object();
            let made = cluster.create(&trial.namespace, &object).await?;
            let class = text(&made, "/spec/ingressClassName");
            ensure!(class == edge.class, "it is {class:?}");
            Ok(())
        })
        .await?;
        has_address(&trial, "after", &own).await?;
        answers(&edge.http("after.example"), "/", "echo").await
    };
    trial
        .item("a new one gets the default class by name", item)
        .await;
    let none = json!({"metadata": {"annotations": {
        "ingressclass.kubernetes.io/is-default-class": null,
    }}});
    cluster.patch("IngressClass", "", &edge.class, none).await?;
    let item = async {
        has_no_address(&trial, "before").await?;
        has_address(&trial, "after", &own).await?;
        gone(&edge.http("before.example")).await
    };
    trial
        .item("nobody's again when it is no default any more", item)
        .await;
    Ok(())
}

/// The class of an Ingress, and what a class means, while they are in use.
pub(crate) async fn changes(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("first").await?;
    let second = trial.edge("second").await?;
    trial.apply(&echo("echo", 1)).await?;
    trial.ready(&["echo"]).await?;
    let (one, two) = (edge.address.to_string(), second.address.to_string());
    let ingress = |class: &str| Ingress::new("moving", class).host("a.example", "echo");
    let client = edge.http("a.example");
    let cluster = &trial.cluster;

    trial.apply(&ingress("somebody-elses").yaml()).await?;
    let item = async {
        stays_without_address(&trial, "moving").await?;
        answers(&client, "/", "404").await
    };
    trial.item("somebody else's", item).await;

    trial.apply(&ingress(&edge.class).yaml()).await?;
    let item = async {
        has_address(&trial, "moving", &one).await?;
        served(&client).await
    };
    trial
        .item("becomes ours: served, with an address", item)
        .await;

    trial.apply(&ingress(&second.class).yaml()).await?;
    let item = async {
        has_address(&trial, "moving", &two).await?;
        served(&second.http("a.example")).await?;
        gone(&client).await
    };
    trial.item("moves to another class of ours", item).await;

    trial.apply(&ingress("somebody-elses").yaml()).await?;
    let item = async {
        has_no_address(&trial, "moving").await?;
        gone(&second.http("a.example")).await
    };
    trial
        .item("becomes somebody else's: gone, its status cleared", item)
        .await;

    trial.apply(&ingress(&edge.class).yaml()).await?;
    has_address(&trial, "moving", &one).await?;
    cluster.delete("IngressClass", "", &edge.class).await?;
    let item = async {
        has_no_address(&trial, "moving").await?;
        gone(&client).await
    };
    trial
        .item("its class is deleted: gone, its status cleared", item)
        .await;

    // Parameters of a class can be changed, its controller cannot.
    trial
        .apply(&class(&edge.class, &trial.namespace, "second"))
        .await?;
    let item = async {
        has_address(&trial, "moving", &two).await?;
        served(&second.http("a.example")).await
    };
    trial
        .item("its class is there again, with another LoadBalancer", item)
        .await;

    trial
        .apply(&class(&edge.class, &trial.namespace, "third"))
        .await?;
    let item = async {
        has_no_address(&trial, "moving").await?;
        gone(&second.http("a.example")).await?;
        trial.apply(&load_balancer("third")).await?;
        let third = trial
            .shared()?
            .address_of(&trial.namespace, "third")
            .await?;
        has_address(&trial, "moving", &third.to_string()).await
    };
    trial
        .item("its class names a LoadBalancer that comes later", item)
        .await;
    Ok(())
}

/// What other controllers have written into statuses.
pub(crate) async fn statuses_of_others(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    trial.apply(&echo("echo", 1)).await?;
    trial.ready(&["echo"]).await?;
    let foreign = Ingress::new("foreign", "somebody-elses").host("a.example", "echo");
    trial.apply(&foreign.yaml()).await?;
    let theirs = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    let cluster = &trial.cluster;
    cluster
        .patch_status("Ingress", &trial.namespace, "foreign", theirs)
        .await?;
    let ours = Ingress::new("ours", &edge.class).host("b.example", "echo");
    trial.apply(&ours.yaml()).await?;
    let own = edge.address.to_string();
    has_address(&trial, "ours", &own).await?;
    let item = steadily("it stays", Duration::from_secs(1), async || {
        expect_address(&trial, "foreign", "192.0.2.1").await
    });
    trial
        .item("that of an Ingress which is not ours stays", item)
        .await;

    let wrong = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.2"}]}});
    cluster
        .patch_status("Ingress", &trial.namespace, "ours", wrong)
        .await?;
    let item = has_address(&trial, "ours", &own);
    trial.item("that of ours is put right", item).await;

    let condition = json!({"conditions": [{
        "type": "example.com/Checked", "status": "True", "reason": "Checked", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]});
    let item = async {
        let manager = "--field-manager=somebody-else";
        let patch = json!({
            "apiVersion": "holdfast.dev/v1alpha1", "kind": "LoadBalancer",
            "metadata": {"name": "edge"}, "status": condition,
        });
        let namespace = format!("--namespace={}", trial.namespace);
        let apply = [
            "apply",
            "--server-side",
            "--subresource=status",
            manager,
            &namespace,
            "-f",
            "-",
        ];
        let (ok, said) = cluster.try_kubectl(&apply, &patch.to_string()).await?;
        ensure!(ok, "{said}");
        // Makes ours be written anew.
        let annotate = json!({"spec": {"service": {"labels": {"changed": "now"}}}});
        cluster
            .patch("LoadBalancer", &trial.namespace, "edge", annotate)
            .await?;
        soon("ours follow the new generation", async || {
            let object = cluster
                .get("LoadBalancer", &trial.namespace, "edge")
                .await?;
            ensure!(
                crate::installation::is_true(&object, "Programmed"),
                "not yet"
            );
            let conditions = items(&object, "/status/conditions");
            let theirs = |one: &&Value| text(one, "/type") == "example.com/Checked";
            if conditions.iter().find(theirs).is_none() {
                bail!("theirs has gone: {conditions:?}");
            }
            Ok(())
        })
        .await
    };
    trial
        .item("a condition of others on a LoadBalancer stays", item)
        .await;
    Ok(())
}

async fn served(client: &crate::client::Visitor) -> Result<()> {
    soon("it is served", async || answers(client, "/", "echo").await).await
}

async fn gone(client: &crate::client::Visitor) -> Result<()> {
    soon("it is not served any more", async || {
        answers(client, "/", "404").await
    })
    .await
}

async fn expect_address(trial: &Trial, ingress: &str, address: &str) -> Result<()> {
    let object = trial
        .cluster
        .get("Ingress", &trial.namespace, ingress)
        .await?;
    let list = items(&object, "/status/loadBalancer/ingress");
    let wanted: Vec<Value> = match address {
        "" => Vec::new(),
        ip => vec![json!({ "ip": ip })],
    };
    ensure!(list == wanted, "{ingress} has {list:?}");
    Ok(())
}

/// Until the Ingress's status has this address alone.
pub(super) async fn has_address(trial: &Trial, ingress: &str, address: &str) -> Result<()> {
    let what = format!("the status of Ingress {ingress} has {address}");
    soon(&what, async || {
        expect_address(trial, ingress, address).await
    })
    .await
}

/// Until the Ingress's status has no address.
pub(super) async fn has_no_address(trial: &Trial, ingress: &str) -> Result<()> {
    let what = format!("the status of Ingress {ingress} is empty");
    soon(&what, async || expect_address(trial, ingress, "").await).await
}

async fn stays_without_address(trial: &Trial, ingress: &str) -> Result<()> {
    let what = format!("the status of Ingress {ingress} is empty");
    steadily(&what, Duration::from_secs(1), async || {
        expect_address(trial, ingress, "").await
    })
    .await
}
