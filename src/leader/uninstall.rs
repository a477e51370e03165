//! Takes back everything that the controller wrote, while it still runs.
//!
//! ```text
//! retire the Lease ─▶ nobody writes ─▶ owned Services deleted, gone ─▶ LoadBalancers: status, finalizer
//!                                                                   ─▶ Ingresses: status ─▶ Lease deleted
//! ```
//!
//! The data plane serves on: this takes back words, not routes. Done twice it does nothing the
//! second time.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::Request;
use kube::core::params::GetParams;
use kube::{Client, Resource};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::lease::{LeaseSettings, RETIRED_ANNOTATION, as_manager, body};
use super::rate::{Backoff, jittered};
use super::server::{Failure, Server};
use super::writer::request::{self, finalizer, ingress_status, load_balancer_status};
use crate::api::{self, LoadBalancer};
use crate::world::ObjectName;

/// For one request.
const DEADLINE: Duration = Duration::from_secs(10);
/// Objects asked for at once.
const PAGE: u32 = 500;
/// Objects changed at once.
const AT_ONCE: usize = 16;
/// How often it is looked whether something has happened.
const POLL: Duration = Duration::from_millis(500);
/// After a failure.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(250),
    limit: Duration::from_secs(5),
};

/// What is to be taken back.
#[derive(Clone, Debug)]
pub struct UninstallSettings {
    /// The Lease, and with it the namespace of the controller.
    pub lease: LeaseSettings,
    /// The namespaces that the controller watches; none = all.
    pub namespaces: Vec<String>,
    /// For all of it.
    pub timeout: Duration,
}

/// A line that says how far it has come.
pub type Progress<'a> = &'a mut (dyn FnMut(&str) + Send);

/// Takes everything back, and answers what is left: what could not be done, and why.
pub async fn uninstall(
    client: Client,
    settings: &UninstallSettings,
    progress: Progress<'_>,
) -> Vec<String> {
    let mut work = Uninstall {
        server: Server::new(client, DEADLINE),
        settings,
        progress,
        left: BTreeSet::new(),
        retries: Retries::default(),
    };
    if tokio::time::timeout(settings.timeout, work.run())
        .await
        .is_err()
    {
        let mut unfinished = format!("unfinished after {:?}", settings.timeout);
        if let Some(why) = work.retries.last() {
            unfinished = format!("{unfinished}; the last failure: {why}");
        }
        work.left.insert(unfinished);
    }
    work.left.into_iter().collect()
}

struct Uninstall<'a> {
    server: Server,
    settings: &'a UninstallSettings,
    progress: Progress<'a>,
    /// What is not done, in words.
    left: BTreeSet<String>,
    retries: Retries,
}

/// Why things are tried again, as told last.
#[derive(Clone, Debug, Default)]
struct Retries(Arc<Mutex<Option<String>>>);

/// What is read of objects.
#[derive(Debug, Deserialize)]
struct Object {
    metadata: ObjectMeta,
}

#[derive(Debug, Deserialize)]
struct Page {
    metadata: ListMeta,
    /// `null` where there are none.
    items: Option<Vec<Object>>,
}

impl Object {
    fn name(&self) -> ObjectName {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        ObjectName::new(part(&self.metadata.namespace), part(&self.metadata.name))
    }

    /// Whether we have written a part of the status.
    fn has_our_status(&self) -> bool {
        let entries = self.metadata.managed_fields.iter().flatten();
        entries.into_iter().any(|entry| {
            entry.manager.as_deref() == Some(api::FIELD_MANAGER)
                && entry.subresource.as_deref() == Some("status")
        })
    }

    fn has_our_finalizer(&self) -> bool {
        let mut finalizers = self.metadata.finalizers.iter().flatten();
        finalizers.any(|name| name == api::FINALIZER)
    }
}

