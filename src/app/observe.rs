//! What the admin port shows.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::drainer::Wake;
use super::exposition::exposition;
use super::tunnels;
use crate::admin::{Handles, Query, Readiness};
use crate::control::Told;
use crate::inspect;
use crate::leader::peers::PATH as TUNNEL_COUNTS;
use crate::proxy::Proxy;
use crate::shutdown::Shutdown;
use crate::translate::report::Subject;

/// Reasons against readiness that are shown one by one.
const SHOWN: usize = 10;

/// Read handles on a running process.
#[must_use]
pub(super) fn handles(
    proxy: &Arc<Proxy>,
    told: &Told,
    leading: Option<watch::Receiver<bool>>,
    shutdown: &Shutdown,
    runtime: &Handle,
    drainer: &Wake,
) -> Handles {
    let ready = {
        let told = told.clone();
        let begun = shutdown.begun.clone();
        move || {
            let mut reasons = Vec::new();
            if *told.generation.borrow() == 0 {
                reasons = unread(&told);
            }
            if begun.is_cancelled() {
                reasons.push("shutting down".to_owned());
            }
            Readiness::unless(reasons)
        }
    };
    let metrics = {
        let proxy = Arc::clone(proxy);
        let told = told.clone();
        move || exposition(&proxy, &told, leading.as_ref())
    };
    let routes = {
        let proxy = Arc::clone(proxy);
        move || {
            inspect::routes::json(&proxy.snapshot.load(), |upstream| {
                proxy
                    .registry
                    .find(upstream)
                    .map(|upstream| upstream.set())
                    .unwrap_or_default()
            })
        }
    };
    let findings = {
        let told = told.clone();
        move || {
            let reports = told.reports.load();
            let findings: Vec<Value> = reports.iter().map(inspect::check::json).collect();
            json!({ "findings": findings })
        }
    };
    let tunnels = {
        let proxy = Arc::clone(proxy);
        move |query: &Query| tunnels::list(&proxy, query)
    };
    let close = {
        let (proxy, runtime, stop) = (Arc::clone(proxy), runtime.clone(), shutdown.begun.clone());
        move |query: &Query| tunnels::close(&proxy, &runtime, &stop, query)
    };
    let drain = {
        let (proxy, drainer) = (Arc::clone(proxy), drainer.clone());
        move |query: &Query| tunnels::drain(&proxy, &drainer, query)
    };
    let rebalance = {
        let (proxy, runtime, stop) = (Arc::clone(proxy), runtime.clone(), shutdown.begun.clone());
        move |query: &Query| tunnels::rebalance(&proxy, &runtime, &stop, query)
    };
    let counts = {
        let proxy = Arc::clone(proxy);
        move || {
            let counts = proxy.tunnels.open_by_listener();
            let counts = counts
                .into_iter()
                .map(|(listener, count)| (listener.to_string(), count.into()));
            Value::Object(counts.collect())
        }
    };
    Handles::new(ready, metrics)
        .json("/routes", "the routing table in effect", routes)
        .json("/findings", "what is wrong, and the remedy", findings)
        .search("/tunnels", "open WebSockets", tunnels)
        .action("/tunnels/close", "POST: closes WebSockets", close)
        .action("/tunnels/drain", "POST: takes a pod out of use", drain)
        .action("/tunnels/rebalance", "POST: moves WebSockets", rebalance)
        .json(TUNNEL_COUNTS, "how many, by listener", counts)
}

/// What has to be read before anything can be served, and what keeps it from being.
fn unread(told: &Told) -> Vec<String> {
    let unlisted = told.unlisted.load();
    if unlisted.is_empty() {
        return vec!["objects are not read yet".to_owned()];
    }
    let reports = told.reports.load();
    let mut reasons: Vec<String> = unlisted
        .iter()
        .take(SHOWN)
        .map(|scope| {
            let subject = Subject::from(scope);
            let problem = reports.iter().find(|report| report.subject == subject);
            match problem {
                Some(report) => format!("{subject}: {}", report.message),
                None => format!("{subject}: not listed yet"),
            }
        })
        .collect();
    if unlisted.len() > SHOWN {
        reasons.push(format!("and {} more", unlisted.len() - SHOWN));
    }
    reasons
}
