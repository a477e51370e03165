//! What the admin port shows.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::exposition::exposition;
use crate::admin::{Handles, Readiness};
use crate::control::Told;
use crate::inspect;
use crate::leader::peers::PATH as TUNNEL_COUNTS;
use crate::proxy::Proxy;
use crate::shutdown::Shutdown;
use crate::translate::report::Subject;
use crate::websocket::TunnelView;

/// Reasons against readiness that are shown one by one.
const SHOWN: usize = 10;

/// Read handles on a running process.
#[must_use]
pub fn handles(
    proxy: &Arc<Proxy>,
    told: &Told,
    leading: Option<watch::Receiver<bool>>,
    shutdown: &Shutdown,
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
        move || {
            let tunnels: Vec<Value> = proxy.tunnels.list().iter().map(tunnel).collect();
            json!({ "tunnels": tunnels })
        }
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
        .json("/tunnels", "open WebSockets", tunnels)
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

fn tunnel(view: &TunnelView) -> Value {
    let TunnelView {
        id,
        info,
        opened,
        age,
        silent,
        from_client,
        from_pod,
        ending,
    } = view;
    let opened = jiff::Timestamp::try_from(*opened).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let traffic = |traffic: &crate::websocket::Traffic| {
        json!({
            "bytes": traffic.bytes,
            "messages": traffic.text + traffic.binary,
            "pings": traffic.pings,
            "pongs": traffic.pongs,
        })
    };
    json!({
        "id": id,
        "client": info.client,
        "protocol": info.protocol(),
        "listener": info.listener.to_string(),
        "route": info.route.to_string(),
        "upstream": info.upstream.to_string(),
        "endpoint": info.endpoint,
        "requestId": info.request_id,
        "opened": opened,
        "ageSeconds": age.as_secs_f64(),
        "silentSeconds": silent.as_secs_f64(),
        "fromClient": traffic(from_client),
        "fromPod": traffic(from_pod),
        "ending": ending.map(|cause| cause.as_str()),
    })
}
