//! Random worlds out of few names, so that objects meet each other.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use holdfast::world::{Metadata, Object, ObjectName};
use holdfast::{api, world};
use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::api::networking::v1 as networking;
use proptest::prelude::*;

/// Certificate and key in PEM.
type Pem = (String, String);

static CERTIFICATES: LazyLock<Vec<Pem>> = LazyLock::new(|| {
    [
        &["a.example"][..],
        &["*.example", "b.example"],
        &["a.example", "c.example"],
    ]
    .into_iter()
    .map(|names| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    })
    .collect()
});

pub(crate) fn meta(namespace: &str, name: &str, created: i64) -> Metadata {
    Metadata {
        name: ObjectName::new(namespace, name),
        created,
        generation: 0,
        uid: 0,
        is_deleting: false,
        annotations: BTreeMap::new(),
    }
}

pub(crate) fn one_of(choices: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(choices).prop_map(str::to_owned)
}

fn namespace() -> impl Strategy<Value = String> {
    one_of(&["n", "m"])
}

fn host() -> impl Strategy<Value = String> {
    one_of(&[
        "",
        "a.example",
        "b.example",
        "c.example",
        "*.example",
        "*.a.example",
        "bad_host",
    ])
}

fn path() -> impl Strategy<Value = String> {
    one_of(&["/", "/x", "/x/", "/x/y", "/y", "relative"])
}

pub(crate) fn kind() -> impl Strategy<Value = String> {
    one_of(&["Exact", "Prefix", "ImplementationSpecific"])
}

pub(crate) fn object() -> impl Strategy<Value = Object> {
    prop_oneof![
        6 => ingress(),
        3 => service(),
        2 => secret(),
        2 => ingress_class(),
        2 => load_balancer(),
    ]
}

fn backend() -> impl Strategy<Value = networking::IngressBackend> {
    let port = prop_oneof![
        Just(networking::ServiceBackendPort {
            name: None,
            number: Some(80)
        }),
        Just(networking::ServiceBackendPort {
            name: None,
            number: Some(81)
        }),
        Just(networking::ServiceBackendPort {
            name: Some("http".to_owned()),
            number: None
        }),
    ];
    (one_of(&["s", "t", "u"]), port).prop_map(|(name, port)| networking::IngressBackend {
        resource: None,
        service: Some(networking::IngressServiceBackend {
            name,
            port: Some(port),
        }),
    })
}

fn rule() -> impl Strategy<Value = networking::IngressRule> {
    let path = (path(), kind(), backend()).prop_map(|(path, path_type, backend)| {
        networking::HTTPIngressPath {
            backend,
            path: Some(path),
            path_type,
        }
    });
    (host(), prop::collection::vec(path, 0..3)).prop_map(|(host, paths)| networking::IngressRule {
        host: Some(host).filter(|host| !host.is_empty()),
        http: Some(networking::HTTPIngressRuleValue { paths }),
    })
}

fn ingress() -> impl Strategy<Value = Object> {
    let class = prop_oneof![
        6 => Just((Some("holdfast".to_owned()), None)),
        2 => Just((Some("inner".to_owned()), None)),
        1 => Just((Some("none".to_owned()), None)),
        1 => Just((None, None)),
        1 => Just((None, Some("holdfast".to_owned()))),
    ];
    let tls = (
        prop::option::weighted(0.8, prop::collection::vec(host(), 1..3)),
        one_of(&["c", "d", ""]),
    )
        .prop_map(|(hosts, secret)| networking::IngressTLS {
            hosts,
            secret_name: Some(secret),
        });
    (
        (namespace(), one_of(&["i", "j", "k"]), 0..3_i64),
        class,
        prop::collection::vec(rule(), 0..3),
        prop::option::weighted(0.3, backend()),
        prop::collection::vec(tls, 0..2),
    )
        .prop_map(
            |((namespace, name, created), (class, annotation), rules, default_backend, tls)| {
                let mut meta = meta(&namespace, &name, created);
                if let Some(class) = annotation {
                    let key = "kubernetes.io/ingress.class".to_owned();
                    meta.annotations.insert(key, class);
                }
                let spec = networking::IngressSpec {
                    default_backend,
                    ingress_class_name: class,
                    rules: Some(rules),
                    tls: Some(tls),
                };
                Object::Ingress(
                    world::Ingress {
                        meta,
                        spec,
                        status: world::StatusMark::default(),
                    }
                    .into(),
                )
            },
        )
}

