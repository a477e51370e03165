//! YAML to a world, and a translation to text.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use holdfast::routing::{
    Admission, Backend, Capacity, Certificate, HostRoutes, Listener, PathKind, PolicyOverrides,
    Route, Snapshot, WebSocketOverrides, WebSocketPolicy,
};
use holdfast::translate::{Translation, endpoint_finding, endpoints};
use holdfast::world::{Delta, Object, World};
use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use serde::Deserialize as _;

/// Reads manifests. In a Secret, `tls.crt: certificate for a.example *.b.example` and `tls.key: its
/// key` (or `another key`) stand for real ones, which are made on the spot.
pub(crate) fn read(yaml: &str) -> Vec<Object> {
    serde_yaml::Deserializer::from_str(yaml)
        .map(|document| serde_yaml::Value::deserialize(document).unwrap())
        .filter(|document| !document.is_null())
        .map(object)
        .collect()
}

pub(crate) fn world(objects: impl IntoIterator<Item = Object>) -> World {
    let mut world = World::default();
    for object in objects {
        world.apply(Delta::Apply(object));
    }
    world
}

fn object(document: serde_yaml::Value) -> Object {
    fn typed<T: serde::de::DeserializeOwned>(document: serde_yaml::Value) -> T {
        serde_yaml::from_value(document).unwrap()
    }
    let kind = document["kind"].as_str().unwrap().to_owned();
    match kind.as_str() {
        "EndpointSlice" => typed::<EndpointSlice>(document).into(),
        "Ingress" => typed::<Ingress>(document).into(),
        "IngressClass" => typed::<IngressClass>(document).into(),
        "LoadBalancer" => typed::<holdfast::api::LoadBalancer>(document).into(),
        "Namespace" => typed::<Namespace>(document).into(),
        "Secret" => forge(typed(document)).into(),
        "Service" => typed::<Service>(document).into(),
        other => panic!("unknown kind {other}"),
    }
}

/// Makes certificate and key where the Secret asks for them.
fn forge(mut secret: Secret) -> Secret {
    let Some(data) = &mut secret.string_data else {
        return secret;
    };
    let names = data
        .get("tls.crt")
        .and_then(|text| text.strip_prefix("certificate for "));
    let Some(names) = names else {
        return secret;
    };
    let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    data.insert("tls.crt".to_owned(), made.cert.pem());
    let key = match data.get("tls.key").map(String::as_str) {
        Some("its key") => made.signing_key.serialize_pem(),
        Some("another key") => rcgen::KeyPair::generate().unwrap().serialize_pem(),
        _ => return secret,
    };
    data.insert("tls.key".to_owned(), key);
    secret
}

/// Everything a translation says, as text that does not change from run to run.
pub(crate) fn render(world: &World, translation: &Translation) -> String {
    let names = certificate_names(world);
    let mut text = String::new();
    let mut shown: Vec<&Listener> = Vec::new();
    for listener in translation.snapshot.listeners.values() {
        writeln!(
            text,
            "listener {}: {} {:?}{}{}",
            listener.id,
            listener.port,
            listener.protocol,
            if listener.http2 { " http2" } else { "" },
            if listener.http1_only.is_empty() {
                String::new()
            } else {
                format!(" except {}", listener.http1_only.declared().join(" "))
            }
        )
        .unwrap();
        writeln!(
            text,
            "  timeouts: idle {:?}, request {}, connect {:?}, websocket idle {}",
            listener.timeouts.idle,
            limit(listener.timeouts.request),
            listener.timeouts.connect,
            limit(listener.websocket.idle_timeout)
        )
        .unwrap();
        let rest = WebSocketPolicy {
            idle_timeout: WebSocketPolicy::default().idle_timeout,
            ..WebSocketPolicy::clone(&listener.websocket)
        };
        if rest != WebSocketPolicy::default() {
            writeln!(text, "  websocket: {rest:?}").unwrap();
        }
        if *listener.admission != Admission::default() {
            writeln!(text, "  admission: {:?}", listener.admission).unwrap();
        }
        if listener.capacity != Capacity::default() {
            writeln!(text, "  capacity: {:?}", listener.capacity).unwrap();
        }
        certificates(&mut text, listener, &names);
        match shown.iter().find(|other| other.hosts == listener.hosts) {
            Some(other) => writeln!(text, "  routes: as {}", other.id.name).unwrap(),
            None => hosts(&mut text, listener),
        }
        shown.push(listener);
    }
    for upstream in &translation.entering {
        let set = endpoints(world, upstream);
        let addresses: Vec<String> = set
            .all()
            .iter()
            .map(|endpoint| format!("{} {:?}", endpoint.address, endpoint.state))
            .collect();
        writeln!(
            text,
            "upstream {upstream} {:?}: {}",
            upstream.protocol,
            addresses.join(", ")
        )
        .unwrap();
    }
    for finding in &translation.findings {
        writeln!(text, "{finding}").unwrap();
    }
    for upstream in &translation.entering {
        if let Some(finding) = endpoint_finding(world, upstream) {
            writeln!(text, "{finding}").unwrap();
        }
    }
    text
}

