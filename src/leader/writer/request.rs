//! Writes as requests to the API server.
//!
//! Statuses, finalizers and Services are server-side applies with force: what we apply is ours, what
//! we leave out is given up, and what others have written beside it stays.

use std::sync::Arc;

use http::Request as HttpRequest;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::Request;
use kube::core::request::Error as BuildError;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::api::{self, Address, AddressType, LoadBalancer, LoadBalancerStatus};
use crate::leader::agenda::{Matter, Write};
use crate::leader::server::{Failure, Server};
use crate::world::object::format_uid;
use crate::world::{Kind, ObjectKey, ObjectName};

/// Finalizers have a field manager of their own: an apply names all that its manager wants, and
/// that of a status is another apply.
pub(in crate::leader) const FINALIZER_MANAGER: &str = "holdfast-finalizer";

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::leader) enum Outcome {
    /// It is as it should be.
    Written,
    /// The object is gone, and with it what was to be written.
    Gone,
}

impl Outcome {
    pub(in crate::leader) fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Gone => "gone",
        }
    }
}

/// What is read of an answer.
#[derive(Debug, Deserialize)]
struct Answer {
    metadata: ObjectMeta,
}

/// The label of a write in metrics.
pub(in crate::leader) fn kind(write: &Write) -> &'static str {
    match write {
        Write::IngressAddresses(_) => "ingress_status",
        Write::LoadBalancerStatus(_) => "load_balancer_status",
        Write::Finalizer(_) => "finalizer",
        Write::Service(_) => "service",
        Write::DeleteService(_) => "service_deletion",
    }
}

/// The resource that a write is a request to.
pub(in crate::leader) fn resource(write: &Write) -> &'static str {
    match write {
        Write::IngressAddresses(_) => "ingresses/status",
        Write::LoadBalancerStatus(_) => "loadbalancers/status",
        Write::Finalizer(_) => "loadbalancers",
        Write::Service(_) | Write::DeleteService(_) => "services",
    }
}

/// The object whose declaration a write follows from: for a Service its LoadBalancer.
pub(in crate::leader) fn declared_by(matter: &Matter, write: &Write) -> ObjectKey {
    let owner = || {
        let Write::Service(service) = write else {
            return None;
        };
        let labels = service.metadata.labels.as_ref()?;
        let namespace = labels.get(api::OWNER_NAMESPACE_LABEL)?;
        let name = labels.get(api::OWNER_NAME_LABEL)?;
        let name = ObjectName::new(namespace.as_str(), name.as_str());
        Some(ObjectKey::new(Kind::LoadBalancer, name))
    };
    owner().unwrap_or_else(|| matter.object.clone())
}

/// Does a write.
pub(in crate::leader) async fn perform(
    server: &Server,
    matter: &Matter,
    write: &Arc<Write>,
) -> Result<Outcome, Failure> {
    let name = &matter.object.name;
    let done = match &**write {
        Write::IngressAddresses(addresses) => {
            let request = ingress_status(name, addresses);
            server.send::<IgnoredAny>(request).await.map(drop)
        }
        Write::LoadBalancerStatus(status) => {
            let request = load_balancer_status(name, Some(status));
            server.send::<IgnoredAny>(request).await.map(drop)
        }
        Write::Finalizer(is_wanted) => return finalizer(server, name, *is_wanted).await,
        Write::Service(service) => {
            // A Service that is not there is made: it is its namespace that is missing.
            return match declare(server, name, service).await {
                Err(Failure::NotFound(message)) => Err(Failure::Refused(message)),
                declared => declared.map(|()| Outcome::Written),
            };
        }
        Write::DeleteService(uid) => {
            match server.send::<IgnoredAny>(delete_service(name, *uid)).await {
                // Another Service has the name by now.
                Err(Failure::Conflict(_)) if *uid != 0 => return Ok(Outcome::Gone),
                deleted => deleted.map(drop),
            }
        }
    };
    match done {
        Ok(()) => Ok(Outcome::Written),
        Err(Failure::NotFound(_)) => Ok(Outcome::Gone),
        Err(failure) => Err(failure),
    }
}

type Built = Result<HttpRequest<Vec<u8>>, BuildError>;

fn at<K: Resource<DynamicType = ()>>(name: &ObjectName) -> Request {
    Request::new(K::url_path(&(), Some(&name.namespace)))
}

/// The head of an applied object.
fn head<K: Resource<DynamicType = ()>>(name: &ObjectName) -> Value {
    json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"namespace": &*name.namespace, "name": &*name.name},
    })
}

fn forced(manager: &str) -> PatchParams {
    PatchParams::apply(manager).force()
}

/// `status.loadBalancer.ingress`. Without addresses nothing is applied, so what is solely ours is
/// removed.
pub(in crate::leader) fn ingress_status(name: &ObjectName, addresses: &[Address]) -> Built {
    let mut object = head::<Ingress>(name);
    if !addresses.is_empty() {
        let entries: Vec<Value> = addresses
            .iter()
            .map(|address| match address.address_type {
                AddressType::Ip => json!({"ip": address.value}),
                AddressType::Hostname => json!({"hostname": address.value}),
            })
            .collect();
        object["status"] = json!({"loadBalancer": {"ingress": entries}});
    }
    at::<Ingress>(name).patch_subresource(
        "status",
        &name.name,
        &forced(api::FIELD_MANAGER),
        &Patch::Apply(object),
    )
}

