//! The election.

use std::time::Duration;

use holdfast::leader::lease::RETIRED_ANNOTATION;
use serde_json::json;
use tokio::time::Instant;

use crate::api_server::{ApiServer, Fault, Rule};
use crate::controller::limited;
use crate::harness::soon;
use crate::leader::{LEASE, NAMESPACE, Replica, holder, stored_lease};

#[tokio::test]
async fn one_of_two_leads_and_keeps_the_lease() {
    limited(async {
        let server = ApiServer::start().await;
        let one = Replica::leader(&server).await;
        let other = Replica::start(&server, "other");
        let lease = stored_lease(&server).unwrap();
        assert_eq!(lease["spec"]["holderIdentity"], "one");
        assert_eq!(lease["spec"]["leaseDurationSeconds"], 1);
        assert_eq!(lease["spec"]["leaseTransitions"], 0);
        soon("renewed for longer than its duration", async || {
            let updates = server.count("update", "leases");
            (updates > 15).then_some(())
        })
        .await;
        assert!(one.is_leading());
        assert!(!other.is_leading());
        let now = stored_lease(&server).unwrap();
        assert_eq!(now["spec"]["acquireTime"], lease["spec"]["acquireTime"]);
        assert_ne!(now["spec"]["renewTime"], lease["spec"]["renewTime"]);
        assert_eq!(now["spec"]["leaseTransitions"], 0);
    })
    .await;
}

#[tokio::test]
async fn after_a_crash_another_leads_when_the_lease_has_run_out_and_not_before() {
    limited(async {
        let server = ApiServer::start().await;
        let one = Replica::leader(&server).await;
        let other = Replica::start(&server, "other");
        soon("it has seen the holder", async || {
            (server.count("get", "leases") > 3).then_some(())
        })
        .await;
        let killed = Instant::now();
        one.kill();
        other.becomes_leader().await;
        let taken = killed.elapsed();
        assert!(taken > Duration::from_millis(600), "{taken:?}");
        assert!(taken < Duration::from_secs(3), "{taken:?}");
        assert_eq!(holder(&server).unwrap(), "other");
        let lease = stored_lease(&server).unwrap();
        assert_eq!(lease["spec"]["leaseTransitions"], 1);
    })
    .await;
}

#[tokio::test]
async fn after_a_clean_end_another_leads_at_once() {
    limited(async {
        let server = ApiServer::start().await;
        // Longer than this test may take: it is given away, not run out.
        let mut replicas = ["one", "other"].map(|identity| {
            Replica::start_with(&server, identity, |settings| {
                settings.lease.duration = Duration::from_mins(2);
            })
        });
        let first = soon("one leads", async || {
            replicas.iter().position(Replica::is_leading)
        })
        .await;
        replicas.rotate_left(first);
        let [one, other] = replicas;
        one.end().await;
        other.becomes_leader().await;
        let lease = stored_lease(&server).unwrap();
        assert_eq!(lease["spec"]["leaseTransitions"], 1);
        other.end().await;
        assert_eq!(holder(&server).unwrap(), "");
    })
    .await;
}

#[tokio::test]
async fn a_leader_that_cannot_renew_stops_before_another_begins() {
    limited(async {
        let server = ApiServer::start().await;
        let one = Replica::leader(&server).await;
        let mut leading = one.leads.leading.clone();
        // Taken, and never answered: its renewals hang.
        server.script(Rule::on("update", "leases", Fault::Hang));
        let hanging = Instant::now();
        leading.wait_for(|leading| !*leading).await.unwrap();
        let stopped = hanging.elapsed();
        assert!(stopped < Duration::from_millis(900), "{stopped:?}");
        assert_eq!(holder(&server).unwrap(), "one");
        server.behave();
        one.becomes_leader().await;
    })
    .await;
}

#[tokio::test]
async fn a_deleted_lease_is_made_again_by_its_holder() {
    limited(async {
        let server = ApiServer::start().await;
        let one = Replica::leader(&server).await;
        let other = Replica::start(&server, "other");
        soon("it has seen the holder", async || {
            (server.count("get", "leases") > 3).then_some(())
        })
        .await;
        let mut leading = one.leads.leading.clone();
        leading.mark_unchanged();
        server.remove("Lease", NAMESPACE, LEASE);
        soon("made again", async || holder(&server)).await;
        assert_eq!(holder(&server).unwrap(), "one");
        assert!(!leading.has_changed().unwrap());
        assert!(!other.is_leading());
    })
    .await;
}