impl Uninstall<'_> {
    async fn run(&mut self) {
        let retired = Instant::now();
        if let Err(failure) = self.retire().await {
            // With a leader at work all would come back.
            self.left.insert(format!(
                "everything: the Lease cannot be retired: {failure}"
            ));
            return;
        }
        self.wait_until_nobody_leads().await;
        self.delete_services().await;
        self.release_load_balancers().await;
        self.clear_ingresses().await;
        if !self.left.is_empty() {
            // Nobody leads for as long as the Lease says so, and a second attempt finds it.
            return;
        }
        // Replicas that have seen that it is retired do not make it anew.
        let poll = self.settings.lease.poll;
        tokio::time::sleep_until(retired + poll.saturating_mul(3)).await;
        match self.delete_lease().await {
            Ok(()) => (self.progress)("the Lease is deleted"),
            Err(failure) => {
                let name = &self.settings.lease.name;
                self.left.insert(format!("Lease {name}: {failure}"));
            }
        }
    }

    /// Says on the Lease that nobody is to lead.
    async fn retire(&mut self) -> Result<(), Failure> {
        let settings = &self.settings.lease;
        let value = jiff::Timestamp::now().to_string();
        let annotations = json!({"annotations": {RETIRED_ANNOTATION: value}});
        let patch = Patch::Merge(json!({"metadata": annotations}));
        let params = PatchParams::apply(api::FIELD_MANAGER);
        let mut failures = 0;
        loop {
            let patch = settings.request().patch(&settings.name, &params, &patch);
            let failure = match self.server.send::<IgnoredAny>(patch).await {
                Ok(_) => break,
                Err(Failure::NotFound(_)) => {
                    let mut lease = json!({
                        "apiVersion": Lease::api_version(&()),
                        "kind": Lease::kind(&()),
                        "metadata": annotations,
                    });
                    lease["metadata"]["name"] = json!(settings.name);
                    let create = settings.request().create(&as_manager(), body(&lease)?);
                    match self.server.send::<IgnoredAny>(create).await {
                        Ok(_) => break,
                        Err(failure) => failure,
                    }
                }
                Err(failure) => failure,
            };
            self.retries.pause(failure, &mut failures).await?;
        }
        (self.progress)("the Lease is retired: no replica becomes leader");
        Ok(())
    }

    /// Returns when the leader has stepped down, or has not renewed the Lease for its duration.
    async fn wait_until_nobody_leads(&mut self) {
        let settings = &self.settings.lease;
        let mut seen = None;
        loop {
            let get = settings
                .request()
                .get(&settings.name, &GetParams::default());
            match self.server.send::<Lease>(get).await {
                Ok(lease) => {
                    let spec = lease.spec.unwrap_or_default();
                    let Some(holder) = spec.holder_identity.clone().filter(|h| !h.is_empty())
                    else {
                        break;
                    };
                    let now = Instant::now();
                    match &seen {
                        Some((before, since)) if *before == spec => {
                            if now > *since + settings.duration {
                                break;
                            }
                        }
                        _ => {
                            if seen.is_none() {
                                (self.progress)(&format!("waiting for {holder} to step down"));
                            }
                            seen = Some((spec, now));
                        }
                    }
                }
                Err(Failure::NotFound(_)) => break,
                Err(failure) => self.retries.note(&failure),
            }
            tokio::time::sleep(jittered(POLL)).await;
        }
        (self.progress)("no replica writes");
    }

    async fn delete_services(&mut self) {
        let namespace = self.settings.lease.namespace.clone();
        let mut asked = BTreeSet::new();
        loop {
            let services = match self
                .list::<Service>(Some(&namespace), Some(api::OWNER_NAMESPACE_LABEL))
                .await
            {
                Ok(services) => services,
                Err(failure) => {
                    self.left.insert(format!("owned Services: {failure}"));
                    return;
                }
            };
            let owned: Vec<Object> = services
                .into_iter()
                .filter(|service| self.is_watched(service))
                .collect();
            self.left.retain(|left| !left.starts_with("Service "));
            if owned.is_empty() {
                break;
            }
            for service in owned {
                let name = service.name();
                self.left.insert(format!("Service {name}: not gone yet"));
                if !asked.insert(service.metadata.uid.clone()) {
                    continue;
                }
                (self.progress)(&format!("deleting Service {name}"));
                let server = &self.server;
                let deleted = self.retries.insist(|| async {
                    // Whichever has the name: its labels say whose it is.
                    let delete = request::delete_service(&name, 0);
                    server.send::<IgnoredAny>(delete).await.map(drop)
                });
                if let Err(failure) = deleted.await {
                    // Not to be waited for.
                    self.left
                        .insert(format!("deletion of Service {name}: {failure}"));
                    return;
                }
            }
            tokio::time::sleep(jittered(POLL)).await;
        }
        (self.progress)(&format!("owned Services gone: {}", asked.len()));
    }

    async fn release_load_balancers(&mut self) {
        let objects = self.list_watched::<LoadBalancer>("LoadBalancers").await;
        let ours = objects
            .into_iter()
            .filter(|object| object.has_our_status() || object.has_our_finalizer());
        let server = self.server.clone();
        let count = self
            .change_all("LoadBalancer", ours, move |object| {
                let server = server.clone();
                async move {
                    let name = object.name();
                    // The finalizer last: without it the object may be gone at once.
                    if object.has_our_status() {
                        let clear = load_balancer_status(&name, None);
                        server.send::<IgnoredAny>(clear).await?;
                    }
                    if object.has_our_finalizer() {
                        finalizer(&server, &name, false).await?;
                    }
                    Ok(())
                }
            })
            .await;
        (self.progress)(&format!("LoadBalancers released: {count}"));
    }

    async fn clear_ingresses(&mut self) {
        let objects = self.list_watched::<Ingress>("Ingresses").await;
        let ours = objects.into_iter().filter(Object::has_our_status);
        let server = self.server.clone();
        let count = self
            .change_all("Ingress", ours, move |object| {
                let server = server.clone();
                async move {
                    let clear = ingress_status(&object.name(), &[]);
                    server.send::<IgnoredAny>(clear).await.map(drop)
                }
            })
            .await;
        (self.progress)(&format!("statuses of Ingresses cleared: {count}"));
    }

    async fn delete_lease(&self) -> Result<(), Failure> {
        let settings = &self.settings.lease;
        let retries = &self.retries;
        let delete = retries.insist(|| async {
            let delete = settings
                .request()
                .delete(&settings.name, &DeleteParams::default());
            self.server.send::<IgnoredAny>(delete).await.map(drop)
        });
        delete.await
    }

    /// Changes objects, some at once. Answers how many have been changed.
    async fn change_all<F>(
        &mut self,
        kind: &str,
        objects: impl Iterator<Item = Object>,
        change: impl Fn(Arc<Object>) -> F + Clone + Send + Sync + 'static,
    ) -> usize
    where
        F: Future<Output = Result<(), Failure>> + Send,
    {
        let mut done = 0;
        let mut changing = JoinSet::new();
        let mut objects = objects.fuse();
        loop {
            while changing.len() < AT_ONCE
                && let Some(object) = objects.next()
            {
                let change = change.clone();
                let object = Arc::new(object);
                self.left.insert(format!("{kind} {}", object.name()));
                let retries = self.retries.clone();
                changing.spawn(async move {
                    let result = retries.insist(|| change(Arc::clone(&object))).await;
                    (object.name(), result)
                });
            }
            let Some(changed) = changing.join_next().await else {
                return done;
            };
            let Ok((name, result)) = changed else {
                continue;
            };
            self.left.remove(&format!("{kind} {name}"));
            match result {
                Ok(()) => done += 1,
                Err(failure) => {
                    self.left.insert(format!("{kind} {name}: {failure}"));
                }
            }
        }
    }

    /// All objects of a kind in the namespaces that are watched.
    async fn list_watched<K: Resource<DynamicType = ()>>(&mut self, kind: &str) -> Vec<Object> {
        let namespaces: Vec<Option<String>> = match &*self.settings.namespaces {
            [] => vec![None],
            some => some.iter().cloned().map(Some).collect(),
        };
        let mut objects = Vec::new();
        for namespace in namespaces {
            match self.list::<K>(namespace.as_deref(), None).await {
                Ok(listed) => objects.extend(listed),
                Err(failure) => {
                    self.left.insert(format!("{kind}: {failure}"));
                }
            }
        }
        objects
    }

    /// Objects of a kind; none where the kind does not exist.
    async fn list<K: Resource<DynamicType = ()>>(
        &self,
        namespace: Option<&str>,
        labels: Option<&str>,
    ) -> Result<Vec<Object>, Failure> {
        let request = Request::new(K::url_path(&(), namespace));
        let mut params = ListParams::default().limit(PAGE);
        params.label_selector = labels.map(str::to_owned);
        let mut objects = Vec::new();
        let mut failures = 0;
        loop {
            // Names, finalizers and managers are enough, and a tenth of the bytes.
            match self
                .server
                .send::<Page>(request.list_metadata(&params))
                .await
            {
                Ok(page) => {
                    objects.extend(page.items.into_iter().flatten());
                    match page.metadata.continue_.filter(|next| !next.is_empty()) {
                        Some(next) => params.continue_token = Some(next),
                        None => return Ok(objects),
                    }
                }
                Err(Failure::NotFound(_)) => return Ok(Vec::new()),
                Err(failure) => self.retries.pause(failure, &mut failures).await?,
            }
        }
    }

    /// Whether the LoadBalancer that owns a Service is in a namespace that is watched.
    fn is_watched(&self, service: &Object) -> bool {
        let labels = service.metadata.labels.as_ref();
        let owner = labels.and_then(|labels| labels.get(api::OWNER_NAMESPACE_LABEL));
        let namespaces = &self.settings.namespaces;
        namespaces.is_empty() || owner.is_some_and(|owner| namespaces.contains(owner))
    }
}

impl Retries {
    fn last(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note(&self, failure: &Failure) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(failure.to_string());
    }

    /// Waits where trying again makes sense; the deadline of everything ends it.
    async fn pause(&self, failure: Failure, failures: &mut u32) -> Result<(), Failure> {
        self.note(&failure);
        let asked = match failure {
            Failure::Conflict(_) => None,
            Failure::Unavailable { retry_after, .. } => retry_after,
            failure => return Err(failure),
        };
        let pause = BACKOFF.after(*failures);
        *failures = failures.saturating_add(1);
        tokio::time::sleep(asked.map_or(pause, |asked| asked.max(pause))).await;
        Ok(())
    }

    /// Does something until it is done or will not be done. What is gone is done.
    async fn insist<F>(&self, act: impl Fn() -> F) -> Result<(), Failure>
    where
        F: Future<Output = Result<(), Failure>>,
    {
        let mut failures = 0;
        loop {
            match act().await {
                Ok(()) | Err(Failure::NotFound(_)) => return Ok(()),
                Err(failure) => self.pause(failure, &mut failures).await?,
            }
        }
    }
}
