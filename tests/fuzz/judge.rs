//! What must hold of every tunnel, whatever its endpoints did and whatever happened to it.

use std::collections::BTreeSet;

use holdfast::websocket::{By, Cause, CloseCode, Ending, Outcome, RelayConfig, Side};

use crate::endpoint::{Endpoint, Leave};
use crate::framing::{self, Rest};
use crate::strict;
use crate::tunnel::{Peer, Plan, Played, run};

/// Payload of a ping of the proxy's: a key and a number. No endpoint makes pings as long as that.
pub const PING_PAYLOAD: u64 = 12;

/// One tunnel that has ended.
pub struct Case<'a> {
    pub config: &'a RelayConfig,
    pub client: &'a Endpoint,
    pub pod: &'a Endpoint,
    pub outcome: &'a Outcome,
    /// What somebody asked to end it for, all of it, and the code that was asked for.
    pub asked: Vec<Cause>,
    pub code: Option<u16>,
    /// Every frame of both scripts is one that RFC 6455 allows.
    pub is_valid: bool,
    /// Whether this side takes all that it is sent, without a pause.
    pub takes_all: [bool; 2],
    /// Whether it does so at every instant: it is never not ready.
    pub takes_at_once: [bool; 2],
    /// Whether this side, asked to end, finishes its frame without a pause.
    pub finishes_frames: [bool; 2],
}

/// What an endpoint heard, told apart.
#[derive(Debug)]
struct Heard {
    /// Bytes of the other endpoint's.
    forwarded: usize,
    pings: u32,
    /// The proxy's own Close, with its code.
    close: Option<Option<u16>>,
    rest: Rest,
}

impl<'a> Case<'a> {
    /// Of a plan that has been played.
    pub fn new(plan: &'a Plan, played: &'a Played, is_valid: bool) -> Self {
        let night = played.lasted.then_some(Cause::Shutdown);
        let sides = [Side::Client, Side::Pod];
        Self {
            config: &plan.config,
            client: &played.client,
            pod: &played.pod,
            outcome: &played.outcome,
            asked: plan.ask.iter().map(|ask| ask.cause).chain(night).collect(),
            code: plan.ask.and_then(|ask| ask.code),
            is_valid,
            takes_all: sides.map(|side| plan.peer(side).takes_all()),
            takes_at_once: sides.map(|side| plan.peer(side).takes_at_once()),
            finishes_frames: sides.map(|side| {
                let peer = plan.peer(side);
                is_valid && Peer::is_prompt(&peer.reads) && peer.manners.leaves == Leave::Stays
            }),
        }
    }

    fn endpoint(&self, side: Side) -> &Endpoint {
        match side {
            Side::Client => self.client,
            Side::Pod => self.pod,
        }
    }

    /// # Panics
    /// Where anything does not hold.
    pub fn judge(&self) {
        for to in [Side::Client, Side::Pod] {
            self.judge_direction(to);
        }
        self.judge_cause();
        self.judge_limits();
    }

    /// Every byte once and in order, no frame corrupted, counters equal to the truth.
    fn judge_direction(&self, to: Side) {
        let (source, sink) = (self.endpoint(to.other()), self.endpoint(to));
        let counted = match to {
            Side::Pod => self.outcome.from_client,
            Side::Client => self.outcome.from_pod,
        };
        if self.is_valid {
            strict::parse(to, &sink.heard).unwrap_or_else(|error| panic!("{to:?}: {error}"));
        }
        let expected = self.expected(source);
        let admitted = usize::try_from(counted.bytes).unwrap();
        let heard = self.tell_apart(sink, &expected, admitted);
        let all = (to, &heard, admitted, self.outcome);
        assert!(heard.forwarded <= admitted, "{all:?}");
        assert!(admitted <= expected.len(), "{all:?}");
        assert_eq!(counted, framing::traffic(&expected[..admitted]), "{to:?}");
        let takes_all = self.takes_all[index(to)];
        if takes_all {
            // A stream is cut for want of a boundary. Where that is in the instant in which the last of
            // it was read, a sink that was not ready does without.
            let is_cut = matches!(heard.rest, Rest::Torn(_));
            if self.takes_at_once[index(to)] || !is_cut {
                assert_eq!(heard.forwarded, admitted, "{all:?}");
            }
            match heard.rest {
                Rest::Closed(_) => {}
                Rest::Whole => panic!("an end without a Close: {all:?}"),
                Rest::Torn(_) | Rest::Broken { .. } => {
                    assert!(!self.finishes_frames[index(to.other())], "{all:?}");
                }
            }
        }
        if let Some(code) = heard.close {
            self.judge_close(sink, code);
        }
        let is_pinged = self.config.keepalive.is_some_and(|keepalive| match to {
            Side::Client => keepalive.client,
            Side::Pod => keepalive.pod,
        });
        assert!(heard.pings == 0 || is_pinged, "{all:?}");
    }

