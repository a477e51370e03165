//! The tunnel table as operators see it: listed, filtered, and ended on demand.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::drainer::Wake;
use crate::admin::Query;
use crate::api::GatewayDuration;
use crate::proxy::Proxy;
use crate::routing::{Rebalance, UpstreamId};
use crate::websocket::{Cause, Order, Pod, Selection, Traffic, TunnelView, surplus};

/// The longest over which an operator may spread the closes.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How many are shown where the query does not say: all of 100,000 would be 50 MB.
const PAGE: usize = 1000;
/// Over which a pod is drained where the operator does not say.
const DRAIN: Duration = Duration::from_secs(30);

/// The page `/tunnels`: those that the query selects, sorted, as many as it wants.
///
/// # Errors
/// A query that cannot be read.
pub(super) fn list(proxy: &Proxy, query: &Query) -> Result<Value, String> {
    let mut query = query.clone();
    let limit = number(&mut query, "limit")?.unwrap_or(PAGE);
    let order = match query.remove("sort").as_deref() {
        None | Some("" | "age") => Order::Age,
        Some("silent") => Order::Silent,
        Some("bytes") => Order::Bytes,
        Some("messages") => Order::Messages,
        Some("rate") => Order::Rate,
        Some(other) => {
            return Err(format!(
                "sort={other}: one of age, silent, bytes, messages, rate is expected"
            ));
        }
    };
    let selection = selection(&mut query)?;
    nothing_else(&query)?;
    let (total, views) = proxy.tunnels.page(&selection, order, limit);
    let tunnels: Vec<Value> = views.iter().map(tunnel).collect();
    Ok(json!({ "selected": total, "tunnels": tunnels }))
}

/// The action `/tunnels/close`: ends what the query selects, spread over a time.
///
/// # Errors
/// A query that cannot be read, or that selects without naming anything.
pub(super) fn close(
    proxy: &Arc<Proxy>,
    runtime: &Handle,
    stop: &CancellationToken,
    query: &Query,
) -> Result<Value, String> {
    let mut query = query.clone();
    let over = over(&mut query)?.unwrap_or_default();
    let is_dry = flag(&mut query, "dryRun")?;
    let all = flag(&mut query, "all")?;
    let code = match query.remove("code").as_deref() {
        None | Some("1001") => 1001,
        Some("1008") => 1008,
        Some("1012") => 1012,
        Some("1013") => 1013,
        Some(other) => {
            return Err(format!(
                "code={other}: one of 1001 (going away), 1008 (policy), 1012 (reconnect now), 1013 \
                 (try again later) is expected"
            ));
        }
    };
    let selection = selection(&mut query)?;
    nothing_else(&query)?;
    if selection == Selection::default() && !all {
        return Err("name what to close, or say all=true".to_owned());
    }
    let views = proxy.tunnels.select(&selection);
    let mut by_pod: BTreeMap<String, usize> = BTreeMap::new();
    for view in &views {
        *by_pod.entry(view.info.endpoint.to_string()).or_default() += 1;
    }
    let selected = views.len();
    if !is_dry {
        tracing::info!(selected, code, ?over, "an operator closes WebSockets");
        let ids = views.into_iter().map(|view| view.id).collect();
        let tunnels = proxy.tunnels.clone();
        let stop = stop.clone();
        runtime.spawn(async move {
            let ending = tunnels.end_each(ids, over, Cause::Operator, code);
            stop.run_until_cancelled(ending).await;
        });
    }
    Ok(json!({
        "selected": selected,
        "byPod": by_pod,
        "dryRun": is_dry,
        "over": GatewayDuration(over).to_string(),
        "code": code,
    }))
}

