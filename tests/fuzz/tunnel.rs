//! A tunnel between two endpoints, run to its end on a clock that jumps.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use holdfast::routing::{ListenerId, Origin, PodProtocol, RouteId, UpstreamId};
use holdfast::websocket::{
    Cause, Outcome, RelayConfig, RouteTotals, Side, TunnelInfo, TunnelTable, relay,
};
use tokio::time::{Instant, sleep, timeout};

use crate::endpoint::{Endpoint, Leave, Manners};
use crate::socket::{Schedule, Socket, Step};

/// For an end that was asked for: a close timeout to reach a boundary and one for the peers' ends,
/// or what is left of lingering before them.
pub const LONGEST_END: Duration = Duration::from_secs(75);

/// Turns of the relay in which nothing moves, not even the time: schedules have few steps, and
/// [`Moment::Turns`] at most 256.
const MOST_IDLE_TURNS: usize = 5000;

/// One side of a tunnel.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    pub manners: Manners,
    pub reads: Vec<Step>,
    pub writes: Vec<Step>,
    /// What is written is held until it is flushed.
    pub holds: bool,
    /// So much of what it says came with the handshake.
    pub early: usize,
}

impl Peer {
    /// It takes and gives whatever there is, at once.
    pub fn is_prompt(steps: &[Step]) -> bool {
        !steps.iter().any(|step| matches!(step, Step::Stall(_)))
    }

    /// It is always ready for what it is sent.
    pub fn takes_at_once(&self) -> bool {
        let moves = |step: &Step| matches!(step, Step::Move(_));
        self.writes.iter().all(moves) && self.takes_all()
    }

    /// It takes all that it is sent.
    pub fn takes_all(&self) -> bool {
        Self::is_prompt(&self.writes)
            && matches!(self.manners.leaves, Leave::Stays | Leave::Finishes)
    }
}

/// When somebody asks for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// After so many turns of other tasks.
    Turns(usize),
    At(Duration),
    /// Once this side has heard so many bytes.
    Heard(Side, usize),
}

/// An end that somebody asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    pub when: Moment,
    pub cause: Cause,
    pub code: Option<u16>,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub config: RelayConfig,
    pub client: Peer,
    pub pod: Peer,
    pub ask: Option<Ask>,
    /// Of all chances that the relay takes.
    pub seed: u64,
}

impl Plan {
    /// How long a tunnel stays open before it is asked to end, since every run has an end: until all
    /// that the policy does by itself could have happened, beside the longest stall. Pings go on and on, but
    /// the first few show what the thousandth would.
    fn night(&self) -> Duration {
        let config = &self.config;
        let silence = match (config.keepalive, config.idle_timeout) {
            (Some(keepalive), _) => 3 * keepalive.interval + keepalive.timeout,
            (None, Some(idle)) => idle,
            (None, None) => Duration::ZERO,
        };
        let age = config
            .max_age
            .map_or(Duration::ZERO, |age| 2 * age.duration);
        let steps = [&self.client, &self.pod].map(|peer| [&peer.reads, &peer.writes]);
        let stalls = steps
            .into_iter()
            .flatten()
            .flatten()
            .map(|step| match step {
                Step::Stall(time) => *time,
                Step::Move(_) | Step::NotReady => Duration::ZERO,
            });
        silence.max(age) + stalls.max().unwrap_or_default() + Duration::from_secs(1)
    }

