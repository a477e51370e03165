//! Metrics as text, for Prometheus.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::admission::Resource;
use crate::control::Told;
use crate::metrics::{Histogram, RouteCounters};
use crate::proxy::Proxy;
use crate::routing::Origin;
use crate::websocket::{By, RouteTotals, Side, Traffic};

/// All metrics of a process, as OpenMetrics text.
#[must_use]
pub fn exposition(
    proxy: &Arc<Proxy>,
    told: &Told,
    leading: Option<&watch::Receiver<bool>>,
) -> String {
    let mut registry = Registry::with_prefix("holdfast");
    registry.register_collector(Box::new(Exposition {
        proxy: Arc::clone(proxy),
        told: told.clone(),
        leading: leading.cloned(),
    }));
    let mut text = String::new();
    // Writing to a string does not fail; a partial text is better than none.
    let _ = encode(&mut text, &registry);
    text
}

#[derive(Debug)]
struct Exposition {
    proxy: Arc<Proxy>,
    told: Told,
    /// None where there is nothing to lead in.
    leading: Option<watch::Receiver<bool>>,
}

type Result = std::result::Result<(), fmt::Error>;
type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result {
        self.requests(&mut encoder)?;
        self.connections(&mut encoder)?;
        self.tunnels(&mut encoder)?;
        self.control(&mut encoder)?;
        self.leader(&mut encoder)
    }
}

