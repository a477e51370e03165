//! The leader's agenda: what is taken when, and what becomes of it.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use holdfast::api::Address;
use holdfast::leader::agenda::Wait;
use holdfast::leader::{Agenda, Aspect, Matter, Notice, Write};
use holdfast::translate::finding::{Finding, Reason, Severity};
use holdfast::world::{Kind, ObjectKey, ObjectName};
use tokio::time::Instant;

fn matter(name: &str) -> Matter {
    Matter {
        object: ObjectKey::new(Kind::Ingress, ObjectName::new("default", name)),
        aspect: Aspect::Status,
    }
}

fn address(value: &str) -> Write {
    Write::IngressAddresses(Arc::new([Address::new(value)]))
}

/// What is taken now, and ended at once.
fn drain(agenda: &Agenda) -> Vec<(String, Write)> {
    let mut taken = Vec::new();
    while let Some(turn) = agenda.take(Instant::now()) {
        agenda.done(&turn.matter);
        taken.push((
            turn.matter.object.name.name.to_string(),
            (*turn.write).clone(),
        ));
    }
    taken
}

#[tokio::test]
async fn the_last_value_is_written_in_the_turn_of_the_first() {
    let agenda = Agenda::default();
    agenda.set(matter("a"), address("192.0.2.1"));
    agenda.set(matter("b"), address("192.0.2.2"));
    agenda.set(matter("a"), address("192.0.2.3"));
    assert_eq!(agenda.len(), 2);
    assert_eq!(
        drain(&agenda),
        [
            ("a".to_owned(), address("192.0.2.3")),
            ("b".to_owned(), address("192.0.2.2")),
        ]
    );
}

#[tokio::test]
async fn of_one_matter_one_write_is_done_at_a_time() {
    let agenda = Agenda::default();
    agenda.set(matter("a"), address("192.0.2.1"));
    let turn = agenda.take(Instant::now()).unwrap();
    agenda.set(matter("a"), address("192.0.2.2"));
    assert_eq!(agenda.take(Instant::now()), None);
    agenda.set(matter("b"), address("192.0.2.3"));
    assert_eq!(
        agenda.take(Instant::now()).unwrap().matter,
        matter("b"),
        "others are not held up"
    );
    agenda.done(&turn.matter);
    let next = agenda.take(Instant::now()).unwrap();
    assert_eq!(*next.write, address("192.0.2.2"));
}

#[tokio::test]
async fn what_is_being_written_is_not_written_twice() {
    let agenda = Agenda::default();
    agenda.set(matter("a"), address("192.0.2.1"));
    let turn = agenda.take(Instant::now()).unwrap();
    agenda.set(matter("a"), address("192.0.2.2"));
    agenda.set(matter("a"), address("192.0.2.1"));
    agenda.done(&turn.matter);
    assert_eq!(drain(&agenda), []);
}

#[tokio::test]
async fn what_is_withdrawn_is_not_written_nor_tried_again() {
    let agenda = Agenda::default();
    agenda.set(matter("a"), address("192.0.2.1"));
    agenda.withdraw(&matter("a"));
    assert_eq!(drain(&agenda), []);
    agenda.set(matter("a"), address("192.0.2.1"));
    let turn = agenda.take(Instant::now()).unwrap();
    assert!(agenda.holds(&matter("a")));
    agenda.withdraw(&matter("a"));
    agenda.postpone(turn, Instant::now(), Wait::Fixed);
    assert_eq!(drain(&agenda), []);
    assert!(!agenda.holds(&matter("a")));
}