fn hosts(text: &mut String, listener: &Listener) {
    let table = &listener.hosts;
    let mut hosts: Vec<(String, &HostRoutes)> = Vec::new();
    for (host, routes) in table.exact.iter() {
        hosts.push((format!("host {host}"), routes));
    }
    for (suffix, routes) in table.wildcard.iter() {
        hosts.push((format!("host *.{suffix}"), routes));
    }
    hosts.sort_by(|a, b| a.0.cmp(&b.0));
    if let Some(routes) = &table.any {
        hosts.push(("any host".to_owned(), routes));
    }
    for (host, routes) in hosts {
        writeln!(text, "  {host}").unwrap();
        let mut lines: Vec<String> = routes.routes().map(|route| line(route)).collect();
        lines.sort();
        for line in lines {
            writeln!(text, "    {line}").unwrap();
        }
    }
    if let Some(route) = &table.fallback {
        writeln!(text, "  fallback").unwrap();
        writeln!(text, "    {}", line(route)).unwrap();
    }
}

fn line(route: &Route) -> String {
    let path = match &route.path {
        None => "default backend".to_owned(),
        Some(path) => {
            let kind = match path.kind {
                PathKind::Exact => "Exact",
                PathKind::Prefix => "Prefix",
                PathKind::ImplementationSpecific => "ImplementationSpecific",
            };
            format!("{kind} {}", path.value)
        }
    };
    let backends: Vec<String> = route.backends.iter().map(backend).collect();
    let PolicyOverrides {
        request_timeout,
        connect_timeout,
        websocket,
    } = &route.overrides;
    let mut overrides = String::new();
    if let Some(request) = *request_timeout {
        write!(overrides, " request={}", limit(request)).unwrap();
    }
    if let Some(connect) = connect_timeout {
        write!(overrides, " connect={connect:?}").unwrap();
    }
    if let Some(idle) = websocket.idle_timeout {
        write!(overrides, " websocket-idle={}", limit(idle)).unwrap();
    }
    let rest = WebSocketOverrides {
        idle_timeout: None,
        ..websocket.clone()
    };
    if rest != WebSocketOverrides::default() {
        write!(overrides, " websocket={rest:?}").unwrap();
    }
    format!(
        "{path} -> {}{overrides} [{}]",
        backends.join(" | "),
        route.id
    )
}

fn backend(backend: &Backend) -> String {
    let target = match &backend.target {
        Ok(upstream) => format!("{upstream} {:?}", upstream.protocol),
        Err(why) => format!("503 {}", why.as_str()),
    };
    match backend.weight {
        1 => target,
        weight => format!("{weight}x {target}"),
    }
}

fn limit(duration: Option<Duration>) -> String {
    duration.map_or_else(|| "none".to_owned(), |duration| format!("{duration:?}"))
}

fn certificates(text: &mut String, listener: &Listener, names: &HashMap<Vec<u8>, String>) {
    let table = &listener.certificates;
    let name = |certificate: &Certificate| {
        names
            .get(certificate.key().cert.first().unwrap().as_ref())
            .cloned()
            .unwrap()
    };
    let mut lines: Vec<String> = table
        .exact
        .iter()
        .map(|(host, certificate)| format!("{host} = {}", name(certificate)))
        .collect();
    for (suffix, certificate) in table.wildcard.iter() {
        lines.push(format!("*.{suffix} = {}", name(certificate)));
    }
    lines.sort();
    if let Some(certificate) = &table.default {
        lines.push(format!("default = {}", name(certificate)));
    }
    for line in lines {
        writeln!(text, "  certificate {line}").unwrap();
    }
}

/// Names of Secrets by the bytes of their leaf certificates.
fn certificate_names(world: &World) -> HashMap<Vec<u8>, String> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    world
        .secrets()
        .iter()
        .filter_map(|(name, secret)| {
            let pem = secret.certificate.as_ref()?;
            let leaf = CertificateDer::from_pem_slice(pem).ok()?;
            Some((leaf.to_vec(), name.to_string()))
        })
        .collect()
}

/// Every route of a snapshot as text, with the listener and the object that it comes from.
pub(crate) fn routes(snapshot: &Snapshot) -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    for listener in snapshot.listeners.values() {
        for route in listener.hosts.routes() {
            all.push((
                listener.id.to_string(),
                route.id.origin.to_string(),
                format!("{} {}", route.id.host, line(route)),
            ));
        }
    }
    all.sort();
    all
}
