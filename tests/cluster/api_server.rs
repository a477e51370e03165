//! An API server of our own, for what a real one will not do on command.
//!
//! ```text
//! test ──put, remove──▶ Store (objects, history) ◀── Handler ◀── HTTP/1.1 ◀── client
//!      ──script, cut_watches, stall_watches, go_away──▶ Script ──┘   └─▶ watch bodies
//! ```
//!
//! It serves any resource by its path: list (by pages), watch (with bookmarks, and as a streamed
//! list), GET, POST, PUT (409 on an old version), PATCH (merge, and server-side apply in a simple
//! form), the status subresource, DELETE (with finalizers). It knows no schema and validates
//! nothing. Plain HTTP, no authentication.

pub mod handler;
pub mod patch;
pub mod script;
pub mod store;
pub mod watching;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use script::{Fault, Rule};
use store::{Key, Store};

/// A running API server. It ends with the runtime.
#[derive(Clone)]
pub struct ApiServer {
    shared: Arc<Shared>,
    address: SocketAddr,
}

/// What connections share.
pub struct Shared {
    state: Mutex<State>,
    /// Counts changes, for watches to wait on.
    pub changes: watch::Sender<u64>,
}

/// All that the server knows.
#[derive(Default)]
pub struct State {
    pub store: Store,
    pub script: Vec<Rule>,
    pub requests: Vec<Request>,
    /// Resources that are not served.
    pub missing: Vec<String>,
    /// Watches opened so far; each has its number.
    pub opened: u64,
    /// Watches with smaller numbers are cut, and those with smaller numbers than the other stall.
    pub cut_before: u64,
    pub stalled_before: u64,
    /// Raw bytes for all open watches of a resource, and whether they end the watch.
    pub injected: Vec<Injected>,
    /// Ends all connections, and the acceptor.
    running: Option<CancellationToken>,
}

/// Bytes that open watches send as they are.
#[derive(Clone)]
pub struct Injected {
    pub resource: String,
    pub bytes: String,
    pub then: Then,
    /// The version of the event in whose place they come.
    pub instead_of: Option<u64>,
    /// For watches with smaller numbers.
    pub before: u64,
}

/// What a watch does after injected bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    GoOn,
    /// Ends in good order.
    End,
    /// Breaks the connection.
    Break,
}

/// A request that has come.
#[derive(Clone, Debug)]
pub struct Request {
    /// `list`, `watch`, `get`, `create`, `update`, `patch`, `delete`.
    pub verb: &'static str,
    /// `ingresses`, `ingresses/status`.
    pub resource: String,
    /// Path and query.
    pub uri: String,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub query: Vec<(String, String)>,
    pub content_type: String,
    pub user_agent: String,
    /// `Null` where there is none.
    pub body: Value,
}

impl Request {
    /// A parameter of the query, decoded.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl ApiServer {
    /// Starts on a free port of loopback, without any object.
    pub async fn start() -> Self {
        let server = Self::down().await;
        server.come_back().await;
        server
    }

