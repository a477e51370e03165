//! What the protocol demands of records, alerts and ends, with a client that may break it.

use std::io::ErrorKind;
use std::task::Poll;

use rustls::{AlertDescription, Error};

use crate::peer::{
    ALERT, CLOSE_NOTIFY, DATA, HANDSHAKE, KEY_UPDATE, KEY_UPDATE_REQUESTED, Peer, suites,
};
use crate::wire::{End, Ends, Server, connect, hear, say};

/// The client is told why, nothing else is said, and the connection ends without close_notify.
fn assert_refused(server: &mut Server, peer: &mut Peer, alert: AlertDescription) {
    let (_, end) = server.read();
    end.fault();
    let said = peer.open(&server.wire.take());
    assert_eq!(said, [(ALERT, vec![2, alert.into()])], "{end:?}");
    assert_is_broken(server);
}

fn assert_is_broken(server: &mut Server) {
    let (data, end) = server.read();
    assert_eq!(data, b"");
    end.fault();
    match server.poll_write(b"more") {
        Poll::Ready(Err(error)) => assert_eq!(error.kind(), ErrorKind::BrokenPipe),
        other => panic!("{other:?}"),
    }
    assert!(matches!(server.poll_shutdown(), Poll::Ready(Ok(()))));
    assert_eq!(server.wire.take(), b"");
    assert!(server.wire.pipe().shut);
}

fn refused(records: impl FnOnce(&mut Peer) -> Vec<u8>, alert: AlertDescription) {
    let (mut server, mut peer) = Peer::connect();
    let bytes = records(&mut peer);
    server.wire.feed(&bytes);
    assert_refused(&mut server, &mut peer, alert);
}

#[test]
fn padding_is_taken_off() {
    for suite in suites() {
        let (mut server, mut peer) = Peer::connect_with(suite);
        for padding in [0, 1, 2, 15, 16, 255, 256, (1 << 14) - 4] {
            server.wire.feed(&peer.record(DATA, b"data", padding));
            assert_eq!(server.read().0, b"data", "{padding} in {suite:?}");
        }
        // The longest, and zeros at the end of the content are content.
        let content = vec![0; 1 << 14];
        server.wire.feed(&peer.record(DATA, &content, 0));
        assert_eq!(server.read().0, content);
    }
}

#[test]
fn a_changed_record_is_refused_wherever_it_was_changed() {
    for suite in suites() {
        let ends = Ends::of(suite);
        let (_, mut peer) = Peer::connect_by(&ends);
        let length = peer.record(DATA, b"data", 1).len();
        for at in [1, 2].into_iter().chain(5..length) {
            let (mut server, mut peer) = Peer::connect_by(&ends);
            let mut record = peer.record(DATA, b"data", 1);
            record[at] ^= 1;
            server.wire.feed(&record);
            assert_refused(&mut server, &mut peer, AlertDescription::BadRecordMac);
        }
    }
}

#[test]
fn a_record_that_comes_twice_or_in_another_order_is_refused() {
    let bad = AlertDescription::BadRecordMac;
    refused(|peer| peer.record(DATA, b"a", 0).repeat(2), bad);
    refused(
        |peer| {
            let first = peer.record(DATA, b"a", 0);
            [peer.record(DATA, b"b", 0), first].concat()
        },
        bad,
    );
}

#[test]
fn what_came_before_a_bad_record_is_read() {
    let (mut server, mut peer) = Peer::connect();
    server.wire.feed(&peer.record(DATA, b"good", 0));
    server
        .wire
        .feed(&[&[23, 3, 3, 0, 17][..], &[0; 17]].concat());
    let (data, end) = server.read();
    assert_eq!(data, b"good");
    assert_eq!(*end.fault(), Error::DecryptError);
    assert_is_broken_after_alert(&mut server, &mut peer);
}

fn assert_is_broken_after_alert(server: &mut Server, peer: &mut Peer) {
    assert_eq!(peer.open(&server.wire.take()), [(ALERT, vec![2, 20])]);
    assert_is_broken(server);
}