/// The action `/tunnels/drain`: takes a pod out of use, and its WebSockets with it; or puts it back.
///
/// # Errors
/// A query that cannot be read, or that names no pod that is served.
pub(super) fn drain(proxy: &Proxy, drainer: &Wake, query: &Query) -> Result<Value, String> {
    let mut query = query.clone();
    let over = over(&mut query)?.unwrap_or(DRAIN);
    let is_dry = flag(&mut query, "dryRun")?;
    let undo = flag(&mut query, "undo")?;
    let pod = pod(&mut query)?.ok_or("pod: name the pod that is to be drained, by its address")?;
    nothing_else(&query)?;
    let mut upstreams = Vec::new();
    for upstream in proxy.registry.upstreams() {
        for endpoint in upstream.endpoints() {
            if pod.has(endpoint.address) {
                if !is_dry {
                    endpoint.set_cordon((!undo).then_some(over));
                }
                upstreams.push(upstream.id.to_string());
            }
        }
    }
    if upstreams.is_empty() {
        return Err("pod: no Service that is routed to has a pod of this address".to_owned());
    }
    upstreams.sort_unstable();
    let selection = Selection {
        pod: Some(pod),
        ..Selection::default()
    };
    let selected = proxy.tunnels.select(&selection).len();
    if !is_dry {
        tracing::info!(?pod, selected, ?over, undo, "an operator drains a pod");
        drainer.wake();
    }
    Ok(json!({
        "selected": selected,
        "upstreams": upstreams,
        "dryRun": is_dry,
        "undo": undo,
        "over": GatewayDuration(over).to_string(),
    }))
}

/// The action `/tunnels/rebalance`: moves WebSockets from pods that have many to pods that have few.
///
/// # Errors
/// A query that cannot be read.
pub(super) fn rebalance(
    proxy: &Arc<Proxy>,
    runtime: &Handle,
    stop: &CancellationToken,
    query: &Query,
) -> Result<Value, String> {
    let mut query = query.clone();
    let over = over(&mut query)?.unwrap_or_default();
    let is_dry = flag(&mut query, "dryRun")?;
    let service = query.remove("service").unwrap_or_default();
    let tolerance = number(&mut query, "tolerancePercent")?;
    let tolerance = tolerance.unwrap_or(Rebalance::default().tolerance_percent);
    if !(1..=100).contains(&tolerance) {
        return Err("tolerancePercent: a number from 1 to 100 is expected".to_owned());
    }
    nothing_else(&query)?;
    let mut by_pod: HashMap<(Arc<UpstreamId>, SocketAddr), Vec<u64>> = HashMap::new();
    proxy.tunnels.visit(|id, info| {
        let place = (Arc::clone(&info.upstream), info.endpoint);
        by_pod.entry(place).or_default().push(id);
    });
    let mut upstreams = BTreeMap::new();
    let mut moving: Vec<u64> = Vec::new();
    for upstream in proxy.registry.upstreams() {
        let name = upstream.id.to_string();
        if !name.contains(&service) {
            continue;
        }
        let pods = upstream.ready();
        let mut held: Vec<Vec<u64>> = pods
            .iter()
            .map(|pod| by_pod.remove(&(Arc::clone(&upstream.id), *pod)))
            .map(Option::unwrap_or_default)
            .collect();
        let loads: Vec<usize> = held.iter().map(Vec::len).collect();
        if loads.iter().all(|load| *load == 0) {
            continue;
        }
        let surplus = surplus(&loads, tolerance);
        for (held, leaving) in held.iter_mut().zip(&surplus) {
            fastrand::shuffle(held);
            moving.extend(held.iter().take(*leaving));
        }
        let pods = pods.iter().zip(loads).zip(surplus);
        let pods = pods.map(
            |((pod, open), moving)| json!({ "endpoint": pod, "open": open, "moving": moving }),
        );
        upstreams.insert(name, Value::Array(pods.collect()));
    }
    let selected = moving.len();
    if !is_dry {
        tracing::info!(selected, ?over, "an operator rebalances WebSockets");
        let tunnels = proxy.tunnels.clone();
        let stop = stop.clone();
        runtime.spawn(async move {
            let ending = tunnels.end_each(moving, over, Cause::Rebalance, 1012);
            stop.run_until_cancelled(ending).await;
        });
    }
    Ok(json!({
        "selected": selected,
        "upstreams": upstreams,
        "dryRun": is_dry,
        "over": GatewayDuration(over).to_string(),
    }))
}