    /// The same, not there yet: connections are refused until [`ApiServer::come_back`].
    pub async fn down() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared {
            state: Mutex::default(),
            changes: watch::channel(0).0,
        };
        Self {
            shared: Arc::new(shared),
            address,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "mock", "cluster": {"server": self.url()}}],
            "users": [{"name": "mock", "user": {}}],
            "contexts": [{"name": "mock", "context": {"cluster": "mock", "user": "mock"}}],
            "current-context": "mock",
        })
        .to_string()
    }

    /// Creates or replaces an object, its status too, and returns it as stored.
    pub fn put(&self, object: Value) -> Value {
        let stored = self.state().store.put(object);
        self.changed();
        stored
    }

    /// The same for each document of a YAML text.
    pub fn put_yaml(&self, yaml: &str) {
        for document in serde_yaml::Deserializer::from_str(yaml) {
            let value: Value = serde::Deserialize::deserialize(document).unwrap();
            if !value.is_null() {
                self.put(value);
            }
        }
    }

    /// Removes an object at once, whatever finalizers it has.
    pub fn remove(&self, kind: &str, namespace: &str, name: &str) {
        let key = Key::find(kind, namespace, name);
        assert!(
            self.state().store.erase(&key),
            "no {kind} {namespace}/{name}"
        );
        self.changed();
    }

    /// Deletes an object as a request does: its finalizers come first.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) {
        let key = Key::find(kind, namespace, name);
        let deleted = self.state().store.delete(&key);
        assert!(deleted.is_some(), "no {kind} {namespace}/{name}");
        self.changed();
    }

    /// An object as stored; `namespace` is empty for those without.
    pub fn object(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = Key::find(kind, namespace, name);
        let state = self.state();
        state.store.get(&key).map(|object| (**object).clone())
    }

    /// All objects of a kind.
    pub fn objects(&self, kind: &str) -> Vec<Value> {
        let resource = store::plural(kind);
        let state = self.state();
        let objects = state.store.of(&resource, None);
        objects.map(|(_, object)| (**object).clone()).collect()
    }

    /// What has been asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// How many requests of a verb on a resource have come.
    pub fn count(&self, verb: &str, resource: &str) -> usize {
        let state = self.state();
        let matching = state.requests.iter();
        matching
            .filter(|request| request.verb == verb && request.resource == resource)
            .count()
    }

    pub fn forget_requests(&self) {
        self.state().requests.clear();
    }

    /// Adds a rule. Of several that fit the first that is not used up counts.
    pub fn script(&self, rule: Rule) {
        self.state().script.push(rule);
    }

    /// Drops all rules.
    pub fn behave(&self) {
        self.state().script.clear();
    }

    /// Answers 404 for a resource as if its definition were not installed, or serves it again.
    pub fn set_served(&self, resource: &str, served: bool) {
        let mut state = self.state();
        state.missing.retain(|missing| missing != resource);
        if !served {
            state.missing.push(resource.to_owned());
        }
    }

    /// Forgets all that has happened: watches that continue from before get 410.
    pub fn compact(&self) {
        self.state().store.compact();
    }

    /// Ends all open watches in good order.
    pub fn cut_watches(&self) {
        let mut state = self.state();
        state.cut_before = state.opened;
        drop(state);
        self.changed();
    }

    /// Lets all open watches fall silent for ever, without an end.
    pub fn stall_watches(&self) {
        let mut state = self.state();
        state.stalled_before = state.opened;
        drop(state);
        self.changed();
    }

    /// Sends bytes on the open watches of a resource as they are.
    pub fn inject(&self, resource: &str, bytes: &str, then: Then) {
        self.send(resource, bytes, then, None);
    }

    /// Changes an object, and sends these bytes on open watches in place of the event.
    pub fn garble(&self, object: Value, bytes: &str, then: Then) {
        let resource = store::plural(object["kind"].as_str().unwrap());
        let mut state = self.state();
        state.store.put(object);
        let version = state.store.version();
        drop(state);
        self.send(&resource, bytes, then, Some(version));
    }

    fn send(&self, resource: &str, bytes: &str, then: Then, instead_of: Option<u64>) {
        let mut state = self.state();
        let before = state.opened;
        state.injected.push(Injected {
            resource: resource.to_owned(),
            bytes: bytes.to_owned(),
            then,
            instead_of,
            before,
        });
        drop(state);
        self.changed();
    }

    /// Watches that are open now, by the resource.
    pub fn open_watches(&self, resource: &str) -> usize {
        self.state().store.open_watches(resource)
    }

    /// Goes away with all connections: new ones are refused.
    pub fn go_away(&self) {
        if let Some(running) = self.state().running.take() {
            running.cancel();
        }
    }

    /// Listens again, at the same address.
    pub async fn come_back(&self) {
        let running = CancellationToken::new();
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                // Connections of the former life are still being torn down.
                Err(_) => tokio::task::yield_now().await,
            }
        };
        self.state().running = Some(running.clone());
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            tokio::select! {
                () = running.cancelled() => {}
                () = accept(listener, shared, running.clone()) => {}
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    fn changed(&self) {
        self.shared.changed();
    }
}

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, running: CancellationToken) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let shared = Arc::clone(&shared);
        let running = running.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| handler::answer(Arc::clone(&shared), request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                () = running.cancelled() => {}
                _ = connection => {}
            }
        });
    }
}
