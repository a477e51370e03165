//! Files that are made from others: `make chart` writes them.

use std::fmt::Write as _;
use std::fs;

use super::helm::{Rendering, with};
use super::repository;
use super::schema::schema;
use super::values::{Leaf, leaves};

const TABLES: [&str; 2] = [
    "<!-- values: made by `make chart` -->\n",
    "<!-- end of values -->\n",
];
const INSTALL_HEAD: &str = "\
# Holdfast VERSION for clusters without Helm: the chart with its default values. Made from
# charts/holdfast by `make chart`; change it there.
#
# Name the image first: none is published yet, so push `make image`'s to a registry of yours and
# replace localhost/holdfast:VERSION below.
#
# Install, or upgrade to this version, CRDs included. They go first, because kubectl knows no kind
# that it makes itself in the same run:
#
#   kubectl apply --server-side -f crds/loadbalancer.yaml
#   kubectl wait --for=condition=Established crd/loadbalancers.holdfast.dev
#   kubectl apply --server-side -f manifests/install.yaml
#   kubectl rollout status -n holdfast deployment/holdfast
#
# Uninstall. First the controller undoes what it did: Services, finalizers, statuses. Deleting the
# CRD deletes every LoadBalancer in the cluster; to keep yours, take the CRD out of the file before:
#
#   kubectl exec -n holdfast deployment/holdfast -- /holdfast uninstall
#   kubectl delete --ignore-not-found -f manifests/install.yaml
";

const HOST_PORTS_HEAD: &str = "\
# Holdfast on ports 80 and 443 of every node, without a Service: the chart with
# `controller: {kind: DaemonSet, hostNetwork: true}`. Made from charts/holdfast by `make chart`;
# change it there. It takes the place of manifests/install.yaml, whose head says how to install,
# upgrade and uninstall; as here the CRDs go first:
#
#   kubectl apply --server-side -f crds/loadbalancer.yaml
#   kubectl wait --for=condition=Established crd/loadbalancers.holdfast.dev
#   kubectl apply --server-side -f manifests/examples/host-ports.yaml
#   kubectl rollout status -n holdfast daemonset/holdfast
#
# Then every node answers: curl http://NODE/
";

/// Compares a file with what it should say, or writes it where `HOLDFAST_GENERATE` is set.
fn assert_generated(path: &str, text: &str) {
    let file = repository(path);
    if std::env::var_os("HOLDFAST_GENERATE").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
    }
    let held = fs::read_to_string(&file).unwrap_or_default();
    if let Some(line) = (1..)
        .zip(held.lines())
        .zip(text.lines())
        .find(|((_, one), other)| one != other)
    {
        panic!(
            "{path} is out of date from line {}; run make chart",
            line.0.0
        );
    }
    assert_eq!(
        held.len(),
        text.len(),
        "{path} is out of date at its end; run make chart"
    );
}

#[test]
fn generated_schema() {
    assert_generated(
        "charts/holdfast/values.schema.json",
        &format!("{:#}\n", schema()),
    );
}

#[test]
fn generated_crds() {
    let crds = holdfast::api::crd_yaml().unwrap();
    assert_generated("charts/holdfast/crds/loadbalancer.yaml", &crds);
}

#[test]
fn generated_readme() {
    let path = "charts/holdfast/README.md";
    let readme = fs::read_to_string(repository(path)).unwrap();
    let (before, rest) = readme.split_once(TABLES[0]).unwrap();
    let (_, after) = rest.split_once(TABLES[1]).unwrap();
    let tables = tables(&leaves());
    assert_generated(
        path,
        &format!("{before}{}{tables}\n{}{after}", TABLES[0], TABLES[1]),
    );
}

fn tables(leaves: &[Leaf]) -> String {
    let mut text = String::new();
    for section in leaves.chunk_by(|one, other| one.section == other.section) {
        let heading = &section[0].section;
        write!(
            text,
            "\n### {heading}\n\n| value | default | description |\n|---|---|---|\n"
        )
        .unwrap();
        for leaf in section {
            let Leaf {
                path,
                default,
                description,
                schema,
                ..
            } = leaf;
            let words: Vec<String> = schema
                .get("enum")
                .and_then(|words| words.as_array())
                .into_iter()
                .flatten()
                .filter(|word| *word != "")
                .map(|word| format!("`{}`", word.as_str().unwrap()))
                .collect();
            let choice = match &*words {
                words if words.iter().all(|word| description.contains(word)) => String::new(),
                [rest @ .., last] => format!(" One of {} and {last}.", rest.join(", ")),
                [] => String::new(),
            };
            assert!(
                !description.contains('|'),
                "{path}: a bar would end the cell"
            );
            writeln!(text, "| `{path}` | `{default}` | {description}{choice} |").unwrap();
        }
    }
    text
}

/// For those without Helm: the chart with its defaults, and on the ports of the nodes.
#[test]
fn generated_manifests() {
    let crds = without_helm("{}", &["--no-hooks", "--include-crds"]);
    let head = INSTALL_HEAD.replace("VERSION", env!("CARGO_PKG_VERSION"));
    let namespace = namespace("restricted");
    assert_generated(
        "manifests/install.yaml",
        &format!("{head}{namespace}{crds}"),
    );
    let values = "controller: {kind: DaemonSet, hostNetwork: true}";
    let objects = without_helm(values, &["--no-hooks"]);
    let namespace = self::namespace("privileged");
    let text = format!("{HOST_PORTS_HEAD}{namespace}{objects}");
    assert_generated("manifests/examples/host-ports.yaml", &text);
}

fn namespace(pod_security: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: holdfast\n  labels:\n    \
         pod-security.kubernetes.io/enforce: {pod_security}\n"
    )
}

/// The chart as rendered for namespace `holdfast`, less what only Helm knows.
fn without_helm(values: &str, flags: &[&'static str]) -> String {
    let rendering = Rendering {
        namespace: "holdfast".to_owned(),
        flags: flags.to_vec(),
        ..with(values)
    };
    let of_helm = [
        "helm.sh/chart: ",
        "app.kubernetes.io/managed-by: Helm",
        "# Source: ",
    ];
    let mut text = String::new();
    for line in rendering.text().lines() {
        if !of_helm
            .iter()
            .any(|start| line.trim_start().starts_with(start))
        {
            writeln!(text, "{line}").unwrap();
        }
    }
    text
}
