//! What the admin port shows.

use std::sync::Arc;

use serde_json::{Value, json};

use super::exposition::exposition;
use crate::admin::{Handles, Readiness};
use crate::control::Told;
use crate::inspect;
use crate::proxy::Proxy;
use crate::shutdown::Shutdown;
use crate::websocket::TunnelView;

/// Read handles on a running process.
#[must_use]
pub fn handles(proxy: &Arc<Proxy>, told: &Told, shutdown: &Shutdown) -> Handles {
    let ready = {
        let generation = told.generation.clone();
        let begun = shutdown.begun.clone();
        move || {
            let unread = (*generation.borrow() == 0).then_some("manifests are not read yet");
            let ending = begun.is_cancelled().then_some("shutting down");
            Readiness::unless(unread.into_iter().chain(ending))
        }
    };
    let metrics = {
        let proxy = Arc::clone(proxy);
        let told = told.clone();
        move || exposition(&proxy, &told)
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
    Handles::new(ready, metrics)
        .json("/routes", "the routing table in effect", routes)
        .json("/findings", "what is wrong, and the remedy", findings)
        .json("/tunnels", "open WebSockets", tunnels)
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
