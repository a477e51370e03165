//! The part of a relay that tends to its peers: pings, the end of its age, the client's pace.

use tokio::time::Instant;

use super::close::{By, Cause, Side};
use super::flow::Pumped;
use super::frame;
use super::keepalive::{Verdict, ping};
use super::relay::Relay;

impl<C, P> Relay<C, P> {
    /// Whether the client may be read from. What is to be discarded may be in any case.
    pub(super) fn reads_client(&mut self, now: Instant) -> bool {
        let paused = match &mut self.care {
            Some(care) => care.is_paused(now),
            None => false,
        };
        !paused || self.is_ending()
    }

    /// When [`Relay::tend`] has something to do.
    pub(super) fn care_due(&self) -> Option<Instant> {
        let care = self.care.as_ref()?;
        match self.is_open() {
            true => care.due(),
            false => care.paused,
        }
    }

    /// Pings who has been silent, ends what has no answer or is too old. Returns whether there was
    /// anything to do.
    pub(super) fn tend(&mut self, now: Instant) -> bool {
        if self.care_due().is_none_or(|due| now < due) {
            return false;
        }
        let is_open = self.is_open();
        let Some(care) = &mut self.care else {
            return false;
        };
        care.is_paused(now);
        if !is_open {
            return true;
        }
        if care.dies.is_some_and(|at| now >= at) {
            care.dies = None;
            self.end(Cause::MaxAge, By::Proxy);
            return true;
        }
        let key = care.key;
        for side in [Side::Client, Side::Pod] {
            let heartbeat = self.care.as_mut().and_then(|care| care.heartbeat(side));
            let Some(heartbeat) = heartbeat else { continue };
            match heartbeat.look(now) {
                Verdict::Nothing => {}
                Verdict::Ping(number) => {
                    let mask = (side == Side::Pod).then(frame::mask_key);
                    let frame = ping(key, number, mask);
                    self.flow_toward(side).insert(frame);
                    self.flow_toward(side.other()).await_pongs(key);
                }
                Verdict::Dead => self.end(Cause::KeepaliveTimeout, side.into()),
            }
        }
        true
    }

    /// Whether a peer's silence says nothing: it is not read from because it was too fast; or it has
    /// been sent all that there is, and its ping still waits for a boundary, or what it says waits
    /// until the other takes more. Where both wait for each other, neither is excused: one of them
    /// must go.
    fn is_excused(&mut self, side: Side) -> bool {
        let is_paused = self.care.as_ref().is_some_and(|care| care.paused.is_some());
        let toward = self.flow_toward(side);
        let (has_all, is_unasked) = (toward.is_delivered(), toward.is_insert_waiting());
        let is_held_up = is_unasked || !self.flow_toward(side.other()).is_delivered();
        is_paused && side == Side::Client || has_all && is_held_up
    }

    /// Takes in what was read, for pings, pace and sizes.
    pub(super) fn take_care(&mut self, up: &Pumped, down: &Pumped, now: Instant) {
        if up.found.too_big {
            self.end(Cause::MessageTooBig, By::Client);
        }
        if self.care.is_none() {
            return;
        }
        self.signs_of_life(Side::Client, up, down, now);
        self.signs_of_life(Side::Pod, down, up, now);
        let Some(care) = &mut self.care else { return };
        let Some(pace) = &mut care.pace else { return };
        if !up.received {
            return;
        }
        let traffic = &up.traffic;
        if let Some(until) = pace.spend(traffic.messages(), traffic.bytes, now) {
            if care.closes_fast {
                self.end(Cause::RateExceeded, By::Client);
            } else {
                care.paused = Some(until);
            }
        }
    }

    /// `from` is what the peer sent, `toward` what it was sent.
    fn signs_of_life(&mut self, side: Side, from: &Pumped, toward: &Pumped, now: Instant) {
        let is_excused = self.is_excused(side);
        let heartbeat = self.care.as_mut().and_then(|care| care.heartbeat(side));
        let Some(heartbeat) = heartbeat else { return };
        if toward.found.inserted {
            heartbeat.asked(now);
        }
        heartbeat.excuse(is_excused, now);
        if from.received || toward.relieved {
            heartbeat.heard(now);
        }
        let Some(number) = from.found.pong else {
            return;
        };
        let round_trip = heartbeat.answered(number, now);
        if !heartbeat.is_awaited() {
            self.flow_toward(side.other()).stop_awaiting();
        }
        if let Some(round_trip) = round_trip {
            self.tunnel().round_trip(side, round_trip);
        }
    }
}