#[tokio::test]
async fn somebody_elses_change_of_the_lease_does_not_end_the_lead() {
    limited(async {
        let server = ApiServer::start().await;
        let one = Replica::leader(&server).await;
        let mut leading = one.leads.leading.clone();
        leading.mark_unchanged();
        for round in 0..5 {
            let mut lease = stored_lease(&server).unwrap();
            lease["metadata"]["labels"] = json!({"round": round.to_string()});
            server.put(lease);
            let renewals = server.count("update", "leases");
            soon("renewed again", async || {
                (server.count("update", "leases") > renewals + 2).then_some(())
            })
            .await;
        }
        assert!(!leading.has_changed().unwrap());
        let lease = stored_lease(&server).unwrap();
        assert_eq!(lease["metadata"]["labels"]["round"], "4");
    })
    .await;
}

#[tokio::test]
async fn nobody_leads_while_the_lease_is_retired() {
    limited(async {
        let server = ApiServer::start().await;
        let one = Replica::leader(&server).await;
        let other = Replica::start(&server, "other");
        let mut lease = stored_lease(&server).unwrap();
        lease["metadata"]["annotations"] = json!({RETIRED_ANNOTATION: "now"});
        server.put(lease);
        one.becomes(false).await;
        soon("given away", async || {
            (holder(&server).unwrap().is_empty()).then_some(())
        })
        .await;
        // Deleted, as at the end of an uninstallation: they do not make it anew.
        server.remove("Lease", NAMESPACE, LEASE);
        server.forget_requests();
        soon("both have looked", async || {
            (server.count("get", "leases") > 6).then_some(())
        })
        .await;
        assert!(!one.is_leading() && !other.is_leading());
        assert_eq!(stored_lease(&server), None);
        // The uninstallation has been given up.
        soon("one leads again", async || {
            (one.is_leading() || other.is_leading()).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_retirement_that_nobody_renews_is_a_leftover() {
    limited(async {
        let server = ApiServer::start().await;
        server.put(json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": LEASE,
                "namespace": NAMESPACE,
                "annotations": {RETIRED_ANNOTATION: "long ago"},
            },
            "spec": {"holderIdentity": ""},
        }));
        let one = Replica::leader(&server).await;
        let lease = stored_lease(&server).unwrap();
        assert_eq!(lease["metadata"]["annotations"], json!({}));
        assert!(one.is_leading());
    })
    .await;
}

#[tokio::test]
async fn what_keeps_a_replica_from_the_lease_is_told() {
    limited(async {
        let server = ApiServer::start().await;
        server.script(Rule::on(
            "get",
            "leases",
            Fault::status(403, "leases is forbidden"),
        ));
        let one = Replica::start(&server, "one");
        let problem = one
            .has_problem(&["writing leases", "leases is forbidden"])
            .await;
        assert!(problem.ends_with("[WriteForbidden]"), "{problem}");
        server.behave();
        one.becomes_leader().await;
        one.has_no_problem().await;
    })
    .await;
}

/// Three replicas, and a server that fails, hangs and answers late as chance will have it.
#[tokio::test]
async fn two_never_lead_at_a_time_whatever_the_server_does() {
    limited(async {
        let server = ApiServer::start().await;
        let mut random = fastrand::Rng::with_seed(7);
        let mut replicas: Vec<Replica> = (0..3)
            .map(|number| Replica::start(&server, &format!("replica-{number}")))
            .collect();
        let end = Instant::now() + Duration::from_secs(12);
        let mut leaders = 0;
        let mut last = None;
        let mut next_fault = Instant::now();
        let mut next_crash = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            let leading: Vec<usize> = (0..replicas.len())
                .filter(|&number| replicas[number].is_leading())
                .collect();
            assert!(leading.len() <= 1, "{leading:?} lead");
            let leader = leading.first().copied();
            if leader.is_some() && leader != last {
                leaders += 1;
            }
            last = leader;
            if Instant::now() > next_fault {
                next_fault += Duration::from_millis(random.u64(50..400));
                if random.u8(..4) == 0 {
                    server.behave();
                }
                let verb = ["get", "update", "create"][random.usize(..3)];
                let late = Duration::from_millis(random.u64(50..1500));
                let fault = match random.u8(..6) {
                    0 => Fault::Hang,
                    1 => Fault::Reset,
                    2 => Fault::status(500, "no"),
                    3 => Fault::status(409, "no"),
                    _ => Fault::Late(late),
                };
                server.script(Rule::on(verb, "leases", fault).times(random.usize(1..4)));
            }
            if let Some(leader) = leader
                && Instant::now() > next_crash
            {
                next_crash = Instant::now() + Duration::from_secs(2);
                replicas[leader].kill();
                let identity = format!("replica-{}", random.u32(..));
                replicas[leader] = Replica::start(&server, &identity);
                last = None;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(leaders > 2, "only {leaders} have led");
        server.behave();
        soon("one leads", async || {
            replicas.iter().any(Replica::is_leading).then_some(())
        })
        .await;
    })
    .await;
}
