//! Which certificate a client is shown.

use std::sync::Arc;

use anyhow::{Result, ensure};

use super::{answers, finding};
use crate::client::{Authority, Issued, Visitor};
use crate::manifests::{Ingress, echo};
use crate::patience::{next_second, soon};
use crate::trial::{Edge, Trial};

/// By server name, from Secrets that come, change and go.
pub(crate) async fn certificates(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    let authority = Authority::new()?;
    trial.apply(&echo("echo", 1)).await?;
    trial.ready(&["echo"]).await?;
    let issue = |names: &[&str]| authority.issue(names);
    let (named, wild) = (issue(&["named.example"])?, issue(&["*.wild.example"])?);
    let hostless = issue(&["one.hostless.example", "two.hostless.example"])?;
    for (secret, issued) in [("named", &named), ("wild", &wild), ("hostless", &hostless)] {
        trial.apply(&issued.secret(secret)).await?;
    }
    let hosts = Ingress::new("hosts", &edge.class)
        .host("named.example", "echo")
        .host("*.wild.example", "echo")
        .host("late.example", "echo")
        .host("plain.example", "echo")
        .tls(&["named.example"], "named")
        .tls(&["*.wild.example"], "wild")
        .tls(&["late.example"], "late");
    let without = Ingress::new("without-hosts", &edge.class)
        .host("one.hostless.example", "echo")
        .host("two.hostless.example", "echo")
        .tls(&[], "hostless");
    for ingress in [hosts, without] {
        trial.apply(&ingress.yaml()).await?;
    }
    for (what, host, issued) in [
        ("the Secret of its host", "named.example", &named),
        ("a wildcard", "any.wild.example", &wild),
        (
            "an entry without hosts: those of the rules",
            "one.hostless.example",
            &hostless,
        ),
        (
            "an entry without hosts: all of them",
            "two.hostless.example",
            &hostless,
        ),
    ] {
        let item = presented(&edge, &authority, host, issued);
        trial.item(what, item).await;
    }
    for (what, host, server_name) in [
        (
            "a host without TLS: the default one",
            "plain.example",
            Some("plain.example"),
        ),
        (
            "a name that nobody has: the default one",
            "named.example",
            Some("nobody.example"),
        ),
        ("no name at all: the default one", "named.example", None),
        (
            "a Secret that is not there: the default one",
            "late.example",
            Some("late.example"),
        ),
    ] {
        let client = edge.https(host).server_name(server_name);
        let item = async {
            // Self-signed, and another one in each replica.
            let shown = client.certificate().await?;
            let of_secrets = [&named, &wild, &hostless];
            ensure!(
                of_secrets.iter().all(|issued| issued.der != shown),
                "that of a Secret is shown"
            );
            answers(&client, "/", "echo").await
        };
        trial.item(what, item).await;
    }
    let told = soon("the missing Secret is told", async || {
        let namespace = &trial.namespace;
        finding(
            &trial,
            "Ingress",
            namespace,
            "hosts",
            "SecretNotFound",
            "late",
        )
        .await
    });
    trial
        .item("a Secret that is not there is a finding", told)
        .await;

    changes(&trial, &edge, &authority).await
}

async fn changes(trial: &Trial, edge: &Edge, authority: &Authority) -> Result<()> {
    let host = "late.example";
    let first = authority.issue(&[host])?;
    trial.apply(&first.secret("late")).await?;
    let item = presented(edge, authority, host, &first);
    trial.item("a Secret that is created later", item).await;

    let second = authority.issue(&[host])?;
    trial.apply(&second.secret("late")).await?;
    let item = presented(edge, authority, host, &second);
    trial.item("a Secret that is rotated", item).await;

    let broken = second.secret_with_key_of(&first, "late");
    trial.apply(&broken).await?;
    let item = async {
        soon("it is a finding", async || {
            let namespace = &trial.namespace;
            finding(trial, "Ingress", namespace, "hosts", "KeyMismatch", "late").await
        })
        .await?;
        answers(&edge.https(host), "/", "echo").await?;
        presented_once(edge, authority, "named.example").await
    };
    trial
        .item(
            "a Secret whose key is another's: told, the others stay",
            item,
        )
        .await;

    trial.apply(&first.secret("late")).await?;
    let item = presented(edge, authority, host, &first);
    trial.item("a Secret that is mended", item).await;

    trial
        .cluster
        .delete("Secret", &trial.namespace, "late")
        .await?;
    let item = soon("the certificate is not shown any more", async || {
        let shown = edge.https(host).certificate().await?;
        ensure!(shown != first.der, "it is");
        Ok(())
    });
    trial.item("a Secret that is deleted", item).await;
    Ok(())
}

/// Two Ingresses that have each a certificate for one host.
pub(crate) async fn two_certificates(trial: Arc<Trial>) -> Result<()> {
    let edge = trial.edge("edge").await?;
    let authority = Authority::new()?;
    let (older, newer) = (
        authority.issue(&["a.example"])?,
        authority.issue(&["a.example"])?,
    );
    trial.apply(&echo("echo", 1)).await?;
    trial.apply(&older.secret("older")).await?;
    trial.apply(&newer.secret("newer")).await?;
    let ingress = |name: &str, path: &str, secret: &str| {
        Ingress::new(name, &edge.class)
            .path("a.example", "Prefix", path, "echo")
            .tls(&["a.example"], secret)
    };
    trial
        .apply(&ingress("z-older", "/", "older").yaml())
        .await?;
    next_second().await;
    trial
        .apply(&ingress("a-newer", "/x", "newer").yaml())
        .await?;
    let told = soon("the newer one is told", async || {
        let namespace = &trial.namespace;
        let words = "a.example";
        finding(
            &trial,
            "Ingress",
            namespace,
            "a-newer",
            "CertificateConflict",
            words,
        )
        .await
    });
    trial.item("the newer one is told", told).await;
    let item = presented(&edge, &authority, "a.example", &older);
    trial.item("the older one's is shown", item).await;
    trial
        .cluster
        .delete("Ingress", &trial.namespace, "z-older")
        .await?;
    let item = presented(&edge, &authority, "a.example", &newer);
    trial
        .item("the newer one's, when the older one goes", item)
        .await;
    Ok(())
}

/// Until this certificate is shown for a host, and is trusted.
async fn presented(edge: &Edge, authority: &Authority, host: &str, issued: &Issued) -> Result<()> {
    let client = Visitor::https(edge.address, authority.trust()).host(host);
    soon(&format!("{host} has its certificate"), async || {
        let shown = client.certificate().await?;
        ensure!(shown == issued.der, "another certificate is shown");
        Ok(())
    })
    .await
}

async fn presented_once(edge: &Edge, authority: &Authority, host: &str) -> Result<()> {
    let client = Visitor::https(edge.address, authority.trust()).host(host);
    answers(&client, "/", "echo").await
}