    /// What of an endpoint's words is for the other one: not its pongs to our pings.
    fn expected(&self, source: &Endpoint) -> Vec<u8> {
        let said = &source.said;
        if !source.manners.answers_pings {
            return said.clone();
        }
        let (pings, _) = framing::frames(&source.heard);
        let ours = |frame: &&framing::Frame| {
            let is_whole = frame.end() <= source.heard.len() as u64;
            frame.opcode == 9 && frame.length() == PING_PAYLOAD && is_whole
        };
        let Some(ping) = pings.iter().find(ours) else {
            return said.clone();
        };
        let key = ping.content(&source.heard)[..8].to_vec();
        let mut expected = Vec::new();
        let mut from = 0;
        for frame in framing::frames(said).0 {
            let is_ours = frame.opcode == 10 && frame.length() == PING_PAYLOAD;
            if is_ours && frame.end() <= said.len() as u64 && frame.content(said)[..8] == key {
                expected.extend_from_slice(&said[from..frame.start]);
                from = frame.end() as usize;
            }
        }
        expected.extend_from_slice(&said[from..]);
        expected
    }

    fn tell_apart(&self, sink: &Endpoint, expected: &[u8], admitted: usize) -> Heard {
        let bytes = &sink.heard;
        let (frames, rest) = framing::frames(bytes);
        let mut heard = Heard {
            forwarded: 0,
            pings: 0,
            close: None,
            rest,
        };
        let mut key = None;
        for frame in &frames {
            let end = bytes
                .len()
                .min(usize::try_from(frame.end()).unwrap_or(usize::MAX));
            let wire = &bytes[frame.start..end];
            let is_whole = frame.end() <= bytes.len() as u64;
            // What was not admitted was discarded: a Close like it is ours.
            if expected[heard.forwarded..admitted].starts_with(wire) {
                heard.forwarded += wire.len();
                continue;
            }
            let is_cut = !is_whole && !self.takes_all[index(sink.side)];
            if is_cut && matches!(frame.opcode, 8 | 9) {
                return heard;
            }
            assert!(is_whole && frame.fin, "{frame:?} at {}", heard.forwarded);
            assert_eq!(frame.key.is_some(), sink.side == Side::Pod);
            let content = frame.content(bytes);
            match frame.opcode {
                9 => {
                    assert_eq!(frame.length(), PING_PAYLOAD, "{frame:?}");
                    assert_eq!(*key.get_or_insert(content[..8].to_vec()), content[..8]);
                    let number = u32::from_be_bytes(content[8..].try_into().unwrap());
                    assert!(number > heard.pings, "pings are in order");
                    heard.pings = number;
                }
                8 => heard.close = Some(frame.close_code(bytes)),
                _ => panic!("{frame:?} at {} is nobody's", heard.forwarded),
            }
        }
        // The beginning of a header.
        let tail = match rest {
            Rest::Torn(start) if frames.last().is_none_or(|last| last.start < start) => start,
            Rest::Broken { start, .. } => start,
            Rest::Closed(end) => end,
            Rest::Torn(_) | Rest::Whole => bytes.len(),
        };
        let tail = &bytes[tail..];
        if expected[heard.forwarded..admitted].starts_with(tail) {
            heard.forwarded += tail.len();
        } else {
            // One of ours, cut off.
            assert!(!self.takes_all[index(sink.side)], "{tail:?}");
            assert!(matches!(tail.first(), Some(0x88 | 0x89)), "{tail:?}");
        }
        heard
    }

    /// A Close of ours says why, or answers.
    fn judge_close(&self, sink: &Endpoint, code: Option<u16>) {
        let (frames, rest) = framing::frames(&sink.said);
        let close = frames.last().filter(|_| matches!(rest, Rest::Closed(_)));
        let said = close.map(|close| close.close_code(&sink.said));
        let answer = said.map(|code| match code {
            Some(1000..=1003 | 1007..=1014 | 3000..=4999) | None => code,
            Some(_) => Some(1002),
        });
        if answer == Some(code) {
            return;
        }
        let by = self.outcome.by;
        let mut codes: BTreeSet<u16> = self
            .causes()
            .into_iter()
            .map(|cause| cause.code(sink.side, by))
            .collect();
        codes.extend(self.code);
        let told = code.expect("a Close of ours that is no answer has a code");
        assert!(
            codes.contains(&told),
            "{told}, not of {codes:?}: {:?}",
            self.outcome
        );
    }

