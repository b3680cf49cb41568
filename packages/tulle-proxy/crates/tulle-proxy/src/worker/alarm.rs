//! A timer that many short deadlines share: it is armed once and moved only when a deadline comes earlier than it.
//!
//! A keep-alive connection has a deadline per request, nearly all of which pass unneeded. Arming a timer for each
//! costs more than the request's own bookkeeping; this one wakes a connection at most once per timeout and looks then.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

#[derive(Default)]
pub struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    /// Ready once `due` has passed. `None` never comes.
    pub fn poll(&mut self, cx: &mut Context<'_>, due: Option<Instant>) -> Poll<()> {
        let Some(due) = due else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        loop {
            if sleep.deadline() > due {
                sleep.as_mut().reset(due);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if sleep.deadline() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }
}

/// The earlier of two deadlines.
pub fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_later_deadline_is_kept_and_an_earlier_one_moves_the_timer() {
        let start = Instant::now();
        let mut alarm = Alarm::default();
        let mut wait = async |after: u64| {
            let due = start + Duration::from_secs(after);
            std::future::poll_fn(|cx| alarm.poll(cx, Some(due))).await;
            start.elapsed().as_secs()
        };
        assert_eq!(wait(5).await, 5);
        assert_eq!(wait(20).await, 20);
        assert_eq!(wait(10).await, 20);
        assert_eq!(wait(21).await, 21);
    }
}
