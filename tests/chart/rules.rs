//! What has to hold between the objects, whatever the values.

use clap::{CommandFactory as _, Parser as _};
use holdfast::cli::Cli;
use serde_json::{Value, json};

use super::helm::{Rendering, find, with};

fn pod(values: &str) -> Value {
    let objects = with(values).objects();
    let workload = find(&objects, "Deployment", "holdfast")
        .or_else(|| find(&objects, "DaemonSet", "holdfast"))
        .unwrap();
    workload["spec"]["template"]["spec"].clone()
}

fn load_balancer(values: &str) -> Value {
    let objects = with(values).objects();
    find(&objects, "LoadBalancer", "holdfast").unwrap()["spec"].clone()
}

#[test]
fn the_chart_is_of_the_version_of_the_program() {
    let text = std::fs::read_to_string(super::chart().join("Chart.yaml")).unwrap();
    let chart: Value = serde_yaml::from_str(&text).unwrap();
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    let image = &pod("{}")["containers"][0]["image"];
    let expected = concat!("localhost/holdfast:", env!("CARGO_PKG_VERSION"));
    assert_eq!(image, expected);
}

/// A pod may take as long as it says that it does, and ten seconds more.
#[test]
fn the_grace_period_follows_the_drain() {
    for (delay, window, grace, seconds) in [
        ("5s", "20s", "10s", 45),
        ("0s", "0s", "0s", 10),
        ("1m", "1h", "90s", 10 + 60 + 3600 + 90),
        ("1h30m", "1m1s", "0s", 10 + 5400 + 61),
        ("500ms", "500ms", "1ms", 12),
        ("08s", "09s", "1s500ms", 29),
    ] {
        let values = format!(
            "controller: {{shutdown: {{delay: {delay}, drainWindow: {window}, drainGrace: {grace}}}}}"
        );
        let pod = pod(&values);
        assert_eq!(pod["terminationGracePeriodSeconds"], seconds, "{values}");
        let args = pod["containers"][0]["args"].as_array().unwrap();
        for flag in [
            format!("--shutdown-delay={delay}"),
            format!("--drain-window={window}"),
            format!("--drain-grace={grace}"),
        ] {
            assert!(args.contains(&flag.clone().into()), "no {flag}");
        }
    }
    let pod = pod("controller: {terminationGracePeriodSeconds: 45}");
    assert_eq!(pod["terminationGracePeriodSeconds"], 45);
}

