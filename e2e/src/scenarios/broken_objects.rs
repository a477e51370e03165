//! Broken objects of every sort beside good ones. The good ones are served as if nothing were there,
//! and each broken one is told: at `/findings`, in a metric, by an Event on the object, and where the
//! object is a LoadBalancer in its conditions, in the same words everywhere.

mod sorts;

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use self::sorts::{TOLD, apply_broken, mend, named};
use super::answers;
use super::ingress_classes::has_address;
use crate::client::{Authority, Visitor};
use crate::cluster::{items, text};
use crate::manifests::{Ingress, echo};
use crate::patience::{next_second, soon};
use crate::trial::{Edge, Trial};

/// All of it.
pub(crate) async fn beside_good_ones(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    let authority = Authority::new()?;
    for name in ["good", "echo"] {
        trial.apply(&echo(name, 1)).await?;
    }
    let issued = authority.issue(&["good.example"])?;
    trial.apply(&issued.secret("good")).await?;
    let good = Ingress::new("good", &edge.class).host("good.example", "good");
    trial
        .apply(&good.tls(&["good.example"], "good").yaml())
        .await?;
    trial.ready(&["good", "echo"]).await?;
    let client = Visitor::https(edge.address, authority.trust()).host("good.example");
    soon("the good one is served", async || {
        answers(&client, "/", "good").await
    })
    .await?;
    let mut socket = client.websocket("/").await?;
    next_second().await;

    apply_broken(&trial, &edge, &authority).await?;
    for (kind, name, reason, words) in TOLD {
        let (name, words) = (named(name, &edge), named(words, &edge));
        let item = told(&trial, kind, &name, reason, &words);
        trial.item(&format!("{kind} {name}: {words}"), item).await;
    }
    trial.item("as many in the metric", metrics(&trial)).await;
    let item = described(&trial);
    trial.item("kubectl describe shows them", item).await;
    let item = conditions(&trial);
    trial
        .item("conditions of a LoadBalancer have them", item)
        .await;

    let unaffected = async {
        socket.echo("still here").await?;
        for _ in 0..20 {
            answers(&client, "/", "good").await?;
        }
        has_address(&trial, "good", &edge.address.to_string()).await?;
        let told = about(&trial, "Ingress", &trial.namespace, "good").await?;
        ensure!(told.is_empty(), "the good one has findings: {told:?}");
        Ok(())
    };
    trial.item("the good one is as it was", unaffected).await;
    let part = edge.http("a.example");
    let item = async {
        for path in ["/dots-good", "/query-good"] {
            answers(&part, path, "echo").await?;
        }
        answers(&part, "/no-service", "503").await
    };
    trial
        .item("of a broken one the good part is served", item)
        .await;

    mend(&trial, &edge).await?;
    let item = soon("no finding is left", async || {
        let left: Vec<Value> = own_findings(&trial, &edge).await?;
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    });
    trial.item("with the objects their findings go", item).await;
    trial
        .item("the WebSocket has lived through it all", async {
            socket.echo("to the end").await
        })
        .await;
    Ok(())
}

/// The findings about an object.
async fn about(trial: &Trial, kind: &str, namespace: &str, name: &str) -> Result<Vec<Value>> {
    let mut findings = trial.shared()?.findings().await?;
    findings.retain(|finding| {
        text(finding, "/kind") == kind
            && text(finding, "/namespace") == namespace
            && text(finding, "/name") == name
    });
    Ok(findings)
}

/// The findings about objects of this scenario.
async fn own_findings(trial: &Trial, edge: &Edge) -> Result<Vec<Value>> {
    let mut findings = trial.shared()?.findings().await?;
    findings.retain(|finding| {
        text(finding, "/namespace") == trial.namespace
            || text(finding, "/name").starts_with(&edge.class)
    });
    Ok(findings)
}

