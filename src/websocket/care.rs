//! What a tunnel needs beside carrying bytes: pings, an end of its age, a pace for its client.
//!
//! A tunnel that needs none of it has none, and pays nothing.

use std::time::Duration;

use tokio::time::Instant;

use super::close::Side;
use super::keepalive::Heartbeat;
use super::pace::Pace;
use super::relay_config::RelayConfig;
use crate::routing::MaxAge;

/// See the module.
#[derive(Debug)]
pub(super) struct Care {
    /// Begins the payload of our pings.
    pub(super) key: [u8; 8],
    client: Option<Heartbeat>,
    pod: Option<Heartbeat>,
    /// The end of its age.
    pub(super) dies: Option<Instant>,
    pub(super) pace: Option<Pace>,
    /// Whether a client that sends too fast is closed.
    pub(super) closes_fast: bool,
    /// Until when the client is not read from.
    pub(super) paused: Option<Instant>,
}

impl Care {
    pub(super) fn new(config: &RelayConfig, now: Instant) -> Option<Box<Self>> {
        let pace = Pace::new(&config.limits, now);
        if config.keepalive.is_none() && config.max_age.is_none() && pace.is_none() {
            return None;
        }
        let heartbeat = |is_pinged: bool| {
            let keepalive = config.keepalive.filter(|_| is_pinged)?;
            Some(Heartbeat::new(keepalive.interval, keepalive.timeout, now))
        };
        Some(Box::new(Self {
            key: fastrand::u64(..).to_ne_bytes(),
            client: heartbeat(config.keepalive.is_some_and(|keepalive| keepalive.client)),
            pod: heartbeat(config.keepalive.is_some_and(|keepalive| keepalive.pod)),
            dies: config
                .max_age
                .and_then(|age| now.checked_add(lifetime(age))),
            pace,
            closes_fast: config.limits.closes,
            paused: None,
        }))
    }

    pub(super) fn heartbeat(&mut self, side: Side) -> Option<&mut Heartbeat> {
        match side {
            Side::Client => self.client.as_mut(),
            Side::Pod => self.pod.as_mut(),
        }
    }

    /// The client is not read from yet.
    pub(super) fn is_paused(&mut self, now: Instant) -> bool {
        self.paused = self.paused.filter(|until| now < *until);
        self.paused.is_some()
    }

    /// When there is something to look at next.
    pub(super) fn due(&self) -> Option<Instant> {
        let client = self.client.as_ref().map(Heartbeat::due);
        let pod = self.pod.as_ref().map(Heartbeat::due);
        [client, pod, self.dies, self.paused]
            .into_iter()
            .flatten()
            .min()
    }
}

/// A lot for one tunnel.
fn lifetime(age: MaxAge) -> Duration {
    let share = f64::from(age.jitter_percent.min(100)) / 100.0;
    age.duration.mul_f64(1.0 - share * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_spread_below_the_longest() {
        let hour = Duration::from_secs(3600);
        let lifetimes: Vec<Duration> = (0..1000)
            .map(|_| {
                lifetime(MaxAge {
                    duration: hour,
                    jitter_percent: 20,
                })
            })
            .collect();
        assert!(
            lifetimes
                .iter()
                .all(|life| *life <= hour && *life >= hour.mul_f64(0.8))
        );
        let below = lifetimes
            .iter()
            .filter(|life| **life < hour.mul_f64(0.9))
            .count();
        assert!((400..600).contains(&below), "{below}");
    }
}