    pub fn peer(&self, side: Side) -> &Peer {
        match side {
            Side::Client => &self.client,
            Side::Pod => &self.pod,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Played {
    pub outcome: Outcome,
    pub client: Endpoint,
    pub pod: Endpoint,
    /// It was open until it was asked to end at night.
    pub lasted: bool,
    pub totals: Vec<RouteTotals>,
}

impl Played {
    /// Whether a peer has said a Close, which is then answered with its own code.
    pub fn has_closed(&self) -> bool {
        self.client.has_closed || self.pod.has_closed
    }
}

/// A place in the table.
pub fn info() -> TunnelInfo {
    let name: Arc<str> = "test".into();
    TunnelInfo {
        route: Arc::new(RouteId {
            origin: Arc::new(Origin {
                kind: "Ingress",
                namespace: Arc::clone(&name),
                name: Arc::clone(&name),
            }),
            host: "a.example".into(),
            path: "/".into(),
        }),
        listener: Arc::new(ListenerId {
            namespace: Arc::clone(&name),
            load_balancer: Arc::clone(&name),
            name: Arc::clone(&name),
        }),
        upstream: Arc::new(UpstreamId {
            namespace: Arc::clone(&name),
            service: name,
            port: 80,
            protocol: PodProtocol::Plain,
        }),
        endpoint: ([10, 0, 0, 1], 80).into(),
        client: ([192, 0, 2, 1], 40000).into(),
        http_version: http::Version::HTTP_11,
        request_id: None,
    }
}

/// Asks a tunnel to end.
pub fn end(table: &TunnelTable, id: u64, cause: Cause, code: Option<u16>) {
    let Some(code) = code else {
        table.end(id, cause);
        return;
    };
    // A window of nothing is over at once.
    let asked = pin!(table.end_each(vec![id], Duration::ZERO, cause, code));
    assert!(
        asked
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    );
}

/// Runs a tunnel to its end.
///
/// # Panics
/// Where it has none in bounded time.
pub fn run(plan: &Plan) -> Played {
    fastrand::seed(plan.seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(play(plan))
}

async fn play(plan: &Plan) -> Played {
    let table = TunnelTable::new();
    let guard = table.open(info());
    let id = guard.id();
    let endpoint = |side| {
        let endpoint = Endpoint::new(side, plan.peer(side).manners.clone());
        Arc::new(Mutex::new(endpoint))
    };
    let (client, pod) = (endpoint(Side::Client), endpoint(Side::Pod));
    let socket = |endpoint: &Arc<Mutex<Endpoint>>, side: Side| {
        let peer = plan.peer(side);
        let early = endpoint.lock().unwrap().say(peer.early);
        let (reads, writes) = (Schedule::new(&peer.reads), Schedule::new(&peer.writes));
        let mut socket = Socket::new(Arc::clone(endpoint), reads, writes);
        socket.holds = peer.holds;
        if let Some(Ask {
            when: Moment::Heard(who, count),
            cause,
            code,
        }) = plan.ask
            && who == side
        {
            let table = table.clone();
            socket.on_heard = Some((count, Box::new(move || end(&table, id, cause, code))));
        }
        (socket, Bytes::from(early))
    };
    let (client_socket, client_prefix) = socket(&client, Side::Client);
    let (pod_socket, pod_prefix) = socket(&pod, Side::Pod);
    let relay = relay(
        client_socket,
        client_prefix,
        pod_socket,
        pod_prefix,
        guard,
        plan.config,
    );
    let mut relay = pin!(relay);
    let (mut idle_turns, mut last) = (0, None);
    let mut relay = std::future::poll_fn(|cx| {
        let words = |endpoint: &Mutex<Endpoint>| {
            let endpoint = endpoint.lock().unwrap();
            (endpoint.said.len(), endpoint.accepted)
        };
        let now = Some((Instant::now(), words(&client), words(&pod)));
        idle_turns = if now == last { idle_turns + 1 } else { 0 };
        last = now;
        assert!(idle_turns < MOST_IDLE_TURNS, "it turns and turns: {plan:?}");
        relay.as_mut().poll(cx)
    });

    let asks = async {
        let Some(ask) = plan.ask else { return };
        match ask.when {
            Moment::Turns(turns) => {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
            }
            Moment::At(time) => sleep(time).await,
            Moment::Heard(_, 0) => {}
            Moment::Heard(..) => return,
        }
        end(&table, id, ask.cause, ask.code);
    };
    let day = async {
        asks.await;
        sleep(plan.night()).await;
    };
    let mut lasted = false;
    let outcome = tokio::select! {
        biased;
        outcome = &mut relay => outcome,
        () = day => {
            lasted = true;
            end(&table, id, Cause::Shutdown, None);
            let ended = timeout(LONGEST_END, &mut relay).await;
            ended.expect("a tunnel that was asked to end has an end")
        }
    };
    let totals = table.totals();
    assert!(table.is_empty());
    drop(table);
    let take = |endpoint: &Arc<Mutex<Endpoint>>| {
        let mut endpoint = endpoint.lock().unwrap();
        let side = endpoint.side;
        std::mem::replace(&mut *endpoint, Endpoint::new(side, Manners::default()))
    };
    Played {
        outcome,
        client: take(&client),
        pod: take(&pod),
        lasted,
        totals,
    }
}
