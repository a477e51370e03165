//! Services: from a backend to an upstream, and from an upstream to its endpoints.
//!
//! ```text
//! backend ─▶ Service ─▶ port (by number or name) ─▶ UpstreamId
//!                                                       │ the port's name
//!                         EndpointSlices ◀──────────────┘
//! ```

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ServicePort;

use super::finding::{Finding, Notes, Reason};
use crate::routing::{
    Endpoint, EndpointSet, EndpointState, PodEnd, PodProtocol, Unavailable, UpstreamId,
};
use crate::world::{EndpointSlice, Kind, ObjectKey, ObjectName, Service, World};

/// A port of a Service as a backend names it.
#[derive(Clone, Copy, Debug)]
pub(super) enum PortRef<'a> {
    Number(i32),
    Name(&'a str),
}

impl fmt::Display for PortRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "port {number}"),
            Self::Name(name) => write!(f, "port named {name:?}"),
        }
    }
}

/// Finds the upstream of a backend. `field` is the path of the backend's `service`.
pub(super) fn resolve(
    world: &World,
    name: &ObjectName,
    port: PortRef<'_>,
    field: &str,
    notes: &mut Notes,
) -> Result<Arc<UpstreamId>, Unavailable> {
    let Some(service) = world.services().get(name) else {
        notes.error(
            Reason::ServiceNotFound,
            format!("{field}.name"),
            format!("there is no Service {name}; requests get 503 until it exists"),
        );
        return Err(Unavailable::ServiceNotFound);
    };
    if service.service_type == "ExternalName" {
        notes.error(
            Reason::Unsupported,
            format!("{field}.name"),
            format!(
                "Service {name} is of type ExternalName, which is not served; requests get 503; \
                 use a Service without a selector and an EndpointSlice with the addresses"
            ),
        );
        return Err(Unavailable::Unsupported);
    }
    let found = match port {
        PortRef::Number(number) => port_by_number(service, number),
        PortRef::Name(wanted) => service
            .ports
            .iter()
            .find(|port| port.name.as_deref() == Some(wanted)),
    };
    let number = found.and_then(|port| u16::try_from(port.port).ok());
    let (Some(found), Some(number @ 1..)) = (found, number) else {
        notes.error(
            Reason::PortNotFound,
            format!("{field}.port"),
            format!(
                "Service {name} has no {port}; requests get 503; it has {}",
                PortList(&service.ports)
            ),
        );
        return Err(Unavailable::PortNotFound);
    };
    if !is_tcp(found.protocol.as_deref()) {
        notes.error(
            Reason::Unsupported,
            format!("{field}.port"),
            format!(
                "{port} of Service {name} is {}, and only TCP is served; requests get 503",
                found.protocol.as_deref().unwrap_or_default()
            ),
        );
        return Err(Unavailable::Unsupported);
    }
    Ok(Arc::new(UpstreamId {
        namespace: Arc::clone(&name.namespace),
        service: Arc::clone(&name.name),
        port: number,
        protocol: pod_protocol(name, found, field, notes),
    }))
}

/// How pods are spoken to (KEP-3726). What we do not know is spoken to in plain HTTP/1.1 all the
/// same: the field often is there for others (a mesh, a gateway), servers of HTTP/2 in clear
/// mostly understand HTTP/1.1, and adding the field must not cut off a Service that worked. Only
/// values with a domain other than `kubernetes.io` go without a warning, as they are meant for
/// other implementations.
fn pod_protocol(
    name: &ObjectName,
    port: &ServicePort,
    field: &str,
    notes: &mut Notes,
) -> PodProtocol {
    let Some(declared) = port.app_protocol.as_deref() else {
        return PodProtocol::Plain;
    };
    match declared.to_ascii_lowercase().as_str() {
        "" | "http" => return PodProtocol::Plain,
        "https" => return PodProtocol::Tls,
        _ => {}
    }
    match declared {
        "kubernetes.io/ws" => return PodProtocol::Plain,
        "kubernetes.io/wss" => return PodProtocol::Tls,
        _ => {}
    }
    if !declared.contains('/') || declared.starts_with("kubernetes.io/") {
        notes.warning(
            Reason::Unsupported,
            format!("{field}.port"),
            format!(
                "appProtocol {declared} of port {} of Service {name} is not supported; the pods \
                 are spoken to in plain HTTP/1.1; supported are http, https, kubernetes.io/ws and \
                 kubernetes.io/wss",
                port.port
            ),
        );
    }
    PodProtocol::Plain
}

