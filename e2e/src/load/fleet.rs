//! Open WebSockets, each of which sends a numbered message every second and checks every echo.
//!
//! ```text
//! Fleet ─▶ Member ─▶ task: open ─▶ talk ─▶ Ending ─┬─ reconnects ─▶ open …
//!             └────── Log ◀── what became of it ───┴─ or not: over
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use crate::client::{Received, Socket, Visitor};
use crate::patience::eventually;

/// Between two messages of a WebSocket.
const EVERY: Duration = Duration::from_secs(1);
/// For a message of each WebSocket to go and come back.
const ECHO: Duration = Duration::from_secs(6);
/// After a handshake that was refused, and before one more.
const PAUSE: Duration = Duration::from_millis(200);
/// Handshakes at a time.
const OPENING: usize = 20;
/// Troubles that an error names one by one.
const NAMED: usize = 5;

/// Open WebSockets.
#[derive(Debug)]
pub(crate) struct Fleet {
    members: Vec<Member>,
    stop: watch::Sender<bool>,
}

/// How a WebSocket ended that the test did not end.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    /// When.
    pub(crate) at: Instant,
    /// How.
    pub(crate) how: How,
}

/// How a WebSocket ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// By a Close frame and an orderly end of the connection.
    Close(u16, String),
    /// Otherwise: without a Close frame, by a reset, or because an echo was wrong.
    Broken(String),
}

/// What a fleet did, for the report.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Voyage {
    /// Messages that came back.
    pub(crate) messages: u64,
    /// The longest that one of them took.
    pub(crate) slowest: Duration,
}

#[derive(Debug)]
struct Member {
    id: String,
    log: Arc<Mutex<Log>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Log {
    open: bool,
    /// Number of the last message.
    sent: u64,
    /// Number of the last one that came back.
    echoed: u64,
    messages: u64,
    slowest: Duration,
    endings: Vec<Ending>,
    refusals: Vec<String>,
}

impl Fleet {
    /// Opens `count` WebSockets of each client. They are named by a request id of their own, such
    /// as `tls-17`, and so found in the controllers' `/tunnels`.
    ///
    /// # Errors
    ///
    /// When one cannot be opened.
    pub(crate) async fn open(clients: &[(&str, Visitor, usize)]) -> Result<Self> {
        Self::start(clients, false).await
    }

    /// As [`Fleet::open`]; what ends is opened again at once.
    ///
    /// # Errors
    ///
    /// When one cannot be opened.
    pub(crate) async fn open_again_and_again(clients: &[(&str, Visitor, usize)]) -> Result<Self> {
        Self::start(clients, true).await
    }

    async fn start(clients: &[(&str, Visitor, usize)], again: bool) -> Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let mut fleet = Self {
            members: Vec::new(),
            stop,
        };
        let mut opening = JoinSet::new();
        let all = clients.iter().flat_map(|(prefix, client, count)| {
            (0..*count).map(move |index| (format!("{prefix}-{index}"), client.clone()))
        });
        for (id, client) in all {
            let client = client.field("x-request-id", &id);
            if opening.len() == OPENING {
                fleet.launch(opening.join_next().await, again, &stopped)?;
            }
            opening.spawn(async move {
                let socket = client.websocket("/").await;
                (id, client, socket)
            });
        }
        while !opening.is_empty() {
            fleet.launch(opening.join_next().await, again, &stopped)?;
        }
        fleet.check("they were opened").await?;
        Ok(fleet)
    }

    #[expect(clippy::type_complexity, reason = "what a JoinSet gives")]
    fn launch(
        &mut self,
        opened: Option<Result<(String, Visitor, Result<Socket>), tokio::task::JoinError>>,
        again: bool,
        stopped: &watch::Receiver<bool>,
    ) -> Result<()> {
        let Some(opened) = opened else { return Ok(()) };
        let (id, client, socket) = opened?;
        let socket = socket.with_context(|| format!("opening WebSocket {id}"))?;
        let log = Arc::new(Mutex::new(Log::default()));
        let course = Course {
            id: id.clone(),
            client,
            again,
            log: Arc::clone(&log),
            stopped: stopped.clone(),
        };
        self.members.push(Member {
            id,
            log,
            task: tokio::spawn(course.run(socket)),
        });
        Ok(())
    }

