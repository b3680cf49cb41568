//! Keep-alive by PING (`connection_keepalive`): a peer that does not answer in time is given up.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::time::{Instant, Sleep};
use tulle_core::Rng;
use tulle_h2::Reason;

use super::Link;

/// How often to ask, and how long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// `None`: only when somebody else asks.
    pub interval: Option<Duration>,
    pub timeout: Duration,
}

/// The pings of one connection.
pub struct Pulse {
    rhythm: Rhythm,
    /// Fires when the next ping, or its answer, is due.
    alarm: Pin<Box<Sleep>>,
    waiting: bool,
    rng: Rng,
}

impl Pulse {
    pub fn new(rhythm: Rhythm, seed: u64) -> Pulse {
        let mut rng = Rng::seeded(seed);
        let first = next(rhythm, &mut rng);
        Pulse { rhythm, alarm: Box::pin(tokio::time::sleep(first)), waiting: false, rng }
    }

    /// Asks when it is time, and ends a connection that does not answer.
    pub fn poll(&mut self, cx: &mut Context<'_>, link: &Link) {
        loop {
            let asked = link.awaits_pong();
            if asked != self.waiting {
                self.waiting = asked;
                let wait = if asked { self.rhythm.timeout } else { next(self.rhythm, &mut self.rng) };
                self.alarm.as_mut().reset(Instant::now() + wait);
            }
            if self.alarm.as_mut().poll(cx).is_pending() {
                return;
            }
            if asked {
                link.abandon(Reason::NO_ERROR);
                return;
            }
            link.ping();
        }
    }
}

/// Until the next ping: up to 15 % later than the interval, as Envoy spreads them by default.
fn next(rhythm: Rhythm, rng: &mut Rng) -> Duration {
    const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
    rhythm.interval.map_or(NEVER, |interval| interval.mul_f64(1.0 + 0.15 * rng.unit()))
}