/// Over which time closes are to be spread.
fn over(query: &mut Query) -> Result<Option<Duration>, String> {
    let over = query.remove("over");
    let over = over.map(|text| duration("over", &text)).transpose()?;
    if over.is_some_and(|over| over > LONGEST) {
        return Err("over: 24h at most".to_owned());
    }
    Ok(over)
}

fn pod(query: &mut Query) -> Result<Option<Pod>, String> {
    let pod = query.remove("pod");
    pod.map(|text| {
        let port = text.parse().map(Pod::Port);
        port.or_else(|_| text.parse().map(Pod::Address))
            .map_err(|_| "pod: an IP address is expected, or one with a port".to_owned())
    })
    .transpose()
}

fn selection(query: &mut Query) -> Result<Selection, String> {
    let mut ids = Vec::new();
    for id in query.remove("id").unwrap_or_default().split(',') {
        if !id.is_empty() {
            let id = id.parse();
            ids.push(id.map_err(|_| "id: numbers with commas between them are expected")?);
        }
    }
    let mut long = |name: &str| match query.remove(name) {
        None => Ok(Duration::ZERO),
        Some(text) => duration(name, &text),
    };
    let (older_than, silent_for) = (long("olderThan")?, long("silentFor")?);
    let client = query.remove("client");
    let client = client
        .map(|text| {
            text.parse()
                .map_err(|_| "client: an IP address is expected")
        })
        .transpose()?;
    let pod = pod(query)?;
    Ok(Selection {
        ids,
        route: query.remove("route"),
        listener: query.remove("listener"),
        pod,
        client,
        older_than,
        silent_for,
        faster_than: number(query, "fasterThan")?.unwrap_or_default(),
    })
}

fn nothing_else(query: &Query) -> Result<(), String> {
    match query.keys().next() {
        None => Ok(()),
        Some(name) => Err(format!("{name}: there is no such parameter")),
    }
}

fn duration(name: &str, text: &str) -> Result<Duration, String> {
    let duration: Result<GatewayDuration, _> = text.parse();
    duration
        .map(|GatewayDuration(duration)| duration)
        .map_err(|error| format!("{name}={text}: {error}"))
}

fn number<T: std::str::FromStr>(query: &mut Query, name: &str) -> Result<Option<T>, String> {
    let text = query.remove(name);
    text.map(|text| {
        text.parse()
            .map_err(|_| format!("{name}={text}: a number is expected"))
    })
    .transpose()
}

fn flag(query: &mut Query, name: &str) -> Result<bool, String> {
    match query.remove(name).as_deref() {
        None | Some("false") => Ok(false),
        Some("true" | "") => Ok(true),
        Some(other) => Err(format!("{name}={other}: true or false is expected")),
    }
}

fn tunnel(view: &TunnelView) -> Value {
    let TunnelView {
        id,
        info,
        opened,
        age,
        silent,
        client_round_trip,
        pod_round_trip,
        from_client,
        from_pod,
        ending,
    } = view;
    let opened = jiff::Timestamp::try_from(*opened).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let traffic = |traffic: &Traffic| {
        json!({
            "bytes": traffic.bytes,
            "messages": traffic.messages(),
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
        "clientRoundTripSeconds": client_round_trip.map(|took| took.as_secs_f64()),
        "podRoundTripSeconds": pod_round_trip.map(|took| took.as_secs_f64()),
        "fromClient": traffic(from_client),
        "fromPod": traffic(from_pod),
        "ending": ending.map(|cause| cause.as_str()),
    })
}
