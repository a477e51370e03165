//! The list and watch of one scope.
//!
//! ```text
//!          ┌──────── 410: the version is too old ────────┐
//!          ▼                                             │
//! list (streamed, else by pages) ─version─▶ watch ─▶ events ─▶ ended ─▶ pause
//!                                             ▲                          │
//!                                             └───── from the version ◀──┘
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::core::request;
use tokio::sync::{Notify, mpsc};

use super::Pace;
use super::answer::Answer;
use super::backoff::Backoff;
use super::collector::{Heard, Listing, Said};
use super::failure::Failure;
use super::wire::{self, Event, Page};
use crate::source::kind::{api_version, plural};
use crate::world::object::TLS_SECRET;
use crate::world::{Kind, ObjectKey, Scope};

/// Objects of a page.
const PAGE: u32 = 500;
/// A watch that has been open for so long works.
const STEADY: Duration = Duration::from_millis(500);

/// Types of Secrets that nobody serves from and that are many or big, so that the API server
/// keeps them to itself.
const FOREIGN_SECRETS: [&str; 5] = [
    "bootstrap.kubernetes.io/token",
    "helm.sh/release.v1",
    "kubernetes.io/dockercfg",
    "kubernetes.io/dockerconfigjson",
    "kubernetes.io/service-account-token",
];

/// How attempts fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failing {
    /// There is no connection.
    Unreachable,
    /// There is a server, which does not do what is asked of it.
    Answered,
}

/// Lists and watches one scope.
pub(super) struct ScopeWatch {
    scope: Scope,
    /// The path of the collection.
    path: String,
    client: Client,
    pace: Pace,
    heard: mpsc::Sender<Heard>,
    /// Told by each watch that works again. Then the others need not wait out their own pauses.
    recovery: Arc<Notify>,
    /// What the last attempts came to; none = they worked.
    failing: Option<Failing>,
    /// The version to continue from; none = list.
    version: Option<String>,
    /// Whether the server streams lists, as far as is known.
    streams: bool,
    page: u32,
    /// Whether the current attempt has brought anything.
    progressed: bool,
}

impl ScopeWatch {
    pub(super) fn new(
        scope: Scope,
        client: Client,
        pace: Pace,
        heard: mpsc::Sender<Heard>,
        recovery: Arc<Notify>,
    ) -> Self {
        Self {
            path: path(&scope),
            scope,
            client,
            pace,
            heard,
            recovery,
            failing: None,
            version: None,
            streams: true,
            page: PAGE,
            progressed: false,
        }
    }

