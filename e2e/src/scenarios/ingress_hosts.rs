//! Hosts that several Ingresses name, in one namespace and in two; paths that are left to the
//! implementation; what is served where nothing matches.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use super::{answers, finding};
use crate::manifests::{Ingress, echo};
use crate::patience::{next_second, soon, steadily};
use crate::trial::{Edge, Trial};

/// Two Ingresses of one host: what does not clash is merged, and a clash is the older one's.
pub(crate) async fn shared_host(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    let other = trial.namespace("other").await?;
    for name in ["one", "two"] {
        trial.apply(&echo(name, 1)).await?;
    }
    trial.cluster.apply(&other, &echo("elsewhere", 1)).await?;
    trial.ready(&["one", "two"]).await?;
    let older = Ingress::new("z-older", &edge.class)
        .path("a.example", "Prefix", "/shared", "one")
        .path("a.example", "Prefix", "/one", "one");
    trial.apply(&older.yaml()).await?;
    next_second().await;
    let newer = Ingress::new("a-newer", &edge.class)
        .path("a.example", "Prefix", "/shared", "two")
        .path("a.example", "Prefix", "/two", "two");
    trial.apply(&newer.yaml()).await?;
    let elsewhere = Ingress::new("elsewhere", &edge.class)
        .path("a.example", "Prefix", "/shared", "elsewhere")
        .path("a.example", "Prefix", "/elsewhere", "elsewhere");
    trial.cluster.apply(&other, &elsewhere.yaml()).await?;

    let client = edge.http("a.example");
    for (what, path, who) in [
        ("what the older one has", "/one", "one"),
        ("what the newer one has is merged", "/two", "two"),
        ("of another namespace too", "/elsewhere", "elsewhere"),
    ] {
        let item = soon(path, async || answers(&client, path, who).await);
        trial.item(what, item).await;
    }
    let clash = steadily(
        "the older one answers",
        Duration::from_secs(1),
        async || answers(&client, "/shared", "one").await,
    );
    trial.item("a clash is the older one's", clash).await;
    for (what, namespace, name) in [
        ("the newer one is told", &trial.namespace, "a-newer"),
        ("so is that of another namespace", &other, "elsewhere"),
    ] {
        let told = soon(what, async || {
            let words = "path /shared of host a.example";
            finding(&trial, "Ingress", namespace, name, "RouteConflict", words).await
        });
        trial.item(what, told).await;
    }
    trial
        .cluster
        .delete("Ingress", &trial.namespace, "z-older")
        .await?;
    let next = soon("the next oldest answers", async || {
        answers(&client, "/shared", "two").await
    });
    trial
        .item("the next oldest has it when the older one goes", next)
        .await;
    Ok(())
}

/// What Ingress leaves open, and what it says of everything that no rule takes.
pub(crate) async fn precedence(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    for name in ["one", "two", "three"] {
        trial.apply(&echo(name, 1)).await?;
    }
    trial.ready(&["one", "two", "three"]).await?;
    let kinds = Ingress::new("kinds", &edge.class)
        .path("kinds.example", "Exact", "/foo", "one")
        .path("kinds.example", "Prefix", "/foo", "two")
        .path("kinds.example", "ImplementationSpecific", "/foo", "three")
        .path(
            "kinds.example",
            "ImplementationSpecific",
            "/foo/bar",
            "three",
        )
        .path("kinds.example", "ImplementationSpecific", "/own", "three")
        .path("*.wild.example", "Prefix", "/", "one")
        .path("exact.wild.example", "Prefix", "/only", "two");
    let any = Ingress::new("any", &edge.class).path("", "Prefix", "/any", "three");
    let rest = Ingress::new("rest", &edge.class)
        .path("rest.example", "Prefix", "/one", "one")
        .default_backend("two");
    for ingress in [kinds, any, rest] {
        trial.apply(&ingress.yaml()).await?;
    }
    for (host, path, who, what) in [
        ("kinds.example", "/foo", "one", "Exact goes first"),
        (
            "kinds.example",
            "/foo/",
            "two",
            "Prefix goes before ImplementationSpecific",
        ),
        (
            "kinds.example",
            "/foo/bar",
            "three",
            "a longer path goes before both",
        ),
        (
            "kinds.example",
            "/own/x",
            "three",
            "ImplementationSpecific goes by elements",
        ),
        (
            "kinds.example",
            "/ownx",
            "404",
            "ImplementationSpecific goes by elements",
        ),
        (
            "KINDS.Example:80",
            "/foo",
            "one",
            "letter case and port of a host mean nothing",
        ),
        ("x.wild.example", "/", "one", "a wildcard"),
        (
            "exact.wild.example",
            "/only",
            "two",
            "an exact host goes before a wildcard",
        ),
        (
            "exact.wild.example",
            "/",
            "404",
            "and keeps what it has no path for",
        ),
        (
            "nobody.example",
            "/any",
            "three",
            "a rule without a host takes any",
        ),
        (
            "kinds.example",
            "/any",
            "404",
            "but not those that have rules",
        ),
        (
            "rest.example",
            "/one",
            "one",
            "a rule goes before the default backend",
        ),
        (
            "rest.example",
            "/",
            "two",
            "which takes the rest of its Ingress's hosts",
        ),
        ("nobody.example", "/", "404", "and of no other"),
    ] {
        let item = item(&edge, host, path, who);
        trial
            .item(&format!("{host}{path} is {who}: {what}"), item)
            .await;
    }
    Ok(())
}

async fn item(edge: &Edge, host: &str, path: &str, who: &str) -> Result<()> {
    let client = edge.http(host);
    soon("it is served so", async || {
        answers(&client, path, who).await
    })
    .await
}