    /// How many there are, open or not.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Waits until each has sent one more message and got it back, and fails when one has ended
    /// since it was opened first, or lost a message.
    ///
    /// # Errors
    ///
    /// Which, and how.
    pub(crate) async fn check(&self, when: &str) -> Result<()> {
        self.check_those(when, |_| true).await
    }

    /// As [`Fleet::check`], of some by their names.
    ///
    /// # Errors
    ///
    /// Which, and how.
    pub(crate) async fn check_those(&self, when: &str, among: impl Fn(&str) -> bool) -> Result<()> {
        let members = || self.members.iter().filter(|member| among(&member.id));
        let ended: Vec<String> = members().filter_map(Member::trouble).collect();
        ensure!(ended.is_empty(), "after {when}: {}", few(&ended));
        self.echo(when, &members().collect::<Vec<_>>()).await?;
        let ended: Vec<String> = members().filter_map(Member::trouble).collect();
        ensure!(ended.is_empty(), "after {when}: {}", few(&ended));
        Ok(())
    }

    /// Waits until each is open and has got one more message back, whatever was before.
    ///
    /// # Errors
    ///
    /// Which is not.
    pub(crate) async fn all_open(&self, when: &str) -> Result<()> {
        self.echo(when, &self.members.iter().collect::<Vec<_>>())
            .await
    }

    async fn echo(&self, when: &str, members: &[&Member]) -> Result<()> {
        let before: Vec<u64> = members.iter().map(|member| member.log().sent).collect();
        eventually(&format!("each echoes after {when}"), ECHO, async || {
            let silent: Vec<String> = members
                .iter()
                .zip(&before)
                .filter_map(|(member, before)| {
                    let log = member.log();
                    let Log {
                        open, sent, echoed, ..
                    } = *log;
                    let echoes = open && echoed > *before;
                    let id = &member.id;
                    (!echoes).then(|| match log.endings.last() {
                        Some(ending) if !open => format!("{id} has ended: {:?}", ending.how),
                        _ => format!("{id} got {echoed} of {sent} messages back"),
                    })
                })
                .collect();
            ensure!(silent.is_empty(), "{}", few(&silent));
            Ok(())
        })
        .await
    }

    /// How each has ended so far, by its name. Those that are well are not there.
    pub(crate) fn endings(&self) -> BTreeMap<String, Vec<Ending>> {
        self.members
            .iter()
            .map(|member| (member.id.clone(), member.log().endings.clone()))
            .filter(|(_, endings)| !endings.is_empty())
            .collect()
    }

    /// Handshakes that failed since the fleet was opened.
    pub(crate) fn refusals(&self) -> Vec<String> {
        let refusals = |member: &Member| member.log().refusals.clone();
        self.members.iter().flat_map(refusals).collect()
    }

    /// Closes those that are open, and says what the fleet did.
    ///
    /// # Errors
    ///
    /// When a Close frame is not answered.
    pub(crate) async fn close(self) -> Result<Voyage> {
        let before = self.endings().values().map(Vec::len).sum::<usize>();
        self.stop.send_replace(true);
        let mut voyage = Voyage::default();
        let mut endings = 0;
        for member in self.members {
            let ended = timeout(ECHO, member.task).await;
            ended.map_err(|_| anyhow!("WebSocket {} does not close", member.id))??;
            let log = member.log.lock().unwrap_or_else(PoisonError::into_inner);
            voyage.messages += log.messages;
            voyage.slowest = voyage.slowest.max(log.slowest);
            endings += log.endings.len();
            if endings > before {
                bail!(
                    "WebSocket {} was to be closed: {:?}",
                    member.id,
                    log.endings
                );
            }
        }
        Ok(voyage)
    }
}

