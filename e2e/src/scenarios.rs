//! All scenarios, in the order in which they run.

mod broken_objects;
mod conformance;
mod disruption;
mod examples;
mod exposure_host;
mod ingress_backends;
mod ingress_classes;
mod ingress_hosts;
mod ingress_tls;
mod ingress_updates;
mod keepalive;
mod owned_services;
mod refusals;
mod starts;
mod websockets;
mod without_helm;

use anyhow::{Result, ensure};

use crate::client::Visitor;
use crate::cluster::text;
use crate::scenario::Scenario;
use crate::trial::Trial;

/// All scenarios, in the order in which they run.
#[rustfmt::skip]
pub(crate) fn all() -> Vec<Scenario> {
    let mut scenarios = vec![
        Scenario::shared("websockets_reach_pods_with_no_annotation", 60, websockets::reach_pods),
        Scenario::shared("conformance_default_backend", 60, conformance::default_backend),
        Scenario::shared("conformance_host_rules", 60, conformance::host_rules),
        Scenario::shared("conformance_foreign_class", 60, conformance::foreign_class),
        Scenario::shared("conformance_load_balancing", 60, conformance::load_balancing),
        Scenario::shared("conformance_path_rules", 60, conformance::path_rules),
        Scenario::shared("ingresses_share_a_host", 60, ingress_hosts::shared_host),
        Scenario::shared("ingress_precedence", 60, ingress_hosts::precedence),
        Scenario::shared("ingress_backends_of_every_sort", 60, ingress_backends::sorts_of_backends),
        Scenario::shared("ingress_pods_behind_a_service", 60, ingress_backends::pods_behind_a_service),
        Scenario::shared("ingress_scaling", 90, ingress_backends::scaling),
        Scenario::shared("ingress_certificates", 90, ingress_tls::certificates),
        Scenario::shared("ingress_two_certificates_of_a_host", 60, ingress_tls::two_certificates),
        Scenario::shared("ingress_class_membership", 90, ingress_classes::membership),
        Scenario::shared("ingress_class_changes", 90, ingress_classes::changes),
        Scenario::shared("ingress_edits", 90, ingress_updates::edits),
        Scenario::shared("statuses_of_others_stay", 60, ingress_classes::statuses_of_others),
        Scenario::shared("load_balancers_share_a_port", 60, owned_services::two_with_one_port),
        Scenario::shared("owned_service_drift_is_repaired", 90, owned_services::drift),
        Scenario::shared("owned_service_follows_its_template", 90, owned_services::template),
        Scenario::shared("owned_service_survives_a_restart", 120, owned_services::survives_restart),
        Scenario::shared("load_balancer_deletion", 60, owned_services::deletion),
        Scenario::shared("load_balancer_exposure_host", 90, exposure_host::there_and_back),
        Scenario::shared("load_balancer_refusals", 90, refusals::refused),
        Scenario::shared("keepalive_finds_a_dead_client", 60, keepalive::finds_a_dead_client),
        Scenario::shared("broken_objects_beside_good_ones", 120, broken_objects::beside_good_ones),
        Scenario::shared("examples", 120, examples::each_is_used),
        Scenario::bare("install_without_helm", 120, without_helm::install),
        Scenario::bare("start_without_the_right_to_secrets", 90, starts::without_a_right),
        Scenario::bare("start_without_the_crd", 90, starts::without_the_crd),
        Scenario::bare("start_without_the_api_server", 90, starts::without_the_api_server),
    ];
    scenarios.extend(disruption::all());
    scenarios
}

/// Whether a client's request is answered by a pod of the Deployment `who`, or with the status `who`.
async fn answers(client: &Visitor, path: &str, who: &str) -> Result<()> {
    let answer = client.get(path).await?;
    match who.parse() {
        Ok(status) => answer.expect(status).map(drop),
        Err(_) => answer.comes_from(who).map(drop),
    }
}

/// Whether the leader has a finding about an object, of this reason and with these words in it.
async fn finding(
    trial: &Trial,
    kind: &str,
    namespace: &str,
    name: &str,
    reason: &str,
    words: &str,
) -> Result<()> {
    let findings = trial.shared()?.findings().await?;
    let about: Vec<_> = findings
        .iter()
        .filter(|finding| {
            text(finding, "/kind") == kind
                && text(finding, "/namespace") == namespace
                && text(finding, "/name") == name
        })
        .collect();
    let is_there = about.iter().any(|finding| {
        text(finding, "/reason") == reason && text(finding, "/message").contains(words)
    });
    ensure!(
        is_there,
        "findings about {kind} {namespace}/{name}: {about:?}"
    );
    Ok(())
}
