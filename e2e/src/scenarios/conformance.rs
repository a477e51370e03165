//! The checklist of kubernetes-sigs/ingress-controller-conformance: 30 checks of what any
//! controller makes of an Ingress (networking.k8s.io/v1).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use http::Method;
use serde_json::json;

use super::answers;
use crate::client::{Authority, Visitor};
use crate::cluster::{items, text};
use crate::manifests::{Ingress, echo, to_service};
use crate::patience::{soon, steadily};
use crate::trial::Trial;

/// An Ingress with nothing but a default backend.
pub(crate) async fn default_backend(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    trial.apply(&echo("everything", 1)).await?;
    let ingress = Ingress::new("default", &edge.class).default_backend("everything");
    trial.apply(&ingress.yaml()).await?;
    soon("the status of the Ingress has the address", async || {
        let ingress = trial
            .cluster
            .get("Ingress", &trial.namespace, "default")
            .await?;
        let status = text(&ingress, "/status/loadBalancer/ingress/0/ip");
        ensure!(status == edge.address.to_string(), "it has {status:?}");
        Ok(())
    })
    .await?;
    let client = edge
        .http("exact.example")
        .field("user-agent", "an agent of its own");
    soon("it is served", async || {
        client.get("/").await?.comes_from("everything")
    })
    .await?;
    let without_host = Visitor::http(edge.address).field("user-agent", "an agent of its own");
    for (method, path, client) in [
        (Method::GET, "/", &client),
        (Method::GET, "/sub-path", &client),
        (Method::POST, "/", &client),
        (Method::PUT, "/resource", &without_host),
        (Method::DELETE, "/resource", &client),
        (Method::PATCH, "/resource", &client),
    ] {
        let name = format!("{method} {path}");
        trial.item(&name, passes(client, method, path)).await;
    }
    Ok(())
}

async fn passes(client: &Visitor, method: Method, path: &str) -> Result<()> {
    let answer = client.send(method.clone(), path, "").await?;
    let seen = answer.comes_from("everything")?;
    ensure!(
        seen.method == method.as_str(),
        "the pod saw {}",
        seen.method
    );
    ensure!(seen.path == path, "the pod saw {}", seen.path);
    ensure!(
        seen.http_version == "HTTP/1.1",
        "the pod was spoken to in {}",
        seen.http_version
    );
    ensure!(
        answer.version == http::Version::HTTP_11,
        "answered in {:?}",
        answer.version
    );
    let agent = seen.values("user-agent");
    ensure!(agent == ["an agent of its own"], "the pod saw {agent:?}");
    for name in ["content-length", "content-type", "date", "server"] {
        ensure!(!answer.field(name).is_empty(), "the answer has no {name}");
    }
    Ok(())
}

/// Hosts, exact and with a wildcard, in clear and over TLS.
pub(crate) async fn host_rules(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    let authority = Authority::new()?;
    let issued = authority.issue(&["foo.bar.com"])?;
    trial.apply(&echo("wildcard", 1)).await?;
    trial.apply(&echo("exact", 1)).await?;
    trial.apply(&issued.secret("conformance-tls")).await?;
    let by_name = to_service("exact", json!({"name": "http"}));
    let ingress = Ingress::new("hosts", &edge.class)
        .host("*.foo.com", "wildcard")
        .backend("foo.bar.com", "Prefix", "/", by_name)
        .tls(&["foo.bar.com"], "conformance-tls");
    trial.apply(&ingress.yaml()).await?;
    trial.ready(&["wildcard", "exact"]).await?;

    let trusting = Visitor::https(edge.address, authority.trust()).host("foo.bar.com");
    let tls = soon("https is served", async || {
        let seen = trusting.get("/").await?.comes_from("exact")?;
        let host = seen.values("host").join(",");
        ensure!(host == "foo.bar.com", "the pod saw the host {host}");
        Ok(())
    });
    trial
        .item("https foo.bar.com: its certificate, its host kept", tls)
        .await;
    let wildcard = soon("the wildcard is served", async || {
        let seen = edge
            .http("bar.foo.com")
            .get("/")
            .await?
            .comes_from("wildcard")?;
        let host = seen.values("host").join(",");
        ensure!(host == "bar.foo.com", "the pod saw the host {host}");
        Ok(())
    });
    trial
        .item("http bar.foo.com: by *.foo.com, its host kept", wildcard)
        .await;
    for (host, who, why) in [
        ("foo.bar.com", "exact", "the exact host"),
        ("subdomain.bar.com", "404", "no rule"),
        ("baz.bar.foo.com", "404", "a wildcard is one label"),
        ("foo.com", "404", "a wildcard is not no label"),
    ] {
        let item = answers(&edge.http(host), "/", who).await;
        trial
            .item(&format!("http {host}: {who}, {why}"), async { item })
            .await;
    }
    Ok(())
}

