//! One folder a rule under `tests/translate`: what `input.yaml` comes to is in `expected.snap`.
//! `INSTA_UPDATE=always cargo test --test translate` writes the expectations anew.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "translate/support.rs"]
#[allow(dead_code, reason = "each test program uses its part of this file")]
mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use holdfast::routing::{PodProtocol, Protocol, UpstreamId};
use holdfast::translate::{Settings, Translator, endpoints};
use holdfast::world::{Change, Delta, ObjectName, PodEnd, PodId, World};

#[test]
fn every_case_comes_to_what_is_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/translate");
    let mut cases: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    assert!(cases.len() > 20, "the cases are missing");
    let settings = Settings {
        default_class: "holdfast".to_owned(),
        default_listeners: vec![
            ("http".to_owned(), 80, Protocol::Http),
            ("https".to_owned(), 443, Protocol::Https),
        ],
        ..Settings::default()
    };
    let mut failed = Vec::new();
    for case in cases {
        let yaml = std::fs::read_to_string(case.join("input.yaml")).unwrap();
        let world = support::world(support::read(&yaml));
        let translation = Translator::new(settings.clone()).translate(&world, &[]);
        let text = support::render(&world, &translation);
        let outcome = std::panic::catch_unwind(|| {
            insta::with_settings!({
                snapshot_path => &case,
                prepend_module_to_snapshot => false,
                omit_expression => true,
            }, {
                insta::assert_snapshot!("expected", text);
            });
        });
        if outcome.is_err() {
            failed.push(case);
        }
    }
    assert!(failed.is_empty(), "cases that differ: {failed:?}");
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: chat, namespace: default}
spec: {ports: [{name: web, port: 80}]}
";

/// A slice of the Service with these endpoints: conditions, `targetRef`.
fn slice(name: &str, endpoints: &[(&str, &str)]) -> Delta {
    let endpoints = endpoints
        .iter()
        .enumerate()
        .map(|(number, (conditions, target))| {
            format!(
                "- {{addresses: [10.0.0.{number}], conditions: {{{conditions}}}, targetRef: {{{target}}}}}\n"
            )
        });
    let yaml = format!(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, namespace: default, labels: {{kubernetes.io/service-name: chat}}}}
addressType: IPv4
ports: [{{name: web, port: 8080}}]
endpoints:
{}",
        endpoints.collect::<String>()
    );
    Delta::Apply(support::read(&yaml).remove(0))
}

fn pod(name: &str, uid: u128) -> Arc<PodId> {
    let name = ObjectName::new("default", name);
    Arc::new(PodId { name, uid })
}

fn ends(at: u64) -> PodEnd {
    PodEnd {
        at: Duration::from_secs(at),
        grace: Duration::from_secs(60),
    }
}

/// When the pods of the first addresses end, in seconds.
fn known(world: &World) -> [Option<u64>; 3] {
    let upstream = UpstreamId {
        namespace: "default".into(),
        service: "chat".into(),
        port: 80,
        protocol: PodProtocol::Plain,
    };
    let set = endpoints(world, &upstream);
    [0, 1, 2].map(|number| {
        let end = set.end(SocketAddr::from(([10, 0, 0, number], 8080)))?;
        assert_eq!(end.grace, Duration::from_secs(60));
        Some(end.at.as_secs())
    })
}

const SERVING: &str = "ready: false, serving: true, terminating: true";
const SILENT: &str = "ready: false, serving: false, terminating: true";

#[test]
fn the_end_of_a_pod_is_known_of_its_endpoint_while_a_slice_says_that_it_is_terminating() {
    let mut world = support::world(support::read(SERVICE));
    let targets = [
        "kind: Pod, name: a",
        "kind: Pod, name: b",
        "kind: Pod, name: c",
    ];
    let all = |conditions: [&'static str; 3]| -> Vec<(&str, &str)> {
        conditions.into_iter().zip(targets).collect()
    };
    world.apply(slice("one", &all([SERVING, SILENT, "ready: true"])));
    assert_eq!(known(&world), [None; 3]);
    let changes = world.apply(Delta::PodEnds(pod("a", 0), ends(100)));
    let [Change::Endpoints { services, .. }] = &*changes else {
        panic!("{changes:?}")
    };
    assert_eq!(*services, [ObjectName::new("default", "chat")]);
    // It does not serve, and may have tunnels all the same.
    world.apply(Delta::PodEnds(pod("b", 0), ends(200)));
    // Nobody has said that this one is terminating.
    assert!(
        world
            .apply(Delta::PodEnds(pod("c", 0), ends(300)))
            .is_empty()
    );
    assert_eq!(known(&world), [Some(100), Some(200), None]);
    assert!(
        world
            .apply(Delta::PodEnds(pod("a", 0), ends(100)))
            .is_empty()
    );

    // Another word on the same pods keeps what is known.
    world.apply(slice("one", &all([SILENT, SILENT, SERVING])));
    assert_eq!(known(&world), [Some(100), Some(200), None]);
    // A second slice has one as well, and the first lets go of it.
    world.apply(slice("two", &[(SILENT, targets[0])]));
    world.apply(slice("one", &all(["ready: true", SILENT, SERVING])));
    assert_eq!(known(&world), [Some(100), Some(200), None]);
    world.apply(slice("two", &[]));
    assert_eq!(known(&world), [None, Some(200), None]);
    // What was forgotten is not remembered.
    world.apply(slice("one", &all([SERVING, SILENT, SERVING])));
    assert_eq!(known(&world), [None, Some(200), None]);
}

#[test]
fn a_pod_is_not_taken_for_another_of_its_name_or_of_another_namespace() {
    const UID: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let mut world = support::world(support::read(SERVICE));
    let named = format!("kind: Pod, name: a, namespace: default, uid: {UID}");
    let others = [
        "kind: Pod, name: b, namespace: other",
        "kind: Node, name: c",
        "kind: Pod, name: ../secrets/d",
    ];
    world.apply(slice(
        "one",
        &[
            (SERVING, &named),
            (SERVING, others[0]),
            (SERVING, others[1]),
            (SERVING, others[2]),
        ],
    ));
    let uid = u128::from_str_radix(&UID.replace('-', ""), 16).unwrap();
    for (name, uid) in [
        ("a", uid + 1),
        ("a", 0),
        ("b", 0),
        ("c", 0),
        ("../secrets/d", 0),
    ] {
        let changes = world.apply(Delta::PodEnds(pod(name, uid), ends(100)));
        assert!(changes.is_empty(), "{name}");
    }
    assert_eq!(known(&world), [None; 3]);
    world.apply(Delta::PodEnds(pod("a", uid), ends(100)));
    assert_eq!(known(&world), [Some(100), None, None]);
}
