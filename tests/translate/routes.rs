//! Random routes and requests, and what the rules of Ingress v1 say of them.

use holdfast::world::Object;
use holdfast::{api, world};
use k8s_openapi::api::networking::v1 as networking;
use proptest::prelude::*;

use crate::worlds::{kind, meta, one_of};

/// A route as declared: host, kind and path; without a kind a default backend, which with the host
/// `-` is the one of the whole table.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    host: String,
    kind: Option<String>,
    path: String,
}

pub(crate) fn declared_route() -> impl Strategy<Value = Declared> {
    let host = one_of(&["", "a.b", "*.b", "x.a.b", "*.a.b", "b", "-"]);
    (host, prop::option::weighted(0.9, kind()), declared_path()).prop_map(|(host, kind, path)| {
        Declared {
            kind: kind.filter(|_| host != "-"),
            host,
            path,
        }
    })
}

fn declared_path() -> impl Strategy<Value = String> {
    one_of(&[
        "/", "/a", "/a/", "/a/b", "/a/b/", "/ab", "/a/b/c", "//", "/a//b", "/%61", "/a%2fb", "/é",
    ])
}

pub(crate) fn request_host() -> impl Strategy<Value = Option<String>> {
    prop::option::weighted(
        0.9,
        one_of(&["a.b", "x.a.b", "y.a.b", "c.b", "b", "x.y.a.b", "z", ".b"]),
    )
}

/// Paths in normal form.
pub(crate) fn request_path() -> impl Strategy<Value = String> {
    one_of(&[
        "/", "/a", "/a/", "/a/b", "/a/bc", "/a/b/", "/ab", "/abc", "/a/b/c", "/a/b/c/d", "//",
        "//a", "/a//b", "/a//b/c", "/a%2Fb", "/a%2Fb/c", "/%C3%A9", "/b",
    ])
}

/// An Ingress for each route, the first one the oldest, on the built-in load balancer.
pub(crate) fn one_ingress_a_route(routes: &[Declared]) -> Vec<Object> {
    let class = world::IngressClass {
        meta: meta("", "holdfast", 0),
        spec: networking::IngressClassSpec {
            controller: Some(api::CONTROLLER.to_owned()),
            parameters: None,
        },
    };
    let mut objects = vec![Object::IngressClass(class.into())];
    for (index, declared) in routes.iter().enumerate() {
        let backend = networking::IngressBackend::default();
        let paths = declared
            .kind
            .iter()
            .map(|kind| networking::HTTPIngressPath {
                backend: backend.clone(),
                path: Some(declared.path.clone()),
                path_type: kind.clone(),
            })
            .collect();
        let rule = networking::IngressRule {
            host: Some(declared.host.clone()),
            http: Some(networking::HTTPIngressRuleValue { paths }),
        };
        let spec = networking::IngressSpec {
            default_backend: Some(backend).filter(|_| declared.kind.is_none()),
            ingress_class_name: Some("holdfast".to_owned()),
            rules: Some(vec![rule]).filter(|_| declared.host != "-"),
            tls: None,
        };
        // Names go against age, so that age is seen to decide.
        let name = format!("i{:02}", 99 - index);
        let meta = meta("n", &name, i64::try_from(index).unwrap());
        objects.push(Object::Ingress(
            world::Ingress {
                meta,
                spec,
                status: world::StatusMark::default(),
            }
            .into(),
        ));
    }
    objects
}

/// What the rules of Ingress v1 say, step by step: the name of the Ingress that serves a request.
pub(crate) fn walk(
    routes: &[Declared],
    host: Option<&str>,
    path: &str,
) -> Result<String, &'static str> {
    let name = |index: usize| Ok(format!("i{:02}", 99 - index));
    let specificity = |declared: &str| match (declared, host) {
        ("-", _) => None,
        ("", _) => Some(0),
        (declared, Some(host)) if declared == host => Some(2),
        (declared, Some(host)) => {
            let wanted: Vec<&str> = declared.split('.').collect();
            let given: Vec<&str> = host.split('.').collect();
            let is_covered = wanted.len() == given.len()
                && wanted.first() == Some(&"*")
                && !given.first().is_none_or(|label| label.is_empty())
                && wanted.iter().zip(&given).skip(1).all(|(a, b)| a == b);
            is_covered.then_some(1)
        }
        _ => None,
    };
    let best = routes
        .iter()
        .filter_map(|declared| specificity(&declared.host))
        .max();
    let fallback = routes.iter().position(|declared| declared.host == "-");
    if let Some(best) = best {
        let of_host: Vec<(usize, &Declared)> = routes
            .iter()
            .enumerate()
            .filter(|(_, declared)| specificity(&declared.host) == Some(best))
            .collect();
        let normal = |declared: &Declared| {
            declared
                .path
                .replace("%61", "a")
                .replace("%2f", "%2F")
                .replace('é', "%C3%A9")
        };
        let exact = of_host.iter().find(|(_, declared)| {
            declared.kind.as_deref() == Some("Exact") && normal(declared) == path
        });
        if let Some((index, _)) = exact {
            return name(*index);
        }
        let given: Vec<&str> = path.split('/').collect();
        let mut matching: Vec<(usize, bool, usize)> = Vec::new();
        for (index, declared) in &of_host {
            let Some(kind @ ("Prefix" | "ImplementationSpecific")) = declared.kind.as_deref()
            else {
                continue;
            };
            let normal = normal(declared);
            let wanted: Vec<&str> = normal.trim_end_matches('/').split('/').collect();
            if given.starts_with(&wanted) {
                matching.push((wanted.len(), kind == "Prefix", *index));
            }
        }
        // The longest; then Prefix; then the oldest.
        matching.sort_by_key(|&(length, is_prefix, index)| {
            (std::cmp::Reverse(length), !is_prefix, index)
        });
        if let Some((_, _, index)) = matching.first() {
            return name(*index);
        }
        if let Some((index, _)) = of_host.iter().find(|(_, declared)| declared.kind.is_none()) {
            return name(*index);
        }
    }
    match (fallback, best) {
        (Some(index), _) => name(index),
        (None, Some(_)) => Err("no path"),
        (None, None) => Err("no host"),
    }
}
