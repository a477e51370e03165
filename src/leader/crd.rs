//! The CustomResourceDefinition, brought to a cluster: Helm never upgrades one that it has
//! installed.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionCondition,
};
use kube::api::{Patch, PatchParams};
use kube::core::Request;
use kube::core::params::GetParams;
use kube::{Client, Resource};
use serde_json::Value;

use super::rate::{Backoff, jittered};
use super::server::{Failure, Server};
use crate::api::FIELD_MANAGER;

/// For one request.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often it is looked whether the API server serves the resource.
const POLL: Duration = Duration::from_millis(250);
/// After a failure.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(250),
    limit: Duration::from_secs(5),
};

/// The definition is not in force.
#[derive(Debug, thiserror::Error)]
pub enum CrdNotApplied {
    /// The right is missing.
    #[error(
        "the CustomResourceDefinition {name} cannot be applied: {message}; run this as somebody who \
         may create, get and patch customresourcedefinitions"
    )]
    Forbidden {
        /// The definition.
        name: String,
        /// What the API server says.
        message: String,
    },
    /// The API server does not take it.
    #[error("the CustomResourceDefinition {name} cannot be applied: {message}")]
    Refused {
        /// The definition.
        name: String,
        /// What the API server says.
        message: String,
    },
    /// Another definition has its names.
    #[error(
        "the API server does not serve the CustomResourceDefinition {name}: {message}; remove the \
         definition that has its names"
    )]
    NamesTaken {
        /// The definition.
        name: String,
        /// What the API server says.
        message: String,
    },
    /// It took too long.
    #[error("the CustomResourceDefinition {name} is not in force after {timeout:?}: {message}")]
    Late {
        /// The definition.
        name: String,
        /// How long it was waited for.
        timeout: Duration,
        /// What came last.
        message: String,
    },
}

/// Applies a definition and waits until the API server serves its resource.
///
/// # Errors
/// It is not in force, and why.
pub async fn apply_crd(
    client: Client,
    definition: &Value,
    timeout: Duration,
) -> Result<(), CrdNotApplied> {
    let name = definition["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let server = Server::new(client, DEADLINE);
    let mut last = "the API server has not answered".to_owned();
    let work = async {
        apply(&server, &name, definition, &mut last).await?;
        wait(&server, &name, &mut last).await
    };
    match tokio::time::timeout(timeout, work).await {
        Ok(done) => done,
        Err(_) => Err(CrdNotApplied::Late {
            name,
            timeout,
            message: last,
        }),
    }
}

async fn apply(
    server: &Server,
    name: &str,
    definition: &Value,
    last: &mut String,
) -> Result<(), CrdNotApplied> {
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let mut failures = 0;
    loop {
        let patch = request().patch(name, &params, &Patch::Apply(definition));
        let Err(failure) = server.send::<CustomResourceDefinition>(patch).await else {
            return Ok(());
        };
        let (name, message) = (name.to_owned(), failure.to_string());
        match failure {
            Failure::Forbidden(_) => return Err(CrdNotApplied::Forbidden { name, message }),
            Failure::Refused(_) | Failure::NotFound(_) => {
                return Err(CrdNotApplied::Refused { name, message });
            }
            Failure::Conflict(_) | Failure::Unavailable { .. } => *last = message,
        }
        tokio::time::sleep(BACKOFF.after(failures)).await;
        failures = failures.saturating_add(1);
    }
}

async fn wait(server: &Server, name: &str, last: &mut String) -> Result<(), CrdNotApplied> {
    loop {
        let get = request().get(name, &GetParams::default());
        match server.send::<CustomResourceDefinition>(get).await {
            Ok(definition) => {
                let conditions = definition.status.and_then(|status| status.conditions);
                let conditions = conditions.unwrap_or_default();
                if find(&conditions, "Established", "True").is_some() {
                    return Ok(());
                }
                if let Some(taken) = find(&conditions, "NamesAccepted", "False") {
                    return Err(CrdNotApplied::NamesTaken {
                        name: name.to_owned(),
                        message: taken.message.clone().unwrap_or_default(),
                    });
                }
                *last = "the API server has not established it".to_owned();
            }
            Err(Failure::Forbidden(message)) => {
                let name = name.to_owned();
                return Err(CrdNotApplied::Forbidden { name, message });
            }
            Err(failure) => *last = failure.to_string(),
        }
        tokio::time::sleep(jittered(POLL)).await;
    }
}

fn request() -> Request {
    Request::new(CustomResourceDefinition::url_path(&(), None))
}

fn find<'a>(
    conditions: &'a [CustomResourceDefinitionCondition],
    name: &str,
    status: &str,
) -> Option<&'a CustomResourceDefinitionCondition> {
    let mut conditions = conditions.iter();
    conditions.find(|condition| condition.type_ == name && condition.status == status)
}
