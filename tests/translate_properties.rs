//! What holds of every world.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "translate/routes.rs"]
mod routes;
#[path = "translate/support.rs"]
#[allow(dead_code, reason = "each test program uses its part of this file")]
mod support;
#[path = "translate/worlds.rs"]
mod worlds;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast::routing::{HostTable, Match, Snapshot, UpstreamId};
use holdfast::translate::{Finding, Settings, Translation, Translator};
use holdfast::world::{Change, Delta, Kind, Object, ObjectKey, World};
use proptest::prelude::*;
use proptest::sample::Index;

fn translate(world: &World) -> Translation {
    Translator::new(Settings::default()).translate(world, &[])
}

/// Objects with a name of their own each.
fn distinct(objects: Vec<Object>) -> Vec<Object> {
    let by_key: BTreeMap<ObjectKey, Object> = objects
        .into_iter()
        .map(|object| (object.key(), object))
        .collect();
    by_key.into_values().collect()
}

#[derive(Clone, Debug)]
enum Step {
    Apply(Object),
    /// Deletes the object that an earlier or later step applies, if it is there.
    Delete(Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => worlds::object().prop_map(Step::Apply),
        1 => any::<Index>().prop_map(Step::Delete),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// The order in which objects arrive does not matter.
    #[test]
    fn order_does_not_matter(
        (objects, shuffled) in prop::collection::vec(worlds::object(), 0..25)
            .prop_map(distinct)
            .prop_flat_map(|objects| (Just(objects.clone()), Just(objects).prop_shuffle()))
    ) {
        let one = translate(&support::world(objects));
        let other = translate(&support::world(shuffled));
        prop_assert_eq!(one.snapshot, other.snapshot);
        prop_assert_eq!(one.findings, other.findings);
        prop_assert_eq!(one.entering, other.entering);
    }

    /// A translator that has seen every change answers as one that sees the world for the first
    /// time.
    #[test]
    fn a_translator_remembers_nothing_that_matters(
        batches in prop::collection::vec(prop::collection::vec(step(), 1..4), 1..25)
    ) {
        let keys: Vec<ObjectKey> = batches
            .iter()
            .flatten()
            .filter_map(|step| match step {
                Step::Apply(object) => Some(object.key()),
                Step::Delete(_) => None,
            })
            .collect();
        let mut world = World::default();
        let mut translator = Translator::new(Settings::default());
        let mut upstreams: BTreeSet<Arc<UpstreamId>> = BTreeSet::new();
        for batch in batches {
            let mut changed = Vec::new();
            for step in batch {
                let delta = match step {
                    Step::Apply(object) => Delta::Apply(object),
                    Step::Delete(_) if keys.is_empty() => continue,
                    Step::Delete(index) => Delta::Delete(index.get(&keys).clone()),
                };
                for change in world.apply(delta) {
                    if let Change::Object(key) = change {
                        changed.push(key);
                    }
                }
            }
            let warm = translator.translate(&world, &changed);
            let fresh = translate(&world);
            prop_assert_eq!(&warm.snapshot, &fresh.snapshot);
            prop_assert_eq!(warm.findings, fresh.findings);
            for upstream in warm.leaving {
                prop_assert!(upstreams.remove(&upstream), "{} left twice", upstream);
            }
            for upstream in warm.entering {
                prop_assert!(upstreams.insert(upstream));
            }
            prop_assert_eq!(&upstreams, &named(&fresh.snapshot));
            prop_assert!(fresh.entering.iter().eq(&upstreams));
            for service in world.services().keys() {
                let found: Vec<_> = translator.upstreams_of(service).collect();
                let expected: Vec<_> = upstreams
                    .iter()
                    .filter(|upstream| {
                        upstream.namespace == service.namespace && upstream.service == service.name
                    })
                    .collect();
                prop_assert_eq!(found, expected);
            }
        }
    }

    /// Breaking an object takes nothing from any other.
    #[test]
    fn a_broken_object_harms_no_other(
        objects in prop::collection::vec(worlds::object(), 1..25).prop_map(distinct),
        victim in any::<Index>(),
        breakage in worlds::breakage(),
    ) {
        let world = support::world(objects.clone());
        let victim = victim.get(&objects);
        let Some(broken) = worlds::break_object(victim, breakage) else {
            return Ok(());
        };
        let mut damaged = world.clone();
        damaged.apply(Delta::Apply(broken));
        let (before, after) = (translate(&world), translate(&damaged));
        let key = victim.key();
        let others = |snapshot: &Snapshot| -> BTreeSet<_> {
            support::routes(snapshot)
                .into_iter()
                .filter(|(_, origin, _)| *origin != key.to_string())
                .collect()
        };
        let (held, left) = (others(&before.snapshot), others(&after.snapshot));
        if key.kind == Kind::Secret {
            prop_assert_eq!(&held, &left);
        }
        let lost: Vec<_> = held.difference(&left).collect();
        prop_assert!(lost.is_empty(), "lost {lost:?}");
        // Certificates of names that the victim has nothing to do with.
        for (id, listener) in &before.snapshot.listeners {
            let now = after.snapshot.listeners.get(id);
            // The built-in load balancer goes with the last who uses it.
            if id.namespace.is_empty() && now.is_none() {
                continue;
            }
            prop_assert!(now.is_some(), "listener {id} is gone");
            if key.kind == Kind::Ingress {
                let Object::Ingress(ingress) = victim else { unreachable!() };
                let named: BTreeSet<String> = ingress.spec.tls.iter().flatten()
                    .flat_map(|block| block.hosts.iter().flatten().cloned()).collect();
                let is_open = ingress.spec.tls.iter().flatten().any(|block| block.hosts.is_none());
                for (name, certificate) in listener.certificates.exact.iter() {
                    if !is_open && !named.contains(&**name) {
                        let now = now.and_then(|now| now.certificates.exact.find(name));
                        prop_assert_eq!(Some(certificate), now);
                    }
                }
            }
        }
        // Objects that do not name the victim have no new findings.
        let of = |findings: &[Finding]| -> BTreeSet<Finding> {
            findings.iter().filter(|finding| finding.object != key).cloned().collect()
        };
        if key.kind == Kind::Ingress {
            let new: Vec<_> = of(&after.findings).difference(&of(&before.findings)).cloned().collect();
            // A place that the victim leaves may be contested anew among the others.
            prop_assert!(
                new.iter().all(|finding| finding.reason.as_str().ends_with("Conflict")),
                "{new:?}"
            );
        }
    }

    /// The lookup is what one gets by walking through all declared routes.
    #[test]
    fn lookup_equals_a_walk_over_all_routes(
        declared in prop::collection::vec(routes::declared_route(), 0..30),
        requests in prop::collection::vec((routes::request_host(), routes::request_path()), 1..30),
    ) {
        let objects = routes::one_ingress_a_route(&declared);
        let translation = translate(&support::world(objects));
        let empty = HostTable::default();
        let table = translation
            .snapshot
            .listeners
            .values()
            .next()
            .map_or(&empty, |listener| &*listener.hosts);
        for (host, path) in &requests {
            let found = match table.find(host.as_deref(), path) {
                Match::Route(route) => Ok(route.id.origin.name.to_string()),
                Match::NoPath => Err("no path"),
                Match::NoHost => Err("no host"),
            };
            let expected = routes::walk(&declared, host.as_deref(), path);
            prop_assert_eq!(found, expected, "{:?} {}", host, path);
        }
    }
}

fn named(snapshot: &Snapshot) -> BTreeSet<Arc<UpstreamId>> {
    snapshot
        .listeners
        .values()
        .flat_map(|listener| listener.hosts.routes())
        .flat_map(|route| &route.backends)
        .filter_map(|backend| backend.target.as_ref().ok())
        .cloned()
        .collect()
}
