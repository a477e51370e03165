//! Replicas that take part in the election and write, without a proxy.

use std::sync::Arc;
use std::time::Duration;

use holdfast::api::Address;
use holdfast::leader::rate::{Backoff, Rate};
use holdfast::leader::{
    Agenda, Aspect, Leader, LeaderSettings, Leads, LeaseSettings, Matter, Write,
};
use holdfast::metrics::Metrics;
use holdfast::source::cluster::ApiServer as Server;
use holdfast::world::{Kind, ObjectKey, ObjectName};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api_server::{ApiServer, Request};
use crate::harness::{PATIENCE, soon};

/// The Lease's namespace and name.
pub const NAMESPACE: &str = "holdfast";
pub const LEASE: &str = "holdfast";

/// A replica as far as it leads.
pub struct Replica {
    pub agenda: Agenda,
    pub leads: Leads,
    pub metrics: Arc<Metrics>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Times that tests can wait for. A Lease's duration is in whole seconds.
pub fn lease(identity: &str) -> LeaseSettings {
    let mut lease = LeaseSettings::new(NAMESPACE, LEASE, identity);
    lease.duration = Duration::from_secs(1);
    lease.renew = Duration::from_millis(150);
    lease.deadline = Duration::from_millis(600);
    lease.poll = Duration::from_millis(50);
    lease.retirement = Duration::from_secs(4);
    lease
}

pub fn settings(identity: &str) -> LeaderSettings {
    let mut settings = LeaderSettings::new(lease(identity));
    let quick = |first, limit| Backoff {
        first: Duration::from_millis(first),
        limit: Duration::from_millis(limit),
    };
    settings.writer.rate = Rate {
        per_second: 10_000.0,
        burst: 1_000,
    };
    settings.writer.deadline = Duration::from_secs(2);
    settings.writer.conflict = quick(5, 50);
    settings.writer.unavailable = quick(20, 200);
    settings.writer.refused = quick(300, 300);
    settings.events.backoff = quick(20, 100);
    settings.peers.every = Duration::from_millis(100);
    settings
}

impl Replica {
    pub fn start(server: &ApiServer, identity: &str) -> Self {
        Self::start_with(server, identity, |_| {})
    }

    pub fn start_with(
        server: &ApiServer,
        identity: &str,
        change: impl FnOnce(&mut LeaderSettings),
    ) -> Self {
        let mut settings = settings(identity);
        change(&mut settings);
        let agenda = Agenda::default();
        let metrics = Arc::<Metrics>::default();
        let (leader, leads) = Leader::new(settings, agenda.clone(), Arc::clone(&metrics));
        let client = Server::at(&server.url()).unwrap().client().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(leader.run(client, stop.clone()));
        Self {
            agenda,
            leads,
            metrics,
            stop,
            task,
        }
    }

    /// Starts and waits until it leads.
    pub async fn leader(server: &ApiServer) -> Self {
        let replica = Self::start(server, "one");
        replica.becomes_leader().await;
        replica
    }

    pub fn is_leading(&self) -> bool {
        *self.leads.leading.borrow()
    }

    pub async fn becomes_leader(&self) {
        self.becomes(true).await;
    }

    pub async fn becomes(&self, leading: bool) {
        let mut is_leading = self.leads.leading.clone();
        let becomes = is_leading.wait_for(|now| *now == leading);
        let became = tokio::time::timeout(PATIENCE, becomes).await;
        became
            .unwrap_or_else(|_| panic!("leading does not become {leading}"))
            .unwrap();
    }

    /// Ends as a process does that is killed: nothing more is sent.
    pub fn kill(&self) {
        self.task.abort();
    }

    /// Ends in good order.
    pub async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("it ends")
            .unwrap();
    }

    /// Waits until nothing is left to write.
    pub async fn writes_all(&self, matters: &[Matter]) {
        soon("everything is written", async || {
            let open = matters.iter().any(|matter| self.agenda.holds(matter));
            (!open).then_some(())
        })
        .await;
    }

    /// How many writes of a kind had this outcome.
    pub fn count(&self, kind: &str, outcome: &str) -> u64 {
        let writes = self.metrics.leader.writes();
        let fitting = writes
            .iter()
            .filter(|((k, o), _)| *k == kind && *o == outcome);
        fitting.map(|(_, count)| count).sum()
    }

    /// What keeps it from writing, in words.
    pub fn problems(&self) -> Vec<String> {
        let problems = self.leads.problems.borrow();
        problems.iter().map(ToString::to_string).collect()
    }

    /// Waits for a problem that holds these words.
    pub async fn has_problem(&self, words: &[&str]) -> String {
        soon(&format!("a problem with {words:?}"), async || {
            let problems = self.problems();
            let mut fitting = problems.into_iter();
            fitting.find(|problem| words.iter().all(|word| problem.contains(word)))
        })
        .await
    }

    pub async fn has_no_problem(&self) {
        soon("no problem", async || {
            self.problems().is_empty().then_some(())
        })
        .await;
    }
}

/// The Lease as stored.
pub fn stored_lease(server: &ApiServer) -> Option<Value> {
    server.object("Lease", NAMESPACE, LEASE)
}

pub fn holder(server: &ApiServer) -> Option<String> {
    let lease = stored_lease(server)?;
    lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
}

pub fn matter(kind: Kind, namespace: &str, name: &str, aspect: Aspect) -> Matter {
    Matter {
        object: ObjectKey::new(kind, ObjectName::new(namespace, name)),
        aspect,
    }
}

/// The status of an Ingress in `default`.
pub fn ingress_status(name: &str) -> Matter {
    matter(Kind::Ingress, "default", name, Aspect::Status)
}

/// These addresses for an Ingress.
pub fn addresses(values: &[&str]) -> Write {
    Write::IngressAddresses(values.iter().copied().map(Address::new).collect())
}

/// Requests that wrote to a resource, in their order.
pub fn writes(server: &ApiServer, resource: &str) -> Vec<Request> {
    let requests = server.requests().into_iter();
    requests
        .filter(|request| request.resource == resource)
        .filter(|request| !matches!(request.verb, "list" | "watch" | "get"))
        .collect()
}
