//! The checks on inputs of proptest's, which shrinks what it finds.

use proptest::collection::vec;
use proptest::prelude::*;

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..most)
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_time: 20_000,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn scanner(input in bytes(300)) {
        crate::scanner::check(&input);
    }

    #[test]
    fn handshake(input in bytes(200)) {
        crate::handshake::check(&input);
    }

    #[test]
    fn extended_connect(input in bytes(200)) {
        crate::extended_connect::check(&input);
    }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn relay(input in bytes(200)) {
        crate::relay::check(&input);
    }

    #[test]
    fn close_injection(input in bytes(200)) {
        crate::close_injection::check(&input);
    }
}
