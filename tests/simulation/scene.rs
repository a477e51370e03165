//! One tunnel: its lots, its run, and what is to be said of it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use holdfast::routing::{Keepalive, MaxAge, MessageLimits};
use holdfast::websocket::{Cause, RelayConfig, Side, TunnelTable, relay};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{sleep, timeout};

use crate::endpoint::{Endpoint, Leave, Manners};
use crate::judge::{Case, ending};
use crate::link::{Line, Weather, link};
use crate::strict::{close, write};
use crate::tunnel::{LONGEST_END, end, info};

/// One read, and frames of the proxy's own beside it.
const MOST_HELD: u64 = (32 << 10) + 512;
/// When a tunnel that is still open is asked to end.
const NIGHT: Duration = Duration::from_secs(600);

/// What is drawn for one side.
struct Lot {
    manners: Manners,
    weather: Weather,
    /// Between two pieces of what it says, at most.
    thinks: Duration,
    is_good: bool,
}

fn millis(chance: &mut Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(chance.u64(range))
}

fn lot(to: Side, chance: &mut Rng) -> Lot {
    let is_good = chance.u8(..3) > 0;
    let size = |chance: &mut Rng| match chance.u8(..8) {
        0..=4 => chance.usize(..200),
        5 | 6 => chance.usize(..5000),
        _ if is_good => chance.usize(..8000),
        _ => chance.usize(..100_000),
    };
    let mut script = Vec::new();
    for _ in 0..chance.usize(..25) {
        let parts = chance.usize(1..4);
        for part in 0..parts {
            let opcode = if part == 0 { 1 + chance.u8(..2) } else { 0 };
            let letter = [b'a' + chance.u8(..26)];
            let payload = letter.repeat(size(chance));
            script.push(write(to, part + 1 == parts, opcode, &payload));
            if chance.u8(..4) == 0 {
                script.push(write(to, true, 9 + chance.u8(..2), b"control"));
            }
        }
    }
    if chance.u8(..4) == 0 {
        script.push(close(to, 4000 + u16::from(chance.u8(..))));
    }
    let leaves = match chance.u8(..if is_good { 12 } else { 8 }) {
        0 => Leave::Finishes,
        1 => Leave::Resets,
        2 => Leave::Vanishes,
        _ => Leave::Stays,
    };
    let said: usize = script.iter().map(Vec::len).sum();
    let weather = Weather {
        delay: millis(chance, if is_good { 0..40 } else { 0..800 }),
        jitter: millis(chance, if is_good { 0..20 } else { 0..2000 }),
        losses: if is_good { 0 } else { chance.u32(..200) },
        retransmission: millis(chance, 200..3000),
        window: if is_good {
            1 << 16
        } else {
            chance.usize(1..20_000)
        },
    };
    Lot {
        manners: Manners {
            script,
            answers_pings: is_good || chance.u8(..8) > 0,
            answers_close: is_good || chance.u8(..8) > 0,
            leaves,
            leaves_after: chance.bool().then(|| chance.usize(..said + 1)),
        },
        weather,
        thinks: if is_good {
            Duration::ZERO
        } else {
            millis(chance, 0..5000)
        },
        is_good: is_good && leaves == Leave::Stays,
    }
}

fn config(chance: &mut Rng) -> RelayConfig {
    let mut one_in = |count: u8| chance.u8(..count) == 0;
    let (idles, pings, ages, bounds, paces) =
        (!one_in(4), one_in(2), one_in(4), one_in(5), one_in(5));
    RelayConfig {
        idle_timeout: idles.then(|| millis(chance, 2000..60_000)),
        close_timeout: Duration::from_secs(5),
        keepalive: pings.then(|| Keepalive {
            interval: millis(chance, 500..20_000),
            timeout: millis(chance, 1000..10_000),
            client: chance.bool(),
            pod: chance.bool(),
        }),
        max_age: ages.then(|| MaxAge {
            duration: millis(chance, 10..60_000),
            jitter_percent: 20,
        }),
        limits: MessageLimits {
            message_size: (bounds && chance.bool()).then(|| chance.u64(1..20_000)),
            frame_size: (bounds && chance.bool()).then(|| chance.u64(1..20_000)),
            messages_per_second: (paces && chance.bool()).then(|| chance.u32(1..20)),
            bytes_per_second: (paces && chance.bool()).then(|| chance.u64(500..20_000)),
            closes: chance.bool(),
        },
    }
}

