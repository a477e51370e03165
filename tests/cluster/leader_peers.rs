//! Open tunnels of all replicas.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::api_server::ApiServer;
use crate::controller::limited;
use crate::leader::Replica;

/// An admin port that answers each request with what the test says; an empty text = nothing.
async fn admin_port(answer: &str) -> (SocketAddr, watch::Sender<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (said, answer) = watch::channel(answer.to_owned());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.borrow().clone();
            if answer.is_empty() {
                continue;
            }
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..read]);
            assert!(request.starts_with("GET /tunnels/count HTTP/1.0\r\n"));
            let length = answer.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{answer}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, said)
}

fn sums(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    let counts = counts.iter();
    counts
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}

#[tokio::test]
async fn the_leader_adds_up_what_the_replicas_have() {
    limited(async {
        let server = ApiServer::start().await;
        let replica = Replica::leader(&server).await;
        let mut told = replica.leads.tunnels.clone();
        let mut become_ = async |wanted: &[(&str, u64)]| {
            let wanted = sums(wanted);
            told.wait_for(|now| *now == wanted).await.unwrap();
        };
        let (one, _) = admin_port(r#"{"edge/edge/http": 3, "edge/edge/https": 1}"#).await;
        let (two, second) = admin_port(r#"{"edge/edge/http": 4}"#).await;
        let (odd, _) = admin_port("not JSON").await;
        let (silent, _) = admin_port("").await;
        replica
            .leads
            .peers
            .send_replace(vec![one, two, odd, silent]);
        become_(&[("edge/edge/http", 7), ("edge/edge/https", 1)]).await;
        second.send_replace(r#"{"edge/edge/http": 10}"#.to_owned());
        become_(&[("edge/edge/http", 13), ("edge/edge/https", 1)]).await;
        // One that does not answer counts as before, until it is gone.
        second.send_replace(String::new());
        replica.leads.peers.send_replace(vec![two]);
        become_(&[("edge/edge/http", 10)]).await;
        replica.leads.peers.send_replace(vec![one]);
        become_(&[("edge/edge/http", 3), ("edge/edge/https", 1)]).await;
    })
    .await;
}
