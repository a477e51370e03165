//! Records cut at every byte, in both directions.

use std::task::Poll;

use crate::wire::{End, Ends, Server, connect, hear, said, say, suites};

/// What a client sends: data, new keys (asked of us as well), data, its end.
fn stream(client: &mut rustls::ClientConnection) -> Vec<u8> {
    let mut bytes = say(client, b"before");
    if client.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3) {
        client.refresh_traffic_keys().unwrap();
        bytes.extend(said(client));
        client.refresh_traffic_keys().unwrap();
    }
    bytes.extend(say(client, b" and after"));
    client.send_close_notify();
    bytes.extend(said(client));
    bytes
}

#[test]
fn a_clients_records_may_be_cut_anywhere() {
    for suite in suites() {
        let ends = Ends::of(suite);
        let mut length = 1;
        let mut cut = 0;
        while cut <= length {
            let (mut server, mut client) = connect(&ends);
            let bytes = stream(&mut client);
            length = bytes.len();
            let (head, tail) = bytes.split_at(cut.min(length));
            server.wire.feed(head);
            let (mut data, end) = server.read();
            assert_eq!(
                matches!(end, End::Closed),
                tail.is_empty(),
                "{suite:?} at {cut}: {end:?}"
            );
            server.wire.feed(tail);
            let (more, end) = server.read();
            data.extend(more);
            assert!(matches!(end, End::Closed), "{suite:?} at {cut}: {end:?}");
            assert_eq!(data, b"before and after", "{suite:?} at {cut}");
            // Its end is not ours, and it has asked for new keys twice.
            assert_eq!(hear(&mut client, &server.write(b"answer")), b"answer");
            assert_eq!(hear(&mut client, &server.write(b" again")), b" again");
            cut += 1;
        }
        assert!(length > 60);
    }
}

#[test]
fn a_clients_records_may_come_byte_by_byte() {
    for suite in suites() {
        let (mut server, mut client) = connect(&Ends::of(suite));
        let mut data = Vec::new();
        for byte in stream(&mut client) {
            server.wire.feed(&[byte]);
            while let Ok(more) = server.read_once(1) {
                data.extend(more);
            }
        }
        assert!(matches!(server.read_once(1), Err(End::Closed)));
        assert_eq!(data, b"before and after", "{suite:?}");
    }
}

#[test]
fn large_data_goes_into_readers_of_any_size() {
    let data: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    for suite in suites() {
        for room in [1_000, 8 << 10, 16 << 10, 32 << 10, 1 << 20] {
            let (mut server, mut client) = connect(&Ends::of(suite));
            server.wire.feed(&say(&mut client, &data));
            let mut read = Vec::new();
            while let Ok(more) = server.read_once(room) {
                assert!(more.len() <= room);
                read.extend(more);
            }
            assert!(read == data, "{suite:?} by {room}");
        }
    }
}

#[test]
fn our_records_may_be_cut_anywhere() {
    for suite in suites() {
        let ends = Ends::of(suite);
        let tls13 = suite.tls13().is_some();
        for cut in 0.. {
            let (mut server, mut client) = connect(&ends);
            if tls13 {
                // So that a KeyUpdate of ours is among them.
                client.refresh_traffic_keys().unwrap();
                server.wire.feed(&said(&mut client));
                assert!(matches!(server.read().1, End::Pending));
            }
            hear(&mut client, &server.wire.take());
            server.wire.pipe().room = Some(cut);
            assert!(matches!(server.poll_write(b"hello"), Poll::Ready(Ok(5))));
            let head = server.wire.take();
            let mut data = hear(&mut client, &head);
            let flushed = server.poll_flush();
            server.wire.pipe().room = None;
            data.extend(hear(&mut client, &server.wire.take()));
            assert!(matches!(server.poll_flush(), Poll::Ready(Ok(()))));
            data.extend(hear(&mut client, &server.wire.take()));
            assert_eq!(data, b"hello", "{suite:?} at {cut}, {flushed:?}");
            data.clear();
            data.extend(hear(&mut client, &server.write(b" world")));
            assert_eq!(data, b" world", "{suite:?} at {cut}");
            if head.len() < cut {
                assert!(cut > 26, "{suite:?}: {cut}");
                break;
            }
        }
    }
}

#[test]
fn our_end_may_be_cut_anywhere() {
    for cut in 0..=24 {
        let (mut server, mut client) = connect(&Ends::new(&rustls::version::TLS13));
        server.wire.pipe().room = Some(cut);
        while server.poll_shutdown().is_pending() {
            assert!(!server.wire.pipe().shut, "before all is said");
            hear(&mut client, &server.wire.take());
            server.wire.pipe().room = Some(1);
        }
        hear(&mut client, &server.wire.take());
        assert!(server.wire.pipe().shut);
        assert!(client.process_new_packets().unwrap().peer_has_closed());
        assert_is_over(&mut server);
    }
}

/// Nothing is said behind close_notify, and it is said once.
fn assert_is_over(server: &mut Server) {
    server.wire.pipe().room = None;
    assert!(matches!(server.poll_write(b"more"), Poll::Ready(Err(_))));
    assert!(matches!(server.poll_shutdown(), Poll::Ready(Ok(()))));
    assert_eq!(server.wire.take(), b"");
}