impl Member {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> Option<String> {
        let log = self.log();
        let ending = log.endings.first()?;
        Some(format!("{} has ended: {:?}", self.id, ending.how))
    }
}

/// The life of one WebSocket.
struct Course {
    id: String,
    client: Visitor,
    again: bool,
    log: Arc<Mutex<Log>>,
    stopped: watch::Receiver<bool>,
}

impl Course {
    async fn run(mut self, first: Socket) {
        let mut next = Some(first);
        while !*self.stopped.borrow() {
            let mut socket = match next.take() {
                Some(socket) => socket,
                None => match self.client.websocket("/").await {
                    Ok(socket) => socket,
                    Err(error) => {
                        self.log().refusals.push(format!("{}: {error:#}", self.id));
                        sleep(PAUSE).await;
                        continue;
                    }
                },
            };
            self.log().open = true;
            let how = self.talk(&mut socket).await;
            let mut log = self.log();
            log.open = false;
            // What was under way at the end is not known to be lost.
            log.sent = log.echoed;
            let Some(how) = how else { return };
            log.endings.push(Ending {
                at: Instant::now(),
                how,
            });
            if !self.again {
                return;
            }
        }
    }

    /// Answers how the other end ended it; nothing where we did, and it went well.
    async fn talk(&mut self, socket: &mut Socket) -> Option<How> {
        // All of them at the same moment would be another load.
        let first = Instant::now() + EVERY.mul_f64(fraction_of(&self.id));
        let mut ticks = interval_at(first, EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sent_at = Instant::now();
        loop {
            let received = tokio::select! {
                _ = self.stopped.changed() => {
                    return match socket.close(1000, "").await {
                        Ok((1000, _)) => None,
                        Ok((code, reason)) => Some(How::Close(code, reason)),
                        Err(error) => Some(How::Broken(format!("{error:#}"))),
                    };
                }
                _ = ticks.tick() => {
                    let text = {
                        let mut log = self.log();
                        log.sent += 1;
                        format!("{} {}", self.id, log.sent)
                    };
                    sent_at = Instant::now();
                    match socket.send_text(&text).await {
                        Ok(()) => continue,
                        // Perhaps it has just been closed, and the frame is there to be read.
                        Err(error) => match socket.receive().await {
                            Ok(close @ Received::Close(..)) => Ok(close),
                            _ => Err(error),
                        },
                    }
                }
                received = socket.next() => received,
            };
            match received {
                Ok(Received::Text(text)) => {
                    let mut log = self.log();
                    let expected = format!("{} {}", self.id, log.echoed + 1);
                    if text != expected {
                        return Some(How::Broken(format!("{text:?} came, not {expected:?}")));
                    }
                    log.echoed += 1;
                    log.messages += 1;
                    // Only the last one's time is known.
                    if log.echoed == log.sent {
                        log.slowest = log.slowest.max(sent_at.elapsed());
                    }
                }
                Ok(Received::Close(code, reason)) => {
                    return Some(match socket.end().await {
                        Ok(()) => How::Close(code, reason),
                        Err(error) => How::Broken(format!("{code} {reason:?}, then {error:#}")),
                    });
                }
                Ok(other) => return Some(How::Broken(format!("{other:?} came"))),
                Err(error) => return Some(How::Broken(format!("{error:#}"))),
            }
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From 0 to 1, by the text.
fn fraction_of(text: &str) -> f64 {
    let sum: u32 = text.bytes().fold(0, |sum: u32, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    f64::from(sum % 1000) / 1000.0
}

fn few(troubles: &[String]) -> String {
    let mut text = troubles
        .iter()
        .take(NAMED)
        .cloned()
        .collect::<Vec<_>>()
        .join("; ");
    if troubles.len() > NAMED {
        text += &format!("; and {} more", troubles.len() - NAMED);
    }
    text
}
