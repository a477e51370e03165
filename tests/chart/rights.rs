//! The chart grants what the controller asks for, and no more.

use std::collections::BTreeSet;

use holdfast::leader::permissions::{CRD_PERMISSIONS, PERMISSIONS, Permission, Scope};
use serde_json::{Value, json};

use super::helm::{Rendering, find, with};

/// Namespace (`*` = all and none), group, resource, verb.
type Right = (String, String, String, String);

/// What the controller asks for when it runs in `edge` and watches these namespaces.
fn asked(permissions: &[Permission], watched: Option<&[&str]>) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for permission in permissions {
        let namespaces: &[&str] = match (permission.scope, watched) {
            (Scope::Own, _) => &["edge"],
            (_, None) => &["*"],
            (Scope::Watched, Some(namespaces)) => namespaces,
            (Scope::Cluster, Some(_)) => &[],
        };
        for namespace in namespaces {
            for verb in permission.verbs {
                let words = [*namespace, permission.group, permission.resource, *verb];
                let [namespace, group, resource, verb] = words.map(str::to_owned);
                rights.insert((namespace, group, resource, verb));
            }
        }
    }
    without_repetition(rights)
}

/// A right in every namespace is one in each.
fn without_repetition(rights: BTreeSet<Right>) -> BTreeSet<Right> {
    let everywhere = rights.clone();
    rights
        .into_iter()
        .filter(|(namespace, group, resource, verb)| {
            let general = (
                "*".to_owned(),
                group.clone(),
                resource.clone(),
                verb.clone(),
            );
            namespace == "*" || !everywhere.contains(&general)
        })
        .collect()
}

/// What is granted to a ServiceAccount of `edge`, through bindings that are there.
fn granted(objects: &[Value], account: &str) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for binding in objects {
        let kind = binding["kind"].as_str().unwrap();
        if !["RoleBinding", "ClusterRoleBinding"].contains(&kind) {
            continue;
        }
        let subjects = binding["subjects"].as_array().unwrap();
        let [subject] = &**subjects else {
            panic!("{subjects:?}")
        };
        assert_eq!(subject["kind"], "ServiceAccount");
        assert_eq!(subject["namespace"], "edge");
        if subject["name"] != account {
            continue;
        }
        let role = &binding["roleRef"];
        let name = role["name"].as_str().unwrap();
        let namespace = &binding["metadata"]["namespace"];
        let role = objects
            .iter()
            .find(|object| {
                object["kind"] == role["kind"]
                    && object["metadata"]["name"] == name
                    && object["metadata"]["namespace"] == *namespace
            })
            .unwrap_or_else(|| panic!("no role for {binding:#}"));
        assert_eq!(role["kind"], kind.trim_end_matches("Binding"));
        for rule in role["rules"].as_array().unwrap() {
            let words = |field: &str| -> Vec<String> {
                serde_json::from_value(rule[field].clone()).unwrap()
            };
            for group in words("apiGroups") {
                for resource in words("resources") {
                    for verb in words("verbs") {
                        let right = (
                            namespace.as_str().unwrap_or("*").to_owned(),
                            group.clone(),
                            resource.clone(),
                            verb,
                        );
                        assert!(!right.1.contains('*') && !right.2.contains('*') && right.3 != "*");
                        assert!(rights.insert(right.clone()), "granted twice: {right:?}");
                    }
                }
            }
        }
    }
    rights
}

#[test]
fn rights_are_those_that_the_controller_asks_for() {
    let objects = with("{}").objects();
    assert_eq!(granted(&objects, "holdfast"), asked(PERMISSIONS, None));
}

#[test]
fn a_scope_needs_no_right_outside_its_namespaces() {
    let cases: [(&str, &[&str]); 3] = [
        ("", &["edge"]),
        ("shop,chat", &["shop", "chat"]),
        ("edge,chat", &["edge", "chat"]),
    ];
    for (scope, watched) in cases {
        let values = format!("controller: {{scope: {{enabled: true, namespace: '{scope}'}}}}");
        let objects = with(&values).objects();
        assert_eq!(
            granted(&objects, "holdfast"),
            asked(PERMISSIONS, Some(watched)),
            "{scope}"
        );
        for object in &objects {
            let kind = object["kind"].as_str().unwrap();
            let namespaced = object["metadata"].get("namespace").is_some();
            assert!(namespaced, "{kind} is outside namespaces");
        }
        let pods = &find(&objects, "Deployment", "holdfast").unwrap()["spec"]["template"]["spec"];
        let env = pods["containers"][0]["env"].as_array().unwrap();
        let expected = json!({"name": "HOLDFAST_NAMESPACE", "value": watched.join(",")});
        assert!(env.contains(&expected), "no {expected} in {env:?}");
    }
}

/// The election is for one Lease; of others in the namespace nobody has to know.
#[test]
fn only_its_own_lease_can_be_changed() {
    let objects = with("controller: {electionID: mine}").objects();
    let role = find(&objects, "Role", "holdfast").unwrap();
    for rule in role["rules"].as_array().unwrap() {
        if rule["resources"] == json!(["leases"]) {
            let creates = rule["verbs"] == json!(["create"]);
            let named = rule["resourceNames"] == json!(["mine"]);
            assert!(creates != named, "{rule:#}");
        }
    }
}

/// The Job before an upgrade may change our CRD and nothing else; with the hook gone, so are its
/// rights. The Job before a deletion has those of the controller.
#[test]
fn jobs_have_the_rights_they_need() {
    let objects = with("{}").objects();
    assert_eq!(
        granted(&objects, "holdfast-crds"),
        asked(CRD_PERMISSIONS, None)
    );
    for kind in ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Job"] {
        let object = find(&objects, kind, "holdfast-crds").unwrap();
        let annotations = &object["metadata"]["annotations"];
        assert_eq!(annotations["helm.sh/hook"], "pre-upgrade", "{kind}");
        assert_eq!(
            annotations["helm.sh/hook-delete-policy"], "before-hook-creation,hook-succeeded",
            "{kind}"
        );
    }
    let job = find(&objects, "Job", "holdfast-uninstall").unwrap();
    assert_eq!(job["metadata"]["annotations"]["helm.sh/hook"], "pre-delete");
    assert_eq!(
        job["spec"]["template"]["spec"]["serviceAccountName"],
        "holdfast"
    );
    let without = Rendering {
        flags: vec!["--no-hooks"],
        ..with("{}")
    };
    assert!(granted(&without.objects(), "holdfast-crds").is_empty());
}

/// With `rbac.create: false` the ServiceAccount is somebody else's affair.
#[test]
fn no_rights_are_granted_where_none_are_wanted() {
    let objects = with("{rbac: {create: false}, hooks: {crds: {enabled: false}}}").objects();
    for object in &objects {
        let kind = object["kind"].as_str().unwrap();
        assert!(!kind.contains("Role"), "{kind}");
    }
}
