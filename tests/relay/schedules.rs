//! The relay under every kind of luck: connections that take and give a few bytes at a time, or
//! none, or hold them until a flush. Every byte arrives once and in order.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use holdfast::websocket::{By, Cause, Outcome, RelayConfig, Side, TunnelTable, relay};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::strict::{close, parse, write};
use crate::tunnels::info;

/// How much the next reads or writes move; 0 = not ready. Repeated from the start.
#[derive(Clone, Debug)]
struct Schedule {
    steps: Vec<usize>,
    next: usize,
}

impl Schedule {
    fn step(&mut self, cx: &Context<'_>) -> Option<usize> {
        let step = self.steps[self.next % self.steps.len()];
        self.next += 1;
        if step == 0 {
            cx.waker().wake_by_ref();
            return None;
        }
        Some(step)
    }
}

#[derive(Debug)]
struct Peer {
    says: Vec<u8>,
    said: usize,
    reads: Schedule,
    writes: Schedule,
    /// Written, but not flushed.
    held: Vec<u8>,
    hears: Arc<Mutex<Heard>>,
}

#[derive(Debug, Default)]
struct Heard {
    bytes: Vec<u8>,
    end: bool,
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(step) = self.reads.step(cx) else {
            return Poll::Pending;
        };
        let said = self.said;
        let count = step.min(self.says.len() - said).min(into.remaining());
        into.put_slice(&self.says[said..said + count]);
        self.said += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        assert!(!bytes.is_empty() && !self.hears.lock().unwrap().end);
        let Some(step) = self.writes.step(cx) else {
            return Poll::Pending;
        };
        let count = step.min(bytes.len());
        self.held.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.writes.step(cx).is_none() {
            return Poll::Pending;
        }
        let held = std::mem::take(&mut self.held);
        self.hears.lock().unwrap().bytes.extend(held);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.as_mut().poll_flush(cx))?;
        self.hears.lock().unwrap().end = true;
        Poll::Ready(Ok(()))
    }
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let step = prop_oneof![3 => Just(0usize), 4 => 1..4usize, 3 => 4..400usize, 1 => Just(1 << 20)];
    vec(step, 1..20).prop_map(|mut steps| {
        // Something must move at some time.
        steps.push(7);
        Schedule { steps, next: 0 }
    })
}

/// What a peer says to `to`: messages and control frames, perhaps a Close, perhaps torn.
fn script(to: Side) -> impl Strategy<Value = Vec<u8>> {
    let data = prop_oneof![3 => 0..200usize, 1 => 200..3000usize];
    let message = (data, 1..4usize, any::<bool>()).prop_map(move |(size, parts, ping)| {
        let mut bytes = Vec::new();
        for part in 0..parts {
            let opcode = if part == 0 { 2 } else { 0 };
            bytes.extend(write(
                to,
                part + 1 == parts,
                opcode,
                &vec![part as u8; size],
            ));
            if ping {
                bytes.extend(write(to, true, 9, b"ping"));
            }
        }
        bytes
    });
    (vec(message, 0..5), any::<Option<bool>>()).prop_map(move |(messages, end)| {
        let mut bytes = messages.concat();
        match end {
            None => {}
            Some(true) => bytes.extend(close(to, 4000)),
            Some(false) => bytes.extend(&write(to, true, 2, &[9; 50])[..30]),
        }
        bytes
    })
}

/// Runs two peers against each other, `end` being asked for after so many polls of another task.
fn run(client: Peer, pod: Peer, end: Option<usize>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let table = TunnelTable::new();
        let guard = table.open(info("a.example"));
        let id = guard.id();
        let none = Bytes::new;
        let config = RelayConfig::default();
        let relay = tokio::spawn(relay(client, none(), pod, none(), guard, config));
        if let Some(turns) = end {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            table.end(id, Cause::Shutdown);
        }
        let limit = Duration::from_secs(600);
        tokio::time::timeout(limit, relay).await.unwrap().unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_byte_arrives_once_and_in_order(
        up in script(Side::Pod),
        down in script(Side::Client),
        schedules in (schedule(), schedule(), schedule(), schedule()),
        end in proptest::option::of(0..200usize),
    ) {
        let peer = |says: &Vec<u8>, reads, writes| Peer {
            says: says.clone(),
            said: 0,
            reads,
            writes,
            held: Vec::new(),
            hears: Arc::default(),
        };
        let client = peer(&up, schedules.0, schedules.1);
        let pod = peer(&down, schedules.2, schedules.3);
        let (client_hears, pod_hears) = (Arc::clone(&client.hears), Arc::clone(&pod.hears));
        let outcome = run(client, pod, end);
        for (to, said, heard, traffic) in [
            (Side::Pod, &up, &pod_hears, &outcome.from_client),
            (Side::Client, &down, &client_hears, &outcome.from_pod),
        ] {
            let heard = heard.lock().unwrap();
            prop_assert!(heard.end, "the end of the stream arrives too");
            let received = parse(to, &heard.bytes).map_err(TestCaseError::fail)?;
            let forwarded = traffic.bytes as usize;
            prop_assert_eq!(&heard.bytes[..forwarded], &said[..forwarded]);
            let rest = &heard.bytes[forwarded..];
            if received.torn > 0 {
                prop_assert_eq!(rest.len(), 0);
            } else {
                prop_assert!(received.close.is_some());
                let own_words = parse(to, rest).map_err(TestCaseError::fail)?;
                prop_assert!(own_words.frames.len() <= 1);
            }
            if end.is_none() {
                prop_assert_eq!(forwarded, said.len());
            }
        }
        prop_assert_eq!(outcome.by == By::Proxy, outcome.cause == Cause::Shutdown);
    }
}