#[tokio::test(start_paused = true)]
async fn a_failure_waits_for_its_time_and_counts() {
    let agenda = Agenda::default();
    agenda.set(matter("a"), address("192.0.2.1"));
    let turn = agenda.take(Instant::now()).unwrap();
    assert_eq!(turn.failures, 0);
    let due = Instant::now() + Duration::from_secs(3);
    agenda.postpone(turn, due, Wait::Fixed);
    assert_eq!(agenda.take(Instant::now()), None);
    assert_eq!(agenda.next_due(), Some(due));
    assert_eq!(agenda.len(), 1);
    // A newer value waits all the same: it is the server that is unwell.
    agenda.set(matter("a"), address("192.0.2.2"));
    assert_eq!(agenda.take(Instant::now()), None);
    tokio::time::advance(Duration::from_secs(3)).await;
    let turn = agenda.take(Instant::now()).unwrap();
    assert_eq!(turn.failures, 1);
    assert_eq!(*turn.write, address("192.0.2.2"));
    assert_eq!(agenda.next_due(), None);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_waits_until_something_else_is_wanted() {
    let agenda = Agenda::default();
    agenda.set(matter("a"), address("192.0.2.1"));
    let turn = agenda.take(Instant::now()).unwrap();
    let due = Instant::now() + Duration::from_mins(5);
    agenda.postpone(turn, due, Wait::UntilNewer);
    agenda.set(matter("a"), address("192.0.2.1"));
    assert_eq!(
        agenda.take(Instant::now()),
        None,
        "the same is refused again"
    );
    agenda.set(matter("a"), address("192.0.2.2"));
    let turn = agenda.take(Instant::now()).unwrap();
    assert_eq!(turn.failures, 0);
    agenda.done(&turn.matter);
    assert_eq!(agenda.next_due(), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_newer_than_a_failure_counts() {
    for (wait, is_ready) in [(Wait::Fixed, false), (Wait::UntilNewer, true)] {
        let agenda = Agenda::default();
        agenda.set(matter("a"), address("192.0.2.1"));
        let turn = agenda.take(Instant::now()).unwrap();
        agenda.set(matter("a"), address("192.0.2.2"));
        agenda.postpone(turn, Instant::now() + Duration::from_secs(3), wait);
        assert_eq!(agenda.take(Instant::now()).is_some(), is_ready, "{wait:?}");
        if !is_ready {
            tokio::time::advance(Duration::from_secs(3)).await;
            let taken = drain(&agenda);
            assert_eq!(taken, [("a".to_owned(), address("192.0.2.2"))]);
        }
    }
}

#[tokio::test]
async fn another_leader_means_that_nothing_is_left() {
    let agenda = Agenda::default();
    agenda.set(matter("a"), address("192.0.2.1"));
    agenda.set(matter("b"), address("192.0.2.1"));
    agenda.tell(notice("x"));
    let turn = agenda.take(Instant::now()).unwrap();
    agenda.clear();
    agenda.postpone(turn, Instant::now(), Wait::Fixed);
    assert_eq!(drain(&agenda), []);
    assert_eq!(agenda.take_notice(), None);
    // What was not told is told when this replica leads again.
    agenda.tell(notice("x"));
    assert_eq!(agenda.take_notice(), Some(notice("x")));
}

#[tokio::test]
async fn who_waits_is_woken() {
    let agenda = Agenda::default();
    let waiting = {
        let agenda = agenda.clone();
        tokio::spawn(async move {
            agenda.changed().await;
            agenda.told().await;
        })
    };
    agenda.set(matter("a"), address("192.0.2.1"));
    agenda.tell(notice("x"));
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap()
        .unwrap();
}

fn notice(message: &str) -> Notice {
    Notice {
        finding: Finding {
            object: matter("a").object,
            severity: Severity::Error,
            reason: Reason::ServiceNotFound,
            field: "spec".to_owned(),
            message: message.to_owned(),
        },
        uid: 7,
    }
}

#[tokio::test(start_paused = true)]
async fn a_finding_is_told_once_in_ten_minutes() {
    let agenda = Agenda::default();
    agenda.tell(notice("x"));
    agenda.tell(notice("x"));
    assert_eq!(agenda.take_notice(), Some(notice("x")));
    assert_eq!(agenda.take_notice(), None);
    agenda.tell(notice("x"));
    agenda.tell(notice("y"));
    assert_eq!(agenda.take_notice(), Some(notice("y")));
    tokio::time::advance(Duration::from_mins(11)).await;
    agenda.tell(notice("x"));
    assert_eq!(agenda.take_notice(), Some(notice("x")));
}

#[tokio::test(start_paused = true)]
async fn a_finding_that_comes_back_is_told_again_but_not_all_the_time() {
    let agenda = Agenda::default();
    agenda.tell(notice("x"));
    assert_eq!(agenda.take_notice(), Some(notice("x")));
    agenda.resolved(&notice("x"));
    agenda.tell(notice("x"));
    assert_eq!(agenda.take_notice(), None, "it comes and goes");
    agenda.resolved(&notice("x"));
    tokio::time::advance(Duration::from_mins(1)).await;
    agenda.tell(notice("x"));
    assert_eq!(agenda.take_notice(), Some(notice("x")));
    // Resolved before it was told, it is not told.
    agenda.tell(notice("y"));
    agenda.resolved(&notice("y"));
    assert_eq!(agenda.take_notice(), None);
    agenda.tell(notice("y"));
    assert_eq!(agenda.take_notice(), Some(notice("y")));
}

#[tokio::test]
async fn findings_that_nobody_tells_do_not_add_up() {
    let agenda = Agenda::default();
    let given_up: usize = (0..1_500)
        .map(|number| agenda.tell(notice(&number.to_string())))
        .sum();
    assert_eq!(given_up, 500);
    assert_eq!(agenda.take_notice(), Some(notice("500")));
}