/// The status as a whole. Without one nothing is applied, so what is solely ours is removed; an
/// empty one would become null, which the schema refuses.
pub(in crate::leader) fn load_balancer_status(
    name: &ObjectName,
    status: Option<&LoadBalancerStatus>,
) -> Built {
    let mut object = head::<LoadBalancer>(name);
    if let Some(status) = status {
        object["status"] = json!(status);
    }
    at::<LoadBalancer>(name).patch_subresource(
        "status",
        &name.name,
        &forced(api::FIELD_MANAGER),
        &Patch::Apply(object),
    )
}

/// Makes the Service as it is declared. An apply merges lists by their keys: a port of somebody
/// else stays beside ours and, where it bears a name of ours, makes the API server refuse the apply.
/// So the ports are then set as a whole.
async fn declare(server: &Server, name: &ObjectName, service: &Service) -> Result<(), Failure> {
    let ports = |service: &Service| {
        let spec = service.spec.as_ref();
        spec.and_then(|spec| spec.ports.as_ref()).map(Vec::len)
    };
    let refused = match server.send::<Service>(apply_service(name, service)).await {
        Ok(actual) if ports(&actual) == ports(service) => return Ok(()),
        Ok(_) => None,
        Err(Failure::Refused(message)) => Some(message),
        Err(failure) => return Err(failure),
    };
    let replaced = server
        .send::<IgnoredAny>(replace_ports(name, service))
        .await;
    match (replaced, refused) {
        (Ok(_), None) => Ok(()),
        (Ok(_), Some(_)) => server
            .send::<IgnoredAny>(apply_service(name, service))
            .await
            .map(drop),
        // The ports were not it, then.
        (Err(Failure::Refused(_) | Failure::NotFound(_)), Some(message)) => {
            Err(Failure::Refused(message))
        }
        (Err(failure), _) => Err(failure),
    }
}

fn replace_ports(name: &ObjectName, service: &Service) -> Built {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    at::<Service>(name).patch(
        &name.name,
        &PatchParams {
            field_manager: Some(api::FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        },
        &Patch::Merge(json!({"spec": {"ports": ports}})),
    )
}

fn apply_service(name: &ObjectName, service: &Service) -> Built {
    at::<Service>(name).patch(
        &name.name,
        &forced(api::FIELD_MANAGER),
        &Patch::Apply(service),
    )
}

/// A uid of 0 is any.
pub(in crate::leader) fn delete_service(name: &ObjectName, uid: u128) -> Built {
    let params = DeleteParams {
        preconditions: (uid != 0).then(|| Preconditions {
            uid: Some(format_uid(uid)),
            resource_version: None,
        }),
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    at::<Service>(name).delete(&name.name, &params)
}

/// Puts our finalizer on a LoadBalancer, or takes it off.
pub(in crate::leader) async fn finalizer(
    server: &Server,
    name: &ObjectName,
    is_wanted: bool,
) -> Result<Outcome, Failure> {
    let at = at::<LoadBalancer>(name);
    let mut object = head::<LoadBalancer>(name);
    if is_wanted {
        object["metadata"]["finalizers"] = json!([api::FINALIZER]);
    }
    let request = at.patch(
        &name.name,
        &forced(FINALIZER_MANAGER),
        &Patch::Apply(object),
    );
    let merge = |patch: Value| {
        at.patch(
            &name.name,
            &PatchParams::apply(FINALIZER_MANAGER),
            &Patch::Merge(patch),
        )
    };
    let answer: Answer = match server.send(request).await {
        Ok(answer) => answer,
        Err(Failure::NotFound(_)) => return Ok(Outcome::Gone),
        // An apply creates what is not there, which for want of a spec is refused. An empty patch
        // tells whether it is that.
        Err(failure @ (Failure::Refused(_) | Failure::Forbidden(_))) => {
            return match server.send::<IgnoredAny>(merge(json!({}))).await {
                Err(Failure::NotFound(_)) => Ok(Outcome::Gone),
                _ => Err(failure),
            };
        }
        Err(failure) => return Err(failure),
    };
    let finalizers = answer.metadata.finalizers.unwrap_or_default();
    if is_wanted || !finalizers.iter().any(|name| name == api::FINALIZER) {
        return Ok(Outcome::Written);
    }
    // Somebody else has declared it as well, such as who applied a copy of the object: then giving
    // it up leaves it there.
    let others: Vec<&String> = finalizers
        .iter()
        .filter(|name| *name != api::FINALIZER)
        .collect();
    let patch = json!({"metadata": {
        "finalizers": others,
        "resourceVersion": answer.metadata.resource_version,
    }});
    match server.send::<IgnoredAny>(merge(patch)).await {
        Ok(_) => Ok(Outcome::Written),
        Err(Failure::NotFound(_)) => Ok(Outcome::Gone),
        Err(failure) => Err(failure),
    }
}