#[test]
fn records_are_not_longer_than_they_may_be() {
    let overflow = AlertDescription::RecordOverflow;
    // Refused by its head: what it claims to be never comes.
    refused(|_| vec![23, 3, 3, 0x41, 1], overflow);
    refused(
        |peer| peer.record(DATA, &vec![1; (1 << 14) + 1], 0),
        overflow,
    );
    refused(|peer| peer.record(DATA, b"", (1 << 14) + 1), overflow);
    let bad = AlertDescription::BadRecordMac;
    refused(|_| vec![23, 3, 3, 0, 0], bad);
    refused(|_| [vec![23, 3, 3, 0, 15], vec![7; 15]].concat(), bad);
}

#[test]
fn what_does_not_belong_here_is_refused() {
    let unexpected = AlertDescription::UnexpectedMessage;
    refused(|_| vec![20, 3, 3, 0, 1, 1], unexpected);
    refused(|_| vec![21, 3, 3, 0, 2, 1, 0], unexpected);
    refused(|_| b"GET / HTTP/1.1\r\n\r\n".to_vec(), unexpected);
    refused(|peer| peer.record(20, &[1], 0), unexpected);
    refused(|peer| peer.record(99, &[1], 0), unexpected);
    refused(|peer| peer.inner(&[]), unexpected);
    refused(|peer| peer.inner(&[0; 9]), unexpected);
    // A ClientHello, a ticket, and a piece without anything in it.
    refused(
        |peer| peer.record(HANDSHAKE, &[1, 0, 0, 2, 3, 3], 0),
        unexpected,
    );
    refused(
        |peer| peer.record(HANDSHAKE, &[4, 0, 0, 1, 0], 0),
        unexpected,
    );
    refused(|peer| peer.record(HANDSHAKE, &[], 0), unexpected);
}

#[test]
fn records_without_data_are_counted() {
    let (mut server, mut peer) = Peer::connect();
    for round in 0..3 {
        for _ in 0..32 {
            server.wire.feed(&peer.record(DATA, b"", round));
        }
        server.wire.feed(&peer.record(DATA, b"data", 0));
        assert_eq!(server.read().0, b"data");
    }
    for _ in 0..33 {
        server.wire.feed(&peer.record(DATA, b"", 0));
    }
    assert_refused(&mut server, &mut peer, AlertDescription::UnexpectedMessage);
}

#[test]
fn a_key_update_changes_the_keys_in_whatever_pieces_it_comes() {
    for suite in suites() {
        let (mut server, mut peer) = Peer::connect_with(suite);
        for pieces in [&[5][..], &[1, 4], &[4, 1], &[2, 3], &[1, 1, 1, 1, 1]] {
            let mut rest = &KEY_UPDATE[..];
            for &piece in pieces {
                server.wire.feed(&peer.record(HANDSHAKE, &rest[..piece], 3));
                assert!(matches!(server.read().1, End::Pending));
                rest = &rest[piece..];
            }
            peer.next_keys();
            server.wire.feed(&peer.record(DATA, b"new keys", 0));
            assert_eq!(server.read().0, b"new keys");
        }
        // None was asked of us.
        let data = (DATA, b"same keys".to_vec());
        assert_eq!(peer.open(&server.write(b"same keys")), [data]);
    }
}

#[test]
fn one_key_update_answers_all_that_asked_for_it() {
    for suite in suites() {
        let (mut server, mut peer) = Peer::connect_with(suite);
        peer.open(&server.wire.take());
        for _ in 0..32 {
            server.wire.feed(&peer.key_update(&KEY_UPDATE_REQUESTED));
        }
        assert!(matches!(server.read().1, End::Pending));
        assert_eq!(
            server.wire.take(),
            b"",
            "the answer comes with the next data"
        );
        let answer = [(HANDSHAKE, KEY_UPDATE.to_vec()), (DATA, b"data".to_vec())];
        assert_eq!(peer.open(&server.write(b"data")), answer);
        let more = (DATA, b"more".to_vec());
        assert_eq!(peer.open(&server.write(b"more")), [more]);
    }
}