/// Whether there is a finding, and an Event on the object with the same words.
async fn told(trial: &Trial, kind: &str, name: &str, reason: &str, words: &str) -> Result<()> {
    let namespace = match kind {
        "IngressClass" => "",
        _ => trial.namespace.as_str(),
    };
    let finding = soon("there is a finding", async || {
        let about = about(trial, kind, namespace, name).await?;
        let mut matching = about.iter().filter(|finding| {
            text(finding, "/reason") == reason && text(finding, "/message").contains(words)
        });
        matching
            .next()
            .cloned()
            .with_context(|| format!("findings: {about:?}"))
    })
    .await?;
    let note = format!(
        "{}: {}",
        text(&finding, "/field"),
        text(&finding, "/message")
    );
    let object = trial.cluster.get(kind, namespace, name).await?;
    let place = if namespace.is_empty() {
        "default"
    } else {
        namespace
    };
    soon("there is an Event", async || {
        let events = trial.cluster.list("Event", place, "").await?;
        let uid = text(&object, "/metadata/uid");
        let on_object: Vec<&Value> = events
            .iter()
            .filter(|event| text(event, "/involvedObject/uid") == uid)
            .collect();
        let is_told = |event: &&&Value| {
            text(event, "/message") == note
                && text(event, "/reason") == reason
                && text(event, "/type") == "Warning"
        };
        let count = on_object.iter().filter(is_told).count();
        ensure!(count == 1, "{count} Events say {note:?}: {on_object:?}");
        Ok(())
    })
    .await
}

/// Whether the leader counts as many findings of each reason as its page has.
async fn metrics(trial: &Trial) -> Result<()> {
    let installation = trial.shared()?;
    soon("page and metric agree", async || {
        let leader = installation.leader().await?;
        let findings = installation.findings().await?;
        let exposition = installation.admin(&leader, "/metrics").await?;
        let reasons: BTreeSet<(&str, &str)> = findings
            .iter()
            .map(|finding| (text(finding, "/severity"), text(finding, "/reason")))
            .collect();
        for (severity, reason) in reasons {
            let count = findings
                .iter()
                .filter(|finding| {
                    text(finding, "/severity") == severity && text(finding, "/reason") == reason
                })
                .count();
            let sample =
                format!("holdfast_findings{{severity=\"{severity}\",reason=\"{reason}\"}} {count}");
            ensure!(
                exposition.lines().any(|line| line == sample),
                "no line {sample}"
            );
        }
        Ok(())
    })
    .await
}

async fn described(trial: &Trial) -> Result<()> {
    let namespace = format!("--namespace={}", trial.namespace);
    for (kind, name, words) in [
        ("ingress", "no-service", "there is no Service"),
        ("service", "empty", "no pod serves port 80"),
        (
            "loadbalancers.holdfast.dev",
            "no-listener",
            "there is no listener",
        ),
    ] {
        let said = trial
            .cluster
            .kubectl(&["describe", kind, name, &namespace])
            .await?;
        let events = said.split("Events:").nth(1).unwrap_or("");
        ensure!(events.contains(words), "{kind} {name}: {said}");
    }
    Ok(())
}

/// Which condition of which LoadBalancer says it; `None` = of the object as a whole.
async fn conditions(trial: &Trial) -> Result<()> {
    for (name, listener, condition, status, words) in [
        (
            "no-certificate",
            Some("a"),
            "ResolvedRefs",
            "False",
            "there is no Secret",
        ),
        (
            "no-certificate",
            None,
            "ResolvedRefs",
            "False",
            "there is no Secret",
        ),
        (
            "no-listener",
            None,
            "Accepted",
            "True",
            "there is no listener",
        ),
        (
            "no-backend",
            None,
            "ResolvedRefs",
            "False",
            "there is no Service",
        ),
        (
            "zero",
            Some("a"),
            "Accepted",
            "True",
            "must be longer than 0s",
        ),
    ] {
        soon("a condition says it", async || {
            let object = trial
                .cluster
                .get("LoadBalancer", &trial.namespace, name)
                .await?;
            let status_object = match listener {
                None => object.pointer("/status"),
                Some(listener) => items(&object, "/status/listeners")
                    .iter()
                    .find(|one| text(one, "/name") == listener),
            };
            let whole = status_object.unwrap_or(&Value::Null);
            let found = items(whole, "/conditions")
                .iter()
                .find(|one| text(one, "/type") == condition)
                .with_context(|| format!("{name} has no {condition}: {whole}"))?;
            let findings = about(trial, "LoadBalancer", &trial.namespace, name).await?;
            let same = findings
                .iter()
                .filter(|finding| text(finding, "/message").contains(words))
                .any(|finding| text(found, "/message").contains(text(finding, "/message")));
            ensure!(text(found, "/status") == status && same, "{name}: {found}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