/// The proxy's end of a link, which looks at how much the relay holds.
struct Watched {
    line: Line,
    other: Side,
    /// Accepted by the links toward client and pod.
    accepted: Arc<Mutex<[u64; 2]>>,
    table: TunnelTable,
}

impl Watched {
    /// What was read and counted has been written, but for one read.
    fn look(&self) {
        let accepted = *self.accepted.lock().unwrap();
        for view in self.table.list() {
            for (counted, accepted) in [
                (view.from_pod.bytes, accepted[0]),
                (view.from_client.bytes, accepted[1]),
            ] {
                let held = counted.saturating_sub(accepted);
                assert!(held <= MOST_HELD, "the relay holds {held} bytes");
            }
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.look();
        assert!(into.remaining() <= 32 << 10);
        Pin::new(&mut self.line).poll_read(cx, into)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.line).poll_write(cx, bytes));
        let place = usize::from(self.other == Side::Client);
        self.accepted.lock().unwrap()[place] = self.line.accepted();
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.line).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.line).poll_shutdown(cx)
    }
}

/// What an endpoint is ready for.
enum Turn {
    Heard(usize),
    End,
    Failed,
    MaySay,
}

/// Lives an endpoint's life: hears what comes, says what it has to say, goes as it goes.
async fn live(endpoint: Arc<Mutex<Endpoint>>, mut line: Line, thinks: Duration, seed: u64) {
    let mut chance = Rng::with_seed(seed);
    let (mut unsent, mut has_ended) = (Vec::new(), false);
    let mut thought = Box::pin(sleep(Duration::ZERO));
    let mut buffer = vec![0; 16 << 10];
    loop {
        let (left, has_finished, has_words) = {
            let endpoint = endpoint.lock().unwrap();
            let words = endpoint.has_something_to_say() || !unsent.is_empty();
            (endpoint.left(), endpoint.has_finished(), words)
        };
        match left.filter(|_| unsent.is_empty()) {
            Some(Leave::Resets) => return line.reset(),
            Some(Leave::Vanishes) => {
                line.vanish();
                return std::future::pending().await;
            }
            _ => {}
        }
        if has_finished && unsent.is_empty() && !has_ended {
            has_ended = true;
            drop(line.shutdown().await);
        }
        let end_heard = endpoint.lock().unwrap().end_heard;
        if has_ended && end_heard {
            return;
        }
        let turn = poll_fn(|cx| {
            if !end_heard {
                let mut into = ReadBuf::new(&mut buffer);
                match Pin::new(&mut line).poll_read(cx, &mut into) {
                    Poll::Ready(Ok(())) if into.filled().is_empty() => {
                        return Poll::Ready(Turn::End);
                    }
                    Poll::Ready(Ok(())) => return Poll::Ready(Turn::Heard(into.filled().len())),
                    Poll::Ready(Err(_)) => return Poll::Ready(Turn::Failed),
                    Poll::Pending => {}
                }
            }
            if has_words && !has_ended {
                ready!(thought.as_mut().poll(cx));
                if unsent.is_empty() {
                    return Poll::Ready(Turn::MaySay);
                }
                return match ready!(Pin::new(&mut line).poll_write(cx, &unsent)) {
                    Ok(count) => {
                        unsent.drain(..count);
                        Poll::Ready(Turn::MaySay)
                    }
                    Err(_) => Poll::Ready(Turn::Failed),
                };
            }
            Poll::Pending
        });
        let mut endpoint = match turn.await {
            Turn::Failed => return,
            Turn::End => {
                endpoint.lock().unwrap().end_heard = true;
                continue;
            }
            Turn::Heard(count) => {
                endpoint.lock().unwrap().hear(&buffer[..count]);
                continue;
            }
            Turn::MaySay => endpoint.lock().unwrap(),
        };
        if unsent.is_empty() {
            unsent = endpoint.say(chance.usize(1..4000));
            let pause = thinks.mul_f64(chance.f64().powi(4));
            thought = Box::pin(sleep(pause));
        }
    }
}