/// The endpoints of an upstream, from all slices of its Service. Empty if the Service or the port
/// is gone.
#[must_use]
pub fn endpoints(world: &World, upstream: &UpstreamId) -> EndpointSet {
    let name = service_name(upstream);
    let Some(port) = world
        .services()
        .get(&name)
        .and_then(|service| port_by_number(service, i32::from(upstream.port)))
    else {
        return EndpointSet::default();
    };
    let port_name = port.name.as_deref().unwrap_or("");
    let mut ends = Vec::new();
    let found = world
        .slices_of(&name)
        .filter(|slice| matches!(slice.address_type.as_str(), "IPv4" | "IPv6"))
        .flat_map(|slice| {
            ports_named(slice, port_name)
                .flat_map(|port| slice.endpoints.iter().map(move |found| (port, found)))
        })
        .filter_map(|(port, found)| {
            let address = SocketAddr::new(found.address.parse::<IpAddr>().ok()?, port);
            let end = found.pod.as_ref().and_then(|pod| world.pod_end(pod));
            ends.extend(end.map(|end| {
                let (at, grace) = (end.at, end.grace);
                (address, PodEnd { at, grace })
            }));
            Some(Endpoint {
                address,
                state: match (found.ready, found.serving, found.terminating) {
                    (true, _, false) => EndpointState::Ready,
                    (_, true, true) => EndpointState::Draining,
                    (_, _, false) => EndpointState::NotReady,
                    (_, false, true) => return None,
                },
            })
        })
        .collect();
    EndpointSet::new(found).ending(ends)
}

/// The finding about an upstream in use that no endpoint serves.
#[must_use]
pub fn endpoint_finding(world: &World, upstream: &UpstreamId) -> Option<Finding> {
    let name = service_name(upstream);
    let service = world.services().get(&name)?;
    let port = port_by_number(service, i32::from(upstream.port))?;
    if endpoints(world, upstream).candidates().next().is_some() {
        return None;
    }
    let port_name = port.name.as_deref().unwrap_or("");
    let mut slices = world.slices_of(&name).peekable();
    let why = if slices.peek().is_none() {
        "there is no EndpointSlice for it; check the selector, and that pods with its labels run"
            .to_owned()
    } else if world
        .slices_of(&name)
        .all(|slice| slice.endpoints.is_empty())
    {
        // Kubernetes makes one for a Service without pods as well, and it has no ports.
        "its EndpointSlices are empty; check the selector, and that pods with its labels run"
            .to_owned()
    } else if slices.any(|slice| ports_named(slice, port_name).next().is_some()) {
        "none of its pods is ready; look at the pods and their readiness probes".to_owned()
    } else {
        format!(
            "its EndpointSlices have no TCP port with the name {port_name:?}; check targetPort and \
             the port names"
        )
    };
    let index = service.ports.iter().position(|held| held == port)?;
    let mut notes = Notes::new(ObjectKey::new(Kind::Service, name.clone()));
    notes.warning(
        Reason::NoEndpoints,
        format!("spec.ports[{index}]"),
        format!(
            "no pod serves port {}, so requests to it get 503: {why}",
            upstream.port
        ),
    );
    notes.into_findings().pop()
}

fn service_name(upstream: &UpstreamId) -> ObjectName {
    ObjectName {
        namespace: Arc::clone(&upstream.namespace),
        name: Arc::clone(&upstream.service),
    }
}

/// A number may be there once for TCP and once for UDP; TCP is what we look for.
fn port_by_number(service: &Service, number: i32) -> Option<&ServicePort> {
    let with_number = || service.ports.iter().filter(|port| port.port == number);
    with_number()
        .find(|port| is_tcp(port.protocol.as_deref()))
        .or_else(|| with_number().next())
}

/// The numbers in a slice of the port with this name: names are what a Service port and its slices
/// have in common, and one name may mean another number in each slice.
fn ports_named<'a>(slice: &'a EndpointSlice, name: &'a str) -> impl Iterator<Item = u16> + 'a {
    slice
        .ports
        .iter()
        .filter(move |port| {
            port.name.as_deref().unwrap_or("") == name && is_tcp(port.protocol.as_deref())
        })
        .filter_map(|port| u16::try_from(port.port?).ok())
        .filter(|&port| port > 0)
}

fn is_tcp(protocol: Option<&str>) -> bool {
    matches!(protocol, None | Some("" | "TCP"))
}

/// The ports of a Service, in words.
struct PortList<'a>(&'a [ServicePort]);

impl fmt::Display for PortList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, port) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{}", port.port)?;
            if let Some(name) = &port.name {
                write!(f, " ({name})")?;
            }
        }
        Ok(())
    }
}