fn service() -> impl Strategy<Value = Object> {
    (
        namespace(),
        one_of(&["s", "t", "u"]),
        one_of(&["ClusterIP", "ClusterIP", "ExternalName"]),
        one_of(&["http", "web"]),
        prop::option::of(one_of(&["https", "grpc"])),
        80..82_i32,
    )
        .prop_map(
            |(namespace, name, service_type, port_name, app_protocol, port)| {
                let port = ServicePort {
                    name: Some(port_name),
                    port,
                    app_protocol,
                    ..ServicePort::default()
                };
                Object::Service(
                    world::Service {
                        meta: meta(&namespace, &name, 0),
                        service_type,
                        ports: vec![port],
                        owned: None,
                    }
                    .into(),
                )
            },
        )
}

fn secret() -> impl Strategy<Value = Object> {
    (namespace(), one_of(&["c", "d"]), 0..4_usize).prop_map(|(namespace, name, which)| {
        let pem = CERTIFICATES.get(which);
        Object::Secret(
            world::Secret {
                meta: meta(&namespace, &name, 0),
                secret_type: "kubernetes.io/tls".to_owned(),
                certificate: pem.map(|pem| pem.0.clone().into_bytes()),
                key: pem.map(|pem| pem.1.clone().into_bytes()),
            }
            .into(),
        )
    })
}

fn ingress_class() -> impl Strategy<Value = Object> {
    let parameters = prop::option::weighted(
        0.8,
        one_of(&["one", "two", "gone"]).prop_map(|name| {
            networking::IngressClassParametersReference {
                api_group: Some(api::GROUP.to_owned()),
                kind: "LoadBalancer".to_owned(),
                name,
                namespace: Some("n".to_owned()),
                scope: Some("Namespace".to_owned()),
            }
        }),
    );
    (
        one_of(&["holdfast", "holdfast", "inner"]),
        0..3_i64,
        one_of(&[api::CONTROLLER, api::CONTROLLER, "someone/else"]),
        parameters,
        any::<bool>(),
    )
        .prop_map(|(name, created, controller, parameters, is_default)| {
            let mut meta = meta("", &name, created);
            if is_default {
                let key = "ingressclass.kubernetes.io/is-default-class".to_owned();
                meta.annotations.insert(key, "true".to_owned());
            }
            let spec = networking::IngressClassSpec {
                controller: Some(controller),
                parameters,
            };
            Object::IngressClass(world::IngressClass { meta, spec }.into())
        })
}

fn plain_listener(name: &str, port: u16) -> api::Listener {
    api::Listener {
        name: name.to_owned(),
        port,
        protocol: api::Protocol::Http,
        http2: None,
        http1_only: Vec::new(),
        timeouts: None,
        websocket: None,
        admission: None,
        tls: None,
    }
}

fn load_balancer() -> impl Strategy<Value = Object> {
    let listener = (
        one_of(&["l", "m", "k"]),
        any::<bool>(),
        80..83_u16,
        one_of(&["", "c", "d"]),
    )
        .prop_map(|(name, is_https, port, secret)| api::Listener {
            name,
            port,
            protocol: if is_https {
                api::Protocol::Https
            } else {
                api::Protocol::Http
            },
            http2: None,
            http1_only: Vec::new(),
            timeouts: None,
            websocket: None,
            admission: None,
            tls: Some(api::Tls {
                certificate_refs: vec![api::SecretRef {
                    name: secret.clone(),
                }],
            })
            .filter(|_| is_https && !secret.is_empty()),
        });
    let rule = (
        prop::collection::vec(host(), 0..2),
        prop::collection::vec(one_of(&["l", "m", "none"]), 0..2),
        prop::option::of(path()),
        one_of(&["s", "t"]),
    )
        .prop_map(|(hosts, listeners, path, service)| api::Rule {
            hosts,
            listeners,
            path: path.map(|value| api::Path {
                path_type: None,
                value,
            }),
            backends: vec![api::Backend {
                service: api::BackendService {
                    name: service,
                    port: api::ServicePort::Number(80),
                },
                weight: None,
            }],
            timeouts: None,
            websocket: None,
        });
    (
        one_of(&["one", "two"]),
        0..3_i64,
        // Often the same listeners, so that rules change and listeners do not.
        prop_oneof![
            Just(vec![plain_listener("l", 80), plain_listener("m", 81)]),
            prop::collection::vec(listener, 0..4),
        ],
        prop::collection::vec(rule, 0..3),
        prop::sample::select(&[api::Exposure::Host, api::Exposure::Service]),
        prop::collection::vec((one_of(&["l", "m"]), 20_000..20_002_u16), 0..3),
        prop::bool::weighted(0.1),
    )
        .prop_map(
            |(name, created, listeners, rules, exposure, recorded, is_deleting)| {
                let spec = api::LoadBalancerSpec {
                    exposure,
                    service: None,
                    connection_drain: None,
                    rebalance: None,
                    capacity: None,
                    listeners,
                    rules,
                };
                let mut meta = meta("n", &name, created);
                meta.is_deleting = is_deleting;
                let listeners = recorded
                    .into_iter()
                    .map(|(name, port)| api::ListenerStatus {
                        name,
                        target_port: Some(port),
                        conditions: Vec::new(),
                        attached_routes: 0,
                        open_tunnels: 0,
                        effective: None,
                    })
                    .collect();
                let load_balancer = world::LoadBalancer {
                    meta,
                    spec,
                    status: api::LoadBalancerStatus {
                        listeners,
                        ..api::LoadBalancerStatus::default()
                    },
                    has_finalizer: false,
                };
                Object::LoadBalancer(load_balancer.into())
            },
        )
}