    /// Goes on for ever.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(self.pace.retry.clone());
        loop {
            self.progressed = false;
            let outcome = self.attempt().await;
            let scope = &self.scope;
            tracing::debug!(
                ?scope,
                ?outcome,
                progressed = self.progressed,
                "watch ended"
            );
            match &outcome {
                Err(Failure::Gone) => self.version = None,
                // What cannot be read may be an event that a new list does not have.
                Err(Failure::Broken(_) | Failure::TooLong(_)) if !self.progressed => {
                    self.version = None;
                }
                _ => {}
            }
            if let Err(Failure::TooLong(_)) = outcome {
                self.page = (self.page / 2).max(1);
            }
            let wait = match outcome {
                // Ends of watches are common: a timeout, a server that restarts. It is a problem
                // when the next does not start.
                _ if self.progressed => backoff.after_success(),
                Ok(()) | Err(Failure::Gone) => backoff.after_failure(),
                Err(failure) => {
                    let failing = match failure {
                        Failure::Unreachable(_) => Failing::Unreachable,
                        _ => Failing::Answered,
                    };
                    // A server that has just come back refuses for a moment what it allows later.
                    // That moment is not as long as the outage before it.
                    if self.failing.replace(failing) == Some(Failing::Unreachable)
                        && failing == Failing::Answered
                    {
                        backoff.restart();
                    }
                    let least = failure.retry_after();
                    self.say(Said::Fails(failure)).await;
                    // The server's own word is kept, whoever else has recovered.
                    tokio::time::sleep(least).await;
                    backoff.after_failure()
                }
            };
            if pause(wait, &self.recovery).await == Pause::CutShort && self.failing.is_some() {
                tokio::time::sleep(backoff.after_success()).await;
            }
        }
    }

    async fn works(&mut self, said: Said) {
        self.say(said).await;
        if self.failing.take().is_some() {
            self.recovery.notify_waiters();
        }
    }

    /// Lists where necessary, and watches until that ends. `Ok`: in good order.
    async fn attempt(&mut self) -> Result<(), Failure> {
        if self.version.is_none() && self.streams {
            match self.list_as_stream().await {
                Ok(answer) => return self.follow(answer).await,
                Err(Failure::NotStreamed) => self.streams = false,
                Err(failure) => return Err(failure),
            }
        }
        if self.version.is_none() {
            self.list_by_pages().await?;
        }
        let request = self.watch_request(false)?;
        let answer = Answer::to(&self.client, request, self.pace.answer).await?;
        self.works(Said::Works).await;
        self.follow(answer).await
    }

    /// Asks for a watch that begins with what there is. Its answer goes on as a watch.
    async fn list_as_stream(&mut self) -> Result<Answer, Failure> {
        let request = self.watch_request(true)?;
        let mut answer = match Answer::to(&self.client, request, self.pace.answer).await {
            Err(Failure::Refused {
                code: 400 | 422, ..
            }) => return Err(Failure::NotStreamed),
            answer => answer?,
        };
        let mut listing = Listing::default();
        loop {
            // A server that does not know what is asked of it never says that the list is over.
            let line = match answer.line().await {
                Ok(None) | Err(Failure::Silent(_)) => return Err(Failure::NotStreamed),
                line => line?.unwrap_or_default(),
            };
            match wire::event(self.scope.kind, &line)? {
                (Event::Changed(item), _) => listing.add(item),
                (Event::Bookmark(true), version) => {
                    self.listed(listing, version).await;
                    return Ok(answer);
                }
                (Event::Bookmark(false), _) => {}
                (Event::Deleted(_), _) => return Err(Failure::NotStreamed),
            }
        }
    }

    async fn list_by_pages(&mut self) -> Result<(), Failure> {
        let mut listing = Listing::default();
        let mut params = ListParams {
            field_selector: field_selector(self.scope.kind),
            ..ListParams::default()
        };
        loop {
            params.limit = Some(self.page);
            let request = built(request::Request::new(self.path.as_str()).list(&params))?;
            let answer = Answer::to(&self.client, request, self.pace.answer).await?;
            let Page {
                items,
                version,
                token,
            } = wire::page(self.scope.kind, &answer.whole().await?)?;
            for item in items {
                listing.add(item);
            }
            if token.is_none() {
                self.listed(listing, version).await;
                return Ok(());
            }
            params.continue_token = token;
        }
    }

    async fn listed(&mut self, listing: Listing, version: String) {
        self.version = Some(version);
        self.works(Said::Listed(listing)).await;
    }

    /// Takes events until the watch ends.
    async fn follow(&mut self, mut answer: Answer) -> Result<(), Failure> {
        let since = Instant::now();
        answer.silence = self.pace.watch + self.pace.margin;
        let outcome = self.take_events(&mut answer).await;
        self.progressed |= since.elapsed() >= STEADY;
        outcome
    }

    async fn take_events(&mut self, answer: &mut Answer) -> Result<(), Failure> {
        while let Some(line) = answer.line().await? {
            let (event, version) = wire::event(self.scope.kind, &line)?;
            if self.is_before(&version) {
                // Events come in order, or what they say last is not what there is last.
                return Err(Failure::Gone);
            }
            let said = match event {
                Event::Changed(Ok(object)) => Some(Said::Changed(object)),
                Event::Changed(Err(unreadable)) => Some(Said::Unreadable(unreadable)),
                Event::Deleted(name) => Some(Said::Deleted(ObjectKey::new(self.scope.kind, name))),
                Event::Bookmark(_) => None,
            };
            self.version = Some(version);
            self.progressed = true;
            if let Some(said) = said {
                self.say(said).await;
            }
        }
        Ok(())
    }

    /// Whether a version is older than the last. Versions of etcd are numbers that grow; of others
    /// nothing is known.
    fn is_before(&self, version: &str) -> bool {
        let number = |text: &str| text.parse::<u64>().ok();
        let last = self.version.as_deref().and_then(number);
        matches!((number(version), last), (Some(new), Some(last)) if new < last)
    }

    async fn say(&self, said: Said) {
        let heard = Heard {
            scope: self.scope.clone(),
            said,
            noticed: Instant::now(),
        };
        if self.heard.send(heard).await.is_err() {
            // Nobody collects any more, so whoever owns this is about to drop it.
            std::future::pending::<()>().await;
        }
    }

    fn watch_request(&self, streams: bool) -> Result<Request<Vec<u8>>, Failure> {
        let most = self.pace.watch.as_secs().max(1);
        let params = WatchParams {
            timeout: u32::try_from(fastrand::u64(most.div_ceil(2)..=most)).ok(),
            field_selector: field_selector(self.scope.kind),
            send_initial_events: streams,
            bookmarks: true,
            label_selector: None,
        };
        // A list that begins at no version is as new as the request.
        let version = self.version.as_deref().unwrap_or_default();
        built(request::Request::new(self.path.as_str()).watch(&params, version))
    }
}

/// How a pause ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    Complete,
    /// Another watch works again; then so may this one.
    CutShort,
}

async fn pause(wait: Duration, recovery: &Notify) -> Pause {
    match tokio::time::timeout(wait, recovery.notified()).await {
        Ok(()) => Pause::CutShort,
        Err(_) => Pause::Complete,
    }
}

fn built(request: Result<Request<Vec<u8>>, request::Error>) -> Result<Request<Vec<u8>>, Failure> {
    request.map_err(|error| Failure::Unreachable(error.to_string()))
}

fn path(scope: &Scope) -> String {
    let Scope { kind, namespace } = scope;
    let version = api_version(*kind);
    let root = if version.contains('/') { "apis" } else { "api" };
    let plural = plural(*kind);
    match namespace {
        Some(namespace) => format!("/{root}/{version}/namespaces/{namespace}/{plural}"),
        None => format!("/{root}/{version}/{plural}"),
    }
}

fn field_selector(kind: Kind) -> Option<String> {
    debug_assert!(!FOREIGN_SECRETS.contains(&TLS_SECRET));
    (kind == Kind::Secret).then(|| {
        FOREIGN_SECRETS
            .map(|name| format!("type!={name}"))
            .join(",")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_woken_by_the_first_watch_that_works_again() {
        let hour = Duration::from_secs(3600);
        let recovery = Notify::new();
        assert_eq!(pause(hour, &recovery).await, Pause::Complete);
        let (how, ()) = tokio::join!(pause(hour, &recovery), async {
            recovery.notify_waiters();
        });
        assert_eq!(how, Pause::CutShort);
    }
}
