//! Ingresses that change while they are served.

use std::sync::Arc;

use anyhow::Result;
use serde_json::json;

use super::answers;
use crate::client::{Authority, Visitor};
use crate::manifests::{Ingress, echo};
use crate::patience::soon;
use crate::trial::Trial;

/// Hosts, paths, backends, certificates, and the end.
pub(crate) async fn edits(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    let authority = Authority::new()?;
    for name in ["one", "two"] {
        trial.apply(&echo(name, 1)).await?;
    }
    for host in ["a.example", "b.example"] {
        trial.apply(&authority.issue(&[host])?.secret(host)).await?;
    }
    trial.ready(&["one", "two"]).await?;
    let new = || Ingress::new("edited", &edge.class);
    let steps = [
        (
            "made",
            new().path("a.example", "Prefix", "/old", "one"),
            vec![("a.example", "/old", "one"), ("a.example", "/new", "404")],
        ),
        (
            "another path",
            new().path("a.example", "Prefix", "/new", "one"),
            vec![("a.example", "/new", "one"), ("a.example", "/old", "404")],
        ),
        (
            "another path type",
            new().path("a.example", "Exact", "/new", "one"),
            vec![("a.example", "/new", "one"), ("a.example", "/new/x", "404")],
        ),
        (
            "another backend",
            new().path("a.example", "Exact", "/new", "two"),
            vec![("a.example", "/new", "two")],
        ),
        (
            "a second path",
            new().path("a.example", "Exact", "/new", "two").path(
                "a.example",
                "Prefix",
                "/more",
                "one",
            ),
            vec![("a.example", "/new", "two"), ("a.example", "/more", "one")],
        ),
        (
            "another host",
            new().path("b.example", "Prefix", "/", "two"),
            vec![("b.example", "/", "two"), ("a.example", "/new", "404")],
        ),
        (
            "a second host, and the first again",
            new().host("a.example", "one").host("b.example", "two"),
            vec![("a.example", "/", "one"), ("b.example", "/", "two")],
        ),
    ];
    for (what, ingress, expected) in steps {
        trial.apply(&ingress.yaml()).await?;
        let item = async {
            for (host, path, who) in expected {
                let client = edge.http(host);
                let what = format!("{host}{path} is {who}");
                soon(&what, async || answers(&client, path, who).await).await?;
            }
            Ok(())
        };
        trial.item(what, item).await;
    }

    let trusting = |host| Visitor::https(edge.address, authority.trust()).host(host);
    let both = || new().host("a.example", "one").host("b.example", "two");
    for (what, ingress, host, who) in [
        (
            "TLS is added",
            both().tls(&["a.example"], "a.example"),
            "a.example",
            "one",
        ),
        (
            "its host is another, with another certificate",
            both().tls(&["b.example"], "b.example"),
            "b.example",
            "two",
        ),
        (
            "several certificates",
            both()
                .tls(&["b.example"], "b.example")
                .tls(&["a.example"], "a.example"),
            "a.example",
            "one",
        ),
    ] {
        trial.apply(&ingress.yaml()).await?;
        let client = trusting(host);
        let item = soon(what, async || answers(&client, "/", who).await);
        trial.item(what, item).await;
    }
    let removed = soon("the certificate is not shown any more", async || {
        let untrusted = trusting("b.example").get("/").await;
        anyhow::ensure!(untrusted.is_err(), "it is");
        answers(&edge.https("b.example"), "/", "two").await
    });
    let ingress = both().tls(&["a.example"], "a.example");
    trial.apply(&ingress.yaml()).await?;
    trial.item("one of them is removed", removed).await;

    trial
        .cluster
        .delete("Ingress", &trial.namespace, "edited")
        .await?;
    let item = async {
        for host in ["a.example", "b.example"] {
            let client = edge.http(host);
            soon("404", async || answers(&client, "/", "404").await).await?;
        }
        Ok(())
    };
    trial.item("deleted", item).await;
    service_port(&trial).await
}

/// The port that a Service leads to.
async fn service_port(trial: &Trial) -> Result<()> {
    let edge = trial.edge("ports").await?;
    let ingress = Ingress::new("port", &edge.class).host("a.example", "one");
    trial.apply(&ingress.yaml()).await?;
    let client = edge.http("a.example");
    soon("it is served", async || answers(&client, "/", "one").await).await?;
    let ports = |target: u16| {
        json!({"spec": {"ports": [
            {"name": "http", "port": 80, "targetPort": target, "protocol": "TCP"},
        ]}})
    };
    let cluster = &trial.cluster;
    cluster
        .patch("Service", &trial.namespace, "one", ports(9999))
        .await?;
    let wrong = soon("nobody is there", async || {
        answers(&client, "/", "502").await
    });
    trial
        .item("a Service that leads to a port where nobody listens", wrong)
        .await;
    cluster
        .patch("Service", &trial.namespace, "one", ports(8080))
        .await?;
    let right = soon("it is served", async || answers(&client, "/", "one").await);
    trial.item("and to the right one again", right).await;
    Ok(())
}
