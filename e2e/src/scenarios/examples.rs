//! Each file of manifests/examples, applied as its first lines say and used for what it is for.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use super::answers;
use crate::browser::Browser;
use crate::client::{Authority, Visitor};
use crate::cluster::{Cluster, checkout, documents, text};
use crate::patience::{PODS, eventually, soon};
use crate::trial::Trial;

/// All of them; one that nobody knows how to use is a failure.
pub(crate) async fn each_is_used(trial: Arc<Trial>) -> Result<()> {
    let folder = checkout().join("manifests/examples");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .with_context(|| folder.display().to_string())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    ensure!(files.len() >= 3, "there are {} examples", files.len());
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        // An installation, and so a scenario of its own.
        if name == "host-ports.yaml" {
            continue;
        }
        let yaml = std::fs::read_to_string(&file)?;
        let path = file.to_string_lossy();
        trial
            .item(&name, try_one(&trial, &name, &path, &yaml))
            .await;
        // Its namespace is its own, and its name fixed.
        let delete = ["delete", "--wait=false", "-f", &path];
        trial.cluster.kubectl(&delete).await?;
    }
    Ok(())
}

async fn try_one(trial: &Trial, name: &str, path: &str, yaml: &str) -> Result<()> {
    match name {
        "chat.yaml" => {
            apply(trial, path, yaml).await?;
            chat(&trial.cluster).await
        }
        "hosts-tls.yaml" => {
            apply(trial, path, yaml).await?;
            hosts(&trial.cluster).await
        }
        "load-balancer.yaml" => {
            apply(trial, path, yaml).await?;
            load_balancer(trial).await
        }
        _ => bail!("nobody knows how to use it: say so in e2e/src/scenarios/examples.rs"),
    }
}

/// Applies it as people do, and waits for its Deployments.
async fn apply(trial: &Trial, path: &str, yaml: &str) -> Result<()> {
    trial.cluster.kubectl(&["apply", "-f", path]).await?;
    for object in documents(yaml)? {
        if text(&object, "/kind") == "Deployment" {
            let namespace = format!("--namespace={}", text(&object, "/metadata/namespace"));
            let name = format!("deployment/{}", text(&object, "/metadata/name"));
            let wait = ["rollout", "status", &name, &namespace, "--timeout=60s"];
            trial.cluster.kubectl(&wait).await?;
        }
    }
    Ok(())
}

/// Where an Ingress is reached, by its status.
async fn address_of(cluster: &Cluster, namespace: &str, name: &str) -> Result<IpAddr> {
    soon("the Ingress has an address", async || {
        let ingress = cluster.get("Ingress", namespace, name).await?;
        let address = text(&ingress, "/status/loadBalancer/ingress/0/ip");
        address.parse().context("it has none")
    })
    .await
}

/// Two people write to each other: one with a browser over wss, one without over ws.
async fn chat(cluster: &Cluster) -> Result<()> {
    let host = "chat.example.com";
    let address = address_of(cluster, "chat-example", "chat").await?;
    let client = Visitor::http(address).host(host);
    soon("the page is served", async || {
        client.get("/").await?.expect(200).map(drop)
    })
    .await?;
    let mut browser = Browser::open(&format!("https://{host}/"), host, address).await?;
    let status = "document.getElementById('state-text').textContent";
    eventually("the page's WebSocket is open", PODS, async || {
        let scheme = browser.evaluate("location.protocol").await?;
        ensure!(scheme == "https:", "the page came by {scheme}");
        let open = browser
            .evaluate("socket && socket.readyState === 1 && socket.url")
            .await?;
        let state = browser.evaluate(status).await?;
        ensure!(
            open == json!(format!("wss://{host}/ws")),
            "it is {open}; the page says {state}"
        );
        Ok(())
    })
    .await?;
    let mut friend = client.websocket("/ws").await?;
    let line = json!({"name": "friend", "text": "hello, page"}).to_string();
    friend.send_text(&line).await?;
    soon("the page shows what the friend wrote", async || {
        let log = browser
            .evaluate("document.getElementById('log').textContent")
            .await?;
        let log = log.as_str().unwrap_or_default().to_owned();
        ensure!(log.contains("hello, page"), "it shows {log:?}");
        Ok(())
    })
    .await?;
    browser
        .evaluate(
            "document.getElementById('name').value = 'page';
             document.getElementById('text').value = 'hello, friend';
             document.getElementById('form').requestSubmit()",
        )
        .await?;
    loop {
        let crate::client::Received::Text(line) = friend.receive().await? else {
            bail!("the pod sent something that is not text");
        };
        if line.contains("hello, friend") && line.contains("\"page\"") {
            break;
        }
    }
    let (code, _) = friend.close(1000, "").await?;
    ensure!(code == 1000, "closed with {code}");
    Ok(())
}

/// The certificate of each host, over https and wss.
async fn hosts(cluster: &Cluster) -> Result<()> {
    let namespace = "hosts-tls-example";
    let authority = Authority::new()?;
    let shop = authority.issue(&["shop.example.com", "www.example.com"])?;
    let live = authority.issue(&["live.example.com"])?;
    cluster.apply(namespace, &shop.secret("shop-tls")).await?;
    cluster.apply(namespace, &live.secret("live-tls")).await?;
    let address = address_of(cluster, namespace, "shop").await?;
    let other = address_of(cluster, namespace, "live").await?;
    ensure!(address == other, "{address} and {other}");
    for (host, issued) in [
        ("shop.example.com", &shop),
        ("www.example.com", &shop),
        ("live.example.com", &live),
    ] {
        let client = Visitor::https(address, authority.trust()).host(host);
        soon(&format!("{host} is served"), async || {
            ensure!(
                client.certificate().await? == issued.der,
                "another certificate"
            );
            client.get("/").await?.expect(200)?;
            client.websocket("/").await?.echo("over wss").await
        })
        .await?;
    }
    Ok(())
}

/// Its own address, its ports, its rules, and the Ingress that attaches to it.
async fn load_balancer(trial: &Trial) -> Result<()> {
    let namespace = "load-balancer-example";
    let installation = trial.shared()?;
    let address = installation.address_of(namespace, "edge").await?;
    let chart = installation.address().await?;
    ensure!(address != chart, "both have {address}");
    let ingress = address_of(&trial.cluster, namespace, "everything-else").await?;
    ensure!(
        ingress == address,
        "the Ingress has {ingress}, not {address}"
    );
    let devices = Visitor::http(address)
        .port(8883)
        .host("devices.example.com");
    soon("the rule on port 8883 is served", async || {
        devices.get("/telemetry/1").await?.expect(200)?;
        devices
            .websocket("/telemetry/1")
            .await?
            .echo("a value")
            .await
    })
    .await?;
    soon("all else goes to the Ingress", async || {
        let anybody = Visitor::http(address).host("anybody.example.com");
        anybody.get("/").await?.expect(200)?;
        // The rule is on the other listener alone.
        answers(&anybody.host("devices.example.com"), "/telemetry", "200").await
    })
    .await
}