    /// What may have ended it beside what began the end.
    fn causes(&self) -> Vec<Cause> {
        let mut causes = self.asked.clone();
        causes.push(self.outcome.cause);
        if !self.is_valid {
            causes.push(Cause::ProtocolError);
        }
        let limits = &self.config.limits;
        if limits.bounds_sizes() {
            causes.push(Cause::MessageTooBig);
        }
        if limits.bounds_rates() && limits.closes {
            causes.push(Cause::RateExceeded);
        }
        causes
    }

    /// It ended for something that has happened, and the record says the same.
    fn judge_cause(&self) {
        let Outcome {
            cause, by, code, ..
        } = *self.outcome;
        let culprit = match by {
            By::Client => Some(self.client),
            By::Pod => Some(self.pod),
            By::Proxy => None,
        };
        let config = self.config;
        let went = |endpoint: &Endpoint| endpoint.manners.leaves != Leave::Stays;
        let is_possible = match (cause, culprit) {
            (asked, None) if self.asked.contains(&asked) => true,
            (Cause::ClientGone, Some(client)) => client.side == Side::Client && self.may_go(client),
            (Cause::PodGone, Some(pod)) => pod.side == Side::Pod && self.may_go(pod),
            (Cause::PeerClosed, Some(who)) => {
                let (frames, rest) = framing::frames(&who.said);
                assert_eq!(frames.last().unwrap().close_code(&who.said), code);
                matches!(rest, Rest::Closed(_))
            }
            (Cause::ProtocolError, Some(who)) => {
                !self.is_valid && matches!(framing::frames(&who.said).1, Rest::Broken { .. })
            }
            (Cause::KeepaliveTimeout, Some(who)) => {
                let answers = who.manners.answers_pings && !went(who);
                let is_prompt = self.takes_all[index(who.side)];
                let speaks = self.finishes_frames[index(who.side)];
                config.keepalive.is_some() && !(answers && is_prompt && speaks)
            }
            (Cause::MessageTooBig, Some(who)) => {
                who.side == Side::Client && config.limits.bounds_sizes()
            }
            (Cause::RateExceeded, Some(who)) => {
                who.side == Side::Client && config.limits.bounds_rates() && config.limits.closes
            }
            (Cause::Idle, None) => config.idle_timeout.is_some(),
            (Cause::MaxAge, None) => config.max_age.is_some(),
            _ => false,
        };
        assert!(is_possible, "{:?}", self.outcome);
    }

    /// Its stream or its connection has an end, or it takes nothing any more.
    fn may_go(&self, endpoint: &Endpoint) -> bool {
        endpoint.manners.leaves != Leave::Stays || endpoint.end_heard
    }

    /// What went to the pod is within the bounds of what a client may send.
    fn judge_limits(&self) {
        let limits = &self.config.limits;
        let admitted = usize::try_from(self.outcome.from_client.bytes).unwrap();
        let said = self.expected(self.client);
        let mut message = 0_u64;
        for frame in framing::frames(&said[..admitted]).0 {
            if frame.is_control() {
                continue;
            }
            if frame.opcode != 0 {
                message = 0;
            }
            message = message.saturating_add(frame.length());
            assert!(limits.frame_size.is_none_or(|most| frame.length() <= most));
            assert!(limits.message_size.is_none_or(|most| message <= most));
        }
    }
}

/// The table has one tunnel that has ended, with the counts of its outcome.
fn judge_totals(played: &Played) {
    let [totals] = &played.totals[..] else {
        panic!("{:?}", played.totals);
    };
    assert_eq!((totals.open, totals.opened), (0, 1));
    assert_eq!(totals.endings, [(ending(&played.outcome), 1)]);
    assert_eq!(totals.from_client, played.outcome.from_client);
    assert_eq!(totals.from_pod, played.outcome.from_pod);
}

/// Plays a plan and judges what came of it.
///
/// # Panics
/// Where anything does not hold.
pub fn judge(plan: &Plan, is_valid: bool) -> Played {
    let played = run(plan);
    Case::new(plan, &played, is_valid).judge();
    judge_totals(&played);
    played
}

/// How the record of an ended tunnel counts it.
pub fn ending(outcome: &Outcome) -> Ending {
    Ending {
        cause: outcome.cause,
        by: outcome.by,
        code: CloseCode::from(outcome.code),
    }
}

fn index(side: Side) -> usize {
    usize::from(side == Side::Pod)
}
