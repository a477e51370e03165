//! What only the replica that holds the Lease does: it writes to the API server.
//!
//! ```text
//! Lease ──is leading──▶ control ──▶ Agenda ──▶ writer ──▶ statuses, finalizers, owned Services
//!                          ▲            └────▶ events ──▶ Events about findings
//!                          └── peers: open tunnels of all replicas
//! ```

pub mod agenda;
pub mod crd;
pub mod events;
pub mod lease;
pub mod notices;
pub mod peers;
pub mod permissions;
mod problems;
pub mod rate;
mod retries;
mod server;
pub mod uninstall;
pub mod writer;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use agenda::{Agenda, Aspect, Matter, Write};
pub use crd::{CrdNotApplied, apply_crd};
pub use events::EventSettings;
pub use lease::LeaseSettings;
pub use notices::Notice;
pub use peers::PeerSettings;
pub use uninstall::{UninstallSettings, uninstall};
pub use writer::WriterSettings;

use self::events::Events;
use self::lease::Election;
use self::problems::Problems;
use self::server::Server;
use self::writer::Writer;
use crate::metrics::Metrics;
use crate::translate::report::Report;

/// For giving the Lease away at the end.
const RESIGN_DEADLINE: Duration = Duration::from_secs(2);

/// How a replica leads.
#[derive(Clone, Debug)]
pub struct LeaderSettings {
    /// The Lease.
    pub lease: LeaseSettings,
    /// What is written, and how fast.
    pub writer: WriterSettings,
    /// Events.
    pub events: EventSettings,
    /// Asking the other replicas.
    pub peers: PeerSettings,
}

impl LeaderSettings {
    /// The defaults.
    #[must_use]
    pub fn new(lease: LeaseSettings) -> Self {
        Self {
            lease,
            writer: WriterSettings::default(),
            events: EventSettings::default(),
            peers: PeerSettings::default(),
        }
    }
}

/// Leads while it holds the Lease.
#[derive(Debug)]
pub struct Leader {
    settings: LeaderSettings,
    agenda: Agenda,
    metrics: Arc<Metrics>,
    problems: Problems,
    leading: watch::Sender<bool>,
    peers: watch::Receiver<Vec<SocketAddr>>,
    tunnels: watch::Sender<BTreeMap<String, u64>>,
}

/// What the leader tells the rest of the process, and is told.
#[derive(Clone, Debug)]
pub struct Leads {
    /// Whether this replica leads.
    pub leading: watch::Receiver<bool>,
    /// What keeps it from writing.
    pub problems: watch::Receiver<Arc<Vec<Report>>>,
    /// Where the admin ports of all replicas are, this one's included.
    pub peers: watch::Sender<Vec<SocketAddr>>,
    /// Open tunnels on all of them by listener (`NAMESPACE/LOADBALANCER/LISTENER`), as of the last
    /// time that they were asked.
    pub tunnels: watch::Receiver<BTreeMap<String, u64>>,
}

impl Leader {
    /// One that does not lead yet.
    #[must_use]
    pub fn new(settings: LeaderSettings, agenda: Agenda, metrics: Arc<Metrics>) -> (Self, Leads) {
        let problems = Problems::default();
        let (leading, is_leading) = watch::channel(false);
        let (known_peers, peers) = watch::channel(Vec::new());
        let (tunnels, sums) = watch::channel(BTreeMap::new());
        let leads = Leads {
            leading: is_leading,
            problems: problems.reports(),
            peers: known_peers,
            tunnels: sums,
        };
        let leader = Self {
            settings,
            agenda,
            metrics,
            problems,
            leading,
            peers,
            tunnels,
        };
        (leader, leads)
    }

    /// Takes part in the election, and leads when elected, until `stop` is cancelled. Then it stops
    /// writing and gives the Lease away, which takes 2 s at most.
    pub async fn run(self, client: Client, stop: CancellationToken) {
        let settings = &self.settings;
        let server = Server::new(client, settings.writer.deadline);
        let mut election = Election::new(&settings.lease, &server, &self.problems, &self.leading);
        let writer = Writer::new(
            settings.writer,
            &server,
            &self.agenda,
            &self.problems,
            &self.metrics,
        );
        let events = Events::new(
            settings.events,
            &server,
            &settings.lease.identity,
            &self.agenda,
            &self.problems,
            &self.metrics,
        );
        let leading = || self.leading.subscribe();
        let work = Box::pin(async {
            tokio::join!(
                election.run(),
                writer.run(leading()),
                events.run(leading()),
                peers::run(&settings.peers, &self.peers, leading(), &self.tunnels),
            )
        });
        // Writes under way end here: they are dropped before the Lease is anybody else's.
        stop.run_until_cancelled(work).await;
        drop(tokio::time::timeout(RESIGN_DEADLINE, election.resign()).await);
    }
}
