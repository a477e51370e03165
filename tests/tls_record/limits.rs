//! How much keys protect: suites as they are, but for a limit that can be reached.

use std::sync::Arc;
use std::task::Poll;

use holdfast::tls::server::provider;
use rustls::crypto::{CipherSuiteCommon, CryptoProvider};
use rustls::{SupportedCipherSuite, Tls12CipherSuite, Tls13CipherSuite};

use crate::peer::{DATA, HANDSHAKE, Peer};
use crate::wire::{Ends, connect, hear, suites};

const LIMIT: u64 = 10;

fn limited(common: &CipherSuiteCommon) -> CipherSuiteCommon {
    CipherSuiteCommon {
        suite: common.suite,
        hash_provider: common.hash_provider,
        confidentiality_limit: LIMIT,
    }
}

fn ends(suite: SupportedCipherSuite) -> Ends {
    let of_server = match suite {
        SupportedCipherSuite::Tls13(suite) => {
            SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                common: limited(&suite.common),
                ..*suite
            })))
        }
        SupportedCipherSuite::Tls12(suite) => {
            SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
                common: limited(&suite.common),
                ..*suite
            })))
        }
    };
    let of_server = Arc::new(CryptoProvider {
        cipher_suites: vec![of_server],
        ..(*provider()).clone()
    });
    Ends::with(suite.version(), provider(), of_server)
}

#[test]
fn keys_are_changed_before_they_protect_more_than_they_may() {
    for suite in suites().into_iter().filter(|suite| suite.tls13().is_some()) {
        let ends = ends(suite);
        let (mut server, mut peer) = Peer::connect_by(&ends);
        peer.open(&server.wire.take());
        let (mut data, mut updates, mut since) = (0, 0, 0);
        for _ in 0..200 {
            for (kind, _) in peer.open(&server.write(b"x")) {
                match kind {
                    DATA => (data, since) = (data + 1, since + 1),
                    HANDSHAKE => (updates, since) = (updates + 1, 0),
                    kind => panic!("{kind}"),
                }
                assert!(since <= LIMIT);
            }
        }
        assert_eq!((data, updates), (200, 20), "{suite:?}");

        // The same in one write, read by rustls.
        let (mut server, mut client) = connect(&ends);
        let long = vec![7; 1 << 20];
        assert!(hear(&mut client, &server.write(&long)) == long);
    }
}

#[test]
fn a_connection_of_tls_1_2_ends_where_its_keys_may_protect_no_more() {
    for suite in suites().into_iter().filter(|suite| suite.tls13().is_none()) {
        let (mut server, mut client) = connect(&ends(suite));
        let mut said = 0;
        while let Poll::Ready(Ok(1)) = server.poll_write(b"x") {
            assert_eq!(hear(&mut client, &server.wire.take()), b"x");
            said += 1;
            assert!(said <= LIMIT, "{suite:?}");
        }
        assert!(said >= LIMIT - 2, "{suite:?}: {said}");
        assert!(matches!(server.poll_write(b"x"), Poll::Ready(Err(_))));
    }
}