/// Plays a tunnel and judges it; why it ended.
pub fn play(seed: u64) -> &'static str {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(scene(seed))
}

async fn scene(seed: u64) -> &'static str {
    fastrand::seed(seed);
    let mut chance = Rng::with_seed(seed);
    let lots = [lot(Side::Pod, &mut chance), lot(Side::Client, &mut chance)];
    let config = config(&mut chance);
    let table = TunnelTable::new();
    let guard = table.open(info());
    let id = guard.id();
    let accepted = Arc::new(Mutex::new([0; 2]));
    let mut watched = Vec::new();
    let mut endpoints = Vec::new();
    let mut lives = Vec::new();
    for (side, lot) in [Side::Client, Side::Pod].into_iter().zip(&lots) {
        let (far, near) = link(lot.weather, &mut chance);
        let endpoint = Arc::new(Mutex::new(Endpoint::new(side, lot.manners.clone())));
        let life = live(Arc::clone(&endpoint), far, lot.thinks, chance.u64(..));
        lives.push(tokio::spawn(life));
        endpoints.push(endpoint);
        watched.push(Watched {
            line: near,
            other: side.other(),
            accepted: Arc::clone(&accepted),
            table: table.clone(),
        });
    }
    let asks = (chance.u8(..3) == 0).then(|| {
        let causes = [Cause::Drain, Cause::Operator, Cause::Shutdown];
        let cause = causes[chance.usize(..causes.len())];
        let code = (cause == Cause::Operator && chance.bool()).then_some(4400);
        (millis(&mut chance, 0..40_000), cause, code)
    });
    let (pod, client) = (watched.pop().unwrap(), watched.pop().unwrap());
    let none = Bytes::new;
    let mut relay = tokio::spawn(relay(client, none(), pod, none(), guard, config));
    let mut asked = Vec::new();
    let day = async {
        if let Some((at, cause, code)) = asks {
            sleep(at).await;
            asked.push(cause);
            end(&table, id, cause, code);
        }
        sleep(NIGHT).await;
        asked.push(Cause::Shutdown);
        end(&table, id, Cause::Shutdown, None);
        sleep(LONGEST_END).await;
    };
    let outcome = tokio::select! {
        biased;
        outcome = &mut relay => outcome.unwrap(),
        () = day => panic!("a tunnel that was asked to end has an end"),
    };
    // What is under way still arrives.
    for life in &mut lives {
        drop(timeout(Duration::from_secs(600), &mut *life).await);
        life.abort();
    }
    let endpoints: Vec<_> = endpoints.iter().map(|one| one.lock().unwrap()).collect();
    Case {
        config: &config,
        client: &endpoints[0],
        pod: &endpoints[1],
        outcome: &outcome,
        asked,
        code: asks.and_then(|(_, _, code)| code),
        is_valid: true,
        takes_all: [lots[0].is_good, lots[1].is_good],
        takes_at_once: [lots[0].is_good, lots[1].is_good],
        finishes_frames: [lots[0].is_good, lots[1].is_good],
    }
    .judge();
    let totals = table.totals();
    assert_eq!(totals[0].endings, [(ending(&outcome), 1)]);
    assert_eq!(totals[0].from_client, outcome.from_client);
    assert_eq!(totals[0].from_pod, outcome.from_pod);
    outcome.cause.as_str()
}