impl Exposition {
    fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> Result {
        let metrics = &self.proxy.metrics;
        let routes = metrics.routes();
        let mut family = counter(
            encoder,
            "requests",
            "Answers to requests, WebSocket handshakes included, by routing object and status code",
        )?;
        for (origin, counters) in &routes {
            for (code, count) in counters.answers() {
                let code = code.map_or_else(|| "other".to_owned(), |code| code.to_string());
                let [kind, namespace, name] = origin_labels(origin.as_deref());
                let labels: Labels<'_, 4> = [kind, namespace, name, ("code", &code)];
                add(&mut family, &labels, count)?;
            }
        }
        let mut family = counter(
            encoder,
            "pod_connect_failures",
            "Connections to pods that failed or took too long, by routing object",
        )?;
        for (origin, counters) in &routes {
            let count = RouteCounters::connect_failures(counters);
            if count > 0 {
                add(&mut family, &origin_labels(origin.as_deref()), count)?;
            }
        }
        let mut family = counter(
            encoder,
            "refused_requests",
            "Requests answered by the proxy itself, by whose fault it was and why",
        )?;
        for ((side, reason), count) in metrics.refusals() {
            let labels: Labels<'_, 2> = [("side", side), ("reason", reason)];
            add(&mut family, &labels, count)?;
        }
        histogram(
            encoder,
            "websocket_handshake_seconds",
            "From a WebSocket request to the 101 of its pod",
            &metrics.websocket_handshakes,
        )?;
        gauge(
            encoder,
            "websocket_handshakes_waiting",
            "WebSocket handshakes that wait for their pods",
            self.proxy.ledger.waiting(),
        )?;
        let tunnels = &self.proxy.tunnels;
        histogram(
            encoder,
            "websocket_age_seconds",
            "For how long WebSockets that have ended were open",
            tunnels.ages(),
        )?;
        let mut family = encoder.encode_descriptor(
            "websocket_round_trip_seconds",
            "From a keepalive ping of ours to its answer, by the peer that answered",
            None,
            MetricType::Histogram,
        )?;
        for side in [Side::Client, Side::Pod] {
            let labels: Labels<'_, 1> = [("peer", By::from(side).as_str())];
            let (sum, count, buckets) = counted(tunnels.round_trips(side));
            family
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    fn connections(&self, encoder: &mut DescriptorEncoder<'_>) -> Result {
        let metrics = &self.proxy.metrics;
        gauge(
            encoder,
            "connections_open",
            "Open client connections that carry HTTP; those that became WebSockets not included",
            metrics.connections(),
        )?;
        let mut family = encoder.encode_descriptor(
            "overload",
            "0, or near a bound of the process: 1 handshakes are refused, 2 nothing is accepted",
            None,
            MetricType::Gauge,
        )?;
        for resource in Resource::ALL {
            let labels: Labels<'_, 1> = [("resource", resource.as_str())];
            family
                .encode_family(&labels)?
                .encode_gauge(&i64::from(self.proxy.overload.of(resource).number()))?;
        }
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (name, help, value) in [
            (
                "connections",
                "Client connections accepted",
                read(&metrics.connections_total),
            ),
            (
                "refused_connections",
                "Client connections beyond the capacity of their load balancer",
                read(&metrics.connections_refused),
            ),
            (
                "tls_handshake_failures",
                "TLS handshakes with clients that failed or took too long",
                read(&metrics.tls_failures),
            ),
            (
                "malformed_requests",
                "Requests whose head is not HTTP",
                read(&metrics.malformed_requests),
            ),
            (
                "request_head_timeouts",
                "Requests whose head did not come in time",
                read(&metrics.head_timeouts),
            ),
            (
                "http2_reset_floods",
                "HTTP/2 connections ended because their client reset WebSockets in a loop",
                read(&metrics.reset_floods),
            ),
            (
                "accept_errors",
                "Errors of accept that concern the process, such as too few file descriptors",
                read(&metrics.accept_errors),
            ),
            (
                "access_log_dropped_lines",
                "Lines of the access log that were dropped because its reader was behind",
                self.proxy.access_log.dropped(),
            ),
        ] {
            let mut family = counter(encoder, name, help)?;
            family.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
        }
        Ok(())
    }

    fn tunnels(&self, encoder: &mut DescriptorEncoder<'_>) -> Result {
        let totals = by_origin(self.proxy.tunnels.totals());
        let mut family = encoder.encode_descriptor(
            "tunnels_open",
            "Open WebSockets, by what the client speaks",
            None,
            MetricType::Gauge,
        )?;
        for (origin, total) in &totals {
            for (labels, count) in total.by_protocol(origin, total.open, total.open_http2) {
                family
                    .encode_family(&labels)?
                    .encode_gauge(&i64::try_from(count).unwrap_or(i64::MAX))?;
            }
        }
        let draining = self.proxy.metrics.draining.load(Ordering::Relaxed);
        encoder
            .encode_descriptor(
                "tunnels_draining",
                "WebSockets that wait for their time to be closed, as something they use goes away or they move",
                None,
                MetricType::Gauge,
            )?
            .encode_gauge(&i64::try_from(draining).unwrap_or(i64::MAX))?;
        let help = "WebSockets opened, by what the client speaks";
        let mut family = counter(encoder, "tunnels_opened", help)?;
        for (origin, total) in &totals {
            for (labels, count) in total.by_protocol(origin, total.opened, total.opened_http2) {
                add(&mut family, &labels, count)?;
            }
        }
        let mut family = counter(
            encoder,
            "tunnels_closed",
            "WebSockets closed, by cause, by whom, and with which Close code",
        )?;
        for (origin, total) in &totals {
            for (ending, count) in &total.endings {
                let code = ending.code.to_string();
                let [kind, namespace, name] = origin_labels(Some(origin));
                let labels: Labels<'_, 6> = [
                    kind,
                    namespace,
                    name,
                    ("cause", ending.cause.as_str()),
                    ("by", ending.by.as_str()),
                    ("code", &code),
                ];
                add(&mut family, &labels, *count)?;
            }
        }
        traffic(
            encoder,
            "websocket_messages",
            "WebSocket messages relayed, open WebSockets included",
            &totals,
            Traffic::messages,
        )?;
        traffic(
            encoder,
            "websocket_bytes",
            "Bytes of WebSocket frames relayed, open WebSockets included",
            &totals,
            |traffic| traffic.bytes,
        )
    }

    fn control(&self, encoder: &mut DescriptorEncoder<'_>) -> Result {
        let metrics = &self.proxy.metrics;
        let mut by_kind: BTreeMap<(String, &str), u64> = BTreeMap::new();
        let reports = self.told.reports.load();
        for report in reports.iter() {
            let severity = report.severity.to_string();
            *by_kind
                .entry((severity, report.reason.as_str()))
                .or_default() += 1;
        }
        let mut family = encoder.encode_descriptor(
            "findings",
            "Current findings, by severity and reason",
            None,
            MetricType::Gauge,
        )?;
        for ((severity, reason), count) in &by_kind {
            let labels: Labels<'_, 2> = [("severity", severity), ("reason", reason)];
            family
                .encode_family(&labels)?
                .encode_gauge(&i64::try_from(*count).unwrap_or(i64::MAX))?;
        }
        let generation = *self.told.generation.borrow();
        gauge(
            encoder,
            "configuration_generation",
            "Routing tables built since the start",
            generation,
        )?;
        histogram(
            encoder,
            "rebuild_seconds",
            "To translate the objects into a routing table",
            &metrics.rebuilds,
        )?;
        histogram(
            encoder,
            "publish_seconds",
            "From the notification of a change to the table that serves it",
            &metrics.publishes,
        )
    }

    fn leader(&self, encoder: &mut DescriptorEncoder<'_>) -> Result {
        let Some(leading) = &self.leading else {
            return Ok(());
        };
        let counters = &self.proxy.metrics.leader;
        gauge(
            encoder,
            "leading",
            "1 on the replica that writes to the API server, 0 on the others",
            u64::from(*leading.borrow()),
        )?;
        gauge(
            encoder,
            "api_writes_waiting",
            "Writes to the API server that wait, those that have failed included",
            counters.waiting(),
        )?;
        let mut family = counter(
            encoder,
            "api_writes",
            "Writes to the API server, by what is written and what became of it",
        )?;
        for ((kind, outcome), count) in counters.writes() {
            let labels: Labels<'_, 2> = [("kind", kind), ("outcome", outcome)];
            add(&mut family, &labels, count)?;
        }
        Ok(())
    }
}

/// What passed by the routes of one object.
#[derive(Default)]
struct OriginTotals {
    open: u64,
    opened: u64,
    open_http2: u64,
    opened_http2: u64,
    from_client: Traffic,
    from_pod: Traffic,
    endings: BTreeMap<crate::websocket::Ending, u64>,
}

impl OriginTotals {
    /// A count and its part that is HTTP/2, as label sets.
    fn by_protocol<'a>(
        &self,
        origin: &'a Origin,
        all: u64,
        http2: u64,
    ) -> Vec<(Labels<'a, 4>, u64)> {
        let [kind, namespace, name] = origin_labels(Some(origin));
        let labels = |protocol| [kind, namespace, name, ("protocol", protocol)];
        let mut counts = vec![(labels("HTTP/1.1"), all - http2)];
        // Most objects never see one: no series for them.
        if self.opened_http2 > 0 {
            counts.push((labels("HTTP/2"), http2));
        }
        counts
    }
}