#[test]
fn key_updates_without_data_between_are_counted() {
    let (mut server, mut peer) = Peer::connect();
    for _ in 0..33 {
        server.wire.feed(&peer.key_update(&KEY_UPDATE));
    }
    assert_refused(&mut server, &mut peer, AlertDescription::UnexpectedMessage);
}

#[test]
fn a_wrong_key_update_is_refused() {
    let unexpected = AlertDescription::UnexpectedMessage;
    let twice = [KEY_UPDATE, KEY_UPDATE].concat();
    refused(|peer| peer.record(HANDSHAKE, &twice, 0), unexpected);
    let illegal = AlertDescription::IllegalParameter;
    refused(|peer| peer.record(HANDSHAKE, &[24, 0, 0, 1, 2], 0), illegal);
    let malformed = AlertDescription::DecodeError;
    refused(|peer| peer.record(HANDSHAKE, &[24, 0, 0, 2], 0), malformed);
    refused(|peer| peer.record(HANDSHAKE, &[24, 1], 0), malformed);
    // Nothing may come between its pieces.
    refused(
        |peer| [peer.record(HANDSHAKE, &[24], 0), peer.record(DATA, b"x", 0)].concat(),
        unexpected,
    );
    // Protected by the keys that it has given up.
    refused(
        |peer| {
            [
                peer.record(HANDSHAKE, &KEY_UPDATE, 0),
                peer.record(DATA, b"x", 0),
            ]
            .concat()
        },
        AlertDescription::BadRecordMac,
    );
}

#[test]
fn a_clients_alert_is_an_error_with_its_name() {
    for (level, code) in [(2, 40), (1, 40), (2, 20), (2, 70), (2, 200)] {
        let (mut server, mut peer) = Peer::connect();
        server.wire.take();
        server.wire.feed(&peer.record(ALERT, &[level, code], 0));
        let (_, end) = server.read();
        let alert = AlertDescription::from(code);
        assert_eq!(*end.fault(), Error::AlertReceived(alert));
        // It knows.
        assert_is_broken(&mut server);
    }
    let malformed = AlertDescription::DecodeError;
    refused(|peer| peer.record(ALERT, &[2], 0), malformed);
    refused(|peer| peer.record(ALERT, &[2, 40, 2, 40], 0), malformed);
}

#[test]
fn user_canceled_means_nothing_and_close_notify_the_end() {
    let (mut server, mut peer) = Peer::connect();
    peer.open(&server.wire.take());
    server.wire.feed(&peer.record(ALERT, &[1, 90], 0));
    assert!(matches!(server.read().1, End::Pending));
    server.wire.feed(&peer.record(DATA, b"last", 0));
    server.wire.feed(&peer.record(ALERT, &CLOSE_NOTIFY, 0));
    // Not even looked at.
    server.wire.feed(&peer.record(DATA, b"ignored", 0));
    server.wire.feed(b"nonsense");
    let (data, end) = server.read();
    assert_eq!(data, b"last");
    assert!(matches!(end, End::Closed));
    assert!(matches!(server.read().1, End::Closed));
    // RFC 8446 §6.1: our half goes on.
    assert_eq!(
        peer.open(&server.write(b"answer")),
        [(DATA, b"answer".to_vec())]
    );
    assert!(matches!(server.poll_shutdown(), Poll::Ready(Ok(()))));
    let close = (ALERT, CLOSE_NOTIFY.to_vec());
    assert_eq!(peer.open(&server.wire.take()), [close]);
}

#[test]
fn an_end_without_close_notify_is_an_error() {
    let ends = Ends::new(&rustls::version::TLS13);
    let (_, mut peer) = Peer::connect_by(&ends);
    let length = peer.record(DATA, b"data", 0).len();
    for cut in 0..=length {
        let (mut server, mut peer) = Peer::connect_by(&ends);
        let record = peer.record(DATA, b"data", 0);
        server.wire.feed(&record[..cut]);
        server.wire.pipe().ended = true;
        let (data, end) = server.read();
        let whole = if cut == length { &b"data"[..] } else { b"" };
        assert_eq!(data, whole, "at {cut}");
        match end {
            End::Error(error) => assert_eq!(error.kind(), ErrorKind::UnexpectedEof),
            other => panic!("{other:?} at {cut}"),
        }
    }
}

