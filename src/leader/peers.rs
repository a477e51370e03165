//! How many WebSockets are open on all replicas: the leader asks each for its own.
//!
//! ```text
//! addresses of admin ports ─▶ GET /tunnels/count on each ─▶ sums by listener
//! ```

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// The page of the admin port.
pub const PATH: &str = "/tunnels/count";
/// Longer answers are cut, and so not understood.
const MAX_ANSWER: u64 = 4 << 20;

/// Open tunnels by listener.
type Counts = BTreeMap<String, u64>;

/// How the other replicas are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerSettings {
    /// Least time from one round to the next; up to half as long again passes.
    pub every: Duration,
    /// For one answer.
    pub deadline: Duration,
    /// Asked at once.
    pub concurrency: usize,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(20),
            deadline: Duration::from_secs(3),
            concurrency: 8,
        }
    }
}

/// Asks `peers` while `leading`, until dropped.
pub(super) async fn run(
    settings: &PeerSettings,
    peers: &watch::Receiver<Vec<SocketAddr>>,
    mut leading: watch::Receiver<bool>,
    sums: &watch::Sender<Counts>,
) {
    while leading.wait_for(|leading| *leading).await.is_ok() {
        let mut peers = peers.clone();
        let ask = async {
            let mut known = HashMap::new();
            // Until there is somebody to ask there is no round to wait for.
            loop {
                let Ok(addresses) = peers
                    .wait_for(|peers| !peers.is_empty())
                    .await
                    .map(|addresses| addresses.clone())
                else {
                    return;
                };
                ask_all(settings, &addresses, &mut known).await;
                let sum = sum(known.values());
                sums.send_if_modified(|before| {
                    let is_news = *before != sum;
                    *before = sum;
                    is_news
                });
                tokio::time::sleep(settings.every.mul_f64(1.0 + fastrand::f64() / 2.0)).await;
            }
        };
        tokio::select! {
            biased;
            _ = leading.wait_for(|leading| !*leading) => {}
            () = ask => {}
        }
    }
}

/// Who does not answer counts with what it said last.
async fn ask_all(
    settings: &PeerSettings,
    addresses: &[SocketAddr],
    known: &mut HashMap<SocketAddr, Counts>,
) {
    known.retain(|address, _| addresses.contains(address));
    let at_once = Arc::new(Semaphore::new(settings.concurrency.max(1)));
    let deadline = settings.deadline;
    let mut asked = JoinSet::new();
    for &address in addresses {
        let at_once = Arc::clone(&at_once);
        asked.spawn(async move {
            // The semaphore is never closed.
            let _turn = at_once.acquire().await;
            let answer = match tokio::time::timeout(deadline, ask(address)).await {
                Ok(answer) => answer,
                Err(late) => Err(io::Error::new(io::ErrorKind::TimedOut, late)),
            };
            (address, answer)
        });
    }
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok((address, Ok(counts))) => {
                known.insert(address, counts);
            }
            Ok((address, Err(error))) => {
                tracing::debug!(%address, %error, "a replica does not say how many tunnels it has");
            }
            // Tasks neither panic nor are aborted while they are waited for.
            Err(_) => {}
        }
    }
}

async fn ask(address: SocketAddr) -> io::Result<Counts> {
    let mut stream = TcpStream::connect(address).await?;
    // HTTP/1.0: the answer ends with the connection, so nothing needs to be parsed.
    let request = format!("GET {PATH} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer).await?;
    let unclear = || io::Error::new(io::ErrorKind::InvalidData, "the answer is not understood");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(unclear)?;
    if !head
        .lines()
        .next()
        .is_some_and(|line| line.contains(" 200 "))
    {
        return Err(unclear());
    }
    serde_json::from_str(body).map_err(|_| unclear())
}

fn sum<'a>(counts: impl Iterator<Item = &'a Counts>) -> Counts {
    let mut sum = Counts::new();
    for (listener, count) in counts.flatten() {
        let total = sum.entry(listener.clone()).or_default();
        *total = total.saturating_add(*count);
    }
    sum
}
