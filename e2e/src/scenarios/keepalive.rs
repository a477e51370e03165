//! A client whose packets are lost: the proxy's own pings find it.

use std::net::IpAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::cluster::{items, text};
use crate::manifests::{Ingress, echo};
use crate::patience::soon;
use crate::trial::Trial;

const HOST: &str = "keepalive.example.com";
const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(1);
/// For the looks themselves.
const SLACK: Duration = Duration::from_secs(1);
/// Of the rules that drop packets.
const TABLE: &str = "holdfast_e2e_cable";

/// One client's cable is pulled, another's is not.
pub(crate) async fn finds_a_dead_client(trial: Arc<Trial>) -> Result<()> {
    trial.apply(&echo("echo", 1)).await?;
    let edges = [trial.edge("pulled").await?, trial.edge("whole").await?];
    for (edge, name) in edges.iter().zip(["pulled", "whole"]) {
        let websocket = json!({"keepalive": {"interval": "2s", "timeout": "1s"}});
        let listeners = json!([
            {"name": "http", "port": 80, "protocol": "HTTP", "websocket": websocket},
            {"name": "https", "port": 443, "protocol": "HTTPS"},
        ]);
        let patch = json!({"spec": {"listeners": listeners}});
        let namespace = &trial.namespace;
        trial
            .cluster
            .patch("LoadBalancer", namespace, name, patch)
            .await?;
        let ingress = Ingress::new(name, &edge.class).host(HOST, "echo");
        trial.apply(&ingress.yaml()).await?;
    }
    let [pulled, whole] = &edges;
    soon("both are served, with pings", async || {
        for edge in &edges {
            edge.http(HOST).get("/").await?.comes_from("echo")?;
        }
        let lists = trial
            .cluster
            .list("LoadBalancer", &trial.namespace, "")
            .await?;
        for object in &lists {
            let interval = text(
                object,
                "/status/listeners/0/effective/websocket/keepalive/interval",
            );
            ensure!(interval == "2s", "the interval in force is {interval:?}");
        }
        Ok(())
    })
    .await?;
    let mut lost = pulled.http(HOST).websocket("/").await?;
    lost.echo("before").await?;
    let mut kept = whole.http(HOST).websocket("/").await?;
    kept.echo("before").await?;
    // It answers pings while it is waited on for what does not come.
    let answering = tokio::spawn(async move {
        let silence = tokio::time::timeout(Duration::from_secs(12), kept.next()).await;
        (silence.is_err(), kept)
    });

    let cut = Cut::of(pulled.address).await?;
    let began = Instant::now();
    let found = soon("it is found dead", async || {
        let endings = endings(&trial, "pulled").await?;
        ensure!(endings == ["keepalive_timeout"], "{endings:?}");
        Ok(began.elapsed())
    })
    .await;
    trial
        .item("a client without a cable is found in time", async {
            let found = found?;
            eprintln!("        found after {found:.1?}");
            ensure!(found <= INTERVAL + TIMEOUT + SLACK, "{found:?}");
            Ok(())
        })
        .await;
    trial
        .item("one that is silent and there stays", async {
            let (was_silent, mut kept) = answering.await?;
            ensure!(was_silent, "something came");
            kept.echo("after").await
        })
        .await;
    cut.mend().await
}

/// Why WebSockets of a LoadBalancer are being ended, those that are.
async fn endings(trial: &Trial, load_balancer: &str) -> Result<Vec<String>> {
    let installation = trial.shared()?;
    let mut endings = Vec::new();
    for replica in installation.replicas().await? {
        let page = installation.admin(&replica, "/tunnels").await?;
        let page: Value = serde_json::from_str(&page)?;
        let listener = format!("{}/{load_balancer}/", trial.namespace);
        for tunnel in items(&page, "/tunnels") {
            if text(tunnel, "/listener").starts_with(&listener) {
                endings.push(text(tunnel, "/ending").to_owned());
            }
        }
    }
    Ok(endings)
}

/// Packets to an address are lost, in this network.
struct Cut;

impl Cut {
    async fn of(address: IpAddr) -> Result<Self> {
        let family = if address.is_ipv4() { "ip" } else { "ip6" };
        // Before the address of the Service becomes that of a pod.
        nft(&format!(
            "table inet {TABLE} {{\n chain out {{\n type filter hook output priority -200;\n \
             {family} daddr {address} drop;\n }}\n }}\n"
        ))
        .await?;
        Ok(Self)
    }

    async fn mend(self) -> Result<()> {
        nft(&format!("delete table inet {TABLE}\n")).await
    }
}

async fn nft(rules: &str) -> Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("nft")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(rules.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        bail!("nft: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
