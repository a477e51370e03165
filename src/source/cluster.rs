//! The API server, listed and watched.
//!
//! ```text
//! GET ─▶ answer (lines, pages) ─▶ wire ─▶ scope_watch ──Heard──▶ collector ──Update──▶ control
//!  ▲       deadlines               │      one a scope   (bound)    ▲  problems, what is
//!  └─ api_server (kubeconfig)      └─ stripped Objects             │  not listed yet
//!                                     pod_reader: ends of pods ────┘
//! ```
//!
//! A scope is a kind, or a kind in one namespace. Each is listed (streamed where the server can do
//! that, else by pages) and then watched from the version of the list. It is listed again only when
//! the server no longer has that version, so nothing is lost between two watches. What the server
//! said last stays in force for as long as it is away (P7).
//!
//! Why not `kube::runtime::watcher`: it does not tell when a broken watch works again, goes on after
//! a line that it could not read as if nothing had been in it, and holds whole objects. `kube`
//! itself would write the text of a list that it cannot read into the log, Secrets and all (P10).

mod answer;
pub mod api_server;
mod backoff;
mod collector;
mod failure;
mod pod_reader;
mod scope_watch;
mod wire;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::collector::Collector;
use self::pod_reader::PodReader;
use self::scope_watch::ScopeWatch;
use super::Update;
use crate::world::{Kind, Scope};

pub use api_server::{ApiServer, ApiServerError};

/// Updates that may wait for their receiver. While they do, events collect and later come as one.
const QUEUE: usize = 4;
/// Events that may wait to be collected; then watches are not read from, and the server waits.
const EVENTS: usize = 256;

/// How long to wait for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    /// For the head of an answer, and for each next part of a list.
    pub answer: Duration,
    /// After which the server is asked to end a watch, in whole seconds; half of them to all, so
    /// that not all watches are renewed at once.
    pub watch: Duration,
    /// For how much longer than that a watch may be silent. Then the connection counts as dead.
    pub margin: Duration,
    /// Between two attempts: doubled with each failure, with jitter. Its end is for how long at most
    /// a change goes unseen after the server is back.
    pub retry: RangeInclusive<Duration>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(20),
            watch: Duration::from_secs(60),
            margin: Duration::from_secs(10),
            retry: Duration::from_millis(200)..=Duration::from_secs(4),
        }
    }
}

/// Watches an API server.
#[derive(Clone, Debug)]
pub struct ClusterSource {
    /// Speaks to the server.
    pub server: ApiServer,
    /// The namespaces to watch; none = all. With namespaces, what lives outside of them is not
    /// watched, and no rights beyond them are needed.
    pub namespaces: Vec<String>,
    /// The controller's own namespace, if it is to be seen where `namespaces` does not name it: its
    /// Services and their endpoints are watched there, and nothing else.
    pub own_namespace: Option<String>,
    /// How long to wait for what.
    pub pace: Pace,
}

impl ClusterSource {
    /// Of everything that is read, or of what these namespaces hold.
    #[must_use]
    pub fn new(server: ApiServer, namespaces: Vec<String>) -> Self {
        Self {
            server,
            namespaces,
            own_namespace: None,
            pace: Pace::default(),
        }
    }

    /// Lists and watches on the current runtime, until `stop` or the end of the receiver. The
    /// first update comes at once and says what is going to be listed.
    ///
    /// A server that cannot be reached is no error: it is a problem in the updates, and is tried
    /// again for ever.
    #[must_use]
    pub fn start(self, client: Client, stop: CancellationToken) -> mpsc::Receiver<Update> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = sender.closed() => {}
                () = self.run(client, &sender) => {}
            }
        });
        receiver
    }

    async fn run(self, client: Client, updates: &mpsc::Sender<Update>) {
        let (watched, unwatched) = scopes(&self.namespaces, self.own_namespace.as_deref());
        let (events, heard) = mpsc::channel(EVENTS);
        // Ends them all when it is dropped.
        let mut watches = JoinSet::new();
        let recovery = Arc::new(Notify::new());
        for scope in &watched {
            let watch = ScopeWatch::new(
                scope.clone(),
                client.clone(),
                self.pace.clone(),
                events.clone(),
                Arc::clone(&recovery),
            );
            watches.spawn(watch.run());
        }
        drop(events);
        let collector = Collector::new(self.server.address(), watched, unwatched);
        let address = self.server.address();
        let pods = PodReader::new(client, self.pace, address, &self.namespaces);
        collector.run(heard, pods, updates, Instant::now()).await;
    }
}

/// What is watched, and what is taken as empty.
fn scopes(namespaces: &[String], own: Option<&str>) -> (Vec<Scope>, Vec<Scope>) {
    if namespaces.is_empty() {
        return (Kind::ALL.map(Scope::from).to_vec(), Vec::new());
    }
    let (outside, inside): (Vec<Kind>, Vec<Kind>) = Kind::ALL
        .into_iter()
        .partition(|kind| kind.is_cluster_scoped());
    let mut namespaces: Vec<Arc<str>> =
        namespaces.iter().map(|name| name.as_str().into()).collect();
    namespaces.sort();
    namespaces.dedup();
    let watched = inside.into_iter().flat_map(|kind| {
        namespaces.iter().map(move |namespace| Scope {
            kind,
            namespace: Some(Arc::clone(namespace)),
        })
    });
    // The owned Services, and the addresses of the other replicas.
    let own = own
        .filter(|own| namespaces.iter().all(|name| **name != **own))
        .into_iter()
        .flat_map(|own| {
            [Kind::EndpointSlice, Kind::Service].map(|kind| Scope {
                kind,
                namespace: Some(own.into()),
            })
        });
    (
        watched.chain(own).collect(),
        outside.into_iter().map(Scope::from).collect(),
    )
}
