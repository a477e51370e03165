//! Ends that the policy asks for, at every offset of a conversation, with pings of the proxy's on
//! their way: each peer gets what was due to it, the ping, and a Close that says why.

use std::time::Duration;

use holdfast::routing::{Keepalive, MaxAge, MessageLimits};
use holdfast::websocket::{By, Cause, Outcome, RelayConfig, Side};
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use crate::endings::{boundary_from, conversation};
use crate::strict::{close, parse, write};
use crate::tunnels::{Tunnel, all, ended, exactly, told, tunnel};

const SECOND: Duration = Duration::from_secs(1);
/// The proxy pings after 18 to 20 seconds of silence, and gives up 10 seconds later.
const PINGED: Duration = Duration::from_secs(21);
const GIVEN_UP: Duration = Duration::from_secs(31);

fn pinging(client: bool, pod: bool) -> RelayConfig {
    RelayConfig {
        keepalive: Some(Keepalive {
            interval: 20 * SECOND,
            timeout: 10 * SECOND,
            client,
            pod,
        }),
        ..RelayConfig::default()
    }
}

fn aging(duration: Duration, config: RelayConfig) -> RelayConfig {
    RelayConfig {
        max_age: Some(MaxAge {
            duration,
            jitter_percent: 0,
        }),
        ..config
    }
}

/// Closes a client that sends more than so many bytes in a second.
fn pacing(bytes: usize, config: RelayConfig) -> RelayConfig {
    RelayConfig {
        limits: MessageLimits {
            bytes_per_second: Some(bytes as u64),
            closes: true,
            ..MessageLimits::default()
        },
        ..config
    }
}

/// What is said in either direction.
struct Talk {
    up: (Vec<u8>, Vec<usize>),
    down: (Vec<u8>, Vec<usize>),
}

impl Talk {
    fn new() -> Self {
        Self {
            up: conversation(Side::Pod),
            down: conversation(Side::Client),
        }
    }

    fn toward(&self, side: Side) -> &(Vec<u8>, Vec<usize>) {
        match side {
            Side::Pod => &self.up,
            Side::Client => &self.down,
        }
    }

    /// Says so much of it in either direction, and sees it arrive.
    async fn begin(&self, t: &mut Tunnel, at: [usize; 2]) -> [Vec<u8>; 2] {
        t.client.write_all(&self.up.0[..at[0]]).await.unwrap();
        t.pod.write_all(&self.down.0[..at[1]]).await.unwrap();
        let at_pod = exactly(&mut t.pod_hears, at[0]).await;
        [at_pod, exactly(&mut t.client_hears, at[1]).await]
    }

    /// Goes on, as peers that have not heard of the end yet, then closes with the codes that the
    /// client and the pod are told.
    async fn finish(
        &self,
        mut t: Tunnel,
        at: [usize; 2],
        got: [Vec<u8>; 2],
        codes: [u16; 2],
    ) -> Ended {
        let [mut at_pod, mut at_client] = got;
        // The end may have come, with the end of the stream.
        drop(t.client.write_all(&self.up.0[at[0]..]).await);
        drop(t.client.write_all(&close(Side::Pod, codes[0])).await);
        // So that the client has been heard first.
        sleep(Duration::from_millis(1)).await;
        drop(t.pod.write_all(&self.down.0[at[1]..]).await);
        drop(t.pod.write_all(&close(Side::Client, codes[1])).await);
        drop(t.pod.shutdown().await);
        at_client.extend(all(t.client_hears).await);
        drop(t.client.shutdown().await);
        at_pod.extend(all(t.pod_hears).await);
        Ended {
            at_pod,
            at_client,
            outcome: ended(t.relay).await,
        }
    }
}

struct Ended {
    at_pod: Vec<u8>,
    at_client: Vec<u8>,
    outcome: Outcome,
}

impl Ended {
    /// That this side got its stream up to here, so many pings, a Close of this code, no more.
    fn assert_told(&self, to: Side, talk: &Talk, until: usize, pings: usize, code: u16) {
        let got = match to {
            Side::Pod => &self.at_pod,
            Side::Client => &self.at_client,
        };
        let context = format!("{to:?}, {until} bytes, {:?}", self.outcome);
        assert_eq!(got[..until], talk.toward(to).0[..until], "{context}");
        let whole = parse(to, got).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!((told(&whole), whole.torn), (Some(code), 0), "{context}");
        let own_words = parse(to, &got[until..]).unwrap().frames;
        assert_eq!(own_words.len(), pings + 1, "{context}: {own_words:?}");
        let is_ping = |frame: &crate::strict::Frame| (frame.opcode, frame.payload.len()) == (9, 12);
        assert!(own_words[..pings].iter().all(is_ping), "{context}");
    }

