//! What a change costs at 100, 1,000 and 10,000 Ingresses, each with a host, a Service and a path
//! of its own, a quarter of them with a certificate that they share.

use std::sync::Arc;

use divan::{Bencher, black_box};
use holdfast::api;
use holdfast::translate::{Settings, Translator};
use holdfast::world::{
    Delta, Ingress, IngressClass, Kind, LoadBalancer, Metadata, Object, ObjectKey, ObjectName,
    Secret, Service, StatusMark, World,
};
use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::api::networking::v1 as networking;

const SIZES: [usize; 3] = [100, 1_000, 10_000];

fn meta(namespace: &str, name: String) -> Metadata {
    Metadata {
        name: ObjectName::new(namespace, name),
        created: 0,
        generation: 0,
        uid: 0,
        is_deleting: false,
        annotations: std::collections::BTreeMap::new(),
    }
}

fn ingress(index: usize, path: &str) -> Object {
    let backend = networking::IngressBackend {
        resource: None,
        service: Some(networking::IngressServiceBackend {
            name: format!("service-{index}"),
            port: Some(networking::ServiceBackendPort {
                name: None,
                number: Some(80),
            }),
        }),
    };
    let rule = networking::IngressRule {
        host: Some(format!("host-{index}.example")),
        http: Some(networking::HTTPIngressRuleValue {
            paths: vec![networking::HTTPIngressPath {
                backend,
                path: Some(path.to_owned()),
                path_type: "Prefix".to_owned(),
            }],
        }),
    };
    let tls = networking::IngressTLS {
        hosts: rule.host.clone().map(|host| vec![host]),
        secret_name: Some("cert".to_owned()),
    };
    Object::Ingress(Arc::new(Ingress {
        meta: meta("demo", format!("ingress-{index}")),
        spec: networking::IngressSpec {
            default_backend: None,
            ingress_class_name: Some("holdfast".to_owned()),
            rules: Some(vec![rule]),
            tls: Some(vec![tls]).filter(|_| index.is_multiple_of(4)),
        },
        status: StatusMark::default(),
    }))
}

fn service(index: usize, app_protocol: Option<&str>) -> Object {
    Object::Service(Arc::new(Service {
        meta: meta("demo", format!("service-{index}")),
        service_type: "ClusterIP".to_owned(),
        ports: vec![ServicePort {
            port: 80,
            app_protocol: app_protocol.map(str::to_owned),
            ..ServicePort::default()
        }],
        owned: None,
    }))
}

fn world(size: usize) -> World {
    let made = rcgen::generate_simple_self_signed(vec!["*.example".to_owned()]).unwrap();
    let listener = |name: &str, port, protocol| api::Listener {
        name: name.to_owned(),
        port,
        protocol,
        http2: None,
        http1_only: Vec::new(),
        timeouts: None,
        websocket: None,
        admission: None,
        tls: None,
    };
    let mut objects = vec![
        Object::LoadBalancer(Arc::new(LoadBalancer {
            meta: meta("edge", "edge".to_owned()),
            spec: api::LoadBalancerSpec {
                connection_drain: None,
                rebalance: None,
                exposure: api::Exposure::Host,
                service: None,
                capacity: None,
                listeners: vec![
                    listener("http", 80, api::Protocol::Http),
                    listener("https", 443, api::Protocol::Https),
                ],
                rules: Vec::new(),
            },
            status: api::LoadBalancerStatus::default(),
            has_finalizer: false,
        })),
        Object::IngressClass(Arc::new(IngressClass {
            meta: meta("", "holdfast".to_owned()),
            spec: networking::IngressClassSpec {
                controller: Some(api::CONTROLLER.to_owned()),
                parameters: Some(networking::IngressClassParametersReference {
                    api_group: Some(api::GROUP.to_owned()),
                    kind: "LoadBalancer".to_owned(),
                    name: "edge".to_owned(),
                    namespace: Some("edge".to_owned()),
                    scope: Some("Namespace".to_owned()),
                }),
            },
        })),
        Object::Secret(Arc::new(Secret {
            meta: meta("demo", "cert".to_owned()),
            secret_type: "kubernetes.io/tls".to_owned(),
            certificate: Some(made.cert.pem().into_bytes()),
            key: Some(made.signing_key.serialize_pem().into_bytes()),
        })),
    ];
    for index in 0..size {
        objects.push(ingress(index, "/"));
        objects.push(service(index, None));
    }
    let mut world = World::default();
    for object in objects {
        world.apply(Delta::Apply(object));
    }
    world
}

/// Alternates between two forms of an object, so that every call sees a change.
fn bench_change(bencher: Bencher<'_, '_>, size: usize, forms: &[Object; 2]) {
    let mut world = world(size);
    let mut translator = Translator::new(Settings::default());
    let mut last = translator.translate(&world, &[]);
    let mut turn = 0;
    bencher.bench_local(|| {
        turn += 1;
        let object = forms[turn % 2].clone();
        let key = object.key();
        world.apply(Delta::Apply(object));
        // The one before is dropped here, as it is when a snapshot is published.
        last = translator.translate(&world, &[key]);
        black_box(&last);
    });
}

#[divan::bench(args = SIZES)]
fn one_ingress_changes(bencher: Bencher<'_, '_>, size: usize) {
    bench_change(
        bencher,
        size,
        &[ingress(size / 2, "/"), ingress(size / 2, "/other")],
    );
}

#[divan::bench(args = SIZES)]
fn one_service_changes(bencher: Bencher<'_, '_>, size: usize) {
    bench_change(
        bencher,
        size,
        &[service(size / 2, None), service(size / 2, Some("https"))],
    );
}

#[divan::bench(args = SIZES)]
fn one_ingress_comes_and_goes(bencher: Bencher<'_, '_>, size: usize) {
    let mut world = world(size);
    let mut translator = Translator::new(Settings::default());
    let mut last = translator.translate(&world, &[]);
    let name = ObjectName::new("demo", format!("ingress-{size}"));
    let key = ObjectKey::new(Kind::Ingress, name);
    let object = ingress(size, "/");
    let mut is_there = false;
    bencher.bench_local(|| {
        let delta = if is_there {
            Delta::Delete(key.clone())
        } else {
            Delta::Apply(object.clone())
        };
        is_there = !is_there;
        world.apply(delta);
        last = translator.translate(&world, std::slice::from_ref(&key));
        black_box(&last);
    });
}

#[divan::bench(args = SIZES)]
fn whole_world(bencher: Bencher<'_, '_>, size: usize) {
    let world = world(size);
    bencher
        .with_inputs(|| Translator::new(Settings::default()))
        .bench_local_values(|mut translator| {
            let translation = translator.translate(&world, &[]);
            (translator, translation)
        });
}

#[divan::bench(args = SIZES)]
fn host_and_path_lookup(bencher: Bencher<'_, '_>, size: usize) {
    let translation = Translator::new(Settings::default()).translate(&world(size), &[]);
    let listener = Arc::clone(translation.snapshot.listeners.values().next().unwrap());
    let host = format!("host-{}.example", size / 2);
    bencher.bench_local(|| {
        let found = listener.hosts.find(
            Some(black_box(host.as_str())),
            black_box("/chat/rooms/42/messages"),
        );
        black_box(found);
    });
}