fn by_origin(routes: Vec<RouteTotals>) -> BTreeMap<Arc<Origin>, OriginTotals> {
    let mut totals: BTreeMap<Arc<Origin>, OriginTotals> = BTreeMap::new();
    for route in routes {
        let total = totals.entry(Arc::clone(&route.route.origin)).or_default();
        total.open += route.open;
        total.opened += route.opened;
        total.open_http2 += route.open_http2;
        total.opened_http2 += route.opened_http2;
        total.from_client += route.from_client;
        total.from_pod += route.from_pod;
        for (ending, count) in route.endings {
            *total.endings.entry(ending).or_default() += count;
        }
    }
    totals
}

fn traffic(
    encoder: &mut DescriptorEncoder<'_>,
    name: &'static str,
    help: &str,
    totals: &BTreeMap<Arc<Origin>, OriginTotals>,
    read: impl Fn(&Traffic) -> u64,
) -> Result {
    let mut family = counter(encoder, name, help)?;
    for (origin, total) in totals {
        for (from, traffic) in [("client", &total.from_client), ("pod", &total.from_pod)] {
            let [kind, namespace, name] = origin_labels(Some(origin));
            let labels: Labels<'_, 4> = [kind, namespace, name, ("from", from)];
            add(&mut family, &labels, read(traffic))?;
        }
    }
    Ok(())
}

fn origin_labels(origin: Option<&Origin>) -> Labels<'_, 3> {
    let (kind, namespace, name) = origin.map_or(("other", "", ""), |origin| {
        (origin.kind, &*origin.namespace, &*origin.name)
    });
    [("kind", kind), ("namespace", namespace), ("name", name)]
}

fn counter<'a>(
    encoder: &'a mut DescriptorEncoder<'_>,
    name: &'a str,
    help: &str,
) -> std::result::Result<MetricEncoder<'a>, fmt::Error> {
    encoder.encode_descriptor(name, help, None, MetricType::Counter)
}

fn add(family: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, value: u64) -> Result {
    family
        .encode_family(labels)?
        .encode_counter::<NoLabelSet, u64, u64>(&value, None)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> Result {
    encoder
        .encode_descriptor(name, help, None, MetricType::Gauge)?
        .encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX))
}

fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    histogram: &Histogram,
) -> Result {
    let (sum, count, buckets) = counted(histogram);
    encoder
        .encode_descriptor(name, help, None, MetricType::Histogram)?
        .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}

/// Sum, count and buckets by their upper bounds in seconds.
fn counted(histogram: &Histogram) -> (f64, u64, Vec<(f64, u64)>) {
    let mut buckets: Vec<(f64, u64)> = histogram.buckets().collect();
    let in_buckets: u64 = buckets.iter().map(|(_, count)| count).sum();
    let count = histogram.count().max(in_buckets);
    // The last bucket is without bound.
    buckets.push((f64::INFINITY, count - in_buckets));
    (histogram.sum(), count, buckets)
}