/// A way for an object to go wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Breakage {
    Host,
    Path,
    Service,
    Port,
    Class,
    Secret,
    Resource,
}

pub(crate) fn breakage() -> impl Strategy<Value = Breakage> {
    prop::sample::select(&[
        Breakage::Host,
        Breakage::Path,
        Breakage::Service,
        Breakage::Port,
        Breakage::Class,
        Breakage::Secret,
        Breakage::Resource,
    ])
}

/// The object, broken; `None` where this kind of object cannot break in this way.
pub(crate) fn break_object(object: &Object, breakage: Breakage) -> Option<Object> {
    match object {
        Object::Ingress(ingress) => {
            let mut broken = (**ingress).clone();
            break_ingress(&mut broken.spec, breakage);
            Some(Object::Ingress(broken.into()))
        }
        Object::Secret(secret) => {
            let mut broken = (**secret).clone();
            match breakage {
                Breakage::Host => broken.certificate = None,
                Breakage::Path => broken.key = Some(b"garbage".to_vec()),
                Breakage::Class => broken.secret_type = "Opaque".to_owned(),
                _ => broken.certificate = Some(b"garbage".to_vec()),
            }
            Some(Object::Secret(broken.into()))
        }
        Object::LoadBalancer(load_balancer) => {
            let mut broken = (**load_balancer).clone();
            for rule in &mut broken.spec.rules {
                match breakage {
                    Breakage::Host => rule.hosts = vec!["not a host".to_owned()],
                    Breakage::Path => {
                        rule.path = Some(api::Path {
                            path_type: None,
                            value: "/..".to_owned(),
                        });
                    }
                    Breakage::Class => rule.listeners = vec!["no-such-listener".to_owned()],
                    _ => rule.backends.clear(),
                }
            }
            Some(Object::LoadBalancer(broken.into()))
        }
        _ => None,
    }
}

fn break_ingress(spec: &mut networking::IngressSpec, breakage: Breakage) {
    if matches!(breakage, Breakage::Class) {
        spec.ingress_class_name = Some("no-such-class".to_owned());
    }
    for block in spec.tls.iter_mut().flatten() {
        match breakage {
            Breakage::Secret => block.secret_name = Some("no-such-secret".to_owned()),
            Breakage::Host => block.hosts = Some(vec!["not a host".to_owned()]),
            _ => {}
        }
    }
    for rule in spec.rules.iter_mut().flatten() {
        if matches!(breakage, Breakage::Host) {
            rule.host = Some("not a host".to_owned());
        }
        for path in rule.http.iter_mut().flat_map(|http| &mut http.paths) {
            match breakage {
                Breakage::Path => path.path = Some("/%".to_owned()),
                Breakage::Resource => path.backend.service = None,
                Breakage::Service => {
                    if let Some(service) = &mut path.backend.service {
                        service.name = "no-such-service".to_owned();
                    }
                }
                Breakage::Port => {
                    if let Some(service) = &mut path.backend.service {
                        service.port = None;
                    }
                }
                _ => {}
            }
        }
    }
}