#[test]
fn a_client_that_does_not_read_is_waited_for() {
    for suite in suites() {
        let (mut server, mut peer) = Peer::connect_with(suite);
        peer.open(&server.wire.take());
        server.wire.pipe().room = Some(0);
        let data: Vec<u8> = (0..300_000_u32).map(|at| (at % 241) as u8).collect();
        let (mut at, mut read) = (0, Vec::new());
        let mut waits = 0;
        while at < data.len() {
            match server.poll_write(&data[at..]) {
                Poll::Ready(taken) => at += taken.unwrap(),
                Poll::Pending => {
                    waits += 1;
                    assert!(at - read.len() <= 96 << 10, "bounded");
                    server.wire.pipe().room = Some(5_000);
                    let _ = server.poll_flush();
                    for (kind, content) in peer.open(&server.wire.take()) {
                        assert_eq!(kind, DATA);
                        read.extend(content);
                    }
                }
            }
        }
        server.wire.pipe().room = None;
        assert!(matches!(server.poll_flush(), Poll::Ready(Ok(()))));
        for (_, content) in peer.open(&server.wire.take()) {
            read.extend(content);
        }
        assert!(waits > 10 && read == data, "{suite:?}");
    }
}

#[test]
fn what_a_client_has_said_is_read_where_it_takes_nothing_any_more() {
    let (mut server, mut peer) = Peer::connect();
    peer.open(&server.wire.take());
    server.wire.feed(&peer.record(DATA, b"last words", 0));
    server.wire.pipe().room = Some(3);
    assert!(matches!(server.poll_write(b"cut"), Poll::Ready(Ok(3))));
    server.wire.pipe().broken = true;
    assert!(matches!(server.poll_flush(), Poll::Ready(Err(_))));
    assert_eq!(server.read().0, b"last words");
    // Behind a part of a record nothing could be understood.
    server.wire.pipe().broken = false;
    server.wire.pipe().room = None;
    server.wire.take();
    assert!(matches!(server.poll_write(b"more"), Poll::Ready(Err(_))));
    assert!(matches!(server.poll_shutdown(), Poll::Ready(Ok(()))));
    assert_eq!(server.wire.take(), b"");
}

#[test]
fn a_record_of_tls_1_2_that_cannot_be_is_refused() {
    let (mut server, mut client) = connect(&Ends::new(&rustls::version::TLS12));
    server.wire.feed(&say(&mut client, b"data"));
    assert_eq!(server.read().0, b"data");
    assert_eq!(hear(&mut client, &server.write(b"answer")), b"answer");
    // A ClientHello without protection.
    server.wire.feed(&[22, 3, 3, 0, 4, 1, 0, 0, 0]);
    assert_eq!(*server.read().1.fault(), Error::DecryptError);
    assert_is_broken_silently(&mut server);
}

fn assert_is_broken_silently(server: &mut Server) {
    assert!(!server.wire.take().is_empty(), "an alert");
    assert_is_broken(server);
}

#[test]
fn a_ticket_resumes_a_session() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let ends = Ends::new(version);
        let (mut server, mut client) = connect(&ends);
        assert_eq!(client.handshake_kind(), Some(rustls::HandshakeKind::Full));
        server.wire.feed(&say(&mut client, b"first"));
        assert_eq!(server.read().0, b"first");
        for _ in 0..2 {
            let (mut server, mut client) = connect(&ends);
            let resumed = Some(rustls::HandshakeKind::Resumed);
            assert_eq!(client.handshake_kind(), resumed, "{version:?}");
            server.wire.feed(&say(&mut client, b"again"));
            assert_eq!(server.read().0, b"again");
            assert_eq!(hear(&mut client, &server.write(b"yes")), b"yes");
        }
    }
}
