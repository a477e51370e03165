//! ws and wss to pods, through the address of the owned Service, with no annotation at all.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use bytes::Bytes;

use crate::client::{Authority, Received, Visitor};
use crate::cluster::text;
use crate::installation::RELEASE;
use crate::manifests::{Ingress, echo};
use crate::patience::soon;
use crate::trial::Trial;

const HOST: &str = "ws.example.com";
const MEBIBYTE: usize = 1 << 20;

/// Everything that a WebSocket does, over ws and over wss.
pub(crate) async fn reach_pods(trial: Arc<Trial>) -> Result<()> {
    let authority = Authority::new()?;
    let certificate = authority.issue(&[HOST])?;
    trial.apply(&echo("echo", 2)).await?;
    trial.apply(&certificate.secret("ws-cert")).await?;
    let ingress = Ingress::new("ws", "holdfast").host(HOST, "echo");
    trial.apply(&ingress.tls(&[HOST], "ws-cert").yaml()).await?;

    let address = trial.shared()?.address().await?;
    let same = same_address(&trial, address);
    trial
        .item("Ingress, LoadBalancer and Service say one address", same)
        .await;
    let ws = Visitor::http(address).host(HOST);
    let wss = Visitor::https(address, authority.trust()).host(HOST);
    soon("both are served", async || {
        ws.get("/").await?.comes_from("echo")?;
        wss.get("/").await?.comes_from("echo")
    })
    .await?;
    for (scheme, client) in [("ws", &ws), ("wss", &wss)] {
        let name = |what: &str| format!("{scheme}: {what}");
        let trial = &trial;
        trial.item(&name("text and binary"), messages(client)).await;
        trial
            .item(&name("1 MiB messages"), large_messages(client))
            .await;
        trial
            .item(&name("fragments, pings between them"), fragments(client))
            .await;
        trial
            .item(&name("the client's Close code"), client_closes(client))
            .await;
        trial
            .item(&name("the pod's Close code"), pod_closes(client))
            .await;
        trial
            .item(&name("the subprotocol"), subprotocol(client))
            .await;
        trial
            .item(&name("a pod's refusal passes"), refusal(client))
            .await;
    }
    Ok(())
}

async fn same_address(trial: &Trial, address: IpAddr) -> Result<()> {
    let installation = trial.shared()?;
    let service = installation
        .owned_service(&installation.namespace, RELEASE)
        .await?;
    let address = address.to_string();
    ensure!(
        text(&service, "/spec/type") == "LoadBalancer"
            && text(&service, "/status/loadBalancer/ingress/0/ip") == address,
        "{address} is not that of the Service: {service}"
    );
    soon("the Ingress has the address", async || {
        let ingress = trial.cluster.get("Ingress", &trial.namespace, "ws").await?;
        let status = text(&ingress, "/status/loadBalancer/ingress/0/ip");
        ensure!(status == address, "it has {status:?}, not {address}");
        Ok(())
    })
    .await
}

async fn messages(client: &Visitor) -> Result<()> {
    let mut socket = client.websocket("/chat?room=1").await?;
    for text in ["", "a", "grüße ☃", &"x".repeat(125), &"y".repeat(70_000)] {
        socket.echo(text).await?;
    }
    let bytes = Bytes::from_static(&[0, 255, 0x88, 0x81]);
    socket.send_binary(bytes.clone()).await?;
    let back = socket.receive().await?;
    ensure!(back == Received::Binary(bytes), "came back as {back:?}");
    close_cleanly(socket).await
}

async fn large_messages(client: &Visitor) -> Result<()> {
    let mut socket = client.websocket("/").await?;
    for round in 0..4_usize {
        let bytes: Vec<u8> = (0..MEBIBYTE).map(|at| (at * 31 + round) as u8).collect();
        let bytes = Bytes::from(bytes);
        socket.send_binary(bytes.clone()).await?;
        let back = socket.receive().await?;
        ensure!(back == Received::Binary(bytes), "round {round} differs");
    }
    close_cleanly(socket).await
}

async fn fragments(client: &Visitor) -> Result<()> {
    let mut socket = client.websocket("/").await?;
    socket
        .send_fragments(&["one ", "", "two ", "three"])
        .await?;
    let mut pongs = 0;
    loop {
        match socket.receive().await? {
            Received::Pong(_) => pongs += 1,
            Received::Text(text) => {
                ensure!(text == "one two three", "came back as {text:?}");
                break;
            }
            other => bail!("came back as {other:?}"),
        }
    }
    ensure!(pongs == 3, "{pongs} of 3 pings were answered");
    close_cleanly(socket).await
}

async fn client_closes(client: &Visitor) -> Result<()> {
    for code in [1000, 1001, 3000, 4321] {
        let mut socket = client.websocket("/").await?;
        socket.echo("before").await?;
        let (back, _) = socket.close(code, "that is all").await?;
        ensure!(back == code, "Close {code} was answered by {back}");
    }
    Ok(())
}

async fn pod_closes(client: &Visitor) -> Result<()> {
    for code in [1000, 1011, 4000] {
        let mut socket = client.websocket(&format!("/?close={code}")).await?;
        socket
            .send_text("the pod closes at the first message")
            .await?;
        let (came, reason) = socket.closed().await?;
        ensure!(came == code, "Close {code} came as {came} {reason:?}");
    }
    Ok(())
}

async fn subprotocol(client: &Visitor) -> Result<()> {
    let offering = client
        .clone()
        .field("sec-websocket-protocol", "chat.v2, chat.v1");
    let mut socket = offering.websocket("/").await?;
    let agreed = socket.subprotocol().to_owned();
    ensure!(agreed == "chat.v2", "agreed on {agreed:?}");
    socket.echo("in chat.v2").await?;
    close_cleanly(socket).await
}

async fn refusal(client: &Visitor) -> Result<()> {
    let Err(error) = client.websocket("/?status=403").await else {
        bail!("the handshake was not refused");
    };
    let words = format!("{error:#}");
    ensure!(words.contains("answered 403"), "refused so: {words}");
    Ok(())
}

async fn close_cleanly(mut socket: crate::client::Socket) -> Result<()> {
    let (code, reason) = socket.close(1000, "").await?;
    ensure!(code == 1000, "closed with {code} {reason:?}");
    Ok(())
}