/// Root and a capability only where a port of the node needs them.
#[test]
fn only_low_ports_of_a_node_need_root() {
    let low = [
        "controller: {hostNetwork: true}",
        "controller: {hostNetwork: true, kind: DaemonSet}",
        "controller: {hostNetwork: true, service: {enableHttp: false}}",
        "controller: {hostNetwork: true, service: {ports: {http: 8080, https: 1023}}}",
        "controller: {hostNetwork: true, service: {ports: {http: 8080, https: 8443}}, loadBalancer: {listeners: [{name: a, port: 81, protocol: HTTP}]}}",
    ];
    let ordinary = [
        "{}",
        "controller: {kind: DaemonSet}",
        "controller: {hostNetwork: true, service: {ports: {http: 8080, https: 1024}}}",
        "controller: {hostNetwork: true, service: {enableHttp: false, ports: {https: 8443}}}",
    ];
    for (values, is_low) in low
        .iter()
        .map(|v| (v, true))
        .chain(ordinary.iter().map(|v| (v, false)))
    {
        let pod = pod(values);
        let (user, capabilities) = if is_low {
            (0, json!({"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}))
        } else {
            (65532, json!({"drop": ["ALL"]}))
        };
        let security = &pod["securityContext"];
        assert_eq!(security["runAsUser"], user, "{values}");
        assert_eq!(security["runAsNonRoot"], !is_low, "{values}");
        assert_eq!(
            security["seccompProfile"]["type"], "RuntimeDefault",
            "{values}"
        );
        let container = &pod["containers"][0]["securityContext"];
        assert_eq!(container["capabilities"], capabilities, "{values}");
        assert_eq!(container["readOnlyRootFilesystem"], true, "{values}");
        assert_eq!(container["allowPrivilegeEscalation"], false, "{values}");
    }
}

/// On the node's network the LoadBalancer binds the ports itself, the scheduler knows them, and an
/// update frees them before it takes them.
#[test]
fn host_network_means_exposure_host() {
    let values = "controller: {hostNetwork: true, service: {ports: {http: 8080}}}";
    let spec = load_balancer(values);
    assert_eq!(spec["exposure"], "Host");
    assert_eq!(spec.get("service"), None);
    let pod = pod(values);
    assert_eq!(pod["hostNetwork"], true);
    assert_eq!(pod["dnsPolicy"], "ClusterFirstWithHostNet");
    let ports = pod["containers"][0]["ports"].as_array().unwrap();
    let taken: Vec<i64> = ports
        .iter()
        .filter_map(|port| port["hostPort"].as_i64())
        .collect();
    assert_eq!(taken, [8080, 443]);
    for kind in ["Deployment", "DaemonSet"] {
        let field = if kind == "Deployment" {
            "strategy"
        } else {
            "updateStrategy"
        };
        for (host, surge, unavailable) in [(false, 1, 0), (true, 0, 1)] {
            let objects = with(&format!(
                "controller: {{kind: {kind}, hostNetwork: {host}}}"
            ))
            .objects();
            let strategy = &find(&objects, kind, "holdfast").unwrap()["spec"][field];
            let expected = json!({"maxSurge": surge, "maxUnavailable": unavailable});
            assert_eq!(strategy["rollingUpdate"], expected, "{kind} {host}");
        }
    }
}

/// Liveness and start do not ask what depends on the API server, readiness does.
#[test]
fn probes_ask_the_right_page() {
    let pod = pod("controller: {admin: {port: 9191}}");
    let container = &pod["containers"][0];
    for (probe, path) in [
        ("startupProbe", "/healthz"),
        ("livenessProbe", "/healthz"),
        ("readinessProbe", "/readyz"),
    ] {
        let expected = json!({"path": path, "port": "admin"});
        assert_eq!(container[probe]["httpGet"], expected, "{probe}");
    }
    assert_eq!(
        container["ports"][0],
        json!({"name": "admin", "containerPort": 9191, "protocol": "TCP"})
    );
    let flag = json!("--admin=[::]:9191");
    assert!(container["args"].as_array().unwrap().contains(&flag));
}

/// Replicas are spread and are not evicted all at once; of one there is nothing to keep.
#[test]
fn replicas_are_kept_apart_and_up() {
    let objects = with("{}").objects();
    let deployment = find(&objects, "Deployment", "holdfast").unwrap();
    assert_eq!(deployment["spec"]["replicas"], 2);
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    let selector = &deployment["spec"]["selector"]["matchLabels"];
    let selects = |selector: &Value| {
        selector
            .as_object()
            .unwrap()
            .iter()
            .all(|(name, value)| labels[name] == *value)
    };
    assert!(selects(selector));
    let spread = &deployment["spec"]["template"]["spec"]["topologySpreadConstraints"][0];
    assert_eq!(spread["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(spread["labelSelector"]["matchLabels"], *selector);
    let budget = &find(&objects, "PodDisruptionBudget", "holdfast").unwrap()["spec"];
    assert_eq!(budget["maxUnavailable"], 1);
    assert_eq!(budget["selector"]["matchLabels"], *selector);
    let peers = &find(&objects, "Service", "holdfast-peers").unwrap()["spec"];
    assert_eq!(peers["clusterIP"], "None");
    assert!(selects(&peers["selector"]));
    for (values, is_there) in [
        ("controller: {replicaCount: 1}", false),
        ("controller: {kind: DaemonSet}", false),
        (
            "controller: {replicaCount: 1, autoscaling: {enabled: true}}",
            true,
        ),
        (
            "controller: {autoscaling: {enabled: true, minReplicas: 1, maxReplicas: 1}}",
            false,
        ),
        ("controller: {minAvailable: 0}", true),
    ] {
        let objects = with(values).objects();
        let budget = find(&objects, "PodDisruptionBudget", "holdfast");
        assert_eq!(budget.is_some(), is_there, "{values}");
    }
}

/// Jobs are not pods of the controller: no Service or budget may count them.
#[test]
fn jobs_are_not_taken_for_the_controller() {
    let objects = with("{}").objects();
    let selector =
        &find(&objects, "Deployment", "holdfast").unwrap()["spec"]["selector"]["matchLabels"];
    for job in ["holdfast-crds", "holdfast-uninstall"] {
        let labels = &find(&objects, "Job", job).unwrap()["spec"]["template"]["metadata"]["labels"];
        let selected = selector
            .as_object()
            .unwrap()
            .iter()
            .all(|(name, value)| labels[name] == *value);
        assert!(!selected, "{job}");
    }
}

/// The flag, the class and the object name the same LoadBalancer.
#[test]
fn everybody_means_the_same_load_balancer() {
    for (values, name, namespace) in [
        ("{}", "holdfast", "edge"),
        (
            "controller: {loadBalancer: {name: mine, namespace: chat}}",
            "mine",
            "chat",
        ),
        (
            "controller: {loadBalancer: {create: false, name: mine}}",
            "mine",
            "edge",
        ),
        (
            "controller: {scope: {enabled: true, namespace: 'shop,chat'}}",
            "holdfast",
            "shop",
        ),
    ] {
        let objects = with(values).objects();
        let deployment = find(&objects, "Deployment", "holdfast").unwrap();
        let args = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
        let flag = format!("--load-balancer={namespace}/{name}");
        assert!(
            args.as_array().unwrap().contains(&json!(flag)),
            "{values}: {args:#}"
        );
        if let Some(class) = find(&objects, "IngressClass", "holdfast") {
            assert_eq!(class["spec"]["controller"], holdfast::api::CONTROLLER);
            assert_eq!(class["spec"]["parameters"]["name"], name, "{values}");
            assert_eq!(
                class["spec"]["parameters"]["namespace"], namespace,
                "{values}"
            );
        }
        let object = find(&objects, "LoadBalancer", name);
        assert_eq!(
            object.is_some(),
            !values.contains("create: false"),
            "{values}"
        );
        if let Some(object) = object {
            assert_eq!(object["metadata"]["namespace"], namespace, "{values}");
        }
    }
    let objects = with("controller: {loadBalancer: {create: false}}").objects();
    let class = find(&objects, "IngressClass", "holdfast").unwrap();
    assert_eq!(class["spec"].get("parameters"), None);
}

/// A parent chart may turn the chart off, and share its `global`.
#[test]
fn values_of_a_parent_chart_are_let_through() {
    let objects =
        with("{enabled: true, global: {storageClass: fast, image: {registry: r.example}}}")
            .objects();
    let pod = &find(&objects, "Deployment", "holdfast").unwrap()["spec"]["template"]["spec"];
    let image = concat!("r.example/holdfast:", env!("CARGO_PKG_VERSION"));
    assert_eq!(pod["containers"][0]["image"], image);
}

/// `helm template` twice gives the same bytes: no clock, no chance.
#[test]
fn rendering_is_repeatable() {
    let rendering = Rendering::of(serde_yaml::from_str(super::goldens::EVERYTHING).unwrap());
    assert_eq!(rendering.text(), rendering.text());
}

/// The program takes every flag and every variable that the chart gives it.
#[test]
fn the_program_understands_what_it_is_given() {
    let mut containers = 0;
    for (name, values) in super::goldens::cases() {
        // Flags of a container of somebody else's are not for us to judge.
        let objects = Rendering::of(values).objects();
        for object in &objects {
            let list = &object["spec"]["template"]["spec"]["containers"];
            for container in list.as_array().into_iter().flatten() {
                if container["name"] == "holdfast" {
                    containers += 1;
                    assert_understood(container, &name);
                }
            }
        }
    }
    assert!(containers > 40);
}

fn assert_understood(container: &Value, context: &str) {
    let args: Vec<String> = serde_json::from_value(container["args"].clone()).unwrap();
    let words = std::iter::once("holdfast").chain(args.iter().map(String::as_str));
    Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{context}: {error}"));
    let cli = Cli::command();
    let command = cli.find_subcommand(&args[0]).unwrap();
    let known: Vec<&str> = command
        .get_arguments()
        .filter_map(|argument| argument.get_env()?.to_str())
        .collect();
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = variable["name"].as_str().unwrap();
        let ours = name.starts_with("HOLDFAST_") || name.starts_with("POD_");
        assert!(
            !ours || known.contains(&name),
            "{context}: {name} is not known to {}",
            args[0]
        );
    }
}