/// An Ingress of a class that is not ours.
pub(crate) async fn foreign_class(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    trial.apply(&echo("echo", 1)).await?;
    let foreign = Ingress::new("foreign", "some-invalid-class-name").host("a.example", "echo");
    trial.apply(&foreign.yaml()).await?;
    // When this one has its address, the other has been seen.
    let ours = Ingress::new("ours", &edge.class).host("b.example", "echo");
    trial.apply(&ours.yaml()).await?;
    soon("ours is served", async || {
        edge.http("b.example").get("/").await?.comes_from("echo")
    })
    .await?;
    let status = steadily("its status is empty", Duration::from_secs(1), async || {
        let foreign = trial
            .cluster
            .get("Ingress", &trial.namespace, "foreign")
            .await?;
        let ingress = items(&foreign, "/status/loadBalancer/ingress");
        ensure!(ingress.is_empty(), "it has {ingress:?}");
        Ok(())
    });
    trial
        .item("unknown ingressClassName: the status stays empty", status)
        .await;
    Ok(())
}

/// Ten pods behind one Service.
pub(crate) async fn load_balancing(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    trial.apply(&echo("ten", 10)).await?;
    let ingress = Ingress::new("default", &edge.class).default_backend("ten");
    trial.apply(&ingress.yaml()).await?;
    trial.ready(&["ten"]).await?;
    let client = edge.http("load-balancing.example");
    // All ten have been seen by both replicas.
    let all = async || {
        let mut pods = BTreeSet::new();
        for _ in 0..100 {
            pods.insert(client.get("/").await?.comes_from("ten")?.pod);
        }
        ensure!(
            pods.len() == 10,
            "{} pods have answered: {pods:?}",
            pods.len()
        );
        Ok(())
    };
    soon("ten pods take part", all).await?;
    trial
        .item("100 requests: 200 each, by 10 pods", all())
        .await;
    Ok(())
}

/// What a path means.
pub(crate) async fn path_rules(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    for name in ["one", "two"] {
        trial.apply(&echo(name, 1)).await?;
    }
    let ingress = Ingress::new("paths", &edge.class)
        .path("exact.example", "Exact", "/foo", "one")
        .path("prefix.example", "Prefix", "/foo", "one")
        .path("longer.example", "Prefix", "/aaa/bbb", "one")
        .path("longer.example", "Prefix", "/aaa", "two")
        .path("mixed.example", "Prefix", "/foo", "one")
        .path("mixed.example", "Exact", "/foo", "two")
        .path("slash.example", "Prefix", "/aaa/bbb/", "one")
        .path("exact-slash.example", "Exact", "/foo/", "one");
    trial.apply(&ingress.yaml()).await?;
    trial.ready(&["one", "two"]).await?;
    soon("both are served", async || {
        answers(&edge.http("exact.example"), "/foo", "one").await?;
        answers(&edge.http("longer.example"), "/aaa", "two").await
    })
    .await?;
    for (host, path, who, rule) in [
        ("exact", "/foo", "one", "Exact /foo"),
        ("exact", "/foo/", "404", "Exact /foo"),
        ("exact", "/FOO", "404", "Exact /foo"),
        ("exact", "/bar", "404", "Exact /foo"),
        ("prefix", "/foo", "one", "Prefix /foo"),
        ("prefix", "/foo/", "one", "Prefix /foo"),
        ("prefix", "/FOO", "404", "Prefix /foo"),
        ("longer", "/aaa/bbb", "one", "Prefix /aaa/bbb beside /aaa"),
        (
            "longer",
            "/aaa/bbb/ccc",
            "one",
            "Prefix /aaa/bbb beside /aaa",
        ),
        ("longer", "/aaa/ccc", "two", "Prefix /aaa beside /aaa/bbb"),
        ("longer", "/aaaccc", "404", "Prefix goes by elements"),
        ("mixed", "/foo", "two", "Exact before Prefix"),
        ("slash", "/aaa/bbb", "one", "Prefix /aaa/bbb/"),
        ("slash", "/aaa/bbb/", "one", "Prefix /aaa/bbb/"),
        ("exact-slash", "/foo", "404", "Exact /foo/"),
        // Not of the suite, which has Prefix /foo with /foo/ twice.
        ("exact-slash", "/foo/", "one", "Exact /foo/"),
        ("mixed", "/foo/", "one", "Prefix where Exact does not match"),
    ] {
        let client = edge.http(&format!("{host}.example"));
        let item = answers(&client, path, who);
        trial.item(&format!("{rule}: {path} is {who}"), item).await;
    }
    Ok(())
}