    fn assert_cause(&self, cause: Cause, by: By, code: u16) {
        let outcome = &self.outcome;
        assert_eq!((outcome.cause, outcome.by), (cause, by));
        assert_eq!(outcome.code, Some(code));
    }
}

/// Every offset upward, with another one downward.
fn offsets(talk: &Talk) -> impl Iterator<Item = [usize; 2]> {
    let (up, down) = (talk.up.0.len(), talk.down.0.len());
    (0..=up).map(move |offset| [offset, (offset * 7) % (down + 1)])
}

fn boundaries(talk: &Talk, at: [usize; 2]) -> [usize; 2] {
    [
        boundary_from(&talk.up.1, at[0]),
        boundary_from(&talk.down.1, at[1]),
    ]
}

#[tokio::test(start_paused = true)]
async fn the_end_of_its_age_at_every_offset_with_pings_under_way() {
    let talk = Talk::new();
    for at in offsets(&talk) {
        let mut t = tunnel(1 << 16, aging(25 * SECOND, pinging(true, true)));
        let got = talk.begin(&mut t, at).await;
        sleep(26 * SECOND).await;
        let end = talk.finish(t, at, got, [1012; 2]).await;
        let [up, down] = boundaries(&talk, at);
        end.assert_told(Side::Pod, &talk, up, 1, 1012);
        end.assert_told(Side::Client, &talk, down, 1, 1012);
        end.assert_cause(Cause::MaxAge, By::Proxy, 1012);
        assert_eq!(end.outcome.from_client.bytes, up as u64);
        assert_eq!(end.outcome.from_pod.bytes, down as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn an_operators_code_at_every_offset_with_pings_under_way() {
    let talk = Talk::new();
    for at in offsets(&talk) {
        let mut t = tunnel(1 << 16, pinging(true, true));
        let got = talk.begin(&mut t, at).await;
        sleep(PINGED).await;
        let window = Duration::ZERO;
        let asked = t.table.end_each(vec![t.id], window, Cause::Operator, 4321);
        assert_eq!(asked.await, 1);
        tokio::task::yield_now().await;
        let end = talk.finish(t, at, got, [4321; 2]).await;
        let [up, down] = boundaries(&talk, at);
        end.assert_told(Side::Pod, &talk, up, 1, 4321);
        end.assert_told(Side::Client, &talk, down, 1, 4321);
        end.assert_cause(Cause::Operator, By::Proxy, 4321);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_falls_silent_at_every_offset_and_comes_back_or_does_not() {
    let talk = Talk::new();
    for (dead, by, told_other) in [(Side::Client, By::Client, 1001), (Side::Pod, By::Pod, 1011)] {
        // The stream of the one that falls silent; the other one's rests between two frames, else
        // nobody could be asked anything.
        let silent = talk.toward(dead.other());
        let (_, rests) = talk.toward(dead);
        for offset in 0..=silent.0.len() {
            let rest = rests[offset % rests.len()];
            let at = match dead {
                Side::Client => [offset, rest],
                Side::Pod => [rest, offset],
            };
            let codes = match dead {
                Side::Client => [1001, told_other],
                Side::Pod => [told_other, 1001],
            };
            for comes_back in [true, false] {
                let mut t = tunnel(1 << 16, pinging(dead == Side::Client, dead == Side::Pod));
                let [mut at_pod, mut at_client] = talk.begin(&mut t, at).await;
                sleep(GIVEN_UP).await;
                if comes_back {
                    let end = talk.finish(t, at, [at_pod, at_client], codes).await;
                    end.assert_told(dead, &talk, rest, 1, 1001);
                    let boundary = boundary_from(&silent.1, offset);
                    end.assert_told(dead.other(), &talk, boundary, 0, told_other);
                    end.assert_cause(Cause::KeepaliveTimeout, by, told_other);
                    continue;
                }
                at_client.extend(all(t.client_hears).await);
                at_pod.extend(all(t.pod_hears).await);
                let outcome = ended(t.relay).await;
                let end = Ended {
                    at_pod,
                    at_client,
                    outcome,
                };
                end.assert_told(dead, &talk, rest, 1, 1001);
                assert_eq!((outcome.cause, outcome.by), (Cause::KeepaliveTimeout, by));
                assert!(outcome.duration < GIVEN_UP + 11 * SECOND);
                if silent.1.contains(&offset) {
                    end.assert_told(dead.other(), &talk, offset, 0, told_other);
                } else {
                    let got = match dead {
                        Side::Client => end.at_pod,
                        Side::Pod => end.at_client,
                    };
                    assert_eq!(got, silent.0[..offset], "torn, and nothing is made up");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_too_fast_from_every_offset_with_pings_under_way() {
    let talk = Talk::new();
    for offset in 1..talk.up.0.len() {
        let mut t = tunnel(1 << 16, pacing(offset, pinging(true, true)));
        let down = (offset * 7) % (talk.down.0.len() + 1);
        let got = talk.begin(&mut t, [offset, down]).await;
        sleep(PINGED).await;
        // What it may send has come back; all of that at once is as much as it may.
        let at = [offset, down];
        let end = talk.finish(t, at, got, [1008, 1001]).await;
        let rest = talk.up.0.len() + close(Side::Pod, 1000).len() - offset;
        let said = &talk.up.0[..];
        if rest <= offset {
            assert_eq!(end.outcome.cause, Cause::PeerClosed, "{offset} of {rest}");
            continue;
        }
        assert_eq!(
            told(&parse(Side::Client, &end.at_client).unwrap()),
            Some(1008)
        );
        let at_pod = parse(Side::Pod, &end.at_pod).unwrap();
        assert_eq!(at_pod.torn, 0);
        assert!(end.at_pod.starts_with(&said[..offset]));
        assert_eq!(end.outcome.cause, Cause::RateExceeded);
    }
}

#[tokio::test(start_paused = true)]
async fn one_byte_too_many_at_every_offset() {
    let talk = Talk::new();
    for offset in 1..talk.up.0.len() {
        let mut t = tunnel(1 << 16, pacing(offset, RelayConfig::default()));
        let down = (offset * 7) % (talk.down.0.len() + 1);
        let [mut at_pod, at_client] = talk.begin(&mut t, [offset, down]).await;
        let too_many = &talk.up.0[offset..=offset];
        t.client.write_all(too_many).await.unwrap();
        at_pod.extend(exactly(&mut t.pod_hears, 1).await);
        let at = [offset + 1, down];
        let end = talk.finish(t, at, [at_pod, at_client], [1008, 1001]).await;
        let [up, down] = boundaries(&talk, at);
        end.assert_told(Side::Pod, &talk, up, 0, 1001);
        end.assert_told(Side::Client, &talk, down, 0, 1008);
        end.assert_cause(Cause::RateExceeded, By::Client, 1008);
    }
}

/// The next frame of the client's, behind so much of what it says, that is larger than any of them.
fn too_big(talk: &Talk, boundary: usize) -> Vec<u8> {
    let said = parse(Side::Pod, &talk.up.0[..boundary]).unwrap();
    let data = said.frames.iter().rev().find(|frame| frame.opcode < 8);
    let is_inside = data.is_some_and(|frame| !frame.fin);
    write(Side::Pod, true, if is_inside { 0 } else { 2 }, &[9; 400])
}

fn bounding(config: RelayConfig) -> RelayConfig {
    RelayConfig {
        limits: MessageLimits {
            message_size: Some(399),
            ..MessageLimits::default()
        },
        ..config
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_too_big_at_every_offset_of_the_pods_with_pings_under_way() {
    let talk = Talk::new();
    for down in 0..=talk.down.0.len() {
        let boundary = talk.up.1[down % talk.up.1.len()];
        let big = too_big(&talk, boundary);
        let mut t = tunnel(1 << 16, bounding(pinging(true, true)));
        let got = talk.begin(&mut t, [boundary, down]).await;
        sleep(PINGED).await;
        // Its head in two pieces.
        let (head, rest) = big.split_at(1 + down % 8);
        t.client.write_all(head).await.unwrap();
        tokio::task::yield_now().await;
        t.client.write_all(rest).await.unwrap();
        let end = talk
            .finish(t, [talk.up.0.len(), down], got, [1009, 1001])
            .await;
        let down = boundary_from(&talk.down.1, down);
        end.assert_told(Side::Pod, &talk, boundary, 1, 1001);
        end.assert_told(Side::Client, &talk, down, 1, 1009);
        end.assert_cause(Cause::MessageTooBig, By::Client, 1009);
        assert_eq!(end.outcome.from_client.bytes, boundary as u64);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Age,
    Operator,
    TooFast,
    TooBig,
    Silence,
}

/// The pod takes nothing until the end has begun, and the proxy can take no more either.
#[tokio::test(start_paused = true)]
async fn ends_of_the_policy_wait_behind_blocked_writers() {
    let talk = Talk::new();
    let (up, up_boundaries) = &talk.up;
    for way in [
        Way::Age,
        Way::Operator,
        Way::TooFast,
        Way::TooBig,
        Way::Silence,
    ] {
        for capacity in [1, 16, 100] {
            for offset in (1..up.len()).step_by(5) {
                let (config, cause, codes, until) = match way {
                    Way::Age => {
                        let config = aging(SECOND, RelayConfig::default());
                        (config, Cause::MaxAge, [1012, 1012], 2 * SECOND)
                    }
                    Way::Operator => {
                        let config = RelayConfig::default();
                        (config, Cause::Operator, [4321, 4321], SECOND)
                    }
                    Way::TooFast => {
                        let config = pacing(offset, RelayConfig::default());
                        (config, Cause::RateExceeded, [1008, 1001], SECOND)
                    }
                    Way::TooBig => {
                        let config = bounding(RelayConfig::default());
                        (config, Cause::MessageTooBig, [1009, 1001], SECOND)
                    }
                    Way::Silence => {
                        let config = pinging(false, true);
                        (config, Cause::KeepaliveTimeout, [1011, 1001], GIVEN_UP)
                    }
                };
                let mut t = tunnel(capacity, config);
                let boundary = boundary_from(up_boundaries, offset);
                let client = async {
                    if way == Way::TooBig {
                        let big = too_big(&talk, boundary);
                        let said = [&up[..boundary], &big].concat();
                        t.client.write_all(&said).await.unwrap();
                        return t.client;
                    }
                    t.client.write_all(&up[..offset]).await.unwrap();
                    if way == Way::Operator {
                        let window = Duration::ZERO;
                        let cause = Cause::Operator;
                        t.table.end_each(vec![t.id], window, cause, 4321).await;
                    }
                    t.client.write_all(&up[offset..]).await.unwrap();
                    let close = close(Side::Pod, codes[1]);
                    t.client.write_all(&close).await.unwrap();
                    t.client
                };
                let pod = async {
                    sleep(until).await;
                    all(t.pod_hears).await
                };
                let (client, at_pod, at_client) = tokio::join!(client, pod, all(t.client_hears));
                drop(client);
                let context = format!("{way:?} {capacity} {offset}");
                let at_pod_frames = parse(Side::Pod, &at_pod).unwrap();
                let own_words = 1 + usize::from(way == Way::Silence);
                let own_words = at_pod_frames.frames.len() - own_words;
                let forwarded = up_boundaries[own_words.min(up_boundaries.len() - 1)];
                assert_eq!(at_pod[..forwarded], up[..forwarded], "{context}");
                drop(t.pod);
                let outcome = ended(t.relay).await;
                if outcome.cause == Cause::PeerClosed {
                    // The proxy could take all of it before the end came.
                    assert!(capacity == 100 || way == Way::TooFast, "{context}");
                    continue;
                }
                assert_eq!(outcome.cause, cause, "{context}");
                assert_eq!(at_pod_frames.torn, 0, "{context}");
                assert_eq!(told(&at_pod_frames), Some(codes[1]), "{context}");
                let at_client = parse(Side::Client, &at_client).unwrap();
                let told = told(&at_client);
                // Where its own Close was the last straw, that may be answered.
                let has_closed = outcome.from_client.bytes > up.len() as u64;
                let is_answer = has_closed && told == Some(codes[1]);
                assert!(is_answer || told == Some(codes[0]), "{context}: {told:?}");
            }
        }
    }
}
