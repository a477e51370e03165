//! Any bytes as a script of what a client and the two sides of a wire do: right and wrong records,
//! loose bytes, cuts, reads and writes.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::task::Poll;

use crate::peer::{ALERT, DATA, HANDSHAKE, KEY_UPDATE, KEY_UPDATE_REQUESTED, Peer};
use crate::wire::{End, Ends, Server};

/// The steps of a script, each a byte and what it takes of the following.
struct Steps<'a>(&'a [u8]);

impl Steps<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn size(&mut self) -> usize {
        usize::from(self.byte().unwrap_or(0))
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = (self.size() % 16).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes.to_vec()
    }
}

/// What was said and heard on either side.
#[derive(Default)]
struct Story {
    /// Data that the client has sealed.
    sealed: Vec<u8>,
    read: Vec<u8>,
    /// Data that the server has accepted.
    accepted: Vec<u8>,
    heard: Vec<u8>,
    over: bool,
}

impl Story {
    fn read(&mut self, server: &mut Server, room: usize) -> bool {
        match server.read_once(room) {
            Ok(data) => {
                assert!(!self.over, "data behind the end");
                assert!(
                    self.sealed[self.read.len()..].starts_with(&data),
                    "data that was never sealed"
                );
                self.read.extend(data);
                true
            }
            Err(End::Pending) => {
                assert!(!self.over, "an end that is none");
                false
            }
            Err(End::Closed | End::Error(_)) => {
                self.over = true;
                false
            }
        }
    }

    fn hear(&mut self, server: &Server, peer: &mut Peer) {
        for (kind, content) in peer.open(&server.wire.take()) {
            if kind == DATA {
                assert!(
                    self.accepted[self.heard.len()..].starts_with(&content),
                    "data that was never accepted"
                );
                self.heard.extend(content);
            }
        }
    }
}

/// Plays a script to its end.
///
/// # Panics
/// Where data comes out that did not go in, in another order or behind the end, or where a record
/// of the server's does not open in its turn.
pub fn play(script: &[u8]) {
    static ENDS: OnceLock<Ends> = OnceLock::new();
    let ends = ENDS.get_or_init(Ends::quick);
    let (mut server, mut peer) = Peer::connect_by(ends);
    let mut steps = Steps(script);
    let mut story = Story::default();
    let mut queue = VecDeque::new();
    while let Some(step) = steps.byte() {
        match step % 12 {
            0 | 1 => {
                let length = match step % 12 {
                    0 => steps.size(),
                    _ => (1 << 14) - steps.size(),
                };
                let from = story.sealed.len();
                let data: Vec<u8> = (from..from + length).map(|at| (at % 251) as u8).collect();
                let padding = steps.size().min((1 << 14) - length);
                queue.extend(peer.record(DATA, &data, padding));
                story.sealed.extend(data);
            }
            2 => queue.extend(peer.key_update(match steps.size() % 2 {
                0 => &KEY_UPDATE,
                _ => &KEY_UPDATE_REQUESTED,
            })),
            3 => queue.extend(peer.record(ALERT, &steps.bytes(), 0)),
            4 => queue.extend(peer.record(HANDSHAKE, &steps.bytes(), 0)),
            5 => {
                let inner = steps.bytes();
                let end = inner.iter().rposition(|&byte| byte != 0).unwrap_or(0);
                if inner.get(end) == Some(&DATA) {
                    story.sealed.extend(&inner[..end]);
                }
                queue.extend(peer.inner(&inner));
            }
            6 => queue.extend(steps.bytes()),
            7 => {
                let now = (steps.size() * 64 + steps.size()).min(queue.len());
                server.wire.feed(&queue.drain(..now).collect::<Vec<u8>>());
            }
            8 => {
                let room = 1 + steps.size() * 256;
                story.read(&mut server, room);
            }
            9 => {
                let from = story.accepted.len();
                let to = from + steps.size() * 300;
                let data: Vec<u8> = (from..to).map(|at| (at % 241) as u8).collect();
                if let Poll::Ready(Ok(taken)) = server.poll_write(&data) {
                    story.accepted.extend(&data[..taken]);
                }
            }
            10 => server.wire.pipe().room = Some(steps.size() * 100),
            _ => {
                let _ = server.poll_flush();
                story.hear(&server, &mut peer);
            }
        }
    }
    server.wire.feed(queue.make_contiguous());
    server.wire.pipe().ended = true;
    while story.read(&mut server, 32 << 10) {}
    assert!(story.over);
    server.wire.pipe().room = None;
    let _ = server.poll_shutdown();
    story.hear(&server, &mut peer);
    assert_eq!(story.heard.len(), story.accepted.len());
    assert!(server.wire.pipe().shut);
}
